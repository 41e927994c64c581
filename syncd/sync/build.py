"""Builds an engine and its parts from a Config."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from syncd.clients.halo.sink import HaloSink
from syncd.clients.retry import Calling, Retrying
from syncd.clients.stripe.source import StripeSource
from syncd.clients.throttle import STRIPE_SPACING_SECONDS, RateLimiter, halo_window, stripe_window
from syncd.config.model import Config
from syncd.config.secrets import is_organization_key
from syncd.core.errors import Side, Stopping
from syncd.core.payments import CREATED_EVENT, EVENT_TYPES
from syncd.core.records import Fence
from syncd.core.rules.decisions import Policy
from syncd.monitor.polls import ration_of
from syncd.monitor.telemetry import Telemetry
from syncd.store.coordination import HIDDEN_INTENTS
from syncd.store.store import Store
from syncd.sync.engine import Engine
from syncd.sync.lease import Lease, this_process
from syncd.sync.policy import push_settings, release_holds, write_settings
from syncd.sync.pull.by_hand import ReadsBesidePolls
from syncd.sync.pull.deliveries import Deliveries
from syncd.sync.pull.listing import IntentListing
from syncd.sync.pull.pace import FixedPace, Pace, PollPace
from syncd.sync.pull.poll import Poller, Reach
from syncd.sync.pull.read_back import AllRows
from syncd.sync.pull.rereads import Rereads
from syncd.sync.pull.reversals import ReversalSweeper
from syncd.sync.pull.sweep import Sweeper
from syncd.sync.push.guard import InsertWaits
from syncd.sync.push.outcomes import Plan
from syncd.sync.push.proof.tenant import TenantWrites
from syncd.sync.push.pusher import Pusher
from syncd.sync.run import Run
from syncd.sync.sink import Sink
from syncd.text.no_proxy import no_proxy_problems

FIXED_REREADS_SHARE = 0.5
"""Re-reads stop if less than this share of Stripe's limit is left and poll.interval is fixed."""

SILENCE_SECONDS_MAX = 600.0
"""After so many idle seconds (or half of web.stale_after), syncd sends Halo a test request."""


@dataclass(slots=True)
class Runtime:
    """The process's environment: time, randomness, and the request to stop.

    Attributes:
        now: Unix seconds, by the host's clock, which may be set.
        monotonic: seconds of a clock that only goes forward.
        random: a number from 0 to 1.
        stop: set when the process is asked to stop.
        working: called at every step of work.
        waiting: called when a side's rate limit is reached, with the seconds to wait.
        transport: replaces the network in tests; None for the network.
        retrying: called before a request is sent again.
        requires: the lease that a process must hold to push; by default only the push lease.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    working: Callable[[], None] = lambda: None
    waiting: Callable[[Side, float], None] = lambda _side, _seconds: None
    transport: Any = None
    retrying: Retrying = lambda _error, _seconds: None
    requires: Callable[[], Fence | None] = lambda: None

    async def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopping: the process was asked to stop.
        """
        try:
            await asyncio.wait_for(self.stop.wait(), timeout=seconds)
        except TimeoutError:
            return
        message = "stopping while waiting"
        raise Stopping(message)


@dataclass(slots=True)
class Parts:
    """An engine and its parts."""

    config: Config
    engine: Engine
    run: Run
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
    runtime: Runtime,
    what: str,
    *,
    plan: Plan | None = None,
    beside_polls: bool = False,
    halo_share: float = 1.0,
    counted_in: Store | None = None,
) -> Parts:
    """Build an engine.

    Args:
        config: the configuration.
        store: the database.
        telemetry: log and metrics.
        runtime: time, randomness, and the request to stop.
        what: the command that runs, shown to other processes that want to push.
        plan: makes it a dry run; called with each planned action.
        beside_polls: whether the run leaves so many of Stripe's reads that the service's polls keep
            a useful rhythm, however long the run is.
        halo_share: the share of Halo's limit (0 to 1) that this run may use.
        counted_in: where requests are counted, if not in `store`: a run with its own database that
            counts them in the service's database keeps both within the limits.
    """
    source, sink, rate_limiters = _clients(
        config, store, telemetry, runtime, beside_polls, halo_share, counted_in
    )
    engine = build_engine(
        config, store, telemetry, runtime, what, source, sink, rate_limiters, plan
    )
    return Parts(config, engine, Run(engine, store, runtime.sleep, runtime.random), source, sink)


