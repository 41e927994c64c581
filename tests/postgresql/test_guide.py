"""The commands of docs/two-machines.md, run as written."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT, Rig
from tests.documents import blocks
from tests.postgresql.server import Server

GUIDE = ROOT / "docs" / "two-machines.md"


def statements(word: str) -> list[str]:
    """The commands of the guide that contain a word."""
    found = [s for b in blocks(GUIDE) if b.kind == "sh" for s in b.statements()]
    return [statement for statement in found if word in statement]


def as_postgres(server: Server, folder: Path, statement: str, typed: str = "") -> str:
    """Run a command of the guide as the server's administrator; returns what it printed."""
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
    """The guide's commands make a user and a database in which syncd works."""
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
    """The lock, the credential and the key that the guide names are there."""
    text = GUIDE.read_text()
    assert shutil.copy(ROOT / "requirements-postgresql.lock", tmp_path)
    for unit in ("syncd.service", "syncd@.service"):
        assert "#LoadCredential=database_password:" in (ROOT / "systemd" / unit).read_text()
    for lock in re.findall(r"[\w-]+\.lock", text):
        assert (ROOT / lock).exists()
