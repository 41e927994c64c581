"""Fixtures that replace the SQLite file with a PostgreSQL database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd.sandbox.server import Sandbox
from syncd.store.store import Store
from tests.conftest import HandClock, Rig
from tests.postgresql.server import PASSWORD, Server, missing


@contextmanager
def started() -> Iterator[Server]:
    """A server of its own; the test is skipped if PostgreSQL is missing."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """A server that no test stops."""
    with started() as server:
        yield server


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that a test may stop and kill."""
    with started() as server:
        yield server


@pytest.fixture
def url(shared_server: Server) -> str:
    """The `state.url` of an empty database."""
    return shared_server.url(shared_server.database())


@pytest.fixture
def url_with_tables(request: pytest.FixtureRequest, shared_server: Server) -> str:
    """The `state.url` of a database with tables; the same as `url` if the test requests `url`."""
    if "url" in request.fixturenames:
        found: str = request.getfixturevalue("url")
        return found
    return shared_server.url(shared_server.database_with_tables())


@pytest.fixture
def store(url_with_tables: str) -> Iterator[Store]:
    """A store without payments."""
    url = url_with_tables
    opened = Store.open(url, password=PASSWORD)
    yield opened
    opened.close()


@pytest.fixture
def rig(clock: HandClock, tmp_path: Path, url_with_tables: str) -> Iterator[Rig]:
    """An engine whose clock, like the sandbox's, is set by the test."""
    with Sandbox(clock=clock) as box:
        yield Rig(box, clock, tmp_path, {}, database=url_with_tables, password=PASSWORD)


@pytest.fixture
def live(tmp_path: Path, url: str) -> Iterator[Rig]:
    """The same with the real clock, for real processes."""
    with Sandbox() as box:
        yield Rig(box, HandClock(), tmp_path, {}, database=url, password=PASSWORD)
