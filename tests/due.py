"""Finds the time of syncd's next work, for tests with a fake clock."""

import sqlalchemy as sa

from syncd.core.records import WAITING
from syncd.store.db import schema
from syncd.store.db.connection import reading
from syncd.store.store import Store

_C = schema.payments.c
_NEXT = sa.select(sa.func.min(_C.next_try)).where(_C.condition.in_(WAITING))


def next_due(store: Store) -> float | None:
    """Return the time of the next payment to try (Unix seconds), or None if no payment waits."""
    with reading(store._engine) as connection:
        return connection.execute(_NEXT).scalar()
