"""What was written to Halo lately: a part of the store, for people and their page."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from syncd.core.payments import PaymentState
from syncd.core.records import Pushed
from syncd.store.db import schema
from syncd.store.payments import row_ids

PUSHES_SECONDS = 48 * 3_600
PUSHES_MAX = 20_000
"""How much of what was written to Halo is remembered: two days, and no more than so many."""


def remember_pushes(connection: sa.Connection, pushed: Sequence[Pushed]) -> None:
    """Add to the short history of pushes, and forget what is too old or too much."""
    if not pushed:
        return
    c = schema.pushes.c
    connection.execute(
        schema.pushes.insert(),
        [
            {
                "at": one.at, "intent_id": one.intent_id, "old": one.old, "new": one.new,
                "lag_seconds": one.lag_seconds, "rows": " ".join(map(str, one.rows)),
            }
            for one in pushed
        ],
    )  # fmt: skip
    newest = connection.execute(sa.select(sa.func.max(c.id))).scalar_one()
    connection.execute(
        schema.pushes.delete().where(
            sa.or_(c.at < pushed[-1].at - PUSHES_SECONDS, c.id <= newest - PUSHES_MAX)
        )
    )


def pushed_of(row: Any) -> Pushed:
    """A push out of its columns."""
    return Pushed(
        row.at, row.intent_id, row.old, PaymentState(row.new), row.lag_seconds, row_ids(row.rows)
    )
