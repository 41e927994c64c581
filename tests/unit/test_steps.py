"""The lanes of the service's steps: which step waits for which, and how a hanging step is detected."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from syncd.service.lanes import Lane, Step, Steps, note_progress
from syncd.sync.pull.rereads import Between


@dataclass
class Engine:
    """Records its polls and pushes; a push waits until the test lets it end."""

    ran: list[str] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def poll_is_due(self) -> bool:
        return True

    async def poll(self) -> None:
        self.ran.append("poll")

    async def push(self) -> None:
        self.ran.append("push begins")
        await self.may_end.wait()
        self.ran.append("push ends")


async def _guarded(step: Step) -> None:
    await step()


def _steps(engine: Engine, before_push: Callable[[], object] = lambda: None) -> Steps:
    parts: Any = SimpleNamespace(engine=engine)
    return Steps(parts, _guarded, before_push, lambda: None, 0.0, lambda: 0.0)


async def _turns() -> None:
    """Let every task run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_polls_find_during_a_push_is_pushed_once_it_has_ended() -> None:
    """Polls do not wait for a running push; however many polls run, one push follows it."""

    async def play() -> list[str]:
        engine = Engine()
        steps = _steps(engine, lambda: engine.ran.append("before"))
        for _ in range(3):
            steps.poll()
            await _turns()
        assert not steps.push()  # one push is running, so the tick starts no other
        engine.may_end.set()
        await _turns()
        assert steps.running == set()
        return engine.ran

    push = ["before", "push begins"]
    assert asyncio.run(play()) == ["poll", *push, "poll", "poll", "push ends", *push, "push ends"]


def test_a_poll_that_ends_with_a_push_is_not_lost() -> None:
    """At whatever moment of a push a poll ends, another push begins after the poll."""

    async def play(moment: int) -> list[str]:
        engine = Engine()
        engine.may_end.set()
        steps = _steps(engine)
        steps.push()
        for _ in range(moment):
            await asyncio.sleep(0)
        steps.poll()
        await _turns()
        return engine.ran

    for moment in range(10):
        ran = asyncio.run(play(moment))
        assert "push begins" in ran[ran.index("poll") :], moment


def test_alone() -> None:
    """exclusive() waits for the running push; polls continue until then and wait while it is held."""

    async def play() -> list[str]:
        engine = Engine()
        steps = _steps(engine)
        steps.push()
        await _turns()

        async def change() -> None:
            async with steps.exclusive():
                engine.ran.append("alone")
                steps.poll()
                await _turns()
                engine.ran.append("not alone")

        steps.begin(change)
        steps.poll()
        await _turns()
        engine.may_end.set()
        await _turns()
        await _turns()
        return engine.ran

    assert asyncio.run(play())[:6] == [
        "push begins",
        "poll",
        "push ends",
        "alone",
        "not alone",
        "poll",
    ]


def test_a_step_that_hangs_is_seen() -> None:
    """Progress counts only for its own lane: a working poll does not hide a hanging push."""
    clock = [0.0]
    stripe, halo = Lane(lambda: clock[0]), Lane(lambda: clock[0])

    async def hang() -> None:
        async with halo.turn():
            await asyncio.sleep(3_600)

    async def work() -> None:
        async with stripe.turn():
            clock[0] += 100
            note_progress()
            assert (stripe.idle_seconds(), halo.idle_seconds()) == (0, clock[0])

    async def play() -> None:
        hanging = asyncio.ensure_future(hang())
        await asyncio.sleep(0)
        for _ in range(3):
            await work()
        assert (stripe.idle_seconds(), halo.idle_seconds()) == (0, 300)
        hanging.cancel()
        await asyncio.wait({hanging})
        assert halo.idle_seconds() == 0  # no step is running, so none hangs

    note_progress()  # no effect outside of a lane
    asyncio.run(play())


def test_polls_run_between_two_pages_of_a_sweep() -> None:
    """A long sweep delays no poll: a poll runs after the current page, and a push follows it."""

    async def play() -> list[str]:
        engine = Engine()
        engine.may_end.set()
        steps = _steps(engine)
        pages = [asyncio.Event() for _ in range(3)]
        between = Between()

        async def sweep_stripe() -> bool:
            for number, page in enumerate(pages):
                await page.wait()
                engine.ran.append(f"page {number}")
                await between()
            return True

        async def sweep_halo(*, whole: bool) -> None:
            engine.ran.append(f"Halo's rows {whole}")

        rooms: Any = engine
        rooms.sweeper = SimpleNamespace(rereads=SimpleNamespace(between=between))
        rooms.sweep_stripe, rooms.sweep_halo = sweep_stripe, sweep_halo
        rooms.sweep_is_due, rooms.half_is_done = lambda _started: True, lambda _side: False
        steps.sweep()
        await _turns()
        pages[0].set()
        await _turns()
        steps.poll()
        steps.poll()
        await _turns()
        pages[1].set()
        await _turns()
        engine.ran.append("waits")
        steps.poll()
        pages[2].set()
        await _turns()
        steps.poll()
        await _turns()
        return engine.ran

    push = ["push begins", "push ends"]
    ran = asyncio.run(play())
    assert ran[: ran.index("waits")] == ["page 0", "page 1", "poll", *push]
    after = ran[ran.index("waits") + 1 :]
    assert after[:2] == ["page 2", "poll"]
    assert after.count("poll") == 2
    assert "Halo's rows True" in after
