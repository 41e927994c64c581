"""What an audit asks the database: a part of the store, like `records`.

The audit keeps both sides in a store of its own that is thrown away, so that its memory doesn't
grow with their number; these are the questions about all of them at once.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from syncd import schema
from syncd.records import Condition

_P, _R, _H = schema.payments.c, schema.reversals.c, schema.halo_rows.c

MENDABLE = (Condition.IN_STEP, Condition.UNMATCHED, Condition.NOT_HALOS)
"""Where a payment may be made due again; what is held, dismissed or failed is left to people."""


def crowded_invoices(connection: sa.Connection, paid: int, since: int) -> list[int]:
    """Invoices with paid rows of several payments, at least one of them since a time.

    Args:
        connection: of the audit's own store.
        paid: the tenant's status number of what succeeded.
        since: Unix seconds.
    """
    payment = sa.func.coalesce(_H.intent_id, sa.literal("row ") + sa.cast(_H.id, sa.String))
    listed = sa.exists().where(_P.intent_id == _H.intent_id)
    lately = sa.func.max(sa.case((sa.or_(listed, _H.made >= since), 1), else_=0))
    query = (
        sa.select(_H.invoice_id)
        .where(_H.status == paid, _H.invoice_id.is_not(None))
        .group_by(_H.invoice_id)
        .having(sa.func.count(sa.distinct(payment)) > 1, lately == 1)
        .order_by(_H.invoice_id)
    )
    return [int(invoice) for invoice in connection.execute(query).scalars() if invoice is not None]


def strangers(connection: sa.Connection, since: int) -> list[str]:
    """Payments with rows made since a time that weren't listed at Stripe, the newest first."""
    listed = sa.exists().where(_P.intent_id == _H.intent_id)
    made = sa.func.max(_H.made)
    query = (
        sa.select(_H.intent_id)
        .where(_H.intent_id.startswith("pi_", autoescape=True), ~listed)
        .group_by(_H.intent_id)
        .having(made >= since)
        .order_by(made.desc(), _H.intent_id)
    )
    return [str(intent_id) for intent_id in connection.execute(query).scalars()]


def undated(connection: sa.Connection) -> int:
    """How many rows of unlisted payments have no date that could be read."""
    listed = sa.exists().where(_P.intent_id == _H.intent_id)
    query = (
        sa.select(sa.func.count())
        .select_from(schema.halo_rows)
        .where(_H.intent_id.startswith("pi_", autoescape=True), ~listed, _H.made.is_(None))
    )
    return connection.execute(query).scalar_one()


def reversed_earlier(connection: sa.Connection) -> list[str]:
    """Payments with rows that weren't listed, but refunds or disputes of which were."""
    listed = sa.exists().where(_P.intent_id == _R.intent_id)
    has_row = sa.exists().where(_H.intent_id == _R.intent_id)
    query = sa.select(_R.intent_id).where(~listed, has_row).distinct().order_by(_R.intent_id)
    return list(connection.execute(query).scalars())


def acknowledged(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Of which of these payments Halo is known to have had rows."""
    query = sa.select(_P.intent_id).where(_P.intent_id.in_(ids), _P.acked_state.is_not(None))
    return set(connection.execute(query).scalars())


def make_due(connection: sa.Connection, ids: Sequence[str], now: float) -> list[str]:
    """Make these due again, except what is held, dismissed or failed. Returns which are due."""
    mendable = sa.and_(_P.intent_id.in_(ids), _P.condition.in_(MENDABLE))
    connection.execute(
        schema.payments.update()
        .where(mendable)
        .values(condition=Condition.DUE, next_try=now, attempts=0, looks=0, changed_at=now)
    )
    due = sa.and_(_P.intent_id.in_(ids), _P.condition == Condition.DUE)
    return list(connection.execute(sa.select(_P.intent_id).where(due)).scalars())
