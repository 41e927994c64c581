"""SIGINT and SIGTERM at any moment of a command: every signal counts, whatever the event loop does."""

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

COMMAND = """
import asyncio, os, signal, sys
from syncd.cli.shared import confirm, stop_signals

async def work():
    stop_signals.watch(asyncio.Event())
    if sys.argv[1] == "last step of the loop":
        os.kill(os.getpid(), int(sys.argv[2]))

async def next_work():
    if sys.argv[1] == "second loop":
        os.kill(os.getpid(), int(sys.argv[2]))
    stop_signals.watch(asyncio.Event())

try:
    asyncio.run(work())
    if sys.argv[1] == "between loops":
        os.kill(os.getpid(), int(sys.argv[2]))
    confirm("Go ahead?", yes=True)
    asyncio.run(next_work())
    confirm("Go ahead?", yes=True)
    print("went ahead")
except KeyboardInterrupt:
    sys.exit(stop_signals.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["last step of the loop", "between loops", "second loop"])
def test_a_signal_is_never_lost(moment: str, number: signal.Signals) -> None:
    """The command exits with the signal's exit code and does not continue."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, moment, str(int(number))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")
