"""The Debian package in a booted Debian 12: installed, set up, upgraded, removed, purged.

One boot takes all steps (exam.py runs inside); each test checks one step. The tests need root, debootstrap,
systemd-nspawn and debhelper; without them they are skipped, with the reason.
"""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from syncd import __version__
from tests.conftest import ROOT
from tests.isolation import for_downloads
from tests.package.reach import roomy

HERE = Path(__file__).parent
NEWER = f"{__version__}+next"

EXAM_UNIT = """[Unit]
Description=Installs, upgrades, removes and purges the package
[Service]
Type=oneshot
Environment=PYTHONPATH=/opt/tree PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/python3 /opt/exam/exam.py
ExecStopPost=systemctl --no-block poweroff
StandardOutput=file:/out/said
StandardError=inherit
TimeoutStartSec=400
"""


def built() -> Path:
    """The package, built from the sources by `make deb`, in memory because of its thousands of files."""
    with TemporaryDirectory(prefix="syncd-deb-", dir=roomy()) as folder:
        done = subprocess.run(
            ["make", "--silent", "deb"],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            env={**for_downloads(), "BUILD": f"{folder}/build"},
            timeout=900,
        )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return ROOT / done.stdout.split()[-1]


def repacked(package: Path, folder: Path, version: str) -> Path:
    """The same package as a newer version."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(
        control.read_text().replace(f"Version: {__version__}", f"Version: {version}")
    )
    made = folder / "second.deb"
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, made],
        check=True,
        capture_output=True,
    )
    shutil.rmtree(tree)
    return made


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's file, from one build for all workers."""
    for program in ("dh", "dpkg-buildpackage"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} isn't there: apt install debhelper dpkg-dev")
    if not Path("/usr/bin/python3").exists():
        pytest.skip("Debian's own Python isn't there")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / "deb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = shared / "syncd.deb"
        if not kept.exists():
            shutil.copyfile(built(), kept)
    return kept


