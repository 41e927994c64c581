"""The real process, killed during the first write to a tenant; then started again.

Whatever Halo does with partial rows, no row is damaged, and every payment is pushed at the end. CI and
``make crashes`` kill at every request and commit, other runs at every second one. For new rows the step is
three, and one with ``make crashes``.
"""

import os
import signal
from itertools import count
from pathlib import Path

import pytest

from syncd.failpoints import VARIABLE, Point
from syncd.sandbox import Fault, Request
from tests.crash.starter import Starter
from tests.crash.stories import KILLED, PROOFS, told
from tests.test_process import until

STEP = 1 if os.environ.get("CRASHES") or "CI" in os.environ else 2


@pytest.mark.parametrize("name", PROOFS)
@pytest.mark.parametrize(
    "point", [Point.BEFORE_REQUEST, Point.AFTER_ANSWER, Point.BEFORE_COMMIT, Point.AFTER_COMMIT]
)
def test_killed_during_the_proof(
    name: str, point: Point, starting: Starter, tmp_path: Path
) -> None:
    """After a kill at a request or commit of the proof, no row is damaged, and each payment is pushed."""
    began = False
    step = STEP if name.startswith("proof") or "CRASHES" in os.environ else 3
    for number in count(1, step):
        with told(name, starting, tmp_path / str(number)) as story:
            code = story.run(**{VARIABLE: f"{point}:{number}"})
            assert code in (KILLED, *story.ends), story.log()
            if code != KILLED:
                break
            asked = [request.path for request in story.rig.box.halo.requests]
            if any(path.startswith("/api/InvoicePayment") for path in asked):
                began = True
                story.finish()
    assert began, f"{name} never comes to {point} in a proof"


def test_killed_twice_while_harm_is_undone(starting: Starter, tmp_path: Path) -> None:
    """A kill before syncd sends the emptied row whole, and again after the restart: the row is restored."""
    with told("proof empty", starting, tmp_path / "story") as story:
        halo = story.rig.box.halo
        number = next(
            number
            for number in count(1)
            if _harmed_at(starting, tmp_path / f"look {number}", number)
        )
        story.run(**{VARIABLE: f"{Point.BEFORE_REQUEST}:{number}"})
        assert len(halo.writes) == 1
        posts = len(story.rig.posts())
        for again in count(1):
            code = story.run(**{VARIABLE: f"{Point.BEFORE_REQUEST}:{again}"})
            if code != KILLED or len(story.rig.posts()) > posts:
                break
        story.finish()


def _harmed_at(starting: Starter, folder: Path, number: int) -> bool:
    """Whether a kill at this request leaves the row emptied."""
    with told("proof empty", starting, folder) as story:
        story.run(**{VARIABLE: f"{Point.BEFORE_REQUEST}:{number}"})
        return len(story.rig.box.halo.writes) == 1


@pytest.mark.parametrize("name", PROOFS)
def test_killed_while_halo_carries_out_the_first_write(
    name: str, starting: Starter, tmp_path: Path
) -> None:
    """After a kill during the first write, Halo has the first row; syncd sends no second one unchecked."""
    with told(name, starting, tmp_path / "story") as story:
        processes: list[int] = []

        def kill(_: Request) -> bool:
            while processes:
                os.kill(processes.pop(), signal.SIGKILL)
            return False  # Halo carries the request out

        halo = story.rig.box.halo
        halo.faults.insert(
            0, Fault("500", times=None, method="POST", path="/InvoicePayment", match=kill)
        )
        process = story.start()
        processes.append(process)
        assert starting.ended(process, wait=True) == KILLED
        until(lambda: len(story.rig.posts()) == 1)
        story.finish()
