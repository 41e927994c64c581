"""The memory as a whole: forgetting what serves no more, writing it all out, copying it.

A part of the store. Times are Unix seconds and come from the caller.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from syncd.core.records import Condition
from syncd.store.db import schema
from syncd.store.db.connection import reading, writing
from syncd.store.history import forget_oldest_sent
from syncd.store.reversals import stands

KEEP_SECONDS = 180 * 86_400
"""How long a payment that is done with is remembered after its last change."""

EXPORTED = {
    "payment": schema.payments,
    "reversal": schema.reversals,
    "event": schema.seen_events,
    "unreadable": schema.unreadable,
    "halo_row": schema.halo_rows,
    "push": schema.pushes,
    "sent": schema.sent,
    "note": schema.notes,
    "requests": schema.requests,
}
"""What `syncd export` writes, by kind; who is pushing just now means nothing elsewhere."""


class HousekeepingStore:
    """All that is remembered."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def prune(self, now: float, events_before: int) -> None:
        """Forget what serves no more: nothing grows for ever.

        Args:
            now: Unix seconds.
            events_before: events older than this (Unix seconds) won't be listed again.
        """
        p, e, u = schema.payments.c, schema.seen_events.c, schema.unreadable.c
        done = (Condition.IN_STEP, Condition.NOT_HALOS, Condition.NO_STATE)
        with writing(self._engine) as connection:
            connection.execute(schema.seen_events.delete().where(e.at < events_before))
            old = now - KEEP_SECONDS
            r = schema.reversals.c
            served = sa.and_(r.changed_at < old, ~stands())
            connection.execute(schema.reversals.delete().where(served))
            connection.execute(
                schema.payments.delete().where(
                    p.changed_at < old,
                    sa.or_(p.condition.in_(done), p.dismissed.is_(True)),
                    ~sa.exists().where(r.intent_id == p.intent_id),  # it says whose they are
                )
            )
            connection.execute(schema.unreadable.delete().where(u.seen_at < old))
            forget_oldest_sent(connection)

    def export(self, page: int = 500) -> Iterator[tuple[str, dict[str, Any]]]:
        """Everything that is remembered, as (kind, columns), read page by page.

        Each page is a transaction of its own, so that a reader who takes hours blocks nobody. What
        is written meanwhile may or may not be in it.
        """
        for kind, table in EXPORTED.items():
            key = sa.tuple_(*table.primary_key.columns)
            order = list(table.primary_key.columns)
            after: tuple[Any, ...] | None = None
            while True:
                query = sa.select(table).order_by(*order).limit(page)
                if after is not None:
                    query = query.where(key > sa.tuple_(*map(sa.literal, after)))
                with reading(self._engine) as connection:
                    found = [dict(row) for row in connection.execute(query).mappings()]
                yield from ((kind, row) for row in found)
                if len(found) < page:
                    break
                after = tuple(found[-1][column.name] for column in order)

    def copy_to(self, other: "HousekeepingStore") -> None:
        """Copy payments, notes and counted requests to another, empty store: for a dry run."""
        tables = (
            schema.payments, schema.notes, schema.requests, schema.seen_events, schema.reversals,
        )  # fmt: skip
        for table in tables:
            with reading(self._engine) as source:
                found = source.execute(sa.select(table)).mappings()
                while rows := found.fetchmany(500):
                    with writing(other._engine) as target:  # noqa: SLF001  # another one of these
                        target.execute(table.insert(), [dict(row) for row in rows])
