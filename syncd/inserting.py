"""Insert the one row that is missing: nothing is ever doubled.

Halo has no idempotency key. So a row that may have been sent before is waited for; Halo is asked
right before a new one is sent; that it will be is written down first, which fences out any other
process; and what the answer doesn't prove is looked for before anything is sent again: for minutes
where Halo may be at work on it still, for half a minute where only its lists may lag behind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from syncd.decisions import Create, InStep
from syncd.failures import BadAnswer, LeaseHeld, LinkFailure, LookStale, RowsRefused, Side
from syncd.halo_reading import Acknowledged
from syncd.halo_sink import HaloSink
from syncd.outcomes import (
    INSERT_DOUBT_SECONDS,
    LAG_SECONDS,
    UNPROVEN_MAX,
    Outcomes,
    as_planned,
    doubtful,
    due_again,
    state_of,
)
from syncd.payments import Row
from syncd.records import Condition, Outcome, Work
from syncd.report import Report
from syncd.seen_rows import SeenRow
from syncd.store import Store
from syncd.troubles import Troubles
from syncd.writing import Overtaken, Ways

LOOK_SECONDS_MAX = 30.0
"""A row is inserted only if Halo was asked for it so shortly before: room in the window may be waited for."""


@dataclass(slots=True)
class Inserter:
    """Makes new rows.

    Attributes:
        outcomes: says what came of each payment.
        troubles: what failed in this push for single payments.
        last_look: called right before the row is written; raises LeaseHeld or Overtaken.
        look_at: when the last of the rows that Halo doesn't show yet is looked for again, Unix
            seconds; None where none is, or not soon.
        left_out: that there is such a row; None where there is none.
    """

    sink: HaloSink
    store: Store
    ways: Ways
    outcomes: Outcomes
    troubles: Troubles
    report: Report
    now: Callable[[], float]
    last_look: Callable[[Sequence[Work]], None]
    look_at: float | None = field(init=False, default=None)
    left_out: LinkFailure | None = field(init=False, default=None)

    def begin(self) -> None:
        """Begin another push."""
        self.look_at, self.left_out = None, None

    async def insert(self, work: Work, create: Create) -> bool:
        """Insert the one row that is missing, if it is still missing. Returns False to try again.

        Raises:
            LeaseHeld: another process pushes, or has just made a row for the same payment.
            LinkFailure: the link is at fault, or seems to be.
        """
        if work.doubt_until is not None and self.now() < work.doubt_until:
            # An insert was sent and not answered; Halo may be carrying it out still. A clock that
            # was set back doesn't prolong the wait beyond what one insert can take.
            until = min(work.doubt_until, self.now() + INSERT_DOUBT_SECONDS)
            if until <= self.now() + LAG_SECONDS:
                self._wait_for(work, doubtful(work, until, self.now()))
            else:
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
            self.last_look([work])
            now = self.now()
            until = now + INSERT_DOUBT_SECONDS
            if not self.store.intend_insert(work, known, now, until):
                raise LeaseHeld("another process, which has just made a row for the same payment,")
            known, sent = until, True

        try:
            row = self.ways.new_row_of(work, create, self.now())
            answer = await self.sink.insert(row, intend)
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
        if self.outcomes.plan is not None:
            self.outcomes.planned(
                work, create, f"a new row on invoice {create.invoice_id}: {create.amount:f}"
            )
            self.store.record(as_planned([work]), self.now())
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
            LinkFailure: Halo can't be read; the row may be there.
        """
        said, state = work.payment.said, state_of(work)
        self.troubles.has_written()
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
        # What Halo's rows say counts: they are read back, for as long as they may lag behind.
        try:
            rows = await self.sink.rows_of_invoice(create.invoice_id)
        except LinkFailure:
            self._lagging(work)
            raise
        if any(row.intent_id == said.intent_id for row in rows):
            self.store.end_doubt(said.intent_id, doubt)
            self.store.record([due_again(work, self.now(), attempts=1)], self.now())
        elif self._astray(rows, create):
            self.store.record([self.outcomes.unproven(work, create, answer.rows)], self.now())
        else:
            self._lagging(work, named=self._astray(answer.rows, create))

    def _lagging(self, work: Work, *, named: bool = False) -> None:
        """Halo has answered, and shows no row: it may be a little behind, so it isn't sent again at once.

        Args:
            work: the payment.
            named: whether the answer named a row that can only be this one.
        """
        now = self.now()
        until = now + (INSERT_DOUBT_SECONDS if named else LAG_SECONDS)
        if work.condition is Condition.FAILED:  # tried again daily, one row each time
            outcome = replace(self.outcomes.still_failed(work), doubt_until=until)
            self.store.record([outcome], now)
        else:
            self._wait_for(work, doubtful(work, until, now, attempts=1))

    def _wait_for(self, work: Work, outcome: Outcome) -> None:
        self.store.record([outcome], self.now())
        if self.outcomes.plan is not None:
            return
        self.look_at = max(self.look_at or 0.0, outcome.next_try or 0.0)
        self.left_out = self.left_out or BadAnswer(
            Side.HALO,
            f"Halo was sent a new row for {work.payment.said.intent_id}, and neither its answer nor its "
            "lists show it yet. It stays due: the next run looks for it before anything is sent again.",
        )

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
            self._lagging(work)
            return
        self.store.record([doubtful(work, now + INSERT_DOUBT_SECONDS, now)], now)
        if self.troubles.add(work, error):
            raise error  # it fails for everybody

    async def _stands_elsewhere(self, work: Work, create: Create) -> bool:
        """Whether the invoice has the new row, though Halo doesn't show it under its intent."""
        intent_id = work.payment.said.intent_id
        rows = await self.sink.rows_of_invoice(create.invoice_id)
        return not any(row.intent_id == intent_id for row in rows) and self._astray(rows, create)

    def _astray(self, rows: Sequence[Row], create: Create) -> bool:
        """Whether one of them can only be the new row, under no intent or one that Stripe never named."""
        return any(
            (row.invoice_id, row.amount, row.status)
            == (create.invoice_id, create.amount, create.status)
            and (row.intent_id is None or self.store.payment(row.intent_id) is None)
            for row in rows
        )
