"""The gate in front of each side: no request goes out without room in its window.

The windows stand in the database, so they survive a restart and hold for all processes together.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from syncd.clients.retry import Sleep
from syncd.core.errors import BudgetSpent, Side, Stopping
from syncd.core.windows import Window

HALO_PERIOD_SECONDS = 300
STRIPE_PERIOD_SECONDS = 30 * 86_400

STRIPE_SPACING_SECONDS = 0.05
"""Twenty requests a second: Stripe allows 25 for one endpoint."""

NAP_SECONDS = 5.0


def halo_window(limit: int) -> Window:
    """Halo's limit: requests in any five minutes."""
    return Window(limit, HALO_PERIOD_SECONDS, bucket_seconds=5)


def stripe_window(limit: int) -> Window:
    """Stripe's ration of reads: GETs in any 30 days."""
    return Window(limit, STRIPE_PERIOD_SECONDS, bucket_seconds=3_600)


class RequestCounts(Protocol):
    """Where requests are counted for all processes together. `store.coordination` is one."""

    def take_slot(self, side: Side, window: Window, now: float) -> float:
        """Count one request if `window` has room at `now` (Unix seconds).

        Returns:
            0 when the request was counted, else the seconds until there is room.
        """

    def counts(self, side: Side) -> dict[int, int]:
        """Requests by the bucket that they were counted in."""


@dataclass(slots=True)
class RateLimiter:
    """Lets requests to one side pass, one by one.

    Attributes:
        side: which side.
        window: how many may pass.
        requests: where they are counted.
        now: Unix seconds.
        sleep: waits, or raises Stopping.
        stopping: whether we were asked to stop.
        working: told at every step, so that a watchdog knows that work goes on.
        spacing_seconds: the least time between two requests of this process.
        patience_seconds: a longer wait is refused instead.
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
    _last: float = field(default=0.0, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def take(self) -> None:
        """Wait until one more request may go, and count it.

        Raises:
            BudgetSpent: that would take longer than `patience_seconds`.
            Stopping: we were asked to stop.
        """
        async with self._turn:  # a poll and a push may ask at the same time
            await self._take()

    async def _take(self) -> None:
        early = self._last + self.spacing_seconds - self.now()
        if 0 < early <= self.spacing_seconds:
            await self.sleep(early)
        while True:
            self.working()
            if self.stopping():
                message = "stopping between two requests"
                raise Stopping(message)
            wait = self.requests.take_slot(self.side, self.window, self.now())
            if wait <= 0:
                self._last = self.now()
                return
            await self._wait(wait)

    async def room(self, requests: int) -> None:
        """Wait until so many requests may go one after another; counts none. Raises as `take`."""
        while True:
            counts, now = self.requests.counts(self.side), self.now()
            wait = self.window.wait_seconds(self.window.rebased(counts, now), now, requests)
            if wait <= 0:
                return
            self.working()
            await self._wait(wait)

    async def _wait(self, wait: float) -> None:
        if wait > self.patience_seconds:
            key = "stripe.read_budget" if self.side is Side.STRIPE else "halo.rate_limit"
            message = (
                f"The {self.window.limit} requests to {self.side} that {key} leaves to this "
                f"run in {_span(self.window.period_seconds)} are used up; the next may go in "
                f"{_span(wait)}. Nothing is lost; a longer poll.interval needs fewer."
            )
            raise BudgetSpent(self.side, message, retry_after_seconds=wait)
        self.waiting(self.side, wait)
        await self.sleep(min(wait, NAP_SECONDS))


def _span(seconds: float) -> str:
    """A span for people: minutes, hours from two on, days from two on."""
    for unit, name in ((86_400, "days"), (3_600, "hours")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(1, round(seconds / 60))} minutes"
