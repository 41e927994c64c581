"""Runs that end: one poll and push, a backfill, a resync. They raise what fails.

Does not belong here: the service's steps (`engine`), and signals: the command handles them and sets
the stop event.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from syncd.core.errors import BadAnswer, Failure, LeaseHeld, LinkFailure, Side
from syncd.core.payments import Observation
from syncd.core.records import Condition
from syncd.store.coordination import LAST, LINKS
from syncd.store.store import Store
from syncd.sync.engine import Engine
from syncd.sync.link import failing_as, remember_failures_shape
from syncd.sync.push.outcomes import LAG_SECONDS

WAITS_MAX = 100
"""How often a run waits for new rows that Halo's lists do not show yet."""

FAILURES_MAX = 20
"""How often in a row a backfill waits as long as a side asks, before it gives up."""

WAIT_SECONDS_MAX = 400.0
"""A backfill ends if a side asks it to wait for more seconds."""


class Watching(Protocol):
    """Shows the user why a run waits."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def waiting(self, side: Side, seconds: float) -> None:
        """Show that a side asked to wait."""


@dataclass(slots=True)
class Run:
    """One run of an engine, to its end.

    Attributes:
        sleep: waits for some seconds; raises Stopping when the process is asked to stop.
        random: a number from 0 to 1, for jitter.
        step: called at the start of each step: list, poll, sweep, push.
    """

    engine: Engine
    store: Store
    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]
    step: Callable[[str], None] = field(default=lambda _step: None)
    _waits: int = field(default=0, init=False)

    async def once(self) -> None:
        """One poll, a sweep if one is due, and one push; raises what failed, after all were tried.

        Raises:
            LinkFailure: Stripe or Halo does not answer, or failed on single payments.
            LeaseHeld: another process pushes.
        """
        answered = self.store.read(LAST["push"])
        if answered is not None:  # a timer's runs need not test a Halo that has just answered
            self.engine.last.setdefault("push", answered)
        steps = (
            ("poll", Side.STRIPE, self._poll),
            ("sweep", Side.STRIPE, self.engine.sweep_once),
            ("push", Side.HALO, self._push),
        )
        failure: LinkFailure | None = None
        lease_held: LeaseHeld | None = None
        for step, side, work in steps:
            self.step(step)
            try:
                with failing_as(side):
                    await work()
            except LeaseHeld as error:
                lease_held = error
            except LinkFailure as error:
                self._report_further(step, error, failure)
                failure = failure or error
        if failure is None and lease_held is not None:
            raise lease_held
        if failure is None:
            await self._note_links()
        engine = self.engine
        failure = (
            failure or engine.poller.rereads.trouble or engine.pusher.trouble or self._left_out()
        )
        if failure is not None:
            raise failure

    async def _poll(self) -> None:
        await self.engine.poller.poll()
        self.engine.worked("poll")

    async def _push(self) -> None:
        await self._push_until_nothing_is_open(self.engine.push_once)
        self._note_push()

    def _note_push(self) -> None:
        """Record that a push has worked, if Halo has answered one of its requests."""
        if self.engine.pusher.request_succeeded:
            self.engine.worked("push")

    def _report_further(self, step: str, error: LinkFailure, first: Failure | None) -> None:
        """Log a failure after the first one, which the run raises; store its answer's shape."""
        remember_failures_shape(self.store, error, self.engine.now())
        if first is not None:
            self.engine.report.log(
                "error", f"{step}_failed", side=str(error.side), reason=str(error)
            )

    async def resync(self, intent_id: str) -> tuple[Observation, LeaseHeld | None]:
        """Read one payment intent again and push it.

        Returns:
            Stripe's report, and which other process is already pushing, if any.

        Raises:
            IntentUnknown: Stripe does not know the payment intent.
            LinkFailure: Stripe or Halo does not answer.
        """
        current = await self.engine.sweeper.resync(intent_id)
        self.step("push")
        try:
            await self._push_until_nothing_is_open(self.engine.pusher.push)
        except LeaseHeld as error:
            return current, error
        return current, None

    async def backfill(self, since: int, asked: str, watching: Watching) -> LinkFailure | None:
        """List all payment intents since a time, then push until nothing is due.

        Args:
            since: Unix seconds.
            asked: what the user typed; the same text resumes a backfill that was stopped.
            watching: shows why the run waits.

        Returns:
            Why a payment could not be re-read although Stripe works; None if all could.

        Raises:
            LinkFailure: Stripe or Halo does not answer, or failed on single payments.
        """
        failure: LinkFailure | None = None
        listed = 0
        self.step("list")
        try:
            with failing_as(Side.STRIPE):
                listed = await self.list_since(since, asked)
            self.engine.report.log("info", "backfill_listed", payments=listed)
        except LinkFailure as error:
            self._report_further("list", error, None)
            failure = error  # due payments are pushed nevertheless
        self.step("push")
        try:
            await self.push_all(watching)
        except LinkFailure as error:
            self._report_further("push", error, failure)
            failure = failure or error
        if failure is not None:
            raise failure
        self._note_push()
        await self._note_links()
        self.engine.report.log("info", "backfill_done", payments=listed)
        return self.engine.poller.rereads.trouble

    async def list_since(self, since: int, asked: str) -> int:
        """List payment intents, refunds, disputes since a time; return the number of the first."""
        listed = await self.engine.sweeper.backfill(since, asked)
        await self.engine.reversal_sweeper.list_since(since)
        return listed

    async def push_all(self, watching: Watching) -> None:
        """Push until nothing is open; wait for another process's push, and as long as Halo asks.

        Raises:
            LinkFailure: Halo does not answer, or failed on single payments, which are postponed.
        """
        pusher, holder, failures = self.engine.pusher, "", 0
        trouble: LinkFailure | None = None

        async def push_or_wait() -> int:
            nonlocal holder, failures, trouble
            try:
                done = await pusher.push()
            except LeaseHeld as error:
                if error.holder != holder:
                    holder = error.holder
                    self.engine.report.log("info", "waiting_for_other", holder=holder)
                watching.note(f"{holder} is pushing; waiting")
                await self.sleep(1.0)
            except LinkFailure as error:
                trouble, failures = error, failures + 1
                self._report_further("push", error, None)
                await self._wait_as_asked(error, failures, watching)
            else:
                trouble, failures = trouble or pusher.trouble, 0
                return done
            return 1  # due payments are worth another attempt

        await self._push_until_nothing_is_open(push_or_wait)
        trouble = trouble if self.store.people.conditions()[Condition.DUE] else None
        if trouble := trouble or self._left_out():
            raise trouble

    async def _push_until_nothing_is_open(self, push: Callable[[], Awaitable[int]]) -> None:
        """Push repeatedly while payments are due, or new rows may appear in a moment.

        Args:
            push: pushes once, and returns how many payments it examined. After 0, the remaining due
                payments cannot be pushed now: the tenant's writes are stopped.
        """
        while True:
            done = await push()
            more = done > 0 and self.store.due_count(self.engine.now()) > 0
            if not more and not await self._wait_for_rows():
                return

    async def _wait_as_asked(self, error: LinkFailure, failures: int, watching: Watching) -> None:
        """Wait as long as a side asked.

        Raises:
            LinkFailure: `error`, if the side did not ask for a wait, or asked for too long or too
                often.
        """
        wait = error.retry_after_seconds
        if wait is None or wait > WAIT_SECONDS_MAX or failures > FAILURES_MAX:
            raise error
        self.engine.report.log(
            "info", "waiting", side=str(error.side), seconds=wait, reason=str(error)
        )
        watching.waiting(error.side, wait)
        await self.sleep(wait + self.random())

    async def _wait_for_rows(self) -> bool:
        """Wait for new rows that Halo's lists may show in a moment. Returns whether there are any."""
        now = self.engine.now()
        if self.engine.pusher.plan is not None or self._waits == WAITS_MAX:
            return False
        looks = [
            row.next_try
            for row in self.store.doubtful_inserts(now)
            if row.doubt_until <= now + LAG_SECONDS
        ]
        looks += self._earlier_inserts(now)
        if (seconds := self.engine.pusher.waiting_seconds()) > 0:
            looks.append(now + seconds)
        if not looks:
            return False
        seconds = max(0.0, max(looks) - now) + 0.1  # the clock may be set back during the sleep
        self._waits += 1
        self.engine.report.log(
            "info", "looking_again", payments=len(looks), seconds=round(seconds, 1)
        )
        await self.sleep(seconds)
        return True

    def _earlier_inserts(self, now: float) -> list[float]:
        """When the waits for new rows that an earlier process sent are over (Unix seconds).

        Without these, runs by a timer would never send such a row again: each run is a new process.
        """
        overdue = self.engine.pusher.waits.overdue(now)
        found = {name: self.store.payment(name) for name in overdue}
        return [
            now + overdue[name]
            for name, row in found.items()
            if row and row["condition"] == Condition.DUE and row["doubt_until"] is not None
        ]

    def _left_out(self) -> LinkFailure | None:
        """The failure of a write that was sent and that Halo does not show yet; None without one."""
        if self.engine.pusher.plan is not None:
            return None
        doubtful = self.store.doubtful_inserts(self.engine.now())
        first = self.engine.pusher.tenant.trial()
        if first is not None:
            return BadAnswer(
                Side.HALO,
                f"syncd sent Halo an update for {first.intent_id}, the first one of this tenant, and got no "
                "answer. Halo may still carry it out. All payments stay due: syncd reads the row "
                "back and sends nothing else for five minutes.",
            )
        if not doubtful:
            return None
        return BadAnswer(
            Side.HALO,
            f"syncd sent Halo a new row for {doubtful[0].intent_id}, but neither Halo's answer nor its "
            "lists show the row yet. The payment stays due: syncd looks for the row before it sends "
            "anything again.",
        )

    async def _note_links(self) -> None:
        """Clear the stored failures of Stripe, after Stripe has answered, and check Halo.

        Raises:
            LinkFailure: Halo does not work.
        """
        engine = self.engine
        engine.link_works(Side.STRIPE)
        if self.store.read(LINKS[Side.HALO]) is not None:
            if not engine.pusher.request_succeeded:
                await engine.pusher.ask_for_anything()
            engine.link_works(Side.HALO)
