"""Refunds and disputes in the database.

A reversal goes on the attention list if its payment concerns Halo: Halo has acknowledged the payment,
or it is held, or Halo has rows of a payment that the store does not know. A dismissed reversal comes
back if its amount or its outcome changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import sqlalchemy as sa

from syncd.core.holds import HoldCode
from syncd.core.money import Money
from syncd.core.records import ATTENTION, AttentionEntry
from syncd.core.reversals import Reversal, ReversalKind, ReversalStatus, is_news, message_of, newer
from syncd.core.rows import SeenRow
from syncd.store.db import schema
from syncd.store.db.connection import present, read_once, reading, writing
from syncd.store.payments import remember_seen, shown_rows

_ROWS = "_rows"

_MANY = 1_000_000
"""No database has so many refunded or disputed payments whose rows must be asked for."""

_FIELDS = tuple(field.name for field in fields(Reversal))
_R, _P = schema.reversals.c, schema.payments.c

UNPLACED = (  # each push asks this, so it is built once
    sa.select(_R.intent_id)
    .where(
        _R.of_halos.is_(None),
        _R.stand != ReversalStatus.BACK,
        ~sa.exists().where(_P.intent_id == _R.intent_id),
    )
    .distinct()
    .order_by(_R.intent_id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


class ReversalStore:
    """The refunds and disputes that Stripe has reported."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def unplaced(self, limit: int) -> list[str]:
        """Refunded or disputed payments that are not in the database: Halo must be asked for rows."""
        return [row.intent_id for row in read_once(self._engine, UNPLACED, {"limit": limit})]

    def place(self, intent_id: str, rows: Sequence[SeenRow]) -> None:
        """Record which rows Halo has, if any, for a refunded or disputed payment."""
        with writing(self._engine) as connection:
            _forget(connection, [unlisted_id(intent_id)])
            connection.execute(
                schema.reversals.update()
                .where(_R.intent_id == intent_id)
                .values(of_halos=bool(rows))
            )
            remember_seen(connection, schema.reversals, {intent_id: rows})

    def are_known(self) -> None:
        """Refunds and disputes of all periods were listed: forget that some were unknown."""
        with writing(self._engine) as connection:
            _forget(connection, [unknown_id(what) for what in ("refunds", "disputes")])

    def oldest_open_dispute(self) -> int | None:
        """When the oldest undecided dispute was opened (Unix seconds); None without any."""
        query = sa.select(sa.func.min(_R.created)).where(_R.stand == ReversalStatus.OPEN)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def counts(self) -> dict[str, int]:
        """Count refunds and disputes: of payments in Halo (`of_halos`), and of other payments."""
        payment = sa.exists().where(_P.intent_id == _R.intent_id, _P.acked_state.is_not(None))
        total = sa.select(sa.func.count()).select_from(schema.reversals).where(_counts())
        ours = total.where(sa.or_(_R.of_halos.is_(True), payment))
        with reading(self._engine) as connection:
            number = connection.execute(ours).scalar_one()
            others = connection.execute(total).scalar_one() - number
        return {"of_halos": number, "of_others": others}

    def of(self, intent_ids: Sequence[str]) -> dict[str, list[Reversal]]:
        """The refunds and disputes of these payments, by payment intent."""
        query = sa.select(schema.reversals).where(_R.intent_id.in_(intent_ids)).order_by(_R.id)
        with reading(self._engine) as connection:
            known = [reversal_of(row) for row in connection.execute(query).mappings()]
        reversals: dict[str, list[Reversal]] = {intent_id: [] for intent_id in intent_ids}
        for one in known:
            reversals[str(one.intent_id)].append(one)
        return reversals


def unlisted_id(intent_id: str) -> str:
    """The id of the attention entry for a reversed payment whose rows Halo cannot list."""
    return f"{intent_id[:250]}{_ROWS}"


def unknown_id(what: str) -> str:
    """The id of the attention entry for "refunds" or "disputes" that can no longer be read."""
    return f"{what}_unknown"


def entry_named(name: str) -> tuple[HoldCode, str | None]:
    """The code and the payment of an entry without a payment or a reversal, by the entry's id."""
    if name in (unknown_id("refunds"), unknown_id("disputes")):
        return HoldCode.REVERSALS_UNKNOWN, None
    if name.startswith("pi_") and name.endswith(_ROWS):
        return HoldCode.ROWS_UNLISTED, name.removesuffix(_ROWS)
    return HoldCode.UNREADABLE, None


def forget_unlisted(connection: sa.Connection, intent_ids: Iterable[str]) -> None:
    """Remove the entries of payments about whose rows Halo need not be asked any more."""
    names = {unlisted_id(intent_id): intent_id for intent_id in intent_ids}
    found = present(connection, schema.unreadable.c.id, list(names))
    if not found:
        return
    asked = set(connection.execute(UNPLACED, {"limit": _MANY}).scalars())
    _forget(connection, [name for name in found if names[name] not in asked])


def _forget(connection: sa.Connection, names: Sequence[str]) -> None:
    connection.execute(schema.unreadable.delete().where(schema.unreadable.c.id.in_(names)))


