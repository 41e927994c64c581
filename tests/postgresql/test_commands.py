"""Commands on PostgreSQL as real processes: the password, the export, and what `check` reports."""

import json
from typing import Any

import pytest

from syncd.preflight.local import database_lines
from syncd.store.db import postgresql
from tests.conftest import Rig
from tests.postgresql.server import PASSWORD, Server


def test_a_story(live: Rig) -> None:
    """The commands work on PostgreSQL, leave no database file, and never show the password."""
    paid, odd = live.pay("succeeded"), live.pay("succeeded", rows=(10.0,))
    live.once()
    done = {}
    for arguments in (
        ("--once",),
        ("status", "--json"),
        ("attention", "--json"),
        ("resync", paid),
        ("attention", "dismiss", odd, "--note", "known"),
        ("--backfill", "2d"),
        ("audit", "--since", "2d"),
        ("check",),
        ("export",),
        ("bugreport", "-"),
    ):
        ran = live.command(*arguments)
        assert ran.returncode in (0, 1), (arguments, ran.stdout, ran.stderr)
        assert PASSWORD not in ran.stdout + ran.stderr
        done[arguments[0]] = ran.stdout
    assert (live.statuses(paid), live.statuses(odd)) == ([3], [1])
    exported = [json.loads(line) for line in done["export"].splitlines()]
    assert {paid, odd} <= {line.get("intent_id") for line in exported}
    assert odd in done["attention"]
    assert "PostgreSQL 15" in done["check"]
    assert not list(live.folder.glob("*.db"))


def test_a_command_never_creates_the_tables(live: Rig, shared_server: Server) -> None:
    """On an empty database, `syncd status` exits with 78 and creates no tables."""
    done = live.command("status")
    assert done.returncode == 78
    assert "is empty: syncd has not run with it yet" in done.stderr
    found = shared_server.ask(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", live.url.rpartition("/")[2]
    )
    assert found == [(0,)]


@pytest.mark.parametrize(
    "change",
    [
        ("//syncd@", "//syncd:hunter2@"),
        ("//syncd@", "//syncd:@"),
        ("//syncd@", "//syncd:hunter2/more@"),
        ("/syncd_", "/?password=hunter2&dbname=syncd_"),
        ("/syncd_", "/?pass%77ord=hunter2&dbname=syncd_"),
        ("/syncd_", "/?sslpassword=hunter2&dbname=syncd_"),
        ("/syncd_", "/?scram_client_key=hunter2&dbname=syncd_"),
        ("/syncd_", "/?scram_server_key=hunter2&dbname=syncd_"),
        ("/syncd_", "/?oauth_client_secret=hunter2&dbname=syncd_"),
    ],
)
def test_a_password_in_the_url(live: Rig, change: tuple[str, str]) -> None:
    """A password in `state.url` is refused with a remedy, and not shown."""
    done = live.command("status", extra={"SYNCD_STATE__URL": live.url.replace(*change)})
    assert done.returncode == 78
    assert "must not contain a password. Use the secret database_password" in done.stderr
    assert "hunter2" not in done.stderr


