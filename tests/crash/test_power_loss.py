"""Power cuts: data that was not synced may be lost, in part or wholly, and syncd still works correctly.

A library in front of the C library logs each disk operation of the process (powerloss.c). From the log,
power.py makes the disk's state after a cut, at every single write and sync, not only at named points.
The tests are skipped if there is no gcc.
"""

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.failpoints import VARIABLE
from tests import freshness
from tests.crash import power
from tests.crash.starter import Starter, starter
from tests.crash.stories import KILLED, STORIES, told

CUTS = int(os.environ.get("CRASHES", "0")) or 6
SEED = int(os.environ.get("CRASH_SEED", "0")) or freshness.SEED

pytestmark = pytest.mark.skipif(not power.has_compiler(), reason="gcc builds what loses the writes")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return power.build(tmp_path_factory.mktemp("power"))


@pytest.fixture(scope="module")
def watched(library: Path) -> Iterator[Starter]:
    """A starter of syncd with the library preloaded."""
    with starter(LD_PRELOAD=str(library)) as one:
        yield one


def watching(folder: Path) -> dict[str, str]:
    return {
        "POWER_FOLDER": str(folder),
        "POWER_PREFIX": power.PREFIX,
        "POWER_LOG": str(folder / "asked"),
    }


def disk_of(folder: Path, before: dict[str, bytes]) -> power.Disk:
    disk = power.Disk(before)
    for asked in power.read_log(folder / "asked"):
        disk.ask(asked)
    return disk


def content(files: dict[str, bytes], folder: Path) -> str:
    """The database's content after SQLite has recovered it; the database must be valid."""
    with closing(sqlite3.connect(power.lay_out(files, folder))) as connection:
        connection.execute("PRAGMA synchronous=OFF")  # this reading needs no durability
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return "\n".join(connection.iterdump())


WRITER = """
import sqlite3, sys
connection = sqlite3.connect("syncd.db", isolation_level=None)
connection.execute("PRAGMA journal_mode=DELETE")
connection.execute("PRAGMA synchronous=" + sys.argv[1])
connection.execute("CREATE TABLE words (word)")
connection.execute("INSERT INTO words VALUES ('kept?')")
"""


@pytest.mark.parametrize(("synchronous", "kept"), [("EXTRA", True), ("OFF", False)])
def test_the_cut_cuts(library: Path, tmp_path: Path, synchronous: str, kept: bool) -> None:
    """The model works: a commit without a sync is lost in a cut, a synced commit is kept."""
    subprocess.run(
        [sys.executable, "-c", WRITER, synchronous],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "LD_PRELOAD": str(library), **watching(tmp_path)},
    )
    disk = disk_of(tmp_path, {})
    assert disk.killed() == power.files_of(tmp_path)  # the log contains every operation
    assert ("kept?" in content(disk.killed(), tmp_path / "killed")) is True
    assert ("kept?" in content(disk.cut(None), tmp_path / "cut")) is kept


@pytest.mark.parametrize("story_name", ["poll", "backfill"])
def test_a_cut_at_every_write(watched: Starter, tmp_path: Path, story_name: str) -> None:
    """After a cut at any write or sync, the database is valid and misses at most the open transaction."""
    with told(story_name, watched, tmp_path / "story") as story:
        assert story.run(**watching(story.rig.folder)) == 0
        asked = power.read_log(story.rig.folder / "asked")
    assert len(asked) > 100
    dice, disk = random.Random(SEED), power.Disk({})
    states = [""]
    for one in asked if os.environ.get("CRASHES") else asked[:250]:
        disk.ask(one)
        now = content(disk.killed(), tmp_path / "killed")
        if now != states[-1]:
            states.append(now)
        for cut in (disk.cut(None), disk.cut(dice)):
            found = content(cut, tmp_path / "cut") if cut else ""
            assert found in (states[-1], *states[-2:-1]), f"CRASH_SEED={SEED}"


def test_what_was_committed_stays(watched: Starter, tmp_path: Path) -> None:
    """After a commit has returned, a power cut at that moment loses none of its data."""
    dice = random.Random(SEED)
    for number in range(CUTS):
        commit = dice.randint(1, 30)
        with told("poll", watched, tmp_path / str(number)) as story:
            folder = story.rig.folder
            code = story.run(**watching(folder), **{VARIABLE: f"after_commit:{commit}"})
            assert code in (0, KILLED), story.log()
            disk = disk_of(folder, {})
            for cut in (disk.cut(None), disk.cut(dice)):
                assert content(cut, tmp_path / "cut") == content(
                    disk.killed(), tmp_path / "killed"
                ), f"CRASH_SEED={SEED}"


def test_a_cut_and_a_start(watched: Starter, tmp_path: Path) -> None:
    """After a power cut at any write or sync, the next start completes the story correctly."""
    dice = random.Random(SEED)
    for number in range(CUTS):
        name, place = dice.choice(list(STORIES)), int(dice.triangular(1, 400, 30))
        with told(name, watched, tmp_path / str(number)) as story:
            folder = story.rig.folder
            code = story.run(**watching(folder), POWER_KILL_AT=str(place))
            assert code in (KILLED, *story.ends), story.log()
            power.lay_out(disk_of(folder, {}).cut(dice), folder)
            try:
                story.finish()
            except AssertionError as error:
                where = f"story {number} ({name}), cut at {place}; CRASH_SEED={SEED}"
                raise AssertionError(where) from error
