"""The attention list and the counts for people, and what people request: retry and dismiss.

Times are Unix seconds and come from the caller.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from syncd.core.holds import HoldCode, message
from syncd.core.records import (
    ATTENTION,
    AttentionEntry,
    Condition,
    Pushed,
    ReportedState,
    UnmatchedPayment,
)
from syncd.core.rows import SeenInvoice
from syncd.core.rules.proof import WriteKind, WriteTrouble
from syncd.core.rules.proof_notes import HARM, TROUBLES, due_at_once, read_trouble
from syncd.store import transitions
from syncd.store.db import counts, schema
from syncd.store.db.connection import reading, writing
from syncd.store.history import PUSHES_MAX, pushed_since
from syncd.store.payments import reported_state_of, shown_amount, shown_rows, unmatched_of
from syncd.store.reversals import (
    attention_of,
    dismiss_reversals,
    dismissed_as_shown,
    entry_named,
    is_listed,
    restore_reversals,
)


class PeopleStore:
    """The attention list, the counts, and the requests of people."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    # --- figures and lists ---------------------------------------------------------------------------

    def conditions(self) -> dict[Condition, int]:
        """Count the payments in each condition."""
        with reading(self._engine) as connection:
            numbers = counts.by_condition(connection)
        return {condition: numbers.get(condition, 0) for condition in Condition}

    def next_try(self) -> float | None:
        """When syncd tries the next due payment, Unix seconds; None if no payment is due."""
        c = schema.payments.c
        soonest = sa.select(sa.func.min(c.next_try)).where(c.condition == Condition.DUE)
        with reading(self._engine) as connection:
            found: float | None = connection.execute(soonest).scalar()
        return found

    def pushes(self, since: float, limit: int = PUSHES_MAX) -> list[Pushed]:
        """Payments written to Halo since a time (Unix seconds), newest first."""
        with reading(self._engine) as connection:
            return pushed_since(connection, since, limit)

    def reported_states(self, since: float, limit: int = PUSHES_MAX) -> list[ReportedState]:
        """The latest state of each Halo payment that Stripe reported since a time (Unix seconds).

        A payment without events counts from its creation, because the time of its latest state is
        unknown, and each new read would change it.
        """
        c = schema.payments.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(c.intent_id, c.state, c.said_at, c.created, c.heard)
                .where(
                    c.changed_at >= since,  # indexed, and never earlier than Stripe's report
                    c.said_at >= since,
                    sa.or_(c.created >= since, c.heard.contains("event:", autoescape=True)),
                    c.state.is_not(None),
                    c.condition.not_in((Condition.UNMATCHED, Condition.NOT_HALOS)),
                )
                .order_by(c.changed_at.desc())
                .limit(limit)
            ).all()
        return [state for row in found if (state := reported_state_of(row)).at >= since]

    def attention_count(self) -> int:
        """Count the entries of the attention list."""
        return sum(self.attention_counts().values())

    def attention_counts(self) -> dict[str, int]:
        """Count the entries of the attention list by kind; kinds without entries are left out."""
        p, u, r = schema.payments.c, schema.unreadable.c, schema.reversals.c
        with reading(self._engine) as connection:
            held = sa.select(sa.func.count()).select_from(schema.payments)
            odd = sa.select(sa.func.count()).select_from(schema.unreadable)
            back = sa.select(r.kind, sa.func.count()).where(is_listed()).group_by(r.kind)
            found = {
                "tenant": len(_stopped(connection)),
                "payment": connection.execute(
                    held.where(p.condition.in_(ATTENTION), p.dismissed.is_(False))
                ).scalar_one(),
                **{row[0]: row[1] for row in connection.execute(back)},
                "unreadable": connection.execute(odd.where(u.dismissed.is_(False))).scalar_one(),
            }
        return {kind: number for kind, number in found.items() if number}

    def attention(self, limit: int = 1_000) -> list[AttentionEntry]:
        """The attention list: what is held, failed, refunded, disputed or unreadable."""
        p, u = schema.payments.c, schema.unreadable.c
        listed = sa.and_(p.condition.in_(ATTENTION), p.dismissed.is_(False))
        with reading(self._engine) as connection:
            stopped = _stopped(connection)
        return stopped + self._entries(limit, listed, is_listed(), u.dismissed.is_(False))

    def dismissed(self, limit: int = 1_000) -> list[AttentionEntry]:
        """Entries that a person dismissed and that have not changed since, newest first."""
        p, u = schema.payments.c, schema.unreadable.c
        taken_off = sa.and_(p.condition.in_(ATTENTION), p.dismissed.is_(True))
        found = self._entries(limit, taken_off, dismissed_as_shown(), u.dismissed.is_(True))
        return sorted(found, key=lambda entry: -(entry.dismissed_at or 0.0))

    def entry(self, name: str) -> AttentionEntry | None:
        """One entry by its id, on the list or dismissed; None without one."""
        p, u, r = schema.payments.c, schema.unreadable.c, schema.reversals.c
        listed = sa.and_(p.condition.in_(ATTENTION), p.intent_id == name)
        found = self._entries(1, listed, r.id == name, u.id == name)
        with reading(self._engine) as connection:
            found += [entry for entry in _stopped(connection) if entry.id == name]
        return found[0] if found else None

    def _entries(
        self,
        limit: int,
        payments: sa.ColumnElement[bool],
        reversals: sa.ColumnElement[bool],
        unreadable: sa.ColumnElement[bool],
    ) -> list[AttentionEntry]:
        p, u, d = schema.payments.c, schema.unreadable.c, schema.dismissals.c
        with reading(self._engine) as connection:
            held = connection.execute(
                sa.select(schema.payments)
                .where(payments)
                .order_by(p.changed_at.desc(), p.intent_id)
                .limit(limit)
            ).all()
            odd = connection.execute(
                sa.select(schema.unreadable)
                .where(unreadable)
                .order_by(u.seen_at.desc())
                .limit(limit)
            ).all()
            back = attention_of(connection, limit, reversals)
            found = (
                [
                    AttentionEntry(
                        id=row.intent_id,
                        kind="payment",
                        condition=row.condition,
                        code=row.code,
                        reason=row.reason or "",
                        state=row.state,
                        amount=shown_amount(row),
                        currency=row.currency,
                        attempts=row.attempts,
                        next_try=row.next_try,
                        since=row.changed_at,
                        **shown_rows(row.seen_rows, row.rows),
                        intent_id=row.intent_id,
                        dismissed=bool(row.dismissed),
                    )
                    for row in held
                ]
                + back
                + [
                    AttentionEntry(
                        id=row.id,
                        kind="unreadable",
                        condition="unreadable",
                        code=entry_named(row.id)[0],
                        reason=row.reason,
                        since=row.seen_at,
                        intent_id=entry_named(row.id)[1],
                        dismissed=bool(row.dismissed),
                    )
                    for row in odd
                ]
            )
            names = [entry.id for entry in found if entry.dismissed]
            notes: dict[str, Any] = {}
            for start in range(0, len(names), 500):
                part = sa.select(schema.dismissals).where(d.id.in_(names[start : start + 500]))
                notes |= {row.id: row for row in connection.execute(part)}
        return [
            replace(entry, dismissed_at=notes[entry.id].at, note=notes[entry.id].note)
            if entry.dismissed and entry.id in notes
            else entry
            for entry in found
        ]

    def not_halos(self, limit: int) -> list[UnmatchedPayment]:
        """Payments without a row in Halo, newest first."""
        c = schema.payments.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(schema.payments)
                .where(c.condition.in_((Condition.UNMATCHED, Condition.NOT_HALOS)))
                .order_by(sa.func.coalesce(c.created, c.said_at).desc(), c.intent_id)
                .limit(limit)
            ).all()
        return [unmatched_of(row) for row in found]

    # --- retry and dismiss -----------------------------------------------------------------------

    def retry(self, ids: Sequence[str] | None, now: float) -> list[str]:
        """Make the given entries, or all, due again. Returns the ids of the entries that are due.

        A payment whose row was deleted in Halo is treated as new. An uncertain insert that can no
        longer appear is forgotten; one that can still appear is waited for. For a payment that
        Stripe cannot show, Stripe is asked again; the payment stays on the list until Stripe
        answers.
        """
        c = schema.payments.c
        wanted: sa.ColumnElement[bool] = c.condition.in_(ATTENTION)
        if ids is not None:
            wanted = sa.and_(wanted, c.intent_id.in_(ids))
        else:
            wanted = sa.and_(wanted, c.dismissed.is_(False))
        with writing(self._engine) as connection:
            done = list(connection.execute(sa.select(c.intent_id).where(wanted)).scalars())
            transitions.retry(connection, wanted, now)
            for entry in _stopped(connection):
                if entry.condition == "stopped" and (ids is None or entry.id in ids):
                    _try_again(connection, entry.id)
                    done.insert(0, entry.id)
        return done

    def restore(self, ids: Sequence[str]) -> list[str]:
        """Return dismissed refunds, disputes and unreadable answers to the list; return their ids."""
        u = schema.unreadable.c
        with writing(self._engine) as connection:
            wanted = sa.and_(u.id.in_(ids), u.dismissed.is_(True))
            odd = list(connection.execute(sa.select(u.id).where(wanted)).scalars())
            connection.execute(
                schema.unreadable.update().where(u.id.in_(odd)).values(dismissed=False)
            )
            return restore_reversals(connection, ids) + odd

    def accept(self, intent_id: str, codes: Sequence[str], now: float) -> str | None:
        """Let one held payment be pushed although its amounts differ, because a person decided so.

        The decision holds for the amounts in the hold's reason; other amounts are held again.

        Args:
            intent_id: the payment.
            codes: the holds that may be overridden.
            now: Unix seconds.

        Returns the reason that was overridden; None if the payment is not held for such a reason.
        """
        c = schema.payments.c
        mine = sa.and_(c.intent_id == intent_id, c.condition == Condition.HELD, c.code.in_(codes))
        with writing(self._engine) as connection:
            reason: str | None = connection.execute(sa.select(c.reason).where(mine)).scalar()
            if reason is not None:
                connection.execute(schema.payments.update().where(mine).values(accepted=reason))
                transitions.retry(connection, mine, now)
        return reason

    def dismiss(self, ids: Sequence[str], now: float, note: str | None = None) -> list[str]:
        """Take entries off the attention list until Stripe reports a change. Returns their ids.

        A payment's id includes its refunds and disputes.

        Args:
            ids: the entries.
            now: Unix seconds.
            note: the person's reason.
        """
        p, u = schema.payments.c, schema.unreadable.c
        with writing(self._engine) as connection:
            wanted = sa.and_(p.intent_id.in_(ids), p.condition.in_(ATTENTION))
            done = list(connection.execute(sa.select(p.intent_id).where(wanted)).scalars())
            odd = list(connection.execute(sa.select(u.id).where(u.id.in_(ids))).scalars())
            transitions.dismiss(connection, done, now)
            connection.execute(
                schema.unreadable.update().where(u.id.in_(odd)).values(dismissed=True)
            )
            harms = [entry.id for entry in _harms(connection) if entry.id in ids]
            named_harms = [HARM + name.removeprefix("row_") for name in harms]
            connection.execute(schema.notes.delete().where(schema.notes.c.name.in_(named_harms)))
            back, named = dismiss_reversals(connection, ids)
            _note(connection, {*done, *odd, *back}, now, note)
        return list(dict.fromkeys(done + odd + harms + named))

    def harmed_payments(self) -> frozenset[str]:
        """Payments with a row that a write harmed, until a person dismisses the row's entry."""
        named = sa.or_(_HARMED, _NAMES.in_([TROUBLES[WriteKind.UPDATE].name]))
        with reading(self._engine) as connection:
            found = _troubles(connection, named)
        harms = [one for one in found if one.code is HoldCode.WRITES_HAVE_SIDE_EFFECTS]
        return frozenset(name for trouble in harms for name in trouble.tried)

    def release(self, codes: Sequence[str], now: float) -> int:
        """Make payments due that were held for these reasons, after a change of the configuration."""
        with writing(self._engine) as connection:
            return transitions.release(connection, codes, now)


