"""For which payments syncd ever sent something to Halo: whose number a row may carry hangs on it.

A part of the store. It is kept by payment, for a new row has no number until Halo answers, and
written down before anything is sent, so that no crash and no lost answer makes it untrue. It outlives
what is known of the payments themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from syncd.store.db import schema
from syncd.store.db.connection import present

SENT_MAX = 100_000
"""So many payments, those sent for last, are remembered; before which time others were is noted."""

FORGOTTEN = "sent_forgotten"
"""The note with that time: Unix seconds."""

CLOCKS_SECONDS_MAX = 86_400.0
"""How far Halo's time of a webhook may be off ours: it may come without a zone."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What is remembered of some payments.

    Attributes:
        intents: those for which something was sent.
        forgotten: others may have been sent for until then and forgotten, Unix seconds; None for none.
    """

    intents: frozenset[str]
    forgotten: float | None = None

    def may_include(self, intent_id: str | None, received: datetime | None) -> bool:
        """Whether a row's status may be one that syncd sent.

        Args:
            intent_id: the row's payment.
            received: when a webhook wrote the row, by Halo's clock; None where none did.
        """
        if intent_id in self.intents:
            return True
        if self.forgotten is None:
            return False
        return received is None or received.timestamp() <= self.forgotten + CLOCKS_SECONDS_MAX


def mark_sent(connection: sa.Connection, intent_ids: Sequence[str], now: float) -> None:
    """Remember that something is sent for these payments from now on (Unix seconds)."""
    unique = sorted(set(intent_ids))
    for start in range(0, len(unique), 500):
        part = unique[start : start + 500]
        connection.execute(schema.sent.delete().where(schema.sent.c.intent_id.in_(part)))
        connection.execute(schema.sent.insert(), [{"intent_id": one, "at": now} for one in part])


def sent_among(connection: sa.Connection, intent_ids: Sequence[str]) -> Sent:
    """What is remembered of these payments."""
    n = schema.notes.c
    forgotten = connection.execute(sa.select(n.value).where(n.name == FORGOTTEN)).scalar()
    found = present(connection, schema.sent.c.intent_id, list(intent_ids))
    return Sent(frozenset(found), None if forgotten is None else float(forgotten))


def forget_oldest_sent(connection: sa.Connection, kept: int = SENT_MAX) -> None:
    """Keep the newest; note until when the others were sent for."""
    c, n = schema.sent.c, schema.notes.c
    oldest = sa.select(c.at).order_by(c.at.desc()).offset(kept).limit(1)
    until = connection.execute(oldest).scalar()
    if until is None:
        return
    before = connection.execute(sa.select(n.value).where(n.name == FORGOTTEN)).scalar()
    connection.execute(schema.sent.delete().where(c.at <= until))
    connection.execute(schema.notes.delete().where(n.name == FORGOTTEN))
    value = str(max(until, float(before or until)))
    connection.execute(schema.notes.insert(), [{"name": FORGOTTEN, "value": value}])
