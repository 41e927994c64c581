"""Dates and time spans, as people write them on a command line."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.text.timestamps import DAY, Interval, TimeUnreadable, interval, parse_span

NOW = int(datetime(2026, 11, 27, 17, 25, tzinfo=UTC).timestamp())


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-10-01", "2026-10-01", "2026-10-02"),
        (" 2026-10-31 ", "2026-10-31", "2026-11-01"),
        ("20261001", "2026-10-01", "2026-10-02"),
        ("2026-10", "2026-10-01", "2026-11-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2024-02", "2024-02-01", "2024-03-01"),
        ("2026", "2026-01-01", "2027-01-01"),
        ("today", "2026-11-27", "2026-11-28"),
        ("Yesterday", "2026-11-26", "2026-11-27"),
        ("now", "2026-11-27T17:25", "2026-11-27T17:25"),
        ("2026-10-01T08:00Z", "2026-10-01T08:00", "2026-10-01T08:00"),
        ("2026-10-01 08:00", "2026-10-01T08:00", "2026-10-01T08:00"),
        ("2026-10-01T08:00+02:00", "2026-10-01T06:00", "2026-10-01T06:00"),
        ("90d", "2026-08-29T17:25", "2026-08-29T17:25"),
        ("12w", "2026-09-04T17:25", "2026-09-04T17:25"),
        ("90min", "2026-11-27T15:55", "2026-11-27T15:55"),
        ("1h30m", "2026-11-27T15:55", "2026-11-27T15:55"),
    ],
)
def test_a_text_names_an_interval(text: str, start: str, end: str) -> None:
    """A day, a month and a year have an end; a time and a span back are one moment."""
    assert interval(text, NOW) == Interval(at(start), at(end))


@pytest.mark.parametrize("text", ["3m", "3 m", "3M", "03m"])
def test_months_or_minutes_are_refused(text: str) -> None:
    """``3m`` can mean months or minutes: the message names both and the spellings to use instead."""
    with pytest.raises(
        TimeUnreadable, match=r"months or .* minutes; write .*min .*90d.*2026-08-27"
    ):
        interval(text, NOW)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2026-13", "2026-02-30", "0000", "9999-12-31", "1x", "d", "-1d", "1.5d", "2026-10-1", "٣d"],
)  # fmt: skip
def test_other_texts_are_refused_with_examples(text: str) -> None:
    """The error repeats the text that is not a date, with examples of valid dates."""
    with pytest.raises(TimeUnreadable, match="is not a date; try 2026-10-01, 2026-10, 90d"):
        interval(text, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5_400), ("2w", 14 * DAY), (" 1d 12h ", 129_600), ("30min", 1_800),
     ("0s", 0), ("", None), ("5", None), ("5 m", 300), ("soon", None), ("1y", None)],
)  # fmt: skip
def test_spans(text: str, seconds: int | None) -> None:
    """A span is a sum of seconds, minutes, hours, days and weeks."""
    assert parse_span(text) == seconds


@given(st.text(max_size=30), st.integers(0, 4_000_000_000))
def test_any_text_is_read_or_refused(text: str, now: int) -> None:
    """Any text gives a TimeUnreadable error or an interval that does not end before it begins."""
    try:
        found = interval(text, now)
    except TimeUnreadable:
        return
    assert 0 <= found.start <= found.end


@given(st.integers(1, 10**9 - 1), st.sampled_from(["s", "min", "h", "d", "w"]))
def test_a_span_back_never_lies_ahead(number: int, unit: str) -> None:
    """A span back from now begins before now, and never before 1970."""
    found = interval(f"{number}{unit}", NOW)
    assert 0 <= found.start < NOW
