"""Halo's rows as last read page by page, and an audit's queries about them.

Times are Unix seconds and come from the caller.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from syncd.core.holds import LiftedBy, lifted_by
from syncd.core.payments import Observation, PaymentState
from syncd.core.records import ATTENTION, Condition
from syncd.core.rows import Row
from syncd.store import transitions
from syncd.store.db import schema
from syncd.store.db.connection import present, read_once, reading, writing
from syncd.store.db.notes import ROWS_READ, RowsNote, write_notes
from syncd.store.payments import seen_of

_AT_ONCE = 500
"""The maximum number of ids in one query: databases limit it."""

_P, _R, _H, _S = schema.payments.c, schema.reversals.c, schema.halo_rows.c, schema.sent.c

NEW_ROW_SECONDS = 300.0
"""Halo's lists show a new row within this time, in seconds; a deleted row is found by the next sweep."""


class RowStore:
    """Halo's rows, as they were last read."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def forget(self) -> None:
        """Empty the table of Halo's rows."""
        with writing(self._engine) as connection:
            connection.execute(schema.halo_rows.delete())
            write_notes(connection, {ROWS_READ.name: None})

    def count(self) -> int:
        """Count the stored rows of Halo."""
        query = sa.select(sa.func.count()).select_from(schema.halo_rows)
        return int(read_once(self._engine, query)[0][0])

    def sent_since(self, intent_ids: Sequence[str], since: float) -> set[str]:
        """Those of these payments for which syncd sent Halo something since a time (Unix seconds)."""
        found: set[str] = set()
        with reading(self._engine) as connection:
            for some in _some(intent_ids):
                query = sa.select(_S.intent_id).where(_S.intent_id.in_(some), _S.at >= since)
                found.update(connection.execute(query).scalars())
        return found

    def add(self, rows: Sequence[Row], note: RowsNote | None = None) -> int:
        """Add a page of Halo's rows; return how many of them were new.

        Args:
            rows: the rows of the page.
            note: how far the list is read with this page; None leaves the note as it is.
        """
        unique = {row.id: row for row in rows if row.id is not None}
        with writing(self._engine) as connection:
            known = present(connection, schema.halo_rows.c.id, list(unique))
            new = [
                {
                    "id": row.id,
                    "intent_id": _storable(row.intent_id),
                    "invoice_id": row.invoice_id,
                    "amount": None if row.amount is None else str(row.amount),
                    "status": row.status,
                    "made": row.made,
                    "invoice_number": row.invoice_number,
                }
                for row in unique.values()
                if row.id not in known
            ]
            if new:
                connection.execute(schema.halo_rows.insert(), new)
            if note is not None:
                write_notes(connection, {ROWS_READ.name: ROWS_READ.encode(note)})
        return len(new)

    def of(self, intent_ids: Sequence[str]) -> dict[str, list[Row]]:
        """Halo's rows of these payment intents."""
        rows: dict[str, list[Row]] = {intent_id: [] for intent_id in intent_ids}
        with reading(self._engine) as connection:
            for some in _some(intent_ids):
                query = sa.select(schema.halo_rows).where(_H.intent_id.in_(some)).order_by(_H.id)
                for row in map(row_of, connection.execute(query).mappings()):
                    rows[str(row.intent_id)].append(row)
        return rows

    def owners(self) -> dict[int, str]:
        """The payment of each row that Halo showed earlier, by Halo's number of the row."""
        query = sa.select(_P.intent_id, _P.seen_rows).where(_P.seen_rows.is_not(None))
        with reading(self._engine) as connection:
            return {
                row.id: intent_id
                for intent_id, text in connection.execute(query)
                for row in seen_of(text)
                if row.id is not None
            }

    def name(self, owners: Mapping[int, str]) -> None:
        """Assign payments to rows that a list showed without their payment."""
        named = [{"b_id": row, "b_intent": intent_id} for row, intent_id in owners.items()]
        query = (
            schema.halo_rows.update()
            .where(_H.id == sa.bindparam("b_id"), _H.intent_id.is_(None))
            .values(intent_id=sa.bindparam("b_intent"))
        )
        if named:
            with writing(self._engine) as connection:
                connection.execute(query, named)

    def newest_nameless(self, most: int) -> list[int]:
        """Halo's numbers of the newest rows that a list showed without a payment."""
        query = sa.select(_H.id).where(_H.intent_id.is_(None)).order_by(_H.id.desc()).limit(most)
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    def drifted(
        self,
        numbers: Mapping[PaymentState, int],
        now: float,
        *,
        whole: bool,
        amounts_compared: bool = True,
        read_from: float | None = None,
    ) -> int:
        """Make payments due if Halo's rows contradict them; return how many.

        Args:
            numbers: the tenant's status numbers.
            now: Unix seconds.
            whole: whether all of Halo's rows were read, so that a missing row was really deleted.
            amounts_compared: whether a success is held if the rows' amounts disagree.
            read_from: when the reading began, Unix seconds. The stored rows may be older than a
                later acknowledgement, so payments acknowledged after this time are left out. Lists
                may not show a row yet that syncd inserted within NEW_ROW_SECONDS before this time,
                so such a row does not count as deleted.
        """
        differs = _contradicted(numbers, whole=whole, compared=amounts_compared)
        if whole and read_from is not None:
            has_row = sa.exists().where(_H.intent_id == _P.intent_id)
            pushes = schema.pushes.c
            inserted = sa.exists().where(
                pushes.intent_id == _P.intent_id,
                pushes.old == "",  # there was no row before
                pushes.at.between(read_from - NEW_ROW_SECONDS, now),
            )
            differs &= sa.or_(has_row, ~inserted)
        if read_from is not None:
            differs &= ~sa.func.coalesce(_P.acked_at, 0.0).between(read_from, now)
        with writing(self._engine) as connection:
            return transitions.rows_differ(connection, differs, now)


