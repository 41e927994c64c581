"""An event loop with simulated time: it has no sockets, and waiting takes no real time."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


TURNS_MAX = 2_000_000
"""After this many turns of the loop at one moment, something runs in an endless loop."""


class NothingToDo(Exception):
    """All tasks wait for something that will never happen, or the simulated time does not advance."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop that jumps to the next timer instead of waiting for it.

    `time()` returns the seconds since the loop was made, and only this loop advances it. The loop has no
    sockets, so real I/O in a task would never end: `NothingToDo` reports it.
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
        """The loop has no events."""

    def _write_to_self(self) -> None:
        """No other thread needs to be woken."""


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
