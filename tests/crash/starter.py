"""Starts ``python -m syncd`` quickly, many hundred times: a process that has loaded syncd, and forks.

Run as a script, this module is that process: it reads orders as lines of JSON and answers each with one line.
A forked process is a normal process with its own environment, log and exit; only the half second of loading
is saved.
"""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Starter:
    """The process that forks, as its parent sees it."""

    process: "subprocess.Popen[str]"

    def _order(self, **order: Any) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, arguments: list[str], environment: dict[str, str], folder: Path) -> int:
        """Start syncd, its stderr going to `folder`/log; returns its process id."""
        clean = {key: text for key, text in os.environ.items() if not key.startswith("SYNCD_")}
        return self._order(
            start=arguments, environment={**clean, **environment}, folder=str(folder)
        )

    def ended(self, process: int, *, wait: bool) -> int | None:
        """How the process ended: its exit code, or minus the signal; None if it still runs."""
        code = self._order(ended=process, wait=wait)
        return None if code == 1_000 else code


@contextmanager
def starter(**environment: str) -> Iterator[Starter]:
    """A starter, for as long as the context lasts."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    try:
        yield Starter(process)
    finally:
        process.communicate()  # closes its input, so the process ends


def _become_syncd(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for ours, standard in ((nothing, 0), (nothing, 1), (log, 2)):
        os.dup2(ours, standard)
    sys.argv = ["syncd", *arguments]
    try:
        runpy.run_module("syncd", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        sys.stderr.flush()
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    os._exit(0)


SOONER = 1_000
"""The program's waits for what Halo may still carry out or show late are divided by this number here."""


def _wait_less() -> None:
    from syncd.sync.push.guard import InsertWaits
    from syncd.sync.push.proof import new_row, read_back, verify

    begin = InsertWaits.begin

    def sooner(self: InsertWaits, intent_id: str, doubt_until: float, seconds: float) -> None:
        begin(self, intent_id, doubt_until, seconds / SOONER)

    InsertWaits.begin = sooner  # type: ignore[method-assign]
    settle_seconds = read_back.SETTLE_SECONDS / SOONER
    for module in (new_row, read_back, verify):
        module.SETTLE_SECONDS = settle_seconds  # type: ignore[attr-defined]


def _serve() -> None:
    """Load the modules of syncd; then fork at each order."""
    from tests.alone import without_the_machine
    from tests.loaded import load

    without_the_machine()
    _wait_less()
    load()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            answer = os.fork()
            if answer == 0:
                try:
                    _become_syncd(order["start"], order["environment"], order["folder"])
                finally:
                    os._exit(99)
        else:
            found, status = os.waitpid(order["ended"], 0 if order["wait"] else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if found else 1_000
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