def _contradicted(
    numbers: Mapping[PaymentState, int], *, whole: bool, compared: bool
) -> sa.ColumnElement[bool]:
    """Whether the stored rows of Halo contradict a payment.

    True for a payment that was in step and no longer is, and for a payment that had no row and has
    one now. For the arguments see `RowStore.drifted`.
    """
    has_row = sa.exists().where(_H.intent_id == _P.intent_id)
    differs = [
        sa.and_(
            _P.state == state,
            sa.exists().where(
                _H.intent_id == _P.intent_id, sa.or_(_H.status.is_(None), _H.status != number)
            ),
        )
        for state, number in numbers.items()
    ]
    if whole:
        differs.append(~has_row)
    held_without_row = sa.or_(
        _P.code.in_(lifted_by(LiftedBy.ROW_FOUND)),
        # If there are rows, amounts are compared only for a success.
        sa.and_(
            _P.code.in_(lifted_by(LiftedBy.ROW_FOUND_UNCOMPARED)),
            sa.or_(_P.state != PaymentState.SUCCEEDED, sa.literal(not compared)),
        ),
    )
    without_row = sa.or_(
        _P.condition.in_((Condition.UNMATCHED, Condition.NOT_HALOS)),
        sa.and_(_P.condition == Condition.HELD, held_without_row, _P.dismissed.is_(False)),
    )
    return sa.or_(
        sa.and_(_P.condition == Condition.IN_STEP, sa.or_(sa.false(), *differs)),
        sa.and_(without_row, has_row),
    )


def row_of(row: Mapping[Any, Any]) -> Row:
    """Read one of Halo's rows from its columns."""
    return Row(
        id=row["id"],
        intent_id=row["intent_id"],
        invoice_id=row["invoice_id"],
        amount=None if row["amount"] is None else Decimal(row["amount"]),
        status=row["status"],
        made=row["made"],
        invoice_number=row["invoice_number"],
    )