@dataclass(slots=True)
class Readers:
    """The parts that read both sides and never write to Halo, for the audit.

    Attributes:
        all_rows: reads all of Halo's rows into the store.
        reversal_sweeper: lists refunds and disputes.
        policy: the configured status numbers and rules.
    """

    source: StripeSource
    sink: HaloSink
    all_rows: AllRows
    reversal_sweeper: ReversalSweeper
    policy: Policy

    async def close(self) -> None:
        """Close the connections."""
        await self.source.close()
        await self.sink.close()


def assemble_readers(
    config: Config,
    store: Store,
    telemetry: Telemetry,
    runtime: Runtime,
    *,
    counted_in: Store | None = None,
) -> Readers:
    """Build the parts that read both sides into `store`; the arguments are those of `assemble`."""
    source, sink, _ = _clients(config, store, telemetry, runtime, True, 1.0, counted_in)
    return Readers(
        source,
        sink,
        AllRows(sink, store, telemetry, runtime.now, lambda: None, counted_in),
        ReversalSweeper(source, sink, store, telemetry, runtime.now),
        push_settings(config).policy,
    )


def _clients(
    config: Config,
    store: Store,
    telemetry: Telemetry,
    runtime: Runtime,
    beside_polls: bool,
    halo_share: float,
    counted_in: Store | None,
) -> tuple[StripeSource, HaloSink, dict[Side, RateLimiter]]:
    """Build the clients of both sides, and their rate limiters."""
    for problem in no_proxy_problems(os.environ):
        telemetry.log("warning", "no_proxy_entry", text=problem)
    ration = ration_of(config.stripe.read_budget, counted_in or store, runtime.now())
    stripe_limit = max(1, ration.ceiling(runtime.now()))
    halo_limit = max(1, int(config.halo.rate_limit * halo_share))
    rate_limiters = {
        Side.STRIPE: RateLimiter(
            Side.STRIPE,
            stripe_window(stripe_limit),
            (counted_in or store).coordination,
            runtime.now,
            runtime.sleep,
            runtime.stop.is_set,
            runtime.working,
            STRIPE_SPACING_SECONDS,
            patience_seconds=60.0,
            waiting=runtime.waiting,
        ),
        Side.HALO: RateLimiter(
            Side.HALO,
            halo_window(halo_limit),
            (counted_in or store).coordination,
            runtime.now,
            runtime.sleep,
            runtime.stop.is_set,
            runtime.working,
            waiting=runtime.waiting,
        ),
    }
    if beside_polls:
        stripe = rate_limiters[Side.STRIPE]
        stripe.permit = _beside_polls(config, counted_in or store, runtime).permit
        stripe.steadily = True
    source = StripeSource(
        config.stripe_api_key,
        config.stripe.api_base,
        _calling(rate_limiters[Side.STRIPE], telemetry, runtime),
        config.push.invoice_metadata_key,
        config.stripe.account,
        is_organization_key(config.stripe_api_key),
        runtime.transport,
    )
    calling = _calling(rate_limiters[Side.HALO], telemetry, runtime)
    return source, _sink(config, calling, runtime, store, counted_in or store), rate_limiters


def _beside_polls(config: Config, store: Store, runtime: Runtime) -> ReadsBesidePolls:
    """Build what decides whether other work than polls may read from Stripe."""
    budget, window = config.stripe.read_budget, stripe_window(0)
    return ReadsBesidePolls(store, budget, config.poll.seconds, window, runtime.now)


def _sink(
    config: Config, calling: Calling, runtime: Runtime, store: Store, memory: Store
) -> HaloSink:
    """Build the client of the PSA; another PSA is chosen here.

    Args:
        config: the configuration.
        calling: how the client sends requests.
        runtime: the process's environment.
        store: the database of this run.
        memory: has what the service knows about the tenant.
    """
    sink = HaloSink(
        config.halo.url,
        config.halo.client_id,
        config.halo_client_secret,
        config.halo.scope,
        calling,
        runtime.transport,
        config.halo.new_row.fields,
        config.halo.tenant,
    )
    tenant = f"{config.halo.url} {config.halo.client_id}"
    sink.lists.trusted = memory.read(HIDDEN_INTENTS) == tenant
    sink.lists.keep = lambda trusted: store.write(HIDDEN_INTENTS, tenant if trusted else None)
    return sink


