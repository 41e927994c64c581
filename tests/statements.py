"""Compiles each statement of SQL once in a process, instead of once for each database.

SQLAlchemy keeps what it compiled with the engine of a database. Each test has a database of its own, so
a third of the tests' time would go into compiling the same statements.
"""

from typing import Any

import sqlalchemy as sa


class SharedCache(dict[Any, Any]):
    """Compiled statements, by what the statement is and which kind of database it is for."""

    def get(self, key: Any, default: Any = None) -> Any:
        """The compiled statement; `key` begins with the dialect of one engine."""
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
    """Let every engine of this process share what was compiled; a second time changes nothing."""
    if not sa.event.contains(sa.Engine, "engine_connect", _share):
        sa.event.listen(sa.Engine, "engine_connect", _share)
