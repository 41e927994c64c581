"""Runs the real command on a real terminal."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import processes

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Shown:
    """The output and the exit code of a command on a terminal.

    Attributes:
        code: the exit code, as a shell shows it.
        text: the whole output, including escape sequences.
    """

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """The output line by line, as it was written."""
        return self.text.replace("\r\n", "\n").split("\n")


def on_terminal(
    environment: Mapping[str, str],
    folder: Path,
    *arguments: str,
    columns: int = 80,
    term: str = "xterm",
    typed: str = "",
    when: Callable[[], bool] | None = None,
    asked: str = "",
    meanwhile: Callable[[], None] = lambda: None,
    seconds: float = 120,
) -> Shown:
    """Run a command on a terminal.

    Args:
        environment: the variables of syncd; the others are inherited.
        folder: the working directory.
        arguments: the arguments of `syncd`.
        columns: the width of the terminal.
        term: the type of the terminal (TERM).
        typed: the text that the user types.
        when: the user types Ctrl-C once this is true.
        asked: the user types only after the terminal shows this text.
        meanwhile: called between the question and the answer.
        seconds: the longest time without new output.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    clean = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("SYNCD_") and k not in ("COLUMNS", "NO_COLOR")
    }
    process = processes.start_on_terminal(
        theirs,
        *arguments,
        environment={**clean, **environment, "PYTHONPATH": str(ROOT), "TERM": term},
        folder=folder,
    )
    os.close(theirs)
    if typed and not asked:
        os.write(ours, typed.encode())
    ended = threading.Event()
    if when is not None:
        threading.Thread(target=_press_ctrl_c, args=(ours, when, ended), daemon=True).start()
    shown = b""
    try:
        while True:
            if not _shows(ours, seconds, interrupted=typed == "\x03" and not asked):
                process.kill()
                raise AssertionError(f"nothing came after {shown[-2_000:]!r}")
            if not (part := os.read(ours, 65_536)):
                break
            shown += part
            if asked and asked.encode() in shown:
                asked = ""
                meanwhile()
                os.write(ours, typed.encode())
    except OSError:  # the end of a terminal
        ended.set()
    os.close(ours)
    code = process.wait(30)
    return Shown(128 - code if code < 0 else code, shown.decode())


def conversation(
    environment: Mapping[str, str],
    folder: Path,
    *arguments: str,
    script: Sequence[tuple[str, str]],
    seconds: float = 60,
) -> Shown:
    r"""Run a command on a terminal and answer its questions.

    Args:
        environment: the variables of syncd; the others are inherited.
        folder: the working directory.
        arguments: the arguments of `syncd`.
        script: pairs of the text to wait for and the text to type then. Each text is searched for
            after the one before. Ctrl-C is ``\x03``.
        seconds: the longest wait for one question.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SYNCD_")}
    process = processes.start_on_terminal(
        theirs,
        *arguments,
        environment={**clean, **environment, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
        folder=folder,
    )
    os.close(theirs)
    shown, at, left, last = "", 0, list(script), ""
    try:
        while True:
            if not _shows(ours, seconds, interrupted=last == "\x03"):
                raise AssertionError(f"nothing came after {shown[-2_000:]!r}")
            shown += os.read(ours, 65_536).decode("utf-8", "replace")
            while left and (found := shown.find(left[0][0], at)) >= 0:
                at = found + len(left[0][0])
                last = left.pop(0)[1]
                os.write(ours, last.encode())
    except OSError:  # the end of a terminal
        pass
    finally:
        os.close(ours)
        process.kill() if left else None
    code = process.wait(30)
    assert not left, f"{left[0][0]!r} did not come in {shown[-3_000:]!r}"
    return Shown(128 - code if code < 0 else code, shown)


def _shows(terminal: int, seconds: float, *, interrupted: bool) -> bool:
    """Whether the terminal shows any output within this time.

    If Ctrl-C was typed last (`interrupted`), it is typed again, as a user would: Python handles a signal
    that arrives right before a blocking read only after that read.
    """
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        wait = min(left, AGAIN_SECONDS) if interrupted else left
        if select.select([terminal], [], [], wait)[0]:
            return True
        if interrupted:
            os.write(terminal, b"\x03")
    return False


def _press_ctrl_c(terminal: int, when: Callable[[], bool], ended: threading.Event) -> None:
    while not ended.wait(0.05):
        if when():
            os.write(terminal, b"\x03")
            return


AGAIN_SECONDS = 5.0
"""The time after which the user types Ctrl-C again, if nothing happens."""

INTERRUPTED = 128 + signal.SIGINT
