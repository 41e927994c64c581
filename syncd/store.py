"""The memory: what Stripe last said, what Halo last acknowledged, and how far we have read.

With `schema`, the only room that knows the database. Every method is one transaction; what a
method returns is committed. Times are Unix seconds and come from the caller.
"""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from syncd import schema
from syncd.failures import StoreTrouble, StoreUnusable
from syncd.payments import Heard, Observation, Payment, PaymentState, Row, settle
from syncd.rates import Window

QUICK_CHECK_BYTES_MAX = 64 * 1024 * 1024
"""A larger database isn't checked whole at every start; damage is then met when it is read."""

KEEP_SECONDS = 180 * 86_400
"""How long a payment that is done with is remembered after its last change."""


class Condition(StrEnum):
    """Where a payment stands between Stripe and Halo."""

    NO_STATE = "no_state"  # nothing has happened to the invoice yet
    IN_DOUBT = "in_doubt"  # the intent itself has to be read
    DUE = "due"
    IN_STEP = "in_step"
    HELD = "held"
    FAILED = "failed"
    UNMATCHED = "unmatched"  # Halo has no row yet; looked for again
    NOT_HALOS = "not_halos"


ATTENTION = (Condition.HELD, Condition.FAILED)
WAITING = (Condition.DUE, Condition.FAILED, Condition.UNMATCHED)
"""Conditions in which a payment is tried when its time comes."""


@dataclass(frozen=True, slots=True)
class Work:
    """A payment that is to be pushed, and what was tried before."""

    payment: Payment
    condition: Condition
    attempts: int
    looks: int
    doubt_until: float | None
    acked_state: PaymentState | None
    had_rows: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of trying to push a payment's state.

    Attributes:
        intent_id: which payment.
        state: the state that was pushed; another one that came meanwhile stays due.
        condition: where it stands now.
        code: machine's word for why, where a person must look.
        reason: the sentence for people.
        acked: whether Halo has acknowledged the state.
        rows: Halo's rows of it, where known.
        next_try: when to try again, where that is planned.
        attempts: how often the state was tried.
        looks: how often rows were looked for in vain.
        doubt_until: until when an insert may still appear in Halo.
    """

    intent_id: str
    state: PaymentState
    condition: Condition
    code: str | None = None
    reason: str | None = None
    acked: bool = False
    rows: tuple[int, ...] | None = None
    next_try: float | None = None
    attempts: int = 0
    looks: int = 0
    doubt_until: float | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking in a page has changed."""

    new_events: frozenset[str]
    changed: int


