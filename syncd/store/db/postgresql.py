"""PostgreSQL: connections, transactions, and what PostgreSQL's errors mean.

Needs psycopg (`syncd[postgresql]`), so this module is imported only where `state.url` names
PostgreSQL.

A writing transaction takes one advisory lock, as BEGIN IMMEDIATE locks SQLite's file: one process
writes at a time, and whatever a transaction has read stays true until its end. A reading
transaction sees one snapshot. Every wait has a time limit, on the server and in syncd, because a
server may stop answering.
"""

import ipaddress
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumper

from syncd.core.errors import Failure, StoreUnavailable, StoreUnusable

CONNECTIONS_MAX = 3
"""The maximum number of connections of one process; it needs a second one only for the status page."""

CONNECT_SECONDS = 4
ANSWER_SECONDS = 15.0
"""The maximum wait for a connection and for each answer, in seconds; then the connection is closed."""

ASK_SECONDS = 1.5
"""How long to wait for an answer on another connection, in seconds: a server that works answers soon."""

IDLE_SECONDS = 10
"""The server ends a transaction after this idle time, because a stopped process would block others."""

UNREACHABLE_SECONDS_MAX = 5.0
"""After a server has not answered, attempts to connect fail at once, up to this many seconds.

So long, a server that has not answered is not asked again on another connection either.
"""

_DEFAULTS: dict[str, Any] = {
    "application_name": "syncd",
    "connect_timeout": CONNECT_SECONDS,
    "client_encoding": "UTF8",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": int(ANSWER_SECONDS * 1000),
}
"""Parameters of libpq; parameters in `state.url` have priority."""

_LOCK = int.from_bytes(b"syncd", "big")
"""The number of the advisory lock that writers take."""

_BEGIN_READING = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    "SET LOCAL statement_timeout = '{answer}ms'; "
    "SET LOCAL idle_in_transaction_session_timeout = '{idle}s'"
)
# The server must confirm COMMIT only after the data is on disk, even if it is configured otherwise.
# Each statement must see everything that was committed before it, whatever the server's default is:
# a snapshot from before the advisory lock would show a lease that another process has taken since.
_BEGIN_WRITING = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; "
    "SET LOCAL lock_timeout = '{busy}ms'; "
    "SET LOCAL statement_timeout = '{answer}ms'; "
    "SET LOCAL idle_in_transaction_session_timeout = '{idle}s'; "
    "SELECT set_config('synchronous_commit', 'on', true)"
    " WHERE current_setting('synchronous_commit') = 'off'; "
    "SELECT pg_advisory_xact_lock({lock})"
)


class _Connection(psycopg.Connection[Any]):
    """A connection that is closed if an answer takes too long.

    Attributes:
        connector: what has opened it; None while it is opened.
    """

    connector: "_Connector | None" = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer, `timeout` seconds at most."""
        seconds = ANSWER_SECONDS + 1.0 if timeout is None else timeout
        try:
            with nullcontext() if self.connector is None else self.connector.waits():
                return super().wait(gen, interval, seconds)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001  # psycopg's own waiting has no other name
            self.pgconn.finish()
            message = f"no answer from the server within {seconds:.0f} s; connection closed"
            if self.connector is not None:
                self.connector.block(message, UNREACHABLE_SECONDS_MAX)
            raise psycopg.OperationalError(message) from None


class _Text(StrDumper):
    """Text without zero bytes: PostgreSQL cannot store them, and one of them must not stop a poll."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in obj else obj)


