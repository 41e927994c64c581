"""Rate limits and back-off: how many requests may still go, and when to try again.

Pure: the counts and the time come in. Requests are counted in buckets of a few seconds, and a
bucket counts until its last second has left the window, so the true rolling window is never
exceeded, at the price of one bucket's length.
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

        A bucket that lies ahead of `now` was counted before the clock was set back. It is counted
        in full: too few requests harm nobody.
        """
        oldest = self.oldest(now)
        return sum(number for start, number in counts.items() if start >= oldest)

    def left(self, counts: Mapping[int, int], now: float) -> int:
        """How many requests may still go at `now`."""
        return max(0, self.limit - self.used(counts, now))

    def wait_seconds(self, counts: Mapping[int, int], now: float, wanted: int = 1) -> float:
        """How long to wait until so many more requests may go; 0 where they may go now."""
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
        """Move what was counted ahead of `now` into now's bucket: the clock was set back.

        Without this, an hour's step of the clock would block the window for an hour.
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
    """Waits between attempts; after the last one, its wait repeats.

    Attributes:
        waits_seconds: the wait before the second attempt, before the third, and so on.
    """

    waits_seconds: tuple[float, ...]

    def wait_seconds(self, failures: int) -> float:
        """The wait after one more failure.

        Args:
            failures: how many attempts failed before this one; less than zero counts as zero.
        """
        return self.waits_seconds[max(0, min(failures, len(self.waits_seconds) - 1))]


LOOK_UP_AGAIN = Backoff((600, 1_800, 7_200, 21_600, 54_600))
"""When to look for a recent payment without a row again: five times in a day, then never."""

RETRY_FAILED = Backoff((600, 3_600, 21_600, 86_400))
"""When to push a failed payment again, while it is on the attention list."""

POSTPONED = Backoff((15.0, 300.0))
"""When to retry a payment whose request failed while requests of other payments worked."""

REREAD_UNSHOWN = Backoff((300, 900, 2_400, 3_600, 21_600, 86_400))
"""When to ask Stripe again for a payment that it can't show; finally once a day, to save requests."""

LINK_PAUSE = Backoff((5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0))
"""How long to send a side no requests after a failure of the whole side; jitter shortens the pause."""

NOTIFY_AGAIN = Backoff((60.0, 120.0, 240.0, 480.0, 960.0, 1_920.0, 3_600.0))
"""When to send a notification again that no service accepted."""

CALL_FIRST_SECONDS, CALL_MAX_SECONDS = 0.5, 15.0
"""The first and the longest wait between the attempts of one call; the wait doubles, with jitter."""


POLLS_SHARE = 0.95
"""How much of a budget polls may plan with: the rest is for sweeps and for payments in doubt."""


def poll_spacing_seconds(
    window: Window,
    counts: Mapping[int, int],
    now: float,
    interval_seconds: float,
    share: float = POLLS_SHARE,
) -> float:
    """How far apart polls must be so that the budget never ends before its window frees some.

    The interval is kept while more than half of the budget is left. From there on polls are spread
    so that at each coming moment those made by then fit beside what still counts: they grow rarer,
    instead of ending for weeks after a large backfill.

    Args:
        window: how many reads are allowed.
        counts: the reads of all processes, by bucket.
        now: Unix seconds.
        interval_seconds: the shortest spacing.
        share: how much of the budget polls may plan with.
    """
    if window.left(counts, now) > window.limit / 2:
        return interval_seconds
    planned = window.limit * share
    spacing = max(interval_seconds, window.period_seconds / planned)
    still, oldest = window.used(counts, now), window.oldest(now)
    for start in sorted(start for start in counts if start >= oldest):
        leaves_in = start + window.bucket_seconds + window.period_seconds - now
        spacing = max(spacing, leaves_in / max(planned - still, 1.0))
        still -= counts[start]
    return spacing