def _note(connection: sa.Connection, ids: Collection[str], now: float, note: str | None) -> None:
    """Record when and why these entries were dismissed."""
    names = sorted(ids)
    for start in range(0, len(names), 500):
        part = names[start : start + 500]
        connection.execute(schema.dismissals.delete().where(schema.dismissals.c.id.in_(part)))
        rows = [{"id": name, "at": now, "note": note} for name in part]
        connection.execute(schema.dismissals.insert(), rows)


def _stopped(connection: sa.Connection) -> list[AttentionEntry]:
    """Why nothing of a kind is written in this tenant: these entries come first on the list."""
    found = []
    for trouble in _troubles(connection, _NAMES.in_([note.name for note in TROUBLES.values()])):
        former = former_of(trouble)
        kept = f" Former contents of the row: {former}." if former else ""
        # The command comes last, so that it can be pasted as a whole.
        reason = message(trouble.code, trouble.entry_id, problem=f"{trouble.reason}{kept}")
        found.append(
            AttentionEntry(
                id=trouble.entry_id,
                kind="tenant",
                condition="stopped",
                code=trouble.code,
                reason=reason,
                attempts=len(trouble.tried),
                next_try=trouble.next_try,
                since=trouble.at,
                **_rows_of(connection, trouble),
            )
        )
    return found + _harms(connection)


