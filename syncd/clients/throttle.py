"""Rate limits: syncd sends a request only if the side's window has room for it.

The requests are counted in the database, so the limits survive a restart and hold for all processes
together.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from syncd.clients.retry import Sleep
from syncd.core.errors import BudgetSpent, Side, Stopping, StoreUnavailable, StoreUnusable
from syncd.core.windows import Window

HALO_PERIOD_SECONDS = 300
STRIPE_PERIOD_SECONDS = 30 * 86_400

STRIPE_SPACING_SECONDS = 0.05
"""20 requests a second; Stripe allows 25 per second and endpoint."""

NAP_SECONDS = 5.0

COUNTED_AHEAD_MAX = 8
"""The maximum number of requests counted in one commit, if requests follow each other quickly."""

QUICK_BUCKET_SECONDS = 60
"""In longer buckets, requests are counted ahead only by runs that send one after the other."""


def halo_window(limit: int) -> Window:
    """Halo's rate limit: requests in any five minutes."""
    return Window(limit, HALO_PERIOD_SECONDS, bucket_seconds=5)


def stripe_window(limit: int) -> Window:
    """Stripe's limit of API reads: GET requests in any 30 days."""
    return Window(limit, STRIPE_PERIOD_SECONDS, bucket_seconds=3_600)


class RequestCounts(Protocol):
    """Counts requests for all processes together; `store.coordination` implements it."""

    def take_slots(
        self, side: Side, window: Window, now: float, wanted: int, unused: tuple[int, int]
    ) -> tuple[int, float]:
        """Count requests before they are sent, as far as `window` has room at `now` (Unix seconds).

        Args:
            side: Stripe or Halo.
            window: how many requests are allowed.
            now: Unix seconds.
            wanted: the maximum number of requests to count.
            unused: the bucket and the number of requests that were counted earlier and not sent.

        Returns:
            How many were counted; if none, the seconds until the window allows one.
        """

    def give_back(self, side: Side, unused: tuple[int, int]) -> None:
        """Subtract requests that were counted earlier and not sent (`unused` as in `take_slots`)."""

    def rebase(self, side: Side, window: Window, now: float) -> dict[int, int]:
        """Store requests counted later than `now` (Unix seconds) as made now. Returns all counts."""

    def counts(self, side: Side) -> dict[int, int]:
        """Requests by the bucket that they were counted in."""


@dataclass(slots=True)
class RateLimiter:
    """The rate limiter of one side.

    Attributes:
        side: Stripe or Halo.
        window: how many requests are allowed.
        requests: counts the requests of all processes.
        now: Unix seconds.
        sleep: waits, or raises Stopping.
        stopping: whether the process was asked to stop.
        working: called at each step, so that the watchdog sees progress.
        spacing_seconds: the shortest time between two requests of this process.
        patience_seconds: a longer wait raises BudgetSpent instead.
        waiting: called before each wait, with its seconds.
        keep: called before each request and each wait, to renew the leases of the process.
        steadily: whether this process sends one request after the other until it ends. `give_back`
            returns what it counted ahead and did not use; if the process is killed, at most
            COUNTED_AHEAD_MAX counts are lost.
        permit: called before each request; raises BudgetSpent if other work needs the requests.
    """

    side: Side
    window: Window
    requests: RequestCounts
    now: Callable[[], float]
    sleep: Sleep
    stopping: Callable[[], bool]
    working: Callable[[], None] = field(default=lambda: None)
    spacing_seconds: float = 0.0
    patience_seconds: float = HALO_PERIOD_SECONDS + 30.0
    waiting: Callable[[Side, float], None] = field(default=lambda _side, _seconds: None)
    keep: Callable[[], None] = field(default=lambda: None)
    steadily: bool = False
    permit: Callable[[], None] = field(default=lambda: None)
    _last: float = field(default=0.0, init=False)
    _counted: int = field(default=0, init=False)
    _ahead: int = field(default=1, init=False)
    _bucket: int = field(default=0, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def take(self) -> None:
        """Wait until one more request is allowed, and count it.

        Raises:
            BudgetSpent: the wait would be longer than `patience_seconds`, or `permit` refuses.
            Stopping: the process was asked to stop.
        """
        async with self._turn:  # a poll and a push may ask at the same time
            await self._take()

    async def _take(self) -> None:
        early = self._last + self.spacing_seconds - self.now()
        if 0 < early <= self.spacing_seconds:
            await self.sleep(early)
        self.permit()
        while True:
            self.working()
            self.keep()
            if self.stopping():
                message = "stopping between two requests"
                raise Stopping(message)
            wait = self._count()
            if wait <= 0:
                self._last = self.now()
                return
            await self._wait(wait)

    def _count(self) -> float:
        """Count one request. Returns 0, or how many seconds to wait before the next attempt.

        Requests that follow each other quickly are counted several at a time, because each count is
        a commit. Counts made ahead are used within their bucket, or returned at the next request.
        """
        now = self.now()
        bucket = self.window.bucket(now)
        short = self.steadily or self.window.bucket_seconds <= QUICK_BUCKET_SECONDS
        quick = bucket == self._bucket and short
        if quick and self._counted:
            self._counted -= 1
            return 0.0
        self._ahead = min(2 * self._ahead, COUNTED_AHEAD_MAX) if quick else 1
        unused = (self._bucket, self._counted)
        self._counted = 0  # returned only once, even if the database fails
        self._counted, wait = self.requests.take_slots(
            self.side, self.window, now, self._ahead, unused
        )
        self._bucket = bucket
        self._counted = max(0, self._counted - 1)
        return wait

    def give_back(self) -> None:
        """Return the counts that were made ahead, at the end of a run; without a database they are lost."""
        unused, self._counted = (self._bucket, self._counted), 0
        if unused[1]:
            with suppress(StoreUnavailable, StoreUnusable):
                self.requests.give_back(self.side, unused)

    async def room(self, requests: int) -> None:
        """Wait until that many requests are allowed in a row; counts none. Raises as `take`."""
        while not await self.has_room(requests):
            pass

    async def has_room(self, requests: int) -> bool:
        """Whether that many requests are allowed in a row; if not, wait some seconds first.

        Counts none. Raises as `take`.
        """
        counts, now = self.requests.counts(self.side), self.now()
        if any(bucket > now for bucket in counts):
            # Stored, because otherwise these requests would count as made now at each look.
            counts = self.requests.rebase(self.side, self.window, now)
        if self._counted and counts.get(self._bucket, 0) >= self._counted:
            counts = {**counts, self._bucket: counts[self._bucket] - self._counted}
        wait = self.window.wait_seconds(counts, now, requests)
        if wait <= 0:
            return True
        self.working()
        await self._wait(wait)
        return False

    async def _wait(self, wait: float) -> None:
        if wait > self.patience_seconds:
            key = "stripe.read_budget" if self.side is Side.STRIPE else "halo.rate_limit"
            message = (
                f"syncd has used up its {self.window.limit:,} requests to {str(self.side).capitalize()} in "
                f"{span_of(self.window.period_seconds)} ({key}). syncd sends the next one in {span_of(wait)}, "
                "and nothing is lost. A longer poll.interval needs fewer requests."
            )
            raise BudgetSpent(self.side, message, retry_after_seconds=wait)
        self.waiting(self.side, wait)
        self.keep()
        await self.sleep(min(wait, NAP_SECONDS))


def span_of(seconds: float) -> str:
    """A time span for people: in minutes, from two hours in hours, from two days in days."""
    for unit, name in ((86_400, "days"), (3_600, "hours")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(1, round(seconds / 60))} minutes"
