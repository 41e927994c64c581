"""Compiles each SQL statement once per process, instead of once per database.

SQLAlchemy caches compiled statements per engine. Each test has its own database, so the tests would
spend a third of their time on compiling the same statements.
"""

from typing import Any

import sqlalchemy as sa


class SharedCache(dict[Any, Any]):
    """A cache of compiled statements, by statement and kind of database."""

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the compiled statement; `key` begins with the dialect of one engine."""
        return super().get(_for_each(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(_for_each(key), compiled)


def _for_each(key: Any) -> Any:
    dialect, *statement = key
    return (type(dialect), dialect.server_version_info, *statement)


_COMPILED = SharedCache()


def _share(connection: sa.Connection) -> None:
    connection.execution_options(compiled_cache=_COMPILED)


def share() -> None:
    """Let all engines of this process share compiled statements; a second call changes nothing."""
    if not sa.event.contains(sa.Engine, "engine_connect", _share):
        sa.event.listen(sa.Engine, "engine_connect", _share)
