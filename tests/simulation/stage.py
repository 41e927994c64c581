"""How the program is put into the simulated world: its clock, its database, its configuration.

These are the few places of the program that do not get the world as an argument.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sqlite3
import ssl
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import sqlalchemy as sa
import tenacity
from sqlalchemy.pool import StaticPool

import syncd.store
from syncd.clients.halo import connection as halo_connection
from syncd.clients.halo import parse as halo_reading
from syncd.clients.halo import sink as halo_sink
from syncd.clients.stripe import source as stripe_source
from syncd.config.load import load
from syncd.config.model import Config
from syncd.store.db import connection as database
from syncd.store.db import schema, sqlite
from syncd.sync.pull import listing, sweep
from syncd.sync.pull import read_back as all_rows
from tests import due
from tests.simulation import process as processes
from tests.simulation.disk import Disk
from tests.simulation.loop import VirtualLoop
from tests.simulation.swift import SWIFT

SMALL_PAGE = 3

STORE_ROOMS = tuple(
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(syncd.store.__path__, "syncd.store.")
    if "migrations" not in found.name and found.name != database.__name__
)
"""The modules in which a process's store, or a test, begins its transactions."""


@dataclass(slots=True)
class Kill:
    """A process will be killed when it reaches a point for the n-th time."""

    where: str
    count: int
    down: float

    def strikes(self, point: str) -> bool:
        """Whether to kill now."""
        if point != self.where:
            return False
        self.count -= 1
        return self.count == 0


@dataclass(slots=True)
class Jump:
    """A host's clock jumps when one of its processes reaches a point for the n-th time."""

    where: str
    count: int
    seconds: float
    host: str

    def strikes(self, point: str, host: str) -> bool:
        """Whether to jump now."""
        if point != self.where or host != self.host:
            return False
        self.count -= 1
        return self.count == 0


@dataclass(slots=True)
class Storm:
    """A host's clock jumps forward and back at every point until a time (simulated seconds)."""

    host: str
    size: float
    until: float
    forward: bool = False


@dataclass(slots=True)
class StoreFault:
    """The disk fails in some of the next transactions."""

    words: str
    point: str
    after: int
    times: int

    def strikes(self, point: str) -> bool:
        """Whether to fail now."""
        if point != self.point:
            return False
        self.after -= 1
        return -self.times <= self.after < 0


@contextlib.contextmanager
def installed(setting: dict[str, Any], loop: VirtualLoop) -> Iterator[None]:
    """Put the program into the simulated world: its few places that do not get time as an argument."""
    clock = types.SimpleNamespace(monotonic=loop.time)
    with contextlib.ExitStack() as stack:

        def patch(module: object, name: str, value: object) -> None:
            stack.enter_context(mock.patch.object(module, name, value))

        for room in (*STORE_ROOMS, due):
            for name in ("writing", "reading", "read_once", "write_once", "present_now"):
                if hasattr(room, name):
                    patch(room, name, getattr(processes, name))
        patch(tenacity, "time", clock)
        patch(ssl, "create_default_context", _context)  # it reads all certificates each time
        patch(halo_connection, "BODY_BYTES_MAX", 1_000_000)
        for owner, name, swift in SWIFT:
            patch(owner, name, swift)
        if setting["small_pages"]:
            for module in (halo_reading, halo_sink, listing, sweep, stripe_source):
                patch(module, "PAGE_SIZE", SMALL_PAGE)
            patch(all_rows, "FEW", 1)
        yield


_TLS = ssl.create_default_context()


def _context(*_: object, **__: object) -> ssl.SSLContext:
    return _TLS


Contents = dict[str, list[tuple[Any, ...]]]
"""The rows of each table."""


@cache
def _disk() -> tuple[Disk, Contents]:
    """The database of this process, and its content before anything has happened."""
    engine = sa.create_engine(
        "sqlite://",
        poolclass=StaticPool,
        pool_reset_on_return=None,
        # More than the program has, so that each is prepared once.
        connect_args={"cached_statements": 2_000},
    )
    sa.event.listen(engine, "connect", sqlite.on_connect)
    sa.event.listen(engine, "begin", sqlite.on_begin)
    with database.writing(engine) as connection:
        schema.create(connection)
        plain = connection.connection.dbapi_connection
    assert isinstance(plain, sqlite3.Connection)
    disk = Disk(plain)
    return disk, disk.contents()


def empty_disk() -> Disk:
    """The database as it is created, without data."""
    disk, template = _disk()
    disk.refill(template)
    return disk


@cache
def loaded(environment: tuple[tuple[str, str], ...]) -> Config:
    with mock.patch.dict(os.environ, dict(environment)):
        return load(None, os.environ)
