"""Plays a story: starts and ends the processes, runs each action at its time, asks the oracle."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from syncd.config.model import Config
from syncd.core.errors import Failure
from tests.simulation.coverage import counted
from tests.simulation.disk import Disk
from tests.simulation.loop import NothingToDo, VirtualLoop, run
from tests.simulation.oracle import Complaint, Oracle
from tests.simulation.pair import SERVER, Cut, Link, Pause
from tests.simulation.process import STOP_SECONDS, Killed, Notified, Process
from tests.simulation.stage import (
    SMALL_PAGE,
    Jump,
    Kill,
    StoreFault,
    Storm,
    empty_disk,
    installed,
    loaded,
)
from tests.simulation.story import DAY, HOUR, STATES, Action, Story
from tests.simulation.universe import World

SETTLED_SECONDS = 6 * HOUR
"""After so long without an action, polls a minute apart show nothing that hourly polls do not show."""


@dataclass(slots=True)
class Result:
    """The result of a story.

    Attributes:
        complaints: what the oracle found; empty if every promise was kept.
        history: what happened, by seconds since the beginning.
        figures: how often each thing happened.
        seconds: how much time was simulated.
    """

    complaints: list[Complaint]
    history: list[tuple[float, str]]
    figures: Counter[str]
    seconds: float


def play(story: Story) -> Result:
    """Play one story to its end."""
    loop = VirtualLoop()
    state = random.getstate()
    random.seed(story.seed)  # tenacity's jitter
    try:
        with installed(story.setting, loop):
            world = World(story, loop)
            theatre = Theatre(story, world, empty_disk())
            with counted(theatre.figures):
                try:
                    run(loop, theatre.play())
                except (NothingToDo, Killed) as error:  # killed: no service is left to check
                    world.oracle.complain("fault", f"the story breaks off: {error}")
            return Result(
                world.oracle.complaints, world.history, theatre.figures + world.figures, loop.time()
            )
    finally:
        random.setstate(state)


class Theatre:
    """The processes, and the clocks and disks of their hosts."""

    def __init__(self, story: Story, world: World, disk: Disk) -> None:
        self.story = story
        self.world = world
        self.disk = disk
        self.figures: Counter[str] = Counter()
        self.setting = dict(story.setting)
        self.interval = float(self.setting["interval"])
        self.offsets = {"a": 0.0, "b": 0.0, SERVER: 0.0}
        self.link = Link(self)
        self.jumps: list[Jump] = []
        self.storms: list[Storm] = []
        self.slews: dict[str, tuple[float, float]] = {}
        self.kill: Kill | None = None
        self.store_faults: list[StoreFault] = []
        self.told = Notified(self)
        self.daemons: dict[str, Process] = {}
        self.running: list[Process] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.closing = False
        self.next_at = 0.0
        self.acted_at = 0.0
        self._pid = 100
        self.config = self._configured()
        if self.setting["small_pages"]:
            world.halo.page_cap = SMALL_PAGE
        world.oracle = Oracle(world, self)

    # --- the stage -----------------------------------------------------------------------------------

    async def play(self) -> None:
        """From the first second to the oracle's last check."""
        self.start("a", delay=0.0)
        second = self.setting["second_daemon"]
        if second:
            self.start("a" if second == "same_host" else "b", delay=17.0, role="second")
        for action in self.story.actions:
            await self._until(action.at)
            self.act(action)
        await self._until(self.story.days * DAY)
        await self.finale()

    async def _until(self, seconds: float) -> None:
        wait = seconds - self.world.loop.time()
        if wait > 0:
            await self._rest(wait)

    async def _rest(self, seconds: float) -> None:
        """Let the processes run; nothing else happens meanwhile."""
        self.next_at = self.world.loop.time() + seconds
        await asyncio.sleep(seconds)
        self.next_at = 0.0

    def act(self, action: Action) -> None:
        """Run one action."""
        self.world.history.append((self.world.loop.time(), f"* {action}"))
        self.figures["actions"] += 1
        self.acted_at = self.world.loop.time()
        doer: Any = self if hasattr(Theatre, f"on_{action.kind}") else self.world
        if doer is self:
            getattr(self, f"on_{action.kind}")(**action.args)
        elif action.kind == "intent":
            self.world.intent(**action.args, at=action.at)
        else:
            getattr(self.world, action.kind)(**action.args)

    async def finale(self) -> None:
        """Disturbances end; then the promises must hold, first by polls alone, then after a sweep."""
        self.closing = True
        self.world.calm_down()
        self.world.tell("quiet comes")
        self.kill, self.store_faults = None, []
        self.calm_clocks()
        for process in list(self.running):
            await self._stop(process)
        oracle = self.world.oracle
        self.interval = 9.0 * HOUR
        daemon = self.start("a", delay=0.0)
        daemon.sweeps = False
        await self._rest(self.setting["overlap"] + 60)
        await self._brief(lambda process: process.poll_once())
        if self.setting["read_budget"] < 1_000:
            await self._rest(35 * DAY)  # until the window no longer contains the story's requests
        await self._rest(30 * HOUR)
        oracle.check_after_polls()
        await self._brief(lambda process: process.sweep_once())
        await self._rest(1_300)
        oracle.check_after_sweep()
        if self.setting["person_retries"]:
            self.on_retry(label=None)
        await self._rest(30 * HOUR)
        await self._brief(lambda process: process.sweep_once())
        await self._rest(1_300)
        oracle.check_at_the_end()
        self.figures["checks"] += 3 * len(
            self.world.truths
        )  # after polls, after a sweep, at the end
        await self._stop(daemon)

    def logged(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """A line of syncd's log."""
        self.figures["checks"] += 1
        self.world.oracle.heard(level, event, fields)
        if level != "debug":
            told = " ".join(f"{key}={value}" for key, value in fields.items())
            self.world.tell(f"  log {event} {told}"[:300])

    def store_bytes(self) -> bytes:
        """The database's bytes as on the disk."""
        return self.disk.plain.serialize()

    def metrics(self) -> str:
        """The metrics page."""
        kept = self.daemons["daemon"].store
        return self.told.page(kept.people.conditions(), kept.people.attention_count(), {}).decode()

    # --- processes -----------------------------------------------------------------------------------

    def is_alive(self, host: str, pid: int) -> bool:
        """Whether a process is still alive, as its own host sees it."""
        return any(p.alive and p.host == host and p.pid == pid for p in self.running)

    def _spawn(self, host: str, name: str) -> Process:
        self._pid += 1
        process = Process(self, f"{name}{self._pid}@{host}", host, self._pid)
        self.running.append(process)
        return process

    def start(self, host: str, *, delay: float, role: str = "daemon") -> Process:
        """Start a daemon; it is restarted whenever it ends, until the disturbances end."""
        process = self._spawn(host, role)
        self.daemons[role] = process

        async def life() -> None:
            await asyncio.sleep(delay)
            down = 5.0
            try:
                with contextlib.suppress(Killed, asyncio.CancelledError):
                    await process.serve()
            except Exception as error:  # noqa: BLE001  # a daemon that ends this way would prove nothing
                self.world.oracle.complain("fault", f"{type(error).__name__}: {error}")
            if not process.alive and self.kill is not None and self.kill.count <= 0:
                down, self.kill = self.kill.down, None
            process.alive = False
            self.running.remove(process)
            if not self.closing and not process.world.stop.is_set():
                self.start(host, delay=down, role=role)

        process.task = self._keep(life())
        return process

    def _keep(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _stop(self, process: Process) -> None:
        """SIGTERM: the current work may take some seconds to end, then it is cancelled."""
        process.world.stop.set()
        process.bell.set()
        if process.task is None or process.task is asyncio.current_task():
            return
        _, late = await asyncio.wait({process.task}, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        process.alive = False

    async def _brief(self, work: Callable[[Process], Awaitable[None]], host: str = "a") -> None:
        """A command that runs beside the daemon."""
        process = self._spawn(host, "command")
        process.task = asyncio.current_task()
        try:
            await work(process)
        except Failure as error:
            self.world.tell(f"{process.name} ends: {type(error).__name__} {error}"[:200])
        except Killed:
            self.kill = None
        finally:
            process.alive = False
            self.running.remove(process)
            for daemon in self.daemons.values():
                daemon.bell.set()  # the daemon checks every half minute for what has become due

    def quiet_until(self) -> float:
        """Until when (simulated seconds) no process is started or killed, and no disk fails."""
        failing = any(fault.after >= -fault.times for fault in self.store_faults)
        hunted = self.jumps or self.storms or self.slews
        if len(self.running) > 1 or self.kill is not None or failing or hunted:
            return 0.0
        return self.next_at

    def spacing(self, interval: float) -> float:
        """Seconds until the next poll: long if nothing has happened for long and nothing will soon."""
        now = self.world.loop.time()
        if now < self.acted_at + SETTLED_SECONDS or self.next_at < now + 2 * HOUR:
            return interval
        return max(interval, HOUR)

    # --- what happens to the processes -------------------------------------------------------------------

    def on_kill(self, *, point: str, count: int, down: float) -> None:
        """The daemon is killed, now or at a later point."""
        daemon = self.daemons["daemon"]
        if point == "now":
            self.kill = Kill("now", 0, down)
            daemon.die()
        else:
            self.kill = Kill(point, count, down)

    def on_stop(self, *, down: float) -> None:
        """The service is stopped, and started again later."""

        async def stop() -> None:
            self.figures["stops"] += 1
            self.world.stops.append((self.world.now(), self.world.now() + down))
            stopped = [(role, p.host, p) for role, p in self.daemons.items() if p in self.running]
            for _, _, process in stopped:
                await self._stop(process)
            for _, end in self.world.stops:  # also stops that begin meanwhile
                await asyncio.sleep(max(0.0, end - self.world.now()))
            for role, host, _ in stopped:
                if not self.closing and self.daemons[role] not in self.running:
                    self.start(host, delay=0.0, role=role)

        self._keep(stop())

    def on_store_fault(self, *, words: str, point: str, after: int, times: int) -> None:
        """The disk fails for some transactions."""
        self.store_faults = [StoreFault(words, point, after, times)]

    def on_cut(self, *, host: str | None, seconds: float, after_commit: bool) -> None:
        """The database is unreachable for one host, or for all."""
        until = self.world.loop.time() + seconds
        self.link.cuts.append(Cut(host, until, after_commit))
        self.figures["store link"] += 1

    def on_pause(self, *, count: int, seconds: float) -> None:
        """A process will be suspended right before a write."""
        self.link.pauses.append(Pause(count, seconds))

    def on_clock(self, *, seconds: float, host: str) -> None:
        """A host's clock jumps."""
        self.offsets[host] += seconds
        if host == SERVER:
            self.link.set_at = self.world.loop.time()
        self.figures["clock jumps"] += 1
        self.world.oracle.clock_jumped(seconds)

    def on_clock_at(self, *, seconds: float, host: str, point: str, count: int) -> None:
        """A host's clock jumps at a later point."""
        self.jumps.append(Jump(point, count, seconds, host))

    def on_clock_storm(self, *, size: float, host: str, seconds: float) -> None:
        """A host's clock jumps at every point for some time."""
        self.storms.append(Storm(host, size, self.world.loop.time() + seconds))

    def on_slew(self, *, rate: float, host: str, seconds: float) -> None:
        """A host's clock runs too fast or too slow for some time, as while it is being corrected."""
        self._end_slew(host)
        self.slews[host] = (self.world.loop.time(), rate)
        self.figures["clock slews"] += 1
        self.world.oracle.clock_jumped(rate * seconds)
        self.world.loop.call_later(seconds, self._end_slew, host)

    def _end_slew(self, host: str) -> None:
        began, rate = self.slews.pop(host, (0.0, 0.0))
        self.offsets[host] += rate * (self.world.loop.time() - began)

    def on_suspend(self, *, role: str, seconds: float) -> None:
        """A process is suspended, like its virtual machine; then it continues."""
        process = self.daemons.get(role)
        if process is not None and process.alive:
            self.figures["suspensions"] += 1
            process.suspended_until = self.world.loop.time() + seconds

    def skew(self, host: str) -> float:
        """The difference of a host's clock from the true time, in seconds."""
        if host not in self.slews:
            return self.offsets[host]
        began, rate = self.slews[host]
        return self.offsets[host] + rate * (self.world.loop.time() - began)

    def clock_point(self, process: Process, point: str) -> None:
        """Let the clock of a process's host jump, if a jump is planned here."""
        now, host = self.world.loop.time(), process.host
        for jump in self.jumps:
            if jump.strikes(point, host):
                self.world.tell(f"the clock of host {host} jumps at {process.name}'s {point}")
                self.on_clock(seconds=jump.seconds, host=host)
        self.jumps = [jump for jump in self.jumps if jump.count > 0]
        for storm in self.storms:
            if storm.host == host and (storm.forward or now < storm.until):
                storm.forward = not storm.forward and now < storm.until
                self.on_clock(seconds=storm.size if storm.forward else -storm.size, host=host)
        self.storms = [s for s in self.storms if s.forward or now < s.until]

    def calm_clocks(self) -> None:
        """From now on no clock is changed any more."""
        self.jumps, self.storms = [], []
        self.link.cuts, self.link.pauses = [], []
        for host in list(self.slews):
            self._end_slew(host)
        for process in self.running:
            process.suspended_until = 0.0

    def on_command(self, *, what: str, label: str, days: int, host: str) -> None:
        """A person runs a command."""
        truth = self.world.truths.get(label)
        if what == "resync" and truth is None:
            return

        async def work(process: Process) -> None:
            if what == "resync":
                assert truth is not None
                people = process.store.people
                deleted = {e.id for e in people.attention() if e.code == "row_deleted"}
                self.world.oracle.renewed([truth.intent_id], deleted)
                await process.resync(truth.intent_id)
            elif what == "once":
                await process.once()
            else:
                await process.backfill(days)

        self.figures[f"command {what}"] += 1
        self.figures[f"host {host}"] += 1
        self._keep(self._brief(work, host))

    def on_retry(self, *, label: str | None) -> None:
        """A person retries entries of the attention list."""
        truth = self.world.truths.get(label) if label else None
        if label is not None and truth is None:
            return

        async def work(process: Process) -> None:
            people = process.store.people
            deleted = {e.id for e in people.attention() if e.code == "row_deleted"}
            done = people.retry(None if truth is None else [truth.intent_id], process.now())
            self.world.oracle.retried(done, deleted)

        self._keep(self._brief(work))

    def on_dismiss(self, *, label: str) -> None:
        """A person dismisses a payment."""
        truth = self.world.truths.get(label)
        if truth is None:
            return

        async def work(process: Process) -> None:
            done = process.store.people.dismiss([truth.intent_id], process.now())
            self.world.oracle.dismissed(done)

        self._keep(self._brief(work))

    def on_configure(self, *, changes: dict[str, Any], restart: bool) -> None:
        """The configuration is changed, and the service reloaded or restarted."""
        self.setting.update(changes)
        self.world.oracle.configured_at = self.world.now()
        self.config = self._configured()
        self.figures["configuration changed"] += 1
        if restart:
            self.on_stop(down=1.0)
            return
        for process in self.daemons.values():
            process.reload = True
            process.bell.set()

    def _configured(self) -> Config:
        setting = self.setting
        environment = {
            "SYNCD_STRIPE_API_KEY": self.world.stripe.api_key,
            "SYNCD_HALO_CLIENT_SECRET": self.world.halo.client_secret,
            "SYNCD_STRIPE__API_BASE": self.world.stripe.url,
            "SYNCD_STRIPE__READ_BUDGET": str(setting["read_budget"]),
            "SYNCD_HALO__URL": self.world.halo.url,
            "SYNCD_HALO__CLIENT_ID": self.world.halo.client_id,
            "SYNCD_HALO__RATE_LIMIT": str(setting["rate_limit"]),
            "SYNCD_POLL__INTERVAL": f"{setting['interval']}s",
            "SYNCD_POLL__OVERLAP": f"{setting['overlap']}s",
            "SYNCD_POLL__SWEEP": f"{int(setting['sweep'])}s",
            "SYNCD_POLL__LOOK_BACK": f"{setting['look_back']}s",
            "SYNCD_PUSH__BATCH": str(setting["batch"]),
            "SYNCD_PUSH__CREATE_MISSING": str(setting["create_missing"]).lower(),
            "SYNCD_PUSH__ON_AMOUNT_MISMATCH": setting["on_amount_mismatch"],
            "SYNCD_PUSH__TRACE": str(setting["trace"]).lower(),
            "SYNCD_HALO__NEW_ROW__METHOD": "12",
            "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
        }
        for state in STATES:
            if state not in setting["unset"]:
                key = f"SYNCD_HALO__STATUS__{state.upper()}"
                environment[key] = str(self.world.halo.status[state])
        return loaded(tuple(sorted(environment.items())))
