"""Counts payments by condition as they change, so that no query counts the whole table.

SQLite only: its triggers run in the transaction that changes a payment. PostgreSQL counts on
demand, because two processes that update the same counts could block each other.
"""

import sqlalchemy as sa

from syncd.store.db import schema

_ADD = """
    INSERT INTO payment_counts (condition, number) VALUES (NEW.condition, 1)
    ON CONFLICT (condition) DO UPDATE SET number = number + 1;"""
_TAKE = "UPDATE payment_counts SET number = number - 1 WHERE condition = OLD.condition;"
_TRIGGERS = (
    f"CREATE TRIGGER payments_added AFTER INSERT ON payments BEGIN {_ADD} END",
    f"CREATE TRIGGER payments_deleted AFTER DELETE ON payments BEGIN {_TAKE} END",
    "CREATE TRIGGER payments_moved AFTER UPDATE OF condition ON payments "
    f"WHEN OLD.condition <> NEW.condition BEGIN {_TAKE} {_ADD} END",
)
_FILL = "INSERT INTO payment_counts SELECT condition, count(*) FROM payments GROUP BY condition"

_C = schema.payments.c
_KEPT = sa.select(schema.payment_counts)
_COUNTED = sa.select(_C.condition, sa.func.count().label("number")).group_by(_C.condition)


def install(connection: sa.Connection) -> None:
    """Count the payments once; from then on, triggers keep the counts."""
    if connection.dialect.name == "sqlite":
        for statement in (_FILL, *_TRIGGERS):
            connection.exec_driver_sql(statement)


def by_condition(connection: sa.Connection) -> dict[str, int]:
    """How many payments are in each condition; a condition without payments may be missing."""
    found = connection.execute(_KEPT).all()
    if not found:  # no payments, or PostgreSQL
        found = connection.execute(_COUNTED).all()
    return {row.condition: row.number for row in found}
