"""The wheel, installed into its own environment: tests run what is shipped."""

import email
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from syncd import __version__
from tests.conftest import ROOT, Rig


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `syncd` of an environment that has only the wheel and its dependencies."""
    place = tmp_path_factory.mktemp("environment")
    make = [sys.executable, "-m", "venv", "--without-pip", str(place)]
    subprocess.run(make, check=True, timeout=60)
    python = place / "bin" / "python"
    install = [
        sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check",
        "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel),
    ]  # fmt: skip
    subprocess.run(install, check=True, timeout=60)
    # A .pth file inside another .pth file's folder is not read, so the source folder stays invisible.
    (site,) = place.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin" / "syncd"


def test_what_is_inside(wheel: Path) -> None:
    """The wheel has the whole program, with migrations and types, and no tests or benchmarks."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "syncd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = {name for name in names if f"syncd-{__version__}.dist-info/" in name}
    shared = {name for name in names if "/data/share/" in name}
    assert {name.partition("/data/")[2] for name in shared} == {
        "share/man/man8/syncd.8",
        "share/syncd/config.schema.json",
    }
    assert names - info - shared == source
    assert {
        "syncd/py.typed",
        "syncd/store/db/migrations/env.py",
        "syncd/sandbox/stripe/service.py",
    } <= source
    assert any(name.startswith("syncd/store/db/migrations/versions/v0005") for name in source)
    assert f"syncd-{__version__}.dist-info/licenses/LICENSE" in info


def test_what_it_says_of_itself(wheel: Path) -> None:
    """The wheel's metadata names the version, the dependencies and the command."""
    with zipfile.ZipFile(wheel) as archive:
        folder = f"syncd-{__version__}.dist-info"
        told = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
        commands = archive.read(f"{folder}/entry_points.txt").decode()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (told["Name"], told["Version"]) == ("syncd", __version__)
    needed = {re.split(r"[<>=\[ ]", need)[0] for need in project["dependencies"]}
    listed = [need for need in told.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert {re.split(r"[<>=\[ ]", need)[0] for need in listed} == needed
    assert "syncd = syncd.__main__:main" in commands


def test_it_runs(installed: Path, live: Rig) -> None:
    """The installed program prints its version, creates its database, and pushes."""
    payment = live.pay("succeeded")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SYNCD_", "PYTHON"))}
    empty = live.folder / "empty.toml"
    empty.touch()  # instead of the machine's own configuration
    environment = {**clean, **live.environment(), "SYNCD_CONFIG": str(empty)}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            arguments,
            env=environment,
            cwd=live.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    where = run(str(installed.parent / "python"), "-c", "import syncd; print(syncd.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(installed.parents[1])
    version = run(str(installed), "--version")
    assert (version.stdout, version.returncode) == (f"syncd {__version__}\n", 0)
    done = run(str(installed), "--once")
    assert done.returncode == 0, done.stderr
    assert live.statuses(payment) == [3]
