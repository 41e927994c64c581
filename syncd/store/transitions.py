"""Every write of a payment's condition: carries out the table in `core.rules.transitions`.

No other module writes the condition of a payment, nor the columns that go with it. The functions
work within the caller's transaction. Times are Unix seconds and come from the caller.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from syncd.core.holds import RETRIED_AS_NEW, HoldCode, LiftedBy, lifted_by
from syncd.core.payments import Observation, Payment, settle
from syncd.core.records import Condition, Outcome
from syncd.core.rules.transitions import (
    PUSH_CAUSES,
    PUSHED,
    Cause,
    Transition,
    Value,
    transition,
    transitions_by,
)
from syncd.store.db import schema
from syncd.store.payments import NEW_PAYMENT, fields_of, is_unread, payment_of, write_traces
from syncd.store.reversals import forget_unlisted

_C = schema.payments.c
_IDS: sa.BindParameter[list[str]] = sa.bindparam("ids", expanding=True)

# Each page and each push runs these two statements, so they are built once.
_LOCKED = schema.payments_with_trace.where(_C.intent_id.in_(_IDS)).with_for_update(
    of=schema.payments
)
"""FOR UPDATE is for PostgreSQL; a writing transaction locks all of SQLite's file."""

_KNOWN = sa.select(_C.intent_id, _C.state, _C.condition, _C.code, _C.changed_at).where(
    _C.intent_id.in_(_IDS)
)

_PLAIN: Mapping[Value, Any] = {
    Value.NULL: None,
    Value.ZERO: 0,
    Value.TRUE: True,
    Value.FALSE: False,
}


def _carry_out(
    connection: sa.Connection,
    cause: Cause,
    guard: sa.ColumnElement[bool],
    now: float,
    **given: Any,
) -> int:
    """Carry out one cause for all payments that match a guard; return how many.

    Args:
        connection: the caller's transaction.
        cause: the cause of the change.
        guard: selects payments; the table's source conditions are added.
        now: Unix seconds.
        given: the values of the columns that the table leaves to the caller.
    """
    number = 0
    for one in transitions_by(cause):
        values = {name: _written(name, value, now, given) for name, value in one.changes.items()}
        number += connection.execute(
            schema.payments.update()
            .where(guard, _C.condition.in_(one.sources - {None}))
            .values(condition=one.target, **values)
        ).rowcount
    return number


def _written(name: str, value: Value, now: float, given: Mapping[str, Any]) -> Any:
    """The value that an UPDATE sets a column to."""
    if value is Value.NOW:
        return now
    if value is Value.GIVEN:
        return given[name]
    if value is Value.PLUS_ONE:
        return _C[name] + 1
    if value is Value.IF_FUTURE:
        return sa.case((_C[name] > now, _C[name]))
    return _PLAIN[value]


def _columns_after(change: Transition, now: float) -> dict[str, Any]:
    """The columns after a transition that needs only the time."""
    values = {
        name: now if value is Value.NOW else _PLAIN[value] for name, value in change.changes.items()
    }
    return {"condition": change.target} | values


# --- Stripe reports -------------------------------------------------------------------------------


def take_in(connection: sa.Connection, observations: Sequence[Observation], now: float) -> int:
    """Add observations to their payments; return how many payments changed."""
    ids = list({seen.intent_id for seen in observations})
    before: dict[str, Any] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        found = connection.execute(_LOCKED, {"ids": part})
        before |= {row["intent_id"]: row for row in found.mappings()}
    after: dict[str, Payment] = {}
    for seen in observations:
        known = after.get(seen.intent_id)
        if known is None and seen.intent_id in before:
            known = payment_of(before[seen.intent_id])
        after[seen.intent_id] = settle(known, seen)
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    traces: dict[str, str | None] = {}
    for intent_id, payment in after.items():
        fields = fields_of(payment)
        row = before.get(intent_id)
        if row is None:
            new.append({**NEW_PAYMENT} | fields | _reported(payment, None, now))
            traces[intent_id] = new[-1].pop("trace")
            continue
        moved = fields | _reported(payment, row, now)
        if any(row[name] != value for name, value in moved.items() if name != "changed_at"):
            changed.append({f"b_{name}": value for name, value in ({**row} | moved).items()})
            trace = changed[-1].pop("b_trace")
            if trace != row["trace"]:
                traces[intent_id] = trace
    if new:
        connection.execute(schema.payments.insert(), new)
        forget_unlisted(connection, [row["intent_id"] for row in new])
    if changed:
        columns = [column.name for column in schema.payments.columns if column.name != "intent_id"]
        connection.execute(_update_by_id(tuple(columns)), changed)
    had = [name for name in traces if name in before and before[name]["trace"] is not None]
    write_traces(connection, had, traces)
    return len(new) + len(changed)


