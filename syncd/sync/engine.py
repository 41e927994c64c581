"""The steps of the service: poll, push, sweep; and what happens if a side does not answer.

If Stripe or Halo does not answer, the engine sends no requests to that side for a while and retries
with backoff (`link`). This does not count as a failed attempt for any payment. `syncd status` and
`/readyz` show it. Runs that end (`--once`, `--backfill`, `resync`) are in `run`.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from syncd.clients.throttle import RateLimiter
from syncd.core.errors import (
    BadAnswer,
    CursorRefused,
    Failure,
    LeaseHeld,
    LinkFailure,
    ServerError,
    Side,
    Stopping,
    StoreUnavailable,
    StoreUnusable,
)
from syncd.core.records import Condition
from syncd.monitor.report import Report
from syncd.store.coordination import LAST, LINKS, SWEEPS_COUNTED_FROM, SWEPT, LinkNote, PushStart
from syncd.store.store import Store
from syncd.sync.link import Link, failing_as, remember_failures_shape
from syncd.sync.pull.deliveries import Deliveries
from syncd.sync.pull.pace import Pace
from syncd.sync.pull.poll import Poller
from syncd.sync.pull.reversals import ReversalSweeper
from syncd.sync.pull.sweep import Sweeper
from syncd.sync.push.pusher import Pusher

READ_BACK = (Condition.IN_STEP, Condition.UNMATCHED, Condition.NOT_HALOS, Condition.HELD)
"""Conditions of payments that a read of Halo's rows may change."""

OTHER_PUSH_SECONDS = 120.0
"""How long an answer that Halo gave another process counts for this process, in seconds."""

SPREAD_SWEEP_SECONDS = 86_400
"""The minimum time between sweeps while Stripe's budget makes polls rarer than configured."""

_SIDES = {"poll": Side.STRIPE, "sweep": Side.STRIPE, "push": Side.HALO}
"""The side that a step's failure is blamed on if the failure names none."""


