"""syncd's processes in the simulated world: how they start, work and die.

Only the times at which the daemon's steps begin are simulated. How steps run in parallel, and the engine,
decisions, store and adapters are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from syncd.config.model import Config
from syncd.core.errors import Failure, Stopping, StoreUnavailable, StoreUnusable
from syncd.core.records import Holder
from syncd.core.rules.proof import WriteKind
from syncd.core.rules.proof_notes import TRIAL
from syncd.monitor.telemetry import Telemetry
from syncd.service.lanes import Steps
from syncd.service.schedule import SWEEP_LOOK_SECONDS
from syncd.store.db import sqlite
from syncd.store.db.connection import present
from syncd.store.store import Store
from syncd.sync.build import Parts, Runtime, assemble
from syncd.sync.policy import release_holds
from tests.due import next_due
from tests.simulation.disk import Disk
from tests.simulation.line import Line
from tests.simulation.pair import fence, hand_over, keep_role, leadership
from tests.simulation.story import DAY

if TYPE_CHECKING:
    from syncd.service.leadership import Leadership
    from tests.simulation.theatre import Theatre

STOP_SECONDS = 8.0
TICK_SECONDS = 30.0
SLEEP_SECONDS_MIN = 1e-3


class Killed(BaseException):
    """The process was killed; no code in it may continue, not even in a `finally`."""


@dataclass(slots=True)
class Desk:
    """Replaces SQLAlchemy's engine in a process's store, so that each transaction passes here."""

    process: Process
    disk: Disk


class writing:  # noqa: N801  # it stands in for the function of this name
    """One transaction that writes, of a process that may die or find the disk full."""

    __slots__ = ("desk",)

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def __enter__(self) -> Disk:
        """Begin."""
        process, disk = self.desk.process, self.desk.disk
        process.check()
        process.reach(committed=False)
        try:
            disk.begin()
            process.point("begin")
        except BaseException as error:
            self._undo(error)
            raise
        return disk

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Commit, or undo it all."""
        process, disk = self.desk.process, self.desk.disk
        if error is not None:
            self._undo(error)
            return
        try:
            process.point("commit")
            disk.commit()
        except BaseException as failed:
            self._undo(failed)
            raise
        process.point("committed")
        process.reach(committed=True)

    def _undo(self, error: BaseException) -> None:
        self.desk.disk.rollback()
        if isinstance(error, sqlite3.Error):
            raise sqlite.failure_of(error) from error


class reading:  # noqa: N801  # it stands in for the function of this name
    """One transaction that only reads: nothing runs meanwhile, so the database needs no transaction."""

    __slots__ = ("desk",)

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def __enter__(self) -> Disk:
        """Begin."""
        self.desk.process.check()
        self.desk.process.reach(committed=False)
        return self.desk.disk

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """End."""
        if isinstance(error, sqlite3.Error):
            raise sqlite.failure_of(error) from error


def read_once(desk: Desk, statement: Any, given: Mapping[str, Any] | None = None) -> list[Any]:
    """The rows of one SELECT."""
    with reading(desk) as disk:
        return disk.execute(statement, given).all()


def write_once(desk: Desk, statement: Any, given: Mapping[str, Any] | None = None) -> int:
    """Run one statement that writes; return how many rows it changed."""
    with writing(desk) as disk:
        return int(disk.execute(statement, given).rowcount)


def present_now(desk: Desk, column: Any, wanted: list[Any]) -> set[Any]:
    """The values among `wanted` that the column contains already."""
    with reading(desk) as disk:
        return present(disk, column, wanted)  # type: ignore[arg-type]


