"""Halo's rows, while they are read page by page: what they contradict is due again.

A part of the store. Times are Unix seconds and come from the caller.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from syncd.core.payments import PaymentState
from syncd.core.records import Condition
from syncd.core.rows import Row
from syncd.store.db import schema
from syncd.store.db.connection import present, reading, writing


class RowStore:
    """Halo's rows, as kept since they were last read."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def forget(self) -> None:
        """Empty the table of Halo's rows."""
        with writing(self._engine) as connection:
            connection.execute(schema.halo_rows.delete())

    def add(self, rows: Sequence[Row]) -> int:
        """Keep a page of Halo's rows; say how many of them were new."""
        unique = {row.id: row for row in rows if row.id is not None}
        with writing(self._engine) as connection:
            known = present(connection, schema.halo_rows.c.id, list(unique))
            new = [
                {
                    "id": row.id,
                    "intent_id": _storable(row.intent_id),
                    "invoice_id": row.invoice_id,
                    "amount": None if row.amount is None else str(row.amount),
                    "status": row.status,
                    "made": row.made,
                    "invoice_number": row.invoice_number,
                }
                for row in unique.values()
                if row.id not in known
            ]
            if new:
                connection.execute(schema.halo_rows.insert(), new)
        return len(new)

    def of(self, intent_ids: Sequence[str]) -> dict[str, list[Row]]:
        """Halo's rows of these intents, as kept."""
        c = schema.halo_rows.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(schema.halo_rows).where(c.intent_id.in_(intent_ids)).order_by(c.id)
            )
            kept = [row_of(row) for row in found.mappings()]
        rows: dict[str, list[Row]] = {intent_id: [] for intent_id in intent_ids}
        for row in kept:
            rows[str(row.intent_id)].append(row)
        return rows

    def drifted(
        self, numbers: Mapping[PaymentState, int], now: float, *, whole: bool,
        amounts_compared: bool = True,
    ) -> int:  # fmt: skip
        """Make due again what the rows kept say is due; say how many payments.

        That is what was in step and isn't any more, and what had no row (any more) and has one.

        Args:
            numbers: the tenant's status numbers.
            now: Unix seconds.
            whole: whether all of Halo's rows were read, so that a missing one is really gone.
            amounts_compared: whether a success is held where the rows' amounts disagree.
        """
        p, r = schema.payments.c, schema.halo_rows.c
        has_row = sa.exists().where(r.intent_id == p.intent_id)
        differs = [
            sa.and_(
                p.state == state,
                sa.exists().where(
                    r.intent_id == p.intent_id,
                    sa.or_(r.status.is_(None), r.status != number),
                ),
            )
            for state, number in numbers.items()
        ]
        if whole:
            differs.append(~has_row)
        held_without_row = sa.or_(
            p.code.in_(("row_deleted", "invoice_unreadable", "insert_unproven")),
            # With rows, only a success compares amounts, if at all.
            sa.and_(
                p.code == "currency_unknown",
                sa.or_(p.state != PaymentState.SUCCEEDED, sa.literal(not amounts_compared)),
            ),
        )
        without_row = sa.or_(
            p.condition.in_((Condition.UNMATCHED, Condition.NOT_HALOS)),
            sa.and_(p.condition == Condition.HELD, held_without_row, p.dismissed.is_(False)),
        )
        with writing(self._engine) as connection:
            return connection.execute(
                schema.payments.update()
                .where(
                    sa.or_(
                        sa.and_(p.condition == Condition.IN_STEP, sa.or_(sa.false(), *differs)),
                        sa.and_(without_row, has_row),
                    )
                )
                .values(
                    condition=Condition.DUE,
                    next_try=now,
                    attempts=0,
                    looks=0,
                    code=None,
                    reason=None,
                    changed_at=now,
                )
            ).rowcount


def row_of(row: Mapping[Any, Any]) -> Row:
    """One of Halo's rows out of its columns."""
    return Row(
        id=row["id"],
        intent_id=row["intent_id"],
        invoice_id=row["invoice_id"],
        amount=None if row["amount"] is None else Decimal(row["amount"]),
        status=row["status"],
        made=row["made"],
        invoice_number=row["invoice_number"],
    )


def _storable(intent_id: str | None) -> str | None:
    """An intent of Halo's rows as a database takes it; None for what can't be one of Stripe's.

    Half a surrogate pair, a zero byte or a novel in one row must not stop the reading of all rows.
    """
    if intent_id is None or len(intent_id) > 255 or re.search(r"[\0\ud800-\udfff]", intent_id):
        return None
    return intent_id
