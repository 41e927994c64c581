"""The commands of docs/two-machines.md, run as written."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, Rig
from tests.documents import Machine, blocks, in_sentences, installed, old_payment
from tests.postgresql.server import Server
from tests.test_process import until

GUIDE = ROOT / "docs" / "two-machines.md"


def statements(word: str) -> list[str]:
    """The commands of the guide that contain a word."""
    found = [s for b in blocks(GUIDE) if b.kind == "sh" for s in b.statements()]
    return [statement for statement in found if word in statement]


def as_postgres(server: Server, folder: Path, statement: str, typed: str = "") -> str:
    """Run a command of the guide as the server's administrator; returns the output."""
    (folder / "bin").mkdir(exist_ok=True)
    sudo = folder / "bin/sudo"
    sudo.write_text('#!/bin/sh\n[ "$1 $2" = "-u postgres" ] && shift 2 && exec "$@"\n')
    sudo.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", statement], input=typed, capture_output=True, text=True,
        check=False, timeout=60, cwd=folder, start_new_session=True,
        env={
            "PATH": f"{folder}/bin:{os.environ['PATH']}", "PGHOST": str(server.folder),
            "PGPORT": str(server.port), "PGUSER": "postgres", "LC_ALL": "C.UTF-8",
        },
    )  # fmt: skip
    assert done.returncode == 0, (statement, done.stdout, done.stderr)
    return done.stdout


def test_set_up(live: Rig, server: Server) -> None:
    """The guide's commands create a user and a database with which syncd works."""
    server.ask("DROP ROLE syncd", "postgres")
    for statement in statements("sudo -u postgres create"):
        as_postgres(server, live.folder, statement, "open sesame\nopen sesame\n")
    live.database, live.password = server.url("syncd"), "open sesame"
    paid = live.pay("succeeded")
    live.once()
    assert live.statuses(paid) == [3]
    checked = live.command("check")
    assert "PostgreSQL" in checked.stdout


def test_the_files_it_names(tmp_path: Path) -> None:
    """The lock file and the credential that the guide names exist."""
    text = GUIDE.read_text()
    assert shutil.copy(ROOT / "requirements-postgresql.lock", tmp_path)
    for unit in ("syncd.service", "syncd@.service"):
        assert "#LoadCredential=database_password:" in (ROOT / "systemd" / unit).read_text()
    for lock in re.findall(r"[\w-]+\.lock", text):
        assert (ROOT / lock).exists()


@pytest.mark.slow
def test_every_command(machine: Machine, server: Server, tmp_path: Path) -> None:
    """The commands of the guide run as written on a machine with SQLite; then syncd moves back.

    A database is copied before `state.url` names the server, as in the guide.
    """
    payment = old_payment(machine.box)
    installed(machine)
    machine.run("syncd --backfill 90d")
    server.ask("DROP ROLE syncd", "postgres")
    machine.names = {"db.example.com:5432": f"{server.listen}:{server.port}"}
    machine.environment["SYNCD_DATABASE_PASSWORD"] = "open sesame"
    config = machine.folder / "etc/syncd/config.toml"
    left = [s for b in blocks(GUIDE) if b.kind == "sh" for s in b.statements()]

    def run(*words: str) -> str:
        (statement, *_) = [one for one in left if all(word in one for word in words)]
        left.remove(statement)
        if statement.startswith("sudo"):
            return as_postgres(server, tmp_path, statement, "open sesame\nopen sesame\n")
        return machine.run(statement)

    for word in ("createuser", "createdb", "pip install", "systemctl stop", "syncd copy"):
        run(word)
    machine.fill_in(config, f'[state]\nurl = "{server.url("syncd")}"\n')
    assert "PostgreSQL" in run("syncd check")
    run("systemctl restart")
    until(lambda: "Leads" in machine.run("syncd status", codes=(0, 1)))
    assert "Leads" in run("syncd status")
    assert left == []
    assert payment in machine.run("syncd export")
    machine.run("systemctl stop syncd")
    (machine.folder / "var/lib/syncd/syncd.db").rename(machine.folder / "old")
    machine.run("syncd copy sqlite:////var/lib/syncd/syncd.db")
    for statement in in_sentences(GUIDE):
        if statement.startswith("chown"):
            machine.run(statement)
    machine.fill_in(config)
    machine.run("systemctl start syncd")
    assert payment in machine.run("syncd export")
