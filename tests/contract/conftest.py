"""Fixtures of the contract tests: both adapters over real HTTP; their waits advance a fake clock."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from syncd.clients.halo.sink import HaloSink
from syncd.clients.retry import Calling
from syncd.clients.stripe.source import StripeSource
from syncd.sandbox import Request, Sandbox, SandboxHalo, SandboxStripe
from tests.conftest import HandClock

T = TypeVar("T")

SIDES = ("stripe", "halo")
LISTING = {"stripe": "/v1/events", "halo": "/api/InvoicePayment"}


@dataclass
class Bench:
    """Runs the two adapters and records their waits and their requests.

    Attributes:
        waited: seconds of each wait, in order.
        noted: the outcome of each request, in order.
        taken: how often an adapter asked the throttle for a slot.
    """

    box: Sandbox
    clock: HandClock
    waited: list[float] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    taken: int = 0

    def calling(self, timeout_seconds: float = 10.0) -> Calling:
        async def take() -> None:
            self.taken += 1

        async def sleep(seconds: float) -> None:
            self.waited.append(seconds)
            self.clock.seconds += seconds

        return Calling(take, self.noted.append, sleep, self.clock, timeout_seconds=timeout_seconds)

    def stripe(
        self, work: Callable[[StripeSource], Awaitable[T]], *, timeout: float = 10.0, **other: Any
    ) -> T:
        """Run a call against Stripe's adapter."""
        box = self.box.stripe
        given = {"api_key": box.api_key, "api_base": box.url, "invoice_key": "halo_invoice_id"}
        return self._do(StripeSource(**given | other, calling=self.calling(timeout)), work)

    def halo(
        self, work: Callable[[HaloSink], Awaitable[T]], *, timeout: float = 10.0, **other: Any
    ) -> T:
        """Run a call against Halo's adapter."""
        box = self.box.halo
        given = {
            "url": box.url,
            "client_id": box.client_id,
            "client_secret": box.client_secret,
            "scope": "read:invoices edit:invoices",
        }
        return self._do(HaloSink(**given | other, calling=self.calling(timeout)), work)

    def read(self, side: str, *, timeout: float = 10.0) -> Any:
        """Make the simplest read of either side."""
        if side == "stripe":
            return self.stripe(lambda source: source.events(0), timeout=timeout)
        return self.halo(lambda sink: sink.rows_of("pi_none"), timeout=timeout)

    def side(self, name: str) -> SandboxStripe | SandboxHalo:
        """Return one side of the sandbox."""
        return self.box.stripe if name == "stripe" else self.box.halo

    def listings(self, name: str) -> list[Request]:
        """Return the list requests that this side received."""
        return [r for r in self.side(name).requests if r.path == LISTING[name]]

    def posts(self) -> list[Request]:
        """Return the POST requests with rows that Halo received."""
        return [r for r in self.listings("halo") if r.method == "POST"]

    @staticmethod
    def _do(adapter: Any, work: Callable[[Any], Awaitable[T]]) -> T:
        async def go() -> T:
            try:
                return await work(adapter)
            finally:
                await adapter.close()

        return asyncio.run(go())


@pytest.fixture
def bench(clock: HandClock) -> Iterator[Bench]:
    with Sandbox(clock=clock) as box:
        yield Bench(box, clock)
