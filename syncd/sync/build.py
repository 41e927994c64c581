"""Puts the parts together: from a Config to an engine that can run."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from syncd.clients.halo.sink import HaloSink
from syncd.clients.proxy import no_proxy_problems
from syncd.clients.retry import Calling
from syncd.clients.stripe.source import StripeSource
from syncd.clients.throttle import STRIPE_SPACING_SECONDS, Gate, halo_window, stripe_window
from syncd.config.model import Config
from syncd.core.decisions import Policy
from syncd.core.errors import Side, Stopping
from syncd.core.holds import RELEASED_BY
from syncd.monitor.telemetry import Telemetry
from syncd.store.store import Store
from syncd.sync.engine import Engine
from syncd.sync.lease import Lease, this_process
from syncd.sync.pull.poll import Observer, Reach
from syncd.sync.pull.reversals import Reversing
from syncd.sync.push.outcomes import Plan
from syncd.sync.push.payload import Ways
from syncd.sync.push.pusher import Pusher


@dataclass(slots=True)
class World:
    """What comes from outside: time, chance, and being asked to stop.

    Attributes:
        now: Unix seconds.
        random: a number from 0 to 1.
        stop: set when the process is to end.
        working: told at every step of work.
        waiting: told when a side's window is full, and for how many seconds.
        transport: carries all requests in place of a real network; None for the real one.
    """

    now: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    working: Callable[[], None] = lambda: None
    waiting: Callable[[Side, float], None] = lambda _side, _seconds: None
    transport: Any = None

    async def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopping: we were asked to stop meanwhile.
        """
        try:
            await asyncio.wait_for(self.stop.wait(), timeout=seconds)
        except TimeoutError:
            return
        message = "stopping while waiting"
        raise Stopping(message)


@dataclass(slots=True)
class Parts:
    """An engine and what belongs to it."""

    config: Config
    engine: Engine
    source: StripeSource
    sink: HaloSink

    async def close(self) -> None:
        """Close the connections."""
        await self.source.close()
        await self.sink.close()


def assemble(
    config: Config,
    store: Store,
    telemetry: Telemetry,
    world: World,
    what: str,
    *,
    plan: Plan | None = None,
    stripe_share: float = 1.0,
    halo_share: float = 1.0,
    counted_in: Store | None = None,
) -> Parts:
    """Build an engine.

    Args:
        config: what to do.
        store: where to remember.
        telemetry: where to tell.
        world: time, chance and the end.
        what: the command that runs, for people who find it pushing.
        plan: makes it a dry run, and is told what would be pushed.
        stripe_share: how much of Stripe's limit (0 to 1) this run may use up; the rest is left to
            the service, so that a long run by hand never silences it.
        halo_share: the same of Halo's limit.
        counted_in: where requests are counted, if not in `store`: a run on a store of its own that
            counts them in the service's keeps both within the limits.
    """
    for problem in no_proxy_problems(os.environ):
        telemetry.log("warning", "no_proxy_entry", text=problem)
    stripe_limit = max(1, int(config.stripe.read_budget * stripe_share))
    halo_limit = max(1, int(config.halo.rate_limit * halo_share))
    gates = {
        Side.STRIPE: Gate(
            Side.STRIPE, stripe_window(stripe_limit), (counted_in or store).coordination, world.now, world.sleep,
            world.stop.is_set, world.working, STRIPE_SPACING_SECONDS, patience_seconds=60.0,
            waiting=world.waiting,
        ),
        Side.HALO: Gate(
            Side.HALO, halo_window(halo_limit), (counted_in or store).coordination, world.now, world.sleep,
            world.stop.is_set, world.working, waiting=world.waiting,
        ),
    }  # fmt: skip
    source = StripeSource(
        config.stripe_api_key,
        config.stripe.api_base,
        _calling(gates[Side.STRIPE], telemetry, world),
        config.push.invoice_metadata_key,
        config.stripe.account,
        world.transport,
    )
    sink = HaloSink(
        config.halo.url,
        config.halo.client_id,
        config.halo_client_secret,
        config.halo.scope,
        _calling(gates[Side.HALO], telemetry, world),
        world.transport,
    )
    observer = Observer(
        source, store, Reach(config.poll.overlap, config.poll.look_back), telemetry, world.now
    )
    lease = None if plan is not None else Lease(store, this_process(what), world.now)
    pusher = Pusher(sink, store, lease, observer, ways_of(config), telemetry, world.now, plan=plan)
    # Another process may have decided meanwhile, by another configuration: one that isn't reloaded.
    pusher.review = lambda: release_holds(config, store, world.now())
    reversing = Reversing(source, sink, store, telemetry, world.now)
    engine = Engine(
        observer, pusher, reversing, store, gates, telemetry, world.now, world.random,
        config.poll.interval, telemetry.succeeded, world.sleep,
    )  # fmt: skip
    return Parts(config, engine, source, sink)


def ways_of(config: Config) -> Ways:
    """What the configuration says of pushing."""
    new_row = config.halo.new_row
    fields: Mapping[str, int | None] = {"method": new_row.method, "module_id": new_row.module_id}
    return Ways(
        policy=Policy(
            numbers=config.halo.status.numbers,
            create_missing=config.push.create_missing,
            push_on_mismatch=config.push.on_amount_mismatch == "push",
        ),
        batch=config.push.batch,
        trace=config.push.trace,
        new_row={key: value for key, value in fields.items() if value is not None},
    )


def _calling(gate: Gate, telemetry: Telemetry, world: World) -> Calling:
    side = str(gate.side)

    def note(outcome: str) -> None:
        telemetry.count("requests", side=side, outcome=outcome)

    return Calling(take=gate.take, room=gate.room, note=note, sleep=world.sleep, now=world.now)


def release_holds(config: Config, store: Store, now: float, *, reloaded: bool = False) -> int:
    """Decide again what was held under another configuration. Returns how many payments.

    Args:
        config: what holds now.
        store: where the holds stand, and the configuration they were decided under.
        now: Unix seconds.
        reloaded: decide again whatever a configuration can free: a push by the old one may have
            been under way while another process took the new one for dealt with.
    """
    ways = ways_of(config)
    current = {
        "halo.status": repr(sorted((str(k), v) for k, v in ways.policy.numbers.items())),
        "push.on_amount_mismatch": repr(ways.policy.push_on_mismatch),
        "push.create_missing": repr(ways.policy.create_missing),
    }
    noted = store.notes()
    if noted.get("stripe_mode") != config.mode:
        store.write_notes({"stripe_mode": config.mode})  # for commands, which have no key
    codes = [
        code
        for key, value in current.items()
        if reloaded or noted.get(f"config {key}") != value
        for code in RELEASED_BY[key]
    ]
    if not codes:
        return 0
    released = store.people.release(codes, now)
    store.write_notes({f"config {key}": value for key, value in current.items()})
    return released