def _harms(connection: sa.Connection) -> list[AttentionEntry]:
    """Rows that a write harmed before syncd knew how to write: a person must restore them."""
    return [
        AttentionEntry(
            id=f"row_{trouble.row_id}",
            kind="tenant",
            condition="harmed",
            code=trouble.code,
            reason=f"{trouble.reason} syncd leaves this row as it is now. "
            f"Restore the row in Halo. Former contents: {former_of(trouble)}. "
            f"Then run: syncd attention dismiss row_{trouble.row_id}",
            since=trouble.at,
            **_rows_of(connection, trouble),
        )
        for trouble in _troubles(connection, _HARMED)
    ]


def _rows_of(connection: sa.Connection, trouble: WriteTrouble) -> dict[str, Any]:
    """The payment that showed a problem, its row, and the invoice and the customer of the row."""
    c = schema.payments.c
    query = sa.select(c.seen_rows, c.rows).where(c.intent_id == trouble.intent_id)
    seen = connection.execute(query).first()
    shown = {} if seen is None else shown_rows(seen.seen_rows, seen.rows)
    if not shown.get("invoices") and trouble.invoice_id is not None:
        shown["invoices"] = (SeenInvoice(trouble.invoice_id, None),)
    shown["rows"] = () if trouble.row_id is None else (trouble.row_id,)
    return {**shown, "intent_id": trouble.intent_id}


_NAMES = schema.notes.c.name
_HARMED = _NAMES.startswith(HARM, autoescape=True)


def _troubles(connection: sa.Connection, named: sa.ColumnElement[bool]) -> list[WriteTrouble]:
    query = sa.select(schema.notes.c.value).where(named).order_by(_NAMES)
    return [one for one in map(read_trouble, connection.execute(query).scalars()) if one]


def former_of(trouble: WriteTrouble) -> str:
    """A harmed row's former contents, in one line."""
    return "; ".join(f"{name}: {value}" for name, value in trouble.before.items())


def _try_again(connection: sa.Connection, entry_id: str) -> None:
    """Let the next push try one row in a tenant in which syncd writes nothing."""
    c = schema.notes.c
    for note in TROUBLES.values():
        named = c.name == note.name
        text = connection.execute(sa.select(c.value).where(named)).scalar()
        trouble = read_trouble(text)
        if trouble is not None and trouble.entry_id == entry_id:
            value = due_at_once(text or "")
            connection.execute(schema.notes.update().where(named).values(value=value))
