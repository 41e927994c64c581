"""SQLite: checks the file before it is opened, sets up connections, and explains SQLite's errors.

syncd checks the file before it writes anything: syncd does not change a file that is damaged, that
belongs to another program, or that this account may not use.
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

from syncd.core.errors import Failure, StoreUnavailable, StoreUnusable
from syncd.failpoints import Point, crash_point
from syncd.text.database_url import file_of

QUICK_CHECK_BYTES_MAX = 64 * 1024 * 1024
"""A larger database is not checked as a whole at each start; damage shows when it is read."""


def make_engine(url: str, busy_seconds: float, *, durable: bool) -> sa.Engine:
    """Check the file, then prepare connections to it; a missing file is created.

    Raises:
        StoreUnusable: the file cannot be used.
        StoreUnavailable: the database is locked, or its disk is full.
    """
    file = file_of(url)
    if file is not None:
        look_before_opening(Path(file), busy_seconds)
    engine = sa.create_engine(url, connect_args={"timeout": busy_seconds})
    sa.event.listen(engine, "connect", on_connect if durable else _on_connect_temporary)
    sa.event.listen(engine, "begin", on_begin)
    return engine


def look_before_opening(path: Path, busy_seconds: float) -> None:
    """Refuse a file that syncd cannot use, before anything is written to it."""
    remedy = "Set another file in state.url, or give the account of syncd access to this one."
    try:
        if not path.parent.is_dir():
            message = (
                f"The database's folder {path.parent} does not exist. The service creates it on its "
                "first start: systemctl start syncd. Without the service, create it: "
                f"install -d -m 700 {path.parent}. Or set another file in state.url."
            )
            raise StoreUnusable(message)
        if not path.exists():
            # The file is readable for its owner alone from its first byte on.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            crash_point(Point.DATABASE_MADE)
            return
        if not path.is_file():
            message = f"The database {path} is not a file. {remedy}"
            raise StoreUnusable(message)
        if not os.access(path, os.R_OK | os.W_OK):
            message = f"This account may not read and write the database {path}. {remedy}"
            raise StoreUnusable(message)
        if path.stat().st_size <= QUICK_CHECK_BYTES_MAX:
            with translated():
                _quick_check(path, busy_seconds)
    except OSError as error:
        message = f"syncd cannot open the database {path}: {error.strerror}. {remedy}"
        raise StoreUnusable(message) from error


def _quick_check(path: Path, busy_seconds: float) -> None:
    # A journal that a crash left must be rolled back, which writes; otherwise read access is
    # enough.
    mode = "rw" if Path(f"{path}-journal").exists() else "ro"
    where = f"file:{quote(str(path))}?mode={mode}"
    connection = sqlite3.connect(where, uri=True, timeout=busy_seconds)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    if found != ("ok",):
        raise sqlite3.DatabaseError(f"malformed: {found}")


def make_ours(engine: sa.Engine, path: Path) -> None:
    """Set the file's mode and journal, after the tables have shown that the file belongs to syncd."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        with suppress(PermissionError):
            path.chmod(0o600)
    # WAL can corrupt a database with two connections before SQLite 3.51.3. DELETE with EXTRA
    # survives power loss and is fast enough: about a thousand commits a second (measured). A new
    # database uses DELETE already.
    with translated():
        raw = engine.raw_connection()
        try:
            raw.driver_connection.execute("PRAGMA journal_mode=DELETE")  # type: ignore[union-attr]
        finally:
            raw.close()


def on_connect(connection: Any, _record: Any) -> None:
    """Set up a new connection, so that commits survive power loss."""
    if not isinstance(connection, sqlite3.Connection):
        return
    connection.isolation_level = None  # SQLAlchemy's begin event starts transactions, not pysqlite
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("PRAGMA secure_delete=ON")


def _on_connect_temporary(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=MEMORY")
    connection.execute("PRAGMA synchronous=OFF")


def on_begin(connection: sa.Connection) -> None:
    """Begin a transaction; a writing transaction locks the file at once."""
    if connection.dialect.name == "sqlite":
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


_PASSING = ("full", "disk i/o", "unable to open", "readonly", "out of memory")
"""Parts of SQLite's error messages about the disk or the process, not about a damaged file."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of SQLite into StoreUnavailable or StoreUnusable, with a remedy."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        raise failure_of(error) from error


def failure_of(error: Exception) -> Failure | StoreUnusable:
    """What an error of SQLite means, with a remedy."""
    text = str(getattr(error, "orig", None) or error)
    low = text.lower()
    if "locked" in low or "busy" in low:
        message = (
            f"Another process has locked the database ({text}). syncd changed nothing and retries "
            "later. If the lock stays, find the process that has the file open, with fuser and the "
            "file of state.url."
        )
        return StoreUnavailable(message)
    if any(words in low for words in _PASSING):
        message = (
            f"syncd cannot write the database ({text}). syncd changed nothing and retries later. Free "
            "space on its disk; or check whether the disk is read-only, or the process has used up "
            "its memory or open files."
        )
        return StoreUnavailable(message)
    message = (
        f"The database is damaged or not a database of syncd ({text}). syncd did not change it. "
        "Restore a copy; or move the file away and run syncd --backfill 90d, which rebuilds the "
        "database from Stripe and Halo."
    )
    return StoreUnusable(message)


def facts(engine: sa.Engine) -> dict[str, Any]:
    """SQLite's version, and the size of the file in bytes (None without a file)."""
    path = engine.url.database
    size = Path(path).stat().st_size if path and Path(path).exists() else None
    return {"sqlite": sqlite3.sqlite_version, "size_bytes": size}
