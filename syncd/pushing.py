"""Push: gather Halo's rows for what is due, decide, apply, write down what came of it.

Everything that is due is found in the store, so a push that was stopped at any point is simply
begun again. What a single request left open (a 2xx that proves nothing, a row that may have been
inserted) stays due, and the next round reads Halo before it does anything.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from syncd.all_rows import AllRows, Progress
from syncd.decisions import (
    AskStripe,
    Create,
    Decision,
    Hold,
    InStep,
    Policy,
    Unmatched,
    Update,
    decide,
)
from syncd.failures import (
    BadAnswer,
    BudgetSpent,
    LeaseHeld,
    LinkFailure,
    ListingBroken,
    LookStale,
    PermissionMissing,
    RateLimited,
    RowsRefused,
    ServerTrouble,
    Side,
    SignInRefused,
    Unreachable,
)
from syncd.halo_reading import Acknowledged
from syncd.halo_sink import HaloSink
from syncd.lease import Lease
from syncd.observing import Observer, Report
from syncd.outcomes import (
    INSERT_DOUBT_SECONDS,
    Outcomes,
    Plan,
    doubtful,
    due_again,
    listed,
    state_of,
)
from syncd.payments import Row
from syncd.records import Condition, Outcome, Work
from syncd.seen_rows import SeenRow, seen
from syncd.store import Store
from syncd.troubles import BLAMED_MAX, IN_A_ROW_MAX, Troubles, failing_since

UNPROVEN_MAX = 2
"""How often a request may be answered without proof before the payment counts as failed."""

LOOKS_MAX = 3
"""How often Halo is asked for it again, where that had become too long ago."""

LOOK_SECONDS_MAX = 30.0
"""A row is inserted only if Halo was asked for it so shortly before: room in the window may be waited for."""

NOBODYS = "pi_nobodys"
"""A payment that there isn't: whoever is asked for its rows shows none."""

ROUNDS_MAX = 6

PUT_OFF_SECONDS = (15.0, 300.0)
"""How long a payment waits that can't be looked up or written while others can: first, and then."""

RESUME, SMALLER, FAILING = "push_after", "push_batch", "push_failing"
"""Notes of a push that broke off: where the next one goes on, with what size of batch, and since when
which payments fail. Nobody is kept waiting by the same few."""


class Overtaken(Exception):
    """Polls go on while a push waits: Stripe has said something else of these since, so they stay due."""

    def __init__(self, intent_ids: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(intent_ids)))
        self.intent_ids = intent_ids


@dataclass(frozen=True, slots=True)
class Ways:
    """How to push.

    Attributes:
        policy: what to do in each case.
        batch: rows in one request.
        trace: whether to leave in the row what a webhook would have left.
        new_row: fields that every inserted row carries.
    """

    policy: Policy
    batch: int
    trace: bool
    new_row: Mapping[str, int]


