"""The database file: how it is opened and asked, what makes it durable, and what its errors mean.

The refusals come before anything is written: a file that is damaged, foreign or not ours to read is
left as it is.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from syncd.core.errors import StoreUnavailable, StoreUnusable
from syncd.failpoints import Point, crash_point
from syncd.store.db import schema

QUICK_CHECK_BYTES_MAX = 64 * 1024 * 1024
"""A larger database isn't checked whole at every start; damage is then met when it is read."""


def connect(url: str, busy_seconds: float) -> sa.Engine:
    """Open the database, make it if there is none, and bring its tables up to date.

    Raises:
        StoreUnusable: it can't be opened, is damaged, or belongs to something else.
        StoreUnavailable: it is locked, or there is no room.
    """
    path = sqlite_path(url)
    if path is not None:
        _look_before_opening(path, busy_seconds)
    engine = sa.create_engine(url, connect_args={"timeout": busy_seconds})
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    try:
        with writing(engine) as connection:
            _bring_up_to_date(connection, url)
        if path is not None:
            _make_ours(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _bring_up_to_date(connection: sa.Connection, url: str) -> None:
    version, tables = schema.version(connection)
    if version == schema.REVISION:
        return
    foreign = f"The database {url} holds tables of something else. Name another one in state.url."
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
            f"The database {url} was written by a newer syncd (schema {version}). Update syncd."
        )
        raise StoreUnusable(message)
    try:
        schema.upgrade(connection)
    except LookupError:
        raise StoreUnusable(foreign) from None


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that only reads."""
    with _translated(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that writes: it has the file for itself from its start."""
    with _translated(), engine.connect() as plain:
        connection = plain.execution_options(immediate=True)
        with connection.begin():
            yield connection
            crash_point(Point.BEFORE_COMMIT)
    crash_point(Point.AFTER_COMMIT)


def present(connection: sa.Connection, column: sa.Column[Any], wanted: list[Any]) -> set[Any]:
    """Which of `wanted` are there already."""
    found: set[Any] = set()
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        found.update(connection.execute(sa.select(column).where(column.in_(part))).scalars())
    return found


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL; None for another database, or one in memory."""
    parsed = sa.make_url(url)
    if not parsed.drivername.startswith("sqlite") or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def _look_before_opening(path: Path, busy_seconds: float) -> None:
    """Refuse what isn't a healthy database of ours, before anything is written to it."""
    remedy = "Name a usable file in state.url, or make it usable for the account syncd runs as."
    try:
        if not path.parent.is_dir():
            message = (
                f"The database's folder {path.parent} doesn't exist. The service's first start makes "
                "it (systemctl start syncd); without the service, make it, or name another file in "
                "state.url."
            )
            raise StoreUnusable(message)
        if not path.exists():
            # Readable by its owner alone, from its first byte on.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            crash_point(Point.DATABASE_MADE)
            return
        if not path.is_file():
            message = f"The database {path} isn't a file. {remedy}"
            raise StoreUnusable(message)
        if not os.access(path, os.R_OK | os.W_OK):
            message = f"The database {path} can't be read and written. {remedy}"
            raise StoreUnusable(message)
        if path.stat().st_size <= QUICK_CHECK_BYTES_MAX:
            with _translated():
                _quick_check(path, busy_seconds)
    except OSError as error:
        message = f"The database {path} can't be opened: {error.strerror}. {remedy}"
        raise StoreUnusable(message) from error


def _quick_check(path: Path, busy_seconds: float) -> None:
    # A journal that a crash left is to be rolled back, which takes writing; else reading is enough.
    mode = "rw" if Path(f"{path}-journal").exists() else "ro"
    where = f"file:{quote(str(path))}?mode={mode}"
    connection = sqlite3.connect(where, uri=True, timeout=busy_seconds)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    if found != ("ok",):
        raise sqlite3.DatabaseError(f"malformed: {found}")


def _make_ours(engine: sa.Engine, path: Path) -> None:
    """What changes the file itself waits until it is known to be ours."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        with suppress(PermissionError):
            path.chmod(0o600)
    # WAL can corrupt a database with two connections before SQLite 3.51.3; DELETE with EXTRA is
    # durable through power loss, and quick enough: about a thousand commits a second (measured).
    # A new database is in DELETE already.
    with _translated():
        raw = engine.raw_connection()
        try:
            raw.driver_connection.execute("PRAGMA journal_mode=DELETE")  # type: ignore[union-attr]
        finally:
            raw.close()


def _on_connect(connection: Any, _record: Any) -> None:
    if not isinstance(connection, sqlite3.Connection):
        return
    connection.isolation_level = None  # SQLAlchemy's begin event starts transactions, not pysqlite
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("PRAGMA secure_delete=ON")


def _on_begin(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


_PASSING = ("full", "disk i/o", "unable to open", "readonly", "out of memory")
"""What the database says of trouble around it, which says nothing of damage in it."""


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the database's errors into ours, with a remedy."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        said = str(getattr(error, "orig", None) or error)
        low = said.lower()
        if "locked" in low or "busy" in low:
            message = (
                f"The database is locked by another process ({said}). Nothing was changed; "
                "syncd tries again later. If it stays so, look who holds the file (fuser)."
            )
            raise StoreUnavailable(message) from error
        if any(words in low for words in _PASSING):
            message = (
                f"The database can't be written ({said}). Nothing was changed; make room on its "
                "disk, or see whether it is read-only or the process out of memory or open files; "
                "syncd then goes on by itself."
            )
            raise StoreUnavailable(message) from error
        message = (
            f"The database can't be used ({said}). It was left as it is. Restore a copy of it, or "
            "move it away and run a backfill: it is rebuilt from Stripe and Halo."
        )
        raise StoreUnusable(message) from error
