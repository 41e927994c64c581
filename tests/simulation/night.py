"""Plays fresh seeds until it is stopped, and stores each failure in a file."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType

from tests.freshness import this_commit
from tests.simulation.batch import many
from tests.simulation.shrink import SECONDS_MAX, as_text, shrink
from tests.simulation.story import Story, draw, from_json
from tests.simulation.theatre import play

FAILURES = Path("simulation-failures")
"""The folder for failures, relative to the current folder."""

BATCH = 200
_STORY = "story "
"""The prefix of the line with the shrunk story as JSON."""


def night(jobs: int, folder: Path = FAILURES) -> int:
    """Play fresh seeds until SIGINT or SIGTERM. Returns the exit code: 1 after a failure."""
    signal.signal(signal.SIGTERM, _interrupt)
    first = 10**13 + time.time_ns() // 1_000_000 * 1_000
    played, failed = 0, 0
    print(f"failures are kept in {folder}/", flush=True)
    try:
        while True:
            print(f"seeds from {first}", flush=True)
            for seed, checks in many(first, BATCH, jobs):
                failed += 1
                print(f"kept: {keep(seed, checks, folder)}", flush=True)
            first, played = first + BATCH, played + BATCH
    except KeyboardInterrupt:
        print(f"stopped after {played} seeds; {failed} failed", flush=True)
    return 1 if failed else 0


def keep(seed: int, checks: list[str], folder: Path, *, seconds: float = SECONDS_MAX) -> Path:
    """Write a failure to a file: first as played, then shrunk. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed-{seed}.txt"
    story = draw(seed)
    path.write_text(_text(story, checks), encoding="utf-8")
    shorter = shrink(story, set(checks), seconds=seconds)
    path.write_text(_text(shorter, checks), encoding="utf-8")
    return path


def kept_story(path: Path) -> Story:
    """The shrunk story of a file that `keep` wrote."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return from_json(next(line for line in lines if line.startswith(_STORY))[len(_STORY) :])


def replay(path: Path) -> int:
    """Play the story of a file that `keep` wrote, and print its history."""
    story = kept_story(path)
    result = play(story)
    print(as_text(story, result))
    return 1 if result.complaints else 0


def _text(story: Story, checks: list[str]) -> str:
    return "\n".join(
        [
            f"make simulate SEED={story.seed}  # {', '.join(checks)}",
            f"commit {this_commit() or 'unknown'}, Python {sys.version.split()[0]}",
            _STORY + story.as_json(),
            as_text(story, play(story)),
            "",
        ]
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
