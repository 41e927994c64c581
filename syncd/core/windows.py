"""Rate limits and back-off: how many requests are left, and when to try again.

Pure: the caller passes the counts and the time. Requests are counted in buckets of a few seconds. A
bucket counts until its last second has left the window, so the real rolling window is never
exceeded. The price is that a request counts up to one bucket's length too long.
"""

from collections.abc import Mapping
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

SPENT_SHARE = 0.98
"""The share of a budget that polls may use up, after a backfill has used what they do not plan with."""


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
