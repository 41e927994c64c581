"""The service's steps in two lanes, which do not wait for each other: Stripe reads, Halo writes.

A lane runs one step at a time. So a long push does not delay polls; payments found by polls in the
meantime are pushed after the push has ended. The lanes share only the store, whose transactions
separate them as they separate two processes. The daemon decides when steps start and when the
service stops.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from syncd.core.errors import Side
from syncd.sync.build import Parts

Step = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Lane:
    """Steps that run one at a time.

    Attributes:
        monotonic: seconds of a clock that is never set.
        progress_at: when the running step last made progress; None if no step runs.
    """

    monotonic: Callable[[], float]
    progress_at: float | None = field(init=False, default=None)
    _lock: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    @asynccontextmanager
    async def kept_free(self) -> AsyncIterator[None]:
        """Wait for the running step to end, and let no other step start."""
        async with self._lock:
            yield

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the lane, then run a step whose progress is watched."""
        async with self._lock:
            before = _lane.set(self)
            self.progress_at = self.monotonic()
            try:
                yield
            finally:
                self.progress_at = None
                _lane.reset(before)

    def idle_seconds(self) -> float:
        """How many seconds ago the running step last made progress; 0 if no step runs."""
        return 0.0 if self.progress_at is None else self.monotonic() - self.progress_at


_lane: ContextVar[Lane | None] = ContextVar("_lane", default=None)


def note_progress() -> None:
    """Record progress of the calling step; a hanging step of the other lane stays visible."""
    lane = _lane.get()
    if lane is not None and lane.progress_at is not None:
        lane.progress_at = lane.monotonic()


@dataclass(slots=True)
class Steps:
    """Polls, sweeps and pushes as tasks, each kind once at a time.

    Attributes:
        parts: the engine; it can be replaced within `exclusive`.
        guarded: runs a step, and handles its exceptions.
        before_push: called before each push, in the same lane.
        after: called after each step.
        started: when the service started, Unix seconds.
        monotonic: seconds of a clock that is never set.
        running: all tasks that have not ended.
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
    _kinds: dict[str, asyncio.Task[None]] = field(init=False, default_factory=dict)
    _push_again: bool = field(init=False, default=False)
    _sweeping: bool = field(init=False, default=False)
    _poll_wanted: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.stripe, self.halo = Lane(self.monotonic), Lane(self.monotonic)

    def begin(self, step: Step, kind: str = "") -> bool:
        """Start a step as a task. Returns False if a step of the same kind already runs."""
        if kind in self._kinds:
            return False
        task = asyncio.ensure_future(self._run(step, kind))
        if kind:
            self._kinds[kind] = task
            task.add_done_callback(lambda done: self._forget(kind, done))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return True

    def _forget(self, kind: str, task: "asyncio.Task[None]") -> None:
        """Let the next step of a kind start: a task that is cancelled early never runs."""
        if self._kinds.get(kind) is task:
            del self._kinds[kind]

    async def _run(self, step: Step, kind: str) -> None:
        try:
            await self.guarded(step)
        finally:
            self._kinds.pop(kind, None)  # at once: a new step of this kind may start now

    def cancel(self) -> None:
        """Cancel every poll, sweep and push: another service may have taken over."""
        for task in list(self._kinds.values()):
            task.cancel()

    async def drain(self, seconds: float) -> None:
        """Let running steps finish within this time, then cancel them."""
        if not self.running:
            return
        _, late = await asyncio.wait(set(self.running), timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)

    def poll(self) -> None:
        """Start a poll if one is due; a push follows. In a sweep, the poll runs between two pages."""
        if not self.parts.engine.poll_is_due():
            return
        if self._sweeping:
            self._poll_wanted = True
        else:
            self.begin(self._poll, "poll")

    def sweep(self) -> None:
        """Start a sweep if one is due; a push follows."""
        self.begin(self._sweep, "sweep")

    def count_undelivered(self) -> None:
        """Start the count of undelivered webhook events, if it is due."""
        self.begin(self._count_undelivered, "deliveries")

    async def _count_undelivered(self) -> None:
        async with self.stripe.turn():
            await self.parts.engine.count_undelivered()

    def push(self) -> bool:
        """Start a push. Returns False if a push already runs."""
        return self.begin(self._push, "push")

    def idle_seconds(self) -> float:
        """How many seconds ago the slower of the two lanes' steps last made progress."""
        return max(self.stripe.idle_seconds(), self.halo.idle_seconds())

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Keep both lanes free, between two steps, to replace the engine."""
        # In this order polls continue while a long push ends.
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

    async def _sweep_stripe(self) -> bool:
        """Sweep Stripe's last days. Polls do not wait for the end."""
        between = self.parts.engine.sweeper.rereads.between

        async def poll() -> None:
            if not self._poll_wanted:
                return
            self._poll_wanted, between.run = False, None  # this poll reads payments as well
            try:
                await self.parts.engine.poll()
            finally:
                between.run = poll
            self._push_what_was_found()
            self.after()

        self._sweeping, self._poll_wanted, between.run = True, False, poll
        try:
            return await self.parts.engine.sweep_stripe()
        finally:
            self._sweeping, between.run = False, None

    async def _sweep(self) -> None:
        if not self.parts.engine.sweep_is_due(self.started):
            return
        whole = self.parts.engine.half_is_done(Side.STRIPE)
        if not whole:
            async with self.stripe.turn():
                whole = await self._sweep_stripe()
            if self._poll_wanted:
                self.poll()
        if whole or not self.parts.engine.half_is_done(Side.HALO):
            async with self.halo.turn():
                await self.parts.engine.sweep_halo(whole=whole)
        self._push_what_was_found()
        self.after()
