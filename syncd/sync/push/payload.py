"""What is written to Halo: the fields of a changed row and of a new one.

Pure. When they are sent, and what the answer proves, is next door: `updating`, `inserting`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from syncd.core.decisions import Create, Policy, Update
from syncd.core.errors import RowsRefused
from syncd.core.records import Work
from syncd.text.timestamps import iso


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

    def changed_rows(self, work: Work, update: Update, now: float) -> list[dict[str, Any]]:
        """A payment's rows with their new status, written at `now` (Unix seconds)."""
        return [
            {"id": row, "status": update.status, **self._trace(work, now)} for row in update.rows
        ]

    def new_row_of(self, work: Work, create: Create, now: float) -> dict[str, Any]:
        """The one row that is missing, written at `now` (Unix seconds).

        Raises:
            RowsRefused: its amount can't be sent.
        """
        said = work.payment.said
        row: dict[str, Any] = {
            "invoice_id": create.invoice_id,
            "amount": _json_number(create.amount),
            "date": iso(said.at),
            "status": create.status,
            "intent_id": said.intent_id,
            **self.new_row,
            **self._trace(work, now),
        }
        if said.created is not None:
            row["intent_date"] = iso(said.created)
        return row

    def _trace(self, work: Work, now: float) -> dict[str, Any]:
        if not self.trace or work.payment.said.trace is None:
            return {}
        return {
            "webhook_payload": work.payment.said.trace,
            "webhook_received_date": iso(now),
        }


def _json_number(amount: Decimal) -> float | int:
    """A number that JSON shows as the very same decimal: floats print their shortest form."""
    number = float(amount)
    if Decimal(repr(number)) != amount:
        message = f"{amount:f} can't be sent as a JSON number"
        raise RowsRefused(message)
    return int(amount) if amount == amount.to_integral_value() else number
