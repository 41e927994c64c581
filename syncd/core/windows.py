"""Rate limits and back-off: how many requests are left, and when to try again.

Pure: the caller passes the counts and the time. Requests are counted in buckets of a few seconds. A
bucket counts until its last second has left the window, so the real rolling window is never
exceeded. The price is that a request counts up to one bucket's length too long.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` requests in any `period_seconds`, counted by `bucket_seconds`."""

    limit: int
    period_seconds: int
    bucket_seconds: int

    def with_limit(self, limit: int) -> "Window":
        """The same window with another limit."""
        return replace(self, limit=limit)

    def bucket(self, now: float) -> int:
        """The start (Unix seconds) of the bucket that `now` lies in."""
        return int(now // self.bucket_seconds) * self.bucket_seconds

    def oldest(self, now: float) -> int:
        """The start of the oldest bucket that still counts at `now`."""
        return self.bucket(now - self.period_seconds)

    def used(self, counts: Mapping[int, int], now: float) -> int:
        """How many of the requests in `counts` (bucket start → number) are in the window.

        A bucket later than `now` was counted before the clock was set back. It counts in full,
        because too few requests do no harm.
        """
        oldest = self.oldest(now)
        return sum(number for start, number in counts.items() if start >= oldest)

    def left(self, counts: Mapping[int, int], now: float) -> int:
        """How many requests are left at `now`."""
        return max(0, self.limit - self.used(counts, now))

    def wait_seconds(self, counts: Mapping[int, int], now: float, wanted: int = 1) -> float:
        """Seconds until so many more requests are allowed; 0 if they are allowed now."""
        over = self.used(counts, now) - self.limit + max(1, min(wanted, self.limit))
        if over <= 0:
            return 0.0
        oldest = self.oldest(now)
        for start in sorted(start for start in counts if start >= oldest):
            over -= counts[start]
            if over <= 0:
                return start + self.bucket_seconds + self.period_seconds - now
        return float(self.period_seconds + self.bucket_seconds)

    def rebased(self, counts: Mapping[int, int], now: float) -> dict[int, int]:
        """Move the counts later than `now` into the present bucket, after the clock was set back.

        Without this, a clock that was set back by an hour would block the window for an hour.
        """
        current = self.bucket(now)
        if max(counts, default=current) <= current:
            return dict(counts)
        moved: dict[int, int] = {}
        for start, number in counts.items():
            key = min(start, current)
            moved[key] = moved.get(key, 0) + number
        return moved


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts. After the last wait in the list, that wait repeats.

    Attributes:
        waits_seconds: the wait before the second attempt, before the third, and so on.
    """

    waits_seconds: tuple[float, ...]

    def wait_seconds(self, failures: int) -> float:
        """The wait after one more failure, in seconds.

        Args:
            failures: how many attempts failed before this one; a negative number counts as zero.
        """
        return self.waits_seconds[max(0, min(failures, len(self.waits_seconds) - 1))]


LOOK_UP_AGAIN = Backoff((600, 1_800, 7_200, 21_600, 54_600))
"""When to look for the row of a recent payment again: five times in a day, then never."""

RETRY_FAILED = Backoff((600, 3_600, 21_600, 86_400))
"""When to push a failed payment again, while it is on the attention list."""

POSTPONED = Backoff((15.0, 300.0))
"""When to retry a payment whose request failed while requests of other payments worked."""

REREAD_UNSHOWN = Backoff((300, 900, 2_400, 3_600, 21_600, 86_400))
"""When to ask Stripe again for a payment it cannot show; finally once a day, to save API requests."""

LINK_PAUSE = Backoff((5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0))
"""The pause for a side that failed as a whole; jitter shortens the pause."""

NOTIFY_AGAIN = Backoff((60.0, 120.0, 240.0, 480.0, 960.0, 1_920.0, 3_600.0))
"""When to resend a notification that no service accepted."""

CALL_FIRST_SECONDS, CALL_MAX_SECONDS = 0.5, 15.0
"""The first and the longest wait between the attempts of one call; the wait doubles, with jitter."""


POLLS_SHARE = 0.95
"""The share of a budget that polls plan with; the rest is for sweeps, re-reads and backfills."""

SPENT_SHARE = 0.995
"""The share of a budget that polls may use up, after a backfill has used what they do not plan with."""

BESIDE_SHARE = 0.99
"""The share of a budget that polls, backfills and audits may use together."""

KEPT_SHARE = 0.15
"""The share of a budget that is always kept for polls: half an hour apart with 10,000 in 30 days."""


def poll_spacing_seconds(
    window: Window,
    counts: Mapping[int, int],
    now: float,
    interval_seconds: float,
    share: float = POLLS_SHARE,
) -> float:
    """The time between polls (seconds) at which the budget never runs out.

    The interval is kept while more than half of the budget is left. Below that, polls are spread so
    that at every future moment the polls made until then fit beside the earlier reads that still
    count. So polls become less frequent instead of stopping for weeks after a large backfill.

    Args:
        window: how many reads are allowed.
        counts: the reads of all processes, by bucket.
        now: Unix seconds.
        interval_seconds: the shortest time between polls.
        share: the share of the budget that polls may plan with.
    """
    if window.left(counts, now) > window.limit / 2:
        return interval_seconds
    spacing = max(interval_seconds, window.period_seconds / (window.limit * share))
    spendable = window.limit * max(share, SPENT_SHARE)
    still, oldest = window.used(counts, now), window.oldest(now)
    for start in sorted(start for start in counts if start >= oldest):
        leaves_in = start + window.bucket_seconds + window.period_seconds - now
        spacing = max(spacing, leaves_in / max(spendable - still, 1.0))
        still -= counts[start]
    return spacing


def kept_spacing_seconds(window: Window, interval_seconds: float) -> float:
    """The time between polls (seconds) that backfills and audits must leave possible."""
    return max(interval_seconds, window.period_seconds / (KEPT_SHARE * max(1, window.limit)))


def reads_beside_polls(
    window: Window,
    counts: Mapping[int, int],
    now: float,
    spacing_seconds: float,
    allowed: Callable[[float], float] | None = None,
) -> int:
    """How many reads other work than polls may make now; 0 or less if none.

    After these reads, polls that are `spacing_seconds` apart fit beside all reads that still count, at
    every future moment.

    Args:
        window: how many reads are allowed.
        counts: the reads of all processes, by bucket.
        now: Unix seconds.
        spacing_seconds: the time between polls that must remain possible.
        allowed: the reads that are allowed at a later time; None if `window.limit` is.
    """
    kept_seconds = window.bucket_seconds + window.period_seconds
    moved, oldest = window.rebased(counts, now), window.oldest(now)
    still = sum(number for start, number in moved.items() if start >= oldest)
    moments = [(start + kept_seconds, number) for start, number in sorted(moved.items())]
    left = BESIDE_SHARE * (window.limit if allowed is None else allowed(now)) - still
    for leaves, number in [*moments, (now + kept_seconds, 0)]:
        if leaves - kept_seconds < oldest:
            continue
        limit = window.limit if allowed is None else allowed(leaves)
        polls = 1 + (leaves - now) // spacing_seconds
        left = min(left, SPENT_SHARE * limit - still - polls)
        still -= number
    return int(left)


def wait_beside_polls(
    window: Window,
    counts: Mapping[int, int],
    now: float,
    spacing_seconds: float,
    allowed: Callable[[float], float] | None = None,
) -> float:
    """Seconds until other work than polls may read, if nothing is read until then.

    The arguments are those of `reads_beside_polls`.
    """
    kept_seconds = window.bucket_seconds + window.period_seconds
    leaving = sorted({now, *(start + kept_seconds for start in window.rebased(counts, now))})
    leaving = [at for at in leaving if at >= now]
    for at in leaving:
        if reads_beside_polls(window, counts, at, spacing_seconds, allowed) > 0:
            return at - now
    return float(kept_seconds)
