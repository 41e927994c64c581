"""Opens the database, answers the queries of pulls and pushes, and has the store's parts.

The rest of syncd uses `Store`. Every method is one transaction: when it returns, its changes are
committed. Times are Unix seconds and come from the caller.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import sqlalchemy as sa

from syncd.core.payments import Observation, PaymentState
from syncd.core.records import Condition, DoubtfulInsert, DuePayment, Fence, Outcome, PageChanges
from syncd.core.reversals import Reversal
from syncd.core.rows import SeenRow
from syncd.store import transitions
from syncd.store.attention import PeopleStore
from syncd.store.coordination import CoordinationStore
from syncd.store.db import schema
from syncd.store.db.connection import (
    connect,
    present,
    present_now,
    read_once,
    reading,
    server_time,
    writing,
)
from syncd.store.db.notes import NoteStore, write_notes
from syncd.store.halo_rows import AuditQueries, RowStore
from syncd.store.history import (
    HousekeepingStore,
    Sent,
    Unproven,
    mark_sent,
    remember_pushes,
    sent_among,
    unproven_among,
)
from syncd.store.payments import (
    DOUBTFUL,
    DUE,
    DUE_AMONG,
    DUE_COUNT,
    DUE_DAYS,
    DUE_DAYS_WITHOUT_ROWS,
    DUE_ONE,
    FRESH,
    PAYMENT,
    READ_DUE,
    last_seen_of,
    made,
    remember_seen,
    remember_unreadable,
    work_of,
    write_traces,
)
from syncd.store.reversals import ReversalStore, take_in_reversals


class DoubtStore:
    """Payments in doubt: only the payment intent itself can show their state."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def due(self, now: float, limit: int) -> list[tuple[str, int]]:
        """Payments whose intent must be read now, each with the newest second that was reported."""
        found = read_once(self._engine, READ_DUE, {"now": now, "limit": limit})
        return [(row.intent_id, max(word.at for word in last_seen_of(row.heard))) for row in found]

    def hold(
        self, intent_id: str, code: str, reason: str, now: float, next_try: float | None = None
    ) -> None:
        """Put a payment whose intent cannot be read on the attention list.

        Args:
            intent_id: the payment.
            code: the machine-readable reason.
            reason: the sentence for people.
            now: Unix seconds.
            next_try: when to read the intent again, Unix seconds; None leaves that to a person.
        """
        with writing(self._engine) as connection:
            transitions.hold_unreadable(connection, intent_id, code, reason, now, next_try)

    def failed(self, intent_id: str) -> int:
        """Count a failed read of the intent of a payment in doubt; return how many there were."""
        with writing(self._engine) as connection:
            return transitions.read_failed(connection, intent_id)

    def put_off(self, intent_id: str, next_try: float) -> None:
        """Postpone the read of the intent of a payment in doubt to this time (Unix seconds)."""
        with writing(self._engine) as connection:
            transitions.postpone_read(connection, intent_id, next_try)

    def begin(self, intent_id: str, now: float) -> None:
        """Let a payment's intent be read, because its events are lost."""
        with writing(self._engine) as connection:
            transitions.reread(connection, intent_id, now)


