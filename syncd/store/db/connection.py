"""Opens the database, runs transactions, and classifies the database's errors.

Only this package knows the differences between SQLite and PostgreSQL (`sqlite`, `postgresql`).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from syncd.core.errors import Failure, StoreUnusable
from syncd.failpoints import Point, crash_point
from syncd.store.db import schema, sqlite
from syncd.text.database_url import file_of, is_server

T = TypeVar("T")

FILE_CHECK_BYTES_MAX = sqlite.QUICK_CHECK_BYTES_MAX
"""Up to this size, a database file is read whole when it is opened."""

_BEGINNINGS = 4
"""How many pooled connections are tried: each may have broken unnoticed."""

LOST_SECONDS_MAX = 1.0
"""A connection that broke unnoticed fails within so many seconds; later, the server itself is slow."""


def connect(
    url: str,
    busy_seconds: float,
    *,
    durable: bool = True,
    password: str | None = None,
    create: bool = True,
) -> sa.Engine:
    """Open the database; create it if it does not exist, and upgrade its tables.

    Args:
        url: `state.url`.
        busy_seconds: how long to wait for another process.
        durable: whether what is written survives a loss of power; a temporary database does not.
        password: of PostgreSQL's user, if it needs one.
        create: whether to create the tables in an empty database of PostgreSQL.

    Raises:
        StoreUnusable: the database cannot be opened, is damaged, or belongs to another program.
        StoreUnavailable: the database is locked, cannot be reached, or its disk is full.
    """
    if is_server(url):
        engine = _postgresql_engine(url, password, busy_seconds)
    else:
        engine = sqlite.make_engine(url, busy_seconds, durable=durable)
    file = file_of(url)
    try:
        if not _is_up_to_date(engine, url, create=create):
            with writing(engine, opening=True) as connection:
                _bring_up_to_date(connection, url)
        if file is not None and durable:
            sqlite.make_ours(engine, Path(file))
    except BaseException:
        engine.dispose()
        raise
    return engine


def _postgresql_engine(url: str, password: str | None, busy_seconds: float) -> sa.Engine:
    try:
        from syncd.store.db import postgresql  # psycopg is installed only for PostgreSQL
    except ImportError:
        message = (
            "state.url names a database of PostgreSQL, which needs the package psycopg. Install it: "
            "pip install 'syncd[postgresql]'"
        )
        raise StoreUnusable(message) from None
    return postgresql.make_engine(url, password, busy_seconds)


def _is_up_to_date(engine: sa.Engine, url: str, *, create: bool) -> bool:
    """Whether a PostgreSQL database has this version's tables; then nothing needs to be written.

    Raises:
        StoreUnusable: the database is empty and must not be created, or cannot store all texts.
    """
    if engine.dialect.name != "postgresql":
        return False
    with reading(engine, opening=True) as connection:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        version, tables = schema.version(connection)
    if encoding != "UTF8":
        message = (
            f"The database {url} has the encoding {encoding}, which cannot store every text. Create it "
            "again: createdb --encoding UTF8 --template template0 NAME"
        )
        raise StoreUnusable(message)
    if not create and not tables:
        message = (
            f"The database {url} is empty: syncd has not run with it yet. "
            "Name another configuration file with --config FILE."
        )
        raise StoreUnusable(message)
    return version == schema.REVISION


def _bring_up_to_date(connection: sa.Connection, url: str) -> None:
    version, tables = schema.version(connection)
    if version == schema.REVISION:
        return
    foreign = (
        f"The database {url} has tables of another program. Set another database in state.url."
    )
    if version in schema.UNRELEASED:
        message = (
            f"The database {url} was written by an unreleased syncd (schema {version}), which this "
            f"version cannot read; it reads schema {schema.OLDEST} and later. Move the database away "
            "and run a backfill: it is rebuilt from Stripe and Halo."
        )
        raise StoreUnusable(message)
    if (version is None and tables) or (version is not None and not version.isdigit()):
        raise StoreUnusable(foreign)
    if version is not None and version > schema.REVISION:
        message = (
            f"The database {url} was written by a newer version of syncd (schema {version}). Install "
            "that version, or restore the copy from before the upgrade."
        )
        raise StoreUnusable(message)
    if version is None:
        schema.create(connection)
        return
    try:
        schema.upgrade(connection)
    except LookupError:
        raise StoreUnusable(foreign) from None


@contextmanager
def reading(engine: sa.Engine, *, opening: bool = False) -> Iterator[sa.Connection]:
    """One read-only transaction, with one snapshot of the database.

    Args:
        engine: the database.
        opening: whether the database is being opened: then a refused connection is a wrong
            configuration.
    """
    with (
        _translated(engine, opening=opening),
        closing(_begun(engine, immediate=False)) as connection,
        _running(connection),
    ):
        yield connection


def read_once(
    engine: sa.Engine, statement: sa.Executable, given: Mapping[str, Any] | None = None
) -> list[sa.Row[Any]]:
    """The rows of one SELECT, in a transaction of its own. Raises as `reading`.

    A server begins, runs and ends the transaction in one round trip.
    """
    if engine.dialect.name != "postgresql":
        with reading(engine) as connection:
            return list(connection.execute(statement, given).all())
    return _at_once(engine, "reading", lambda it: list(it.execute(statement, given).all()))


def write_once(
    engine: sa.Engine, statement: sa.Executable, given: Mapping[str, Any] | None = None
) -> int:
    """Run one statement that writes, in a transaction of its own; return how many rows it changed.

    A server does all that in one round trip. The statement must do no harm if it runs twice: it is
    repeated if the connection broke before the server's answer. Raises as `writing`.
    """
    if engine.dialect.name != "postgresql":
        with writing(engine) as connection:
            return connection.execute(statement, given).rowcount
    crash_point(Point.BEFORE_COMMIT)
    changed = _at_once(engine, "writing", lambda it: it.execute(statement, given).rowcount)
    crash_point(Point.AFTER_COMMIT)
    return changed


def _at_once(engine: sa.Engine, kind: str, run: Callable[[sa.Connection], T]) -> T:
    """Run one statement on a server; its transaction begins and ends with the statement."""
    with _translated(engine, opening=False):
        for left in reversed(range(_BEGINNINGS)):
            began = time.monotonic()
            try:
                with engine.connect().execution_options(at_once=kind) as connection:
                    return run(connection)
            except sa.exc.DBAPIError as error:
                # A connection that was lost while nobody used it fails at once: another one may work.
                quick = time.monotonic() - began < LOST_SECONDS_MAX
                if not (error.connection_invalidated and left and quick):
                    raise
    raise AssertionError  # pragma: no cover  # the last turn of the loop returns or raises


@contextmanager
def writing(engine: sa.Engine, *, opening: bool = False) -> Iterator[sa.Connection]:
    """One writing transaction; it blocks other writers from its start. Arguments as in `reading`."""
    with (
        _translated(engine, opening=opening),
        closing(_begun(engine, immediate=True)) as connection,
        _running(connection),
    ):
        yield connection
        crash_point(Point.BEFORE_COMMIT)
    crash_point(Point.AFTER_COMMIT)


def _running(connection: sa.Connection) -> sa.RootTransaction:
    """The connection's transaction; an exception rolls it back."""
    transaction = connection.get_transaction()
    assert transaction is not None  # noqa: S101  # `_begun` has begun it
    return transaction


