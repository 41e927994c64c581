"""The two charts of the last 24 hours: changes at Stripe, and delays until Halo. Pure geometry.

The template draws what this module computes. Lengths are in units of a chart of `WIDTH` by `HEIGHT`,
which the browser scales.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from syncd.core.payments import PaymentState
from syncd.text.timestamps import duration

T = TypeVar("T")

HOURS = 24
WIDTH, HEIGHT = 360.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 4.0, 8.0, 18.0
"""Margins for the scales."""

_WORST_FIRST = (PaymentState.PAYMENT_FAILED, PaymentState.CANCELED, PaymentState.REQUIRES_ACTION)
ORDER = (*(state for state in PaymentState if state not in _WORST_FIRST), *_WORST_FIRST[::-1])
"""From bottom to top: `succeeded` is lowest, so that its heights can be compared."""

LAG_MARKS = (
    (1, "1 s"),
    (10, "10 s"),
    (60, "1 min"),
    (600, "10 min"),
    (3_600, "1 h"),
    (21_600, "6 h"),
    (86_400, "1 d"),
)
"""The scale of the delay, in seconds; longer delays are drawn at its end."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A payment's newest state at Stripe.

    Attributes:
        at: Unix seconds of the report.
        state: the state.
        written: whether syncd wrote the state to Halo; otherwise Halo had it already, or it waits.
    """

    at: float
    state: PaymentState
    written: bool


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of one state, and whether syncd wrote the state to Halo."""

    x: float
    y: float
    width: float
    height: float
    state: PaymentState
    written: bool


@dataclass(frozen=True, slots=True)
class Column:
    """One hour of payments by state, with its tooltip."""

    x: float
    width: float
    blocks: tuple[Block, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """One hour of delays: minimum, median, maximum, with its tooltip."""

    x: float
    low: float
    middle: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark on a scale, and its text."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """Both charts.

    Attributes:
        columns, counts_scale: payments by state, hour by hour.
        spans, lag_scale: the delay, hour by hour.
        hours: the time scale of both charts.
        totals: each state's number of payments in 24 hours, and how many of them syncd wrote.
        middle_lag: the median delay in 24 hours, in seconds; None without a delay.
        worst_lag: the longest delay, in seconds.
    """

    columns: tuple[Column, ...]
    counts_scale: tuple[Mark, ...]
    spans: tuple[Span, ...]
    lag_scale: tuple[Mark, ...]
    hours: tuple[Mark, ...]
    totals: tuple[tuple[PaymentState, int, int], ...]
    middle_lag: float | None
    worst_lag: float | None


def draw(
    changes: Iterable[StateChange], pushes: Iterable[tuple[float, float | None]], now: float
) -> Pictures:
    """Compute both charts of the 24 hours before `now` (Unix seconds).

    Args:
        changes: the newest state of each payment.
        pushes: each push's acknowledgement (Unix seconds), and the seconds since Stripe's event; None
            if unknown.
        now: Unix seconds.
    """
    by_hour = _by_hour(((change.at, change) for change in changes), now)
    waits = _by_hour(((at, lag) for at, lag in pushes if lag is not None), now)
    lags = [lag for hour in waits for lag in hour]
    totals = Counter(change.state for hour in by_hour for change in hour)
    written = Counter(change.state for hour in by_hour for change in hour if change.written)
    top = _round_up(max(map(len, by_hour)))
    return Pictures(
        columns=tuple(_column(i, hour, top) for i, hour in enumerate(by_hour) if hour),
        counts_scale=tuple(Mark(_up(n / top), str(n)) for n in _steps(top)),
        spans=tuple(_span(i, hour) for i, hour in enumerate(waits) if hour),
        lag_scale=tuple(Mark(_lag_place(seconds), text) for seconds, text in LAG_MARKS),
        hours=tuple(
            Mark(_along(HOURS - ago), {HOURS: f"{ago} h ago", 0: "now"}.get(ago, f"{ago} h"))
            for ago in (24, 18, 12, 6, 0)
        ),
        totals=tuple((s, totals[s], written[s]) for s in ORDER if totals[s]),
        middle_lag=median(lags) if lags else None,
        worst_lag=max(lags, default=None),
    )


def _by_hour(timed: Iterable[tuple[float, T]], now: float) -> list[list[T]]:
    """Group by hour, the oldest hour first; older values are left out."""
    hours: list[list[T]] = [[] for _ in range(HOURS)]
    for at, one in timed:
        ago = max(0.0, now - at)  # negative after the clock was set back
        if ago < HOURS * 3_600:
            hours[HOURS - 1 - int(ago // 3_600)].append(one)
    return hours


def _column(index: int, hour: Sequence[StateChange], top: int) -> Column:
    counts = Counter((change.state, change.written) for change in hour)
    width = (WIDTH - LEFT - RIGHT) / HOURS
    x, bar = _along(index) + width * 0.12, width * 0.76
    blocks, below, texts = [], 0, []
    for state in ORDER:
        for written in (True, False):
            if number := counts[state, written]:
                high, low = _up((below + number) / top), _up(below / top)
                blocks.append(Block(_r(x), high, _r(bar), _r(low - high), state, written))
                below += number
        if number := counts[state, True] + counts[state, False]:
            ours = counts[state, True]
            beside = "" if ours == number else f" ({ours} written by syncd)"
            texts.append(f"{number} {state.replace('_', ' ')}{beside}")
    return Column(
        _r(_along(index)), _r(width), tuple(blocks), f"{_when(index)}: {', '.join(texts)}"
    )


def _span(index: int, lags: Sequence[float]) -> Span:
    low, middle, high = min(lags), median(lags), max(lags)
    x = _along(index) + (WIDTH - LEFT - RIGHT) / HOURS / 2
    text = f"{_when(index)}: {duration(low)} to {duration(high)}, median {duration(middle)}"
    return Span(_r(x), _lag_place(low), _lag_place(middle), _lag_place(high), text)


def _when(index: int) -> str:
    ago = HOURS - index
    return "in the last hour" if ago == 1 else f"{ago} to {ago - 1} hours ago"


def _along(hours: float) -> float:
    """The x coordinate of a time: hours since the chart's start."""
    return _r(LEFT + (WIDTH - LEFT - RIGHT) * hours / HOURS)


def _up(share: float) -> float:
    """The y coordinate of a share (0 to 1) of the height; y grows downwards."""
    return _r(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share)


def _lag_place(seconds: float) -> float:
    last = LAG_MARKS[-1][0]
    return _up(math.log10(min(max(seconds, 1.0), last)) / math.log10(last))


def _round_up(number: int) -> int:
    """The top of a scale: the next round number that can be halved."""
    for size in (2, 4, 10, 20, 40):
        if number <= size:
            return size
    digits: int = 10 ** (len(str(number)) - 1)
    return next(step * digits for step in (1, 2, 4, 6, 8, 10) if number <= step * digits)


def _steps(top: int) -> tuple[int, ...]:
    return (0, top // 2, top)


def _r(number: float) -> float:
    """Round, to keep the page small."""
    return round(number, 1)