def _storable(intent_id: str | None) -> str | None:
    """A row's payment intent; None for text that the database cannot store or that cannot be an id.

    Half a surrogate pair, a zero byte or a very long text in one row must not stop reading all
    rows.
    """
    if intent_id is None or len(intent_id) > 255 or re.search(r"[\0\ud800-\udfff]", intent_id):
        return None
    return intent_id


class AuditQueries:
    """The queries of an audit.

    An audit stores both sides in its own temporary database, so that its memory does not grow with
    the number of payments, and queries that database about all payments at once. It asks the
    service's database what Halo has acknowledged, and makes payments due there if a push can
    correct them.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    # --- on the audit's database ------------------------------------------------------------------

    def index_invoices(self) -> None:
        """Create an index of rows by invoice, which only the audit's own database needs."""
        with writing(self._engine) as connection:
            connection.execute(
                sa.text("CREATE INDEX IF NOT EXISTS audit_by_invoice ON halo_rows (invoice_id)")
            )

    def crowded_invoices(self, paid: int, since: int, until: int) -> list[int]:
        """Invoices with paid rows of several payments, at least one of them in a period.

        Args:
            paid: the tenant's status number of a succeeded payment.
            since: Unix seconds at which the period begins.
            until: Unix seconds at which it ends (exclusive).
        """
        payment = sa.func.coalesce(_H.intent_id, sa.literal("row ") + sa.cast(_H.id, sa.String))
        listed = sa.exists().where(_P.intent_id == _H.intent_id)
        lately = sa.func.max(sa.case((sa.or_(listed, _made(since, until)), 1), else_=0))
        query = (
            sa.select(_H.invoice_id)
            .where(_H.status == paid, _H.invoice_id.is_not(None))
            .group_by(_H.invoice_id)
            .having(sa.func.count(sa.distinct(payment)) > 1, lately == 1)
            .order_by(_H.invoice_id)
        )
        with reading(self._engine) as connection:
            return [number for number in connection.execute(query).scalars() if number is not None]

    def paid_invoices(self, paid: int, since: int, until: int) -> list[int]:
        """Invoices with paid rows of Stripe's payments, at least one of them in a period.

        Args:
            paid: the tenant's status number of a succeeded payment.
            since: Unix seconds at which the period begins.
            until: Unix seconds at which it ends (exclusive).
        """
        listed = sa.exists().where(_P.intent_id == _H.intent_id)
        query = (
            sa.select(_H.invoice_id)
            # Numbers below one belong to recurring templates, which nobody pays.
            .where(_H.status == paid, _H.invoice_id > 0, _H.intent_id.is_not(None))
            .where(sa.or_(listed, _made(since, until)))
            .distinct()
        )
        with reading(self._engine) as connection:
            return [number for number in connection.execute(query).scalars() if number is not None]

    def listed(self, ids: Collection[str]) -> int:
        """How many of these payments Stripe has listed."""
        number = 0
        with reading(self._engine) as connection:
            for some in _some(ids):
                query = sa.select(sa.func.count()).select_from(schema.payments)
                number += connection.execute(query.where(_P.intent_id.in_(some))).scalar_one()
        return number

    def states_of(self, ids: Collection[str]) -> dict[str, tuple[str, str | None]]:
        """The state and the currency (in capitals) of each of these payments that Stripe listed."""
        query = sa.select(_P.intent_id, _P.state, _P.currency)
        found: dict[str, tuple[str, str | None]] = {}
        with reading(self._engine) as connection:
            for some in _some(ids):
                for row in connection.execute(query.where(_P.intent_id.in_(some))):
                    code = row.currency.upper() if row.currency else None
                    found[row.intent_id] = (row.state or "nothing yet", code)
        return found

    def rows_on_invoices(self, invoices: Sequence[int]) -> dict[int, list[Row]]:
        """Halo's stored rows on each of these invoices; pass at most a page of invoices."""
        query = sa.select(schema.halo_rows).where(_H.invoice_id.in_(invoices)).order_by(_H.id)
        found: dict[int, list[Row]] = {number: [] for number in invoices}
        with reading(self._engine) as connection:
            for row in connection.execute(query).mappings():
                found[row["invoice_id"]].append(row_of(row))
        return found

    def strangers(self, since: int, until: int) -> list[str]:
        """Unlisted payments with rows made in a period (Unix seconds), newest first."""
        made = sa.func.max(_H.made)
        query = (
            sa.select(_H.intent_id)
            .where(_unlisted())
            .group_by(_H.intent_id)
            .having(made >= since, made < until)
            .order_by(made.desc(), _H.intent_id)
        )
        with reading(self._engine) as connection:
            return [str(intent_id) for intent_id in connection.execute(query).scalars()]

    def undated(self) -> int:
        """How many rows of payments that Stripe did not list have no readable date."""
        query = sa.select(sa.func.count()).select_from(schema.halo_rows)
        with reading(self._engine) as connection:
            return connection.execute(query.where(_unlisted(), _H.made.is_(None))).scalar_one()

    def reversed_earlier(self, until: int) -> list[str]:
        """Unlisted payments that were refunded or disputed before a time (Unix seconds)."""
        listed = sa.exists().where(_P.intent_id == _R.intent_id)
        has_row = sa.exists().where(_H.intent_id == _R.intent_id)
        query = (
            sa.select(_R.intent_id)
            .where(~listed, has_row, sa.func.coalesce(_R.created, 0) < until)
            .distinct()
            .order_by(_R.intent_id)
        )
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    # --- on the service's database ----------------------------------------------------------------

    def acknowledged(self, ids: Sequence[str]) -> set[str]:
        """The payments among these for which Halo acknowledged rows."""
        query = sa.select(_P.intent_id).where(_P.intent_id.in_(ids), _P.acked_state.is_not(None))
        with reading(self._engine) as connection:
            return set(connection.execute(query).scalars())

    def dismissed_words(self, ids: Sequence[str]) -> dict[str, str]:
        """What a person dismissed of these reversals (`Reversal.acknowledged_as`), by id."""
        query = sa.select(_R.id, _R.dismissed).where(_R.id.in_(ids), _R.dismissed.is_not(None))
        with reading(self._engine) as connection:
            return {row.id: row.dismissed for row in connection.execute(query)}

    def left_to_people(self, ids: Collection[str]) -> dict[str, bool]:
        """The held or failed payments among these, and whether a person dismissed them."""
        query = sa.select(_P.intent_id, _P.dismissed).where(_P.condition.in_(ATTENTION))
        left: dict[str, bool] = {}
        with reading(self._engine) as connection:
            for some in _some(ids):
                found = connection.execute(query.where(_P.intent_id.in_(some)))
                left |= {row.intent_id: bool(row.dismissed) for row in found}
        return left

    def make_due(self, seen: Sequence[Observation], now: float) -> list[str]:
        """Record observations and make their payments due, except held, failed, dismissed ones.

        Returns the ids of the payments that are due.
        """
        with writing(self._engine) as connection:
            return transitions.audit_differs(connection, seen, now)


def _some(ids: Collection[str]) -> Iterator[list[str]]:
    names = list(ids)
    return (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))


def _made(since: int, until: int) -> sa.ColumnElement[bool]:
    """Whether a row of Halo was made in a period (Unix seconds)."""
    return sa.and_(_H.made >= since, _H.made < until)


def _unlisted() -> sa.ColumnElement[bool]:
    """Whether a row of Halo belongs to a payment intent that Stripe did not list."""
    listed = sa.exists().where(_P.intent_id == _H.intent_id)
    return sa.and_(_H.intent_id.startswith("pi_", autoescape=True), ~listed)
