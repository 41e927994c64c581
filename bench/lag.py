"""How long payments of right now wait while a backfill fills Halo's window.

The clock is set by hand and moves only while syncd waits, and with each request, so a backfill of hours takes minutes.
The engine, the database, HTTP and the sandbox are real. Measured is the time from an event, which a poll finds at once, until Halo has
acknowledged the payment.
"""

import asyncio
import os
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console

from bench.grown import environment_of
from bench.measure import Results
from syncd.config.load import load
from syncd.config.model import Config
from syncd.core.errors import Side
from syncd.monitor.telemetry import Telemetry
from syncd.sandbox.server import Sandbox
from syncd.store.store import Store
from syncd.sync.build import Parts, Runtime, assemble

APART_SECONDS = 70.0
"""How far apart the payments of right now come."""

P50_SECONDS, P95_SECONDS = 10.0, 60.0
"""How long half of them may wait, and 95 %."""

REQUEST_SECONDS = 0.3
"""How long each request to Halo takes by the simulated clock."""

DAY = 86_400


@dataclass(slots=True)
class Clock:
    """A clock that moves only while syncd waits."""

    seconds: float = field(default_factory=time.time)

    def __call__(self) -> float:
        """The time, Unix seconds."""
        return self.seconds


class Quiet(Telemetry):
    """Telemetry that logs nothing."""

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Log nothing."""


def lag(payments: int, limit: int, results: Results, console: Console) -> None:
    """A backfill of so many payments under Halo's limit, and one payment of right now each 70 seconds."""
    clock = Clock()
    with Sandbox(clock=clock) as box, tempfile.TemporaryDirectory() as folder:
        box.stripe.rate_limit_per_second = box.halo.rate_limit = None
        invoice = box.halo.add_invoice(total=1e9)
        with console.status(f"payments of right now beside a backfill of {payments:,}"):
            _add_backlog(box, invoice, payments, clock())
            config = _config(environment_of(box, Path(folder)), limit)
            store, runtime = Store.open(config.state.url), Runtime(now=clock, monotonic=clock)
            fresh: dict[str, float] = {}

            async def work(parts: Parts) -> None:
                await parts.engine.poll()
                await parts.run.list_since(int(clock()) - 90 * DAY, "90d")

                async def nap(seconds: float) -> None:
                    clock.seconds += seconds
                    if clock() - max(fresh.values(), default=began) < APART_SECONDS:
                        return
                    intent = box.stripe.create_intent(amount=1_000)
                    box.halo.add_row(intent, invoice, 10.0)
                    box.stripe.advance(intent, "succeeded")
                    fresh[intent] = clock()
                    await parts.engine.poll()

                began = clock()

                def request() -> None:
                    clock.seconds += REQUEST_SECONDS

                limiter = parts.engine.rate_limiters[Side.HALO]
                limiter.sleep, limiter.working = nap, request
                await parts.engine.pusher.push()
                ended.append(clock() - began)

            async def go() -> None:
                parts = assemble(config, store, Quiet(), runtime, "a backfill")
                try:
                    await work(parts)
                finally:
                    await parts.close()

            ended: list[float] = []
            asyncio.run(go())
            store.close()
            waits = sorted(_acknowledged(Path(folder) / "syncd.db", fresh))
    of = f"backfill of {payments:,}, {limit} requests in 5 minutes"
    results.add(f"{of}: minutes (simulated clock)", ended[0] / 60, "min")
    results.add(f"{of}: payments of right now meanwhile", len(waits), "")
    results.add(f"{of}: they wait, p50", waits[len(waits) // 2], "s", P50_SECONDS, counts=True)
    late = waits[min(len(waits) - 1, int(0.95 * len(waits)))]
    results.add(f"{of}: they wait, p95", late, "s", P95_SECONDS, counts=True)


def _add_backlog(box: Sandbox, invoice: int, payments: int, now: float) -> None:
    """Payments of two days ago and earlier, which no event reports."""
    for number in range(payments):
        made = now - 2 * DAY - number
        intent = box.stripe.create_intent(amount=1_000, created=made)
        box.halo.add_row(intent, invoice, 10.0)
        box.stripe.advance(intent, "succeeded", made, emit=False)


def _config(environment: dict[str, str], limit: int) -> Config:
    """The configuration, with so many requests to Halo in five minutes."""
    environment = {**environment, "SYNCD_HALO__RATE_LIMIT": str(limit)}
    with mock.patch.dict(os.environ, environment, clear=True):
        return load(None, os.environ)


def _acknowledged(database: Path, fresh: dict[str, float]) -> list[float]:
    """How long after its event Halo acknowledged each of these payments; seconds."""
    with sqlite3.connect(database) as plain:
        found = dict(plain.execute("SELECT intent_id, acked_at FROM payments").fetchall())
    plain.close()
    return [float("inf") if found[one] is None else found[one] - at for one, at in fresh.items()]
