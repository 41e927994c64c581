"""Payments in the database: their columns, and the conditions of the queries on them.

Does not belong here: changes of a payment's condition (`transitions`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from syncd.core.holds import LiftedBy, lifted_by
from syncd.core.payments import LastSeen, Observation, Payment, PaymentState
from syncd.core.records import WAITING, Condition, DuePayment, ReportedState, UnmatchedPayment
from syncd.core.rows import SeenRow, customers_of, invoices_of
from syncd.store.db import schema
from syncd.store.db.connection import present

DUE_WAIT_SECONDS_MAX = 600.0
WAIT_SECONDS_MAX = 90_000.0
"""The longest delays that are ever set: an uncertain insert for due payments, a day for others.

The hour above a day is for hosts whose clocks differ.
"""

# --- conditions of queries ------------------------------------------------------------------------


def is_waiting() -> sa.ColumnElement[bool]:
    """Whether a payment will be tried again at its `next_try`.

    The conditions are literals in the SQL, so that the partial index `payments_waiting` is used.
    """
    conditions: sa.BindParameter[Any] = sa.bindparam(
        "waiting", list(WAITING), expanding=True, literal_execute=True
    )
    return schema.payments.c.condition.in_(conditions)


NOW: sa.BindParameter[float] = sa.bindparam("now", type_=sa.Float)
"""The time of a query, Unix seconds: for statements that are built once."""


def made() -> sa.ColumnElement[int]:
    """When a payment was created, Unix seconds; if unknown, the best known time."""
    return sa.func.coalesce(schema.payments.c.created, schema.payments.c.said_at)


def is_due() -> sa.ColumnElement[bool]:
    """Whether a payment must be tried at the parameter `now`.

    A time later than the longest delay was set before the clock was set back: it counts as reached.
    """
    c = schema.payments.c
    waits_max = sa.case(
        (c.condition == Condition.DUE, DUE_WAIT_SECONDS_MAX), else_=WAIT_SECONDS_MAX
    )
    return sa.and_(is_waiting(), sa.or_(c.next_try <= NOW, c.next_try > NOW + waits_max))


def due_parts() -> tuple[sa.ColumnElement[bool], ...]:
    """`is_due` in disjoint parts; an index serves each part."""
    c = schema.payments.c
    others = c.condition.in_([one for one in WAITING if one is not Condition.DUE])
    return (
        sa.and_(c.condition.in_(WAITING), c.next_try <= NOW),
        sa.and_(c.condition == Condition.DUE, c.next_try > NOW + DUE_WAIT_SECONDS_MAX),
        sa.and_(others, c.next_try > NOW + WAIT_SECONDS_MAX),
    )


def _number(part: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(schema.payments).where(part).scalar_subquery()


def due_number() -> sa.ColumnElement[int]:
    """How many payments must be pushed at the parameter `now`."""
    return sum((_number(one) for one in due_parts()), sa.literal(0))


def is_unread() -> sa.ColumnElement[bool]:
    """Whether a payment's intent must be read, because only the payment intent can show the state."""
    c = schema.payments.c
    listed = sa.and_(c.condition == Condition.HELD, c.code.in_(lifted_by(LiftedBy.INTENT_READ)))
    return sa.or_(c.condition == Condition.IN_DOUBT, listed)


def is_to_be_read() -> sa.ColumnElement[bool]:
    """Whether the intent of a payment in doubt must be read at the parameter `now`.

    A payment on the attention list is read only at the time that was set for it, if any.
    """
    c = schema.payments.c
    come = sa.or_(c.next_try <= NOW, c.next_try > NOW + WAIT_SECONDS_MAX)
    fresh_doubt = sa.and_(c.condition == Condition.IN_DOUBT, c.next_try.is_(None))
    indexed = c.condition.in_(
        (Condition.IN_DOUBT, Condition.HELD)
    )  # `is_unread`, written as in the index
    return sa.and_(indexed, is_unread(), c.dismissed.is_(False), sa.or_(fresh_doubt, come))


# --- statements that run most often, built once: building one takes longer than SQLite needs for it