def _reported(payment: Payment, row: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """The columns that change because of what Stripe has reported.

    Another state starts over: due, no attempts, no hold. The same state changes nothing, except if
    a contradiction appeared or was resolved, if the metadata of a payment without rows was
    corrected, or if the payment had another state in between, which Halo may have received.
    """
    condition = None if row is None else Condition(row["condition"])
    if payment.needs_reading:
        cause = Cause.CONTRADICTED
    elif payment.current.state is None:
        cause = Cause.NOTHING_REPORTED
    elif row is not None and _reports_the_same(payment, row):
        served = condition in (Condition.IN_STEP, Condition.NOT_HALOS)
        return {"trace": None} if served else {}
    else:
        cause = Cause.STATE_REPORTED
    change = transition(condition, cause)
    return {} if change is None else _columns_after(change, now)


def _reports_the_same(payment: Payment, row: Mapping[str, Any]) -> bool:
    """Whether Stripe reports the state and the amounts that are in the database already."""
    return bool(
        row["state"] == payment.current.state
        and row["condition"] not in (Condition.IN_DOUBT, Condition.NO_STATE)
        and row["code"] not in lifted_by(LiftedBy.INTENT_READ)  # Stripe could show it now
        and payment_of(row).contradicted == payment.contradicted
        and row["amount_received"] == payment.current.amount_received
        and not (row["invoice"] != payment.current.invoice and _waits_for_invoice(row))
        and not (row["code"] == HoldCode.AMOUNT_MISMATCH and _parts_differ(row, payment.current))
        and not (
            row["condition"] == Condition.IN_STEP
            and payment.came_back(payment_of(row), row["changed_at"])
        )
    )


def _parts_differ(row: Mapping[str, Any], current: Observation) -> bool:
    """Whether Stripe now shows another surcharge or tip, which may explain the rows' amounts."""
    return bool(row["surcharge"] != current.surcharge or row["tip"] != current.tip)


def _waits_for_invoice(row: Mapping[str, Any]) -> bool:
    """Whether a corrected invoice in the payment's metadata may change the decision."""
    conditions = (Condition.UNMATCHED, Condition.NOT_HALOS, Condition.FAILED)
    return row["condition"] in conditions or row["code"] == "invoice_unreadable"


def resync(connection: sa.Connection, seen: Observation, now: float) -> None:
    """Replace all that Stripe reported of a payment by one read of its payment intent.

    A person requests it (`syncd resync`): earlier contradictions are forgotten, and the payment is
    pushed. A payment whose row was deleted in Halo counts as never acknowledged. A payment intent
    that shows no state (a failed payment whose error was cleared) replaces nothing: the events'
    reports stay.
    """
    query = schema.payments_with_trace.where(_C.intent_id == seen.intent_id)
    row = connection.execute(query).mappings().first()
    known = None if row is None or seen.state is not None else payment_of(row)
    payment = settle(known, seen)
    columns = fields_of(payment) | _reported(payment, None, now)
    write_traces(connection, [seen.intent_id], {seen.intent_id: columns.pop("trace")})
    if row is None:
        connection.execute(schema.payments.insert(), [{**NEW_PAYMENT} | columns])
        forget_unlisted(connection, [seen.intent_id])
        return
    if row["code"] in RETRIED_AS_NEW:
        columns |= {"acked_state": None, "rows": None, "seen_rows": None}
    connection.execute(
        schema.payments.update().where(_C.intent_id == seen.intent_id).values(columns)
    )


def reread(connection: sa.Connection, intent_id: str, now: float) -> None:
    """Let a payment's intent be read, because the events that would show its state are lost."""
    _carry_out(connection, Cause.EVENTS_LOST, _C.intent_id == intent_id, now)


def read_failed(connection: sa.Connection, intent_id: str) -> int:
    """Count a failed read of the intent of a payment in doubt; return how many there were."""
    mine = sa.and_(_C.intent_id == intent_id, is_unread())
    _carry_out(connection, Cause.READ_FAILED, mine, 0.0)
    found = connection.execute(sa.select(_C.attempts).where(_C.intent_id == intent_id))
    return int(found.scalar_one())


def postpone_read(connection: sa.Connection, intent_id: str, next_try: float) -> None:
    """Postpone the read of the intent of a payment in doubt to `next_try` (Unix seconds)."""
    mine = sa.and_(_C.intent_id == intent_id, is_unread())
    _carry_out(connection, Cause.READ_POSTPONED, mine, 0.0, next_try=next_try)


def hold_unreadable(
    connection: sa.Connection,
    intent_id: str,
    code: str,
    reason: str,
    now: float,
    next_try: float | None,
) -> None:
    """Put a payment in doubt on the attention list, because its intent cannot be read.

    Args:
        connection: the caller's transaction.
        intent_id: the payment.
        code: the machine-readable reason.
        reason: the sentence for people.
        now: Unix seconds.
        next_try: when to read the intent again, Unix seconds; None leaves that to a person.
    """
    mine = sa.and_(_C.intent_id == intent_id, is_unread())
    given = {"code": code, "reason": reason, "next_try": next_try}
    _carry_out(connection, Cause.UNREADABLE, mine, now, **given)


# --- a push ---------------------------------------------------------------------------------------


def record_outcomes(
    connection: sa.Connection, outcomes: Sequence[Outcome], now: float
) -> list[str]:
    """Record the outcomes of a push.

    An acknowledgement by Halo is always recorded. The condition changes only if Stripe has not
    reported another state in the meantime. If the payment is in step with another state, this late
    write has changed its rows: the payment is due again.

    Returns the payments that no longer need their trace.
    """
    ids = [outcome.intent_id for outcome in outcomes]
    found = connection.execute(_KNOWN, {"ids": ids}).all()
    known = {row.intent_id: (row.state, row.condition) for row in found}
    since = {(row.intent_id, row.code): row.changed_at for row in found if row.code is not None}
    acks, moves, done, late = [], [], [], []
    for outcome in outcomes:
        if outcome.acked:
            acks.append(_acknowledged(outcome, now))
        state, condition = known.get(outcome.intent_id, (None, None))
        if state != outcome.state:
            if outcome.acked and condition == Condition.IN_STEP:
                late.append(outcome.intent_id)
            continue
        if outcome.condition in (Condition.IN_STEP, Condition.NOT_HALOS):
            done.append(outcome.intent_id)
        if transition(Condition(condition), PUSH_CAUSES[outcome.condition]) is not None:
            # Held again for the same reason, for example after a reload: keep the first time.
            moves.append(_pushed(outcome, since.get((outcome.intent_id, outcome.code), now)))
    if acks:
        connection.execute(_update_by_id(("acked_state", "acked_at", "rows", "doubt_until")), acks)
    if moves:
        kept = tuple(name for name, value in PUSHED.items() if value is Value.GIVEN_OR_KEPT)
        connection.execute(_update_by_id(("condition", *PUSHED), kept), moves)
    if late:
        rows_differ(connection, _C.intent_id.in_(late), now)
    return done


def _acknowledged(outcome: Outcome, now: float) -> dict[str, Any]:
    return {
        "b_intent_id": outcome.intent_id,
        "b_acked_state": outcome.state,
        "b_acked_at": now,
        "b_rows": " ".join(map(str, outcome.rows or ())),
        "b_doubt_until": None,
    }


def _pushed(outcome: Outcome, now: float) -> dict[str, Any]:
    given = {
        f"b_{name}": now if value is Value.NOW else getattr(outcome, name)
        for name, value in PUSHED.items()
    }
    return {"b_intent_id": outcome.intent_id, "b_condition": outcome.condition} | given


@cache
def _update_by_id(columns: tuple[str, ...], kept: tuple[str, ...] = ()) -> sa.Update:
    """An UPDATE of single payments by ``b_intent_id``; each column comes from its ``b_`` parameter.

    Args:
        columns: the columns that are set.
        kept: the columns among them that keep their value if the parameter is None.
    """
    values: dict[str, sa.ColumnElement[Any]] = {
        column: sa.bindparam(f"b_{column}") for column in columns
    }
    values |= {column: sa.func.coalesce(values[column], _C[column]) for column in kept}
    query = schema.payments.update().where(_C.intent_id == sa.bindparam("b_intent_id"))
    return query.values(values)


def set_uncertainty(
    connection: sa.Connection,
    intent_id: str,
    known: float | None,
    until: float | None,
    *guards: sa.ColumnElement[bool],
) -> bool:
    """Change until when a payment's insert may still appear in Halo (Unix seconds; None: never).

    Returns False, and changes nothing, where it is no longer `known`: then another process has
    sent an insert in the meantime.
    """
    changed = connection.execute(
        schema.payments.update()
        .where(_C.intent_id == intent_id, _C.doubt_until.is_not_distinct_from(known), *guards)
        .values(doubt_until=until)
    )
    return changed.rowcount == 1


# --- Halo's rows, an audit, the configuration ----------------------------------------------------


def rows_differ(connection: sa.Connection, guard: sa.ColumnElement[bool], now: float) -> int:
    """Make payments due that the stored rows of Halo contradict (the guard); return how many."""
    return _carry_out(connection, Cause.ROWS_DIFFER, guard, now)


def audit_differs(connection: sa.Connection, seen: Sequence[Observation], now: float) -> list[str]:
    """Record observations and make their payments due, except held, failed, dismissed ones.

    Returns the ids of the payments that are due.
    """
    mine = _C.intent_id.in_([one.intent_id for one in seen])
    take_in(connection, seen, now)
    _carry_out(connection, Cause.AUDIT_DIFFERS, mine, now)
    query = sa.select(_C.intent_id).where(mine, _C.condition == Condition.DUE)
    return list(connection.execute(query).scalars())


def release(connection: sa.Connection, codes: Sequence[str], now: float) -> int:
    """Make payments due that were held for these reasons, after a change of the configuration."""
    guard = sa.and_(_C.code.in_(codes), _C.dismissed.is_(False))
    return _carry_out(connection, Cause.CONFIG_CHANGED, guard, now)


# --- people ---------------------------------------------------------------------------------------


def retry(connection: sa.Connection, wanted: sa.ColumnElement[bool], now: float) -> None:
    """Make payments on the attention list due.

    A payment whose row was deleted in Halo counts as new. For a payment that Stripe cannot show,
    Stripe is asked again; the payment stays on the list until Stripe answers.
    """
    unread = sa.and_(_C.code.is_not(None), _C.code.in_(lifted_by(LiftedBy.INTENT_READ)))
    deleted = sa.and_(_C.code.is_not(None), _C.code.in_(RETRIED_AS_NEW))
    _carry_out(connection, Cause.RETRIED_UNREADABLE, sa.and_(wanted, unread), now)
    _carry_out(connection, Cause.RETRIED, sa.and_(wanted, ~unread, ~deleted), now)
    _carry_out(connection, Cause.RETRIED_ROW_DELETED, sa.and_(wanted, deleted), now)


def dismiss(connection: sa.Connection, ids: Iterable[str], now: float) -> None:
    """Take payments off the attention list until Stripe reports another state."""
    _carry_out(connection, Cause.DISMISSED, _C.intent_id.in_(list(ids)), now)
