"""The locks stay valid for years: complete, current, and independent of newer releases."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests import isolation, locks
from tests.conftest import ROOT
from tests.documents import DOCUMENTS, blocks

# --- the check -----------------------------------------------------------------------------------


def test_the_locks_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """The lock check of `make check` finds no problem in this version's locks."""
    assert locks.main() == 0, capsys.readouterr().err
    assert "python -m tests.locks" in (ROOT / "Makefile").read_text()


def without(text: str, name: str) -> str:
    """The lock without the pin of `name`."""
    return re.sub(rf"^{re.escape(name)}==.*\n(?: .*\n)*", "", text, flags=re.MULTILINE)


def found_in(name: str, text: str) -> list[str]:
    return locks.problems(text, locks.roots_of(name), [locks.this_environment()], locks.installed)


@pytest.mark.parametrize("name", locks.LOCKS)
def test_each_missing_pin_is_noticed(name: str) -> None:
    """If any one package is removed from a lock, the check names the package."""
    text = (ROOT / name).read_text()
    lock, _ = locks.pins(text)
    taken = [pin for pin in lock.values() if pin.applies(locks.this_environment())]
    assert len(taken) > 40
    for pin in taken:
        problems = " ".join(found_in(name, without(text, pin.name))).lower()
        assert re.search(rf"needs {pin.name.replace('-', '[-_.]')} .* is not pinned", problems)


MADE_UP = {
    "app": ("1.0", ["Server[fast]>=1"]),
    "server": ("1.5", ["wire", 'loop>=2; extra == "fast"', 'old; python_version < "3.12"']),
    "wire": ("1.0", []),
    "loop": ("2.1", ['shim; python_version >= "3.14"']),
    "old": ("3.0", []),
}
"""Packages, their versions, and their requirements; `shim` is installed nowhere."""

LOCK = """\
app==1.0 \\
    --hash=sha256:aa
    # via syncd
loop==2.1 --hash=sha256:aa
old==3.0 ; python_full_version < '3.12' \\
    --hash=sha256:aa
server==1.5 --hash=sha256:aa --hash=sha256:bb
shim==1.0 ; python_version >= '3.14' --hash=sha256:aa
wire==1.0 --hash=sha256:aa
"""


def made_up(text: str, *roots: str, pythons: tuple[str, ...] = ("3.11", "3.14")) -> list[str]:
    """The problems of a lock over made-up packages, each once, whatever the machine."""
    found = locks.problems(text, roots or ("app>=1",), locks.environments(pythons), MADE_UP.get)
    return list(dict.fromkeys(re.sub(r" on \w+ with", " with", one) for one in found))


def test_a_complete_lock() -> None:
    """The check follows extras, markers and names in another spelling, and finds no problem."""
    assert made_up(LOCK) == []


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (without(LOCK, "loop"), [
            "server needs loop with Python 3.11, which is not pinned",
            "server needs loop with Python 3.14, which is not pinned",
            "shim is pinned, but nothing needs it",
        ]),
        (without(LOCK, "shim"), ["loop needs shim with Python 3.14, which is not pinned"]),
        (without(LOCK, "old"), ["server needs old with Python 3.11, which is not pinned"]),
        (LOCK.replace("loop==2.1", "loop==2.1 ; sys_platform == 'win32'"), [
            "server needs loop with Python 3.11, which is not pinned",
            "server needs loop with Python 3.14, which is not pinned",
        ]),
        (LOCK.replace("wire==1.0 --hash=sha256:aa", "wire==1.0"), ["wire has no hash"]),
        (LOCK.replace("wire==1.0", "wire==1.1"), ["wire 1.0 is installed, but 1.1 is pinned"]),
        (LOCK.replace("wire==1.0", "wire>=1.0"), [
            "this line is not a pin: wire>=1.0",
            "server needs wire with Python 3.11, which is not pinned",
            "server needs wire with Python 3.14, which is not pinned",
        ]),
        (LOCK + "--index-url https://index.example/simple\n", [
            "this line is not a pin: --index-url https://index.example/simple",
        ]),
        (LOCK + "more==1.0 --hash=sha256:aa\n", ["more is pinned, but nothing needs it"]),
        (LOCK + "wire==1.0 --hash=sha256:aa\n", ["this line is not a pin: wire==1.0 (a second time)"]),
    ],
)  # fmt: skip
def test_an_incomplete_lock(text: str, problems: list[str]) -> None:
    """The check reports missing, contradictory, superfluous and hashless pins, and an index in the lock."""
    assert made_up(text) == problems


