"""Reads dates and spans of time as people write them, and writes them for people and programs.

Pure: the caller passes the current time. Everything is UTC unless the text names a time zone. Does
not belong here: how Halo's and Stripe's times are parsed (`clients`).
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from syncd.text.sanitize import plain

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
"""Seconds in each unit of a span."""

EXAMPLES = "2026-10-01, 2026-10, 90d, 12w, yesterday or today"
"""Examples for a person whose text could not be parsed."""

DAY = UNITS["d"]

_UNIT = r"s|min|m|h|d|w"
_SPAN = re.compile(rf"\s*(?:[0-9]{{1,9}}\s*(?:{_UNIT})\s*)+")
_PART = re.compile(rf"([0-9]+)\s*({_UNIT})")
_MONTHS_OR_MINUTES = re.compile(r"\s*([0-9]{1,9})\s*m\s*", re.IGNORECASE)
_YEAR = re.compile(r"([0-9]{4})")
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class TimeUnreadable(ValueError):
    """A text is not a date, a time or a span, or is ambiguous; the message says which."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The period that a text means.

    Attributes:
        start: Unix seconds at which it begins.
        end: Unix seconds at which it ends (exclusive); a day ends at the next midnight. For a time
            of day and for a span back, the same as `start`.
    """

    start: int
    end: int


def parse_span(text: str) -> int | None:
    """Read a span such as ``5m``, ``1h30m``, ``90d`` or ``12w`` as seconds; None for anything else.

    Here ``m`` is a minute, as in a configuration file; `interval` refuses it for dates.
    """
    if not _SPAN.fullmatch(text):
        return None
    return sum(int(number) * UNITS[unit[0]] for number, unit in _PART.findall(text))


def interval(text: str, now: float) -> Interval:
    """Parse a date, a month, a year, a time, a span back from now, ``today`` or ``yesterday``.

    Args:
        text: what the user typed.
        now: Unix seconds.

    Raises:
        TimeUnreadable: the text is none of these, or is ambiguous.
    """
    stripped = text.strip()
    unclear = _MONTHS_OR_MINUTES.fullmatch(stripped)
    if unclear:
        number = unclear[1]
        message = (
            f"{stripped} can mean {number} months or {number} minutes; "
            f"write {number}min for minutes, or for months days ({int(number) * 30}d) or a date "
            f"({_months_back(now, int(number))})"
        )
        raise TimeUnreadable(message)
    seconds = parse_span(stripped)
    if seconds is not None:
        at = max(0, int(now) - seconds)
        return Interval(at, at)
    try:
        return _named(stripped.lower(), now) or _point(stripped)
    except (ValueError, OverflowError):
        message = f"{plain(text, 80)!r} is not a date; try {EXAMPLES}"
        raise TimeUnreadable(message) from None


def _named(text: str, now: float) -> Interval | None:
    """A whole day, month or year; None for anything else."""
    today = datetime.fromtimestamp(now, UTC).date()
    days = {"today": 0, "yesterday": 1}
    if text in days:
        return _days(today - timedelta(days=days[text]), 1)
    if text == "now":
        return Interval(int(now), int(now))
    if found := _YEAR.fullmatch(text):
        year = int(found[1])
        return Interval(_midnight(date(year, 1, 1)), _midnight(date(year + 1, 1, 1)))
    if found := _MONTH.fullmatch(text):
        first = date(int(found[1]), int(found[2]), 1)
        return Interval(_midnight(first), _midnight(_next_month(first)))
    try:
        return _days(date.fromisoformat(text), 1)
    except ValueError:
        return None


def _point(text: str) -> Interval:
    found = datetime.fromisoformat(text)
    at = max(0, int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()))
    return Interval(at, at)


def _days(first: date, number: int) -> Interval:
    return Interval(_midnight(first), _midnight(first + timedelta(days=number)))


def _midnight(day: date) -> int:
    """Unix seconds at which a day begins, never before 1970."""
    return max(0, int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()))


def _next_month(first: date) -> date:
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _months_back(now: float, number: int) -> str:
    """The same day, `number` months earlier (never after the 28th), as an example for messages."""
    today = datetime.fromtimestamp(now, UTC).date()
    months = max(12, today.year * 12 + today.month - 1 - number)
    return f"{date(months // 12, months % 12 + 1, min(today.day, 28))}"


# --- for people and programs ---------------------------------------------------------------------


def utc(seconds: str | float) -> datetime:
    """Unix seconds as a time in UTC."""
    return datetime.fromtimestamp(float(seconds), UTC)


def iso(seconds: str | float) -> str:
    """Unix seconds in ISO 8601: ``2026-10-01T08:00:00Z``."""
    return f"{utc(seconds):%Y-%m-%dT%H:%M:%SZ}"


def iso_or_none(seconds: str | float | None) -> str | None:
    """Unix seconds in ISO 8601; None for None, as in JSON."""
    return None if seconds is None else iso(seconds)


def minute(seconds: str | float) -> str:
    """Unix seconds to the minute, for people: ``2026-10-01 08:00 UTC``."""
    return f"{utc(seconds):%Y-%m-%d %H:%M UTC}"


def day(seconds: str | float | None) -> str:
    """Unix seconds as a day: ``2026-10-01``; empty for None."""
    return "" if seconds is None else f"{utc(seconds):%Y-%m-%d}"


def day_or_minute(seconds: str | float) -> str:
    """Unix seconds as a day if they are midnight, else to the minute."""
    at = utc(seconds)
    return day(seconds) if at.hour == at.minute == at.second == 0 else minute(seconds)


def duration(seconds: float) -> str:
    """A span of time in its two largest units, for people: ``3 h 20 min``."""
    whole = max(0, int(seconds))
    for size, unit, smaller, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    if whole >= 60:
        return f"{whole // 60} min"
    return f"{whole} s" if whole else "under 1 s"


def span_text(seconds: int) -> str:
    """A span of time as the configuration writes it: ``1h30m``."""
    parts = []
    for unit in "dhms":
        number, seconds = divmod(seconds, UNITS[unit])
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def span_seconds(value: object) -> int:
    """Parse a time span of the configuration into seconds.

    Raises:
        ValueError: `value` is not a time span; the text shows what to write instead.
    """
    if not isinstance(value, str):
        raise ValueError('must be a span of time in quotes, such as "5m"')  # noqa: TRY004  # pydantic reads ValueError
    seconds = parse_span(value)
    if seconds is None:
        raise ValueError('must be a span of time such as "30s", "5m", "2h" or "1d"')
    return seconds
