"""Windows of requests: never exceeded, and never blocked forever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.windows import (
    Backoff,
    Window,
    kept_spacing_seconds,
    poll_spacing_seconds,
    reads_beside_polls,
    wait_beside_polls,
)


@given(
    st.integers(1, 6),
    st.integers(10, 60),
    st.integers(1, 7),
    st.lists(st.floats(0, 40, allow_nan=False), min_size=1, max_size=60),
)
def test_window_is_never_exceeded(limit: int, period: int, bucket: int, gaps: list[float]) -> None:
    """No stretch of the window's length contains more than `limit` requests."""
    window = Window(limit, period, bucket)
    counts: dict[int, int] = {}
    sent: list[float] = []
    now = 1_000.0
    for gap in gaps:
        now += gap
        now += window.wait_seconds(counts, now)
        assert window.wait_seconds(counts, now) == 0
        counts[window.bucket(now)] = counts.get(window.bucket(now), 0) + 1
        sent.append(now)
    for first in sent:
        assert sum(first <= other < first + period for other in sent) <= limit


def test_left_and_wait() -> None:
    """The remaining requests count down; the wait ends when the oldest bucket leaves the window."""
    window = Window(2, 300, 5)
    counts = {100: 1, 200: 1}
    assert (window.used(counts, 210), window.left(counts, 210)) == (2, 0)
    assert window.wait_seconds(counts, 210) == 100 + 5 + 300 - 210
    assert window.left(counts, 405) == 1
    assert window.oldest(405) == 105


def test_counts_that_do_not_fit_the_limit() -> None:
    """If the limit is lowered below the count, the wait ends when enough buckets have left the window."""
    window = Window(1, 300, 5)
    assert window.wait_seconds({100: 3, 200: 1}, 210) == 200 + 5 + 300 - 210


def test_clock_set_back() -> None:
    """Counts in the future are moved to now, so a clock set back by an hour does not block for an hour."""
    window = Window(2, 300, 5)
    ahead = {4_000: 2, 100: 1}
    assert window.left(ahead, 400) == 0
    assert window.rebased(ahead, 400) == {400: 2, 100: 1}
    assert window.wait_seconds(window.rebased(ahead, 400), 400) <= 305


def test_nothing_to_wait_for() -> None:
    """A limit of zero gives a bounded wait instead of an endless loop."""
    assert Window(0, 300, 5).wait_seconds({}, 100) == 305


def test_poll_spacing() -> None:
    """An affordable interval is kept; another one is stretched once half of the budget is used."""
    month = Window(10_000, 30 * 86_400, 3_600)
    now = 10_000_000.0
    assert poll_spacing_seconds(month, {}, now, 300) == 300
    assert poll_spacing_seconds(month, {month.bucket(now): 4_999}, now, 300) == 300
    assert poll_spacing_seconds(month, {}, now, 60) == 60
    spent = poll_spacing_seconds(month, {month.bucket(now): 5_000}, now, 60)
    assert 522 < spent < 526  # the rest of 9,950 reads, spread over 30 days
    assert poll_spacing_seconds(month, {month.bucket(now): 10_000}, now, 60) > 29 * 86_400


def test_polls_at_the_default_interval_are_never_spread() -> None:
    """A month of polls every five minutes, and nothing else, keeps its interval."""
    month = Window(10_000, 30 * 86_400, 3_600)
    now = 10_000_000.0
    counts = {month.bucket(now) - 3_600 * hour: 12 for hour in range(30 * 24)}
    assert poll_spacing_seconds(month, counts, now, 300) == 300


@given(
    spent=st.dictionaries(st.integers(0, 99), st.integers(1, 40), max_size=6),
    interval=st.integers(1, 60),
)
def test_polls_never_run_out_of_budget(spent: dict[int, int], interval: int) -> None:
    """Whatever was spent before, each poll finds a free slot when it is due."""
    window = Window(limit=100, period_seconds=1_000, bucket_seconds=10)
    now = 10_000.0
    counts: dict[int, int] = {}
    for ago, number in spent.items():
        room = 90 - sum(counts.values())
        counts[window.bucket(now - 10 * ago)] = min(number, room) if room > 0 else 0
    for _ in range(150):
        now += poll_spacing_seconds(window, counts, now, interval)
        assert window.left(counts, now) > 0
        bucket = window.bucket(now)
        counts[bucket] = counts.get(bucket, 0) + 1