_C = schema.payments.c
_ID: sa.BindParameter[str] = sa.bindparam("id")
_LIMIT = sa.bindparam("limit", type_=sa.Integer)
READ_DUE = (
    sa.select(_C.intent_id, _C.heard)
    .where(is_to_be_read())
    .order_by(_C.attempts, _C.intent_id)  # payments that failed before come last
    .limit(_LIMIT)
)
PAYMENT = schema.payments_with_trace.where(_C.intent_id == _ID)
DUE_COUNT = sa.select(due_number())
DUE = (
    schema.payments_with_trace.where(is_due(), _C.intent_id > sa.bindparam("after"))
    .order_by(_C.intent_id)
    .limit(_LIMIT)
)
FRESH = (
    schema.payments_with_trace.where(
        _C.condition == sa.literal_column(f"'{Condition.DUE}'"),
        _C.said_at >= sa.bindparam("since"),
        _C.event_id.is_not(None),  # a payment intent does not show since when it has its state
        is_due(),
    )
    .order_by(_C.said_at.desc(), _C.intent_id)
    .limit(_LIMIT)
)
DUE_ONE = schema.payments_with_trace.where(is_due(), _C.intent_id == _ID)
DOUBTFUL = (
    sa.select(_C.intent_id, _C.next_try, _C.doubt_until)
    .where(_C.condition == Condition.DUE, _C.doubt_until > sa.bindparam("now"))
    .order_by(_C.intent_id)
)
DUE_DAYS = (
    sa.select((made() // 86_400).label("day"), sa.func.count().label("number"))
    .select_from(schema.payments)
    .where(is_due())
    .group_by(sa.text("day"))
)
DUE_DAYS_WITHOUT_ROWS = DUE_DAYS.where(
    ~sa.exists().where(schema.halo_rows.c.intent_id == _C.intent_id)
)
DUE_AMONG = schema.payments_with_trace.where(
    _C.intent_id.in_(sa.bindparam("ids", expanding=True)), is_due()
)

# --- what Stripe reports --------------------------------------------------------------------------


def remember_unreadable(
    connection: sa.Connection, unreadable: Iterable[tuple[str, str, int | None]], now: float
) -> None:
    """Remember unreadable objects, each once."""
    entries = {name: (reason, at) for name, reason, at in unreadable}
    known = present(connection, schema.unreadable.c.id, list(entries))
    new = [
        {"id": name, "reason": reason, "at": at, "seen_at": now, "dismissed": False}
        for name, (reason, at) in entries.items()
        if name not in known
    ]
    if new:
        connection.execute(schema.unreadable.insert(), new)


def remember_seen(
    connection: sa.Connection, table: sa.Table, seen: Mapping[str, Sequence[SeenRow]]
) -> None:
    """Store the rows that Halo showed, by payment intent; without rows, keep the old value."""
    found = [
        {"b_intent_id": name, "b_seen": seen_text(rows)} for name, rows in seen.items() if rows
    ]
    if found:
        query = table.update().where(table.c.intent_id == sa.bindparam("b_intent_id"))
        connection.execute(query.values(seen_rows=sa.bindparam("b_seen")), found)


_TRACES = schema.traces.c
_DELETE_TRACES = schema.traces.delete().where(
    _TRACES.intent_id.in_(sa.bindparam("ids", expanding=True))
)
_ADD_TRACES = schema.traces.insert()


def write_traces(
    connection: sa.Connection, before: Iterable[str], traces: Mapping[str, str | None]
) -> None:
    """Set the traces of payments; None removes one.

    Args:
        connection: the caller's transaction.
        before: the payments among them that have a trace now.
        traces: the new traces, by payment.
    """
    old = list(before)
    for start in range(0, len(old), 500):
        connection.execute(_DELETE_TRACES, {"ids": old[start : start + 500]})
    new = [{"intent_id": one, "trace": text} for one, text in traces.items() if text is not None]
    if new:
        connection.execute(_ADD_TRACES, new)


NEW_PAYMENT: Mapping[str, Any] = {
    "acked_state": None,
    "acked_at": None,
    "rows": None,
    "doubt_until": None,
    "code": None,
    "reason": None,
    "dismissed": False,
    "attempts": 0,
    "looks": 0,
    "next_try": None,
}
"""The columns of a payment that was never pushed."""

# --- their columns -------------------------------------------------------------------------------


def fields_of(payment: Payment) -> dict[str, Any]:
    """A payment as columns, with its trace, which is in a table of its own."""
    current = payment.current
    return {
        "intent_id": current.intent_id,
        "state": current.state,
        "said_at": current.at,
        "read": current.read,
        "created": current.created,
        "amount": current.amount,
        "amount_received": current.amount_received,
        "surcharge": current.surcharge,
        "tip": current.tip,
        "currency": current.currency,
        "invoice": current.invoice,
        "event_id": current.event_id,
        "trace": current.trace,
        "heard": _last_seen_text(payment.last_seen),
        "final": current.final and not payment.needs_reading,
    }


def _last_seen_text(last_seen: Iterable[LastSeen]) -> str:
    """As ``event:succeeded:1795500000 intent:none:1795500060``."""
    return " ".join(
        f"{'intent' if word.read else 'event'}:{word.state or 'none'}:{word.at}"
        for word in last_seen
    )


def last_seen_of(text: str) -> tuple[LastSeen, ...]:
    """The latest reports, from their column."""
    parts = [part.split(":") for part in text.split()]
    return tuple(
        LastSeen(None if state == "none" else PaymentState(state), by == "intent", int(at))
        for by, state, at in parts
    )


def payment_of(row: Mapping[Any, Any]) -> Payment:
    """A payment, from its columns."""
    return Payment(
        current=Observation(
            intent_id=row["intent_id"],
            state=PaymentState(row["state"]) if row["state"] else None,
            at=row["said_at"],
            read=bool(row["read"]),
            created=row["created"],
            amount=row["amount"],
            amount_received=row["amount_received"],
            currency=row["currency"],
            invoice=row["invoice"],
            event_id=row["event_id"],
            trace=row["trace"],
            surcharge=row["surcharge"],
            tip=row["tip"],
        ),
        last_seen=last_seen_of(row["heard"]),
    )


def work_of(row: Mapping[Any, Any]) -> DuePayment:
    """A payment that must be pushed, from its columns."""
    return DuePayment(
        payment=payment_of(row),
        condition=Condition(row["condition"]),
        reason=row["reason"],
        next_try=row["next_try"],
        attempts=row["attempts"],
        looks=row["looks"],
        doubt_until=row["doubt_until"],
        acked_state=PaymentState(row["acked_state"]) if row["acked_state"] else None,
        had_rows=row["acked_state"] is not None,
        accepted=row["accepted"],
        known_rows=frozenset(shown_rows(row["seen_rows"], row["rows"])["rows"]),
    )


def row_ids(text: str | None) -> tuple[int, ...]:
    """Halo's row numbers, from their column."""
    return tuple(int(part) for part in (text or "").split())


def shown_rows(seen: str | None, rows: str | None) -> dict[str, Any]:
    """The rows and invoices to show to people: those last seen, else those acknowledged."""
    found = seen_of(seen)
    ids = tuple(row.id for row in found if row.id is not None)
    return {
        "rows": ids or row_ids(rows),
        "invoices": invoices_of(found),
        "customers": customers_of(found),
    }


def seen_text(rows: Iterable[SeenRow]) -> str:
    """Rows as their column stores them: ``[[28, 1025, "INV-1025", "Alder Dental"]]``."""
    return json.dumps([[row.id, row.invoice_id, row.invoice_number, row.customer] for row in rows])


def seen_of(text: str | None) -> tuple[SeenRow, ...]:
    """The rows that were last seen, from their column."""
    return tuple(SeenRow(*row) for row in json.loads(text or "[]"))


def shown_amount(row: Any) -> int | None:
    """The amount to show, in the smallest unit: received, if any; otherwise requested."""
    amount: int | None
    amount = row.amount_received if row.state == PaymentState.SUCCEEDED else row.amount
    return amount


def unmatched_of(row: Any) -> UnmatchedPayment:
    """Read a payment without a row in Halo from its columns."""
    made = row.said_at if row.created is None else row.created
    waits = row.condition == Condition.UNMATCHED
    return UnmatchedPayment(
        row.intent_id,
        row.state,
        shown_amount(row),
        row.currency,
        made,
        row.next_try if waits else None,
    )


def reported_state_of(row: Any) -> ReportedState:
    """What Stripe last reported, from a payment's columns; the time of its event, if there is one."""
    state = PaymentState(row.state)
    times = [word.at for word in last_seen_of(row.heard) if word.state is state and not word.read]
    made = row.said_at if row.created is None else row.created
    return ReportedState(max(times, default=made), row.intent_id, state)
