"""Two services on two hosts: a link is cut exactly at a point of the leader's work; one right row each.

The services run in this process, by a clock that is set by hand, so that minutes cost nothing. The
packets of a link that is cut are dropped. What was sent into it arrives when the link works again.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from syncd import failpoints
from syncd.failpoints import Point
from syncd.service.leadership import Leadership
from syncd.store.db import postgresql
from syncd.store.store import Store
from syncd.sync.build import Parts, assemble
from tests.conftest import HandClock, Rig
from tests.postgresql.sites import Site, made

pytestmark = pytest.mark.slow

POINTS = (Point.BEFORE_COMMIT, Point.AFTER_COMMIT, Point.BEFORE_REQUEST, Point.AFTER_ANSWER)

KINDS = ("database", "halo", "database-halo", "killed")
"""The links that are cut; or the database is killed, and started again."""

ALL = "CRASHES" in os.environ

TURNS_MAX = 40
"""More occurrences of one point than a poll and push have."""

TAKEOVER_SECONDS = 30.0
LOOKS = 4
"""How often the other host polls and pushes before what the first one sent arrives: Halo may be as late."""

ANSWER_SECONDS = 0.05
"""How long syncd waits for an answer over a link that is cut, in real seconds."""


@dataclass
class Service:
    """A service on a host: its engine, and its right to lead."""

    site: Site
    host: str
    rig: Rig
    store: Store = field(init=False)
    parts: Parts = field(init=False)
    lead: Leadership = field(init=False)

    def __post_init__(self) -> None:
        clock = self.rig.clock
        with self.site.hosts.on(self.host):
            self.store = self.rig.open()
            self.lead = Leadership(
                self.store,
                TAKEOVER_SECONDS,
                self.rig.told,
                clock,
                clock,
                self._prepare,
                lambda _how: None,
                lambda: None,
            )
            self.rig.world.requires = lambda: self.lead.fence
            self.parts = self._assembled()

    def _assembled(self) -> Parts:
        return assemble(self.rig.config(), self.store, self.rig.told, self.rig.world, "the daemon")

    async def _prepare(self) -> None:
        await self.parts.close()
        self.parts = self._assembled()

    async def look(self) -> None:
        """Do what a service does now: renew or take the lead; and poll and push while it leads."""
        with self.site.hosts.on(self.host):
            await self.lead.look()
            for step in (self.parts.engine.poll, self.parts.engine.push):
                if self.lead.leads:
                    await step()

    async def hand_over(self) -> None:
        """Let the other service lead."""
        with self.site.hosts.on(self.host):
            self.lead.release()

    async def close(self) -> None:
        """End it."""
        with self.site.hosts.on(self.host):
            await self.parts.close()
            self.store.close()


@dataclass
class Fault:
    """What happens to the first host at a point.

    Attributes:
        kind: the links that are cut, or "killed": the database is killed.
        struck: whether it is happening.
    """

    site: Site
    first: Service
    kind: str
    struck: bool = False

    def strike(self) -> None:
        """Cut the links, or kill the database."""
        self.struck = True
        if self.kind == "killed":
            self.site.server.stop(signal.SIGKILL)
            return
        self.site.hosts.cut("first", *self.kind.split("-"))
        # From here on syncd waits for a link that never answers: let it wait shortly.
        self.first.parts.sink.connection._client.timeout = httpx.Timeout(ANSWER_SECONDS)
        if "database" in self.kind:
            postgresql.ANSWER_SECONDS = ANSWER_SECONDS - 1
            self._connector._blocked_until = float("inf")

    def mend(self) -> None:
        """Undo it, and wait until everything has arrived that was under way."""
        if not self.struck:
            return
        self.struck = False
        if self.kind == "killed":
            with self.site.hosts.on("db"):
                self.site.server.start()
            return
        self.site.hosts.mend("first", *self.kind.split("-"))
        self.first.parts.sink.connection._client.timeout = httpx.Timeout(20)
        self._connector._blocked_until = 0.0
        end = time.monotonic() + 60
        while any(proxy.left for proxy in self.site.proxies):
            assert time.monotonic() < end
            time.sleep(0.01)

    @property
    def _connector(self) -> "postgresql._Connector":
        return postgresql._CONNECTORS[self.first.store._engine]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The hosts, by a clock that is set by hand."""
    clock = HandClock()
    with made(tmp_path, clock) as found:
        yield found


def occurrences(kind: str, point: Point) -> range:
    """Each request, and every third commit; other commits for each kind. A start costs more time."""
    if ALL or (kind != "killed" and point in (Point.BEFORE_REQUEST, Point.AFTER_ANSWER)):
        return range(1, TURNS_MAX)
    return range(1 + KINDS.index(kind) % 3, TURNS_MAX, 5 if kind == "killed" else 3)


def another_takes_over(kind: str, point: Point, number: int) -> bool:
    """Whether the other host leads before what the first host sent arrives; else the first goes on."""
    if kind == "killed" or point is Point.AFTER_COMMIT:
        return False
    return point is Point.BEFORE_REQUEST or number % 2 == 1


@pytest.mark.parametrize("kind", KINDS)
def test_at_each_point_of_a_write(site: Site, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """One right row for each payment, whether the leader goes on or the other host takes over."""
    monkeypatch.setattr(postgresql, "IDLE_SECONDS", 1)
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 15.0)
    armed = failpoints._Armed()
    monkeypatch.setattr(failpoints, "_armed", armed)
    monkeypatch.setattr(
        failpoints, "faulthandler", SimpleNamespace(dump_traceback=lambda *_, **__: None)
    )
    rig = site.rig
    rig.pay("succeeded")

    async def work() -> None:
        hosts = [Service(site, host, site.rig_of(host)) for host in ("first", "second")]
        one, other = hosts
        fault = Fault(site, one, kind)
        monkeypatch.setattr(
            failpoints, "os", SimpleNamespace(kill=lambda *_: fault.strike(), getpid=os.getpid)
        )
        payments: list[str] = []

        async def turn(point: Point, number: int) -> bool:
            payments[:] = [rig.pay("succeeded"), site.pay()]
            armed.point, armed.left = point, number
            await one.look()
            struck, armed.point, postgresql.ANSWER_SECONDS = fault.struck, None, 15.0
            if another_takes_over(kind, point, number):
                for _ in range(LOOKS):
                    rig.clock.seconds += TAKEOVER_SECONDS + 10
                    await other.look()
            fault.mend()
            for _ in range(8):
                for host in hosts:
                    await host.look()
                if all(rig.statuses(payment) == [3] for payment in payments):
                    break
                rig.clock.seconds += 400
            for payment in payments:
                assert rig.statuses(payment) == [3], (point, number, payment)
            await other.hand_over()
            rig.clock.seconds += 2 * TAKEOVER_SECONDS
            return struck

        try:
            for point in POINTS:
                reached = 0
                for number in occurrences(kind, point):
                    struck = await turn(point, number)
                    reached += struck
                    if not struck:
                        break
                assert reached > 1
        finally:
            fault.mend()
            for host in hosts:
                await host.close()

    asyncio.run(work())