@dataclass(slots=True)
class _Connector:
    """Opens connections.

    Attributes:
        parameters: libpq's parameters; the password is among them.
    """

    parameters: dict[str, Any] = field(repr=False)
    _blocked_until: float = 0.0
    _last: str = ""
    _waits: dict[object, float] = field(default_factory=dict)
    _answered: float = 0.0
    _reached: dict[str, Any] = field(default_factory=dict)
    _asking: threading.Thread | None = None
    _asked: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> psycopg.Connection[Any]:
        begun = time.monotonic()
        if begun < self._blocked_until:
            raise psycopg.OperationalError(self._last)
        try:
            with self.waits():
                found = _Connection.connect(**self.parameters, autocommit=True)
        except psycopg.Error as error:
            took = time.monotonic() - begun
            if took >= 1.0:
                self.block(str(error), took)
            raise
        found.connector = self
        info = found.info
        self._reached = {"host": info.host, "hostaddr": info.hostaddr, "port": info.port}
        found.adapters.register_dumper(str, _Text)
        # A pooler (PgBouncer) or DISCARD ALL drops prepared statements.
        found.prepare_threshold = None
        return found

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Note that a thread waits for the server."""
        wait = object()
        self._waits[wait] = time.monotonic()
        try:
            yield
        finally:
            del self._waits[wait]

    def waiting_seconds(self) -> float:
        """How long a thread has waited, since the server was last asked and answered; 0 if none waits."""
        now, answered = time.monotonic(), self._answered
        return max((now - max(one, answered) for one in list(self._waits.values())), default=0.0)

    def silent_seconds(self, least: float) -> float:
        """The same; if it is `least` or more, the server is asked on another connection first.

        A server that answers there works: the thread waits for a lock, or for a query that takes long.
        """
        if self.waiting_seconds() < least:
            return 0.0
        with self._lock:
            lately = time.monotonic() - self._asked < UNREACHABLE_SECONDS_MAX
            failed = self._asked > self._answered
            if self._asking is None or not (self._asking.is_alive() or (failed and lately)):
                self._asked = time.monotonic()
                self._asking = threading.Thread(target=self._ask, daemon=True)
                self._asking.start()
            asking = self._asking
        asking.join(max(0.0, self._asked + ASK_SECONDS - time.monotonic()))
        seconds = self.waiting_seconds()
        return seconds if seconds >= least else 0.0

    def _ask(self) -> None:
        """Connect to the server, and note that the server has answered."""
        where = self._reached | {"connect_timeout": 2}  # psycopg's minimum
        try:
            psycopg.connect(**(self.parameters | where)).close()
        except psycopg.Error as error:
            if "FATAL:" not in str(
                error
            ):  # with it the server has answered, such as: too many clients
                return
        self._answered = time.monotonic()

    def block(self, message: str, seconds: float) -> None:
        """Let attempts fail at once: a server that does not answer must not block the service."""
        self._last = message
        self._blocked_until = time.monotonic() + min(seconds, UNREACHABLE_SECONDS_MAX)


_CONNECTORS: "WeakKeyDictionary[sa.Engine, _Connector]" = WeakKeyDictionary()


def waiting_seconds(engine: sa.Engine) -> float:
    """How long a thread has waited for the server; 0 if no thread waits."""
    return _CONNECTORS[engine].waiting_seconds()


def silent_seconds(engine: sa.Engine, least: float) -> float:
    """How long the server has answered nobody while a thread waits; 0 if less than `least`."""
    return _CONNECTORS[engine].silent_seconds(least)


def make_engine(url: str, password: str | None, busy_seconds: float) -> sa.Engine:
    """Prepare connections to a server; none is opened yet.

    Args:
        url: libpq's connection URI.
        password: None if libpq finds one itself, or none is needed.
        busy_seconds: how long to wait for another process that writes.

    Raises:
        StoreUnusable: the URL is wrong.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error as error:
        message = f"state.url is not a connection URI of PostgreSQL: {_line(error)}"
        raise StoreUnusable(message) from None
    if password is not None:
        given["password"] = password
    connector = _Connector({**_DEFAULTS, **given})
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=connector,
        pool_size=1,
        max_overflow=CONNECTIONS_MAX - 1,
        pool_timeout=busy_seconds,
        isolation_level="AUTOCOMMIT",  # the begin event starts transactions
        use_native_hstore=False,
    )
    _CONNECTORS[engine] = connector
    limits = {"answer": int(ANSWER_SECONDS * 1000), "idle": IDLE_SECONDS, "lock": _LOCK}
    begin_reading = _BEGIN_READING.format(**limits)
    begin_writing = _BEGIN_WRITING.format(busy=max(1, int(busy_seconds * 1000)), **limits)

    def begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if "at_once" in options:
            return
        immediate = options.get("immediate")
        _begin(connection, begin_writing if immediate else begin_reading)

    beginnings = {"reading": begin_reading, "writing": begin_writing}

    def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        kind = context.execution_options.get("at_once")
        if kind is None:
            return False
        _execute_at_once(cursor, beginnings[kind], statement, parameters)
        return True

    sa.event.listen(engine, "begin", begin)
    sa.event.listen(engine, "do_execute", execute)
    return engine


