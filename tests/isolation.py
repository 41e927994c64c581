"""Keeps the machine and its user out of the tests; conftest.py imports this before anything else.

A test passes on any machine: where syncd is installed, configured and running, behind a proxy, in any
locale and under any umask. So importing this module removes every environment variable that is not
named here. It also lets Ctrl-C through: a shell starts a command in the background with SIGINT ignored,
and every process that a test starts would inherit that. What a download needs (proxies, certificates, the settings of pip) is kept aside, for the
few tests that ask a package index.
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
"""Variables that tests see: where programs are, and what the Makefile chooses."""

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
    """The setting that puts the tests' folders into memory, where there is room; none otherwise.

    syncd waits for the disk at each commit, and the tests commit tens of thousands of times. What a
    power cut leaves is tested by a model of a disk, which needs none.
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
    """Reduce the environment to what is named here, and let signals through; a second time changes nothing."""
    if _ASIDE not in os.environ:  # the workers inherit it
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
        tempfile.tempdir = None  # pytest has asked for it already
    os.umask(0o022)
    if threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def for_downloads() -> dict[str, str]:
    """The environment for a command that asks the machine's usual package index."""
    here = {name: text for name, text in os.environ.items() if name not in CHOSEN}
    aside: dict[str, str] = json.loads(os.environ[_ASIDE])
    return here | aside


isolate()
