"""The tests' environment: settings of the shell that starts the tests do not reach syncd."""

import os
import signal
import subprocess
import sys
from pathlib import Path

SHOWN = """
import signal
import tests.isolation
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set())
"""


def test_ctrl_c_works_where_the_tests_run_in_the_background() -> None:
    """A background shell ignores or blocks SIGINT; the processes of the tests do not inherit that."""

    def as_in_the_background() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

    done = subprocess.run(
        [sys.executable, "-c", SHOWN],
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=as_in_the_background,
    )
    assert done.stdout.split() == ["True", "True"]
