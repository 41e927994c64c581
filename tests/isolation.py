"""Keeps the machine and its user out of the tests; conftest.py imports this before anything else.

A test passes on any machine: where syncd is installed, configured and running, behind a proxy, in any
locale and under any umask. So importing this module removes every environment variable that is not
named here. What a download needs (proxies, certificates, the settings of pip) is kept aside, for the
few tests that ask a package index.
"""

import json
import os

KEPT = (
    "PATH", "TMPDIR", "CI", "CRASHES", "CRASH_SEED", "FUZZ_EXAMPLES", "SCREENSHOTS", "TEST_SEED",
    "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH",
)  # fmt: skip
"""Variables that tests see: where programs are, and what the Makefile chooses."""

KEPT_PREFIXES = ("COV_", "COVERAGE_", "HYPOTHESIS_", "PLAYWRIGHT_", "PYTEST_")

FOR_DOWNLOADS = (
    "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY",
    "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip

CHOSEN = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "xterm", "PIP_CONFIG_FILE": os.devnull}

_ASIDE = "PYTEST_FOR_DOWNLOADS"


def isolate() -> None:
    """Reduce the environment to what is named here; a second time changes nothing."""
    if _ASIDE not in os.environ:  # the workers inherit it
        os.environ[_ASIDE] = json.dumps({
            name: text for name, text in os.environ.items()
            if name.upper() in FOR_DOWNLOADS or name.startswith("PIP_")
        })  # fmt: skip
        kept = {
            name: text for name, text in os.environ.items()
            if name in KEPT or name.startswith(KEPT_PREFIXES)
        }  # fmt: skip
        os.environ.clear()
        os.environ.update(kept | CHOSEN)
    os.umask(0o022)


def for_downloads() -> dict[str, str]:
    """The environment for a command that asks the machine's usual package index."""
    here = {name: text for name, text in os.environ.items() if name not in CHOSEN}
    aside: dict[str, str] = json.loads(os.environ[_ASIDE])
    return here | aside


isolate()
