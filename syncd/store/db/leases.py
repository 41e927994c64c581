"""Leases in the database: the holder of each lease, its end, and its number.

The functions work within the caller's transaction; each method of `LeaseStore` is one transaction.
Times are Unix seconds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from syncd.core.errors import LeaseHeld
from syncd.core.records import Fence, Holder
from syncd.store.db import schema
from syncd.store.db.connection import read_once, reading, writing
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


_RENEW_FENCED = (
    schema.lease.update()
    .where(
        _L.name == sa.bindparam("of_name"),
        _L.owner == sa.bindparam("of_owner"),
        _L.number == sa.bindparam("of_number"),
    )
    .values(until=sa.bindparam("new_until"))
)


def own_clock(_connection: sa.Connection, now: float) -> float:
    """This host's time `now`, Unix seconds: for a database that only this host uses."""
    return now


class LeaseStore:
    """The leases."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.clock: Callable[[sa.Connection, float], float] = own_clock
        """The time that leases go by, from a connection and this host's time, in Unix seconds."""
        self.server_time: sa.ColumnElement[float] | None = None
        """A server's time (Unix seconds) as a part of a statement; None if `clock` is no server's."""

    def use_server_time(self, time: sa.ColumnElement[float] | None) -> None:
        """Let leases and windows go by a server's clock; None: by this host's clock."""
        self.server_time = time
        if time is not None:
            query = sa.select(time)
            self.clock = lambda connection, _now: float(connection.execute(query).scalar_one())
        else:
            self.clock = own_clock

    def check(self, connection: sa.Connection, fence: Fence | None, now: float) -> None:
        """Check that a lease is still held, and renew it from `now` (Unix seconds) if `fence` says so.

        Raises:
            LeaseHeld: another process has taken the lease.
        """
        check_fence(connection, fence)
        if fence is not None and fence.renew_seconds is not None:
            until = self.clock(connection, now) + fence.renew_seconds
            given = {"of_name": fence.name, "of_owner": fence.owner, "of_number": fence.number}
            connection.execute(_RENEW_FENCED, {**given, "new_until": until})

    def holder(self, name: str) -> tuple[Holder, float] | None:
        """The holder of a lease, and until when (Unix seconds); None if nobody holds it."""
        found = read_once(self._engine, HOLDER, {"of_name": name})
        return (holder_in(found[0]), found[0].until) if found else None

    def take_lease(
        self,
        name: str,
        me: Holder,
        now: float,
        seconds: float,
        *,
        free: Callable[[Holder, float, float], bool],
        requires: Fence | None = None,
        evict: bool = False,
    ) -> Holder | Fence:
        """Take or renew a lease. Returns its fence for later transactions, or its present holder.

        Args:
            name: the lease's name.
            me: the process that asks.
            now: Unix seconds.
            seconds: how long the lease lasts.
            free: whether another process's lease (holder, until, and the time now) no longer
                counts.
            requires: another lease that this process must still hold.
            evict: whether a process that loses this lease also loses the push lease.

        Raises:
            LeaseHeld: this process has lost the required lease.
        """
        with writing(self._engine) as connection:
            check_fence(connection, requires)
            at = self.clock(connection, now)
            row = connection.execute(HOLDER, {"of_name": name}).first()
            ours = None
            if row is not None:
                ours = row if row.owner == me.owner and row.number is not None else None
                if row.owner != me.owner and not free(holder_in(row), row.until, at):
                    return holder_in(row)
            number = next_number(connection) if ours is None else int(ours.number)
            connection.execute(DELETE_LEASE, {"of_name": name})
            if evict and row is not None and ours is None:
                former = {"of_host": row.host, "of_boot": row.boot, "of_pid": row.pid}
                connection.execute(EVICT, former)
            columns = {
                "name": name,
                "owner": me.owner,
                "what": me.what,
                "host": me.host,
                "boot": me.boot,
                "pid": me.pid,
                "until": at + seconds,
                "number": number,
                "since": at if ours is None else ours.since,
            }
            connection.execute(ADD_LEASE, [columns])
        return Fence(name, me.owner, number)

    def renew_lease(self, name: str, me: Holder, now: float, seconds: float) -> bool:
        """Extend a lease from `now` (Unix seconds). Returns whether this process still holds it."""
        with writing(self._engine) as connection:
            until = self.clock(connection, now) + seconds
            given = {"of_name": name, "of_owner": me.owner, "new_until": until}
            return connection.execute(RENEW_LEASE, given).rowcount == 1

    def leading(self) -> Leading | None:
        """The leader and the standbys; None if nobody has ever led."""
        with reading(self._engine) as connection:
            rows = connection.execute(LEASES).all()
            at = self.clock(connection, time.time())
        standbys = tuple(
            holder_in(row) for row in rows if row.name.startswith(STANDBY) and row.until > at
        )
        for row in rows:
            if row.name == LEADER:
                others = tuple(one for one in standbys if one.owner != row.owner)
                return Leading(holder_in(row), row.since or 0.0, row.until, at, others)
        return None

    def note_standby(self, me: Holder, now: float, seconds: float) -> None:
        """Record that a service is on standby, for `seconds` from now (Unix seconds)."""
        self.take_lease(f"{STANDBY}{me.owner[:8]}", me, now, seconds, free=lambda *_: True)
        with writing(self._engine) as connection:
            connection.execute(FORGET_STANDBYS, {"at": self.clock(connection, now)})

    def hand_over(self, me: Holder) -> None:
        """End this process's leader lease or its standby record; the lease's number stays."""
        with writing(self._engine) as connection:
            connection.execute(END_LEASE, {"of_name": LEADER, "of_owner": me.owner})
            given = {"of_name": f"{STANDBY}{me.owner[:8]}", "of_owner": me.owner}
            connection.execute(GIVE_LEASE, given)

    def give_lease(self, name: str, me: Holder) -> None:
        """Release a lease if this process still holds it."""
        with writing(self._engine) as connection:
            connection.execute(GIVE_LEASE, {"of_name": name, "of_owner": me.owner})