@dataclass(slots=True)
class Pusher:
    """Brings Halo's rows to what Stripe says.

    Attributes:
        plan: where a dry run says what it would do; None in earnest.
        review: called before anything is decided: decides again what was held under another
            configuration.
        progress: told how far a push is.
        trouble: why a payment was put off in the last push, though Halo works; None where none was.
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
    trouble: LinkFailure | None = field(init=False, default=None)
    all_rows: AllRows = field(init=False)
    outcomes: Outcomes = field(init=False)
    _troubles: Troubles = field(init=False, default_factory=Troubles)
    _trying: str | None = field(init=False, default=None)
    _batch: int = field(init=False, default=0)
    _stripe_trouble: LinkFailure | None = field(init=False, default=None)
    _stripe_failures: int = field(init=False, default=0)
    _seen: dict[str, tuple[SeenRow, ...]] = field(init=False, default_factory=dict)
    _done: int = field(init=False, default=0)
    _due: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.all_rows = AllRows(self.sink, self.store, self.report, self._hold_lease)
        self.outcomes = Outcomes(self.report, self.now, self.ways.policy.numbers, self.plan)

    async def push(self) -> int:
        """Push all that is due. Returns how many payments were looked at.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: Halo (or Stripe, asked again) can't be talked to; what is left stays due.
        """
        self._troubles, self.trouble, self._done = Troubles(), None, 0
        self._trying, self._stripe_trouble, self._stripe_failures = None, None, 0
        self._due = self.store.due_count(self.now())
        if self._due == 0:
            return 0
        with self.leased():
            self.review()
            after = self.store.note(RESUME) or ""
            smaller = self.store.note(SMALLER) or ""
            self._batch = self.ways.batch
            if smaller.isdecimal():
                self._batch = max(1, min(self.ways.batch, int(smaller)))
            for _ in range(ROUNDS_MAX):
                # What is found due from here on waits for the next push, or rounds never end.
                due = self.store.due_count(self.now())
                if due == 0:
                    break
                await self._round(due, after)
                after = ""
        return self._done

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
                self.store.write_notes({RESUME: self._trying})
            self._settle_troubles(whole=whole)
        if self._troubles.found:
            # Halo's first: its pause keeps a write from being tried at every tick.
            errors = [trouble.error for trouble in self._troubles.found]
            raise next((error for error in errors if error.side is Side.HALO), errors[0])
        if resumed:  # from the middle: those before may be the ones that need smaller lists
            self.store.write_notes({RESUME: None})
        elif self._batch < self.ways.batch:
            self.store.write_notes({SMALLER: None})
            self._batch = self.ways.batch

    # --- decide ------------------------------------------------------------------------------------

    async def _chunk(self, works: Sequence[Work], *, paged: bool) -> None:
        """Decide about some payments, and apply it.

        A payment that fails a request alone is put off, so that it never keeps others waiting.
        """
        self._seen = {}
        ids = [work.payment.said.intent_id for work in works]
        kept = self.store.rows_of(ids) if paged else None
        outcomes: list[Outcome] = []
        updates: list[tuple[Work, Update]] = []
        creates: list[tuple[Work, Create]] = []
        try:
            await self._gather(works, kept, outcomes, updates, creates)
        finally:
            self.store.record(outcomes, self.now(), seen=self._seen)
        for batch in _batches(updates, self._batch):
            self._trying = batch[-1][0].payment.said.intent_id
            await self._send(batch)
        for work, create in creates:
            self._trying = work.payment.said.intent_id
            for _ in range(LOOKS_MAX):
                if await self._insert(work, create):
                    break
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
            elif decision is not None:
                outcomes.append(self.outcomes.settled(work, decision))

    async def _decision(
        self, work: Work, kept: Mapping[str, list[Row]] | None
    ) -> InStep | Update | Create | Hold | Unmatched | None:
        """What to do about one payment; None where Stripe, asked again, now says something else."""
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
        if isinstance(decision, AskStripe):
            if self._stripe_trouble is not None:
                raise self._stripe_trouble  # it isn't asked again in this push
            asked = await self._ask_stripe(work, rows)
            return None if isinstance(asked, AskStripe) else asked
        return decision

    def _stripe_failed(self, error: LinkFailure) -> None:
        """Stripe couldn't be asked again; where that isn't about one payment, it isn't asked on."""
        self._stripe_failures += 1
        everybodys = SignInRefused | PermissionMissing | RateLimited | BudgetSpent
        if isinstance(error, everybodys) or self._stripe_failures >= IN_A_ROW_MAX:
            self._stripe_trouble = error

    async def ask_for_anything(self) -> None:
        """Ask Halo for the first of all its rows: whether it answers at all.

        Raises:
            LinkFailure: it doesn't, and no payment is to blame.
        """
        async for _ in self.sink.pages():
            break
        self._troubles.has_read()

    def _settle_troubles(self, *, whole: bool) -> None:
        """Put off the payments that are at fault themselves; the others stay due, for the link's sake.

        Args:
            whole: whether nothing else failed.
        """
        now, troubles = self.now(), self._troubles
        if not troubles.found:
            return
        writes = [trouble for trouble in troubles.found if trouble.writing]
        failing = failing_since(self._failing(), writes, now)
        self.store.write_notes({FAILING: json.dumps(failing)})
        outcomes = []
        for trouble in troubles.blamed():
            work = trouble.work
            self.report.log(
                "warning", "put_off", intent=work.payment.said.intent_id, state=state_of(work),
                attempt=work.attempts + 1, reason=str(trouble.error),
            )  # fmt: skip
            self.trouble = self.trouble or trouble.error
            outcomes.append(self._blame(work, trouble.error, now))
        since = {name: began for name, (began, _) in failing.items()}
        listed_ones = troubles.to_list(since, now) if whole or troubles.wrote else []
        for trouble in troubles.found:
            work = trouble.work
            if trouble.error.side is Side.STRIPE:
                outcomes.append(due_again(work, now + PUT_OFF_SECONDS[-1]))
            elif work.condition is Condition.FAILED:
                outcomes.append(self.outcomes.still_failed(work))
            elif trouble in listed_ones:
                outcomes.append(self.outcomes.failed(work, str(trouble.error), before=BLAMED_MAX))
            else:
                self.store.write_notes({RESUME: work.payment.said.intent_id})
        self.store.record(outcomes, now)

    def _failing(self) -> dict[str, tuple[float, float]]:
        try:
            found = json.loads(self.store.note(FAILING) or "{}")
            return {str(name): (float(since), float(last)) for name, (since, last) in found.items()}
        except (ValueError, TypeError, AttributeError):
            return {}  # a note of another version

    def _blame(self, work: Work, error: LinkFailure, now: float) -> Outcome:
        """A payment whose own request failed: once more, and at last a person is called."""
        if work.attempts >= BLAMED_MAX or work.condition is Condition.FAILED:
            return self.outcomes.failed(work, str(error), before=BLAMED_MAX)
        wait = PUT_OFF_SECONDS[work.attempts > 0]
        return due_again(work, now + wait, attempts=1)

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

    # --- apply: updates ------------------------------------------------------------------------------

    async def _send(self, batch: Sequence[tuple[Work, Update]]) -> None:
        """Send one list of rows; halve it until a row that fails stands alone."""
        if self.plan is not None:
            for work, update in batch:
                self.outcomes.planned(
                    work, update, f"{listed(update.rows)} → status {update.status}"
                )
            self._record_planned([work for work, _ in batch])
            return
        rows = [row for work, update in batch for row in self._posted(work, update)]
        works = [work for work, _ in batch]

        def intend() -> None:
            self._about_to_send(works)
            self.store.intend_update([work.payment.said.intent_id for work in works], self.now())

        try:
            answer = await self.sink.update(rows, intend)
        except Overtaken as news:
            left = [one for one in batch if one[0].payment.said.intent_id not in news.intent_ids]
            if left:
                await self._send(left)
            return
        except (RowsRefused, LinkFailure) as error:
            await self._send_parts(batch, error)
            return
        self._troubles.has_written()
        shown = {row.id: row for row in answer.rows}
        outcomes: list[Outcome] = []
        try:
            for work, update in batch:
                outcome = await self._updated(work, update, shown, answer)
                outcomes.append(outcome)
        finally:
            self.store.record(outcomes, self.now())

    async def _send_parts(
        self, batch: Sequence[tuple[Work, Update]], error: RowsRefused | LinkFailure
    ) -> None:
        """After a list of rows failed: send its halves, if what failed was Halo's word about rows.

        Raises:
            LinkFailure: `error`, where the link is at fault, or seems to be.
        """
        about_rows = isinstance(error, RowsRefused) or (
            isinstance(error, ServerTrouble) and error.maybe_applied and not error.late
        )
        if about_rows and len(batch) > 1:
            middle = len(batch) // 2
            await self._send(batch[:middle])
            await self._send(batch[middle:])
        elif isinstance(error, RowsRefused):
            self.store.record([self.outcomes.failed(batch[0][0], str(error))], self.now())
        elif len(batch) > 1 or not error.maybe_applied:
            if error.maybe_applied:
                # Smaller lists next time: should one row be at fault after all, it soon stands alone.
                self.store.write_notes({SMALLER: str(max(1, len(batch) // 2))})
            raise error
        elif self._troubles.add(batch[0][0], error):
            raise error  # it fails for everybody

    def _posted(self, work: Work, update: Update) -> list[dict[str, Any]]:
        return [{"id": row, "status": update.status, **self._trace(work)} for row in update.rows]

    def _trace(self, work: Work) -> dict[str, Any]:
        if not self.ways.trace or work.payment.said.trace is None:
            return {}
        return {
            "webhook_payload": work.payment.said.trace,
            "webhook_received_date": _iso(self.now()),
        }

    async def _updated(
        self, work: Work, update: Update, shown: Mapping[int | None, Row], answer: Acknowledged
    ) -> Outcome:
        """An answer proves only the rows that it lists as they were sent."""
        said, state = work.payment.said, state_of(work)
        proven = all(row in shown and shown[row].status == update.status for row in update.rows)
        if not proven and work.attempts >= UNPROVEN_MAX:
            back = {row.id: row for row in await self.sink.rows_of(said.intent_id)}
            proven = all(row in back and back[row].status == update.status for row in update.rows)
        if proven:
            pushed = self.outcomes.tell(work, update, "updated")
            return Outcome(
                said.intent_id, state, Condition.IN_STEP, acked=True, rows=update.rows,
                pushed=pushed,
            )  # fmt: skip
        if work.attempts >= UNPROVEN_MAX:
            return self.outcomes.failed(
                work,
                f"Halo takes the request, but its rows don't change. {answer.complaint or ''}",
            )
        # Due at once: the next round reads the rows back, and what they say counts.
        return due_again(work, self.now(), attempts=1)

    # --- apply: inserts ------------------------------------------------------------------------------

    async def _insert(self, work: Work, create: Create) -> bool:
        """Insert the one row that is missing, if it is still missing. Returns False to try again."""
        if work.doubt_until is not None and self.now() < work.doubt_until:
            # An insert was sent and not answered; Halo may be carrying it out still. A clock that
            # was set back doesn't prolong the wait beyond what one insert can take.
            until = min(work.doubt_until, self.now() + INSERT_DOUBT_SECONDS)
            self.store.record([doubtful(work, until, self.now())], self.now())
            return True
        sent_before = work.doubt_until is not None or work.attempts > 0
        await self.sink.room(3 if sent_before else 2)
        looked_at = self.now()
        if not await self._is_missing(work, create, sent_before=sent_before):
            return True

        known, sent = work.doubt_until, False

        def intend() -> None:
            nonlocal known, sent
            if self.now() - looked_at > LOOK_SECONDS_MAX:
                raise LookStale
            self._about_to_send([work])
            now = self.now()
            until = now + INSERT_DOUBT_SECONDS
            if not self.store.intend_insert(work, known, now, until):
                raise LeaseHeld("another process, which has just made a row for the same payment,")
            known, sent = until, True

        try:
            answer = await self.sink.insert(self._new_row(work, create), intend)
        except (LookStale, Overtaken) as news:
            # A second sending means that the first was turned away. It is due still.
            self.store.end_doubt(work.payment.said.intent_id, known)
            return sent or isinstance(news, Overtaken)
        except RowsRefused as error:
            self.store.end_doubt(work.payment.said.intent_id, known)
            self.store.record([self.outcomes.failed(work, str(error))], self.now())
            return True
        except LinkFailure as error:
            self._insert_failed(work, error, known)
            return True
        await self._inserted(work, create, answer, known)
        return True

    async def _is_missing(self, work: Work, create: Create, *, sent_before: bool) -> bool:
        """Look once more; what speaks against a new row is recorded.

        A row that may have been sent before is looked for on its invoice as well: whoever sent it
        may have died before it could.
        """
        elsewhere = sent_before and await self._stands_elsewhere(work, create)
        rows = await self.sink.rows_of(work.payment.said.intent_id)
        if rows:
            self.store.record([due_again(work, self.now(), attempts=1)], self.now())
            return False
        if elsewhere:
            self.store.record([self.outcomes.unproven(work, create)], self.now())
            return False
        if self.plan is not None:
            self.outcomes.planned(
                work, create, f"a new row on invoice {create.invoice_id}: {create.amount:f}"
            )
            self._record_planned([work])
            return False
        if work.attempts > UNPROVEN_MAX and work.condition is not Condition.FAILED:
            failed = self.outcomes.failed(
                work, "Halo takes the new row, but doesn't show it afterwards."
            )
            self.store.record([failed], self.now())
            return False
        return True

    async def _inserted(
        self, work: Work, create: Create, answer: Acknowledged, doubt: float | None
    ) -> None:
        """What Halo answered to a new row proves it, or has to be read back.

        Raises:
            LinkFailure: Halo can't be read; then the payment is held, for the row may be there.
        """
        said, state = work.payment.said, state_of(work)
        self._troubles.has_written()
        for row in answer.rows:
            if (row.intent_id, row.status, row.amount) == (
                said.intent_id, create.status, create.amount,
            ):  # fmt: skip
                made = InStep((row.id,) if row.id is not None else (), create.status)
                pushed = self.outcomes.tell(work, made, "created")
                done = Outcome(
                    said.intent_id, state, Condition.IN_STEP, acked=True, rows=made.rows,
                    pushed=pushed,
                )  # fmt: skip
                place = SeenRow(row.id, create.invoice_id, row.invoice_number)
                self.store.record([done], self.now(), seen={said.intent_id: (place,)})
                return
        try:
            elsewhere = not answer.error and await self._stands_elsewhere(work, create)
        except LinkFailure:
            self.store.record([self.outcomes.unproven(work, create, answer.rows)], self.now())
            raise
        # What Halo's rows say counts: the next round reads them, and sends again if it isn't there.
        if elsewhere:
            outcome = self.outcomes.unproven(work, create, answer.rows)
        else:
            self.store.end_doubt(said.intent_id, doubt)
            outcome = due_again(work, self.now(), attempts=1)
        self.store.record([outcome], self.now())

    def _insert_failed(self, work: Work, error: LinkFailure, doubt: float | None) -> None:
        """A new row that the link failed on: read again before it is sent again.

        Raises:
            LinkFailure: `error`, where the link is at fault; its trouble spends no attempts.
        """
        now = self.now()
        if not error.maybe_applied:
            self.store.end_doubt(work.payment.said.intent_id, doubt)
            self.store.record([due_again(work, now)], now)
            raise error
        if not error.late and work.attempts < UNPROVEN_MAX:
            self.report.log(
                "warning", "insert_doubtful", intent=work.payment.said.intent_id, reason=str(error)
            )
            self.store.end_doubt(work.payment.said.intent_id, doubt)
            self.store.record([due_again(work, now, attempts=1)], now)
            return
        self.store.record([doubtful(work, now + INSERT_DOUBT_SECONDS, now)], now)
        if self._troubles.add(work, error):
            raise error  # it fails for everybody

    async def _stands_elsewhere(self, work: Work, create: Create) -> bool:
        """Whether the invoice has the new row, though Halo doesn't show it under its intent."""
        intent_id = work.payment.said.intent_id
        rows = await self.sink.rows_of_invoice(create.invoice_id)
        if any(row.intent_id == intent_id for row in rows):
            return False
        return any(
            row.intent_id is None and (row.amount, row.status) == (create.amount, create.status)
            for row in rows
        )

    def _new_row(self, work: Work, create: Create) -> dict[str, Any]:
        said = work.payment.said
        row: dict[str, Any] = {
            "invoice_id": create.invoice_id,
            "amount": _json_number(create.amount),
            "date": _iso(said.at),
            "status": create.status,
            "intent_id": said.intent_id,
            **self.ways.new_row,
            **self._trace(work),
        }
        if said.created is not None:
            row["intent_date"] = _iso(said.created)
        return row

    def _record_planned(self, works: Sequence[Work]) -> None:
        """In a dry run's own store: as if it had been pushed, so that the run comes to an end."""
        self.store.record(
            [
                Outcome(work.payment.said.intent_id, state_of(work), Condition.IN_STEP)
                for work in works
            ],
            self.now(),
        )


def _batches(updates: Sequence[tuple[Work, Update]], size: int) -> list[list[tuple[Work, Update]]]:
    """Cut into lists of at most `size` rows; a payment's rows stay together."""
    batches: list[list[tuple[Work, Update]]] = []
    room = 0
    for work, update in updates:
        if not batches or len(update.rows) > room:
            batches.append([])
            room = size
        batches[-1].append((work, update))
        room -= len(update.rows)
    return batches


def _json_number(amount: Decimal) -> float | int:
    """A number that JSON shows as the very same decimal: floats print their shortest form."""
    number = float(amount)
    if Decimal(repr(number)) != amount:
        message = f"{amount:f} can't be sent as a JSON number"
        raise RowsRefused(message)
    return int(amount) if amount == amount.to_integral_value() else number


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