@dataclass(frozen=True, slots=True)
class Attention:
    """One line of the list that a person sees."""

    id: str
    kind: str
    condition: str
    code: str | None
    reason: str
    state: str | None
    amount: int | None
    currency: str | None
    attempts: int
    next_try: float | None
    since: float
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease."""

    owner: str
    what: str
    host: str
    boot: str
    pid: int


class Store:
    """The database behind a URL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    # --- opening -------------------------------------------------------------------------------

    @classmethod
    def open(cls, url: str, *, busy_seconds: float = 5.0) -> "Store":
        """Open the database, make it if there is none, and bring its tables up to date.

        Raises:
            StoreUnusable: it can't be opened, is damaged, or belongs to something else.
            StoreTrouble: it is locked, or there is no room.
        """
        path = sqlite_path(url)
        if path is not None:
            _look_before_opening(path, busy_seconds)
        engine = sa.create_engine(url, connect_args={"timeout": busy_seconds})
        sa.event.listen(engine, "connect", _on_connect)
        sa.event.listen(engine, "begin", _on_begin)
        store = cls(engine)
        with store._writing() as connection:
            version, tables = schema.version(connection)
            if version is None and tables:
                message = f"The database {url} holds tables of something else. Name another one in state.url."
                raise StoreUnusable(message)
            if version is not None and version > schema.REVISION:
                message = f"The database {url} was written by a newer syncd (schema {version}). Update syncd."
                raise StoreUnusable(message)
            if version != schema.REVISION:
                schema.upgrade(connection)
        return store

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with _translated(), self._engine.connect() as plain:
            connection = plain.execution_options(immediate=True)
            with connection.begin():
                yield connection

    # --- what Stripe says ----------------------------------------------------------------------

    def take_in(
        self,
        observations: Iterable[Observation],
        now: float,
        *,
        events: Mapping[str, int] | None = None,
        unreadable: Iterable[tuple[str, str, int | None]] = (),
    ) -> Taken:
        """Settle a page of words, and remember the events and what couldn't be read.

        Args:
            observations: what was read; those of an event already seen are passed over.
            now: Unix seconds.
            events: the page's event ids with their times.
            unreadable: id, reason and time of what couldn't be read.
        """
        events = events or {}
        with self._writing() as connection:
            known = _values(connection, schema.seen_events.c.event_id, list(events))
            new = {event: at for event, at in events.items() if event not in known}
            if new:
                connection.execute(
                    schema.seen_events.insert(),
                    [{"event_id": e, "at": at} for e, at in new.items()],
                )
            words = [o for o in observations if o.event_id is None or o.event_id in new]
            changed = _settle_all(connection, words, now)
            _remember_unreadable(connection, unreadable, now)
        return Taken(frozenset(new), changed)

    def replace(self, seen: Observation, now: float) -> None:
        """Let one reading of the intent itself stand for all that was said before.

        What a person asks for with a resync: old contradictions are forgotten, and it is pushed.
        """
        with self._writing() as connection:
            found = (
                connection.execute(
                    sa.select(schema.payments).where(schema.payments.c.intent_id == seen.intent_id)
                )
                .mappings()
                .first()
            )
            fields = _fields(settle(None, seen))
            fields |= _standing(fields, None, now)
            if fields["condition"] == Condition.IN_STEP:
                fields["condition"] = Condition.DUE
            if found is None:
                connection.execute(schema.payments.insert(), [_fresh() | fields])
                return
            fields["acked_state"] = None if found["code"] == "row_deleted" else found["acked_state"]
            connection.execute(
                schema.payments.update().where(schema.payments.c.intent_id == seen.intent_id),
                [{**fields, "next_try": now}],
            )

    def payment(self, intent_id: str) -> Mapping[str, Any] | None:
        """All that is known of one payment, by column; None where it was never seen."""
        with self._reading() as connection:
            found = (
                connection.execute(
                    sa.select(schema.payments).where(schema.payments.c.intent_id == intent_id)
                )
                .mappings()
                .first()
            )
        return dict(found) if found else None

    def in_doubt(self, limit: int) -> list[tuple[str, int]]:
        """Payments whose intent has to be read, each with the newest second that was seen."""
        c = schema.payments.c
        with self._reading() as connection:
            found = connection.execute(
                sa.select(c.intent_id, c.heard)
                .where(c.condition == Condition.IN_DOUBT)
                .order_by(c.intent_id)
                .limit(limit)
            ).all()
        return [(row.intent_id, max(word.at for word in _heard(row.heard))) for row in found]

    def hold_doubt(self, intent_id: str, code: str, reason: str, now: float) -> None:
        """Put a payment whose intent can't be read on the attention list."""
        c = schema.payments.c
        with self._writing() as connection:
            connection.execute(
                schema.payments.update()
                .where(c.intent_id == intent_id, c.condition == Condition.IN_DOUBT)
                .values(condition=Condition.HELD, code=code, reason=reason, changed_at=now)
            )

    def unsettled(
        self, created_from: int, created_before: int, limit: int
    ) -> list[tuple[str, int]]:
        """Payments that may still change, by when they were made (Unix seconds), newest first."""
        c = schema.payments.c
        made = sa.func.coalesce(c.created, c.said_at)
        with self._reading() as connection:
            found = connection.execute(
                sa.select(c.intent_id, made.label("made"))
                .where(c.final.is_(False), made >= created_from, made < created_before)
                .order_by(made.desc())
                .limit(limit)
            ).all()
        return [(row.intent_id, row.made) for row in found]

    # --- what is to be pushed ------------------------------------------------------------------

    def due_count(self, now: float) -> int:
        """How many payments are to be pushed now."""
        with self._reading() as connection:
            return connection.execute(
                sa.select(sa.func.count()).select_from(schema.payments).where(_due(now))
            ).scalar_one()

    def due(self, now: float, limit: int, after: str = "") -> list[Work]:
        """Payments to be pushed now, by their id, those beyond `after`."""
        c = schema.payments.c
        with self._reading() as connection:
            found = (
                connection.execute(
                    sa.select(schema.payments)
                    .where(_due(now), c.intent_id > after)
                    .order_by(c.intent_id)
                    .limit(limit)
                )
                .mappings()
                .all()
            )
        return [_work(row) for row in found]

    def work(self, intent_id: str, now: float) -> Work | None:
        """One payment, if it is to be pushed now."""
        with self._reading() as connection:
            found = (
                connection.execute(
                    sa.select(schema.payments).where(
                        _due(now), schema.payments.c.intent_id == intent_id
                    )
                )
                .mappings()
                .first()
            )
        return _work(found) if found else None

    def next_due(self) -> float | None:
        """When the next payment is to be tried (Unix seconds); None where none waits."""
        c = schema.payments.c
        with self._reading() as connection:
            return connection.execute(
                sa.select(sa.func.min(c.next_try)).where(c.condition.in_(WAITING))
            ).scalar()

    def intend_insert(self, intent_id: str, doubt_until: float) -> None:
        """Write down, before it is sent, that a row may appear in Halo from now on."""
        with self._writing() as connection:
            connection.execute(
                schema.payments.update()
                .where(schema.payments.c.intent_id == intent_id)
                .values(doubt_until=doubt_until)
            )

    def record(self, outcomes: Sequence[Outcome], now: float) -> None:
        """Write down what came of a push, all in one transaction.

        An acknowledgement is kept whatever happened meanwhile; where the payment stands changes
        only if Stripe hasn't said something else since.
        """
        if not outcomes:
            return
        c = schema.payments.c
        with self._writing() as connection:
            found = connection.execute(
                sa.select(c.intent_id, c.state, c.condition).where(
                    c.intent_id.in_([outcome.intent_id for outcome in outcomes])
                )
            ).all()
            standing = {row.intent_id: (row.state, row.condition) for row in found}
            acks, moves = [], []
            for outcome in outcomes:
                if outcome.acked:
                    acks.append(_ack(outcome, now))
                state, condition = standing.get(outcome.intent_id, (None, None))
                if state == outcome.state and condition != Condition.IN_DOUBT:
                    moves.append(_move(outcome, now))
            for rows, columns in ((acks, _ACK_COLUMNS), (moves, _MOVE_COLUMNS)):
                if rows:
                    connection.execute(_update_by_id(columns), rows)
            done = [
                o.intent_id
                for o in outcomes
                if o.condition in (Condition.IN_STEP, Condition.NOT_HALOS)
                and standing.get(o.intent_id, (None,))[0] == o.state
            ]
            if done:  # the trace has served; it would be most of the database
                connection.execute(
                    schema.payments.update().where(c.intent_id.in_(done)).values(trace=None)
                )

    # --- Halo's rows, while they are read page by page -------------------------------------------

    def forget_rows(self) -> None:
        """Empty the table of Halo's rows."""
        with self._writing() as connection:
            connection.execute(schema.halo_rows.delete())

    def add_rows(self, rows: Sequence[Row]) -> int:
        """Keep a page of Halo's rows; say how many of them were new."""
        unique = {row.id: row for row in rows if row.id is not None}
        with self._writing() as connection:
            known = _values(connection, schema.halo_rows.c.id, list(unique))
            new = [
                {
                    "id": row.id,
                    "intent_id": row.intent_id,
                    "invoice_id": row.invoice_id,
                    "amount": None if row.amount is None else str(row.amount),
                    "status": row.status,
                }
                for row in unique.values()
                if row.id not in known
            ]
            if new:
                connection.execute(schema.halo_rows.insert(), new)
        return len(new)

    def rows_of(self, intent_ids: Sequence[str]) -> dict[str, list[Row]]:
        """Halo's rows of these intents, as kept."""
        c = schema.halo_rows.c
        with self._reading() as connection:
            found = connection.execute(
                sa.select(schema.halo_rows).where(c.intent_id.in_(intent_ids)).order_by(c.id)
            ).all()
        rows: dict[str, list[Row]] = {intent_id: [] for intent_id in intent_ids}
        for row in found:
            amount = None if row.amount is None else Decimal(row.amount)
            rows[row.intent_id].append(
                Row(row.id, row.intent_id, row.invoice_id, amount, row.status)
            )
        return rows

    def drifted(self, numbers: Mapping[PaymentState, int], now: float, *, whole: bool) -> int:
        """Make due again what was in step and isn't any more, by the rows kept; say how many.

        Args:
            numbers: the tenant's status numbers.
            now: Unix seconds.
            whole: whether all of Halo's rows were read, so that a missing one is really gone.
        """
        p, r = schema.payments.c, schema.halo_rows.c
        drift = [
            sa.and_(
                p.acked_state == state,
                sa.exists().where(
                    r.intent_id == p.intent_id,
                    sa.or_(r.status.is_(None), r.status != number),
                ),
            )
            for state, number in numbers.items()
        ]
        if whole:
            drift.append(~sa.exists().where(r.intent_id == p.intent_id))
        if not drift:
            return 0
        with self._writing() as connection:
            return connection.execute(
                schema.payments.update()
                .where(p.condition == Condition.IN_STEP, sa.or_(*drift))
                .values(condition=Condition.DUE, next_try=now, attempts=0, changed_at=now)
            ).rowcount

    # --- what a person sees ----------------------------------------------------------------------

    def conditions(self) -> dict[Condition, int]:
        """How many payments stand where."""
        c = schema.payments.c
        with self._reading() as connection:
            found = connection.execute(
                sa.select(c.condition, sa.func.count()).group_by(c.condition)
            )
            counts = {Condition(name): number for name, number in found.all()}
        return {condition: counts.get(condition, 0) for condition in Condition}

    def attention_count(self) -> int:
        """How many lines the attention list has."""
        p, u = schema.payments.c, schema.unreadable.c
        with self._reading() as connection:
            held = sa.select(sa.func.count()).select_from(schema.payments)
            odd = sa.select(sa.func.count()).select_from(schema.unreadable)
            return (
                connection.execute(
                    held.where(p.condition.in_(ATTENTION), p.dismissed.is_(False))
                ).scalar_one()
                + connection.execute(odd.where(u.dismissed.is_(False))).scalar_one()
            )

    def attention(self, limit: int = 1_000) -> list[Attention]:
        """The list that a person sees: payments that are held or failed, and what is unreadable."""
        p, u = schema.payments.c, schema.unreadable.c
        with self._reading() as connection:
            held = connection.execute(
                sa.select(schema.payments)
                .where(p.condition.in_(ATTENTION), p.dismissed.is_(False))
                .order_by(p.changed_at.desc(), p.intent_id)
                .limit(limit)
            ).all()
            odd = connection.execute(
                sa.select(schema.unreadable)
                .where(u.dismissed.is_(False))
                .order_by(u.seen_at.desc())
                .limit(limit)
            ).all()
        return [
            Attention(
                row.intent_id, "payment", row.condition, row.code, row.reason or "", row.state,
                row.amount_received if row.state == PaymentState.SUCCEEDED else row.amount,
                row.currency, row.attempts, row.next_try, row.changed_at, _row_ids(row.rows),
            )
            for row in held
        ] + [
            Attention(
                row.id, "unreadable", "unreadable", "unreadable", row.reason, None, None, None, 0,
                None, row.seen_at, (),
            )
            for row in odd
        ]  # fmt: skip

    def retry(self, ids: Sequence[str] | None, now: float) -> list[str]:
        """Make what needs attention due again: these, or all. Returns the ids that it did.

        A payment whose row was deleted is treated as new: that is what retrying it means.
        """
        c = schema.payments.c
        wanted = c.condition.in_(ATTENTION)
        if ids is not None:
            wanted = sa.and_(wanted, c.intent_id.in_(ids))
        else:
            wanted = sa.and_(wanted, c.dismissed.is_(False))
        with self._writing() as connection:
            found = connection.execute(sa.select(c.intent_id, c.code).where(wanted)).all()
            done = [row.intent_id for row in found]
            gone = [row.intent_id for row in found if row.code == "row_deleted"]
            if done:
                connection.execute(
                    schema.payments.update()
                    .where(c.intent_id.in_(done))
                    .values(
                        condition=Condition.DUE, next_try=now, attempts=0, looks=0, dismissed=False
                    )
                )
            if gone:
                connection.execute(
                    schema.payments.update()
                    .where(c.intent_id.in_(gone))
                    .values(acked_state=None, rows=None)
                )
        return done

    def dismiss(self, ids: Sequence[str], now: float) -> list[str]:
        """Take these off the attention list until Stripe says something new. Returns which."""
        p, u = schema.payments.c, schema.unreadable.c
        with self._writing() as connection:
            wanted = sa.and_(p.intent_id.in_(ids), p.condition.in_(ATTENTION))
            done = list(connection.execute(sa.select(p.intent_id).where(wanted)).scalars())
            odd = list(connection.execute(sa.select(u.id).where(u.id.in_(ids))).scalars())
            connection.execute(
                schema.payments.update()
                .where(p.intent_id.in_(done))
                .values(condition=Condition.HELD, dismissed=True, next_try=None, changed_at=now)
            )
            connection.execute(
                schema.unreadable.update().where(u.id.in_(odd)).values(dismissed=True)
            )
        return done + odd

    def release(self, codes: Sequence[str], now: float) -> int:
        """Make due again what was held for these reasons; the configuration has changed."""
        c = schema.payments.c
        with self._writing() as connection:
            return connection.execute(
                schema.payments.update()
                .where(c.condition == Condition.HELD, c.code.in_(codes), c.dismissed.is_(False))
                .values(condition=Condition.DUE, next_try=now, attempts=0)
            ).rowcount

    # --- notes, windows, lease -------------------------------------------------------------------

    def note(self, name: str) -> str | None:
        """Read one note."""
        c = schema.notes.c
        with self._reading() as connection:
            return connection.execute(sa.select(c.value).where(c.name == name)).scalar()

    def notes(self) -> dict[str, str]:
        """Read all notes."""
        with self._reading() as connection:
            found = connection.execute(sa.select(schema.notes)).all()
        return {row.name: row.value for row in found}

    def write_notes(self, values: Mapping[str, str | None]) -> None:
        """Write notes; None removes one."""
        c = schema.notes.c
        with self._writing() as connection:
            connection.execute(schema.notes.delete().where(c.name.in_(list(values))))
            kept = [{"name": n, "value": v} for n, v in values.items() if v is not None]
            if kept:
                connection.execute(schema.notes.insert(), kept)

    def take_slot(self, side: str, window: Window, now: float) -> float:
        """Count one request to a side, if its window has room.

        Returns 0 where it was counted, else how many seconds to wait before asking again.
        """
        with self._writing() as connection:
            counts = _counts(connection, side)
            if any(bucket > now for bucket in counts):
                counts = window.rebased(counts, now)
                _rewrite_counts(connection, side, counts)
            wait = window.wait_seconds(counts, now)
            if wait > 0:
                return wait
            c, bucket = schema.requests.c, window.bucket(now)
            here = sa.and_(c.side == side, c.bucket == bucket)
            if (
                connection.execute(
                    schema.requests.update().where(here).values(number=c.number + 1)
                ).rowcount
                == 0
            ):
                connection.execute(
                    schema.requests.insert(), [{"side": side, "bucket": bucket, "number": 1}]
                )
                connection.execute(
                    schema.requests.delete().where(c.side == side, c.bucket < window.oldest(now))
                )
        return 0.0

    def counts(self, side: str) -> dict[int, int]:
        """The requests to one side by bucket."""
        with self._reading() as connection:
            return _counts(connection, side)

    def holder(self, name: str) -> tuple[Holder, float] | None:
        """Who holds a lease, and until when (Unix seconds)."""
        with self._reading() as connection:
            return _holder(connection, name)

    def take_lease(
        self,
        name: str,
        me: Holder,
        now: float,
        seconds: float,
        *,
        free: Callable[[Holder, float], bool],
    ) -> Holder | None:
        """Take or renew a lease. Returns None, or who has it.

        Args:
            name: what is leased.
            me: who asks.
            now: Unix seconds.
            seconds: how long it holds.
            free: whether somebody else's lease (holder, until) no longer counts.
        """
        with self._writing() as connection:
            found = _holder(connection, name)
            if found and found[0].owner != me.owner and not free(found[0], found[1]):
                return found[0]
            connection.execute(schema.lease.delete().where(schema.lease.c.name == name))
            connection.execute(
                schema.lease.insert(),
                [
                    {
                        "name": name, "owner": me.owner, "what": me.what, "host": me.host,
                        "boot": me.boot, "pid": me.pid, "until": now + seconds,
                    }
                ],
            )  # fmt: skip
        return None

    def give_lease(self, name: str, me: Holder) -> None:
        """Give a lease back, if it is still ours."""
        c = schema.lease.c
        with self._writing() as connection:
            connection.execute(schema.lease.delete().where(c.name == name, c.owner == me.owner))

    def prune(self, now: float, events_before: int) -> None:
        """Forget what serves no more: nothing grows for ever.

        Args:
            now: Unix seconds.
            events_before: events older than this (Unix seconds) won't be listed again.
        """
        p, e, u = schema.payments.c, schema.seen_events.c, schema.unreadable.c
        done = (Condition.IN_STEP, Condition.NOT_HALOS, Condition.NO_STATE)
        with self._writing() as connection:
            connection.execute(schema.seen_events.delete().where(e.at < events_before))
            old = now - KEEP_SECONDS
            connection.execute(
                schema.payments.delete().where(
                    p.changed_at < old, sa.or_(p.condition.in_(done), p.dismissed.is_(True))
                )
            )
            connection.execute(schema.unreadable.delete().where(u.seen_at < old))

    def copy_to(self, other: "Store") -> None:
        """Copy payments, notes and counted requests to another, empty store: for a dry run."""
        for table in (schema.payments, schema.notes, schema.requests, schema.seen_events):
            with self._reading() as source:
                found = source.execute(sa.select(table)).mappings()
                while rows := found.fetchmany(500):
                    with other._writing() as target:  # noqa: SLF001  # another Store
                        target.execute(table.insert(), [dict(row) for row in rows])


