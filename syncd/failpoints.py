"""Places where a test may end the process, as a power cut or ``kill -9`` would: for tests only.

Off unless ``SYNCD_TESTS_ONLY_CRASH_AT=POINT[:N]`` stands in the environment: then the process kills
itself when it comes to that point for the N-th time, after showing on stderr where it was. Nothing
but the tests sets it; a service that is armed says so before it does anything.
"""

import faulthandler
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

VARIABLE = "SYNCD_TESTS_ONLY_CRASH_AT"


class Point(StrEnum):
    """Where it may end. A point added here is tested by itself: see tests/crash."""

    DATABASE_MADE = "database_made"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    BEFORE_REQUEST = "before_request"
    AFTER_ANSWER = "after_answer"
    READY = "ready"
    RELOADING = "reloading"
    STOPPING = "stopping"


@dataclass(slots=True)
class _Armed:
    point: Point | None = None
    left: int = 0


_armed = _Armed()


def arm(environment: Mapping[str, str]) -> None:
    """Look whether a test asks for an end; without the variable, nothing ever happens here."""
    asked = environment.get(VARIABLE)
    if asked is None:
        return
    name, _, number = asked.partition(":")
    _armed.point, _armed.left = Point(name), int(number or 1)
    sys.stderr.write(f"syncd: {VARIABLE}={asked}: this process will kill itself; for tests only\n")


def crash_point(point: Point) -> None:
    """End here, if this is the time and the place that a test asked for."""
    if _armed.point is not point:
        return
    _armed.left -= 1
    if _armed.left == 0:
        faulthandler.dump_traceback(sys.stderr, all_threads=False)
        os.kill(os.getpid(), signal.SIGKILL)
