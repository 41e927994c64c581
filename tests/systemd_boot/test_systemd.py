"""The shipped unit under a real systemd, booted in a container over a copy of this machine.

One boot answers all questions (exam.py asks them inside); each test judges one. The machine's own
files are only read: the container's root is an overlay that is thrown away. Needs root and Debian's
systemd-container; skipped, with the reason, where they are missing.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.conftest import ROOT

SITE = Path(stripe.__file__).parents[1]
HERE = Path(__file__).parent
EXAM_UNIT = """[Unit]
Description=Questions to the service
[Service]
Type=oneshot
ExecStart=/opt/syncd/bin/exam
ExecStopPost=systemctl --no-block poweroff
StandardOutput=file:/out/said
StandardError=inherit
TimeoutStartSec=170
"""


@contextmanager
def machine_bound_to(folder: Path) -> Iterator[None]:
    """The machine's root, seen at an empty folder; nspawn lays an overlay over it."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "--bind", "/", folder], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def stage(folder: Path) -> list[str]:
    """Lay out /opt/syncd and /etc/syncd as an installation has them; returns nspawn's binds.

    The service can't see homes, and the interpreter that runs the tests may live in one: so it is
    shown to the container at a place of its own.
    """
    interpreter = f"python{sys.version_info.major}.{sys.version_info.minor}"
    python, binds = f"{sys.base_prefix}/bin/{interpreter}", []
    if sys.base_prefix != "/usr":
        python, binds = f"/opt/python/bin/{interpreter}", [f"{sys.base_prefix}:/opt/python"]
    programs = folder / "bin"
    programs.mkdir()
    for name, arguments in {
        "syncd": "-m syncd",
        "exam": "/opt/exam/exam.py",
        "probe": "/opt/exam/probe.py",
    }.items():
        (programs / name).write_text(
            "#!/bin/sh\nexport PYTHONPATH=/opt/tree:/opt/site PYTHONDONTWRITEBYTECODE=1 "
            "LD_LIBRARY_PATH=/opt/python/lib\n"
            f'exec {python} {arguments} "$@"\n'
        )
        (programs / name).chmod(0o755)
    (folder / "exam.service").write_text(EXAM_UNIT)
    (folder / "etc").mkdir()
    (folder / "out").mkdir()
    binds += [
        f"{programs}:/opt/syncd/bin",
        f"{ROOT / 'syncd'}:/opt/tree/syncd",
        f"{SITE}:/opt/site",
        f"{HERE}:/opt/exam",
        f"{ROOT / 'systemd/syncd.service'}:/etc/systemd/system/syncd.service",
        f"{folder / 'exam.service'}:/etc/systemd/system/exam.service",
    ]
    return [
        *(f"--bind-ro={bind}" for bind in binds),
        f"--bind={folder / 'etc'}:/etc/syncd",
        f"--bind={folder / 'out'}:/out",
    ]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the exam saw: of one boot, however many workers ask."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a container")
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("Debian's package systemd-container isn't there")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    result = shared / "seen-under-systemd.json"
    with (shared / "boot.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            shutil.copyfile(boot(tmp_path_factory.mktemp("boot")), result)
    found: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return found


def boot(folder: Path) -> Path:
    """Boot, let the exam ask, and power off; returns the file with the answers."""
    binds = stage(folder)
    with machine_bound_to(folder / "root"):
        done = subprocess.run(
            [
                "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
                "--volatile=overlay",
                f"--directory={folder / 'root'}", *binds, "--boot", "systemd.unit=exam.service",
            ],
            check=False, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    result, said = folder / "out" / "seen.json", folder / "out" / "said"
    told = said.read_text("utf-8") if said.exists() else ""
    assert result.exists(), f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}\n{told[-3_000:]}"
    return result


def test_exit_78_is_not_restarted(seen: dict[str, Any]) -> None:
    """A wrong configuration: the start fails, and systemd leaves it at that."""
    found = seen["wrong_configuration"]
    assert found["start"] != 0
    assert (found["ActiveState"], found["SubState"], found["NRestarts"]) == (
        "failed",
        "failed",
        "0",
    )
    assert found["ExecMainStatus"] == "78"
    assert "nonsense" in found["StatusText"]


def test_active_only_after_a_successful_start(seen: dict[str, Any]) -> None:
    """While its database can't be opened it is activating; then it is active, and says so once."""
    found = seen["first_start"]
    assert (found["while_locked"]["ActiveState"], found["while_locked"]["started"]) == (
        "activating",
        0,
    )
    assert (found["active"], found["then"]["SubState"], found["started"]) == (True, "running", 1)


def test_credentials(seen: dict[str, Any]) -> None:
    """It signs in with secrets that stand neither in its environment nor in its log."""
    found = seen["credentials"]
    assert found["pushed"]
    assert "CREDENTIALS_DIRECTORY" in found["environment"]
    assert found["secrets_in_environment"] == []
    assert found["secrets_in_journal"] == []
    assert found["credentials"] == ["halo_client_secret", "stripe_api_key"]
    assert found["user"] >= 61_184  # of systemd's dynamic users


def test_where_it_may_write(seen: dict[str, Any]) -> None:
    """Its state directory and a /tmp of its own; and what else is forbidden is."""
    found = seen["where_it_may_write"]
    assert found["start"] == 0
    assert found["writable"] == ["/var/lib/syncd", "/tmp", "/var/tmp"]
    assert [what for what, possible in found["can"].items() if possible] == []
    assert int(found["capabilities"], 16) == 0
    assert (found["no_new_privileges"], found["seccomp"]) == ("1", "2")
    assert (found["database_mode"], found["folder_mode"]) == ("0o600", "0o700")


def test_reload(seen: dict[str, Any]) -> None:
    """A reload changes what can change in the running process; a bad file changes nothing.

    A bad file is refused before the service reads it, and by the service too, where a signal asks it.
    """
    found = seen["reload"]
    assert (found["held"], found["reload"], found["pushed"]) == (True, 0, True)
    process = found["before"]["MainPID"]
    assert process != "0"
    for moment in ("after", "kept"):
        assert (found[moment]["ActiveState"], found[moment]["MainPID"]) == ("active", process)
    assert (found["bad"], found["named"], found["unasked"]) == (1, True, True)
    assert found["refused"]


def test_priorities_in_the_journal(seen: dict[str, Any]) -> None:
    """The journal knows the priority of each line: a hold is a warning, a start is not."""
    assert seen["reload"]["urgent"] == ["held"]


def test_a_hang_ends_by_the_watchdog(seen: dict[str, Any]) -> None:
    """Working, it feeds the watchdog; hanging, it is ended and started again, and goes on."""
    found = seen["hang"]
    assert found["fed"]["MainPID"] == found["before"]["MainPID"]
    assert (found["again"], found["pushed"]) == (True, True)
    assert found["after"]["MainPID"] != found["before"]["MainPID"]
    assert any("Watchdog timeout" in line for line in found["journal"])


def test_killed_and_started_again(seen: dict[str, Any]) -> None:
    """Killed by somebody, it is started again and goes on."""
    assert seen["killed"] == {"again": True, "pushed": True}


def test_drains_on_stop(seen: dict[str, Any]) -> None:
    """Stopped during a push: its answer is waited for and written down, within ten seconds."""
    found = seen["drain"]
    assert (found["under_way"], found["stop"], found["status"]) == (True, 0, 3)
    assert found["condition"] == ["in_step"]
    assert 1 < found["seconds"] < 10
    assert (found["ActiveState"], found["Result"], found["ExecMainStatus"]) == (
        "inactive",
        "success",
        "0",
    )


def test_encrypted_secrets(seen: dict[str, Any]) -> None:
    """`syncd init --encrypt`: no secret lies in the clear, and the service and the commands read them."""
    found = seen["encrypted"]
    if "can't encrypt" in found["init"][1]:
        pytest.skip(f"systemd-creds can't encrypt here: {found['init'][1].strip()[-200:]}")
    assert found["init"][0] == 0, found["init"][1]
    assert found["files"] == ["config.toml", "halo_client_secret.cred", "stripe_api_key.cred"]
    assert found["in_the_clear"] == []
    assert (found["start"], found["pushed"], found["ActiveState"]) == (0, True, "active")
    assert found["credentials"] == ["halo_client_secret", "stripe_api_key"]
    assert found["check"][0] == 0, found["check"][1]