def build_engine(
    config: Config,
    store: Store,
    telemetry: Telemetry,
    runtime: Runtime,
    what: str,
    source: StripeSource,
    sink: Sink,
    rate_limiters: dict[Side, RateLimiter],
    plan: Plan | None = None,
) -> Engine:
    """Build an engine between Stripe (`source`) and a PSA (`sink`), within the rate limits `rate_limiters`.

    The other arguments are those of `assemble`.
    """
    rereads = Rereads(source, store, telemetry, runtime.now)
    listing = IntentListing(source, store, rereads, telemetry, runtime.now)
    reach = Reach(config.poll.overlap, config.poll.look_back)
    pace = _pace(config, store, rate_limiters[Side.STRIPE], runtime)
    learning = pace if isinstance(pace, PollPace) else None
    if learning is not None:
        source.payment_types = (*EVENT_TYPES, CREATED_EVENT)
    poller = Poller(source, store, reach, listing, rereads, telemetry, runtime.now, learning)
    sweeper = Sweeper(source, store, listing, rereads, telemetry, runtime.now)
    lease = None
    if plan is None:
        lease = Lease(store, this_process(what), runtime.now, requires=runtime.requires)
        rate_limiters[Side.HALO].keep = lease.keep
    tenant = TenantWrites(
        store,
        telemetry,
        runtime.now,
        tenant=f"{config.halo.url} {config.halo.client_id}",
        settings=write_settings(config),
    )
    pusher = Pusher(
        sink,
        store,
        lease,
        rereads,
        push_settings(config),
        telemetry,
        runtime.now,
        tenant,
        runtime.sleep,
        InsertWaits(runtime.monotonic),
        plan=plan,
    )
    # Another process may have decided in the meantime with an older configuration that it has not
    # reloaded.
    pusher.review = lambda: release_holds(config, store, runtime.now())
    reversal_sweeper = ReversalSweeper(source, sink, store, telemetry, runtime.now, rereads.between)
    pusher.may_reread = _may_reread(config, store, rate_limiters[Side.STRIPE], pace, runtime)
    return Engine(
        poller,
        sweeper,
        pusher,
        reversal_sweeper,
        Deliveries(source, store, runtime.now),
        store,
        rate_limiters,
        telemetry,
        runtime.now,
        runtime.random,
        pace,
        telemetry.succeeded,
        config.poll.sweep,
        min(SILENCE_SECONDS_MAX, config.stale_seconds / 2),
    )


def _may_reread(
    config: Config, store: Store, limiter: RateLimiter, pace: Pace, runtime: Runtime
) -> Callable[[], bool]:
    """Whether enough of Stripe's budget is left to re-read payments without rows."""
    beside = _beside_polls(config, store, runtime)

    def may_reread() -> bool:
        if pace.planned:
            return beside.left() > 0
        left = limiter.window.left(limiter.requests.counts(Side.STRIPE), runtime.now())
        return left > FIXED_REREADS_SHARE * limiter.window.limit

    return may_reread


def _pace(config: Config, store: Store, limiter: RateLimiter, runtime: Runtime) -> Pace:
    """Choose what decides when to poll, by poll.interval."""
    if config.poll.seconds is not None:
        return FixedPace(config.poll.seconds, store, limiter)
    ration = ration_of(config.stripe.read_budget, store, runtime.now())
    share = limiter.window.limit / max(1, ration.ceiling(runtime.now()))
    return PollPace(
        store, config.stripe.read_budget, limiter, min(1.0, share), runtime.now, runtime.monotonic
    )


def _calling(limiter: RateLimiter, telemetry: Telemetry, runtime: Runtime) -> Calling:
    side = str(limiter.side)

    def note(outcome: str) -> None:
        telemetry.count("requests", side=side, outcome=outcome)

    return Calling(
        take=limiter.take,
        done=limiter.give_back,
        room=limiter.room,
        has_room=limiter.has_room,
        note=note,
        sleep=runtime.sleep,
        now=runtime.now,
        retrying=runtime.retrying,
    )