# --- opening: the details ------------------------------------------------------------------------


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL; None for another database, or one in memory."""
    parsed = sa.make_url(url)
    if not parsed.drivername.startswith("sqlite") or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def _look_before_opening(path: Path, busy_seconds: float) -> None:
    """Refuse what isn't a healthy database of ours, before anything is written to it."""
    remedy = "Name a usable file in state.url, or make it usable for the account syncd runs as."
    try:
        if not path.parent.is_dir():
            message = f"The database's folder {path.parent} doesn't exist. {remedy}"
            raise StoreUnusable(message)
        if not path.exists():
            # Readable by its owner alone, from its first byte on.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            return
        if not path.is_file():
            message = f"The database {path} isn't a file. {remedy}"
            raise StoreUnusable(message)
        if not os.access(path, os.R_OK | os.W_OK):
            message = f"The database {path} can't be read and written. {remedy}"
            raise StoreUnusable(message)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            with suppress(PermissionError):
                path.chmod(0o600)
        if path.stat().st_size <= QUICK_CHECK_BYTES_MAX:
            with _translated():
                _quick_check(path, busy_seconds)
    except OSError as error:
        message = f"The database {path} can't be opened: {error.strerror}. {remedy}"
        raise StoreUnusable(message) from error


def _quick_check(path: Path, busy_seconds: float) -> None:
    connection = sqlite3.connect(path, timeout=busy_seconds)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    if found != ("ok",):
        raise sqlite3.DatabaseError(f"malformed: {found}")


