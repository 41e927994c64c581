"""Windows and budgets of requests: how many may still go, and when the next one may.

Pure: the counts and the time come in. Requests are counted in buckets of a few seconds, and a
bucket counts until its last second has left the window, so the true rolling window is never
exceeded, at the price of one bucket's length.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` requests in any `period_seconds`, counted by `bucket_seconds`."""

    limit: int
    period_seconds: int
    bucket_seconds: int

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
        return sum(number for start, number in counts.items() if start >= self.oldest(now))

    def left(self, counts: Mapping[int, int], now: float) -> int:
        """How many requests may still go at `now`."""
        return max(0, self.limit - self.used(counts, now))

    def wait_seconds(self, counts: Mapping[int, int], now: float, wanted: int = 1) -> float:
        """How long to wait until so many more requests may go; 0 where they may go now."""
        over = self.used(counts, now) - self.limit + max(1, min(wanted, self.limit))
        if over <= 0:
            return 0.0
        for start in sorted(start for start in counts if start >= self.oldest(now)):
            over -= counts[start]
            if over <= 0:
                return start + self.bucket_seconds + self.period_seconds - now
        return float(self.period_seconds + self.bucket_seconds)

    def rebased(self, counts: Mapping[int, int], now: float) -> dict[int, int]:
        """Move what was counted ahead of `now` into now's bucket: the clock was set back.

        Without this, an hour's step of the clock would block the window for an hour.
        """
        current = self.bucket(now)
        moved: dict[int, int] = {}
        for start, number in counts.items():
            key = min(start, current)
            moved[key] = moved.get(key, 0) + number
        return moved


POLLS_SHARE = 0.95
"""How much of a budget polls may plan with: the rest is for sweeps and for payments in doubt."""


def poll_spacing_seconds(
    window: Window, counts: Mapping[int, int], now: float, interval_seconds: float
) -> float:
    """How far apart polls must be so that the budget never ends before its window frees some.

    The interval is kept while more than half of the budget is left. From there on polls are spread
    so that at each coming moment those made by then fit beside what still counts: they grow rarer,
    instead of ending for weeks after a large backfill.
    """
    if window.left(counts, now) > window.limit / 2:
        return interval_seconds
    planned = window.limit * POLLS_SHARE
    spacing = max(interval_seconds, window.period_seconds / planned)
    still = window.used(counts, now)
    for start in sorted(start for start in counts if start >= window.oldest(now)):
        leaves_in = start + window.bucket_seconds + window.period_seconds - now
        spacing = max(spacing, leaves_in / max(planned - still, 1.0))
        still -= counts[start]
    return spacing