def _begun(engine: sa.Engine, *, immediate: bool) -> sa.Connection:
    """A connection with a new transaction. Retries are safe, because nothing was written yet."""
    for left in reversed(range(_BEGINNINGS)):
        connection = engine.connect()
        try:
            connection = connection.execution_options(immediate=immediate)
            connection.begin()
        except BaseException as error:
            connection.close()
            lost = isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
            if not (lost and left):
                raise
        else:
            return connection
    raise AssertionError  # pragma: no cover  # the last turn of the loop returns or raises


@contextmanager
def _translated(engine: sa.Engine, *, opening: bool) -> Iterator[None]:
    """Turn errors of the database into StoreUnavailable or StoreUnusable, with a remedy."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        raise _failure_of(engine, error, opening=opening) from error


def _failure_of(engine: sa.Engine, error: Exception, *, opening: bool) -> Failure:
    if engine.dialect.name == "postgresql":
        from syncd.store.db import postgresql  # psycopg is installed only for PostgreSQL

        return postgresql.failure_of(error, opening=opening)
    return sqlite.failure_of(error)


def server_time(engine: sa.Engine) -> sa.ColumnElement[float] | None:
    """A server's time (Unix seconds), as a part of a statement; None for SQLite.

    Hosts that share a server go by the server's clock, because the clocks of hosts differ.
    """
    if engine.dialect.name == "postgresql":
        return sa.literal_column("extract(epoch FROM clock_timestamp())::float8", sa.Float)
    return None


def waiting_seconds(engine: sa.Engine) -> float:
    """How long a query has waited for a server's answer; 0 without such a query."""
    if engine.dialect.name == "postgresql":
        from syncd.store.db import postgresql  # psycopg is installed only for PostgreSQL

        return postgresql.waiting_seconds(engine)
    return 0.0


def silent_seconds(engine: sa.Engine, least: float) -> float:
    """How long a server has answered nobody while a query waits; 0 if less than `least`.

    Asks the server on another connection before it returns such a time: a query may wait for a lock.
    """
    if engine.dialect.name == "postgresql":
        from syncd.store.db import postgresql  # psycopg is installed only for PostgreSQL

        return postgresql.silent_seconds(engine, least)
    return 0.0


def facts(engine: sa.Engine) -> dict[str, Any]:
    """Facts about this kind of database: version, size, and how it is reached."""
    if engine.dialect.name == "postgresql":
        from syncd.store.db import postgresql  # psycopg is installed only for PostgreSQL

        with reading(engine) as connection:
            return postgresql.facts(connection)
    return sqlite.facts(engine)


@cache
def _present(column: sa.Column[Any]) -> sa.Select[Any]:
    return sa.select(column).where(column.in_(sa.bindparam("wanted", expanding=True)))


def present(connection: sa.Connection, column: sa.Column[Any], wanted: list[Any]) -> set[Any]:
    """The values among `wanted` that the column contains already."""
    found: set[Any] = set()
    for part in _parts(wanted):
        found.update(connection.execute(_present(column), {"wanted": part}).scalars())
    return found


def present_now(engine: sa.Engine, column: sa.Column[Any], wanted: list[Any]) -> set[Any]:
    """The same as `present`, without a transaction of the caller."""
    found: set[Any] = set()
    for part in _parts(wanted):
        found.update(row[0] for row in read_once(engine, _present(column), {"wanted": part}))
    return found


def _parts(wanted: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(wanted), 500):
        yield wanted[start : start + 500]
