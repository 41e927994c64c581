"""Push: gather Halo's rows for what is due, decide, apply, write down what came of it.

Everything that is due is found in the store, so a push that was stopped at any point is simply
begun again. What a single request left open (a 2xx that proves nothing, a row that may have been
inserted) stays due, and the next round reads Halo before it does anything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

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
    LeaseHeld,
    LinkFailure,
    PermissionMissing,
    RowsRefused,
    ServerTrouble,
    Side,
    Unreachable,
)
from syncd.halo_sink import PAGE_SIZE, Acknowledged, HaloSink, is_whole, last_page
from syncd.lease import Lease
from syncd.observing import Observer, Report
from syncd.payments import PaymentState, Row
from syncd.records import Condition, Outcome, Pushed, Work
from syncd.store import Store
from syncd.troubles import BLAMED_MAX, IN_A_ROW_MAX, Troubles

FEW = 10
"""Up to so many payments are looked up one by one without asking how many rows Halo has."""

LOOK_AGAIN_SECONDS = (600, 1_800, 7_200, 21_600, 54_600)
"""When a payment without rows is looked for again: growing gaps, a day in all."""

TRY_AGAIN_SECONDS = (600, 3_600, 21_600, 86_400)
"""When a payment that failed is tried again; it stands on the attention list meanwhile."""

INSERT_DOUBT_SECONDS = 120.0
"""How long an insert that was not answered may still appear: Halo gives up after about 60 s."""

UNPROVEN_MAX = 2
"""How often a request may be answered without proof before the payment counts as failed."""

ROUNDS_MAX = 6

PUT_OFF_SECONDS = 300.0
"""How long a payment waits that can't be looked up or written while others can."""

RESUME = "push_after"
"""The note that says where to go on after a push broke off: nobody is kept waiting by the same few."""

PAGES_MAX = 100_000

