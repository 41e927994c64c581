"""Counts: payments by condition, and the requests of all processes to each side.

SQLite counts payments as they change, so that no query counts the whole table: its triggers run in
the transaction that changes a payment. PostgreSQL counts on demand, because two processes that update
the same counts could block each other.
"""

from collections.abc import Mapping
from functools import cache

import sqlalchemy as sa

from syncd.core.windows import Window
from syncd.store.db import schema
from syncd.store.db.connection import read_once, write_once, writing
from syncd.store.db.leases import LeaseStore, own_clock

_ADD = """
    INSERT INTO payment_counts (condition, number) VALUES (NEW.condition, 1)
    ON CONFLICT (condition) DO UPDATE SET number = number + 1;"""
_TAKE = "UPDATE payment_counts SET number = number - 1 WHERE condition = OLD.condition;"
_TRIGGERS = (
    f"CREATE TRIGGER payments_added AFTER INSERT ON payments BEGIN {_ADD} END",
    f"CREATE TRIGGER payments_deleted AFTER DELETE ON payments BEGIN {_TAKE} END",
    "CREATE TRIGGER payments_moved AFTER UPDATE OF condition ON payments "
    f"WHEN OLD.condition <> NEW.condition BEGIN {_TAKE} {_ADD} END",
)
_FILL = "INSERT INTO payment_counts SELECT condition, count(*) FROM payments GROUP BY condition"

_C = schema.payments.c
_KEPT = sa.select(schema.payment_counts)
_COUNTED = sa.select(_C.condition, sa.func.count().label("number")).group_by(_C.condition)


def install(connection: sa.Connection) -> None:
    """Count the payments once; from then on, triggers keep the counts."""
    if connection.dialect.name == "sqlite":
        for statement in (_FILL, *_TRIGGERS):
            connection.exec_driver_sql(statement)


def by_condition(connection: sa.Connection) -> dict[str, int]:
    """How many payments are in each condition; a condition without payments may be missing."""
    found = connection.execute(_KEPT).all()
    if not found:  # no payments, or PostgreSQL
        found = connection.execute(_COUNTED).all()
    return {row.condition: row.number for row in found}


# --- requests --------------------------------------------------------------------------------------

_Q = schema.requests.c
_SIDE: sa.BindParameter[str] = sa.bindparam("of_side")

# Every request and every push uses these statements, so they are built once.
_COUNTS = sa.select(_Q.bucket, _Q.number).where(_Q.side == _SIDE)
_COUNT_MORE = (
    schema.requests.update()
    .where(_Q.side == _SIDE, _Q.bucket == sa.bindparam("of_bucket"))
    .values(number=_Q.number + sa.bindparam("more"))
)
_COUNT_BACK = (
    schema.requests.update()
    .where(
        _Q.side == _SIDE,
        _Q.bucket == sa.bindparam("of_bucket"),
        _Q.number >= sa.bindparam("unused"),
    )
    .values(number=_Q.number - sa.bindparam("unused"))
)
_COUNT_FIRST = schema.requests.insert()
_ALL = schema.requests.alias("counted")
_USED = sa.select(sa.func.sum(_ALL.c.number)).where(
    _ALL.c.side == _SIDE, _ALL.c.bucket >= sa.bindparam("oldest")
)
_LATER = sa.exists().where(_ALL.c.side == _SIDE, _ALL.c.bucket > sa.bindparam("of_bucket"))
_COUNT_ONE = _COUNT_MORE.where(_USED.scalar_subquery() < sa.bindparam("allowed"), ~_LATER)
"""Counts one more request in a bucket that exists, if the window has room."""

_DELETE_COUNTS = schema.requests.delete().where(_Q.side == _SIDE)
_DELETE_OLD_COUNTS = _DELETE_COUNTS.where(_Q.bucket < sa.bindparam("oldest"))

SPARE_SHARE = 10
"""At most a tenth of what a window has left is counted ahead."""


@cache
def _in_bucket(server_time: sa.ColumnElement[float]) -> sa.Update:
    """`_COUNT_ONE`, if the bucket is the present one by the server's clock."""
    begun = server_time - sa.bindparam("of_bucket", type_=sa.BigInteger)
    return _COUNT_ONE.where(begun >= 0, begun < sa.bindparam("of_length", type_=sa.Integer))


