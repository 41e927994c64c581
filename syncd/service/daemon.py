"""The service: the scheduler, signals, and systemd.

A signal may arrive at any time, also before the event loop runs and while syncd writes to the store.
So a signal only sets an event, which the steps check. syncd finishes and records the request that is
under way. After STOP_SECONDS syncd cancels the step; the next start continues with what is still due.
"""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import uvicorn
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from syncd.config.model import Config, ConfigurationError, address, differences
from syncd.core.errors import Side, Stopping, StoreUnavailable, StoreUnusable
from syncd.core.holds import LiftedBy
from syncd.failpoints import Point, crash_point
from syncd.monitor.health import Check, judge_step
from syncd.monitor.status import stopped_check
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.monitor.watcher import Watch
from syncd.service.clock import Ages, ClockWatch
from syncd.service.instance import Instance
from syncd.service.lanes import Step, Steps, note_progress
from syncd.service.systemd import Notifier
from syncd.service.web.server import WebSources, application
from syncd.store.store import Store
from syncd.sync.build import Runtime, assemble
from syncd.sync.engine import Engine
from syncd.sync.policy import release_holds
from syncd.text.timestamps import utc
from syncd.text.wording import counted, needing

STOP_SECONDS = 8.0
"""How long a running step may continue after SIGTERM; the service ends within ten seconds."""

TICK_SECONDS = 30.0
"""How often to push what has become due, and to feed the watchdog."""

SWEEP_LOOK_SECONDS = 900
"""How often, at least, to check whether a sweep is due: a failed sweep must not wait for a day."""

_LIFTING = frozenset(str(key) for key in LiftedBy)
"""The keys of the configuration whose change releases holds, among other reasons for that."""

DELIVERIES_LOOK_SECONDS, DELIVERIES_FIRST_SECONDS = 3_600, 60
"""How often to look whether the daily count of undelivered events is due; first, this long after
the start, when the first poll has usually ended."""

CLOCK_LOOK_SECONDS = 5.0
"""How often to check whether the host's clock was set back."""

HANG_SECONDS = 240.0
"""After so long without progress a step hangs; syncd then lets systemd's watchdog restart the service."""

CALLERS_MAX = 100
"""How many HTTP connections are served at once, so that they cannot use up the open files."""

