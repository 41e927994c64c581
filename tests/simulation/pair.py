"""Two hosts and one database server: which daemon leads, and failures between the hosts and the server.

The right to lead, the push lease and their numbers are the program's own. Simulated are the server's clock,
the links to the server, and when a daemon checks its right.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncd.clients.halo.connection import GUARDED_SECONDS
from syncd.core.errors import Failure, StoreUnavailable
from syncd.core.records import Fence, Holder
from syncd.service.leadership import Leadership
from syncd.sync.policy import release_holds

if TYPE_CHECKING:
    from syncd.service.lanes import Steps
    from tests.simulation.process import Process
    from tests.simulation.theatre import Theatre

SERVER = "server"
"""The database server's name among the hosts."""


@dataclass(slots=True)
class Cut:
    """The database is unreachable.

    Attributes:
        host: the host that is cut off; None for all.
        until: simulated seconds.
        after_commit: whether the server still carries out what was sent, and only its answer is lost.
    """

    host: str | None
    until: float
    after_commit: bool


@dataclass(slots=True)
class Pause:
    """A process is suspended right before its n-th next write, for some seconds."""

    count: int
    seconds: float


@dataclass(slots=True)
class Link:
    """The connections from the hosts to the database server.

    Attributes:
        cuts: when the server is unreachable.
        pauses: processes that are suspended right before a write.
        set_at: when the server's clock was set last (simulated seconds).
    """

    theatre: Theatre
    cuts: list[Cut] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    set_at: float = -1e9

    @property
    def played(self) -> bool:
        """Whether this story has a server."""
        return bool(self.theatre.setting.get("server"))

    @property
    def takeover(self) -> float:
        """The seconds after which a standby must lead."""
        return float(self.theatre.setting["takeover"])

    def now(self) -> float:
        """The server's clock, Unix seconds."""
        return self.theatre.world.now() + self.theatre.skew(SERVER)

    def reach(self, host: str, *, committed: bool) -> None:
        """Reach the server, or fail.

        Raises:
            StoreUnavailable: the link is cut.
        """
        now = self.theatre.world.loop.time()
        self.cuts = [cut for cut in self.cuts if cut.until > now]
        for cut in self.cuts:
            if cut.host in (None, host) and cut.after_commit is committed:
                self.theatre.figures["store link cut"] += 1
                message = "The database can't be reached: connection lost."
                raise StoreUnavailable(message)

    async def pause(self, process: Process) -> None:
        """Suspend a process before a write, if a pause is planned."""
        if not self.played:
            return
        for pause in self.pauses:
            pause.count -= 1
            if pause.count == 0:
                self.theatre.figures["suspensions"] += 1
                self.theatre.world.tell(f"{process.name} is suspended before a write")
                process.suspended_until = self.theatre.world.loop.time() + pause.seconds
        self.pauses = [pause for pause in self.pauses if pause.count > 0]
        await process.thaw()

    # --- what must be true -------------------------------------------------------------------------

    def led(self, process: Process) -> None:
        """A daemon leads from now on: no other daemon may still believe that it leads."""
        self.theatre.figures["takeovers"] += 1
        others = [
            p
            for p in self.theatre.running
            if p is not process and p.alive and p.lead is not None and p.lead.leads
        ]
        self.theatre.figures["checks"] += 1
        if others and not self._set_lately():
            self.theatre.world.oracle.complain(
                "two lead", f"{process.name} leads, and so does {others[0].name}"
            )

    def writes(self, process: Process) -> None:
        """A daemon sends a write: the server must not have known for long that another daemon leads."""
        if process.lead is None:
            return
        self.theatre.figures["checks"] += 1
        row = self.theatre.disk.plain.execute(
            "SELECT owner, number, since FROM lease WHERE name = 'leader'"
        ).fetchone()
        if row is None or row[:2] == (process.lead.me.owner, process.lead.fence.number):
            return
        if self.now() - row[2] > GUARDED_SECONDS + 1 and not self._set_lately():
            self.theatre.world.oracle.complain(
                "unfenced", f"{process.name} writes to Halo, and {row[0]} leads"
            )

    def _set_lately(self) -> bool:
        return self.theatre.world.loop.time() - self.set_at < 2 * self.takeover + 60


def leadership(process: Process, steps: Steps) -> Leadership:
    """The right of a daemon to lead, created as in the daemon itself."""
    link = process.theatre.link

    async def prepare() -> None:
        async with steps.exclusive():
            old, steps.parts = steps.parts, process.assemble("the daemon")
            await old.close()
        steps.started = process.now()
        release_holds(process.config, process.store, process.now())

    def leads(_how: str | None) -> None:
        link.led(process)
        process.bell.set()

    def loses() -> None:
        process.theatre.world.tell(f"{process.name} no longer leads")
        steps.cancel()

    story, host = process.theatre.story, process.host
    me = Holder(
        f"{story.seed} {process.name} leads", "the daemon", host, f"boot of {host}", process.pid
    )
    return Leadership(
        process.store, link.takeover, process.theatre.told, process.now, process.world.monotonic,
        prepare, leads, loses, me, lambda pid: process.theatre.is_alive(host, pid),
    )  # fmt: skip


def fence(process: Process) -> Fence | None:
    """What a push lease of a daemon requires."""
    return None if process.lead is None else process.lead.fence


async def keep_role(process: Process, lead: Leadership) -> None:
    """Check the right to lead, again and again."""
    while process.alive and not process.world.stop.is_set():
        await asyncio.sleep(lead.takeover_seconds / 7)
        await process.thaw()
        await process.guarded(lead.look)


def hand_over(process: Process) -> None:
    """Let a standby lead at once, as a daemon that is stopped does."""
    if process.lead is not None and process.alive:
        with contextlib.suppress(Failure):
            process.lead.release()