@dataclass(slots=True)
class Engine:
    """The steps of the service: poll, sweep, push.

    Attributes:
        pace: decides when to poll.
        sweep_seconds: how often to sweep, as configured.
        random: a number from 0 to 1, for jitter.
        silence_seconds: after so long without an answer from Halo, a push tests Halo with a
            request.
        last: when each step (poll, push, sweep) last worked, Unix seconds. A push has worked when
            Halo has answered one of its requests; a service that has just started therefore sends
            one request.
    """

    poller: Poller
    sweeper: Sweeper
    pusher: Pusher
    reversal_sweeper: ReversalSweeper
    deliveries: Deliveries
    store: Store
    rate_limiters: dict[Side, RateLimiter]
    report: Report
    now: Callable[[], float]
    random: Callable[[], float]
    pace: Pace
    succeeded: Callable[[str, float], None]
    sweep_seconds: int
    silence_seconds: float = 0.0
    links: dict[Side, Link] = field(default_factory=lambda: {side: Link() for side in Side})
    last: dict[str, float] = field(default_factory=dict)
    store_trouble: str | None = None
    _last_poll: float = field(default=0.0, init=False)
    _spread: bool = field(default=False, init=False)

    # --- the daemon's steps: they raise only StoreUnusable; they handle all other failures --------

    async def poll(self) -> None:
        """Poll once, unless Stripe is paused or its budget is used up.

        If the planner decides when to poll, `poll_is_due` has decided before.
        """
        with self._minding_store("poll"):
            now = self.now()
            if self.links[Side.STRIPE].paused(now):
                return
            if not self.pace.planned and self._too_early(now):
                return
            self._last_poll = now
            if await self._step("polls", "poll", self.poller.poll) and (
                self.poller.failing or self.links[Side.STRIPE].failures
            ):
                self.link_works(Side.STRIPE)
            self.pace.remember()

    def poll_is_due(self) -> bool:
        """Whether the planner wants a poll now; always true with a fixed interval."""
        with self._minding_store("poll"):
            now = self.now()
            return not (
                self.pace.planned and (self.links[Side.STRIPE].paused(now) or self._too_early(now))
            )
        return False

    def _too_early(self, now: float) -> bool:
        early = self.pace.too_early(now, self._last_poll)
        if self.pace.spread != self._spread:
            self._spread = self.pace.spread
            self.pace.report_spread(self.report)
        return early

    async def push(self) -> None:
        """Push what is due, unless Halo is paused or another process pushes."""
        with self._minding_store("push"):
            link = self.links[Side.HALO]
            if link.paused(self.now()):
                return
            start = self.store.coordination.push_start(self.now())
            if (link.failures or start.failing) and not start.due:
                if self.store.people.conditions()[Condition.DUE]:
                    return  # the failed request waits; nothing proves that Halo works
                if await self._step(None, "push", self.pusher.ask_for_anything):
                    self.link_works(Side.HALO)
                return
            pushed = await self._step(None, "push", partial(self.push_once, start), whole=False)
            if not (pushed and self.pusher.request_succeeded):
                return
            self.worked("push")
            if self.pusher.write_succeeded or not link.writing:
                self.link_works(Side.HALO)

    async def push_once(self, start: PushStart | None = None) -> int:
        """Push what is due, then look up payments that were refunded. Raises what fails.

        If no request was needed for long, one cheap request tests whether Halo still answers.

        Args:
            start: what the store has to push, if the caller has just read it.

        Returns:
            How many payments the push examined.
        """
        try:
            done = await self.pusher.push(start)
        except LinkFailure as error:
            if isinstance(error, ServerError | BadAnswer) or error.side is Side.STRIPE:
                with contextlib.suppress(LinkFailure):  # refunds do not wait for a payment
                    await self.reversal_sweeper.place()
            raise
        if start is None or start.due or start.unplaced:
            await self.reversal_sweeper.place()
        pusher = self.pusher
        if pusher.plan is None and not pusher.request_succeeded and self._is_halo_silent():
            await pusher.ask_for_anything()
        return done

    def _is_halo_silent(self) -> bool:
        """Whether Halo's last answer to a push is so old that syncd must test Halo with a request."""
        last = self.last.get("push")
        return last is None or not 0 <= self.now() - last < self.silence_seconds

    async def sweep(self) -> None:
        """Sweep once: Stripe's last days, and Halo's rows, even if the other half fails."""
        await self.sweep_halo(whole=await self.sweep_stripe())

    async def sweep_stripe(self) -> bool:
        """Sweep Stripe's last days, unless Stripe is paused. Returns whether that worked."""
        with self._minding_store("sweep"):
            if self.links[Side.STRIPE].paused(self.now()):
                return False
            return await self._step("sweeps", "sweep", self._sweep_stripe, whole=False)
        return False

    def half_is_done(self, side: Side) -> bool:
        """Whether a side's half of the present sweep has worked, while the other half failed."""
        done, last = self.store.read(SWEPT[side]), self.store.read(LAST["sweep"]) or 0
        return done is not None and done > last and 0 <= self.now() - done < self.sweep_seconds

    async def sweep_once(self) -> None:
        """Sweep if a sweep is due, for runs that a timer starts without a service.

        Raises:
            LinkFailure: Stripe or Halo does not answer; the sweep stays due.
            LeaseHeld: another process pushes.
        """
        if not self.sweep_is_due(self.now()):
            return
        failure: LinkFailure | None = None
        lease_held: LeaseHeld | None = None
        for side, half in ((Side.STRIPE, self._sweep_stripe), (Side.HALO, self._sweep_halo)):
            if self.half_is_done(side):
                continue
            try:
                with failing_as(side):
                    await half()
            except LeaseHeld as error:
                lease_held = error
            except LinkFailure as error:
                failure = failure or error
        if failure is not None:
            raise failure
        if lease_held is not None:
            raise lease_held
        self.worked("sweep")

    async def count_undelivered(self) -> None:
        """Once a day, count the events that webhooks did not deliver; nothing depends on it."""
        if self.links[Side.STRIPE].paused(self.now()) or not self.deliveries.is_due():
            return
        if not self.pusher.may_reread():
            return  # more than half of stripe.read_budget is used: polls need the rest
        try:
            found = await self.deliveries.read()
        except (LinkFailure, CursorRefused) as error:
            self.report.log("info", "undelivered_unknown", reason=str(error))
            return
        self.report.log(
            "info", "undelivered", events=found.number, oldest=found.oldest_at, text=found.found
        )

    async def sweep_halo(self, *, whole: bool = True) -> None:
        """Read Halo's rows again, and compare them with the store.

        Args:
            whole: whether Stripe's half worked: then the whole sweep has worked if this half works.
        """

        async def read_back() -> None:
            with failing_as(Side.HALO):
                await self._sweep_halo()

        with self._minding_store("sweep"):
            await self._step("sweeps" if whole else None, "sweep", read_back, whole=whole)

    @contextmanager
    def _minding_store(self, step: str) -> Iterator[None]:
        """Handle a database that is locked or full at any point, also while an outcome is recorded."""
        try:
            yield
        except StoreUnavailable as error:
            self.store_trouble = str(error)
            self.report.log("error", f"{step}_failed", side="store", reason=str(error))

    async def _sweep_stripe(self) -> None:
        failure: Failure | None = None
        for work in (self.sweeper.sweep, self.reversal_sweeper.sweep):
            try:
                with failing_as(Side.STRIPE):
                    await work()
            except LinkFailure as error:
                failure = failure or error
        if failure is not None:
            raise failure
        self.store.write(SWEPT[Side.STRIPE], int(self.now()))

    async def _sweep_halo(self) -> None:
        await self.read_back()
        self.store.write(SWEPT[Side.HALO], int(self.now()))
        mark = self.poller.watermark()
        if mark is not None:
            self.store.housekeeping.prune(
                self.now(), mark - 2 * self.poller.reach.overlap_seconds - 86_400
            )

    async def read_back(self) -> int:
        """Read Halo's rows, and make payments due that they contradict. Returns how many payments."""
        conditions = self.store.people.conditions()
        if not any(conditions[condition] for condition in READ_BACK):
            return 0
        began = self.now()
        with self.pusher.by_hand():
            whole = await self.pusher.read_back()
            await self.pusher.all_rows.name_newest()
            policy = self.pusher.settings.policy
            drifted = self.store.rows.drifted(
                policy.numbers,
                self.now(),
                whole=whole,
                amounts_compared=not policy.push_on_mismatch,
                read_from=began,
            )
            self.pusher.all_rows.forget()
        if drifted:
            self.report.log("warning", "drifted", payments=drifted)
        return drifted

    async def _step(
        self, counter: str | None, step: str, work: Callable[[], object], *, whole: bool = True
    ) -> bool:
        """Do some work. Returns whether it worked.

        Args:
            counter: the metric to count in, by outcome.
            step: the step's name.
            work: a coroutine function.
            whole: whether the step has worked if this work has.
        """
        try:
            with failing_as(_SIDES[step]):
                await work()  # type: ignore[misc]  # each is a coroutine function
        except LeaseHeld as error:
            self.report.log("info", "push_left_to_other", holder=error.holder)
            if step == "push":  # a sweep that could not read Halo's rows stays due
                self._note_other_push()
            return False
        except LinkFailure as error:
            pause = self.links[error.side].failed(error, self.now(), self.random())
            self._remember_link(error.side)
            remember_failures_shape(self.store, error, self.now())
            self.report.log(
                "warning",
                f"{step}_failed",
                side=str(error.side),
                reason=str(error),
                pause_seconds=round(pause, 1),
                failures=self.links[error.side].failures,
            )
        except (Stopping, StoreUnavailable, StoreUnusable) as error:
            if counter is not None and not isinstance(error, Stopping):
                self.report.count(counter, outcome="failed")
            raise
        except Failure as error:
            self.report.log("error", f"{step}_failed", reason=str(error))
        else:
            self.store_trouble = None
            if whole:
                self.worked(step)
                if counter is not None:
                    self.report.count(counter, outcome="ok")
            return True
        if counter is not None:
            self.report.count(counter, outcome="failed")
        return False

    def _note_other_push(self) -> None:
        """Record that Halo has just answered another process, which holds the push lock.

        The lock alone proves nothing: Halo may be down for the other process as well.
        """
        noted = self.store.read(LAST["push"]) or 0
        if 0 <= self.now() - noted <= OTHER_PUSH_SECONDS and noted > self.last.get("push", 0.0):
            self.last["push"] = noted
            self.succeeded("push", noted)

    def sweep_is_due(self, started: float) -> bool:
        """Whether a sweep is due: the last sweep that worked is long enough ago.

        While Stripe's budget makes polls rarer than configured, a sweep is due once a day at most,
        because sweeps would use up the reads that polls need.

        Args:
            started: when this process started, Unix seconds. If no sweep has worked yet, the start
                of the first process counts, so that a service that is restarted every day sweeps as
                well.
        """
        last: float | None = self.store.read(LAST["sweep"])
        if last is None:
            first = self.store.read(SWEEPS_COUNTED_FROM)
            if first is None:
                self.store.write(SWEEPS_COUNTED_FROM, first := int(started))
            last = min(first, started)
        now = self.now()
        if 0 <= now - last < self.sweep_seconds:
            return False
        if not 0 <= now - last < SPREAD_SWEEP_SECONDS:
            return True
        self.pace.too_early(now, self._last_poll)
        return not self.pace.spread

    def worked(self, step: str) -> None:
        """Record that a step (poll, push, sweep) has just worked."""
        self.last[step] = self.now()
        self.succeeded(step, self.now())
        if step != "poll" or not self.poller.noted:
            self.store.write(LAST[step], int(self.now()))

    def link_works(self, side: Side) -> None:
        """Record that a side works, also for `syncd status`, which is another process."""
        if self.links[side].failures:
            self.report.log("info", "link_works_again", side=str(side))
        self.links[side].worked()
        if self.store.read(LINKS[side]) is not None:
            self._remember_link(side)

    def _remember_link(self, side: Side) -> None:
        """Record the state of a side for `syncd status`, which is another process."""
        link = self.links[side]
        failing = LinkNote(link.reason, link.since) if link.reason else None
        self.store.write(LINKS[side], failing)
