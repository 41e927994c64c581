"""Isolates the tests from the machine and its user; conftest.py imports this module first.

A test must pass on any machine: with syncd installed, configured and running, behind a proxy, in any
locale and with any umask. So the import of this module removes every environment variable that is not
listed here. It also makes Ctrl-C work: a shell starts a background command with SIGINT ignored, and
every process that a test starts would inherit that. Variables for downloads (proxies, certificates,
settings of pip) are saved for the few tests that use a package index.
"""

import json
import os
import signal
import tempfile
import threading
from pathlib import Path

KEPT = (
    "PATH", "TMPDIR", "CI", "CRASHES", "CRASH_SEED", "FUZZ_EXAMPLES", "SCREENSHOTS", "TEST_SEED",
    "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH",
)  # fmt: skip
"""Variables that tests keep: paths of programs, and choices of the Makefile."""

KEPT_PREFIXES = ("COV_", "COVERAGE_", "HYPOTHESIS_", "PLAYWRIGHT_", "PYTEST_")

FOR_DOWNLOADS = (
    "HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)

CHOSEN = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "xterm", "PIP_CONFIG_FILE": os.devnull}

MEMORY = Path("/dev/shm")  # noqa: S108  # Linux's file system in memory
MEMORY_BYTES_MIN = 1024**3

_ASIDE = "PYTEST_FOR_DOWNLOADS"


def in_memory() -> dict[str, str]:
    """Return the setting that puts the tests' folders into memory, if there is enough of it.

    syncd waits for the disk at each commit, and the tests commit tens of thousands of times. Power
    failures are tested with a simulated disk, which needs no real one.
    """
    try:
        system = os.statvfs(MEMORY)
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return {}
    usable = os.access(MEMORY, os.W_OK) and not system.f_flag & os.ST_NOEXEC
    room = min(system.f_bavail * system.f_frsize, free)
    return {"TMPDIR": str(MEMORY)} if usable and room >= MEMORY_BYTES_MIN else {}


def isolate() -> None:
    """Reduce the environment to the listed variables and unblock signals; a second call changes nothing."""
    if _ASIDE not in os.environ:  # the workers inherit the variable
        os.environ[_ASIDE] = json.dumps(
            {
                name: text
                for name, text in os.environ.items()
                if name.upper() in FOR_DOWNLOADS or name.startswith("PIP_")
            }
        )
        kept = {
            name: text
            for name, text in os.environ.items()
            if name in KEPT or name.startswith(KEPT_PREFIXES)
        }
        os.environ.clear()
        os.environ.update(in_memory() | kept | CHOSEN)
        tempfile.tempdir = None  # pytest has already cached it
    os.umask(0o022)
    if threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def for_downloads() -> dict[str, str]:
    """Return the environment for a command that uses the machine's package index."""
    here = {name: text for name, text in os.environ.items() if name not in CHOSEN}
    aside: dict[str, str] = json.loads(os.environ[_ASIDE])
    return here | aside


isolate()
