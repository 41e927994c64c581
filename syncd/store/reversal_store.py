"""Refunds and disputes: whose payments they are of, and how many there are.

A part of the store. Times are Unix seconds.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from syncd.core.reversals import Reversal
from syncd.core.rows import SeenRow
from syncd.store.db import schema
from syncd.store.db.connection import reading, writing
from syncd.store.payments import remember_seen
from syncd.store.reversals import counts_by_owner, oldest_open, reversal_of, unplaced


class ReversalStore:
    """The refunds and disputes that Stripe has told of."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def unplaced(self, limit: int) -> list[str]:
        """Payments that were refunded or disputed, and aren't known here: are they Halo's?"""
        with reading(self._engine) as connection:
            return unplaced(connection, limit)

    def place(self, intent_id: str, rows: Sequence[SeenRow]) -> None:
        """Write down which rows Halo has, if any, of a payment that was refunded or disputed."""
        c = schema.reversals.c
        with writing(self._engine) as connection:
            connection.execute(
                schema.reversals.update()
                .where(c.intent_id == intent_id)
                .values(of_halos=bool(rows))
            )
            remember_seen(connection, schema.reversals, {intent_id: rows})

    def oldest_open_dispute(self) -> int | None:
        """When the oldest dispute that isn't decided was opened (Unix seconds)."""
        with reading(self._engine) as connection:
            return oldest_open(connection)

    def counts(self) -> dict[str, int]:
        """How many refunds and disputes are known, by whose payments they are."""
        with reading(self._engine) as connection:
            return counts_by_owner(connection)

    def of(self, intent_ids: Sequence[str]) -> dict[str, list[Reversal]]:
        """The refunds and disputes of these intents."""
        c = schema.reversals.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(schema.reversals).where(c.intent_id.in_(intent_ids)).order_by(c.id)
            )
            known = [reversal_of(row) for row in found.mappings()]
        reversals: dict[str, list[Reversal]] = {intent_id: [] for intent_id in intent_ids}
        for one in known:
            reversals[str(one.intent_id)].append(one)
        return reversals