Plan = Callable[[Work, Decision, str], None]
Progress = Callable[[int, int], None]
"""Told how many payments are done, and how many were due."""


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
        listing: told how many of Halo's rows were read, and how many there are.
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
    listing: Progress = field(default=lambda _rows, _total: None)
    _troubles: Troubles = field(init=False, default_factory=Troubles)
    _done: int = field(init=False, default=0)
    _due: int = field(init=False, default=0)

    async def push(self) -> int:
        """Push all that is due. Returns how many payments were looked at.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: Halo (or Stripe, asked again) can't be talked to; what is left stays due.
        """
        self._troubles, self._done = Troubles(), 0
        self._due = self.store.due_count(self.now())
        if self._due == 0:
            return 0
        with self.leased():
            self.review()
            after = self.store.note(RESUME) or ""
            for _ in range(ROUNDS_MAX):
                # What is found due from here on waits for the next push, or rounds never end.
                due = self.store.due_count(self.now())
                if due == 0:
                    break
                await self._round(due, after)
                after = ""
        return self._done

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

    async def _round(self, due: int, after: str) -> None:
        """Go once through all that is due, or, after a push that broke off, through the rest."""
        before, resumed, whole = self.now(), after, False
        try:
            paged = await self._should_page(due) and await self.read_all_rows()
            size = self.ways.batch * 4 if paged else self.ways.batch
            while work := self.store.due(before, size, after):
                await self._chunk(work, paged=paged)
                after = work[-1].payment.said.intent_id
                self._done += len(work)
                self.progress(min(self._done, self._due), self._due)
            if self._troubles.unclear_reads():
                await self._ask_for_anything()
            whole = True
        finally:
            self._settle_troubles(whole=whole)
        if self._troubles.found:
            raise self._troubles.found[0][1]
        if resumed:
            self.store.write_notes({RESUME: None})

    # --- gather ------------------------------------------------------------------------------------

    async def _should_page(self, due: int) -> bool:
        """Whether reading all of Halo's rows takes fewer requests than asking for each payment."""
        if due <= FEW:
            return False
        known = self.store.note("halo_rows")
        if known is None:
            async for page in self.sink.pages():
                known = str(len(page.rows) if page.total is None else page.total)
                break
        return due > int(known or 0) // PAGE_SIZE + 1

    async def read_all_rows(self) -> bool:
        """Read all of Halo's rows into the store, under the lease. Returns whether they are all.

        Where they can't be read page by page, the payments are asked for one by one instead.
        """
        self.store.forget_rows()
        try:
            seen, whole = await self._read_pages(0)
            if not whole:
                # Rows that were made meanwhile stand on the first pages, which were read before.
                seen, whole = await self._read_pages(seen)
        except BadAnswer as error:
            self.report.log("warning", "rows_unlisted", reason=str(error))
            return False
        self.store.write_notes({"halo_rows": str(seen)})
        if not whole:
            self.report.log("warning", "rows_incomplete", seen=seen)
        return whole

    async def _read_pages(self, seen: int) -> tuple[int, bool]:
        """Read page by page until one ends the listing; returns how many rows, and whether all."""
        number = 0
        async for page in self.sink.pages():
            self._hold_lease()
            new = self.store.add_rows(page.rows)
            seen, number = seen + new, number + 1
            self.listing(seen, max(seen, page.total or 0))
            if last_page(page, new=new, seen=seen) or number >= PAGES_MAX:
                return seen, number < PAGES_MAX and is_whole(page, new=new, seen=seen)
        return seen, False

    # --- decide ------------------------------------------------------------------------------------

    async def _chunk(self, works: Sequence[Work], *, paged: bool) -> None:
        """Decide about some payments, and apply it.

        A payment that fails a request alone is put off, so that it never keeps others waiting.
        """
        ids = [work.payment.said.intent_id for work in works]
        kept = self.store.rows_of(ids) if paged else None
        outcomes: list[Outcome] = []
        updates: list[tuple[Work, Update]] = []
        creates: list[tuple[Work, Create]] = []
        try:
            await self._gather(works, kept, outcomes, updates, creates)
        finally:
            self.store.record(outcomes, self.now())
        for batch in _batches(updates, self.ways.batch):
            await self._send(batch)
        for work, create in creates:
            await self._insert(work, create)

    async def _gather(
        self, works: Sequence[Work], kept: Mapping[str, list[Row]] | None,
        outcomes: list[Outcome], updates: list[tuple[Work, Update]],
        creates: list[tuple[Work, Create]],
    ) -> None:  # fmt: skip
        """Look each payment up and decide; what is decided is sorted into the three lists."""
        for work in works:
            try:
                decision = await self._decision(work, kept)
            except (ServerTrouble, BadAnswer, Unreachable, PermissionMissing) as error:
                if isinstance(error, PermissionMissing) and error.side is Side.HALO:
                    raise
                self._troubles.add(work, error)
                self._troubles.in_a_row += 1
                if self._troubles.in_a_row == IN_A_ROW_MAX:
                    await self._ask_for_anything()
                continue
            self._troubles.looked_up()
            if isinstance(decision, Update):
                updates.append((work, decision))
            elif isinstance(decision, Create):
                creates.append((work, decision))
            elif decision is not None:
                outcomes.append(self._settled(work, decision))

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
        if isinstance(decision, AskStripe):
            asked = await self._ask_stripe(work, rows)
            return None if isinstance(asked, AskStripe) else asked
        return decision

    async def _ask_for_anything(self) -> None:
        """Ask Halo for the first of all its rows: whether it answers at all.

        Raises:
            LinkFailure: it doesn't, and no payment is to blame.
        """
        async for _ in self.sink.pages():
            break
        self._troubles.looked_up()

    def _settle_troubles(self, *, whole: bool) -> None:
        """Put off the payments that are at fault themselves; the others stay due, for the link's sake.

        Args:
            whole: whether nothing else failed.
        """
        now, troubles = self.now(), self._troubles
        outcomes = []
        for work, error in troubles.blamed():
            self.report.log(
                "warning", "put_off", intent=work.payment.said.intent_id, state=_state(work),
                attempt=work.attempts + 1, reason=str(error),
            )  # fmt: skip
            outcomes.append(self._blame(work, error, now + PUT_OFF_SECONDS))
        if whole and (alone := troubles.alone(now)):
            outcomes.append(self._blame(*alone, now))
            if outcomes[-1].condition is Condition.FAILED:
                troubles.found.clear()
        for work, error in troubles.found:
            self.store.write_notes({RESUME: work.payment.said.intent_id})
            if error.side is Side.STRIPE:
                outcomes.append(_again(work, now + PUT_OFF_SECONDS, work.attempts))
        self.store.record(outcomes, now)

    def _blame(self, work: Work, error: LinkFailure, next_try: float) -> Outcome:
        """A payment whose own request failed: once more, and at last a person is called."""
        if work.attempts >= BLAMED_MAX or work.condition is Condition.FAILED:
            return self._failed(work, str(error), before=BLAMED_MAX)
        return _again(work, next_try, work.attempts + 1)

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

    def _settled(self, work: Work, decision: Decision) -> Outcome:
        """What comes of a decision that sends nothing."""
        said, state = work.payment.said, _state(work)
        if isinstance(decision, InStep):
            self._tell(work, decision, "in_step")
            return Outcome(said.intent_id, state, Condition.IN_STEP, acked=True, rows=decision.rows)
        if isinstance(decision, Hold):
            self.report.count("pushes", outcome="held")
            self.report.log(
                "warning", "held", intent=said.intent_id, state=state, code=decision.code,
                reason=decision.text,
            )  # fmt: skip
            self._plan(work, decision, decision.text)
            return Outcome(
                said.intent_id, state, Condition.HELD, decision.code, decision.text,
                attempts=work.attempts, doubt_until=work.doubt_until,
            )  # fmt: skip
        self._plan(work, decision, "Halo has no row for it")
        self.report.count("pushes", outcome="unmatched")
        if work.looks < len(LOOK_AGAIN_SECONDS):
            again = self.now() + LOOK_AGAIN_SECONDS[work.looks]
            return Outcome(
                said.intent_id, state, Condition.UNMATCHED, next_try=again, looks=work.looks + 1,
                doubt_until=work.doubt_until,
            )  # fmt: skip
        self.report.log("info", "not_halos", intent=said.intent_id, state=state)
        return Outcome(said.intent_id, state, Condition.NOT_HALOS)

    # --- apply: updates ------------------------------------------------------------------------------

    async def _send(self, batch: Sequence[tuple[Work, Update]]) -> None:
        """Send one list of rows; halve it until a row that fails stands alone."""
        if self.plan is not None:
            for work, update in batch:
                self._plan(work, update, f"rows {_listed(update.rows)} → status {update.status}")
            self._record_planned([work for work, _ in batch])
            return
        rows = [row for work, update in batch for row in self._posted(work, update)]
        try:
            answer = await self.sink.update(rows, self._hold_lease)
        except (RowsRefused, ServerTrouble) as error:
            if isinstance(error, ServerTrouble) and error.late:
                raise  # a gateway's word, not Halo's about a row
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._send(batch[:middle])
                await self._send(batch[middle:])
            elif isinstance(error, RowsRefused):
                self.store.record([self._failed(batch[0][0], str(error))], self.now())
            else:
                self._troubles.add(batch[0][0], error)
                if self._troubles.suspicious():
                    raise  # it fails for everybody
            return
        self._troubles.wrote = True
        shown = {row.id: row for row in answer.rows}
        outcomes = [await self._updated(work, update, shown, answer) for work, update in batch]
        self.store.record(outcomes, self.now())

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
        said, state = work.payment.said, _state(work)
        proven = all(row in shown and shown[row].status == update.status for row in update.rows)
        if not proven and work.attempts >= UNPROVEN_MAX:
            back = {row.id: row for row in await self.sink.rows_of(said.intent_id)}
            proven = all(row in back and back[row].status == update.status for row in update.rows)
        if proven:
            pushed = self._tell(work, update, "updated")
            return Outcome(
                said.intent_id, state, Condition.IN_STEP, acked=True, rows=update.rows,
                pushed=pushed,
            )  # fmt: skip
        if work.attempts >= UNPROVEN_MAX:
            return self._failed(
                work,
                f"Halo takes the request, but its rows don't change. {answer.complaint or ''}",
            )
        # Due at once: the next round reads the rows back, and what they say counts.
        return Outcome(
            said.intent_id, state, Condition.DUE, next_try=self.now(), attempts=work.attempts + 1
        )

    # --- apply: inserts ------------------------------------------------------------------------------

    async def _insert(self, work: Work, create: Create) -> None:
        """Insert the one row that is missing, if it is still missing."""
        said, state = work.payment.said, _state(work)
        again = Outcome(said.intent_id, state, Condition.DUE, attempts=work.attempts + 1)
        if work.doubt_until is not None and self.now() < work.doubt_until:
            # An insert was sent and not answered; Halo may be carrying it out still. A clock that
            # was set back doesn't prolong the wait beyond what one insert can take.
            until = min(work.doubt_until, self.now() + INSERT_DOUBT_SECONDS)
            self.store.record([_later(again, until, until)], self.now())
            return
        rows = await self.sink.rows_of(said.intent_id)
        if rows:
            self.store.record([_later(again, self.now(), None)], self.now())
            return
        if self.plan is not None:
            self._plan(work, create, f"a new row on invoice {create.invoice_id}: {create.amount:f}")
            self._record_planned([work])
            return
        if work.attempts > UNPROVEN_MAX and work.condition is not Condition.FAILED:
            failed = self._failed(work, "Halo takes the new row, but doesn't show it afterwards.")
            self.store.record([failed], self.now())
            return

        known = work.doubt_until

        def intend() -> None:
            nonlocal known
            self._hold_lease()
            until = self.now() + INSERT_DOUBT_SECONDS
            if not self.store.intend_insert(work, known, until):
                raise LeaseHeld("another process, which has just made a row for the same payment,")
            known = until

        try:
            answer = await self.sink.insert(self._new_row(work, create), intend)
        except RowsRefused as error:
            self.store.record([self._failed(work, str(error))], self.now())
            return
        except LinkFailure as error:
            self._insert_failed(work, again, error)
            return
        self._troubles.wrote = True
        for row in answer.rows:
            if (row.intent_id, row.status, row.amount) == (
                said.intent_id, create.status, create.amount,
            ):  # fmt: skip
                made = InStep((row.id,) if row.id is not None else (), create.status)
                pushed = self._tell(work, made, "created")
                done = Outcome(
                    said.intent_id, state, Condition.IN_STEP, acked=True, rows=made.rows,
                    pushed=pushed,
                )  # fmt: skip
                self.store.record([done], self.now())
                return
        if answer.error or not await self._stands_elsewhere(work, create):
            # What Halo's rows say counts: the next round reads them, and sends again if it isn't there.
            self.store.record([_later(again, self.now(), None)], self.now())
            return
        self.store.record([self._unproven(work, create, answer)], self.now())

    def _insert_failed(self, work: Work, again: Outcome, error: LinkFailure) -> None:
        """A new row that the link failed on: read again before it is sent again.

        Raises:
            LinkFailure: `error`, where the link is at fault; its trouble spends no attempts.
        """
        same, now = replace(again, attempts=work.attempts), self.now()
        if not error.maybe_applied:
            self.store.record([_later(same, now, None)], now)
            raise error
        tried_enough = work.attempts >= UNPROVEN_MAX
        if tried_enough and self._troubles.wrote and not error.late:
            self.store.record([self._failed(work, str(error), before=UNPROVEN_MAX)], now)
            return
        if tried_enough or error.late:
            until = now + INSERT_DOUBT_SECONDS
            self.store.record([_later(same, until, until)], now)
            raise error
        self.report.log(
            "warning", "insert_doubtful", intent=work.payment.said.intent_id, reason=str(error)
        )
        self.store.record([_later(again, now, None)], now)

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

    def _unproven(self, work: Work, create: Create, answer: Acknowledged) -> Outcome:
        """A new row that Halo took and doesn't show: never sent again unless a person says so."""
        said, state = work.payment.said, _state(work)
        shown = (
            f" Halo's answer names row {_listed(ids)}."
            if (ids := [row.id for row in answer.rows if row.id is not None])
            else ""
        )
        reason = (
            f"Halo took a new row for {said.intent_id} on invoice {create.invoice_id}, but doesn't "
            f"show it among the payment's rows.{shown} Look at the invoice's payments in Halo: dismiss "
            "this if the row is there, retry if it isn't."
        )
        self.report.count("pushes", outcome="held")
        self.report.log(
            "warning", "held", intent=said.intent_id, state=state, code="insert_unproven",
            reason=reason,
        )  # fmt: skip
        return Outcome(
            said.intent_id, state, Condition.HELD, "insert_unproven", reason,
            attempts=work.attempts, doubt_until=self.now() + INSERT_DOUBT_SECONDS,
        )  # fmt: skip

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

    # --- what came of it -----------------------------------------------------------------------------

    def _failed(self, work: Work, words: str, before: int = 0) -> Outcome:
        """A person must look; the gaps grow with each attempt beyond the first few."""
        said, state = work.payment.said, _state(work)
        tried = max(0, work.attempts - before)
        gap = TRY_AGAIN_SECONDS[min(tried, len(TRY_AGAIN_SECONDS) - 1)]
        reason = (
            f"Halo doesn't take {state} for {said.intent_id}: {words.strip()} It is tried again "
            "by itself; correct the row or the invoice in Halo, then retry."
        )
        self.report.count("pushes", outcome="failed")
        self.report.log(
            "error", "push_failed", intent=said.intent_id, state=state, attempt=work.attempts + 1,
            reason=words,
        )  # fmt: skip
        return Outcome(
            said.intent_id, state, Condition.FAILED, "halo_refuses", reason,
            next_try=self.now() + gap, attempts=work.attempts + 1,
        )  # fmt: skip

    def _tell(self, work: Work, decision: Update | InStep, outcome: str) -> Pushed | None:
        """One line of the log for a payment that is now in step; what was written, if it was."""
        said, state, now = work.payment.said, _state(work), self.now()
        self._plan(work, decision, "in step already")
        self.report.count("pushes", outcome=outcome)
        if outcome == "in_step":
            self.report.log("debug", "in_step", intent=said.intent_id, state=state)
            return None
        lag = None if said.read else max(0.0, now - said.at)
        if lag is not None:
            self.report.lag(lag)
        old = self._names(decision.was) if isinstance(decision, Update) else []
        self.report.log(
            "info",
            "pushed",
            intent=said.intent_id,
            rows=list(decision.rows),
            old=old,
            new=str(state),
            attempt=work.attempts + 1,
            lag_seconds=None if lag is None else round(lag, 1),
        )
        return Pushed(now, said.intent_id, ", ".join(dict.fromkeys(old)), state, lag, decision.rows)

    def _names(self, numbers: Sequence[int | None]) -> list[str]:
        names = {number: str(state) for state, number in self.ways.policy.numbers.items()}
        return [
            names.get(number, f"status {number}") if number is not None else "none"
            for number in numbers
        ]

    def _plan(self, work: Work, decision: Decision, text: str) -> None:
        if self.plan is not None:
            self.plan(work, decision, text)

    def _record_planned(self, works: Sequence[Work]) -> None:
        """In a dry run's own store: as if it had been pushed, so that the run comes to an end."""
        self.store.record(
            [
                Outcome(work.payment.said.intent_id, _state(work), Condition.IN_STEP)
                for work in works
            ],
            self.now(),
        )


def _state(work: Work) -> PaymentState:
    state = work.payment.said.state
    if state is None:
        message = f"{work.payment.said.intent_id} is due without a state"
        raise AssertionError(message)
    return state


def _again(work: Work, next_try: float, attempts: int) -> Outcome:
    return Outcome(
        work.payment.said.intent_id, _state(work), Condition.DUE, next_try=next_try,
        attempts=attempts, doubt_until=work.doubt_until,
    )  # fmt: skip


def _later(outcome: Outcome, next_try: float, doubt_until: float | None) -> Outcome:
    return Outcome(
        outcome.intent_id, outcome.state, Condition.DUE, next_try=next_try,
        attempts=outcome.attempts, doubt_until=doubt_until,
    )  # fmt: skip


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


def _listed(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
