"""How to push, and the rows that a decision writes. Pure."""

from dataclasses import dataclass

from syncd.core.decisions import Create, Policy, Update
from syncd.core.records import DuePayment
from syncd.core.rows import NewRow, RowChange, Trace


@dataclass(frozen=True, slots=True)
class PushSettings:
    """How to push.

    Attributes:
        policy: the configured status numbers and rules.
        batch: rows in one request.
        trace: whether to leave in the row what a webhook would have left.
    """

    policy: Policy
    batch: int
    trace: bool

    def changed_rows(self, work: DuePayment, update: Update, now: float) -> list[RowChange]:
        """A payment's rows with their new status, written at `now` (Unix seconds)."""
        trace = self._trace(work, now)
        return [RowChange(row, update.status, trace) for row in update.rows]

    def new_row(self, work: DuePayment, create: Create, now: float) -> NewRow:
        """The payment's missing row, written at `now` (Unix seconds)."""
        said = work.payment.said
        return NewRow(
            intent_id=said.intent_id,
            invoice_id=create.invoice_id,
            amount=create.amount,
            status=create.status,
            at=said.at,
            created=said.created,
            trace=self._trace(work, now),
        )

    def _trace(self, work: DuePayment, now: float) -> Trace | None:
        payload = work.payment.said.trace
        return None if payload is None or not self.trace else Trace(payload, now)