def take_in_reversals(connection: sa.Connection, seen: Iterable[Reversal], now: float) -> None:
    """Store the newest report about each reversal; without a payment intent it cannot concern Halo."""
    words = [one for one in seen if one.intent_id is not None]
    known = present(connection, _R.id, list({one.id for one in words}))
    listed = present(connection, _P.intent_id, list({one.intent_id for one in words}))
    for one in words:
        if one.id not in known:
            # Halo is asked only about payments that are not in the database.
            asked = False if one.intent_id in listed else None
            values = _columns(one) | {"dismissed": None, "of_halos": asked, "changed_at": now}
            connection.execute(schema.reversals.insert(), [values])
            known.add(one.id)
            continue
        query = sa.select(schema.reversals).where(_R.id == one.id).with_for_update()
        row = connection.execute(query).mappings().one()
        before = reversal_of(row)
        after = newer(before, one)
        if after == before or after.intent_id != before.intent_id:
            continue
        changed: dict[str, Any] = {}
        news = is_news(before, after)
        if news:
            changed["changed_at"] = now
        if row["dismissed"] == row["word"]:
            # Another value puts a dismissed reversal on the list again.
            changed["dismissed"] = "" if news else after.acknowledged_as
        connection.execute(
            schema.reversals.update().where(_R.id == one.id).values(**_columns(after), **changed)
        )
    _forget(connection, list(known))
    forget_unlisted(connection, {str(one.intent_id) for one in words})


def _columns(one: Reversal) -> dict[str, Any]:
    columns = {name: getattr(one, name) for name in _FIELDS}
    return columns | {"stand": one.money_status, "word": one.acknowledged_as}


def reversal_of(row: Mapping[Any, Any]) -> Reversal:
    """Read a refund or dispute from its columns."""
    one = Reversal(**{name: row[name] for name in _FIELDS})
    return replace(one, kind=ReversalKind(one.kind), read=bool(one.read), total=bool(one.total))


def is_listed() -> sa.ColumnElement[bool]:
    """Whether the reversal belongs on the attention list."""
    paid = schema.payments.alias()
    payment = sa.exists().where(
        paid.c.intent_id == _R.intent_id,
        sa.or_(paid.c.acked_state.is_not(None), paid.c.condition.in_(ATTENTION)),
    )
    return sa.and_(
        sa.or_(_R.of_halos.is_(True), payment),
        sa.or_(
            # The same condition as in the index `reversals_open`, so that the index is used.
            sa.and_(
                _R.dismissed.is_(None), _R.stand != sa.literal_column(f"'{ReversalStatus.BACK}'")
            ),
            _R.dismissed != _R.word,
        ),
        _counts(),
    )


def _counts() -> sa.ColumnElement[bool]:
    """False for a total that single refunds already include (`reversals.counted`, in SQL)."""
    single = schema.reversals.alias()
    accounted = (
        sa.select(sa.func.coalesce(sa.func.sum(single.c.amount), 0))
        .where(
            single.c.intent_id == _R.intent_id,
            single.c.kind == _R.kind,
            single.c.total.is_(False),
        )
        .scalar_subquery()
    )
    others = sa.exists().where(
        single.c.intent_id == _R.intent_id, single.c.kind == _R.kind, single.c.total.is_(False)
    )
    unread = sa.and_(_R.amount.is_(None), ~others)
    return sa.or_(_R.total.is_(False), _R.amount > accounted, unread)


def dismissed_as_shown() -> sa.ColumnElement[bool]:
    """Whether a person has dismissed the reversal, and nothing has changed since."""
    return sa.and_(_R.dismissed.is_not(None), _R.dismissed == _R.word)


def attention_of(
    connection: sa.Connection, limit: int, wanted: sa.ColumnElement[bool] | None = None
) -> list[AttentionEntry]:
    """The entries of refunds and disputes on the attention list, newest first.

    Args:
        connection: the database.
        limit: the maximum number of entries.
        wanted: a condition; by default `is_listed`.
    """
    query = (
        sa.select(
            schema.reversals,
            _P.amount_received,
            _P.rows,
            sa.func.coalesce(_P.seen_rows, _R.seen_rows).label("seen"),
        )
        .outerjoin(schema.payments, _P.intent_id == _R.intent_id)
        .where(is_listed() if wanted is None else wanted)
        .order_by(_R.changed_at.desc(), _R.id)
        .limit(limit)
    )
    lines = []
    for row in connection.execute(query).mappings():
        one = reversal_of(row)
        share, received = "", row["amount_received"]
        if one.amount is not None and one.currency and received is not None:
            part = "all" if one.amount >= received else "a part"
            share = f"That is {part} of the {Money(received, one.currency)} that Stripe received."
        reason = message_of(one, share)
        lines.append(
            AttentionEntry(
                id=one.id,
                kind=one.kind,
                condition=one.kind,
                code=one.kind,
                reason=reason,
                amount=one.amount,
                currency=one.currency,
                since=row["changed_at"],
                **shown_rows(row["seen"], row["rows"]),
                intent_id=one.intent_id,
                dismissed=row["dismissed"] is not None and row["dismissed"] == row["word"],
            )
        )
    return lines


def dismiss_reversals(connection: sa.Connection, ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Dismiss these reversals (or all of these payments) in their present state.

    Returns the refunds and disputes that were dismissed, and the given ids that matched one.
    """
    wanted = sa.and_(sa.or_(_R.id.in_(ids), _R.intent_id.in_(ids)), is_listed())
    found = connection.execute(sa.select(_R.id, _R.intent_id).where(wanted)).all()
    connection.execute(
        schema.reversals.update()
        .where(_R.id.in_([row.id for row in found]))
        .values(dismissed=_R.word)
    )
    done = {row.id for row in found} | {row.intent_id for row in found}
    return [row.id for row in found], [name for name in ids if name in done]


def restore_reversals(connection: sa.Connection, ids: Sequence[str]) -> list[str]:
    """Return dismissed refunds and disputes to the list; return their ids."""
    wanted = sa.and_(_R.id.in_(ids), dismissed_as_shown())
    found = list(connection.execute(sa.select(_R.id).where(wanted)).scalars())
    connection.execute(schema.reversals.update().where(_R.id.in_(found)).values(dismissed=None))
    return found
