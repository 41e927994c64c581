"""The simulator over many seeds, each with its own story. A failure names its seed."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.batch import figures_text, run_seeds
from tests.simulation.coverage import missing_text, pairs
from tests.simulation.found import FOUND, Found
from tests.simulation.night import keep, kept_story
from tests.simulation.planted import PLANTED, Planted, catch, planted
from tests.simulation.process import Process
from tests.simulation.shrink import as_text
from tests.simulation.story import HUNTED_FROM, Story, draw
from tests.simulation.theatre import play

SEEDS, PART = 20, 5
"""The seeds of every run; `make simulate` and CI's `make simulate-fresh` play many more."""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_seeds(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    """No check of the oracle fails in these stories."""
    failed, figures, seconds = run_seeds(first, PART)
    with capsys.disabled():
        print(f"\nseeds {first} to {first + PART - 1}\n" + figures_text(PART, figures, seconds))
    if failed:
        text = "; ".join(f"make simulate SEED={seed}: {', '.join(found)}" for seed, found in failed)
        pytest.fail(text, pytrace=False)


def test_what_is_played_is_counted() -> None:
    """Decisions, causes, and pairs of fault, request and state are counted."""
    figures = sum((play(draw(seed)).figures for seed in range(4)), Counter[str]())
    text = missing_text(figures)
    assert "decisions: " in text
    assert figures["transition STATE_REPORTED"] > 0
    assert any(key.startswith("decision Update of ") for key in figures)
    played = {key.removeprefix("pair ") for key in figures if key.startswith("pair ")}
    assert played & pairs()


def test_the_clock_adversary_replays_exactly() -> None:
    """Clock jumps at single points and suspensions are part of a seed's history, and replay exactly."""
    seeds = [s for s in range(HUNTED_FROM, HUNTED_FROM + 80) if "suspend" in _kinds(draw(s))][:1]
    seeds += [s for s in range(HUNTED_FROM, HUNTED_FROM + 80) if "clock_storm" in _kinds(draw(s))][
        :1
    ]
    assert len(seeds) == 2
    for seed in seeds:
        first, again = play(draw(seed)), play(draw(seed))
        assert first.history == again.history
        assert first.figures["suspensions"] + first.figures["clock jumps"] > 0


def _kinds(story: Story) -> set[str]:
    return {action.kind for action in story.actions}


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same history, to the last line and the last millisecond."""
    for seed in (5, 11, 22):
        first, again = play(draw(seed)), play(draw(seed))
        assert first.history == again.history
        assert first.figures == again.figures


def test_a_daemon_that_breaks_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a simulated service ends with an unexpected error, the story fails."""

    def broken(_process: Process, _steps: object) -> float:
        raise AttributeError("this name is gone")

    monkeypatch.setattr(Process, "_next_tick", broken)
    complaints = play(draw(0)).complaints
    assert ("fault", "AttributeError: this name is gone") in {(c.check, c.text) for c in complaints}


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.name)
def test_what_was_found_stays_mended(found: Found) -> None:
    """Each story that once broke a promise passes now."""
    story = found.story()
    result = play(story)
    assert not result.complaints, as_text(story, result)


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_faults_can_be_planted(fault: Planted) -> None:
    """The source of each planted fault still matches the program."""
    with planted(fault):
        pass


def test_a_failure_is_kept_in_a_file(tmp_path: Path) -> None:
    """A failing seed is written to a file with its checks and a shrunk story that still fails."""
    fault = next(fault for fault in PLANTED if fault.name == "an old event wins")
    caught = catch(PLANTED.index(fault), 20)
    assert caught.seed is not None
    with planted(fault):
        path = keep(caught.seed, list(caught.checks), tmp_path, seconds=5)
        story = kept_story(path)
        assert set(caught.checks) & {c.check for c in play(story).complaints}
    text = path.read_text()
    assert text.startswith(f"make simulate SEED={caught.seed}  # {', '.join(caught.checks)}")
    assert "BROKEN at" in text
    assert len(story.actions) < len(draw(caught.seed).actions)


def test_a_night_goes_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """After SIGTERM a night run ends normally and prints how many seeds it played."""
    command = [sys.executable, "-u", "-m", "tests.simulation", "--night", "--jobs", "1"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "failures are kept in simulation-failures/\n"
        assert process.stdout.readline().startswith("seeds from ")
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 0, rest
    assert "stopped after 0 seeds; 0 failed" in rest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seeds"), [("an old event wins", 20), ("only the first page of events is read", 40)]
)
def test_the_simulator_sees(name: str, seeds: int) -> None:
    """Two planted faults are caught within a few seeds; `make planted` tries all."""
    names = [fault.name for fault in PLANTED]
    assert catch(names.index(name), seeds).seed is not None
