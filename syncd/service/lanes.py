"""The service's steps, in two lanes: one reads Stripe, one talks with Halo; neither waits for the other.

In a lane there is one step at a time. A push that takes long, because much is due or Halo fails, so
holds up no poll; what polls find meanwhile is pushed as soon as it has ended. The lanes meet only in
the store, where nothing comes between the statements of a transaction: just as two processes do.
When steps begin, and when they end for good, is the daemon's business.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from syncd.sync.build import Parts

Step = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Lane:
    """Steps that wait for each other.

    Attributes:
        monotonic: seconds that never jump.
        progress_at: when the step under way last got on; None where there is none.
    """

    monotonic: Callable[[], float]
    progress_at: float | None = field(init=False, default=None)
    _lock: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    @asynccontextmanager
    async def kept_free(self) -> AsyncIterator[None]:
        """Wait for the step under way to end, and let no other begin."""
        async with self._lock:
            yield

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, and take a step, of which signs of life are expected."""
        async with self._lock:
            before = _lane.set(self)
            self.progress_at = self.monotonic()
            try:
                yield
            finally:
                self.progress_at = None
                _lane.reset(before)

    def idle_seconds(self) -> float:
        """For how long the step under way hasn't got on."""
        return 0.0 if self.progress_at is None else self.monotonic() - self.progress_at


_lane: ContextVar[Lane | None] = ContextVar("_lane", default=None)


def note_progress() -> None:
    """A sign of life of the step that calls this: one that hangs isn't hidden by one that works."""
    lane = _lane.get()
    if lane is not None and lane.progress_at is not None:
        lane.progress_at = lane.monotonic()


@dataclass(slots=True)
class Steps:
    """Polls, sweeps and pushes as tasks, each kind once at a time.

    Attributes:
        parts: the engine, until `exclusive` puts another one in its place.
        guarded: runs a step, and deals with what it raises.
        before_push: what is to be done first in the lane of pushes.
        after: told after each step.
        started: since when we run, Unix seconds.
        monotonic: seconds that never jump.
        running: all tasks that haven't ended.
    """

    parts: Parts
    guarded: Callable[[Step], Awaitable[None]]
    before_push: Callable[[], object]
    after: Callable[[], object]
    started: float
    monotonic: Callable[[], float]
    stripe: Lane = field(init=False)
    halo: Lane = field(init=False)
    running: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _kinds: set[str] = field(init=False, default_factory=set)
    _push_again: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.stripe, self.halo = Lane(self.monotonic), Lane(self.monotonic)

    def begin(self, step: Step, kind: str = "") -> bool:
        """Begin a step as a task of its own; returns whether. One of a kind that runs is let be."""
        if kind in self._kinds:
            return False
        if kind:
            self._kinds.add(kind)
        task = asyncio.ensure_future(self._run(step, kind))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return True

    async def _run(self, step: Step, kind: str) -> None:
        try:
            await self.guarded(step)
        finally:
            self._kinds.discard(kind)  # at once: what comes now would rely on a step that has ended

    def poll(self) -> None:
        """Begin a poll, which a push follows."""
        self.begin(self._poll, "poll")

    def sweep(self) -> None:
        """Begin a sweep where one is due; a push follows it."""
        self.begin(self._sweep, "sweep")

    def push(self) -> bool:
        """Begin a push, if none is under way; returns whether."""
        return self.begin(self._push, "push")

    def idle_seconds(self) -> float:
        """For how long a step under way hasn't got on: the one of which that is longest."""
        return max(self.stripe.idle_seconds(), self.halo.idle_seconds())

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Have both lanes to oneself, between two steps: for a change of the parts."""
        # In this order polls go on while the end of a long push is waited for.
        async with self.halo.kept_free(), self.stripe.turn():
            yield

    async def _poll(self) -> None:
        async with self.stripe.turn():
            await self.parts.engine.poll()
        self._push_what_was_found()
        self.after()

    def _push_what_was_found(self) -> None:
        self._push_again = not self.push()

    async def _push(self) -> None:
        again = True
        while again:
            self._push_again = False
            async with self.halo.turn():
                self.before_push()
                await self.parts.engine.push()
            self.after()
            again = self._push_again

    async def _sweep(self) -> None:
        if not self.parts.engine.sweep_is_due(self.started):
            return
        async with self.stripe.turn():
            whole = await self.parts.engine.sweep_stripe()
        if whole:
            async with self.halo.turn():
                await self.parts.engine.sweep_halo()
        self._push_what_was_found()
        self.after()
