"""Inserts the one row that is missing, and never inserts a row twice.

Halo has no idempotency key, so syncd prevents duplicates itself:

- An insert without an answer is uncertain for some minutes; meanwhile syncd only looks for the row.
- Right before an insert, syncd looks the payment up in Halo.
- The store records the intent to insert first, so no other process inserts the same row.
- If the answer does not prove the row, syncd looks for the row before it sends anything again: for
  minutes if Halo may still work on the insert, for half a minute if only its lists may be late.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from syncd.core.errors import (
    BadAnswer,
    LinkFailure,
    RowsRefused,
    ServerError,
    Side,
    Unreachable,
)
from syncd.core.holds import HoldCode
from syncd.core.records import Condition, DuePayment, Outcome
from syncd.core.rows import Acknowledged, Row, SeenRow
from syncd.core.rules.blame import RequestFailures
from syncd.core.rules.decisions import Create, InStep
from syncd.core.rules.proof import NewRowTrial, WriteKind
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.sync.lease import Lease
from syncd.sync.policy import PushSettings
from syncd.sync.push.guard import LOOK_SECONDS_MAX, InsertGuard, InsertWaits
from syncd.sync.push.outcomes import (
    INSERT_DOUBT_SECONDS,
    LAG_SECONDS,
    UNPROVEN_MAX,
    Outcomes,
    as_planned,
    doubtful,
    due_again,
    state_of,
)
from syncd.sync.push.proof.new_row import NewRowProver
from syncd.sync.push.proof.tenant import TenantWrites
from syncd.sync.sink import Sink

WAIT_SECONDS = 300.0
"""When to retry a new row that waits for the tenant's first new row."""

REFUSED_MAX = 3
"""After refusals of so many payments' first new rows, the tenant counts as refusing new rows."""

MADE_SECONDS = 86_400
"""How much older than its payment a row may seem, because Halo may use another time zone."""