def test_a_fresh_budget_keeps_a_share_for_polls() -> None:
    """Of 10,000 reads, a run by hand may use 84 %: polls half an hour apart fit beside it for 30 days."""
    month, now = Window(10_000, 30 * 86_400, 3_600), 10_000_000.0
    spacing = kept_spacing_seconds(month, 300)
    assert spacing == 1_728
    left = reads_beside_polls(month, {}, now, spacing)
    assert left == 8_447
    counts = {month.bucket(now): left + 2}  # these reads leave the window a little earlier
    assert reads_beside_polls(month, counts, now, spacing) <= 0
    assert poll_spacing_seconds(month, counts, now, 300) <= spacing
    wait = wait_beside_polls(month, counts, now, spacing)
    assert reads_beside_polls(month, counts, now + wait, spacing) > 0
    assert wait_beside_polls(month, {}, now, spacing) == 0


def test_a_budget_that_polls_use_up_leaves_nothing() -> None:
    """If polls alone need the whole budget, other work waits for a whole window and then tries again."""
    window = Window(10, period_seconds=1_000, bucket_seconds=10)
    assert reads_beside_polls(window, {}, 10_000.0, 1) <= 0
    assert wait_beside_polls(window, {}, 10_000.0, 1) == 1_010


def test_rare_polls_leave_nearly_all_reads() -> None:
    """Beside a poll a day, 99 % of the reads are free; a large budget keeps no more than the interval needs."""
    month, now = Window(10_000, 30 * 86_400, 3_600), 10_000_000.0
    assert kept_spacing_seconds(month, 86_400) == 86_400
    assert reads_beside_polls(month, {}, now, 86_400) == 9_900
    assert kept_spacing_seconds(month.with_limit(250_000), 300) == 300


@settings(max_examples=150, deadline=None)
@given(
    limit=st.integers(60, 400),
    interval=st.integers(1, 60),
    before=st.integers(0, 300),
    runs=st.lists(st.tuples(st.integers(0, 1_200), st.integers(1, 400)), min_size=1, max_size=4),
)
def test_a_run_by_hand_leaves_polls_their_rhythm(
    limit: int, interval: int, before: int, runs: list[tuple[int, int]]
) -> None:
    """Whenever runs by hand read, and however much they want: no two polls are further apart than kept.

    Polls may have used the budget before, alone; runs by hand take all that they are allowed.
    """
    window = Window(limit, period_seconds=1_000, bucket_seconds=10)
    kept = kept_spacing_seconds(window, interval)
    counts: dict[int, int] = {}
    now = begun = 10_000.0
    wanted = sorted(runs)
    for _ in range(before):
        now += poll_spacing_seconds(window, counts, now, interval)
        counts[window.bucket(now)] = counts.get(window.bucket(now), 0) + 1
    begun = now
    while now < begun + 2_500:
        bucket = window.bucket(now)
        while wanted and now >= begun + wanted[0][0]:
            _, number = wanted.pop(0)
            left = reads_beside_polls(window, counts, now, kept)
            counts[bucket] = counts.get(bucket, 0) + max(0, min(number, left))
        wait = poll_spacing_seconds(window, counts, now, interval)
        assert wait <= kept * 1.001
        now += wait
        assert window.left(counts, now) > 0
        counts[window.bucket(now)] = counts.get(window.bucket(now), 0) + 1


@pytest.mark.parametrize(
    ("failures", "wait"), [(-1, 5.0), (0, 5.0), (1, 10.0), (2, 300.0), (3, 300.0), (99, 300.0)]
)
def test_backoff(failures: int, wait: float) -> None:
    """Each failure takes the next wait; the last wait repeats."""
    assert Backoff((5.0, 10.0, 300.0)).wait_seconds(failures) == wait


def test_another_limit() -> None:
    """with_limit() changes only the limit: existing counts stay valid in the new window."""
    window = Window(10, 60, 5)
    larger = window.with_limit(12)
    assert larger == Window(12, 60, 5)
    assert (window.left({0: 10}, 1.0), larger.left({0: 10}, 1.0)) == (0, 2)