@pytest.fixture(scope="module")
def seen(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the exam recorded, from one boot for all workers."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a container")
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("Debian's package systemd-container isn't there")
    found = subprocess.run(
        [ROOT / ".ci/debian"], check=False, capture_output=True, text=True, env=for_downloads()
    )
    if found.returncode != 0:
        pytest.skip(f"there is no Debian to boot: {found.stderr.strip().splitlines()[-1]}")
    shared = package.parent
    result = shared / "seen-of-the-package.json"
    with (shared / "package.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            folder = tmp_path_factory.mktemp("package")
            shutil.copyfile(boot(folder, Path(found.stdout.strip()), package), result)
    read: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return read


def boot(folder: Path, debian: Path, package: Path) -> Path:
    """Boot, take the steps, and power off; returns the file with the exam's record."""
    debs, out = folder / "debs", folder / "out"
    debs.mkdir()
    out.mkdir()
    shutil.copyfile(package, debs / "first.deb")
    repacked(package, debs, NEWER)
    (folder / "exam.service").write_text(EXAM_UNIT)
    done = subprocess.run(
        [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
            "--volatile=overlay", f"--directory={debian}", f"--bind-ro={debs}:/debs",
            f"--bind-ro={ROOT / 'syncd'}:/opt/tree/syncd", f"--bind-ro={HERE}:/opt/exam",
            f"--bind-ro={folder / 'exam.service'}:/etc/systemd/system/exam.service",
            f"--bind={out}:/out", "--boot", "systemd.unit=exam.service",
        ],
        check=False, capture_output=True, text=True, timeout=500, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    result, said = out / "seen.json", out / "said"
    told = said.read_text("utf-8") if said.exists() else ""
    assert result.exists(), f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}\n{told[-3_000:]}"
    return result


def test_lintian(package: Path) -> None:
    """Lintian, Debian's package checker, finds no error."""
    if shutil.which("lintian") is None:
        pytest.skip("lintian isn't there")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error", package],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_name(package: Path) -> None:
    """The package's version is the program's; its configuration file is a conffile."""
    field = subprocess.run(
        ["dpkg-deb", "--field", package, "Package", "Version"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert field.split() == ["Package:", "syncd", "Version:", __version__]
    conffiles = subprocess.run(
        ["dpkg-deb", "--info", package, "conffiles"], check=True, capture_output=True, text=True
    ).stdout
    assert conffiles.split() == ["/etc/syncd/config.toml"]


def test_installed(seen: dict[str, Any]) -> None:
    """After the installation: command, units and completions exist; the service is disabled and inactive."""
    found = seen["install"]
    assert found["dpkg"]["code"] == 0, found["dpkg"]["said"]
    assert found["version"] == {"code": 0, "said": f"syncd {__version__}\n"}
    assert (found["UnitFileState"], found["ActiveState"]) == ("disabled", "inactive")
    assert found["driver"] == {"code": 0, "said": "binary\n"}  # for a database of PostgreSQL
    for place in (
        "/usr/bin/syncd",
        "/lib/systemd/system/syncd.service",
        "/usr/share/man/man8/syncd.8.gz",
        "/usr/share/bash-completion/completions/syncd",
        "/usr/share/zsh/vendor-completions/_syncd",
        "/usr/share/fish/vendor_completions.d/syncd.fish",
    ):
        assert (
            place in found["there"] or "/share/man/" in place
        )  # a minimal Debian omits manual pages
    assert found["modes"] == {"/etc/syncd/config.toml": "0o644"}
    assert found["validate"]["code"] == 78
    assert "halo.client_id: must not be empty" in found["validate"]["said"]


def test_set_up(seen: dict[str, Any]) -> None:
    """After init, prove and start as in the README, the service pushes; the secrets have mode 600."""
    found = seen["set_up"]
    for step in ("init", "once", "prove", "enable"):
        assert found[step]["code"] == 0, found[step]["said"]
    assert "  syncd prove\n  systemctl enable --now syncd\n" in found["init"]["said"]
    assert found["pushed"]
    assert (found["UnitFileState"], found["ActiveState"]) == ("enabled", "active")
    assert found["modes"]["/etc/syncd/stripe_api_key"] == "0o600"
    assert found["modes"]["/etc/syncd/halo_client_secret"] == "0o600"
    assert found["owners"] == ["root"]


def test_upgraded(seen: dict[str, Any]) -> None:
    """After an upgrade while it runs, the service is restarted with its configuration, and still pushes."""
    found = seen["upgrade"]
    assert found["dpkg"]["code"] == 0, found["dpkg"]["said"]
    assert (found["active"], found["kept"], found["pushed"]) == (True, True, True)
    assert found["reload"]["code"] == 0, found["reload"]["said"]
    assert found["MainPID"] not in ("0", seen["set_up"]["MainPID"])
    assert found["UnitFileState"] == "enabled"


def test_removed(seen: dict[str, Any]) -> None:
    """After a removal the service is stopped and the program gone; configuration and data stay."""
    found = seen["remove"]
    assert found["dpkg"]["code"] == 0, found["dpkg"]["said"]
    assert found["ActiveState"] == "inactive"
    there = set(found["there"])
    assert {
        "/etc/syncd/config.toml",
        "/etc/syncd/stripe_api_key",
        "/var/lib/private/syncd/syncd.db",
    } <= there
    assert not {"/usr/bin/syncd", "/usr/lib/syncd", "/lib/systemd/system/syncd.service"} & there


def test_purged(seen: dict[str, Any]) -> None:
    """After a purge, which asks no question, no file of syncd is left."""
    found = seen["purge"]
    for step in ("again", "started", "dpkg"):
        assert found[step]["code"] == 0, found[step]["said"]
    assert (found["ActiveState"], found["there"]) == ("inactive", [])
    assert [place for place in found["left"] if not place.startswith("/var/log/journal")] == []
