"""The memory: what Stripe last said, what Halo last acknowledged, and how far we have read.

With `schema`, `database` and `records`, the only room that knows the database. Every method is one
transaction; what a method returns is committed. Times are Unix seconds and come from the caller.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import sqlalchemy as sa

from syncd import schema
from syncd.database import connect, reading, writing
from syncd.payments import Observation, PaymentState, Row, settle
from syncd.rates import Window
from syncd.records import (
    ACK_COLUMNS,
    ATTENTION,
    KEPT_COLUMNS,
    MOVE_COLUMNS,
    PUSHES_MAX,
    WAITING,
    Attention,
    Condition,
    Elsewhere,
    Holder,
    Outcome,
    Pushed,
    Said,
    Taken,
    Work,
    ack_of,
    counts_of,
    elsewhere_of,
    fields_of,
    fresh,
    heard_of,
    holder_of,
    is_due,
    is_to_be_read,
    is_unread,
    move_of,
    present,
    pushed_of,
    remember_pushes,
    remember_seen,
    remember_unreadable,
    rewrite_counts,
    row_of,
    said_of,
    settle_all,
    shown_amount,
    shown_rows,
    standing,
    storable,
    update_by_id,
    work_of,
)
from syncd.reversal_records import (
    attention_of,
    counts_by_owner,
    dismiss_reversals,
    oldest_open,
    reversal_of,
    stands,
    take_in_reversals,
    unplaced,
)
from syncd.reversals import Reversal
from syncd.seen_rows import SeenRow
from syncd.sent_records import Sent, forget_oldest_sent, mark_sent, sent_among

KEEP_SECONDS = 180 * 86_400
"""How long a payment that is done with is remembered after its last change."""

EXPORTED = {
    "payment": schema.payments,
    "reversal": schema.reversals,
    "event": schema.seen_events,
    "unreadable": schema.unreadable,
    "halo_row": schema.halo_rows,
    "push": schema.pushes,
    "sent": schema.sent,
    "note": schema.notes,
    "requests": schema.requests,
}
"""What `syncd export` writes, by kind; who is pushing just now means nothing elsewhere."""


class Store:
    """The database behind a URL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    # --- opening -------------------------------------------------------------------------------

    @classmethod
    def open(cls, url: str, *, busy_seconds: float = 5.0) -> Self:
        """Open the database, make it if there is none, and bring its tables up to date.

        Raises:
            StoreUnusable: it can't be opened, is damaged, or belongs to something else.
            StoreTrouble: it is locked, or there is no room.
        """
        return cls(connect(url, busy_seconds))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # --- what Stripe says ----------------------------------------------------------------------

    def take_in(
        self,
        observations: Iterable[Observation],
        now: float,
        *,
        events: Mapping[str, int] | None = None,
        unreadable: Iterable[tuple[str, str, int | None]] = (),
        reversals: Iterable[Reversal] = (),
    ) -> Taken:
        """Settle a page of words, and remember the events and what couldn't be read.

        Args:
            observations: what was read; those of an event already seen are passed over.
            now: Unix seconds.
            events: the page's event ids with their times.
            unreadable: id, reason and time of what couldn't be read.
            reversals: what was said of refunds and disputes.
        """
        events = events or {}
        with writing(self._engine) as connection:
            known = present(connection, schema.seen_events.c.event_id, list(events))
            new = {event: at for event, at in events.items() if event not in known}
            if new:
                connection.execute(
                    schema.seen_events.insert(),
                    [{"event_id": e, "at": at} for e, at in new.items()],
                )
            words = [o for o in observations if o.event_id is None or o.event_id in new]
            changed = settle_all(connection, words, now)
            remember_unreadable(connection, unreadable, now)
            take_in_reversals(connection, reversals, now)
        return Taken(frozenset(new), changed)

    def replace(self, seen: Observation, now: float) -> None:
        """Let one reading of the intent itself stand for all that was said before.

        What a person asks for with a resync: old contradictions are forgotten, and it is pushed.
        """
        with writing(self._engine) as connection:
            found = (
                connection.execute(
                    sa.select(schema.payments).where(schema.payments.c.intent_id == seen.intent_id)
                )
                .mappings()
                .first()
            )
            fields = fields_of(settle(None, seen))
            fields |= standing(fields, None, now)
            if fields["condition"] == Condition.IN_STEP:
                fields["condition"] = Condition.DUE
            if found is None:
                connection.execute(schema.payments.insert(), [fresh() | fields])
                return
            fields["acked_state"] = None if found["code"] == "row_deleted" else found["acked_state"]
            connection.execute(
                schema.payments.update().where(schema.payments.c.intent_id == seen.intent_id),
                [{**fields, "next_try": now}],
            )

    def payment(self, intent_id: str) -> Mapping[str, Any] | None:
        """All that is known of one payment, by column; None where it was never seen."""
        with reading(self._engine) as connection:
            found = (
                connection.execute(
                    sa.select(schema.payments).where(schema.payments.c.intent_id == intent_id)
                )
                .mappings()
                .first()
            )
        return dict(found) if found else None

    def in_doubt(self, now: float, limit: int) -> list[tuple[str, int]]:
        """Payments whose intent has to be read now, each with the newest second that was seen."""
        c = schema.payments.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(c.intent_id, c.heard)
                .where(is_to_be_read(now))
                .order_by(c.attempts, c.intent_id)  # those that can't be read come last
                .limit(limit)
            ).all()
        return [(row.intent_id, max(word.at for word in heard_of(row.heard))) for row in found]

    def hold_doubt(
        self, intent_id: str, code: str, reason: str, now: float, next_try: float | None = None
    ) -> None:
        """Put a payment whose intent can't be read on the attention list.

        Args:
            intent_id: which.
            code: why, for machines.
            reason: why, for people.
            now: Unix seconds.
            next_try: when to read it again, Unix seconds; None leaves that to a person.
        """
        c = schema.payments.c
        since = sa.case((c.condition == Condition.HELD, c.changed_at), else_=now)
        with writing(self._engine) as connection:
            connection.execute(
                schema.payments.update()
                .where(c.intent_id == intent_id, is_unread())
                .values(
                    condition=Condition.HELD, code=code, reason=reason, next_try=next_try,
                    changed_at=since,
                )
            )  # fmt: skip

    def doubt_failed(self, intent_id: str) -> int:
        """Count that the intent of a payment in doubt couldn't be read. Returns how often by now."""
        c = schema.payments.c
        with writing(self._engine) as connection:
            mine = schema.payments.update().where(c.intent_id == intent_id, is_unread())
            connection.execute(mine.values(attempts=c.attempts + 1))
            found = connection.execute(sa.select(c.attempts).where(c.intent_id == intent_id))
            return int(found.scalar_one())

    def put_off_doubt(self, intent_id: str, next_try: float) -> None:
        """Let the intent of a payment in doubt be read no sooner than then (Unix seconds)."""
        c = schema.payments.c
        with writing(self._engine) as connection:
            mine = schema.payments.update().where(c.intent_id == intent_id, is_unread())
            connection.execute(mine.values(next_try=next_try))

    def doubt(self, intent_id: str, now: float) -> None:
        """Let the intent of a payment that was in step, or had no state, be read: it may be otherwise."""
        c = schema.payments.c
        calm = c.condition.in_((Condition.IN_STEP, Condition.NO_STATE))
        with writing(self._engine) as connection:
            connection.execute(
                schema.payments.update()
                .where(c.intent_id == intent_id, calm)
                .values(condition=Condition.IN_DOUBT, attempts=0, next_try=None, changed_at=now)
            )

    def unsettled(
        self, created_from: int, created_before: int, limit: int
    ) -> list[tuple[str, int]]:
        """Payments that may still change, by when they were made (Unix seconds), newest first."""
        c = schema.payments.c
        made = sa.func.coalesce(c.created, c.said_at)
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(c.intent_id, made.label("made"))
                .where(c.final.is_(False), made >= created_from, made < created_before)
                .order_by(made.desc())
                .limit(limit)
            ).all()
        return [(row.intent_id, row.made) for row in found]

    def made_between(self, start: int, end: int) -> int:
        """How many payments are known that were made from `start` to before `end` (Unix seconds)."""
        c = schema.payments.c
        made = sa.func.coalesce(c.created, c.said_at)
        with reading(self._engine) as connection:
            return connection.execute(
                sa.select(sa.func.count())
                .select_from(schema.payments)
                .where(made >= start, made < end)
            ).scalar_one()

    # --- what is to be pushed ------------------------------------------------------------------

    def due_count(self, now: float) -> int:
        """How many payments are to be pushed now."""
        with reading(self._engine) as connection:
            return connection.execute(
                sa.select(sa.func.count()).select_from(schema.payments).where(is_due(now))
            ).scalar_one()

    def due(self, now: float, limit: int, after: str = "") -> list[Work]:
        """Payments to be pushed now, by their id, those beyond `after`."""
        c = schema.payments.c
        with reading(self._engine) as connection:
            found = (
                connection.execute(
                    sa.select(schema.payments)
                    .where(is_due(now), c.intent_id > after)
                    .order_by(c.intent_id)
                    .limit(limit)
                )
                .mappings()
                .all()
            )
        return [work_of(row) for row in found]

    def work(self, intent_id: str, now: float) -> Work | None:
        """One payment, if it is to be pushed now."""
        with reading(self._engine) as connection:
            found = (
                connection.execute(
                    sa.select(schema.payments).where(
                        is_due(now), schema.payments.c.intent_id == intent_id
                    )
                )
                .mappings()
                .first()
            )
        return work_of(found) if found else None

    def next_due(self) -> float | None:
        """When the next payment is to be tried (Unix seconds); None where none waits."""
        c = schema.payments.c
        with reading(self._engine) as connection:
            return connection.execute(
                sa.select(sa.func.min(c.next_try)).where(c.condition.in_(WAITING))
            ).scalar()

    def intend_update(self, intent_ids: Sequence[str], now: float) -> None:
        """Write down, before it is sent, that rows of these payments get their status from us.

        Args:
            intent_ids: the payments.
            now: Unix seconds.
        """
        with writing(self._engine) as connection:
            mark_sent(connection, intent_ids, now)

    def overtaken(self, works: Sequence[Work]) -> frozenset[str]:
        """Which of these payments Stripe has said something else of since, or must be asked about."""
        c = schema.payments.c
        states = {work.payment.said.intent_id: work.payment.said.state for work in works}
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(c.intent_id, c.state).where(
                    c.intent_id.in_(list(states)), c.condition != Condition.IN_DOUBT
                )
            ).all()
        return frozenset(states) - {
            row.intent_id for row in found if states[row.intent_id] == row.state
        }

    def intend_insert(
        self, work: Work, known: float | None, now: float, doubt_until: float
    ) -> bool:
        """Write down, before it is sent, that a row of ours may appear in Halo from now on.

        Args:
            work: the payment, as it was when it was decided about.
            known: the `doubt_until` that was known since, Unix seconds.
            now: Unix seconds.
            doubt_until: until when the row may appear, Unix seconds.

        Returns whether it may be sent: not where another process has sent one meanwhile.
        """
        c = schema.payments.c
        with writing(self._engine) as connection:
            intended = connection.execute(
                schema.payments.update()
                .where(
                    c.intent_id == work.payment.said.intent_id,
                    c.doubt_until.is_not_distinct_from(known),
                    c.acked_state.is_not_distinct_from(work.acked_state),
                )
                .values(doubt_until=doubt_until)
            )
            mark_sent(connection, [work.payment.said.intent_id], now)
            return intended.rowcount == 1

    def end_doubt(self, intent_id: str, known: float | None) -> None:
        """An insert that was in doubt until `known` (Unix seconds) is so no more, and no other is."""
        c = schema.payments.c
        with writing(self._engine) as connection:
            connection.execute(
                schema.payments.update()
                .where(c.intent_id == intent_id, c.doubt_until.is_not_distinct_from(known))
                .values(doubt_until=None)
            )

    def record(
        self,
        outcomes: Sequence[Outcome],
        now: float,
        *,
        seen: Mapping[str, Sequence[SeenRow]] | None = None,
    ) -> None:
        """Write down what came of a push, all in one transaction.

        An acknowledgement is kept whatever happened meanwhile; where the payment stands changes
        only if Stripe hasn't said something else since.

        Args:
            outcomes: what came of each payment.
            now: Unix seconds.
            seen: where Halo's rows were seen meanwhile, by intent: for people.
        """
        if not outcomes and not seen:
            return
        c = schema.payments.c
        with writing(self._engine) as connection:
            remember_seen(connection, schema.payments, seen or {})
            found = connection.execute(
                sa.select(c.intent_id, c.state, c.condition).where(
                    c.intent_id.in_([outcome.intent_id for outcome in outcomes])
                )
            ).all()
            standing = {row.intent_id: (row.state, row.condition) for row in found}
            acks, moves = [], []
            for outcome in outcomes:
                if outcome.acked:
                    acks.append(ack_of(outcome, now))
                state, condition = standing.get(outcome.intent_id, (None, None))
                if state == outcome.state and condition != Condition.IN_DOUBT:
                    moves.append(move_of(outcome, now))
            if acks:
                connection.execute(update_by_id(ACK_COLUMNS), acks)
            if moves:
                connection.execute(update_by_id(MOVE_COLUMNS, KEPT_COLUMNS), moves)
            remember_pushes(connection, [o.pushed for o in outcomes if o.pushed is not None])
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

    def sent(self, intent_ids: Sequence[str]) -> Sent:
        """For which of these payments something was ever sent to Halo."""
        with reading(self._engine) as connection:
            return sent_among(connection, intent_ids)

    # --- Halo's rows, while they are read page by page -------------------------------------------

    def forget_rows(self) -> None:
        """Empty the table of Halo's rows."""
        with writing(self._engine) as connection:
            connection.execute(schema.halo_rows.delete())

    def add_rows(self, rows: Sequence[Row]) -> int:
        """Keep a page of Halo's rows; say how many of them were new."""
        unique = {row.id: row for row in rows if row.id is not None}
        with writing(self._engine) as connection:
            known = present(connection, schema.halo_rows.c.id, list(unique))
            new = [
                {
                    "id": row.id,
                    "intent_id": storable(row.intent_id),
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
        return len(new)

    def rows_of(self, intent_ids: Sequence[str]) -> dict[str, list[Row]]:
        """Halo's rows of these intents, as kept."""
        c = schema.halo_rows.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(schema.halo_rows).where(c.intent_id.in_(intent_ids)).order_by(c.id)
            )
            kept = [row_of(row) for row in found.mappings()]
        rows: dict[str, list[Row]] = {intent_id: [] for intent_id in intent_ids}
        for row in kept:
            rows[str(row.intent_id)].append(row)
        return rows

    def drifted(
        self, numbers: Mapping[PaymentState, int], now: float, *, whole: bool,
        amounts_compared: bool = True,
    ) -> int:  # fmt: skip
        """Make due again what the rows kept say is due; say how many payments.

        That is what was in step and isn't any more, and what had no row (any more) and has one.

        Args:
            numbers: the tenant's status numbers.
            now: Unix seconds.
            whole: whether all of Halo's rows were read, so that a missing one is really gone.
            amounts_compared: whether a success is held where the rows' amounts disagree.
        """
        p, r = schema.payments.c, schema.halo_rows.c
        has_row = sa.exists().where(r.intent_id == p.intent_id)
        differs = [
            sa.and_(
                p.state == state,
                sa.exists().where(
                    r.intent_id == p.intent_id,
                    sa.or_(r.status.is_(None), r.status != number),
                ),
            )
            for state, number in numbers.items()
        ]
        if whole:
            differs.append(~has_row)
        held_without_row = sa.or_(
            p.code.in_(("row_deleted", "invoice_unreadable", "insert_unproven")),
            # With rows, only a success compares amounts, if at all.
            sa.and_(
                p.code == "currency_unknown",
                sa.or_(p.state != PaymentState.SUCCEEDED, sa.literal(not amounts_compared)),
            ),
        )
        without_row = sa.or_(
            p.condition.in_((Condition.UNMATCHED, Condition.NOT_HALOS)),
            sa.and_(p.condition == Condition.HELD, held_without_row, p.dismissed.is_(False)),
        )
        with writing(self._engine) as connection:
            return connection.execute(
                schema.payments.update()
                .where(
                    sa.or_(
                        sa.and_(p.condition == Condition.IN_STEP, sa.or_(sa.false(), *differs)),
                        sa.and_(without_row, has_row),
                    )
                )
                .values(
                    condition=Condition.DUE,
                    next_try=now,
                    attempts=0,
                    looks=0,
                    code=None,
                    reason=None,
                    changed_at=now,
                )
            ).rowcount

    # --- what a person sees ----------------------------------------------------------------------

    def conditions(self) -> dict[Condition, int]:
        """How many payments stand where."""
        c = schema.payments.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(c.condition, sa.func.count()).group_by(c.condition)
            )
            counts = {Condition(name): number for name, number in found.all()}
        return {condition: counts.get(condition, 0) for condition in Condition}

    def pushes(self, since: float, limit: int = PUSHES_MAX) -> list[Pushed]:
        """What was written to Halo since then (Unix seconds), the newest first."""
        c = schema.pushes.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(schema.pushes)
                .where(c.at >= since)
                .order_by(c.at.desc(), c.id.desc())
                .limit(limit)
            ).all()
        return [pushed_of(row) for row in found]

    def said(self, since: float, limit: int = PUSHES_MAX) -> list[Said]:
        """What Stripe last said of Halo's payments since then (Unix seconds), by payment.

        A payment that was only ever read stands where it was made: when it came to its state isn't
        known, and each reading would move it.
        """
        c = schema.payments.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(c.intent_id, c.state, c.said_at, c.created, c.heard)
                .where(
                    c.changed_at >= since,  # has an index, and is never before it was said
                    c.said_at >= since,
                    sa.or_(c.created >= since, c.heard.contains("event:", autoescape=True)),
                    c.state.is_not(None),
                    c.condition.not_in((Condition.UNMATCHED, Condition.NOT_HALOS)),
                )
                .order_by(c.changed_at.desc())
                .limit(limit)
            ).all()
        return [said for row in found if (said := said_of(row)).at >= since]

    def attention_count(self) -> int:
        """How many lines the attention list has."""
        return sum(self.attention_counts().values())

    def attention_counts(self) -> dict[str, int]:
        """How many lines the attention list has, by their kind; kinds without any are left out."""
        p, u, r = schema.payments.c, schema.unreadable.c, schema.reversals.c
        with reading(self._engine) as connection:
            held = sa.select(sa.func.count()).select_from(schema.payments)
            odd = sa.select(sa.func.count()).select_from(schema.unreadable)
            back = sa.select(r.kind, sa.func.count()).where(stands()).group_by(r.kind)
            found = {
                "payment": connection.execute(
                    held.where(p.condition.in_(ATTENTION), p.dismissed.is_(False))
                ).scalar_one(),
                **{row[0]: row[1] for row in connection.execute(back)},
                "unreadable": connection.execute(odd.where(u.dismissed.is_(False))).scalar_one(),
            }
        return {kind: number for kind, number in found.items() if number}

    def attention(self, limit: int = 1_000) -> list[Attention]:
        """The list that a person sees: what is held, failed, refunded, disputed or unreadable."""
        p, u = schema.payments.c, schema.unreadable.c
        with reading(self._engine) as connection:
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
            back = attention_of(connection, limit)
        return [
            Attention(
                row.intent_id, "payment", row.condition, row.code, row.reason or "", row.state,
                shown_amount(row), row.currency, row.attempts, row.next_try, row.changed_at,
                **shown_rows(row.seen_rows, row.rows), intent_id=row.intent_id,
            )
            for row in held
        ] + back + [
            Attention(
                row.id, "unreadable", "unreadable", "unreadable", row.reason, None, None, None, 0,
                None, row.seen_at,
            )
            for row in odd
        ]  # fmt: skip

    def not_halos(self, limit: int) -> list[Elsewhere]:
        """Payments that Halo has no row for, the newest first."""
        c = schema.payments.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(schema.payments)
                .where(c.condition.in_((Condition.UNMATCHED, Condition.NOT_HALOS)))
                .order_by(sa.func.coalesce(c.created, c.said_at).desc(), c.intent_id)
                .limit(limit)
            ).all()
        return [elsewhere_of(row) for row in found]

    def retry(self, ids: Sequence[str] | None, now: float) -> list[str]:
        """Make what needs attention due again: these, or all. Returns the ids that it did.

        A payment whose row was deleted is treated as new: that is what retrying it means. Of an
        insert in doubt, what is over is forgotten; what may still appear is waited for. One that
        Stripe couldn't show is not due: Stripe is asked, and it stays on the list until it answers.
        """
        c = schema.payments.c
        wanted: sa.ColumnElement[bool] = c.condition.in_(ATTENTION)
        if ids is not None:
            wanted = sa.and_(wanted, c.intent_id.in_(ids))
        else:
            wanted = sa.and_(wanted, c.dismissed.is_(False))
        with writing(self._engine) as connection:
            done = list(connection.execute(sa.select(c.intent_id).where(wanted)).scalars())
            connection.execute(
                schema.payments.update()
                .where(wanted, c.code == "row_deleted")
                .values(acked_state=None, rows=None, seen_rows=None)
            )
            connection.execute(
                schema.payments.update()
                .where(wanted)
                .values(
                    condition=sa.case((is_unread(), Condition.HELD), else_=Condition.DUE),
                    next_try=now, attempts=0, looks=0, dismissed=False,
                    doubt_until=sa.case((c.doubt_until > now, c.doubt_until)),
                )
            )  # fmt: skip
        return done

    def dismiss(self, ids: Sequence[str], now: float) -> list[str]:
        """Take these off the attention list until Stripe says something new. Returns which.

        A payment's id stands for its refunds and disputes as well.
        """
        p, u = schema.payments.c, schema.unreadable.c
        with writing(self._engine) as connection:
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
            back = dismiss_reversals(connection, ids)
        return list(dict.fromkeys(done + odd + back))

    def release(self, codes: Sequence[str], now: float) -> int:
        """Make due again what was held for these reasons; the configuration has changed."""
        c = schema.payments.c
        with writing(self._engine) as connection:
            return connection.execute(
                schema.payments.update()
                .where(c.condition == Condition.HELD, c.code.in_(codes), c.dismissed.is_(False))
                .values(condition=Condition.DUE, next_try=now, attempts=0)
            ).rowcount

    # --- refunds and disputes --------------------------------------------------------------------

    def unplaced(self, limit: int) -> list[str]:
        """Payments that were refunded or disputed, and aren't known here: are they Halo's?"""
        with reading(self._engine) as connection:
            return unplaced(connection, limit)

    def place(self, intent_id: str, rows: Sequence[SeenRow]) -> None:
        """Write down which rows Halo has, if any, of a payment that was refunded or disputed."""
        c = schema.reversals.c
        with writing(self._engine) as connection:
            connection.execute(
                schema.reversals.update()
                .where(c.intent_id == intent_id)
                .values(of_halos=bool(rows))
            )
            remember_seen(connection, schema.reversals, {intent_id: rows})

    def oldest_open_dispute(self) -> int | None:
        """When the oldest dispute that isn't decided was opened (Unix seconds)."""
        with reading(self._engine) as connection:
            return oldest_open(connection)

    def reversal_counts(self) -> dict[str, int]:
        """How many refunds and disputes are known, by whose payments they are."""
        with reading(self._engine) as connection:
            return counts_by_owner(connection)

    def reversals_of(self, intent_ids: Sequence[str]) -> dict[str, list[Reversal]]:
        """The refunds and disputes of these intents."""
        c = schema.reversals.c
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(schema.reversals).where(c.intent_id.in_(intent_ids)).order_by(c.id)
            )
            known = [reversal_of(row) for row in found.mappings()]
        reversals: dict[str, list[Reversal]] = {intent_id: [] for intent_id in intent_ids}
        for one in known:
            reversals[str(one.intent_id)].append(one)
        return reversals

    # --- notes, windows, lease -------------------------------------------------------------------

    def note(self, name: str) -> str | None:
        """Read one note."""
        c = schema.notes.c
        with reading(self._engine) as connection:
            return connection.execute(sa.select(c.value).where(c.name == name)).scalar()

    def notes(self) -> dict[str, str]:
        """Read all notes."""
        with reading(self._engine) as connection:
            found = connection.execute(sa.select(schema.notes)).all()
        return {row.name: row.value for row in found}

    def write_notes(self, values: Mapping[str, str | None]) -> None:
        """Write notes; None removes one."""
        c = schema.notes.c
        with writing(self._engine) as connection:
            connection.execute(schema.notes.delete().where(c.name.in_(list(values))))
            kept = [{"name": n, "value": v} for n, v in values.items() if v is not None]
            if kept:
                connection.execute(schema.notes.insert(), kept)

    def take_slot(self, side: str, window: Window, now: float) -> float:
        """Count one request to a side, if its window has room.

        Returns 0 where it was counted, else how many seconds to wait before asking again.
        """
        with writing(self._engine) as connection:
            counts = counts_of(connection, side)
            if any(bucket > now for bucket in counts):
                counts = window.rebased(counts, now)
                rewrite_counts(connection, side, counts)
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
        with reading(self._engine) as connection:
            return counts_of(connection, side)

    def holder(self, name: str) -> tuple[Holder, float] | None:
        """Who holds a lease, and until when (Unix seconds)."""
        with reading(self._engine) as connection:
            return holder_of(connection, name)

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
        with writing(self._engine) as connection:
            found = holder_of(connection, name)
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

    def renew_lease(self, name: str, me: Holder, now: float, seconds: float) -> bool:
        """Prolong a lease from `now` (Unix seconds). Returns whether it is still ours."""
        c = schema.lease.c
        with writing(self._engine) as connection:
            renewed = connection.execute(
                schema.lease.update()
                .where(c.name == name, c.owner == me.owner)
                .values(until=now + seconds)
            )
            return renewed.rowcount == 1

    def give_lease(self, name: str, me: Holder) -> None:
        """Give a lease back, if it is still ours."""
        c = schema.lease.c
        with writing(self._engine) as connection:
            connection.execute(schema.lease.delete().where(c.name == name, c.owner == me.owner))

    def prune(self, now: float, events_before: int) -> None:
        """Forget what serves no more: nothing grows for ever.

        Args:
            now: Unix seconds.
            events_before: events older than this (Unix seconds) won't be listed again.
        """
        p, e, u = schema.payments.c, schema.seen_events.c, schema.unreadable.c
        done = (Condition.IN_STEP, Condition.NOT_HALOS, Condition.NO_STATE)
        with writing(self._engine) as connection:
            connection.execute(schema.seen_events.delete().where(e.at < events_before))
            old = now - KEEP_SECONDS
            r = schema.reversals.c
            served = sa.and_(r.changed_at < old, ~stands())
            connection.execute(schema.reversals.delete().where(served))
            connection.execute(
                schema.payments.delete().where(
                    p.changed_at < old,
                    sa.or_(p.condition.in_(done), p.dismissed.is_(True)),
                    ~sa.exists().where(r.intent_id == p.intent_id),  # it says whose they are
                )
            )
            connection.execute(schema.unreadable.delete().where(u.seen_at < old))
            forget_oldest_sent(connection)

    def export(self, page: int = 500) -> Iterator[tuple[str, dict[str, Any]]]:
        """Everything that is remembered, as (kind, columns), read page by page.

        Each page is a transaction of its own, so that a reader who takes hours blocks nobody. What
        is written meanwhile may or may not be in it.
        """
        for kind, table in EXPORTED.items():
            key = sa.tuple_(*table.primary_key.columns)
            order = list(table.primary_key.columns)
            after: tuple[Any, ...] | None = None
            while True:
                query = sa.select(table).order_by(*order).limit(page)
                if after is not None:
                    query = query.where(key > sa.tuple_(*map(sa.literal, after)))
                with reading(self._engine) as connection:
                    found = [dict(row) for row in connection.execute(query).mappings()]
                yield from ((kind, row) for row in found)
                if len(found) < page:
                    break
                after = tuple(found[-1][column.name] for column in order)

    def copy_to(self, other: "Store") -> None:
        """Copy payments, notes and counted requests to another, empty store: for a dry run."""
        tables = (
            schema.payments, schema.notes, schema.requests, schema.seen_events, schema.reversals,
        )  # fmt: skip
        for table in tables:
            with reading(self._engine) as source:
                found = source.execute(sa.select(table)).mappings()
                while rows := found.fetchmany(500):
                    with writing(other._engine) as target:  # noqa: SLF001  # another Store
                        target.execute(table.insert(), [dict(row) for row in rows])
