"""Both adapters over real HTTP, with a clock that moves when they wait."""

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
    """The two adapters, what they waited for, and what they counted.

    Attributes:
        waited: seconds of each wait, in order.
        noted: the outcome of each request, in order.
        taken: how often room for a request was asked for.
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
        """Do something with Stripe's adapter."""
        box = self.box.stripe
        given = {"api_key": box.api_key, "api_base": box.url, "invoice_key": "halo_invoice_id"}
        return self._do(StripeSource(**given | other, calling=self.calling(timeout)), work)

    def halo(
        self, work: Callable[[HaloSink], Awaitable[T]], *, timeout: float = 10.0, **other: Any
    ) -> T:
        """Do something with Halo's adapter."""
        box = self.box.halo
        given = {
            "url": box.url,
            "client_id": box.client_id,
            "client_secret": box.client_secret,
            "scope": "read:invoices edit:invoices",
        }
        return self._do(HaloSink(**given | other, calling=self.calling(timeout)), work)

    def read(self, side: str, *, timeout: float = 10.0) -> Any:
        """The simplest reading of either side."""
        if side == "stripe":
            return self.stripe(lambda source: source.events(0), timeout=timeout)
        return self.halo(lambda sink: sink.rows_of("pi_none"), timeout=timeout)

    def side(self, name: str) -> SandboxStripe | SandboxHalo:
        """One side of the sandbox."""
        return self.box.stripe if name == "stripe" else self.box.halo

    def listings(self, name: str) -> list[Request]:
        """The requests for a listing that came in."""
        return [r for r in self.side(name).requests if r.path == LISTING[name]]

    def posts(self) -> list[Request]:
        """The lists of rows that came in."""
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
