"""Two hosts over one database server: which daemon leads, and what goes wrong between them and the server.

The right to lead, the push lease and their numbers are the program's own; the server's clock, the links
to the server, and when a daemon looks at its right are played here.
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
    """The database is out of reach.

    Attributes:
        host: for which host; None for all.
        until: simulated seconds.
        after_commit: whether what was sent is still carried out, and only its answer is lost.
    """

    host: str | None
    until: float
    after_commit: bool


@dataclass(slots=True)
class Pause:
    """A process stands still right before its n-th next write leaves it, for some seconds."""

    count: int
    seconds: float


@dataclass(slots=True)
class Link:
    """The way from the hosts to the database server.

    Attributes:
        cuts: when it is out of reach.
        pauses: processes that stand still right before a write.
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
        """After how many seconds a standby must lead."""
        return float(self.theatre.setting["takeover"])

    def now(self) -> float:
        """The server's clock, Unix seconds."""
        return self.theatre.world.now() + self.theatre.skew(SERVER)

    def reach(self, host: str, *, committed: bool) -> None:
        """Come to the server, or fail to.

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
        """Let a process stand still before a write, if it is to."""
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
        """A daemon leads from now on: no other one may still believe that it does."""
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
        """A daemon sends a write: the server must not know since long that another one leads."""
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
    """The right of a daemon to lead, as the daemon itself makes it."""
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
    """Look at the right to lead, again and again; hand it over at the end."""
    while process.alive and not process.world.stop.is_set():
        await asyncio.sleep(lead.takeover_seconds / 7)
        await process.thaw()
        await process.guarded(lead.look)


def hand_over(process: Process) -> None:
    """Let a standby lead at once, as a daemon that is stopped does."""
    if process.lead is not None and process.alive:
        with contextlib.suppress(Failure):
            process.lead.release()
