"""The real process, killed at every named point of the program; then started again.

In every run of the tests, at a spread of the occurrences of each point in each story; in CI, before
every single commit of a poll and push besides; at all of them with ``make crashes``. The points are
those that the program names: a new one is tested by itself.
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
"""Points to which one story comes as well as the others, or alone."""


WHOLE = {("poll", Point.BEFORE_COMMIT), ("late", Point.AFTER_ANSWER)} if "CI" in os.environ else ()
"""Where CI leaves no occurrence out: most faults of order show there."""


def occurrences(story_name: str, point: Point) -> Iterator[int]:
    """All of them; or those that lie ever farther apart."""
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
    """Killed at any occurrence of any point: nothing lost, nothing doubled, the file is sound."""
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
    """Without the variable no point ends anything; with it, the process says so first."""
    with told("poll", starting, tmp_path / "plain") as story:
        assert story.run() == 0
        assert VARIABLE not in story.log()
    with told("poll", starting, tmp_path / "armed") as story:
        assert story.run(**{VARIABLE: "before_commit"}) == KILLED
        said = story.log()
        assert said.startswith(f"syncd: {VARIABLE}=before_commit: this process will kill itself")
        assert "connect" in said  # it shows where it was