def test_ways_to_give_the_password(live: Rig) -> None:
    """The password may be a credential, a file beside the configuration, or in PostgreSQL's password file."""
    live.once()
    without = {"SYNCD_DATABASE_PASSWORD": ""}
    refused = live.command("status", extra=without)
    assert (refused.returncode, "no password supplied" in refused.stderr) == (78, True)
    credentials = live.folder / "credentials"
    credentials.mkdir()
    (credentials / "database_password").write_text(PASSWORD + "\n")
    given = without | {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert live.command("attention", extra=given).returncode == 0
    passwords = live.folder / "pgpass"
    passwords.write_text(f"*:*:*:syncd:{PASSWORD}\n")
    passwords.chmod(0o600)
    assert live.command("attention", extra=without | {"PGPASSFILE": str(passwords)}).returncode == 0
    file = live.folder / "config.toml"
    file.write_text("")
    (live.folder / "database_password").write_text(PASSWORD)
    (live.folder / "database_password").chmod(0o600)
    done = live.command("--config", str(file), "attention", extra=without)
    assert done.returncode == 0, done.stderr
    file.write_text('[state]\ndatabase_password = "hunter2"\n')
    done = live.command("--config", str(file), "status")
    assert done.returncode == 78
    assert "a secret must not be in the file" in done.stderr


def test_a_service_file(live: Rig) -> None:
    """PostgreSQL's service file may name the server, the database and the user; its password file works."""
    live.once()
    server, _, name = live.url.partition("@")[2].partition("/")
    host, _, port = server.partition(":")
    services, passwords = live.folder / "services", live.folder / "pgpass"
    services.write_text(f"[ours]\nhost={host}\nport={port}\ndbname={name}\nuser=syncd\n")
    passwords.write_text(f"{host}:{port}:{name}:syncd:{PASSWORD}\n")
    passwords.chmod(0o600)
    given = {
        "PGSERVICEFILE": str(services),
        "PGPASSFILE": str(passwords),
        "SYNCD_DATABASE_PASSWORD": "",
    }
    by_url = {"SYNCD_STATE__URL": "postgresql:///?service=ours"}
    by_variable = {"SYNCD_STATE__URL": "postgresql://", "PGSERVICE": "ours"}
    for way in (by_url, by_variable):
        done = live.command("attention", extra={**given, **way})
        assert done.returncode == 0, (way, done.stderr)


def test_another_address(live: Rig) -> None:
    """The URL may name several servers: one that is down, or that is only a replica, is passed over."""
    paid = live.pay("succeeded")
    live.once()
    several = live.url.replace("@", "@127.0.0.1:9,") + "?target_session_attrs=read-write"
    live.settings["SYNCD_STATE__URL"] = several
    later = live.pay("succeeded")
    assert live.command("--once").returncode == 0
    assert (live.statuses(paid), live.statuses(later)) == ([3], [3])


def test_a_server_that_is_down(live: Rig) -> None:
    """If the database cannot be reached, a command exits with 69: a retry may succeed."""
    done = live.command(
        "status", extra={"SYNCD_STATE__URL": "postgresql://syncd@127.0.0.1:9/syncd"}
    )
    assert (done.returncode, "cannot be used at the moment" in done.stderr) == (69, True)


@pytest.mark.parametrize(
    ("facts", "levels"),
    [
        ({"local": True, "encrypted": False}, ["pass", "pass"]),
        ({"local": False, "encrypted": True}, ["pass", "pass"]),
        ({"local": False, "encrypted": False}, ["pass", "warn"]),
        ({"local": True, "encrypted": False, "fsync": "off"}, ["pass", "pass", "fail"]),
    ],
)
def test_check_names_what_is_not_safe(
    url: str, facts: dict[str, Any], levels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` warns of an unencrypted connection to another machine, and fails if fsync is off."""
    real = postgresql.facts
    monkeypatch.setattr(postgresql, "facts", lambda connection: real(connection) | facts)
    assert [str(line.level) for line in database_lines(url, PASSWORD)] == levels


def test_check_says_what_is_wrong(url: str) -> None:
    """A database that refuses the password fails the check; one that does not answer is a warning."""
    (wrong,) = database_lines(url, "wrong")
    assert (str(wrong.level), "password authentication failed" in wrong.text) == ("fail", True)
    (away,) = database_lines("postgresql://syncd@127.0.0.1:9/syncd", None)
    assert str(away.level) == "warn"


def test_only_loopback_is_local(url: str, shared_server: Server) -> None:
    """For `check`, a Unix socket and a loopback address do not leave this machine."""
    (_, way) = database_lines(url, PASSWORD)
    assert way.text == "does not leave this machine"
    name = url.rpartition("/")[2]
    socket = f"postgresql://syncd@/{name}?host={shared_server.folder}&port={shared_server.port}"
    (_, way) = database_lines(socket, None)
    assert way.text == "does not leave this machine"
