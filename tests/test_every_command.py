"""Every command: output that cannot be written, encodings, narrow and dumb terminals, Ctrl-C."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from syncd.cli.main import app
from syncd.sandbox import Sandbox
from syncd.sandbox.faults import Fault
from tests import processes
from tests.conftest import ROOT, HandClock, Rig
from tests.terminals import INTERRUPTED, Shown, on_terminal

EXIT_OUTPUT = 74
COLUMNS = 50


@dataclass(frozen=True, slots=True)
class Line:
    """One command as it is typed.

    Attributes:
        typed: the arguments; {held} and {due} are payments, {folder} is a folder.
        code: the exit code.
        prints: whether the command prints to standard output.
        remote: whether the command sends requests to Stripe or Halo, so that Ctrl-C can interrupt them.
        question: the end of a question that the command asks on a terminal; Ctrl-C is typed there.
    """

    typed: str
    code: int = 0
    prints: bool = True
    remote: bool = False
    question: str = ""


LINES = {
    "": (
        Line("--once", code=1, prints=False, remote=True),
        Line("--backfill 1d", code=1, prints=False, remote=True),
        Line("--once --dry-run", code=1, remote=True),
        Line("--version"),
        Line("--help"),
    ),
    "init": (Line("init --defaults --config {folder}/new.toml", remote=True),),
    "check": (Line("check", remote=True),),
    "calibrate": (Line("calibrate", remote=True),),
    "prove": (
        Line("prove {due} --yes", remote=True),
        Line("prove {due}", code=2, prints=False, question="[y/N]"),
    ),
    "status": (Line("status", code=1), Line("status --unmatched")),
    "resync": (Line("resync {held}", code=1, remote=True),),
    "audit": (
        Line("audit --since 1d", code=1, remote=True),
        Line("audit --since 1d --all --csv -", code=1, remote=True),
        Line("audit --since 1d --fix --html {folder}/audit.html", code=1, remote=True),
        Line("audit --since 1d --json", code=1, remote=True),
    ),
    "bugreport": (Line("bugreport {folder}/report", remote=True),),
    "export": (Line("export"),),
    "copy": (Line("copy sqlite:///{folder}/copy.db"),),
    "demo": (),
    "attention": (
        Line("attention", code=1),
        Line("attention --dismissed"),
        Line("attention --json", code=1),
    ),
    "attention show": (Line("attention show {held}"),),
    "attention retry": (Line("attention retry {held}"),),
    "attention push": (
        Line("attention push {held} --yes"),
        Line("attention push {held}", question="[y/N]"),
    ),
    "attention dismiss": (
        Line("attention dismiss {held}"),
        Line("attention dismiss --all", question="[y/N]"),
    ),
    "config show": (Line("config show"),),
    "config validate": (Line("config validate"),),
    "config schema": (Line("config schema"),),
}
"""Lines of every command. The demo takes seconds, so test_demo.py and test_output.py test it."""

ALL = [line for lines in LINES.values() for line in lines]


def test_every_command_is_here() -> None:
    """Every command of syncd is in LINES, so that all tests of this file run it."""

    def names(command: Any, path: tuple[str, ...]) -> Iterator[str]:
        groups = getattr(command, "commands", {})
        if not groups or getattr(command, "invoke_without_command", False):
            yield " ".join(path)
        for name, below in groups.items():
            yield from names(below, (*path, name))

    assert set(names(typer.main.get_command(app), ())) == LINES.keys()


class Place:
    """A held payment and a due one; each command starts from the same state."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.held = rig.pay("succeeded", rows=(5.0,), description="„Gödel“ 日本 → 5 €")
        rig.once()
        self.due = rig.pay("succeeded")
        self.folder = rig.folder / "files"
        self.kept = shutil.copy(rig.folder / "syncd.db", rig.folder / "kept.db")
        self.environment = {**rig.environment(), "LC_ALL": "C.UTF-8"}

    def again(self, line: Line) -> tuple[str, ...]:
        """Restore the initial state; return the arguments."""
        shutil.copy(self.kept, self.rig.folder / "syncd.db")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for side in (self.rig.box.stripe, self.rig.box.halo):
            side.faults.clear()
        self.rig.box.halo.writes.clear()
        for row in self.rig.box.halo.rows.values():
            row["status"] = 1
        names = {"held": self.held, "due": self.due, "folder": self.folder}
        return tuple(line.typed.format(**names).split())

    def piped(self, line: Line, to: Path, **extra: str) -> tuple[int, str]:
        """Run with standard output in a file; return the exit code and standard error."""
        errors = self.rig.folder / "stderr"
        arguments = self.again(line)
        with to.open("wb") as stdout, errors.open("wb") as stderr:
            process = processes.start(
                *arguments,
                environment={
                    "PYTHONPATH": str(ROOT),
                    "PATH": "/usr/bin:/bin",
                    **self.environment,
                    **extra,
                },
                folder=self.rig.folder,
                stdout=stdout,
                stderr=stderr,
            )
            code = process.wait(60)
        return code, errors.read_text("utf-8")

    def on_terminal(self, line: Line, **extra: str) -> Shown:
        arguments = self.again(line)
        term = extra.get("TERM", "xterm")
        return on_terminal(
            self.environment | extra,
            self.rig.folder,
            *arguments,
            columns=COLUMNS,
            term=term,
            asked=line.question,
            typed="n\n" if line.question else "",
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One place for all commands."""
    with Sandbox() as box:
        box.halo.rate_limit = None  # all commands together send more than 300 requests
        yield Place(Rig(box, HandClock(), tmp_path_factory.mktemp("place"), {}))


@pytest.mark.parametrize("line", ALL, ids=lambda line: line.typed)
def test_into_a_pipe(place: Place, line: Line) -> None:
    """On a full disk, a command exits with 74 and an error message; an ASCII pipe gets uncoloured ASCII."""
    code, said = place.piped(line, Path("/dev/full"))
    assert code == (EXIT_OUTPUT if line.prints else line.code), said
    assert ("syncd: standard output could not be written: No space left" in said) == line.prints
    assert "Traceback" not in said
    printed = place.rig.folder / "stdout"
    code, said = place.piped(line, printed, PYTHONIOENCODING="ascii")
    assert code == line.code, said
    text = printed.read_bytes()
    assert bool(text) == line.prints
    assert text.isascii()
    assert said.isascii()
    assert "Traceback" not in said
    assert b"\x1b" not in text
    assert "\x1b" not in said


@pytest.mark.parametrize("line", ALL, ids=lambda line: line.typed)
def test_on_a_narrow_terminal(place: Place, line: Line) -> None:
    """At 50 columns no table is too wide and no id is broken; NO_COLOR and TERM=dumb are respected."""
    coloured = any(line is one for one, *_ in filter(None, LINES.values()))
    for chosen in ({"NO_COLOR": "1"}, {"TERM": "dumb"}) if coloured else ({"TERM": "dumb"},):
        shown = place.on_terminal(line, **chosen)
        assert "Traceback" not in shown.text
        assert re.findall(r"\x1b\[[0-9;]*m", shown.text) == []
        assert "TERM" not in chosen or "\x1b" not in shown.text
        assert shown.code == (1 if line.question else line.code), shown.text
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.text)
        drawn = [one for one in re.split(r"[\r\n]+", text) if re.search("[│─┌└┃━]", one)]
        assert [one for one in drawn if len(one) > COLUMNS] == []
        for name in (place.held, place.due):
            begun = re.findall(rf"{name[:12]}\w*", text)
            assert {one for one in begun if not one.startswith(name)} == set(), shown.text


@pytest.mark.parametrize("line", [line for line in ALL if line.remote], ids=lambda line: line.typed)
def test_ctrl_c_while_it_waits(place: Place, line: Line) -> None:
    """Ctrl-C while a command waits for Stripe or Halo ends it with 130 and without a traceback."""
    asked = [place.rig.box.stripe.requests, place.rig.box.halo.requests]
    arguments = place.again(line)
    for side in (place.rig.box.stripe, place.rig.box.halo):
        side.faults.append(Fault("hang", times=None))
    before = sum(map(len, asked))
    shown = on_terminal(
        place.environment,
        place.rig.folder,
        *arguments,
        when=lambda: sum(map(len, asked)) > before,
    )
    assert shown.code == INTERRUPTED, shown.text
    assert "Traceback" not in shown.text


@pytest.mark.parametrize(
    "line", [line for line in ALL if line.question], ids=lambda line: line.typed
)
def test_ctrl_c_at_a_question(place: Place, line: Line) -> None:
    """Ctrl-C at a question ends the command with 130 and changes nothing."""
    arguments = place.again(line)
    shown = on_terminal(
        place.environment, place.rig.folder, *arguments, asked=line.question, typed="\x03"
    )
    assert shown.code == INTERRUPTED, shown.text
    assert "Traceback" not in shown.text
    assert place.rig.box.halo.writes == []
    assert [entry.id for entry in place.rig.attention()] == [place.held]
