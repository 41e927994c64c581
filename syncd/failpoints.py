"""Points at which tests end the process, like a power cut or ``kill -9``; for tests only.

Inactive unless the environment contains ``SYNCD_TESTS_ONLY_CRASH_AT=POINT[:N]``: then the process
kills itself when it reaches that point for the N-th time, after printing the point on stderr. Only
tests set this variable; a service with the variable reports it before it does anything else.
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
    """The points at which the process can end. tests/crash tests every point automatically."""

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
    """Read the variable; without it, no point ever ends the process."""
    asked = environment.get(VARIABLE)
    if asked is None:
        return
    name, _, number = asked.partition(":")
    _armed.point, _armed.left = Point(name), int(number or 1)
    sys.stderr.write(f"syncd: {VARIABLE}={asked}: this process will kill itself; for tests only\n")


def crash_point(point: Point) -> None:
    """End the process here, if a test asked for this point."""
    if _armed.point is not point:
        return
    _armed.left -= 1
    if _armed.left == 0:
        faulthandler.dump_traceback(sys.stderr, all_threads=False)
        os.kill(os.getpid(), signal.SIGKILL)
