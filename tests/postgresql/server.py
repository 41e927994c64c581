"""A PostgreSQL server for the tests, in a folder of its own.

PostgreSQL refuses to run as root, so tests that run as root start the server as another user.
"""

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from syncd.store.store import Store
from tests.ports import free_port

ACCOUNT = "nobody"
"""The account that runs the server if the tests run as root."""

START_SECONDS = 60.0
PASSWORD = "the database's password"


def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None if PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found is not None and Path(found).resolve().with_name("postgres").exists():
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    return folders[-1] if folders else None


def missing() -> str | None:
    """Why no server can be started here; None if one can."""
    if programs() is None:
        return "PostgreSQL is not installed (Debian: apt install postgresql)"
    return None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _as_account() -> dict[str, Any]:
    """The user that runs the server's programs, for `subprocess`."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(ACCOUNT)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _own_folder() -> Path:
    """A new folder that belongs to the user that runs the server."""
    folder = Path(tempfile.mkdtemp(prefix="syncd-postgresql-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


@cache
def _cluster() -> Path:
    """The data of a server that has never run, made once in a run of the tests and removed at its end."""
    folder = _own_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    password, data, found = folder / "password", folder / "data", programs()
    password.write_text(PASSWORD)
    password.chmod(0o644)
    assert found is not None
    done = subprocess.run(
        [str(found / "initdb"), "--pgdata", str(data), "--username", "postgres",
         "--encoding", "UTF8", "--locale", "C.UTF-8", "--auth-local", "trust",
         "--auth-host", "scram-sha-256", "--pwfile", str(password), "--no-sync"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **_as_account(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    return data


@dataclass
class Server:
    """A server on loopback; the role `syncd` owns every database and needs PASSWORD.

    Attributes:
        listen: the address it listens on.
    """

    listen: str = "127.0.0.1"
    folder: Path = field(init=False)
    port: int = field(init=False)
    _process: "subprocess.Popen[bytes] | None" = field(init=False, default=None)
    _number: int = field(init=False, default=0)
    _template: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.folder = _own_folder()
        self.port = free_port()
        # `cp` keeps the owner. A copy costs a quarter of the processor time of a new cluster.
        subprocess.run(["cp", "-a", str(_cluster()), str(self.data)], check=True)
        (self.data / "postgresql.auto.conf").write_text(
            f"listen_addresses = '{self.listen}'\nport = {self.port}\n"
            f"unix_socket_directories = '{self.folder}'\nmax_connections = 40\n"
            "shared_buffers = 16MB\nautovacuum = off\n"
        )

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return self.folder / "data"

    def start(self, *before: str) -> None:
        """Start the server, with the command `before` if it is given, and wait until the server answers."""
        found = programs()
        assert found is not None
        assert self._process is None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*before, str(found / "postgres"), "-D", str(self.data)],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                **_as_account(),
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("SELECT 1", "postgres")
            except psycopg.OperationalError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
            else:
                break
        if not self.ask("SELECT 1 FROM pg_roles WHERE rolname = 'syncd'", "postgres"):
            self.ask(f"CREATE ROLE syncd LOGIN PASSWORD {_quoted(PASSWORD)}", "postgres")

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop the server: SIGINT is an orderly stop, SIGKILL kills the server and all its processes."""
        process, self._process = self._process, None
        if process is None:
            return
        if number == signal.SIGKILL:
            for child in [process.pid, *self._others(process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        else:
            process.send_signal(number)
        process.wait(30)

    def restart(self, number: int = signal.SIGINT) -> None:
        """Stop the server (see `stop`) and start it again."""
        self.stop(number)
        self.start()

    def signal_all(self, number: int) -> None:
        """Send a signal to the server and all its processes; SIGSTOP makes the server hang."""
        assert self._process is not None
        for pid in [self._process.pid, *self._others(self._process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _others(self, parent: int) -> list[int]:
        """The server's processes, each of which has a session of its own."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(stat.parent.name))
        return found

    def cpu_seconds(self) -> float:
        """The processor time of all the server's processes so far, also of those that have ended."""
        assert self._process is not None
        ticks = 0
        for pid in [self._process.pid, *self._others(self._process.pid)]:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Stop the server and remove its folder."""
        if self._process is not None:
            self.signal_all(signal.SIGCONT)
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, query: str, database: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement as an administrator."""
        with psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user="postgres",
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def database(self, template: str = "template0") -> str:
        """Create a database, empty unless a template is named; returns its name."""
        self._number += 1
        name = f"syncd_{os.getpid()}_{self._number}"
        self.ask(f"CREATE DATABASE {name} OWNER syncd TEMPLATE {template}", "postgres")
        return name

    def database_with_tables(self) -> str:
        """Copy a database in which syncd has created its tables; returns the copy's name."""
        if self._template is None:
            self._template = self.database()
            Store.open(self.url(self._template), password=PASSWORD).close()
        return self.database(self._template)

    def url(self, database: str) -> str:
        """The `state.url` of a database."""
        return f"postgresql://syncd@{self.listen}:{self.port}/{database}"

    def url_with_password(self, database: str) -> str:
        """A connection URI for tools other than syncd."""
        return f"postgresql://syncd:{quote(PASSWORD)}@{self.listen}:{self.port}/{database}"
