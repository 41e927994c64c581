"""The real process, killed at every named point of the program; then started again.

Every run of the tests kills at some occurrences of each point in each story. CI also kills before every
commit of a poll and push; ``make crashes`` kills at all occurrences. The points are those that the program
names, so a new point is tested automatically.
"""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from syncd.failpoints import VARIABLE, Point
from tests.crash.starter import Starter
from tests.crash.stories import KILLED, STORIES, told

ALL = int(os.environ.get("CRASHES", "0"))
ONLY = {
    Point.DATABASE_MADE: "poll",
    Point.READY: "service",
    Point.RELOADING: "service",
    Point.STOPPING: "service",
}
"""Points that only one story needs to reach, or that only one story reaches."""


WHOLE = {("poll", Point.BEFORE_COMMIT), ("late", Point.AFTER_ANSWER)} if "CI" in os.environ else ()
"""Where CI leaves no occurrence out: most faults of order show there."""


def occurrences(story_name: str, point: Point) -> Iterator[int]:
    """All occurrences; or some, with growing distances."""
    if ALL or (story_name, point) in WHOLE:
        yield from count(1)
    here = 1
    while True:
        yield here
        here = 3 * here + 1


@pytest.mark.parametrize(
    ("story_name", "point"),
    [(name, point) for name in STORIES for point in Point if ONLY.get(point, name) == name],
)
def test_killed_at(story_name: str, point: Point, starting: Starter, tmp_path: Path) -> None:
    """After a kill at any occurrence of any point, each payment is pushed once, and the database is valid."""
    for number in occurrences(story_name, point):
        with told(story_name, starting, tmp_path / str(number)) as story:
            code = story.run(**{VARIABLE: f"{point}:{number}"})
            assert code in (KILLED, *story.ends), story.log()
            story.finish()
        if code != KILLED:
            break
    assert number > 1, f"{story_name} never comes to {point}"
    print(f"{story_name}: {point} came {number - 1} times" if ALL else "")


def test_never_by_accident(starting: Starter, tmp_path: Path) -> None:
    """Without the variable, no point kills the process; with the variable, the process first says so."""
    with told("poll", starting, tmp_path / "plain") as story:
        assert story.run() == 0
        assert VARIABLE not in story.log()
    with told("poll", starting, tmp_path / "armed") as story:
        assert story.run(**{VARIABLE: "before_commit"}) == KILLED
        said = story.log()
        assert said.startswith(f"syncd: {VARIABLE}=before_commit: this process will kill itself")
        assert "connect" in said  # the message shows where the process was
