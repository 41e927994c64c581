"""Pushes what is due: look up rows, decide, write, record the outcome.

The docstring of the package explains the order of a payment's push.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

from syncd.clients.retry import Sleep
from syncd.core.errors import LinkFailure
from syncd.core.records import DuePayment
from syncd.core.rules.blame import RequestFailures
from syncd.core.rules.decisions import Create, Update
from syncd.core.rules.proof import WriteKind
from syncd.monitor.report import Report
from syncd.store.coordination import LAST, PushStart
from syncd.store.store import Store
from syncd.sync.lease import Lease
from syncd.sync.policy import PushSettings
from syncd.sync.pull.read_back import AllRows, KnownRows, Progress
from syncd.sync.pull.rereads import Rereads
from syncd.sync.push.backlog import Backlog, FreshPayments
from syncd.sync.push.guard import InsertWaits
from syncd.sync.push.insert import Inserter
from syncd.sync.push.lookup import Decided, Lookup
from syncd.sync.push.outcomes import Outcomes, Plan
from syncd.sync.push.proof.new_row import NewRowProver
from syncd.sync.push.proof.prover import Prover
from syncd.sync.push.proof.tenant import TenantWrites, WritesStopped
from syncd.sync.push.proof.verify import Verifier
from syncd.sync.push.update import Updater, batches
from syncd.sync.sink import Sink

LOOKS_MAX = 3
"""How often a lookup is repeated that is too old by the time of the write."""

ROUNDS_MAX = 6

KEPT_FOR_FRESH = 15
"""How many requests a backlog leaves over for payments of the last hour."""

PAGES_SECONDS = 60.0
"""Rows from pages older than this (seconds) are read again for payments of the last hour."""


@dataclass(slots=True)
class Pusher:
    """Writes the state that Stripe reports to Halo's rows.

    Attributes:
        waits: how long to wait before a new row is sent again.
        plan: called by a dry run with each planned action; None for a real run.
        review: called before any decision: reviews holds of another configuration.
        progress: called with how many payments were pushed, of how many.
        may_reread: whether enough of Stripe's budget is left to re-read payments without rows.
        all_rows: reads Halo's rows page by page.
        outcomes: reports the outcome of each payment.
    """

    sink: Sink
    store: Store
    lease: Lease | None
    rereads: Rereads
    settings: PushSettings
    report: Report
    now: Callable[[], float]
    tenant: TenantWrites
    sleep: Sleep
    waits: InsertWaits
    plan: Plan | None = None
    review: Callable[[], object] = field(default=lambda: None)
    progress: Progress = field(default=lambda _done, _due: None)
    may_reread: Callable[[], bool] = field(default=lambda: True)
    all_rows: AllRows = field(init=False)
    outcomes: Outcomes = field(init=False)
    _troubles: RequestFailures = field(init=False, default_factory=RequestFailures)
    _backlog: Backlog = field(init=False)
    _lookup: Lookup = field(init=False)
    _updater: Updater = field(init=False)
    _inserter: Inserter = field(init=False)
    _prover: Prover = field(init=False)
    _verifier: Verifier = field(init=False)
    _batch: int = field(init=False, default=0)
    _done: int = field(init=False, default=0)
    _fresh: FreshPayments = field(init=False)
    _due: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.all_rows = AllRows(self.sink, self.store, self.report, self.now, self._hold_lease)
        numbers = self.settings.policy.numbers
        self.outcomes = Outcomes(self.report, self.now, numbers, self.plan, self.store)
        self._backlog = Backlog(self.store, self.outcomes, self._troubles, self.report, self.now)
        self._fresh = FreshPayments(self.store, self.now)
        self._lookup = Lookup(
            self.sink,
            self.store,
            self.rereads,
            self.settings,
            self.outcomes,
            self._backlog,
            self.now,
            lambda: self.may_reread(),  # noqa: PLW0108  # set later
        )
        self._prover = Prover(
            self.sink,
            self.store,
            self.settings,
            self.outcomes,
            self.tenant,
            self._backlog,
            self.now,
            self.lease,
            self.sleep,
            self.waits,
        )
        self._verifier = Verifier(self.sink, self.tenant, self.sleep, self.waits)
        self._updater = Updater(
            self.sink,
            self.store,
            self.settings,
            self.outcomes,
            self._backlog,
            self._verifier,
            self.now,
            self.lease,
        )
        self._inserter = Inserter(
            self.sink,
            self.store,
            self.settings,
            self.outcomes,
            self._troubles,
            self.tenant,
            NewRowProver(
                self.sink, self.store, self.settings, self.tenant, self.waits, self.now, self.sleep
            ),
            self.report,
            self.now,
            self.lease,
            self.waits,
        )

    async def push(self, start: PushStart | None = None) -> int:
        """Push all that is due (`start`, if known). Returns how many payments were examined.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: Halo (or Stripe) does not answer; the remaining payments stay due.
        """
        self._backlog.begin()
        self._lookup.begin()
        self._verifier.begin()
        self._fresh.begin()
        self._done = 0
        start = start or self.store.coordination.push_start(self.now())
        self._due = start.due
        if self._due == 0:
            self.all_rows.forget_outdated(self.leased, kept=start.rows_kept)
            return 0
        with self.leased():
            self.review()
            self.tenant.begin()
            if not await self._may_write():
                return 0
            after = self._backlog.resume_point()
            self._batch = self._backlog.batch_size(self.settings.batch)
            for _ in range(ROUNDS_MAX):
                # Process only what was due when the round began, or rounds might never end.
                if (due := self.store.due_count(self.now())) == 0:
                    break
                try:
                    await self._round(due, after)
                except WritesStopped:
                    break
                after = ""
                self.all_rows.forget()
                if waits := self.tenant.waits_for_first_update(self._backlog.failing()):
                    self._backlog.trouble = self._backlog.trouble or waits
                    return 0  # another round or push would read the same rows and send nothing
        return self._done

    async def _may_write(self) -> bool:
        """Whether this tenant may be written, after a check of what an earlier push left open."""
        if self.plan is not None:
            return True
        with suppress(WritesStopped):
            if self.tenant.may_try(WriteKind.UPDATE) and await self._prover.resume():
                await self._verifier.check_unanswered(late=True)
                return True
        return False

    async def read_back(self) -> bool:
        """Read all rows of the PSA, for a sweep, within `by_hand`. Returns whether they are all.

        Between two pages, payments of the last hour are pushed. Raises as `push`.
        """
        self._batch = self._backlog.batch_size(self.settings.batch)
        writes = await self._may_write()

        async def make_way(requests: int) -> None:
            if writes:
                with suppress(WritesStopped):
                    await self._make_way(requests)

        return await self.all_rows.read(by_number=True, make_way=make_way)

    async def look_up(self, due_payments: Sequence[DuePayment]) -> Decided:
        """Decide about payments as a push does, and send nothing: for a proof by hand.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: a request to Halo (or to Stripe) failed.
        """
        with self.by_hand():
            decided = await self._lookup.decide(due_payments, None)
        if not (decided.updates or decided.creates):
            self._troubles.raise_found()
        return decided

    async def prove(self, intent_id: str, kind: WriteKind) -> bool:
        """Write one payment's rows alone and read them back, even if such a write is proven.

        Returns:
            Whether the payment still needed that kind of write. The outcome is in `tenant` and the
            store.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: a request to Halo failed.
        """
        with self.by_hand():
            if not await self._prover.resume(restore=False):
                return True
            due = self.store.due_payment(intent_id, self.now())
            decided = Decided() if due is None else await self._lookup.decide([due], None)
            if kind is WriteKind.UPDATE and decided.updates:
                await self._prover.prove(decided.updates, by_hand=True)
            elif kind is WriteKind.INSERT and decided.creates:
                self.tenant.try_again(kind)
                await self._insert(*decided.creates[0])
            else:
                return False
        self._troubles.raise_found()
        if self._backlog.trouble is not None:
            raise self._backlog.trouble
        return True

    @contextmanager
    def by_hand(self) -> Iterator[None]:
        """A push of single payments: started, under the lease, and finished."""
        self._fresh.begin()
        self._backlog.begin()
        self._lookup.begin()
        self._verifier.begin()
        with self.leased():
            self.review()
            self.tenant.begin()
            try:
                yield
            finally:
                self._backlog.trying = None
                self._backlog.finish(complete=True)

    def waiting_seconds(self) -> float:
        """How long to wait for a first write of this tenant that an earlier process sent long ago.

        With a timer, each run is a new process, which cannot know how long Halo has had the write.
        """
        if self.plan is not None:
            return 0.0
        return max(prover.overdue_seconds() for prover in (self._prover, self._inserter.prover))

    async def ask_for_anything(self) -> None:
        """Read the first page of Halo's rows, to test Halo; raises LinkFailure."""
        await self._lookup.ask_for_anything()

    @property
    def trouble(self) -> LinkFailure | None:
        """Why the last push postponed a payment although Halo works; None without one."""
        return self._backlog.trouble

    @property
    def request_succeeded(self) -> bool:
        """Whether Halo answered a read in the last push."""
        return self._troubles.read or self._troubles.wrote

    @property
    def write_succeeded(self) -> bool:
        """Whether Halo accepted a row in the last push."""
        return self._troubles.wrote

    def leased(self) -> AbstractContextManager[None]:
        """Hold the lease while writing to Halo or to the table of Halo's rows.

        Raises:
            LeaseHeld: another process pushes.
        """
        return nullcontext() if self.lease is None else self.lease.taken()

    def _hold_lease(self) -> None:
        if self.lease is not None:
            self.lease.keep()

    async def _round(self, due: int, after: str) -> None:
        """Process everything that is due once; after an interrupted push, process the remainder."""
        before, began, whole, resumed = self.now(), self.waits.monotonic(), False, bool(after)
        try:
            paged = await self.all_rows.read_for_due(due, before, self._make_way)
            if paged:
                self._troubles.has_read()
            fresh_pages = paged and not self.all_rows.resumed
            size = self.settings.batch * 4 if paged else self.settings.batch
            while True:
                due_payments, rows = self.all_rows.coming(before, size, after, paged=paged)
                if due > size:
                    recent = fresh_pages and self.waits.monotonic() - began < PAGES_SECONDS
                    requests = size if rows is None else len(due_payments) - len(rows) + 1
                    if await self._make_way(requests, paged=recent):
                        due_payments, rows = self.all_rows.coming(before, size, after, paged=paged)
                if not due_payments:
                    break
                await self._chunk(due_payments, rows)
                after = due_payments[-1].intent_id
                self._done += len(due_payments)
                if self.lease is not None and self.request_succeeded:
                    # For other processes, which wait for the lock: Halo works.
                    self.store.write(LAST["push"], int(self.now()))
                self.progress(min(self._done, self._due), self._due)
            if self._troubles.unclear_reads():
                await self.ask_for_anything()
            whole = True
        finally:
            if not whole and self._backlog.trying is not None:
                self._backlog.resume_after(self._backlog.trying)
            self._backlog.finish(complete=whole)
        self._troubles.raise_found()
        if resumed:  # the payments before the resume point may need smaller lists
            self._backlog.resume_after(None)
        elif self._batch < self.settings.batch:
            self._backlog.set_batch_size(None)
            self._batch = self.settings.batch

    async def _make_way(self, requests: int, *, paged: bool = False) -> bool:
        """Push payments of the last hour, until the rate limit allows the backlog's requests.

        Some requests are left over for later payments. The push lease is renewed. Raises as `push`.
        Returns whether there was something to push, or to wait for.
        """
        waited = False
        while True:
            self._hold_lease()
            if fresh := self._fresh.not_tried():
                await self._chunk(fresh, self.all_rows.of(fresh) if paged else None)
                self._fresh.intents.update(due.intent_id for due in fresh)
            waited = waited or bool(fresh)
            if await self.sink.has_room(requests + KEPT_FOR_FRESH):
                return waited
            waited = True

    async def _chunk(self, due_payments: Sequence[DuePayment], kept: KnownRows | None) -> None:
        """Decide about some payments, write what was decided, and record the outcomes.

        `kept` are the rows of these payments as pages showed them; without them, look each one up.
        """
        if kept is not None:  # rows written since the pages were read are read again
            kept = {name: rows for name, rows in kept.items() if name not in self._fresh.intents}
        decided = await self._lookup.decide(due_payments, kept)
        updates = await self._proven(decided.updates)
        for batch in batches(updates, self._batch):
            self._backlog.trying = batch[-1][0].intent_id
            await self._updater.send(batch)
        for due, create in decided.creates:
            self._backlog.trying = due.intent_id
            await self._insert(due, create)
            if not self._inserter.may_go_on():
                break  # the second new row waits until the first is proven
        self._backlog.trying = None

    async def _insert(self, due: DuePayment, create: Create) -> None:
        for _ in range(LOOKS_MAX):
            if await self._inserter.insert(due, create):
                return
        slow = self._inserter.postpone(due)
        self._backlog.trouble = self._backlog.trouble or slow

    async def _proven(
        self, updates: list[tuple[DuePayment, Update]]
    ) -> list[tuple[DuePayment, Update]]:
        """Prove updates with one of these payments, if not done yet. Returns those still to be sent.

        Raises:
            WritesStopped: nothing may be written in this tenant.
        """
        if self.plan is not None:
            return updates
        updates = await self._inserter.prover.without_first_row(updates)
        return await self._prover.prove_first(updates)
