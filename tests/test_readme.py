"""Every command of the README is run here as a new user would: see `documents` for the machine.

Not run are ``make demo`` and ``make test``: `.ci/run` calls both in a bare Debian, which a test checks.
test_demo runs ``make demo``; ``make test`` runs this test.
"""

import re
import subprocess
import tomllib

import pytest

from syncd import __version__
from tests.documents import (
    ROOT,
    Machine,
    blocks,
    held,
    old_payment,
    written_by_halo,
)

BLOCKS = [block.statements() for block in blocks(ROOT / "README.md") if block.kind == "sh"]

WITH_PIP = next(
    block.statements()
    for block in blocks(ROOT / "docs/install.md")
    if "/opt/syncd/bin/pip" in block.text
)

SECRETS = {"stripe_api_key": "rk_test_sandbox", "halo_client_secret": "sandbox-client-secret"}


def test_two_commands_first() -> None:
    """The README starts with two commands, and CI runs the same commands."""
    assert BLOCKS[:2] == [["make demo"], ["make test"]]
    lines = re.findall(
        r"^(?:timeout --kill-after=\d+ \d+ )?\.ci/bare (.*)$",
        (ROOT / ".ci/run").read_text(),
        re.MULTILINE,
    )
    called = [command for line in lines for command in re.findall(r'"(make [^"]*)"', line)]
    assert called == ["make demo", "make quick", "make test"]


@pytest.mark.parametrize("target", [".venv/installed", ".venv-dev/installed", ".venv-lock/bin/uv"])
def test_a_machine_without_venv(target: str) -> None:
    """If Python's venv module is missing, make says in one sentence what to install."""
    done = subprocess.run(
        ["make", "--silent", "--always-make", "PYTHON=/bin/false", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (sentence,) = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert "apt install python3-venv" in sentence


def test_lock() -> None:
    """The lock has hashes for each package, no index, and every dependency of the program."""
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    pinned = {}
    for entry in entries:
        if entry.startswith("#"):
            continue
        name, version = re.match(r"([\w.\-\[\]]+)==([\w.]+)", entry).groups()  # type: ignore[union-attr]
        pinned[name.partition("[")[0]] = version
        assert "--hash=sha256:" in entry
    assert "index-url" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=\[ ]", need)[0] for need in project["dependencies"]}
    assert needed <= set(pinned)


@pytest.mark.slow
def test_from_a_clone_to_a_payment_put_right(machine: Machine) -> None:
    """The commands of the README in order; a payment is held, and a person corrects it."""
    box, paid = machine.box, machine.box.halo.status["succeeded"]
    written_by_halo(box)
    old, needs, other = old_payment(box), held(box), held(box)
    row = box.halo.rows_of(needs)[0]
    said = {}
    for statement in WITH_PIP:  # instead of the package, which tests/package installs
        machine.run(statement)
    for statement in [statement for block in BLOCKS for statement in block]:
        command = statement.partition("#")[0].strip()
        machine.names["pi_…"] = other if "dismiss" in command else needs
        if "retry" in command:
            row["amount"] = 10.99
        finds_something = command in ("syncd status", "syncd attention") or re.match(
            r"syncd (--backfill|audit) ", command
        )
        said[command] = machine.run(statement, codes=(1,) if finds_something else (0,))
        if "--dry-run" in command:
            assert box.halo.writes == []
    assert f"syncd {__version__}\n" == machine.run("syncd --version")
    assert needs in said["syncd attention"]
    assert [box.halo.rows_of(one)[0]["status"] for one in (old, needs, other)] == [paid, paid, 1]
    machine.run("syncd attention", codes=(0,))  # one payment was corrected, the other dismissed
    (asked,) = [text for command, text in said.items() if command.startswith("curl")]
    assert '"status":"ok"' in asked.replace(" ", "")
    assert f"Written: {machine.folder}/etc/syncd/config.toml" in said["syncd init"]
    for name, value in SECRETS.items():
        secret = machine.folder / "etc/syncd" / name
        assert (secret.read_text().strip(), secret.stat().st_mode & 0o777) == (value, 0o600)
    unit = machine.folder / "etc/systemd/system/syncd.service"
    assert unit.read_bytes() == (ROOT / "systemd/syncd.service").read_bytes()
