"""Payments whose intent has to be read, because what was said of them leaves a doubt.

A part of the store. Times are Unix seconds and come from the caller.
"""

import sqlalchemy as sa

from syncd.core.records import Condition
from syncd.store.db import schema
from syncd.store.db.connection import reading, writing
from syncd.store.payments import heard_of, is_to_be_read, is_unread


class DoubtStore:
    """The payments in doubt."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def due(self, now: float, limit: int) -> list[tuple[str, int]]:
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

    def hold(
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

    def failed(self, intent_id: str) -> int:
        """Count that the intent of a payment in doubt couldn't be read. Returns how often by now."""
        c = schema.payments.c
        with writing(self._engine) as connection:
            mine = schema.payments.update().where(c.intent_id == intent_id, is_unread())
            connection.execute(mine.values(attempts=c.attempts + 1))
            found = connection.execute(sa.select(c.attempts).where(c.intent_id == intent_id))
            return int(found.scalar_one())

    def put_off(self, intent_id: str, next_try: float) -> None:
        """Let the intent of a payment in doubt be read no sooner than then (Unix seconds)."""
        c = schema.payments.c
        with writing(self._engine) as connection:
            mine = schema.payments.update().where(c.intent_id == intent_id, is_unread())
            connection.execute(mine.values(next_try=next_try))

    def begin(self, intent_id: str, now: float) -> None:
        """Let the intent of a payment that was in step, or had no state, be read: it may be otherwise."""
        c = schema.payments.c
        calm = c.condition.in_((Condition.IN_STEP, Condition.NO_STATE))
        with writing(self._engine) as connection:
            connection.execute(
                schema.payments.update()
                .where(c.intent_id == intent_id, calm)
                .values(condition=Condition.IN_DOUBT, attempts=0, next_try=None, changed_at=now)
            )