class Notified(Telemetry):
    """Telemetry that passes each log line to the oracle."""

    def __init__(self, theatre: Theatre) -> None:
        super().__init__()
        self.theatre = theatre
        self.process = ""

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Write one line of the log."""
        self.theatre.logged(level, event, fields)


@dataclass(slots=True)
class ProcessWorld(Runtime):
    """The outside world of a simulated process."""

    process: Process | None = None

    async def sleep(self, seconds: float) -> None:
        """Wait in simulated time; the process may be killed meanwhile."""
        assert self.process is not None
        self.process.point("sleep")
        # No real wait is shorter; the simulated time has no finer steps, so it would not advance.
        await Runtime.sleep(self, max(seconds, SLEEP_SECONDS_MIN) if seconds > 0 else seconds)
        await self.process.thaw()


@dataclass(slots=True)
class Process:
    """One process of syncd on one host."""

    theatre: Theatre
    name: str
    host: str
    pid: int
    alive: bool = True
    world: ProcessWorld = field(init=False)
    store: Store = field(init=False)
    task: asyncio.Task[None] | None = None
    reload: bool = False
    sweeps: bool = True
    suspended_until: float = 0.0
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    lead: Leadership | None = None
    _unreleased: bool = False

    def __post_init__(self) -> None:
        chance = Random(f"{self.theatre.story.seed} {self.name}")  # noqa: S311  # replayable
        self.world = ProcessWorld(
            now=self.now,
            monotonic=self.theatre.world.loop.time,
            random=chance.random,
            stop=asyncio.Event(),
            process=self,
        )
        self.world.transport = Line(self.theatre.world, self)
        self.store = Store(Desk(self, self.theatre.disk))  # type: ignore[arg-type]  # stands in
        if self.theatre.link.played:
            self.store.coordination.clock = lambda *_: self.theatre.link.now()

    def now(self) -> float:
        """The host's clock, Unix seconds."""
        return self.theatre.world.now() + self.theatre.skew(self.host)

    # --- dying -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Stop all work after the process's death."""
        if not self.alive:
            raise Killed

    def point(self, name: str) -> None:
        """A point at which the process may die, or its disk may fail."""
        self.check()
        theatre = self.theatre
        if theatre.jumps or theatre.storms:
            theatre.clock_point(self, name)
        if theatre.kill is not None and theatre.kill.strikes(name):
            theatre.figures[f"kill {name}"] += 1
            theatre.world.tell(f"{self.name} is killed at {name}")
            self.alive = False
            raise Killed
        if name in ("begin", "commit"):
            for fault in theatre.store_faults:
                if fault.strikes(name):
                    theatre.figures[f"store {fault.words}"] += 1
                    theatre.world.tell(f"{self.name}: {fault.words}")
                    theatre.world.oracle.forgot(self)
                    raise sqlite3.OperationalError(fault.words)

    def reach(self, *, committed: bool) -> None:
        """Reach the database's server, if there is one."""
        if self.theatre.link.cuts:
            self.theatre.link.reach(self.host, committed=committed)

    async def thaw(self) -> None:
        """Wait while the process is suspended."""
        while (left := self.suspended_until - self.theatre.world.loop.time()) > 0:
            await asyncio.sleep(left)
            self.check()

    def die(self) -> None:
        """Kill the process at once."""
        if self.alive:
            self.theatre.figures["kill now"] += 1
            self.theatre.world.tell(f"{self.name} is killed")
            self.alive = False
            if self.task is not None:
                self.task.cancel()

    # --- living ------------------------------------------------------------------------------------

    def assemble(self, what: str) -> Parts:
        """The parts of an engine, as the command line puts them together."""
        parts = assemble(self.config, self.store, self.theatre.told, self.world, what)
        if self.theatre.closing:  # as with a configured interval of that length
            parts.engine.silence_seconds = self.theatre.interval
        lease = parts.engine.pusher.lease
        assert lease is not None
        lease.me = Holder(
            f"{self.theatre.story.seed} {self.name}",
            what,
            self.host,
            f"boot of {self.host}",
            self.pid,
        )
        lease.alive = lambda pid: self.theatre.is_alive(self.host, pid)
        return parts

    @property
    def config(self) -> Config:
        """The configuration of this moment."""
        return self.theatre.config

    async def guarded(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run a step as the daemon does: an unexpected exception is a fault of the program."""
        try:
            if not self.world.stop.is_set():
                await work()
        except Stopping:
            return
        except Killed:
            self.bell.set()  # the process ends with the current step
        except StoreUnusable as error:
            self.theatre.world.oracle.complain("unusable", str(error))
            self.world.stop.set()
        except StoreUnavailable as error:  # as the daemon: it retries later
            self.theatre.told.log("error", "store_busy", reason=str(error))
        except Exception as error:  # noqa: BLE001  # the oracle records every exception
            place = traceback.extract_tb(error.__traceback__)
            where = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(place[-6:]))
            self.theatre.world.oracle.complain(
                "fault", f"{type(error).__name__}: {error} ({where})"
            )

    async def serve(self) -> None:
        """The daemon: poll and push every interval, sweep on its slower schedule, push what is due.

        Its steps are the real ones; only their times are simulated.
        """
        loop = self.theatre.world.loop
        played = self.theatre.link.played
        try:
            parts = self.assemble("the daemon")
            if not played:
                release_holds(self.config, self.store, self.now())
        except Failure:
            return  # systemd restarts the service
        steps = Steps(parts, self.guarded, self._release, self.bell.set, self.now(), loop.time)
        interval = self.theatre.interval
        next_poll, looked = loop.time(), loop.time() + 1
        keeping = None
        try:
            if played:
                self.lead = leadership(self, steps)
                self.world.requires = lambda: fence(self)
                await self.guarded(self.lead.look)
                keeping = asyncio.ensure_future(keep_role(self, self.lead))
            while not self.world.stop.is_set():
                self.check()
                if self.lead is not None and not self.lead.leads:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.bell.wait(), self.theatre.link.takeover / 7)
                    self.bell.clear()
                    await self.thaw()
                    next_poll, looked = loop.time(), max(looked, loop.time() + 1)
                    continue
                if self.reload:
                    self.reload = False
                    steps.begin(lambda: self._reload(steps))
                next_sweep = self._next_sweep(steps.started, looked)
                at = min(next_poll, next_sweep, self._next_tick(steps))
                if at > loop.time():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.bell.wait(), at - loop.time())
                        self.bell.clear()
                        await self.thaw()
                        continue
                    await self.thaw()
                if at == next_sweep:
                    looked = loop.time() + min(self.config.poll.sweep // 4, SWEEP_LOOK_SECONDS)
                    steps.sweep()
                elif at == next_poll:
                    next_poll = max(next_poll + self.theatre.spacing(interval), loop.time())
                    steps.poll()
                else:
                    steps.push()
                await asyncio.sleep(0)
            if steps.running:
                await asyncio.wait(set(steps.running))
            self.check()
            hand_over(self)
        finally:
            for task in (left := set(steps.running) | ({keeping} if keeping else set())):
                task.cancel()
            if left:
                await asyncio.wait(left)
            await steps.parts.close()

    async def _reload(self, steps: Steps) -> None:
        async with steps.exclusive():
            old, steps.parts = steps.parts, self.assemble("the daemon")
            steps.parts.engine.last = old.engine.last
            await old.close()
            self._unreleased = True
            self._release()

    def _release(self) -> None:
        if not self._unreleased:
            return
        with contextlib.suppress(StoreUnavailable):  # as the daemon: before its next push
            release_holds(self.config, self.store, self.now(), reloaded=True)
            self._unreleased = False

    def _next_sweep(self, started: float, looked: float) -> float:
        """When the check that finds a due sweep takes place: `looked` or later."""
        loop, sweep = self.theatre.world.loop, self.config.poll.sweep
        if not self.sweeps:
            return loop.time() + 100 * DAY
        try:
            last = float(self.store.note("last_sweep") or started)
        except Failure:
            return looked + sweep
        age = self.now() - last
        return max(looked, loop.time() + (sweep - age if 0 <= age < sweep else 0.0))

    def _next_tick(self, steps: Steps) -> float:
        """When the next tick with work takes place: the others do nothing."""
        parts = steps.parts
        loop = self.theatre.world.loop
        try:
            due = next_due(self.store)
        except Failure:
            due = None
        paused = max(link.paused_until for link in parts.engine.links.values())
        if due is None:
            return loop.time() + DAY
        wait = max(due, min(paused, self.now() + 600)) - self.now()
        at = loop.time() + max(wait, TICK_SECONDS)
        if wait <= 0 and not steps.running:
            busy = self._idle_until(parts)
            while at + TICK_SECONDS < busy:
                at += TICK_SECONDS
        return at

    def _idle_until(self, parts: Parts) -> float:
        """Until when (simulated seconds) ticks do nothing because the tenant's writes are stopped."""
        loop, engine = self.theatre.world.loop, parts.engine
        until, last = self.theatre.quiet_until(), engine.last.get("push")
        tenant = engine.pusher.tenant
        if until <= loop.time() or last is None:
            return 0.0
        try:
            trouble = tenant.trouble(WriteKind.UPDATE)
            if trouble is None or tenant.may_try(WriteKind.UPDATE) or self.store.note(TRIAL.name):
                return 0.0
            if self.store.reversals.unplaced(1):
                return 0.0
        except Failure:
            return 0.0
        now = self.now()
        known = min(trouble.next_try, last + engine.silence_seconds)
        return min(until, loop.time() + known - now)

    async def sweep_once(self) -> None:
        """One sweep and push, now."""
        parts = self.assemble("the daemon")
        try:
            await self.guarded(parts.engine.sweep)
            await self.guarded(parts.engine.push)
        finally:
            await parts.close()

    async def poll_once(self) -> None:
        """One poll and push, as a daemon makes them."""
        parts = self.assemble("the daemon")
        try:
            await self.guarded(parts.engine.poll)
            await self.guarded(parts.engine.push)
        finally:
            await parts.close()

    async def once(self) -> None:
        """`syncd --once`."""
        parts = self.assemble("a single run")
        try:
            release_holds(self.config, self.store, self.now())
            await parts.run.once()
        finally:
            await parts.close()

    async def backfill(self, days: int) -> None:
        """`syncd --backfill`."""
        parts = self.assemble("a backfill")
        try:
            release_holds(self.config, self.store, self.now())
            await parts.run.list_since(int(self.now()) - days * DAY, f"{days}d")
            await parts.run.push_all(_Unseen())
        finally:
            await parts.close()

    async def resync(self, intent_id: str) -> None:
        """`syncd resync`."""
        parts = self.assemble("a resync")
        try:
            await parts.engine.sweeper.resync(intent_id)
            await parts.engine.pusher.push()
        finally:
            await parts.close()


class _Unseen:
    """Progress that is not shown."""

    def note(self, _text: str) -> None:
        """Show nothing."""

    def waiting(self, _side: object, _seconds: float) -> None:
        """Show nothing."""
