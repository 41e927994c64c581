"""The service: the scheduler, signals, and systemd.

A signal may arrive at any time, also before the event loop runs and while syncd writes to the store.
So a signal only sets an event, which the steps check. syncd finishes and records the request that is
under way. After STOP_SECONDS syncd cancels the step; the next start continues with what is still due.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from syncd.config.model import Config, ConfigurationError, differences
from syncd.core.errors import Stopping, StoreUnavailable, StoreUnusable
from syncd.core.records import Fence
from syncd.failpoints import Point, crash_point
from syncd.monitor.health import Check
from syncd.monitor.status import left_in
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.monitor.watcher import Watch
from syncd.service.clock import Ages, ClockWatch
from syncd.service.instance import Instance
from syncd.service.lanes import Step, Steps, note_progress
from syncd.service.leadership import Leadership
from syncd.service.readiness import HANG_SECONDS, live_check, ready_checks
from syncd.service.schedule import plan
from syncd.service.systemd import Notifier
from syncd.service.web.listener import Server, listen_on, serve, server_config
from syncd.service.web.server import WebSources
from syncd.store.store import Store
from syncd.sync.build import Runtime, assemble
from syncd.sync.engine import Engine
from syncd.sync.policy import RELEASING_KEYS, release_holds
from syncd.text.wording import counted, needing

STOP_SECONDS = 8.0
"""How long a running step may continue after SIGTERM; the service ends within ten seconds."""

CLOCK_LOOK_SECONDS = 5.0
"""How often to check whether the host's clock was set back."""

FIXED = ("state.url", "state.takeover_after", "web.listen", "database_password")
"""Keys that take effect only after a restart."""


