"""Push: gather Halo's rows for what is due, decide, apply, write down what came of it.

Everything that is due is found in the store, so a push that was stopped at any point is simply
begun again. What a single request left open (a 2xx that proves nothing, a row that may have been
inserted) stays due, and the next round reads Halo before it does anything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from syncd.clients.halo.sink import NOBODYS, HaloSink
from syncd.core.decisions import AskStripe, Create, Decision, Hold, Update, decide
from syncd.core.errors import (
    BadAnswer,
    BudgetSpent,
    LinkFailure,
    ListingBroken,
    PermissionMissing,
    RateLimited,
    ServerTrouble,
    Side,
    SignInRefused,
    Unreachable,
)
from syncd.core.records import Outcome, Work
from syncd.core.rows import Row, SeenRow, seen
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.sync.lease import Lease
from syncd.sync.pull.poll import Observer
from syncd.sync.push.backlog import Unfinished
from syncd.sync.push.blame import IN_A_ROW_MAX, Troubles
from syncd.sync.push.insert import Inserter
from syncd.sync.push.outcomes import Outcomes, Plan, due_again
from syncd.sync.push.payload import Overtaken, Ways
from syncd.sync.push.update import Updater, batches
from syncd.sync.read_back import AllRows, Progress

LOOKS_MAX = 3
"""How often Halo is asked for it again, where that had become too long ago."""

ASK_LATER_SECONDS = 300.0
"""How long a payment waits about which Stripe was to be asked again while it answers nobody."""

ROUNDS_MAX = 6


@dataclass(slots=True)
class Pusher:
    """Brings Halo's rows to what Stripe says.

    Attributes:
        plan: where a dry run says what it would do; None in earnest.
        review: called before anything is decided: decides again what was held under another
            configuration.
        progress: told how far a push is.
        all_rows: reads all of Halo's rows.
        outcomes: says what came of each payment.
    """

    sink: HaloSink
    store: Store
    lease: Lease | None
    observer: Observer
    ways: Ways
    report: Report
    now: Callable[[], float]
    plan: Plan | None = None
    review: Callable[[], object] = field(default=lambda: None)
    progress: Progress = field(default=lambda _done, _due: None)
    all_rows: AllRows = field(init=False)
    outcomes: Outcomes = field(init=False)
    _troubles: Troubles = field(init=False, default_factory=Troubles)
    _unfinished: Unfinished = field(init=False)
    _updater: Updater = field(init=False)
    _inserter: Inserter = field(init=False)
    _trying: str | None = field(init=False, default=None)
    _batch: int = field(init=False, default=0)
    _stripe_out: bool = field(init=False, default=False)
    _stripe_failures: int = field(init=False, default=0)
    _seen: dict[str, tuple[SeenRow, ...]] = field(init=False, default_factory=dict)
    _done: int = field(init=False, default=0)
    _due: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.all_rows = AllRows(self.sink, self.store, self.report, self._hold_lease)
        self.outcomes = Outcomes(self.report, self.now, self.ways.policy.numbers, self.plan)
        self._unfinished = Unfinished(
            self.store, self.outcomes, self._troubles, self.report, self.now
        )
        self._updater = Updater(
            self.sink, self.store, self.ways, self.outcomes, self._unfinished, self.now,
            self._about_to_send,
        )  # fmt: skip
        self._inserter = Inserter(
            self.sink, self.store, self.ways, self.outcomes, self._troubles, self.report, self.now,
            self._about_to_send,
        )  # fmt: skip

    async def push(self) -> int:
        """Push all that is due. Returns how many payments were looked at.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: Halo (or Stripe, asked again) can't be talked to; what is left stays due.
        """
        self._unfinished.begin()
        self._done, self._trying = 0, None
        self._stripe_out, self._stripe_failures = False, 0
        self._due = self.store.due_count(self.now())
        if self._due == 0:
            return 0
        with self.leased():
            self.review()
            after = self._unfinished.place()
            self._batch = self._unfinished.lists_of(self.ways.batch)
            for _ in range(ROUNDS_MAX):
                # What is found due from here on waits for the next push, or rounds never end.
                due = self.store.due_count(self.now())
                if due == 0:
                    break
                await self._round(due, after)
                after = ""
        return self._done

    @property
    def trouble(self) -> LinkFailure | None:
        """Why a payment was put off in the last push, though Halo works; None where none was."""
        return self._unfinished.trouble

    @property
    def halo_answered(self) -> bool:
        """Whether Halo answered a question in the last push."""
        return self._troubles.read or self._troubles.wrote

    @property
    def halo_wrote(self) -> bool:
        """Whether Halo took a row in the last push."""
        return self._troubles.wrote

    @contextmanager
    def leased(self) -> Iterator[None]:
        """Hold the lease: for whatever writes to Halo, or to the table of its rows.

        Raises:
            LeaseHeld: another process pushes.
        """
        if self.lease is None:
            yield
            return
        self.lease.take()
        try:
            yield
        finally:
            self.lease.give_back()

    def _hold_lease(self) -> None:
        if self.lease is not None:
            self.lease.renew()

    def _about_to_send(self, works: Sequence[Work]) -> None:
        """The last look before these payments' rows are written.

        Raises:
            LeaseHeld: another process pushes.
            Overtaken: what was decided about some of them has grown old.
        """
        self._hold_lease()
        if overtaken := self.store.overtaken(works):
            raise Overtaken(overtaken)

    async def _round(self, due: int, after: str) -> None:
        """Go once through all that is due, or, after a push that broke off, through the rest."""
        before, whole, resumed = self.now(), False, bool(after)
        try:
            paged = await self.all_rows.cheaper_for(due) and await self.all_rows.read()
            if paged:
                self._troubles.has_read()
            size = self.ways.batch * 4 if paged else self.ways.batch
            while work := self.store.due(before, size, after):
                await self._chunk(work, paged=paged)
                after = work[-1].payment.said.intent_id
                self._done += len(work)
                self.progress(min(self._done, self._due), self._due)
            if self._troubles.unclear_reads():
                await self.ask_for_anything()
            whole = True
        finally:
            if not whole and self._trying is not None:
                self._unfinished.go_on_behind(self._trying)
            self._unfinished.settle(whole=whole)
        if self._troubles.found:
            # Halo's first: its pause keeps a write from being tried at every tick.
            errors = [trouble.error for trouble in self._troubles.found]
            raise next((error for error in errors if error.side is Side.HALO), errors[0])
        if resumed:  # from the middle: those before may be the ones that need smaller lists
            self._unfinished.go_on_behind(None)
        elif self._batch < self.ways.batch:
            self._unfinished.use_lists_of(None)
            self._batch = self.ways.batch

    # --- decide ------------------------------------------------------------------------------------

    async def _chunk(self, works: Sequence[Work], *, paged: bool) -> None:
        """Decide about some payments, and apply it.

        A payment that fails a request alone is put off, so that it never keeps others waiting.
        """
        self._seen = {}
        ids = [work.payment.said.intent_id for work in works]
        kept = self.store.rows.of(ids) if paged else None
        outcomes: list[Outcome] = []
        updates: list[tuple[Work, Update]] = []
        creates: list[tuple[Work, Create]] = []
        try:
            await self._gather(works, kept, outcomes, updates, creates)
        finally:
            self.store.record(outcomes, self.now(), seen=self._seen)
        for batch in batches(updates, self._batch):
            self._trying = batch[-1][0].payment.said.intent_id
            await self._updater.send(batch)
        for work, create in creates:
            self._trying = work.payment.said.intent_id
            for _ in range(LOOKS_MAX):
                if await self._inserter.insert(work, create):
                    break
            else:
                self._inserter.give_up(work)
        self._trying = None

    async def _gather(
        self, works: Sequence[Work], kept: Mapping[str, list[Row]] | None,
        outcomes: list[Outcome], updates: list[tuple[Work, Update]],
        creates: list[tuple[Work, Create]],
    ) -> None:  # fmt: skip
        """Look each payment up and decide; what is decided is sorted into the three lists."""
        for work in works:
            self._trying = work.payment.said.intent_id
            try:
                decision = await self._decision(work, kept)
            except LinkFailure as error:
                if error.side is Side.STRIPE:
                    self._stripe_failed(error)
                elif not isinstance(error, ServerTrouble | BadAnswer | Unreachable):
                    raise
                elif error.retry_after_seconds is not None:
                    raise  # Halo asks to wait: whose fault it is can be asked afterwards
                elif isinstance(error, ListingBroken):
                    # Is it so whatever is asked for? Then no payment is to blame.
                    await self.sink.rows_of(NOBODYS)
                if self._troubles.add(work, error):
                    await self.ask_for_anything()
                continue
            if kept is None or isinstance(decision, Hold | Create):
                self._troubles.has_read()
            if isinstance(decision, Update):
                updates.append((work, decision))
            elif isinstance(decision, Create):
                creates.append((work, decision))
            elif isinstance(decision, AskStripe):
                outcomes.append(due_again(work, self.now() + ASK_LATER_SECONDS))
            elif decision is not None:
                outcomes.append(self.outcomes.settled(work, decision))

    async def _decision(self, work: Work, kept: Mapping[str, list[Row]] | None) -> Decision | None:
        """What to do about one payment; None where Stripe, asked again, now says something else.

        AskStripe where Stripe isn't asked any more in this push.
        """
        intent_id = work.payment.said.intent_id
        rows = await self.sink.rows_of(intent_id) if kept is None else kept[intent_id]
        decision = self._decide(work, rows)
        if kept is not None and isinstance(decision, Hold | Create):
            # Pages move while they are read; a person is not called for that.
            rows = await self.sink.rows_of(intent_id)
            decision = self._decide(work, rows)
        self._seen[intent_id] = seen(rows)
        if isinstance(decision, Create):
            self._seen[intent_id] = (SeenRow(None, decision.invoice_id),)
        if isinstance(decision, AskStripe) and not self._stripe_out:
            asked = await self._ask_stripe(work, rows)
            return None if isinstance(asked, AskStripe) else asked
        return decision

    def _stripe_failed(self, error: LinkFailure) -> None:
        """Stripe couldn't be asked again; where that isn't about one payment, it isn't asked on."""
        self._stripe_failures += 1
        everybodys = SignInRefused | PermissionMissing | RateLimited | BudgetSpent
        if isinstance(error, everybodys) or self._stripe_failures >= IN_A_ROW_MAX:
            self._stripe_out = True

    async def ask_for_anything(self) -> None:
        """Ask Halo for the first of all its rows: whether it answers at all.

        Raises:
            LinkFailure: it doesn't, and no payment is to blame.
        """
        async for _ in self.sink.pages():
            break
        self._troubles.has_read()

    def _decide(self, work: Work, rows: Sequence[Row], *, asked: bool = False) -> Decision:
        return decide(work.payment, rows, self.ways.policy, asked=asked, acknowledged=work.had_rows)

    async def _ask_stripe(self, work: Work, rows: Sequence[Row]) -> Decision | None:
        """Decide with the intent itself in hand; None where Stripe now says something else."""
        said = work.payment.said
        await self.observer.ask(said.intent_id, said.at)
        fresh = self.store.work(said.intent_id, self.now())
        if fresh is None or fresh.payment.said.state is not said.state:
            return None
        return self._decide(fresh, rows, asked=True)
