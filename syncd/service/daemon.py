"""The service: a scheduler, signals, and systemd. The only room that knows them.

Signals are hard because they come at any time, also before the loop turns and while something is
being written down. Here a signal only sets an event; everything looks at it between two steps. A
request under way is finished and recorded; what hasn't come to its end after STOP_SECONDS is cut
off, and found again at the next start, because what is due stands in the store.
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
from syncd.failpoints import Point, crash_point
from syncd.monitor.health import Check, judge_step
from syncd.monitor.status import stopped_check
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.monitor.watcher import Watch
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
"""How long a step under way may go on after SIGTERM; ten seconds are promised."""

TICK_SECONDS = 30.0
"""How often to look for what has become due, and to feed the watchdog."""

SWEEP_LOOK_SECONDS = 900
"""How often, at least, to look whether a sweep is due: one that failed isn't left for a day."""

HANG_SECONDS = 240.0
"""A step without work, waiting or end for so long hangs, and the watchdog is left to bite."""

CALLERS_MAX = 100
"""More callers of the page at once are turned away: they must not use up the open files."""

FIXED = ("state.url", "web.listen")
"""What can't be changed while it runs."""


@dataclass(slots=True)
class Daemon:
    """The service around one engine.

    Attributes:
        reload: reads the configuration again.
        monotonic: seconds that never jump.
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
    _unreleased: bool = field(init=False, default=False)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigurationError: the address to listen on can't be had.
            StoreUnusable: the database turned out damaged.
        """
        self._started = self.runtime.now()
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
        stopped = asyncio.create_task(self.runtime.stop.wait())
        # A helper that dies takes the service with it: half a service looks like a whole one.
        await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        self.runtime.stop.set()
        self.notifier.stopping()
        self.telemetry.log("info", "stopping")
        crash_point(Point.STOPPING)
        self._scheduler.shutdown(wait=False)
        await asyncio.gather(self._drain(), self._watch.close())
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(serving, timeout=1.5)
        await self._steps.parts.close()
        self.telemetry.log("info", "stopped")
        if self._broken is not None:
            raise self._broken

    @property
    def _engine(self) -> Engine:
        return self._steps.parts.engine

    async def _drain(self) -> None:
        """Let steps under way finish, for STOP_SECONDS; then cut them off."""
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
        # APScheduler skips what is more than a second late unless told not to.
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
            self._on_time, IntervalTrigger(seconds=min(TICK_SECONDS, max(poll, 1))), [self._tick],
            id="tick", replace_existing=True, **options,
        )  # fmt: skip

    async def _on_time(self, begin: Callable[[], None]) -> None:
        """Only begin what is to be done: the scheduler never finds its last job still running."""
        begin()

    async def _guarded(self, step: Step) -> None:
        try:
            if not self.runtime.stop.is_set():
                await step()
        except Stopping:
            return
        except StoreUnusable as error:
            # Without its memory it could only guess: end, and let a person look.
            self._broken = error
            self.runtime.stop.set()
        except StoreUnavailable as error:
            self.telemetry.log("error", "store_busy", reason=str(error))
        except Exception as error:  # noqa: BLE001  # a fault of ours must not end the service quietly
            self.telemetry.log(
                "error", "fault", text=f"{type(error).__name__}: {error}", exc_info=True
            )

    def _tick(self) -> None:
        """Push what has become due between two polls; look after it all while a push takes long."""
        if not self._steps.push():
            self._steps.begin(self._look)
        self._feed()

    async def _look(self) -> None:
        self._watch.update()

    def _feed(self) -> None:
        """Feed the watchdog, unless a step hangs: then it is left to bite."""
        if self._steps.idle_seconds() < HANG_SECONDS:
            self.notifier.alive()

    def _say(self) -> None:
        self._feed()
        failing = [f"{name}: {check.text}" for name, check in self._ready().items() if not check.ok]
        counts = self.store.people.conditions()
        needs = needing(self.store.people.attention_counts()) or "nothing needs attention"
        said = f"{counted(sum(counts.values()), 'payment')} known; {needs}."
        self.notifier.status(" ".join([said, *failing]))
        self._watch.update()

    def _on_interrupt(self) -> None:
        self.interrupted = True
        self.runtime.stop.set()

    # --- reload --------------------------------------------------------------------------------

    def _on_hangup(self) -> None:
        self._steps.begin(self._reload)

    def _release_if_left(self) -> None:
        if self._unreleased:
            self._release()

    def _release(self) -> int:
        """Decide again what was held under another configuration; a failing disk only delays it."""
        try:
            released = release_holds(self.config, self.store, self.runtime.now(), reloaded=True)
        except StoreUnavailable as error:
            self._unreleased = True
            self.telemetry.log("error", "release_failed", reason=str(error))
            return 0
        self._unreleased = False
        return released

    async def _reload(self) -> None:
        """Read the configuration again, between two steps. A bad one changes nothing."""
        self.notifier.reloading()
        crash_point(Point.RELOADING)
        try:
            new = self.reload()
        except ConfigurationError as error:
            self.telemetry.log("error", "reload_refused", problems=list(error.problems))
            self.notifier.ready(
                "The new configuration was refused; the old one is kept. See the log."
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
            released = self._release()
        self._schedule()
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
        return Check(not hangs, f"no step for {idle:.0f} s" if hangs else "the loop turns")

    def _ready(self) -> dict[str, Check]:
        engine = self._engine
        stale = self.config.stale_seconds
        return {
            "stripe": self._worked("poll", engine.links[Side.STRIPE].reason, stale),
            "halo": self._worked("push", engine.links[Side.HALO].reason, stale),
            **stopped_check(engine.pusher.tenant.known.values()),
            "store": Check(
                engine.store_trouble is None,
                engine.store_trouble or "it works",
                reason=engine.store_trouble,
            ),
        }

    def _worked(self, step: str, reason: str | None, stale_seconds: float) -> Check:
        return judge_step(
            step, self._engine.last.get(step), reason, self.runtime.now(), stale_seconds,
            started=self._started,
        )  # fmt: skip

    def _budgets(self) -> dict[str, int]:
        now = self.runtime.now()
        return {
            str(side): limiter.window.left(self.store.coordination.counts(side), now)
            for side, limiter in self._engine.rate_limiters.items()
        }


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: ours decide when to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def _listen(listen: str) -> socket.socket:
    """Bind before anything else, so that a taken port is said clearly."""
    host, port = address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # from here on callers wait instead of being refused
    except OSError as error:
        listener.close()
        message = f"web.listen: {listen} can't be listened on: {error.strerror or error}"
        raise ConfigurationError([message]) from error
    listener.setblocking(False)
    return listener
