"""The systemd units: hardened, valid, each line explained, and both units alike."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLAIN, TEMPLATE = ROOT / "systemd/syncd.service", ROOT / "systemd/syncd@.service"
both = pytest.mark.parametrize("unit", [PLAIN, TEMPLATE], ids=["plain", "template"])
analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze isn't installed here"
)


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@analyze
@both
def test_exposure(unit: Path, tmp_path: Path) -> None:
    """Systemd's exposure level is 1.2 or less; with less hardening the check would fail."""
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager")
    done = _run(*command, "--threshold=12", str(unit))
    assert done.returncode == 0, done.stdout + done.stderr
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(level) <= 1.2
    softer = tmp_path / unit.name
    softer.write_text(unit.read_text().replace("CapabilityBoundingSet=\n", ""))
    assert _run(*command, "--threshold=12", str(softer)).returncode != 0


@analyze
@both
def test_it_is_sound(unit: Path, tmp_path: Path) -> None:
    """Systemd's verification of the unit reports no problem, and would report one."""
    copy = tmp_path / unit.name.replace("@.", "@acme.")
    text = unit.read_text()
    # The program itself isn't installed where tests run.
    copy.write_text(re.sub(r"^(Exec\w+)=/opt\S+", r"\1=/bin/true", text, flags=re.MULTILINE))
    done = _run("systemd-analyze", "verify", "--man=no", str(copy))
    about_us = [line for line in done.stderr.splitlines() if "syncd" in line]
    assert about_us == []
    copy.write_text(copy.read_text() + "ProtectEverything=yes\n[Nonsense]\n")
    done = _run("systemd-analyze", "verify", "--man=no", str(copy))
    assert "syncd" in done.stderr


@both
def test_every_line_has_its_reason(unit: Path) -> None:
    """Each hardening line is in a group of at most six lines, below a comment with the reason."""
    hardening = unit.read_text().partition("# A user that exists")[2].partition("[Install]")[0]
    reason, unexplained, group = True, [], 0
    for line in hardening.splitlines()[1:]:
        if line.startswith("# "):
            reason, group = True, 0
        elif not line:
            reason = False
        elif not line.startswith("#"):
            group += 1
            if not reason or group > 6:
                unexplained.append(line)
    assert unexplained == []
    assert len(re.findall(r"^\w+=", hardening, flags=re.MULTILINE)) > 25


def test_one_like_the_other() -> None:
    """The template differs from the plain unit only in names."""
    plain, template = (
        text.partition("[Unit]")[2] for text in map(Path.read_text, (PLAIN, TEMPLATE))
    )
    for theirs, ours in (
        (" (%i)", ""),
        ("/etc/syncd/%i/", "/etc/syncd/"),
        ("syncd-%i", "syncd"),
        ("syncd-acme", "syncd"),
    ):
        assert theirs in template
        template = template.replace(theirs, ours)
    assert template == plain


def test_what_the_program_relies_on() -> None:
    """The unit has the settings that syncd needs: notify, reload, exit codes, secrets, folder."""
    lines = PLAIN.read_text().splitlines()
    for line in (
        "Type=notify",
        "NotifyAccess=main",
        """ExecReload=/bin/sh -c 'kill -HUP "$$MAINPID"'""",
        "ExecReload=/opt/syncd/bin/syncd config validate --without-secrets --config /etc/syncd/config.toml",
        "Restart=on-failure",
        "RestartPreventExitStatus=2 78",
        "DynamicUser=yes",
        "StateDirectory=syncd",
        "StateDirectoryMode=0700",
        "UMask=0077",
        "LoadCredential=stripe_api_key:/etc/syncd/stripe_api_key",
        "LoadCredential=halo_client_secret:/etc/syncd/halo_client_secret",
        "ExecStart=/opt/syncd/bin/syncd --config /etc/syncd/config.toml",
    ):
        assert line in lines
