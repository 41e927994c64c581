"""What syncd remembers of the past, and for how long.

- `sent`: the payments for which syncd ever sent something to Halo. A row's status number proves
  nothing about the tenant if syncd may have written it. `sent` is kept by payment, because a new
  row has no number until Halo answers. It is written before the request, so a crash or a lost
  answer cannot make it wrong, and it is kept longer than the payments themselves.
- `pushes`: what was written to Halo in the last two days, for the page.
- Deleting from every table what is no longer needed.

Times are Unix seconds and come from the caller.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from syncd.core.payments import PaymentState
from syncd.core.records import Condition, Pushed
from syncd.store.coordination import SENT_FORGOTTEN
from syncd.store.db import dump, schema
from syncd.store.db.connection import (
    facts,
    present,
    reading,
    silent_seconds,
    waiting_seconds,
    writing,
)
from syncd.store.db.notes import read_note, write_notes
from syncd.store.payments import row_ids
from syncd.store.reversals import is_listed

SENT_MAX = 100_000
"""How many payments `sent` remembers, the newest; a note has the time of the newest forgotten one."""

CLOCKS_SECONDS_MAX = 86_400.0
"""How far Halo's time of a webhook may differ from the local clock: it may lack a time zone."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What syncd remembers about its requests to Halo.

    Attributes:
        intents: payments for which something was sent.
        forgotten: until when forgotten payments were sent, Unix seconds; None if none is forgotten.
    """

    intents: frozenset[str]
    forgotten: float | None = None

    def may_include(self, intent_id: str | None, received: datetime | None) -> bool:
        """Whether syncd may have written a row's status.

        Args:
            intent_id: the row's payment.
            received: when a webhook wrote the row, by Halo's clock; None if no webhook did.
        """
        if intent_id in self.intents:
            return True
        if self.forgotten is None:
            return False
        return received is None or received.timestamp() <= self.forgotten + CLOCKS_SECONDS_MAX


_S = schema.sent.c
_DELETE_SENT = schema.sent.delete().where(_S.intent_id.in_(sa.bindparam("ids", expanding=True)))
_ADD_SENT = schema.sent.insert()

_NO_NUMBER = "-"
"""In `sent.was`: the row had no status number."""


@dataclass(frozen=True, slots=True)
class Unproven:
    """A write that no answer of Halo has proven.

    Attributes:
        sent_at: when it was sent, Unix seconds.
        changed_at: when the payment last changed here, Unix seconds.
        was: the status number of each of the rows before; None for a row without one.
    """

    sent_at: float
    changed_at: float
    was: tuple[int | None, ...]


def mark_sent(
    connection: sa.Connection, was: Mapping[str, Sequence[int | None]], now: float
) -> None:
    """Record that syncd sends something for these payments now (Unix seconds).

    Args:
        connection: a transaction.
        was: the present status number of each row that is sent, by payment; empty for a new row.
        now: Unix seconds.
    """
    ids = sorted(was)
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        connection.execute(_DELETE_SENT, {"ids": part})
        connection.execute(
            _ADD_SENT,
            [{"intent_id": one, "at": now, "was": _numbers_text(was[one])} for one in part],
        )


def _numbers_text(numbers: Sequence[int | None]) -> str:
    return " ".join(_NO_NUMBER if number is None else str(number) for number in numbers)


def _numbers_of(text: str | None) -> tuple[int | None, ...]:
    return tuple(None if part == _NO_NUMBER else int(part) for part in (text or "").split())


def sent_among(connection: sa.Connection, intent_ids: Sequence[str]) -> Sent:
    """What syncd remembers of these payments."""
    found = present(connection, schema.sent.c.intent_id, list(intent_ids))
    return Sent(frozenset(found), read_note(connection, SENT_FORGOTTEN))


def unproven_among(connection: sa.Connection, intent_ids: Sequence[str]) -> dict[str, Unproven]:
    """Payments for which something was sent after Halo last acknowledged a state, by id."""
    p = schema.payments.c
    query = sa.select(_S.intent_id, _S.at, _S.was, p.changed_at).where(
        _S.intent_id == p.intent_id, sa.or_(p.acked_at.is_(None), _S.at > p.acked_at)
    )
    found: dict[str, Unproven] = {}
    for start in range(0, len(intent_ids), 500):
        part = query.where(_S.intent_id.in_(intent_ids[start : start + 500]))
        found |= {
            row.intent_id: Unproven(row.at, row.changed_at, _numbers_of(row.was))
            for row in connection.execute(part)
        }
    return found


def forget_oldest_sent(connection: sa.Connection, kept: int = SENT_MAX) -> None:
    """Keep the newest payments; record until when the others were sent."""
    c = schema.sent.c
    oldest = sa.select(c.at).order_by(c.at.desc()).offset(kept).limit(1)
    until = connection.execute(oldest).scalar()
    if until is None:
        return
    before = read_note(connection, SENT_FORGOTTEN)
    connection.execute(schema.sent.delete().where(c.at <= until))
    latest = max(until, until if before is None else before)
    write_notes(connection, {SENT_FORGOTTEN.name: SENT_FORGOTTEN.encode(latest)})


# --- pushes, for the page -------------------------------------------------------------------------

PUSHES_SECONDS = 48 * 3_600
PUSHES_MAX = 20_000
"""How long and how many writes to Halo are remembered: two days, and at most this number."""


def remember_pushes(connection: sa.Connection, pushed: Sequence[Pushed]) -> None:
    """Add to the short history of pushes, and delete what is too old or too much."""
    if not pushed:
        return
    c = schema.pushes.c
    connection.execute(
        schema.pushes.insert(),
        [
            {
                "at": one.at,
                "intent_id": one.intent_id,
                "old": one.old,
                "new": one.new,
                "lag_seconds": one.lag_seconds,
                "rows": " ".join(map(str, one.rows)),
            }
            for one in pushed
        ],
    )
    newest = connection.execute(sa.select(sa.func.max(c.id))).scalar_one()
    connection.execute(
        schema.pushes.delete().where(
            sa.or_(c.at < pushed[-1].at - PUSHES_SECONDS, c.id <= newest - PUSHES_MAX)
        )
    )


def pushed_since(connection: sa.Connection, since: float, limit: int) -> list[Pushed]:
    """Payments written to Halo since a time (Unix seconds), newest first."""
    c = schema.pushes.c
    found = connection.execute(
        sa.select(schema.pushes)
        .where(c.at >= since)
        .order_by(c.at.desc(), c.id.desc())
        .limit(limit)
    )
    return [
        Pushed(
            row.at,
            row.intent_id,
            row.old,
            PaymentState(row.new),
            row.lag_seconds,
            row_ids(row.rows),
        )
        for row in found
    ]


# --- the whole database ---------------------------------------------------------------------------

KEEP_SECONDS = 180 * 86_400
"""How long a finished payment is remembered after its last change, in seconds."""


class HousekeepingStore:
    """The database as a whole: deleting what is no longer needed, export and copy."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def waiting_seconds(self) -> float:
        """How long a query has waited for a server's answer; 0 without such a query."""
        return waiting_seconds(self._engine)

    def silent_seconds(self, least: float) -> float:
        """How long a server has answered nobody while a query waits; 0 if less than `least`.

        A query that waits for a lock, or that takes long, is no silence. To know that, this method
        asks the server on another connection, which takes 1.5 seconds at most.
        """
        return silent_seconds(self._engine, least)

    def facts(self) -> dict[str, Any]:
        """Facts for a bug report: the database's kind, version, size, and rows by table."""
        with reading(self._engine) as connection:
            version = schema.version(connection)[0]
            rows = {
                table.name: connection.execute(
                    sa.select(sa.func.count()).select_from(table)
                ).scalar_one()
                for table in schema.metadata.sorted_tables
            }
        return {
            "kind": self._engine.dialect.name,
            **facts(self._engine),
            "schema": version,
            "rows": rows,
        }

    def prune(self, now: float, events_before: int) -> None:
        """Delete what is no longer needed, so that no table grows forever.

        Args:
            now: Unix seconds.
            events_before: events older than this (Unix seconds) will not be listed again.
        """
        p, e, u = schema.payments.c, schema.seen_events.c, schema.unreadable.c
        done = (Condition.IN_STEP, Condition.NOT_HALOS, Condition.NO_STATE)
        with writing(self._engine) as connection:
            connection.execute(schema.seen_events.delete().where(e.at < events_before))
            old = now - KEEP_SECONDS
            r = schema.reversals.c
            served = sa.and_(r.changed_at < old, ~is_listed())
            connection.execute(schema.reversals.delete().where(served))
            connection.execute(
                schema.payments.delete().where(
                    p.changed_at < old,
                    sa.or_(p.condition.in_(done), p.dismissed.is_(True)),
                    ~sa.exists().where(r.intent_id == p.intent_id),  # its payment must stay known
                )
            )
            of_payment = sa.exists().where(schema.traces.c.intent_id == p.intent_id)
            connection.execute(schema.traces.delete().where(~of_payment))
            connection.execute(schema.unreadable.delete().where(u.seen_at < old))
            forget_oldest_sent(connection)

    def export(self, page: int = 500) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield everything in the database as (kind, columns): see `dump.export`."""
        return dump.export(self._engine, page)

    def move_to(self, other: "HousekeepingStore") -> int:
        """Copy everything to another, empty store; returns how many rows: see `dump.move`."""
        return dump.move(self._engine, other._engine)  # noqa: SLF001  # same class

    def copy_to(self, other: "HousekeepingStore") -> None:
        """Copy payments, notes and counted requests to another, empty store: for a dry run."""
        dump.copy(self._engine, other._engine)  # noqa: SLF001  # same class
