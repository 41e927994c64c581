"""An event loop whose time is simulated: it has no sockets, and waiting costs nothing."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


TURNS_MAX = 2_000_000
"""After so many turns of the loop at one moment, time stands still: something turns in a circle."""


class NothingToDo(Exception):
    """Everything waits for something that nobody will do, or time stands still."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop that jumps to the next timer instead of waiting for it.

    What `time()` says is seconds since the loop was made, and moves only here. There is nothing to
    select from, so real I/O in a task would never come to an end: `NothingToDo` tells.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self._turns = 0
        self._selector = self
        self._clock_resolution = 1e-6  # floats of weeks are no finer than this

    def time(self) -> float:
        """Simulated seconds."""
        return self._seconds

    def select(self, timeout: float | None) -> list[Any]:
        """Jump to the next timer; asyncio calls this where another loop would wait."""
        if timeout is None:
            message = "every task waits, and no timer is set"
            raise NothingToDo(message)
        self._turns = self._turns + 1 if timeout == 0 else 0
        if self._turns > TURNS_MAX:
            message = f"time stands still at {self._seconds} s"
            raise NothingToDo(message)
        self._seconds += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody waits in another thread."""


def run(loop: VirtualLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on the loop to its end, and close the loop."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