@dataclass(slots=True)
class Daemon:
    """The service around one engine.

    Attributes:
        reload: reads the configuration again.
        monotonic: seconds of a clock that is never set.
        interrupted: whether SIGINT (Ctrl-C) ended the service.
    """

    config: Config
    store: Store
    telemetry: Telemetry
    notifier: Notifier
    reload: Callable[[], Config]
    monotonic: Callable[[], float] = time.monotonic
    runtime: Runtime = field(default_factory=Runtime)
    interrupted: bool = field(init=False, default=False)
    _steps: Steps = field(init=False)
    _started: float = field(init=False, default=0.0)
    _scheduler: AsyncIOScheduler = field(init=False)
    _broken: StoreUnusable | None = field(init=False, default=None)
    _watch: Watch = field(init=False)
    _instance: Instance = field(init=False)
    _lead: Leadership | None = field(init=False, default=None)
    _ran: bool = field(init=False, default=False)
    _unreleased: bool = field(init=False, default=False)
    _ages: Ages = field(init=False)
    _clock: ClockWatch = field(init=False)

    def __post_init__(self) -> None:
        self._ages, self._clock = Ages(self.monotonic), ClockWatch(self.runtime.now, self.monotonic)
        if self.config.state.is_server:
            self._lead = Leadership(
                self.store,
                self.config.state.takeover_after,
                self.telemetry,
                self.runtime.now,
                self.monotonic,
                self._prepare_to_lead,
                self._on_lead,
                self._on_loss,
            )
            self.runtime.requires = self._fence

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            ConfigurationError: syncd cannot listen on web.listen.
            StoreUnusable: the database is damaged.
        """
        self._started = self.runtime.now()
        self._ages.seconds("start", self._started)
        self.runtime.working = note_progress
        self._watch_signals()
        self._steps = Steps(
            assemble(self.config, self.store, self.telemetry, self.runtime, "the daemon"),
            self._guarded,
            self._release_if_left,
            self._say,
            self._started,
            self.monotonic,
        )
        self.telemetry.leads(leading=self._lead is None)
        if self._lead is None:
            release_holds(self.config, self.store, self.runtime.now())
        self._watch = Watch(
            self.store,
            self.telemetry,
            lambda: self.config,
            self._ready,
            self._budgets,
            lambda: self._engine.last.get("poll"),
            self.runtime.now,
            self.runtime.transport,
        )
        listener = listen_on(self.config.web.listen)
        self._instance = Instance(
            self.store, self.config.state.url, self.telemetry, self.runtime.now, self.runtime.sleep
        )
        try:
            await (self._instance.claim() if self._lead is None else self._lead.look())
        except (ConfigurationError, Stopping) as error:
            listener.close()
            await self._steps.parts.close()
            if not isinstance(error, Stopping):
                raise
            return
        server = Server(self._web())
        serving = serve(server, listener)
        self._scheduler = AsyncIOScheduler()
        self._schedule()
        self._scheduler.start()
        self._ran = True
        listen, every = "{}:{}".format(*listener.getsockname()[:2]), self.config.poll.interval
        self.telemetry.log("info", "started", listen=listen, interval_seconds=every)
        doing = "the first poll is under way" if self._leads else "stands by"
        self.notifier.ready(f"Started; {doing}.")
        crash_point(Point.READY)
        watching = [asyncio.create_task(work) for work in (self._watch_clock(), self._keep_role())]
        stopped: asyncio.Future[Any] = asyncio.create_task(self.runtime.stop.wait())
        # If the web server ends, the whole service ends: never run without health checks.
        await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        await self._end(server, serving, watching)

    async def _end(
        self, server: Server, serving: "asyncio.Future[None]", watching: "list[asyncio.Task[None]]"
    ) -> None:
        """End in order: start no new step, let running steps finish, then stop the web server.

        Raises:
            StoreUnusable: the database is damaged.
        """
        self.runtime.stop.set()
        self.notifier.stopping()
        self.telemetry.log("info", "stopping")
        crash_point(Point.STOPPING)
        for task in watching:
            task.cancel()
        self._scheduler.shutdown(wait=False)
        await asyncio.gather(self._steps.drain(STOP_SECONDS), self._watch.close())
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(serving, timeout=1.5)
        await self._steps.parts.close()
        with contextlib.suppress(StoreUnavailable, StoreUnusable):
            (self._instance if self._lead is None else self._lead).release()
        self.telemetry.log("info", "stopped")
        if self._broken is not None:
            raise self._broken

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.runtime.stop.set)
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    @property
    def _engine(self) -> Engine:
        return self._steps.parts.engine

    # --- leading -------------------------------------------------------------------------------

    def _fence(self) -> Fence | None:
        return None if self._lead is None else self._lead.fence

    @property
    def _leads(self) -> bool:
        return self._lead is None or self._lead.leads

    async def _prepare_to_lead(self) -> None:
        """Build the engine again: the former one may have outdated data."""
        if self._ran:
            await self._rebuild(self.config)
            self._started = self._steps.started = self.runtime.now()
        release_holds(self.config, self.store, self.runtime.now())

    def _on_lead(self, how: str | None) -> None:
        """Start to poll and push; `how` tells what happened to the former leader, if any."""
        self.telemetry.leads(leading=True)
        if how is not None:
            self.telemetry.count("takeovers")
            self._watch.took_over(how)
        if self._ran:
            self._schedule()

    async def _keep_role(self) -> None:
        """Renew the right to lead, or wait for it; an error in one attempt does not end this."""
        while (lead := self._lead) is not None:
            await asyncio.sleep(lead.look_seconds)
            before = lead.role
            await self._guarded(lead.look)
            if lead.role is not before:
                self.notifier.status(f"{lead.check().text}.".capitalize())

    def _on_loss(self) -> None:
        """Stop every step: this service is now on standby."""
        self.telemetry.leads(leading=False)
        self._steps.cancel()

    async def _rebuild(self, config: Config) -> Engine:
        """Replace the engine between two steps; return the former one."""
        async with self._steps.exclusive():
            old = self._steps.parts
            self._steps.parts = assemble(
                config, self.store, self.telemetry, self.runtime, "the daemon"
            )
            self.config = config
            await old.close()
        return old.engine

    # --- the schedule --------------------------------------------------------------------------

    def _schedule(self) -> None:
        plan(
            self._scheduler,
            self._steps,
            self._on_time,
            self._tick,
            self.config.poll,
            self.runtime.now(),
        )

    async def _watch_clock(self) -> None:
        """After the host's clock was set back, plan all steps again: the scheduler uses that clock."""
        while True:
            await asyncio.sleep(CLOCK_LOOK_SECONDS)
            back = self._clock.seconds_back()
            if back > 0:
                self.telemetry.log("warning", "clock_set_back", seconds=round(back))
                self._schedule()

    async def _on_time(self, begin: Callable[[], None]) -> None:
        """Only start the step, so that the scheduler never finds its last job still running."""
        if self._leads:
            begin()

    async def _guarded(self, step: Step) -> None:
        try:
            if not self.runtime.stop.is_set():
                await step()
        except Stopping:
            return
        except StoreUnusable as error:
            # Without its database syncd could only guess: end, so that a person notices.
            self._broken = error
            self.runtime.stop.set()
        except StoreUnavailable as error:
            self.telemetry.log("error", "store_busy", reason=str(error))
        except Exception as error:  # noqa: BLE001  # a bug must not end the service silently
            self.telemetry.log(
                "error", "fault", text=f"{type(error).__name__}: {error}", exc_info=True
            )

    def _tick(self) -> None:
        """Push what has become due between two polls; update the status during a long push."""
        self._feed()
        if not self._leads:
            return
        self._steps.begin(self._renew)
        if not self._steps.push():
            self._steps.begin(self._look)

    async def _look(self) -> None:
        self._watch.update()

    async def _renew(self) -> None:
        self._instance.renew()

    def _feed(self) -> None:
        """Notify the watchdog, unless a step hangs."""
        if self._steps.idle_seconds() < HANG_SECONDS:
            self.notifier.alive()

    def _say(self) -> None:
        self._feed()
        failing = [f"{name}: {check.text}" for name, check in self._ready().items() if not check.ok]
        counts = self.store.people.conditions()
        needs = needing(self.store.people.attention_counts()) or "nothing needs attention"
        summary = f"{counted(sum(counts.values()), 'payment')} known; {needs}."
        self.notifier.status(" ".join([summary, *failing]))
        self._watch.update()

    def _on_interrupt(self) -> None:
        self.interrupted = True
        self.runtime.stop.set()

    # --- reload --------------------------------------------------------------------------------

    def _on_hangup(self) -> None:
        self._steps.begin(self._reload)

    def _release_if_left(self) -> None:
        if self._unreleased:
            self._release(reloaded=True)

    def _release(self, *, reloaded: bool) -> int:
        """Decide held payments again after a change of the configuration; retry if the store fails."""
        try:
            released = release_holds(self.config, self.store, self.runtime.now(), reloaded=reloaded)
        except StoreUnavailable as error:
            self._unreleased = True
            self.telemetry.log("error", "release_failed", reason=str(error))
            return 0
        self._unreleased = False
        return released

    async def _reload(self) -> None:
        """Read the configuration again, between two steps. An invalid one changes nothing."""
        self.notifier.reloading()
        crash_point(Point.RELOADING)
        try:
            new = self.reload()
        except ConfigurationError as error:
            self.telemetry.log("error", "reload_refused", problems=list(error.problems))
            self.notifier.ready(
                "The new configuration is wrong; syncd keeps the old one. See the log."
            )
            return
        changed = differences(self.config, new)
        if new.log != self.config.log:
            stderr_log(new.log)
        fixed = [key for key in changed if key in FIXED]
        last = (await self._rebuild(new)).last
        self._engine.last = last
        # Without such a change no payment leaves the attention list, not even briefly.
        lifting = bool(RELEASING_KEYS.intersection(changed))
        released = self._release(reloaded=lifting) if self._leads else 0
        self._schedule()
        if released:
            self._steps.push()
        self.telemetry.log(
            "warning" if fixed else "info",
            "reloaded",
            changed=changed,
            needs_restart=fixed,
            decided_again=released,
        )
        self.notifier.ready("Reloaded.")

    # --- health --------------------------------------------------------------------------------

    def _web(self) -> uvicorn.Config:
        sources = WebSources(
            store=self.store,
            telemetry=self.telemetry,
            live=self._live,
            ready=self._ready,
            budgets=self._budgets,
            config=lambda: self.config,
            health=lambda: self._watch.health,
            now=self.runtime.now,
            role=lambda: None if self._lead is None else str(self._lead.role),
        )
        return server_config(sources)

    def _live(self) -> Check:
        return live_check(max(self._steps.idle_seconds(), self._clock.idle_seconds()))

    def _ready(self) -> dict[str, Check]:
        stale = self.config.stale_seconds_at(self._engine.pace.longest_seconds)
        return ready_checks(self._engine, self._lead, self._started, self._ages, stale)

    def _budgets(self) -> dict[str, int]:
        windows = {side: one.window for side, one in self._engine.rate_limiters.items()}
        return left_in(windows, self.store, self.runtime.now())