def _on_connect(connection: Any, _record: Any) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    connection.isolation_level = None  # SQLAlchemy's begin event starts transactions, not pysqlite
    # WAL can corrupt a database with two connections before SQLite 3.51.3; DELETE with EXTRA is
    # durable through power loss, and quick enough: about a thousand commits a second (measured).
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("PRAGMA secure_delete=ON")


def _on_begin(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the database's errors into ours, with a remedy."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        said = str(getattr(error, "orig", None) or error)
        low = said.lower()
        if "locked" in low or "busy" in low:
            message = (
                f"The database is locked by another process ({said}). Nothing was changed; "
                "syncd tries again later. If it stays so, look who holds the file (fuser)."
            )
            raise StoreTrouble(message) from error
        if "full" in low or "disk i/o" in low:
            message = (
                f"The database can't be written ({said}). Nothing was changed; make room on its "
                "disk, syncd then goes on by itself."
            )
            raise StoreTrouble(message) from error
        message = (
            f"The database can't be used ({said}). It was left as it is. Restore a copy of it, or "
            "move it away and run a backfill: it is rebuilt from Stripe and Halo."
        )
        raise StoreUnusable(message) from error


# --- rows and values -----------------------------------------------------------------------------

_ACK_COLUMNS = ("acked_state", "acked_at", "rows", "doubt_until")
_MOVE_COLUMNS = (
    "condition", "code", "reason", "next_try", "attempts", "looks", "doubt_until", "changed_at",
)  # fmt: skip


def _update_by_id(columns: Sequence[str]) -> sa.Update:
    return (
        schema.payments.update()
        .where(schema.payments.c.intent_id == sa.bindparam("b_intent_id"))
        .values({column: sa.bindparam(f"b_{column}") for column in columns})
    )


def _ack(outcome: Outcome, now: float) -> dict[str, Any]:
    return {
        "b_intent_id": outcome.intent_id,
        "b_acked_state": outcome.state,
        "b_acked_at": now,
        "b_rows": " ".join(map(str, outcome.rows or ())),
        "b_doubt_until": None,
    }


def _move(outcome: Outcome, now: float) -> dict[str, Any]:
    return {
        "b_intent_id": outcome.intent_id,
        "b_condition": outcome.condition,
        "b_code": outcome.code,
        "b_reason": outcome.reason,
        "b_next_try": outcome.next_try,
        "b_attempts": outcome.attempts,
        "b_looks": outcome.looks,
        "b_doubt_until": outcome.doubt_until,
        "b_changed_at": now,
    }


def _due(now: float) -> sa.ColumnElement[bool]:
    c = schema.payments.c
    return sa.and_(c.condition.in_(WAITING), c.next_try <= now)


def _values(connection: sa.Connection, column: sa.Column[Any], wanted: list[Any]) -> set[Any]:
    """Which of `wanted` are there already."""
    found: set[Any] = set()
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        found.update(connection.execute(sa.select(column).where(column.in_(part))).scalars())
    return found


def _counts(connection: sa.Connection, side: str) -> dict[int, int]:
    c = schema.requests.c
    found = connection.execute(sa.select(c.bucket, c.number).where(c.side == side)).all()
    return {row.bucket: row.number for row in found}


def _rewrite_counts(connection: sa.Connection, side: str, counts: Mapping[int, int]) -> None:
    connection.execute(schema.requests.delete().where(schema.requests.c.side == side))
    rows = [{"side": side, "bucket": bucket, "number": n} for bucket, n in counts.items()]
    if rows:
        connection.execute(schema.requests.insert(), rows)


def _holder(connection: sa.Connection, name: str) -> tuple[Holder, float] | None:
    row = connection.execute(sa.select(schema.lease).where(schema.lease.c.name == name)).first()
    if row is None:
        return None
    return Holder(row.owner, row.what, row.host, row.boot, row.pid), row.until


def _row_ids(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (text or "").split())


def _remember_unreadable(
    connection: sa.Connection, unreadable: Iterable[tuple[str, str, int | None]], now: float
) -> None:
    entries = {name: (reason, at) for name, reason, at in unreadable}
    known = _values(connection, schema.unreadable.c.id, list(entries))
    new = [
        {"id": name, "reason": reason, "at": at, "seen_at": now, "dismissed": False}
        for name, (reason, at) in entries.items()
        if name not in known
    ]
    if new:
        connection.execute(schema.unreadable.insert(), new)


def _settle_all(connection: sa.Connection, words: Sequence[Observation], now: float) -> int:
    """Settle words into the payments they belong to; say how many payments changed."""
    c = schema.payments.c
    ids = list({seen.intent_id for seen in words})
    before: dict[str, Any] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        # FOR UPDATE is for databases that need it; SQLite has taken the whole file already.
        query = sa.select(schema.payments).where(c.intent_id.in_(part)).with_for_update()
        before |= {row["intent_id"]: row for row in connection.execute(query).mappings()}
    after: dict[str, Payment] = {}
    for seen in words:
        known = after.get(seen.intent_id)
        if known is None and seen.intent_id in before:
            known = _payment(before[seen.intent_id])
        after[seen.intent_id] = settle(known, seen)
    fresh, changed = [], []
    for intent_id, payment in after.items():
        fields = _fields(payment)
        row = before.get(intent_id)
        if row is None:
            fresh.append(_fresh() | fields | _standing(fields, None, now))
            continue
        standing = _standing(fields, row, now)
        moved = fields | standing
        if any(row[name] != value for name, value in moved.items() if name != "changed_at"):
            changed.append({f"b_{name}": value for name, value in ({**row} | moved).items()})
    if fresh:
        connection.execute(schema.payments.insert(), fresh)
    if changed:
        columns = [column.name for column in schema.payments.columns if column.name != "intent_id"]
        connection.execute(_update_by_id(columns), changed)
    return len(fresh) + len(changed)


def _fresh() -> dict[str, Any]:
    return {
        "acked_state": None, "acked_at": None, "rows": None, "doubt_until": None,
        "code": None, "reason": None, "dismissed": False, "attempts": 0, "looks": 0,
        "next_try": None,
    }  # fmt: skip


def _standing(
    fields: Mapping[str, Any], row: Mapping[str, Any] | None, now: float
) -> dict[str, Any]:
    """Where a payment stands after Stripe has said something.

    A new state starts afresh: due, no attempts, no hold. The same state changes nothing, except
    that a doubt has come or gone.
    """
    payment = _payment(fields)
    fresh = {
        "code": None, "reason": None, "dismissed": False, "attempts": 0, "looks": 0,
        "next_try": None, "changed_at": now,
    }  # fmt: skip
    if payment.needs_reading:
        if row is not None and row["condition"] == Condition.IN_DOUBT:
            return {}
        return fresh | {"condition": Condition.IN_DOUBT}
    if fields["state"] is None:
        return (
            {}
            if row is not None and row["condition"] == Condition.NO_STATE
            else fresh | {"condition": Condition.NO_STATE}
        )
    same = (
        row is not None
        and row["state"] == fields["state"]
        and row["condition"] not in (Condition.IN_DOUBT, Condition.NO_STATE)
        and _payment(row).contradicted == payment.contradicted
        and row["amount_received"] == fields["amount_received"]
    )
    if same:
        served = row is not None and row["condition"] in (Condition.IN_STEP, Condition.NOT_HALOS)
        return {"trace": None} if served else {}
    if row is not None and row["acked_state"] == fields["state"] and not payment.contradicted:
        return fresh | {"condition": Condition.IN_STEP, "trace": None}
    return fresh | {"condition": Condition.DUE, "next_try": now}


def _fields(payment: Payment) -> dict[str, Any]:
    said = payment.said
    return {
        "intent_id": said.intent_id,
        "state": said.state,
        "said_at": said.at,
        "read": said.read,
        "created": said.created,
        "amount": said.amount,
        "amount_received": said.amount_received,
        "currency": said.currency,
        "invoice": said.invoice,
        "event_id": said.event_id,
        "trace": said.trace,
        "heard": _heard_text(payment.heard),
        "final": said.final and not payment.needs_reading,
    }


def _heard_text(heard: Iterable[Heard]) -> str:
    """As ``event:succeeded:1795500000 intent:none:1795500060``."""
    return " ".join(
        f"{'intent' if word.read else 'event'}:{word.state or 'none'}:{word.at}" for word in heard
    )


def _heard(text: str) -> tuple[Heard, ...]:
    parts = [part.split(":") for part in text.split()]
    return tuple(
        Heard(None if state == "none" else PaymentState(state), by == "intent", int(at))
        for by, state, at in parts
    )


def _payment(row: Mapping[str, Any]) -> Payment:
    return Payment(
        said=Observation(
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
        ),
        heard=_heard(row["heard"]),
    )


def _work(row: Mapping[str, Any]) -> Work:
    return Work(
        payment=_payment(row),
        condition=Condition(row["condition"]),
        attempts=row["attempts"],
        looks=row["looks"],
        doubt_until=row["doubt_until"],
        acked_state=PaymentState(row["acked_state"]) if row["acked_state"] else None,
        had_rows=row["acked_state"] is not None,
    )