class RequestStore(LeaseStore):
    """The requests that were counted for the windows of both sides; and the leases."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self._ahead = 0.0
        """How far the clock of the windows was ahead of this host's clock, in seconds."""
        self._counted_in: dict[str, int] = {}
        """The bucket of the latest requests to a side that were counted together."""

    def give_back(self, side: str, unused: tuple[int, int]) -> None:
        """Subtract requests to a side that were counted earlier and not sent.

        Args:
            side: Stripe or Halo.
            unused: the bucket and the number of requests.
        """
        counted_in = self._counted_in.pop(side, unused[0])
        with writing(self._engine) as connection:
            _count_back(connection, side, counted_in, unused[1])

    def take_slots(
        self, side: str, window: Window, now: float, wanted: int, unused: tuple[int, int] = (0, 0)
    ) -> tuple[int, float]:
        """Count requests to a side before they are sent, as far as its window allows.

        More than one is counted only while most of the window is free, so that other processes can
        send.

        Args:
            side: Stripe or Halo.
            window: how many requests are allowed.
            now: Unix seconds.
            wanted: the maximum number of requests to count.
            unused: the bucket and the number of requests that were counted earlier and not sent.

        Returns how many were counted; if none, how many seconds to wait before the next attempt.
        """
        if wanted == 1 and not unused[1] and self._counted_at_once(side, window, now):
            return 1, 0.0
        counted_in = self._counted_in.pop(side, unused[0])
        with writing(self._engine) as connection:
            at = self._time(connection, now)
            bucket = window.bucket(at)
            if unused[1]:
                _count_back(connection, side, counted_in, unused[1])
            counts = _rebased_counts(connection, side, window, at)
            wait = window.wait_seconds(counts, at)
            if wait > 0:
                return 0, wait
            number = max(1, min(wanted, window.left(counts, at) // SPARE_SHARE))
            here = {"of_side": side, "of_bucket": bucket, "more": number}
            if connection.execute(_COUNT_MORE, here).rowcount == 0:
                row = {"side": side, "bucket": bucket, "number": number}
                connection.execute(_COUNT_FIRST, [row])
                old = {"of_side": side, "oldest": window.oldest(at)}
                connection.execute(_DELETE_OLD_COUNTS, old)
        self._counted_in[side] = bucket
        return number, 0.0

    def _counted_at_once(self, side: str, window: Window, now: float) -> bool:
        """Count one request by one statement, if its bucket exists and the window has room."""
        if self.clock is not own_clock and self.server_time is None:
            return False
        at = now + self._ahead
        given = {"of_side": side, "of_bucket": window.bucket(at), "more": 1}
        given |= {"oldest": window.oldest(at), "allowed": window.limit}
        if self.server_time is None:
            return write_once(self._engine, _COUNT_ONE, given) > 0
        # The server's clock decides; what this host knows of that clock may be outdated.
        given |= {"of_length": window.bucket_seconds}
        return write_once(self._engine, _in_bucket(self.server_time), given) > 0

    def _time(self, connection: sa.Connection, now: float) -> float:
        """The time that windows go by, which is the server's for hosts that share a server."""
        at = self.clock(connection, now)
        self._ahead = at - now
        return at

    def _by_this_host(self, counts: Mapping[int, int]) -> dict[int, int]:
        """Counts with their buckets by this host's clock, as the callers' windows use it."""
        ahead = round(self._ahead)
        return {bucket - ahead: number for bucket, number in counts.items()}

    def rebase(self, side: str, window: Window, now: float) -> dict[int, int]:
        """Store requests that were counted later than `now` as made now. Returns all counts by bucket.

        A clock that was set back, or another host's clock that is ahead, would otherwise block the
        window until that time.
        """
        with writing(self._engine) as connection:
            at = self._time(connection, now)
            return self._by_this_host(_rebased_counts(connection, side, window, at))

    def counts(self, side: str) -> dict[int, int]:
        """The requests to one side by bucket, by this host's clock."""
        found = read_once(self._engine, _COUNTS, {"of_side": side})
        return self._by_this_host({row.bucket: row.number for row in found})


def _count_back(connection: sa.Connection, side: str, bucket: int, unused: int) -> None:
    """Subtract requests that were counted in a bucket and not sent."""
    connection.execute(_COUNT_BACK, {"of_side": side, "of_bucket": bucket, "unused": unused})


def _counts_of(connection: sa.Connection, side: str) -> dict[int, int]:
    """The requests counted for one side: start of the bucket to number."""
    found = connection.execute(_COUNTS, {"of_side": side}).all()
    return {row.bucket: row.number for row in found}


def _rebased_counts(
    connection: sa.Connection, side: str, window: Window, now: float
) -> dict[int, int]:
    """The counts of one side; those later than `now` are stored as made now."""
    counts = _counts_of(connection, side)
    if any(bucket > now for bucket in counts):
        counts = window.rebased(counts, now)
        _rewrite_counts(connection, side, counts)
    return counts


def _rewrite_counts(connection: sa.Connection, side: str, counts: Mapping[int, int]) -> None:
    """Replace the requests counted for one side."""
    connection.execute(_DELETE_COUNTS, {"of_side": side})
    rows = [{"side": side, "bucket": bucket, "number": n} for bucket, n in counts.items()]
    if rows:
        connection.execute(_COUNT_FIRST, rows)
