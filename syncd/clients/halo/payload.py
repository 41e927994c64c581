"""Builds the JSON of the rows that are written to Halo. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from syncd.clients.halo.whole import columns_of
from syncd.core.errors import RowsRefused
from syncd.core.rows import NewRow, RowChange, Trace
from syncd.text.timestamps import iso


def changed_row(change: RowChange) -> dict[str, Any]:
    """The fields of a row that gets a new status; Halo merges the fields into the row."""
    kept = {} if change.kept is None else columns_of(change.kept, everything=change.keep_all)
    return {**kept, "id": change.id, "status": change.status, **_trace(change.trace)}


def new_row(row: NewRow, fields: Mapping[str, int]) -> dict[str, Any]:
    """The fields of a new row.

    Args:
        row: the row.
        fields: the fixed fields of every new row in this tenant (`halo.new_row`).

    Raises:
        RowsRefused: a JSON number cannot hold the exact amount.
    """
    found: dict[str, Any] = {
        "invoice_id": row.invoice_id,
        "amount": _json_number(row.amount),
        "date": iso(row.at),
        "status": row.status,
        "intent_id": row.intent_id,
        **fields,
        **_trace(row.trace),
    }
    if row.created is not None:
        found["intent_date"] = iso(row.created)
    return found


def _trace(trace: Trace | None) -> dict[str, Any]:
    if trace is None:
        return {}
    return {"webhook_payload": trace.payload, "webhook_received_date": iso(trace.received)}


def _json_number(amount: Decimal) -> float | int:
    """The amount as a JSON number with exactly the same decimal digits."""
    number = float(amount)
    if Decimal(repr(number)) != amount:
        message = f"{amount:f} can't be sent as a JSON number"
        raise RowsRefused(message)
    return int(amount) if amount == amount.to_integral_value() else number
