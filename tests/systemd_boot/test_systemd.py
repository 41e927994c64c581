"""The shipped unit under a real systemd, booted in a container over a copy of this machine.

One boot takes all steps (exam.py runs inside); each test checks one step. The machine's own files are only
read: the container's root is a temporary overlay. The tests need root and Debian's systemd-container;
without them they are skipped, with the reason.
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
    """The machine's root, mounted at an empty folder; nspawn puts an overlay over it."""
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
    """Create /opt/syncd and /etc/syncd as in an installation; returns nspawn's binds.

    The service cannot see home folders, and the interpreter that runs the tests may be in one. So the
    container gets the interpreter at another path.
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
    """What the exam recorded, from one boot for all workers."""
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
    """Boot, let the exam run, and power off; returns the file with its record."""
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
    """With a wrong configuration the start fails with 78, and systemd does not restart the service."""
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
    """While the database is locked the unit is activating; then it is active, and has started once."""
    found = seen["first_start"]
    assert (found["while_locked"]["ActiveState"], found["while_locked"]["started"]) == (
        "activating",
        0,
    )
    assert (found["active"], found["then"]["SubState"], found["started"]) == (True, "running", 1)


def test_credentials(seen: dict[str, Any]) -> None:
    """The service can push, and its secrets are neither in its environment nor in its log."""
    found = seen["credentials"]
    assert found["pushed"]
    assert "CREDENTIALS_DIRECTORY" in found["environment"]
    assert found["secrets_in_environment"] == []
    assert found["secrets_in_journal"] == []
    assert found["credentials"] == ["halo_client_secret", "stripe_api_key"]
    assert found["user"] >= 61_184  # a dynamic user of systemd


def test_where_it_may_write(seen: dict[str, Any]) -> None:
    """The service may write only to its state directory and its own /tmp; the rest is blocked."""
    found = seen["where_it_may_write"]
    assert found["start"] == 0
    assert found["writable"] == ["/var/lib/syncd", "/tmp", "/var/tmp"]
    assert [what for what, possible in found["can"].items() if possible] == []
    assert int(found["capabilities"], 16) == 0
    assert (found["no_new_privileges"], found["seccomp"]) == ("1", "2")
    assert (found["database_mode"], found["folder_mode"]) == ("0o600", "0o700")


def test_reload(seen: dict[str, Any]) -> None:
    """A reload applies changes in the running process; an invalid file changes nothing.

    The unit refuses an invalid file before the service reads it; after SIGHUP, the service refuses it too.
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
    """Each line in the journal has its priority: a hold is a warning, a start is not."""
    assert seen["reload"]["urgent"] == ["held"]


def test_a_hang_ends_by_the_watchdog(seen: dict[str, Any]) -> None:
    """A working service feeds the watchdog; a hanging service is killed and restarted, and pushes again."""
    found = seen["hang"]
    assert found["fed"]["MainPID"] == found["before"]["MainPID"]
    assert (found["again"], found["pushed"]) == (True, True)
    assert found["after"]["MainPID"] != found["before"]["MainPID"]
    assert any("Watchdog timeout" in line for line in found["journal"])


def test_killed_and_started_again(seen: dict[str, Any]) -> None:
    """After SIGKILL the service is restarted and pushes again."""
    assert seen["killed"] == {"again": True, "pushed": True}


def test_drains_on_stop(seen: dict[str, Any]) -> None:
    """If the service is stopped during a push, it waits for the answer and records it, within ten seconds."""
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
    """After `syncd init --encrypt` no secret is in clear text, and syncd can still read the secrets."""
    found = seen["encrypted"]
    if "can't encrypt" in found["init"][1]:
        pytest.skip(f"systemd-creds can't encrypt here: {found['init'][1].strip()[-200:]}")
    assert found["init"][0] == 0, found["init"][1]
    assert found["files"] == ["config.toml", "halo_client_secret.cred", "stripe_api_key.cred"]
    assert found["in_the_clear"] == []
    assert (found["start"], found["pushed"], found["ActiveState"]) == (0, True, "active")
    assert found["credentials"] == ["halo_client_secret", "stripe_api_key"]
    assert found["check"][0] == 0, found["check"][1]