class Store(NoteStore):
    """The database behind a URL.

    Attributes:
        doubts: payments whose intent must be read.
        rows: Halo's rows, as last read page by page.
        people: the attention list, and the requests of people.
        reversals: refunds and disputes.
        audit: the queries of an audit.
        coordination: what processes share: counted requests and leases.
        housekeeping: deleting what is no longer needed, export and copy.
    """

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.doubts = DoubtStore(engine)
        self.rows = RowStore(engine)
        self.people = PeopleStore(engine)
        self.reversals = ReversalStore(engine)
        self.audit = AuditQueries(engine)
        self.coordination = CoordinationStore(engine)
        self.housekeeping = HousekeepingStore(engine)

    # --- opening ---------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        url: str,
        *,
        busy_seconds: float = 5.0,
        durable: bool = True,
        password: str | None = None,
        create: bool = True,
    ) -> Self:
        """Open the database, create it if it does not exist, and upgrade its tables: see `connect`.

        A temporary database need not be `durable`: it is lost with its process.

        Raises:
            StoreUnusable: the database cannot be opened, is damaged, or belongs to another program.
            StoreUnavailable: the database is locked, cannot be reached, or its disk is full.
        """
        engine = connect(url, busy_seconds, durable=durable, password=password, create=create)
        opened = cls(engine)
        opened.coordination.use_server_time(server_time(engine))
        return opened

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # --- Stripe reports ----------------------------------------------------------------------------

    def take_in(
        self,
        observations: Iterable[Observation],
        now: float,
        *,
        events: Mapping[str, int] | None = None,
        unreadable: Iterable[tuple[str, str, int | None]] = (),
        reversals: Iterable[Reversal] = (),
        notes: Mapping[str, str | None] | None = None,
    ) -> PageChanges:
        """Record a page of observations, its events, and what could not be parsed.

        Args:
            observations: what was read; those of events that were recorded earlier are skipped.
            now: Unix seconds.
            events: the page's event ids with their times.
            unreadable: id, reason and time (Unix seconds) of each object that could not be parsed.
            reversals: refunds and disputes.
            notes: other notes to write, by name; None removes a note.
        """
        events, observations = events or {}, list(observations)
        unreadable, reversals = list(unreadable), list(reversals)
        old = not (unreadable or notes) and (events or not reversals)
        if old and all(one.event_id for one in observations):  # without news, nothing is committed
            known = present_now(self._engine, schema.seen_events.c.event_id, list(events))
            if len(known) == len(events):
                return PageChanges(frozenset(), 0)
        with writing(self._engine) as connection:
            known = present(connection, schema.seen_events.c.event_id, list(events))
            new = {event: at for event, at in events.items() if event not in known}
            if new:
                rows = [{"event_id": event, "at": at} for event, at in new.items()]
                connection.execute(schema.seen_events.insert(), rows)
            words = [o for o in observations if o.event_id is None or o.event_id in new]
            changed = transitions.take_in(connection, words, now)
            remember_unreadable(connection, unreadable, now)
            take_in_reversals(connection, reversals, now)
            write_notes(connection, notes or {})
        return PageChanges(frozenset(new), changed)

    def replace(self, seen: Observation, now: float) -> None:
        """Replace all that Stripe reported of a payment by one read of its intent (`syncd resync`)."""
        with writing(self._engine) as connection:
            transitions.resync(connection, seen, now)

    def payment(self, intent_id: str) -> Mapping[str, Any] | None:
        """One payment by column; None where it is not in the database."""
        found = read_once(self._engine, PAYMENT, {"id": intent_id})
        return found[0]._asdict() if found else None

    def unsettled(
        self, created_from: int, created_before: int, limit: int
    ) -> list[tuple[str, int]]:
        """Payments that may still change, with their creation times (Unix seconds), newest first."""
        c = schema.payments.c
        query = (
            sa.select(c.intent_id, made().label("made"))
            .where(c.final.is_(False), made() >= created_from, made() < created_before)
            .order_by(made().desc())
            .limit(limit)
        )
        return [(row.intent_id, row.made) for row in read_once(self._engine, query)]

    def made_by(self, seconds: int, since: int, *, succeeded: bool = False) -> dict[int, int]:
        """How many known payments were created since a time (Unix seconds), by slots of `seconds`."""
        c = schema.payments.c
        ended = c.final.is_(True) & (c.state == PaymentState.SUCCEEDED)
        slot = (c.created // seconds).label("slot")
        query = sa.select(slot, sa.func.count().label("number")).group_by(slot)
        query = query.where(c.created >= since, ended if succeeded else sa.true())
        return {row.slot: row.number for row in read_once(self._engine, query)}

    # --- pushes ------------------------------------------------------------------------------------

    def due_count(self, now: float) -> int:
        """Count the payments to push now."""
        return int(read_once(self._engine, DUE_COUNT, {"now": now})[0][0])

    def due(self, now: float, limit: int, after: str = "") -> list[DuePayment]:
        """The payments to push now, sorted by id, after the id `after`."""
        given = {"now": now, "after": after, "limit": limit}
        with reading(self._engine) as connection:
            found = connection.execute(DUE, given).mappings().all()
        return [work_of(row) for row in found]

    def due_days(self, now: float, *, without_rows: bool = False) -> dict[int, int]:
        """How many payments are due, by the day they were made (Unix days); or those without rows."""
        query = DUE_DAYS_WITHOUT_ROWS if without_rows else DUE_DAYS
        return {row.day: row.number for row in read_once(self._engine, query, {"now": now})}

    def due_among(self, intent_ids: Sequence[str], now: float) -> list[DuePayment]:
        """Those of these payments that must be pushed now."""
        found: list[DuePayment] = []
        with reading(self._engine) as connection:
            for start in range(0, len(intent_ids), 500):
                given = {"ids": intent_ids[start : start + 500], "now": now}
                found += map(work_of, connection.execute(DUE_AMONG, given).mappings())
        return found

    def fresh(self, now: float, since: float, limit: int) -> list[DuePayment]:
        """The payments to push now that an event reported at `since` or later, newest first.

        Args:
            now: Unix seconds.
            since: Unix seconds.
            limit: the maximum number of payments.
        """
        given = {"now": now, "since": since, "limit": limit}
        with reading(self._engine) as connection:
            found = connection.execute(FRESH, given).mappings().all()
        return [work_of(row) for row in found]

    def due_payment(self, intent_id: str, now: float) -> DuePayment | None:
        """One payment, if it must be pushed now."""
        with reading(self._engine) as connection:
            found = connection.execute(DUE_ONE, {"now": now, "id": intent_id}).mappings().first()
        return work_of(found) if found else None

    def overtaken(self, due_payments: Sequence[DuePayment]) -> frozenset[str]:
        """The payments among these whose state has changed since, or whose intent must be read."""
        c = schema.payments.c
        states = {due.intent_id: due.payment.current.state for due in due_payments}
        query = sa.select(c.intent_id, c.state).where(
            c.intent_id.in_(list(states)), c.condition != Condition.IN_DOUBT
        )
        found = read_once(self._engine, query)
        same = {row.intent_id for row in found if states[row.intent_id] == row.state}
        return frozenset(states) - same

    def intend_update(
        self,
        was: Mapping[str, Sequence[int | None]],
        now: float,
        notes: Mapping[str, str | None] | None = None,
        fence: Fence | None = None,
    ) -> None:
        """Record, before the request, that syncd sends rows of these payments.

        Args:
            was: the present status number of each row that is sent, by payment.
            now: Unix seconds.
            notes: other notes to write, by name.
            fence: the lease that this process must still hold.

        Raises:
            LeaseHeld: another process has taken the lease; nothing is recorded.
        """
        with writing(self._engine) as connection:
            self.coordination.check(connection, fence, now)
            mark_sent(connection, was, now)
            write_notes(connection, notes or {})

    def intend_insert(
        self,
        due: DuePayment,
        known: float | None,
        now: float,
        doubt_until: float,
        notes: Mapping[str, str] | None = None,
        fence: Fence | None = None,
    ) -> bool:
        """Record, before the request, that a new row may appear in Halo from now on.

        Args:
            due: the payment, as it was when the insert was decided.
            known: the newest `doubt_until` that the caller knows, Unix seconds.
            now: Unix seconds.
            doubt_until: until when the row may appear, Unix seconds.
            notes: other notes to write, by name, if the row may be sent.
            fence: the lease that this process must still hold.

        Returns whether the row may be sent: False if another process has sent an insert meanwhile.

        Raises:
            LeaseHeld: another process has taken the lease; nothing is recorded.
        """
        c = schema.payments.c
        intent_id = due.intent_id
        unchanged = c.acked_state.is_not_distinct_from(due.acked_state)
        with writing(self._engine) as connection:
            self.coordination.check(connection, fence, now)
            intended = transitions.set_uncertainty(
                connection, intent_id, known, doubt_until, unchanged
            )
            mark_sent(connection, {intent_id: ()}, now)
            write_notes(connection, notes if notes and intended else {})
        return intended

    def move_doubt(self, intent_id: str, known: float | None, until: float) -> bool:
        """Extend the uncertainty window of an insert from `known` to `until` (Unix seconds).

        Returns False where another process has sent an insert in the meantime.
        """
        with writing(self._engine) as connection:
            return transitions.set_uncertainty(connection, intent_id, known, until)

    def doubtful_inserts(self, now: float) -> list[DoubtfulInsert]:
        """Inserts of due payments that were sent and that Halo does not show yet."""
        found = read_once(self._engine, DOUBTFUL, {"now": now})
        return [DoubtfulInsert(row.intent_id, row.next_try, row.doubt_until) for row in found]

    def end_doubt(self, intent_id: str, known: float | None) -> None:
        """End the uncertainty window of an insert, if its end still is `known` (Unix seconds)."""
        with writing(self._engine) as connection:
            transitions.set_uncertainty(connection, intent_id, known, None)

    def record(
        self,
        outcomes: Sequence[Outcome],
        now: float,
        *,
        seen: Mapping[str, Sequence[SeenRow]] | None = None,
        notes: Mapping[str, str | None] | None = None,
    ) -> None:
        """Record the outcomes of a push in one transaction.

        An acknowledgement is always recorded. The condition changes only if Stripe has not reported
        another state in the meantime.

        Args:
            outcomes: one for each payment.
            now: Unix seconds.
            seen: Halo's rows as they were last seen, by payment intent: for people.
            notes: other notes to write, by name; None removes a note.
        """
        if not outcomes and not seen and not notes:
            return
        with writing(self._engine) as connection:
            remember_seen(connection, schema.payments, seen or {})
            done = transitions.record_outcomes(connection, outcomes, now)
            remember_pushes(connection, [o.pushed for o in outcomes if o.pushed is not None])
            write_notes(connection, notes or {})
            write_traces(connection, done, {})  # no longer needed, and long

    def sent(self, intent_ids: Sequence[str]) -> Sent:
        """The payments among these for which syncd ever sent something to Halo."""
        with reading(self._engine) as connection:
            return sent_among(connection, intent_ids)

    def unproven(self, intent_ids: Sequence[str]) -> dict[str, Unproven]:
        """Payments with a write that no answer has proven: see `history.unproven_among`."""
        with reading(self._engine) as connection:
            return unproven_among(connection, intent_ids)