def test_out_of_date_against_the_project() -> None:
    """If pyproject.toml raises, adds or drops a requirement, the check reports the outdated lock."""
    assert made_up(LOCK, "app>=2") == ["pyproject.toml needs app>=2, but 1.0 is pinned"]
    assert made_up(LOCK, "app", "extra-package", pythons=("3.14",)) == [
        "pyproject.toml needs extra-package with Python 3.14, which is not pinned",
        "old is pinned, but nothing needs it",
    ]
    assert "app is pinned, but nothing needs it" in made_up(LOCK, "server[fast]")
    assert made_up(LOCK, "app", "unknown", pythons=("3.11",))[0].startswith("pyproject.toml needs")


def test_an_unknown_package() -> None:
    """The check reports a pinned package that is not installed, because it cannot be checked."""
    lock = LOCK + "new==1.0 --hash=sha256:aa\n"
    assert made_up(lock, "app", "new") == [
        "new is not installed, so its requirements are unknown",
    ]


# --- the commands that install ----------------------------------------------------------------------


def installing() -> list[str]:
    """Every command of the project that installs from a lock, with the commands of `make` expanded."""
    found = [
        statement
        for file in DOCUMENTS
        for block in blocks(file)
        for statement in block.statements()
        if re.search(r"-r \S*requirements\S*\.lock", statement)
    ]
    for target in (".venv/installed", ".venv-dev/installed"):
        told = subprocess.run(
            ["make", "--always-make", "--dry-run", target],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        found += [line for line in told.splitlines() if "-r requirements" in line]
    scripts = [ROOT / ".ci/run", *(ROOT / "packaging").rglob("*")]
    for file in scripts:
        if file.is_file():
            statements = re.split(r"\n|&&", file.read_text().replace("\\\n", " "))
            found += [line for line in statements if re.search(r" install .*-r \S*\.lock", line)]
    return found


def options(command: str) -> list[str]:
    """The options that a command gives to `pip install`."""
    words = command.partition(" install ")[2].split()
    return [word for word in words if word.startswith("--")]


def test_every_installation_resolves_nothing() -> None:
    """Each command that installs from a lock has --no-deps and --require-hashes."""
    commands = installing()
    assert len(commands) >= 5
    for command in commands:
        assert {"--no-deps", "--require-hashes"} <= set(options(command)), command


def test_building_downloads_nothing() -> None:
    """Commands that build syncd use the pinned build tool and download none."""
    commands = [
        statement
        for file in DOCUMENTS
        for block in blocks(file)
        for statement in block.statements()
        if re.search(r"pip install .*(?<=\s)\.$", statement)
    ]
    assert commands
    for command in commands:
        assert {"--no-deps", "--no-build-isolation"} <= set(options(command)), command


# --- newer releases on offer --------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str, *requires: str, extras: str = "") -> Path:
    """A wheel of a made-up package."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    told = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    told += "".join(f"Provides-Extra: {one}\n" for one in extras.split())
    told += "".join(f"Requires-Dist: {one}\n" for one in requires)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", told)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return file


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, without a log."""

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A package index on loopback with two releases of three packages, and a lock of the older ones."""
    folder = tmp_path_factory.mktemp("index")
    lines = []
    for version in ("1.0", "2.0"):
        for name, requires, extras in (
            ("made-up-app", ["made-up-server[fast]>=1"], ""),
            ("made-up-server", ['made-up-loop>=1; extra == "fast"'], "fast"),
            ("made-up-loop", [], ""),
        ):
            place = folder / name
            place.mkdir(exist_ok=True)
            file = wheel(place, name.replace("-", "_"), version, *requires, extras=extras)
            if version == "1.0":
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                lines.append(f"{name}==1.0 --hash=sha256:{digest}\n")
    lock = tmp_path_factory.mktemp("lock") / "made-up.lock"
    lock.write_text("".join(lines))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", lock
        server.shutdown()
        thread.join()


DEBIAN_12 = "23.0.1"
"""The version of pip that Debian 12 ships."""


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Debian 12's pip and the newest pip, from the machine's usual index.

    Both are unpacked: from its wheel, pip would be compiled again at each start.
    """
    folder = tmp_path_factory.mktemp("pips")
    for need in (f"pip=={DEBIAN_12}", "pip"):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-cache-dir",
                "--retries",
                "0",
                "-d",
                str(folder),
                need,
            ],
            env=isolation.for_downloads(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            pytest.skip("no package index can be reached")
    old = folder / f"pip-{DEBIAN_12}-py3-none-any.whl"
    (newest,) = set(folder.glob("pip-*.whl")) - {old}
    for wheel_file, name in ((old, "debian-12"), (newest, "newest")):
        with zipfile.ZipFile(wheel_file) as packed:
            packed.extractall(folder / name)
    return folder


@pytest.fixture
def pip(request: pytest.FixtureRequest) -> list[str]:
    """The command for the pip of a parameter: this environment's, Debian 12's or the newest."""
    if request.param == "here":
        return [sys.executable, "-m", "pip"]
    folder: Path = request.getfixturevalue("download")
    return [sys.executable, str(folder / request.param / "pip")]


@pytest.mark.parametrize("pip", ["here", "debian-12", "newest"], indirect=True)
def test_the_pinned_release_is_installed(
    pip: list[str], index: tuple[str, Path], tmp_path: Path
) -> None:
    """If newer releases exist, also of packages with extras, every command installs the pinned ones."""
    url, lock = index
    environment = {
        **os.environ,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": url,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
    }
    # What is built without an index was downloaded before, by a command with hashes.
    ways = {tuple(options(command)) for command in installing() if "--no-index" not in command}
    for number, flags in enumerate(ways):
        place = tmp_path / str(number)
        done = subprocess.run(
            [*pip, "install", *flags, "--target", str(place), "-r", str(lock)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        seen = {
            canonicalize_name(one.metadata["Name"]): one.version
            for one in metadata.distributions(path=[str(place)])
        }
        assert seen == dict.fromkeys(("made-up-app", "made-up-server", "made-up-loop"), "1.0")


WIDER = ROOT / "requirements-postgresql.lock"


@pytest.mark.parametrize("python", locks.pythons())
def test_the_lock_of_each_python(download: Path, python: str, tmp_path: Path) -> None:
    """For each Python, pip selects the pinned versions, although newer releases are available.

    This test uses the lock for PostgreSQL, which includes the other lock: see the next test.
    """
    lock, _ = locks.pins(WIDER.read_text())
    for name in lock:
        wheel(tmp_path, name.replace("-", "_"), "9999.0", extras="async standard toml")
    environment = isolation.for_downloads()
    environment["PIP_FIND_LINKS"] = f"{environment.get('PIP_FIND_LINKS', '')} {tmp_path}".strip()
    done = subprocess.run(
        [sys.executable, download / "newest/pip", "install", "--quiet", "--dry-run", "--report", "-",
         "--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version", python,
         "--target", str(tmp_path / "place"), "--cache-dir", str(download / "cache"),
         "-r", str(WIDER)],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    here = {"python_version": python, "python_full_version": f"{python}.9"}
    expected = {pin.name: pin.version for pin in lock.values() if pin.applies(here)}
    assert {canonicalize_name(one["name"]): one["version"] for one in told} == expected


def test_the_lock_for_postgresql_holds_the_other_one() -> None:
    """The lock for PostgreSQL has all of requirements.lock, with markers and hashes, and psycopg."""

    def pins_of(file: Path) -> set[str]:
        text = re.sub(r"^ *#.*\n", "", file.read_text(), flags=re.MULTILINE)
        return set(re.findall(r"^\S.*\n(?: .*\n)*", text, flags=re.MULTILINE))

    more = pins_of(WIDER) - pins_of(ROOT / "requirements.lock")
    assert pins_of(ROOT / "requirements.lock") < pins_of(WIDER)
    assert {re.split(r"[=\[]", pin)[0] for pin in more} == {"psycopg", "psycopg-binary"}