FIXED = ("state.url", "web.listen", "database_password")
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
    _unreleased: bool = field(init=False, default=False)
    _ages: Ages = field(init=False)

    def __post_init__(self) -> None:
        self._ages = Ages(self.monotonic)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigurationError: syncd cannot listen on web.listen.
            StoreUnusable: the database is damaged.
        """
        self._started = self.runtime.now()
        self._ages.seconds("start", self._started)
        self.runtime.working = note_progress
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.runtime.stop.set)
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self._steps = Steps(
            assemble(self.config, self.store, self.telemetry, self.runtime, "the daemon"),
            self._guarded, self._release_if_left, self._say, self._started, self.monotonic,
        )  # fmt: skip
        release_holds(self.config, self.store, self.runtime.now())
        self._watch = Watch(
            self.store, self.telemetry, lambda: self.config, self._ready, self._budgets,
            lambda: self._engine.last.get("poll"), self.runtime.now, self.runtime.transport,
        )  # fmt: skip
        listener = _listen(self.config.web.listen)
        self._instance = Instance(
            self.store, self.config.state.url, self.telemetry, self.runtime.now, self.runtime.sleep
        )
        try:
            await self._instance.claim()
        except (ConfigurationError, Stopping) as error:
            listener.close()
            await self._steps.parts.close()
            if isinstance(error, Stopping):
                return
            raise
        server = _Server(self._web())
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        self._scheduler = AsyncIOScheduler()
        self._schedule()
        self._scheduler.start()
        host, port = listener.getsockname()[:2]
        self.telemetry.log(
            "info", "started", listen=f"{host}:{port}", interval_seconds=self.config.poll.interval
        )
        self.notifier.ready("Started; the first poll is under way.")
        crash_point(Point.READY)
        clock = asyncio.create_task(self._watch_clock())
        stopped = asyncio.create_task(self.runtime.stop.wait())
        # If the web server ends, the whole service ends: it must not run without health checks.
        await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        self.runtime.stop.set()
        self.notifier.stopping()
        self.telemetry.log("info", "stopping")
        crash_point(Point.STOPPING)
        clock.cancel()
        self._scheduler.shutdown(wait=False)
        await asyncio.gather(self._drain(), self._watch.close())
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(serving, timeout=1.5)
        await self._steps.parts.close()
        with contextlib.suppress(StoreUnavailable, StoreUnusable):
            self._instance.release()
        self.telemetry.log("info", "stopped")
        if self._broken is not None:
            raise self._broken

    @property
    def _engine(self) -> Engine:
        return self._steps.parts.engine

    async def _drain(self) -> None:
        """Let running steps finish within STOP_SECONDS, then cancel them."""
        if not self._steps.running:
            return
        _, late = await asyncio.wait(set(self._steps.running), timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)

    # --- the schedule --------------------------------------------------------------------------

    def _schedule(self) -> None:
        poll, sweep = self.config.poll.interval, self.config.poll.sweep
        # By default APScheduler skips a job that is more than a second late.
        options = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        now = self.runtime.now()
        self._scheduler.add_job(
            self._on_time, IntervalTrigger(seconds=poll), [self._steps.poll], id="poll",
            next_run_time=utc(now), replace_existing=True, **options,
        )  # fmt: skip
        self._scheduler.add_job(
            self._on_time, IntervalTrigger(seconds=max(1, min(sweep // 4, SWEEP_LOOK_SECONDS))),
            [self._steps.sweep], id="sweep", next_run_time=utc(now + 1), replace_existing=True,
            **options,
        )  # fmt: skip
        self._scheduler.add_job(
            self._on_time, IntervalTrigger(seconds=DELIVERIES_LOOK_SECONDS),
            [self._steps.count_undelivered], id="deliveries", replace_existing=True,
            next_run_time=utc(now + DELIVERIES_FIRST_SECONDS), **options,
        )  # fmt: skip
        self._scheduler.add_job(
            self._on_time, IntervalTrigger(seconds=min(TICK_SECONDS, max(poll, 1))), [self._tick],
            id="tick", replace_existing=True, **options,
        )  # fmt: skip

    async def _watch_clock(self) -> None:
        """Plan all steps again after the host's clock was set back: the scheduler goes by that clock."""
        clock = ClockWatch(self.runtime.now, self.monotonic)
        while True:
            await asyncio.sleep(CLOCK_LOOK_SECONDS)
            back = clock.seconds_back()
            if back > 0:
                self.telemetry.log("warning", "clock_set_back", seconds=round(back))
                self._schedule()

    async def _on_time(self, begin: Callable[[], None]) -> None:
        """Only start the step, so that the scheduler never finds its last job still running."""
        begin()

    async def _guarded(self, step: Step) -> None:
        try:
            if not self.runtime.stop.is_set():
                await step()
        except Stopping:
            return
        except StoreUnusable as error:
            # Without its database syncd could only guess: end the service, so that a person looks.
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
        self._steps.begin(self._renew)
        if not self._steps.push():
            self._steps.begin(self._look)
        self._feed()

    async def _look(self) -> None:
        self._watch.update()

    async def _renew(self) -> None:
        self._instance.renew()

    def _feed(self) -> None:
        """Feed the watchdog, unless a step hangs."""
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
        """Read the configuration again, between two steps. A wrong one changes nothing."""
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
        async with self._steps.exclusive():
            old = self._steps.parts
            self._steps.parts = assemble(
                new, self.store, self.telemetry, self.runtime, "the daemon"
            )
            self._engine.last = old.engine.last
            self.config = new
            await old.close()
            # Without such a change no payment leaves the attention list, not even for a moment.
            released = self._release(reloaded=bool(_LIFTING.intersection(changed)))
        self._schedule()
        if released:
            self._steps.push()
        self.telemetry.log(
            "warning" if fixed else "info", "reloaded", changed=changed, needs_restart=fixed,
            decided_again=released,
        )  # fmt: skip
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
        )
        return uvicorn.Config(
            application(sources), log_config=None, access_log=False, lifespan="off",
            timeout_graceful_shutdown=1, server_header=False, limit_concurrency=CALLERS_MAX,
        )  # fmt: skip

    def _live(self) -> Check:
        idle = self._steps.idle_seconds()
        hangs = idle >= HANG_SECONDS
        return Check(not hangs, f"a step has hung for {idle:.0f} s" if hangs else "no step hangs")

    def _ready(self) -> dict[str, Check]:
        engine = self._engine
        stale = self.config.stale_seconds
        return {
            "stripe": self._worked("poll", engine.links[Side.STRIPE].reason, stale),
            "halo": self._worked("push", engine.links[Side.HALO].reason, stale),
            **stopped_check(engine.pusher.tenant.known.values()),
            "store": Check(
                engine.store_trouble is None,
                engine.store_trouble or "works",
                reason=engine.store_trouble,
            ),
        }

    def _worked(self, step: str, reason: str | None, stale_seconds: float) -> Check:
        last = self._engine.last.get(step)
        since = self._started if last is None else last
        now = since + self._ages.seconds("start" if last is None else step, since)
        return judge_step(step, last, reason, now, stale_seconds, started=self._started)

    def _budgets(self) -> dict[str, int]:
        now = self.runtime.now()
        return {
            str(side): limiter.window.left(self.store.coordination.counts(side), now)
            for side, limiter in self._engine.rate_limiters.items()
        }


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers; the daemon handles signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def _listen(listen: str) -> socket.socket:
    """Bind first, so that a port in use is a clear error."""
    host, port = address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # from here on connections wait instead of being refused
    except OSError as error:
        listener.close()
        message = (
            f"web.listen: cannot listen on {listen}: {error.strerror or error}. Stop the program that "
            "uses the port, or set another address"
        )
        raise ConfigurationError([message]) from error
    listener.setblocking(False)
    return listener
