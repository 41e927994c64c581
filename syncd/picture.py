"""The last 24 hours as two pictures: where each line and each bar goes. Pure geometry.

The template draws what is worked out here; lengths are units of the picture's own `WIDTH` by
`HEIGHT`, which a browser scales.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from syncd.payments import PaymentState
from syncd.words import duration

HOURS = 24
WIDTH, HEIGHT = 360.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 4.0, 8.0, 18.0
"""Room around the drawing, for its scales."""

ORDER = (
    PaymentState.SUCCEEDED, PaymentState.PROCESSING, PaymentState.REQUIRES_ACTION,
    PaymentState.CANCELED, PaymentState.PAYMENT_FAILED,
)  # fmt: skip
"""From the ground up: what is well stands lowest, so that its height can be compared."""

LAG_MARKS = (
    (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3_600, "1 h"), (21_600, "6 h"),
    (86_400, "1 d"),
)  # fmt: skip
"""The scale of the lag, in seconds; what lies beyond is drawn at its edge."""


@dataclass(frozen=True, slots=True)
class Point:
    """One push, as far as the pictures care.

    Attributes:
        at: Unix seconds.
        state: the state that was pushed.
        lag_seconds: how long it took from Stripe to Halo; None where that isn't known.
    """

    at: float
    state: PaymentState
    lag_seconds: float | None


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle, and the state it stands for."""

    x: float
    y: float
    width: float
    height: float
    state: PaymentState


@dataclass(frozen=True, slots=True)
class Column:
    """One hour of payments by state: its blocks, and what they say."""

    x: float
    width: float
    blocks: tuple[Block, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """One hour of lag: from its shortest to its longest, with the middle one marked."""

    x: float
    low: float
    middle: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on a scale, and what is written there."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """Both pictures.

    Attributes:
        columns, counts_scale: payments by state, hour by hour.
        spans, lag_scale: the lag, hour by hour.
        hours: the scale of time that both share.
        totals: pushes by state in all 24 hours.
        middle_lag: the median of the lag in all 24 hours, in seconds; None where there was none.
        worst_lag: the longest.
    """

    columns: tuple[Column, ...]
    counts_scale: tuple[Mark, ...]
    spans: tuple[Span, ...]
    lag_scale: tuple[Mark, ...]
    hours: tuple[Mark, ...]
    totals: tuple[tuple[PaymentState, int], ...]
    middle_lag: float | None
    worst_lag: float | None


def draw(points: Iterable[Point], now: float) -> Pictures:
    """Work out both pictures of the 24 hours before `now` (Unix seconds)."""
    hours: list[list[Point]] = [[] for _ in range(HOURS)]
    for point in points:
        ago = max(0.0, now - point.at)  # a clock that was set back: it has just happened
        if ago < HOURS * 3_600:
            hours[HOURS - 1 - int(ago // 3_600)].append(point)
    lags = [p.lag_seconds for hour in hours for p in hour if p.lag_seconds is not None]
    totals = Counter(point.state for hour in hours for point in hour)
    top = _round_up(max(map(len, hours)))
    return Pictures(
        columns=tuple(_column(i, hour, top) for i, hour in enumerate(hours) if hour),
        counts_scale=tuple(Mark(_up(n / top), str(n)) for n in _steps(top)),
        spans=tuple(span for i, hour in enumerate(hours) if (span := _span(i, hour)) is not None),
        lag_scale=tuple(Mark(_lag_place(seconds), text) for seconds, text in LAG_MARKS),
        hours=tuple(
            Mark(_along(HOURS - ago), {HOURS: f"{ago} h ago", 0: "now"}.get(ago, f"{ago} h"))
            for ago in (24, 18, 12, 6, 0)
        ),
        totals=tuple((state, totals[state]) for state in ORDER if totals[state]),
        middle_lag=median(lags) if lags else None,
        worst_lag=max(lags, default=None),
    )  # fmt: skip


def _column(index: int, hour: Sequence[Point], top: int) -> Column:
    counts = Counter(point.state for point in hour)
    width = (WIDTH - LEFT - RIGHT) / HOURS
    x, bar = _along(index) + width * 0.12, width * 0.76
    blocks, below = [], 0
    for state in ORDER:
        if counts[state]:
            high, low = _up((below + counts[state]) / top), _up(below / top)
            blocks.append(Block(_r(x), high, _r(bar), _r(low - high), state))
            below += counts[state]
    said = ", ".join(
        f"{counts[state]} {state.replace('_', ' ')}" for state in ORDER if counts[state]
    )
    return Column(_r(_along(index)), _r(width), tuple(blocks), f"{_when(index)}: {said}")


def _span(index: int, hour: Sequence[Point]) -> Span | None:
    lags = [point.lag_seconds for point in hour if point.lag_seconds is not None]
    if not lags:
        return None
    low, middle, high = min(lags), median(lags), max(lags)
    x = _along(index) + (WIDTH - LEFT - RIGHT) / HOURS / 2
    said = f"{_when(index)}: {duration(low)} to {duration(high)}, half of them within {duration(middle)}"
    return Span(_r(x), _lag_place(low), _lag_place(middle), _lag_place(high), said)


def _when(index: int) -> str:
    ago = HOURS - index
    return "in the last hour" if ago == 1 else f"{ago} to {ago - 1} hours ago"


def _along(hours: float) -> float:
    """Where a time lies from left to right: hours since the picture's begin."""
    return _r(LEFT + (WIDTH - LEFT - RIGHT) * hours / HOURS)


def _up(share: float) -> float:
    """Where a share (0 to 1) of the height lies; y counts downwards."""
    return _r(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share)


def _lag_place(seconds: float) -> float:
    last = LAG_MARKS[-1][0]
    return _up(math.log10(min(max(seconds, 1.0), last)) / math.log10(last))


def _round_up(number: int) -> int:
    """The top of a scale: the next round number that halves well."""
    for size in (2, 4, 10, 20, 40):
        if number <= size:
            return size
    digits: int = 10 ** (len(str(number)) - 1)
    return next(step * digits for step in (1, 2, 4, 6, 8, 10) if number <= step * digits)


def _steps(top: int) -> tuple[int, ...]:
    return (0, top // 2, top)


def _r(number: float) -> float:
    """Short numbers make a small page."""
    return round(number, 1)