def _execute_at_once(cursor: Any, beginning: str, statement: str, parameters: Any) -> None:
    """Begin a transaction, run one statement, and commit: in one message to the server.

    Only a message without parameters may have several statements, so psycopg puts the parameters
    into the statement, quoted.
    """
    whole = psycopg.ClientCursor(cursor.connection).mogrify(statement, parameters)
    cursor.execute(f"{beginning}; {whole}; COMMIT", prepare=False)
    for _ in range(beginning.count(";") + 1):
        cursor.nextset()


def _begin(connection: sa.Connection, statements: str) -> None:
    """Begin a transaction in one round trip: several statements, which SQLAlchemy cannot send at once."""
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute(statements, prepare=False)
    except psycopg.Error as error:
        lost = bool(driver.closed)
        if lost:
            connection.invalidate(error)
        else:
            driver.rollback()
        raise sa.exc.OperationalError("BEGIN", None, error, connection_invalidated=lost) from error


_UNUSABLE_CLASSES = ("0A", "22", "23", "3D", "3F", "42", "XX")
"""Classes of SQLSTATE for permanent errors; all other errors may be temporary."""

_UNUSABLE_WORDS = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "certificate",
    "does not support SSL",
    "does not exist",
    "invalid connection option",
    "is not permitted to log in",
    "permission denied for database",
)
"""Parts of the error messages of refused connections, for which libpq has no codes."""


def failure_of(error: Exception, *, opening: bool) -> Failure:
    """What an error of PostgreSQL means, with a remedy.

    Args:
        error: SQLAlchemy's or psycopg's.
        opening: whether the database is being opened: then a refused connection is a wrong
            configuration. Otherwise syncd retries: the server may be under maintenance.
    """
    if isinstance(error, sa.exc.TimeoutError):
        return StoreUnavailable(
            f"All {CONNECTIONS_MAX} connections to the database are in use. syncd changed nothing and "
            "retries later."
        )
    cause = getattr(error, "orig", None) or error
    state, text = getattr(cause, "sqlstate", None), _line(cause)
    if state == "55P03":
        return StoreUnavailable(
            f"Another process has locked the database ({text}). syncd changed nothing and retries "
            "later. The view pg_stat_activity shows it, with the application_name syncd."
        )
    if state == "57014":
        return StoreUnavailable(
            f"A query of the database took too long ({text}): another session may hold a lock, or the "
            "server is slow. syncd changed nothing and retries later. The view pg_stat_activity shows "
            "what the server does."
        )
    if state == "42501":
        return StoreUnusable(
            f"The database's user may not use syncd's tables ({text}). Make the user the owner of the "
            "database: ALTER DATABASE name OWNER TO user."
        )
    refused = state is None and any(words in text for words in _UNUSABLE_WORDS)
    if opening and (refused or (state or "")[:2] == "28"):
        return StoreUnusable(
            f"PostgreSQL refused the connection ({text}). Check state.url and the secret "
            "database_password, and that the database and its user exist."
        )
    if state is not None and state[:2] in _UNUSABLE_CLASSES:
        return StoreUnusable(
            f"The database is damaged or not a database of syncd ({text}, SQLSTATE {state}). syncd did "
            "not change it. Restore a copy; or name an empty database in state.url and run "
            "syncd --backfill 90d, which rebuilds it from Stripe and Halo."
        )
    return StoreUnavailable(
        f"The database cannot be used at the moment ({text}). syncd changed nothing and retries later. "
        "Check that PostgreSQL runs, accepts connections, and has room on its disk."
    )


def _line(error: object) -> str:
    """The error message in one line."""
    return " ".join(str(error).split())


def facts(connection: sa.Connection) -> dict[str, Any]:
    """The server's version, settings that matter, the database's size, and how it is reached.

    Returns ``product`` (the server's name and version), ``server`` (its version), ``encoding``, ``fsync`` ("on" or "off"), ``size_bytes``, ``encrypted``, and
    ``local``: whether the connection leaves this machine.
    """
    driver: Any = connection.connection.driver_connection
    found = connection.exec_driver_sql(
        "SELECT current_setting('server_version'), current_setting('server_encoding'),"
        " current_setting('fsync'), pg_database_size(current_database())"
    ).one()
    return {
        "product": f"PostgreSQL {found[0]}",
        "server": found[0],
        "encoding": found[1],
        "fsync": found[2],
        "size_bytes": found[3],
        "encrypted": bool(driver.pgconn.ssl_in_use),
        "local": _is_local(driver.info),
    }


def _is_local(info: psycopg.ConnectionInfo) -> bool:
    if info.host.startswith(("/", "@")) or not info.hostaddr:
        return True
    return ipaddress.ip_address(info.hostaddr).is_loopback
