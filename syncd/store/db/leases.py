"""Leases in the database: the holder of each lease, its end, and its number.

The functions work within the caller's transaction. Times are Unix seconds.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from syncd.core.errors import LeaseHeld
from syncd.core.records import Fence, Holder
from syncd.store.db import schema
from syncd.store.db.notes import Note, read_note, write_notes

_L = schema.lease.c

LEASES_TAKEN = Note("leases_taken", TypeAdapter(int))
"""The number of the latest lease."""

PUSH, LEADER, STANDBY = "push", "leader", "standby "
"""The names of leases: push, leader, and the prefix of those that only show standbys."""


@dataclass(frozen=True, slots=True)
class Leading:
    """Who leads.

    Attributes:
        holder: the service.
        since: since when, Unix seconds by the database's clock, as all times here.
        until: when its lease ends; 0 after a handover.
        at: when this was read.
        standbys: the services on standby.
    """

    holder: Holder
    since: float
    until: float
    at: float
    standbys: tuple[Holder, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the lease has not ended."""
        return self.until > self.at


HOLDER = sa.select(schema.lease).where(_L.name == sa.bindparam("of_name"))
DELETE_LEASE = schema.lease.delete().where(_L.name == sa.bindparam("of_name"))
GIVE_LEASE = DELETE_LEASE.where(_L.owner == sa.bindparam("of_owner"))
ADD_LEASE = schema.lease.insert()
LEASES = sa.select(schema.lease).order_by(_L.since)
END_LEASE = (
    schema.lease.update()
    .where(_L.name == sa.bindparam("of_name"), _L.owner == sa.bindparam("of_owner"))
    .values(until=0.0)
)
EVICT = schema.lease.delete().where(
    _L.name == PUSH,
    _L.host == sa.bindparam("of_host"),
    _L.boot == sa.bindparam("of_boot"),
    _L.pid == sa.bindparam("of_pid"),
)
FORGET_STANDBYS = schema.lease.delete().where(
    _L.name.startswith(STANDBY), _L.until < sa.bindparam("at")
)
RENEW_LEASE = (
    schema.lease.update()
    .where(_L.name == sa.bindparam("of_name"), _L.owner == sa.bindparam("of_owner"))
    .values(until=sa.bindparam("new_until"))
)


def holder_of(connection: sa.Connection, name: str) -> tuple[Holder, float] | None:
    """The holder of a lease, and until when (Unix seconds); None without a holder."""
    row = connection.execute(HOLDER, {"of_name": name}).first()
    if row is None:
        return None
    return holder_in(row), row.until


def holder_in(row: Any) -> Holder:
    """The holder of a lease, from its columns."""
    return Holder(row.owner, row.what, row.host, row.boot, row.pid)


def next_number(connection: sa.Connection) -> int:
    """The number for a lease that is taken now: higher than all earlier ones."""
    number = (read_note(connection, LEASES_TAKEN) or 0) + 1
    write_notes(connection, {LEASES_TAKEN.name: LEASES_TAKEN.encode(number)})
    return number


_FENCE = sa.select(_L.number).where(
    _L.name == sa.bindparam("of_name"),
    _L.owner == sa.bindparam("of_owner"),
    _L.number == sa.bindparam("of_number"),
)


def check_fence(connection: sa.Connection, fence: Fence | None) -> None:
    """Check that a lease is still held, in the transaction that relies on it.

    Raises:
        LeaseHeld: another process has taken the lease.
    """
    if fence is None:
        return
    given = {"of_name": fence.name, "of_owner": fence.owner, "of_number": fence.number}
    if connection.execute(_FENCE, given).first() is None:
        raise LeaseHeld("another process, which took over because this one took too long,")
