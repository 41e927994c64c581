"""What processes share: how many requests went to a side, and who may push.

A part of the store. Times are Unix seconds and come from the caller.
"""

from collections.abc import Callable, Mapping

import sqlalchemy as sa

from syncd.core.records import Holder
from syncd.core.windows import Window
from syncd.store.db import schema
from syncd.store.db.connection import reading, writing


class CoordinationStore:
    """The windows of requests and the leases."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    # --- windows ---------------------------------------------------------------------------------

    def take_slot(self, side: str, window: Window, now: float) -> float:
        """Count one request to a side, if its window has room.

        Returns 0 where it was counted, else how many seconds to wait before asking again.
        """
        with writing(self._engine) as connection:
            counts = _counts_of(connection, side)
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
        with reading(self._engine) as connection:
            return _counts_of(connection, side)

    # --- leases ----------------------------------------------------------------------------------

    def holder(self, name: str) -> tuple[Holder, float] | None:
        """Who holds a lease, and until when (Unix seconds)."""
        with reading(self._engine) as connection:
            return _holder_of(connection, name)

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
            found = _holder_of(connection, name)
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


def _counts_of(connection: sa.Connection, side: str) -> dict[int, int]:
    """The requests counted for one side: bucket start to number."""
    c = schema.requests.c
    found = connection.execute(sa.select(c.bucket, c.number).where(c.side == side)).all()
    return {row.bucket: row.number for row in found}


def _rewrite_counts(connection: sa.Connection, side: str, counts: Mapping[int, int]) -> None:
    """Replace the requests counted for one side."""
    connection.execute(schema.requests.delete().where(schema.requests.c.side == side))
    rows = [{"side": side, "bucket": bucket, "number": n} for bucket, n in counts.items()]
    if rows:
        connection.execute(schema.requests.insert(), rows)


def _holder_of(connection: sa.Connection, name: str) -> tuple[Holder, float] | None:
    """Who holds a lease and until when (Unix seconds); None where nobody does."""
    row = connection.execute(sa.select(schema.lease).where(schema.lease.c.name == name)).first()
    if row is None:
        return None
    return Holder(row.owner, row.what, row.host, row.boot, row.pid), row.until