@dataclass(slots=True)
class Inserter:
    """Inserts missing rows.

    Attributes:
        outcomes: turns results into records for the store.
        failures: the failed requests of single payments in this push.
        lease: the push lease; None in a dry run.
        waits: how long to wait before a new row is sent again.
    """

    sink: Sink
    store: Store
    settings: PushSettings
    outcomes: Outcomes
    failures: RequestFailures
    tenant: TenantWrites
    prover: NewRowProver
    report: Report
    now: Callable[[], float]
    lease: Lease | None
    waits: InsertWaits

    def _seconds_left(self, due: DuePayment) -> float:
        """How long to wait for an earlier insert; 0 in a dry run, which only reads."""
        if self.outcomes.plan is not None:
            return max(0.0, (due.doubt_until or 0.0) - self.now())
        return self.waits.seconds_left(due.intent_id, due.doubt_until)

    async def insert(self, due: DuePayment, create: Create) -> bool:
        """Insert the missing row, if Halo still has none. Returns False to look again and retry.

        Raises:
            LeaseHeld: another process pushes, or has just inserted a row for the same payment.
            LinkFailure: Halo as a whole does not work, or seems not to.
        """
        if not await self._may_insert(due):
            self.store.record([due_again(due, self.now() + WAIT_SECONDS)], self.now())
            return True
        left = self._seconds_left(due)
        if left > 0:
            # An insert was sent and not answered: Halo may still be working on it.
            now = self.now()
            self.store.record([doubtful(due, now + left, now, known=due.doubt_until)], now)
            return True
        sent_before = due.doubt_until is not None or due.attempts > 0
        figures = await self._figures(create)
        await self.sink.reserve(3 if sent_before else 2)
        looked_at = self.now(), self.waits.monotonic()
        try:
            if not await self._is_missing(due, create, sent_before=sent_before):
                return True
        except (ServerError, BadAnswer, Unreachable) as error:
            self._unlisted(due, error)
            return True

        notes = self._first_notes(due, create, figures)
        guard = InsertGuard(self.store, self.lease, due, looked_at, self.waits, self.now, notes)
        try:
            row = self.settings.new_row(due, create, self.now())
            answer = await self.sink.insert(row, guard)
        except RowsRefused as error:
            self._never_made(due, guard)
            self.store.record([self.outcomes.failed(due, str(error))], self.now())
            self._refused(due, create, str(error))
            return True
        except LinkFailure as error:
            self._insert_failed(due, error, guard)
            return True
        if answer is None:
            if guard.lost is not None:
                raise guard.lost
            # If the guard was asked twice, Halo rejected the first request: nothing was inserted.
            self._never_made(due, guard)
            return guard.sent or guard.overtaken
        await self._inserted(due, create, answer, guard.doubt_until)
        return True

    async def _figures(self, create: Create) -> Mapping[str, str]:
        """The invoice's amounts before a tenant's first new row; empty if not needed.

        Raises:
            LinkFailure: Halo cannot be reached, or limits requests.
        """
        if self.outcomes.plan is not None or not self.prover.is_unproven():
            return {}
        return await self.sink.invoice_figures(create.invoice_id) or {}

    def _first_notes(
        self, due: DuePayment, create: Create, figures: Mapping[str, str]
    ) -> dict[str, str]:
        """The notes to write before a tenant's first new row is sent; empty for later rows."""
        if not self.prover.is_unproven():
            return {}
        return self.tenant.new_row_notes(self._trial(due, create, figures))

    def _noted(self, due: DuePayment, create: Create) -> NewRowTrial:
        """The new row as it was recorded before it was sent."""
        noted = self.tenant.new_row_trial()
        mine = noted is not None and noted.intent_id == due.intent_id
        return noted if noted is not None and mine else self._trial(due, create, {})

    def _trial(self, due: DuePayment, create: Create, figures: Mapping[str, str]) -> NewRowTrial:
        current = due.payment.current
        return NewRowTrial(
            self.now(),
            current.intent_id,
            create.invoice_id,
            create.amount,
            create.status,
            current.at,
            current.created,
            figures,
        )

    def _never_made(self, due: DuePayment, guard: InsertGuard) -> None:
        """Record that Halo did not receive the new row, or refused it."""
        self.store.end_doubt(due.intent_id, guard.doubt_until)
        if guard.sent and guard.notes:
            self.tenant.forget_new_row_trial()

    def may_go_on(self) -> bool:
        """Whether another new row may be sent: the tenant's first one must be proven first."""
        return self.outcomes.plan is not None or not self.prover.is_unproven()

    async def _may_insert(self, due: DuePayment) -> bool:
        """Whether a new row may be sent: until the tenant's first one was read back, only one may.

        Raises:
            LinkFailure: the request failed.
        """
        if self.outcomes.plan is not None:
            return True
        intent_id = due.intent_id
        if self.prover.is_unproven() and await self.prover.pending() not in (None, intent_id):
            return False
        if not self.tenant.may_try(WriteKind.INSERT):
            return False
        if not self.prover.is_unproven():
            return True
        others = self.store.doubtful_inserts(self.now())
        return all(one.intent_id == intent_id for one in others)

    def _refused(self, due: DuePayment, create: Create, words: str) -> None:
        """Record a refusal of the tenant's first new row; after several, stop all new rows."""
        if not self.prover.is_unproven():
            return
        tenant, intent_id = self.tenant, due.intent_id
        tried = tenant.refused_inserts(intent_id)
        if len(tried) >= REFUSED_MAX:
            tenant.stop(
                WriteKind.INSERT,
                HoldCode.WRITES_REFUSED,
                intent_id,
                None,
                f"Halo refused the first {len(tried)} new rows that syncd sent, the last one on "
                f"invoice {create.invoice_id}: {words.strip()}",
                {},
                tried,
            )

    async def _is_missing(self, due: DuePayment, create: Create, *, sent_before: bool) -> bool:
        """Look up the payment again; record what forbids a new row.

        If a row may have been sent before, syncd also looks on the invoice: an earlier process may
        have ended before it looked there.
        """
        on_invoice = sent_before and await self._invoice_has_row(due, create)
        rows = await self.sink.rows_of(due.intent_id)
        if rows:
            self.store.record([due_again(due, self.now(), attempts=1)], self.now())
            if sent_before and rows[0].id is not None and self.prover.is_unproven():
                await self.prover.read_back(self._noted(due, create), rows[0].id)
            return False
        if on_invoice:
            self.store.record([self.outcomes.unproven(due, create)], self.now())
            return False
        if self.outcomes.plan is not None:
            self.outcomes.planned(
                due, create, f"a new row on invoice {create.invoice_id}: {create.amount:f}"
            )
            self.store.record(as_planned([due]), self.now())
            return False
        if due.attempts > UNPROVEN_MAX and due.condition is not Condition.FAILED:
            failed = self.outcomes.failed(
                due, "Halo accepts the new row, but does not show it afterwards."
            )
            self.store.record([failed], self.now())
            return False
        return True

    async def _inserted(
        self, due: DuePayment, create: Create, answer: Acknowledged, doubt: float | None
    ) -> None:
        """Record the row if the answer proves it; otherwise read it back.

        Raises:
            LinkFailure: Halo cannot be read at all; the row may exist.
        """
        current, state = due.payment.current, state_of(due)
        self.failures.has_written()
        for row in answer.rows:
            if (row.intent_id, row.status, row.amount) == (
                current.intent_id,
                create.status,
                create.amount,
            ):
                made = InStep((row.id,) if row.id is not None else (), create.status)
                pushed = self.outcomes.report_push(due, made, "created")
                done = Outcome(
                    current.intent_id,
                    state,
                    Condition.IN_STEP,
                    acked=True,
                    rows=made.rows,
                    pushed=pushed,
                )
                place = SeenRow(row.id, create.invoice_id, row.invoice_number)
                self.store.record([done], self.now(), seen={current.intent_id: (place,)})
                if row.id is not None and self.prover.is_unproven():
                    await self.prover.read_back(self._noted(due, create), row.id, answered=True)
                return
        # Only Halo's rows count: read the invoice's rows back.
        try:
            rows = await self.sink.rows_of_invoice(create.invoice_id)
        except (ServerError, BadAnswer, Unreachable) as error:
            self._lagging(due, doubt)
            self._unlisted(due, error)
            return
        if any(row.intent_id == current.intent_id for row in rows):
            # Due at once; uncertain for as long as the payment's own list may be late.
            self._move_doubt(due, doubt, self.now() + LAG_SECONDS, LAG_SECONDS)
            self.store.record([due_again(due, self.now(), attempts=1)], self.now())
        elif self._is_unattributed(due, create, rows):
            self.store.record([self.outcomes.unproven(due, create, answer.rows)], self.now())
        else:
            if answer.complaint is not None:
                self.report.log(
                    "warning", "insert_doubtful", intent=current.intent_id, reason=answer.complaint
                )
            self._lagging(due, doubt, named=self._is_unattributed(due, create, answer.rows))

    def _lagging(self, due: DuePayment, doubt: float | None, *, named: bool = False) -> None:
        """Halo answered but lists no row: its lists may be late, so do not resend the row yet.

        Args:
            due: the payment.
            doubt: the known end of the insert's uncertainty; a value of another process is kept.
            named: whether the answer lists a row that can only be this one.
        """
        now = self.now()
        seconds = INSERT_DOUBT_SECONDS if named else LAG_SECONDS
        until = now + seconds
        if not self._move_doubt(due, doubt, until, seconds):
            self.store.record([due_again(due, until)], now)
        elif due.condition is Condition.FAILED:  # retried daily, one row each time
            outcome = replace(self.outcomes.still_failed(due), doubt_until=until)
            self.store.record([outcome], now)
        else:
            self.store.record([doubtful(due, until, now, attempts=1)], now)

    def _move_doubt(
        self, due: DuePayment, doubt: float | None, until: float, seconds: float
    ) -> bool:
        """Let an insert be uncertain for some seconds, until a time (Unix seconds).

        Returns False if another process's insert is uncertain by now.
        """
        intent_id = due.intent_id
        moved = self.store.move_doubt(intent_id, doubt, until)
        if moved:
            self.waits.begin(intent_id, until, seconds)
        return moved

    def _unlisted(self, due: DuePayment, error: LinkFailure) -> None:
        """Record that Halo cannot list the rows of this payment or its invoice.

        Raises:
            LinkFailure: `error`, if Halo asks to wait, or fails for every payment.
        """
        if error.retry_after_seconds is not None or self.failures.add(due, error):
            raise error

    def postpone(self, due: DuePayment) -> Unreachable:
        """Retry later: each lookup was too old by the time that the row could be sent.

        Halo is slow, which is no payment's fault: no attempt is counted. Returns the failure.
        """
        now = self.now()
        slow = Unreachable(
            Side.HALO,
            f"Halo takes longer than {LOOK_SECONDS_MAX:.0f} s to list the rows of "
            f"{due.intent_id}, so syncd creates no new row, because one may appear meanwhile. syncd "
            f"tries again in {INSERT_DOUBT_SECONDS / 60:.0f} minutes.",
        )
        self.report.log("warning", "insert_postponed", intent=due.intent_id, reason=str(slow))
        self.store.record([due_again(due, now + INSERT_DOUBT_SECONDS)], now)
        return slow

    def _insert_failed(self, due: DuePayment, error: LinkFailure, guard: InsertGuard) -> None:
        """Record an insert that failed without a clear answer: look for the row before sending it again.

        Raises:
            LinkFailure: `error`, if the whole side is at fault; then no attempt is counted.
        """
        now = self.now()
        if not error.maybe_applied:
            self._never_made(due, guard)
            self.store.record([due_again(due, now)], now)
            raise error
        if not error.late and due.attempts < UNPROVEN_MAX:
            self.report.log("warning", "insert_doubtful", intent=due.intent_id, reason=str(error))
            self._lagging(due, guard.doubt_until)
            return
        until = now + INSERT_DOUBT_SECONDS
        self.store.record([doubtful(due, until, now)], now)
        self.waits.begin(due.intent_id, until, INSERT_DOUBT_SECONDS)
        if self.failures.add(due, error):
            raise error  # it fails for every payment

    async def _invoice_has_row(self, due: DuePayment, create: Create) -> bool:
        """Whether the invoice has the new row, whatever the payment's own list shows."""
        intent_id = due.intent_id
        rows = await self.sink.rows_of_invoice(create.invoice_id)
        named = any(row.intent_id == intent_id for row in rows)
        return named or self._is_unattributed(due, create, rows)

    def _is_unattributed(self, due: DuePayment, create: Create, rows: Sequence[Row]) -> bool:
        """Whether one of the rows can only be the new row, despite its payment intent.

        An older row of the same amount is not: the new row has its payment's time.
        """
        made = due.payment.current.created or due.payment.current.at
        return any(
            (row.invoice_id, row.amount, row.status)
            == (create.invoice_id, create.amount, create.status)
            and (row.intent_id is None or self.store.payment(row.intent_id) is None)
            and (row.made is None or row.made >= made - MADE_SECONDS)
            for row in rows
        )
