"""Starts the command ``syncd`` quickly: a process that has already loaded syncd forks itself.

Loading takes most of a second of CPU time, and the tests start the command hundreds of times. A forked
process is a normal process: it has its own arguments, environment, folder, streams, signals and exit.
But it ignores variables that Python or a library reads while it loads. A test that sets such a variable
gets a newly started process instead.

``python -m tests.processes SOCKET`` is the forking process. Each order comes on its own connection, with
the three streams; the answers are the process ID and then the exit code.
"""

import array
import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]

AT_RUN_TIME = (
    "SYNCD_",
    "syncd_",
    "HOME",
    "PATH",
    "TMPDIR",
    "TZ",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "TERM",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "PYTHONIOENCODING",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "PYTEST_",
    "TEST_SEED",
    "PIP_",
)
"""Prefixes of variables that are read only after everything was loaded."""

ON_A_TERMINAL = """
import fcntl, runpy, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("tests.alone", run_name="__main__", alter_sys=True)
"""
"""Starts syncd with a controlling terminal; without it, Ctrl-C would send no signal."""


class Process:
    """A forked syncd, with those parts of `subprocess.Popen` that tests use.

    Attributes:
        pid: its process id.
        returncode: its exit code, or the negative signal number; None while it runs.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile()
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end; raise TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._answers.readline())
            except TimeoutError:
                # A file object of a socket cannot be read after a timeout.
                self._answers = self._connection.makefile()
                raise subprocess.TimeoutExpired("syncd", timeout or 0) from None
            self._answers.close()
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code if the process has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.001)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Starter:
    """The forking process, started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self._loaded: dict[str, str] = {}
        self._lock = threading.Lock()

    def _address(self) -> str:
        with self._lock:
            if self._process is None:
                self._loaded = dict(os.environ)
                self._folder = tempfile.mkdtemp(prefix="starter")
                address = f"{self._folder}/socket"
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.processes", address],
                    env={**self._loaded, "PYTHONPATH": str(ROOT)},
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                )
                assert self._process.stdout is not None
                assert self._process.stdout.readline() == b"ready\n"
        return f"{self._folder}/socket"

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether a forked process would behave like a new process with this environment."""
        loaded = self._loaded or dict(os.environ)
        changed = {
            name for name in {*environment, *loaded} if environment.get(name) != loaded.get(name)
        }
        return all(name.startswith(AT_RUN_TIME) for name in changed)

    def start(
        self,
        arguments: tuple[str, ...],
        environment: Mapping[str, str],
        folder: Path,
        streams: tuple[int, int, int],
        *,
        terminal: bool = False,
    ) -> Process:
        """Start syncd; with `terminal` the first stream is a terminal that controls the process."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(self._address())
        order = json.dumps([arguments, dict(environment), str(folder), terminal]).encode()
        sent = array.array("i", streams)
        connection.sendmsg(
            [len(order).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)]
        )
        connection.sendall(order)
        return Process(connection)

    def close(self) -> None:
        """Kill the forking process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            shutil.rmtree(self._folder)
            self._process = None


STARTER = Starter()
"""The starter of this test process."""


def start(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    stdout: IO[Any] | None = None,
    stderr: IO[Any] | None = None,
) -> "Process | subprocess.Popen[bytes]":
    """Start syncd; without a file, its output goes where the tests' own output goes."""
    if not STARTER.fits(environment):
        return subprocess.Popen(
            [sys.executable, "-m", "tests.alone", *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    with Path(os.devnull).open("rb") as nothing:
        streams = (
            nothing.fileno(),
            stdout.fileno() if stdout else 1,
            stderr.fileno() if stderr else 2,
        )
        return STARTER.start(arguments, environment, folder, streams)


def start_on_terminal(
    terminal: int, *arguments: str, environment: Mapping[str, str], folder: Path
) -> "Process | subprocess.Popen[bytes]":
    """Start syncd in its own session, controlled by the terminal with this file descriptor."""
    if STARTER.fits(environment):
        return STARTER.start(arguments, environment, folder, (terminal,) * 3, terminal=True)
    return subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )


def run(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    timeout: float,
) -> "subprocess.CompletedProcess[str]":
    """Run syncd until it ends; after `timeout` seconds, kill it and raise TimeoutExpired."""
    with tempfile.TemporaryFile("w+b") as stdout, tempfile.TemporaryFile("w+b") as stderr:
        process = start(
            *arguments, environment=environment, folder=folder, stdout=stdout, stderr=stderr
        )
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode().replace("\r\n", "\n"))
    return subprocess.CompletedProcess(["syncd", *arguments], code, *texts)


# --- the forking process ----------------------------------------------------------------------------


def serve(address: str) -> None:
    """Load everything that syncd needs, then fork for each order, until the parent ends."""
    from tests.alone import without_the_machine
    from tests.loaded import load

    without_the_machine()
    load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen(64)
        server.settimeout(5)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while os.getppid() == parent:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Execute one order in a separate process that waits for the end of syncd."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.setblocking(True)
    ints = array.array("i")
    size, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * ints.itemsize))
    ints.frombytes(ancillary[0][2])
    order = b""
    while len(order) < int.from_bytes(size, "big"):
        order += connection.recv(1 << 20)
    process = os.fork()
    if process == 0:
        connection.close()
        try:
            arguments, environment, folder, terminal = json.loads(order)
            _become(arguments, environment, folder, list(ints), terminal=terminal)
        finally:
            os._exit(99)
    for stream in ints:
        os.close(stream)
    with contextlib.suppress(OSError):  # the test may have ended
        connection.sendall(f"{process}\n".encode())
        _, status = os.waitpid(process, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    streams: list[int],
    *,
    terminal: bool,
) -> None:
    """Become the command ``syncd`` until it ends."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    tempfile.tempdir = None  # by TMPDIR again
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, max(streams) + 1)
    if terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # open as long as the process runs
    coding = environment.get("PYTHONIOENCODING")
    sys.stdout = open(1, "w", encoding=coding, closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", buffering=1, encoding=coding, errors="backslashreplace", closefd=False
    )
    sys.argv = ["syncd", *arguments]
    code = 0
    try:
        from syncd.cli.main import main

        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  # as the interpreter does when it ends
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as at the end of every Python process
    atexit._run_exitfuncs()
    for output in (sys.stdout, sys.stderr):
        if output is None or output.closed:
            continue
        try:
            output.flush()
        except OSError as error:  # as the interpreter ends then
            code = 120
            if output is sys.stdout:
                with contextlib.suppress(OSError):
                    sys.stderr.write(f"Exception ignored in: {output}: {error}\n")
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
