"""Reads whole tables: for `syncd export`, and for the copy of the database that a dry run uses."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from syncd.core.errors import StoreUnusable
from syncd.store.db import schema
from syncd.store.db.connection import reading, writing

EXPORTED = {
    "payment": schema.payments,
    "reversal": schema.reversals,
    "event": schema.seen_events,
    "unreadable": schema.unreadable,
    "dismissal": schema.dismissals,
    "halo_row": schema.halo_rows,
    "push": schema.pushes,
    "sent": schema.sent,
    "note": schema.notes,
    "requests": schema.requests,
}
"""What `syncd export` writes, by kind, without the lease, which is useless on another host."""

MOVED = (*EXPORTED.values(), schema.traces)
"""What another database gets; `syncd export` shows each trace with its payment."""

COPIED = (
    schema.payments,
    schema.traces,
    schema.notes,
    schema.requests,
    schema.seen_events,
    schema.reversals,
)
"""The tables that a dry run needs."""


def export(engine: sa.Engine, page: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all rows of the exported tables as (kind, columns), `page` rows a transaction.

    Short transactions do not block other processes, however slow the reader is. Rows that are
    written in the meantime may be missing.
    """
    for kind, table in EXPORTED.items():
        key = sa.tuple_(*table.primary_key.columns)
        order = list(table.primary_key.columns)
        after: tuple[Any, ...] | None = None
        while True:
            whole = schema.payments_with_trace if table is schema.payments else sa.select(table)
            query = whole.order_by(*order).limit(page)
            if after is not None:
                query = query.where(key > sa.tuple_(*map(sa.literal, after)))
            with reading(engine) as connection:
                found = [dict(row) for row in connection.execute(query).mappings()]
            yield from ((kind, row) for row in found)
            if len(found) < page:
                break
            after = tuple(found[-1][column.name] for column in order)


def copy(source: sa.Engine, target: sa.Engine) -> None:
    """Copy the tables that a dry run needs to another, empty database."""
    for table in COPIED:
        with reading(source) as connection:
            found = connection.execute(sa.select(table)).mappings()
            while rows := found.fetchmany(500):
                with writing(target) as other:
                    other.execute(table.insert(), [dict(row) for row in rows])


def move(source: sa.Engine, target: sa.Engine) -> int:
    """Copy all but leases to an empty database, in one transaction; return the number of rows.

    Raises:
        StoreUnusable: the other database is not empty; it is not changed.
    """
    total = 0
    with reading(source) as one, writing(target) as other:
        for table in MOVED:
            if other.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
                message = (
                    "The database to copy to is not empty: syncd has used it. Name an empty one. "
                    "Nothing was changed."
                )
                raise StoreUnusable(message)
        for table in MOVED:
            found = one.execute(sa.select(table)).mappings()
            while rows := found.fetchmany(500):
                other.execute(table.insert(), [dict(row) for row in rows])
                total += 0 if table is schema.traces else len(rows)  # part of its payment
        if target.dialect.name == "postgresql":
            # Rows that are added later get numbers after the copied ones.
            newest = "SELECT setval(pg_get_serial_sequence('pushes', 'id'), max(id)) FROM pushes"
            other.exec_driver_sql(newest)
    return total
