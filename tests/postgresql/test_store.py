"""The store on PostgreSQL: what is refused, several processes at once, and a server that fails."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from syncd.core.errors import StoreUnavailable, StoreUnusable
from syncd.core.payments import PaymentState
from syncd.sandbox.server import Sandbox
from syncd.store.db import postgresql, schema
from syncd.store.db.connection import reading, writing
from syncd.store.history import Sent, forget_oldest_sent, mark_sent, sent_among
from syncd.store.store import Store
from tests import test_transitions
from tests.conftest import ROOT, HandClock, Rig
from tests.postgresql.server import ACCOUNT, PASSWORD, Server
from tests.test_store import DAY, fill, root, said, use_up

globals().update(
    {
        name: test
        for name, test in vars(test_transitions).items()
        if name.startswith(("test_every_cause", "test_an_", "test_a_resync"))
    }
)


# --- what is refused -------------------------------------------------------------------------------


def test_the_tables(store: Store, url: str) -> None:
    """A new database has the tables that the code describes; opening the database again changes nothing."""
    Store.open(url, password=PASSWORD).close()
    with reading(store._engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, schema.metadata) == []
        assert context.get_current_revision() == schema.REVISION
        order = "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON a.attrelid = c.oid AND relkind = 'r' \
            JOIN pg_collation o ON o.oid = a.attcollation WHERE c.relname = 'payments' AND collname <> 'C'"
        assert connection.execute(sa.text(order)).scalar() == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wrong"}, "refused the connection .*password authentication failed"),
        ({"password": None}, "refused the connection .*no password supplied"),
        ({"database": "nowhere"}, 'refused the connection .*database "nowhere" does not exist'),
        ({"query": "?sslmode=require"}, "does not support SSL"),
        ({"query": "?colour=red"}, 'not a connection URI of PostgreSQL: .*"colour"'),
    ],
)
def test_wrong_configuration(url: str, change: dict[str, Any], words: str) -> None:
    """A server that refuses the connection is a configuration error; the password is not shown."""
    base, _, name = url.rpartition("/")
    other = f"{base}/{change.get('database', name)}{change.get('query', '')}"
    with pytest.raises(StoreUnusable, match=words) as caught:
        Store.open(other, password=change.get("password", PASSWORD))
    assert PASSWORD not in str(caught.value)


def test_foreign_and_newer(shared_server: Server, url: str) -> None:
    """A database with tables of another program or of a newer syncd is refused and not changed."""
    name = url.rpartition("/")[2]
    shared_server.ask("CREATE TABLE bills (id int)", name)
    with pytest.raises(StoreUnusable, match="tables of another program"):
        Store.open(url, password=PASSWORD)
    shared_server.ask("DROP TABLE bills", name)
    Store.open(url, password=PASSWORD).close()
    shared_server.ask("UPDATE alembic_version SET version_num = '9999'", name)
    with pytest.raises(StoreUnusable, match="newer version of syncd"):
        Store.open(url, password=PASSWORD)


def test_another_encoding(shared_server: Server, url: str) -> None:
    """A database that cannot store every text is refused, with the command that creates a usable database."""
    name = url.rpartition("/")[2] + "_ascii"
    shared_server.ask(
        f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'", "postgres"
    )
    with pytest.raises(StoreUnusable, match=r"encoding SQL_ASCII.*createdb --encoding UTF8"):
        Store.open(shared_server.url(name), password=PASSWORD)


def test_a_user_without_rights(shared_server: Server, url: str) -> None:
    """If the database user may not create tables, the error names the command that grants the right."""
    name = url.rpartition("/")[2]
    shared_server.ask(f"CREATE ROLE guest_{name} LOGIN PASSWORD 'secret'", "postgres")
    guest = url.replace("//syncd@", f"//guest_{name}@")
    with pytest.raises(StoreUnusable, match="ALTER DATABASE name OWNER TO user"):
        Store.open(guest, password="secret")


def test_nothing_listens() -> None:
    """A server that does not run is temporarily unavailable, not a configuration error."""
    with pytest.raises(StoreUnavailable, match="cannot be used at the moment"):
        Store.open("postgresql://syncd@127.0.0.1:9/syncd")


def test_without_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    """If psycopg is missing, the error names the command that installs it."""
    monkeypatch.delitem(sys.modules, "syncd.store.db.postgresql")
    monkeypatch.delattr("syncd.store.db.postgresql")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreUnusable, match=r"pip install 'syncd\[postgresql\]'"):
        Store.open("postgresql://localhost/syncd")


# --- several processes -----------------------------------------------------------------------------


def test_two_start_at_once(shared_server: Server, url: str) -> None:
    """Three processes that find an empty database at the same time all work, and the tables exist once."""
    code = (
        "import sys; from syncd.store.store import Store;"
        "sys.stdin.readline(); s = Store.open(sys.argv[1], password=sys.argv[2]);"
        "print(s.housekeeping.facts()['schema'])"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, url, PASSWORD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(3)
    ]
    for one in starters:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    told = [one.communicate(timeout=60) for one in starters]
    assert [out.strip() for out, _ in told] == [schema.REVISION] * 3, told
    named = "SELECT count(*) FROM alembic_version"
    assert shared_server.ask(named, url.rpartition("/")[2]) == [(1,)]


def test_one_writes_at_a_time(store: Store, url: str) -> None:
    """A writer waits for another writer; after its timeout it reports this and has changed nothing."""
    other = Store.open(url, password=PASSWORD, busy_seconds=0.2)
    with writing(store._engine):
        with pytest.raises(StoreUnavailable, match="Another process has locked the database"):
            other.write_notes({"a": "1"})
        assert other.notes() == {}  # reads do not wait
    other.write_notes({"a": "1"})
    assert store.notes() == {"a": "1"}
    other.close()


def test_counted_once_each(store: Store, url: str) -> None:
    """Two processes that count requests at the same time lose none."""
    from syncd.clients.throttle import halo_window

    other = Store.open(url, password=PASSWORD)
    window = halo_window(10_000)

    def count(one: Store) -> None:
        for _ in range(40):
            assert one.coordination.take_slots("halo", window, 1_000.0, 1) == (1, 0.0)

    threads = [threading.Thread(target=count, args=(one,)) for one in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(store.coordination.counts("halo").values()) == 80
    other.close()


def test_a_reader_sees_one_state(store: Store, url: str) -> None:
    """A reading transaction sees no change that others commit in the meantime."""
    other = Store.open(url, password=PASSWORD)
    query = sa.select(sa.func.count()).select_from(schema.notes)
    with reading(store._engine) as connection:
        before = connection.execute(query).scalar()
        other.write_notes({"a": "1"})
        assert connection.execute(query).scalar() == before == 0
    assert store.notes() == {"a": "1"}
    other.close()


def test_connections(store: Store, shared_server: Server, url: str) -> None:
    """A process has at most three connections, which have the name syncd."""
    name = url.rpartition("/")[2]
    for _ in range(20):
        store.notes()
    query = "SELECT application_name FROM pg_stat_activity WHERE datname = %s"
    assert shared_server.ask(query, "postgres", name) == [("syncd",)]
    with (
        reading(store._engine),
        reading(store._engine),
        reading(store._engine),
        pytest.raises(StoreUnavailable, match="All 3 connections"),
    ):
        store.notes()


# --- contents --------------------------------------------------------------------------------------


def test_ids_are_sorted_by_their_bytes(store: Store) -> None:
    """Ids are sorted as Python sorts them, because a push resumes after the last id."""
    names = ["pi_a", "pi_B", "pi_Z", "pi_b", "pi_1", "pi__"]
    words = [said(1, intent_id=name, event_id=None) for name in names]
    store.take_in(words, 1.0)
    assert [due.intent_id for due in store.due(2.0, 10)] == sorted(names)
    assert [due.intent_id for due in store.due(2.0, 10, "pi_Z")] == ["pi__", "pi_a", "pi_b"]


def test_long_and_odd_texts(store: Store) -> None:
    """Very long texts and texts with zero bytes cause no error."""
    store.take_in(
        [said(1, invoice="9" * 500, event_id=None)], 1.0, unreadable=[("evt_\0", "r\0", 1)]
    )
    found = store.payment("pi_1")
    assert found is not None
    assert found["invoice"] == "9" * 500
    assert [entry.reason for entry in store.people.attention()] == ["r\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    "text", ['100 % of it\'s "50\\\\50"; COMMIT; DROP TABLE notes --', "%s %(a)s \\'", "ä€\n", ""]
)
def test_a_note_is_stored_as_it_is(store: Store, text: str) -> None:
    """A statement that is sent together with its transaction changes no character of its values."""
    store.write_notes({text[:40]: text, "other": "1"})
    store.write_notes({text[:40]: f"{text}2"})
    assert store.note(text[:40]) == f"{text}2"
    assert store.notes() == {text[:40]: f"{text}2", "other": "1"}


def test_a_lock_of_another_session(
    store: Store, shared_server: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another session locks a table, no query waits on the server longer than the time limit."""
    name = url.rpartition("/")[2]
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 0.5)
    opened = Store.open(url, password=PASSWORD)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'notes'::regclass"
    with psycopg.connect(shared_server.url_with_password(name)) as other:
        other.execute("LOCK TABLE notes")
        for attempt in (
            lambda: opened.note("a"),
            opened.notes,
            lambda: opened.write_notes({"a": "1"}),
        ):
            with pytest.raises(StoreUnavailable, match="statement timeout"):
                attempt()
        assert shared_server.ask(waiting, name) == [(0,)]
    opened.write_notes({"a": "1"})
    assert opened.note("a") == "1"
    opened.close()


def test_prune(store: Store) -> None:
    """`prune` deletes old payments; of the payments with sent requests, the newest are remembered."""
    fill(store, 0, 30)
    with writing(store._engine) as connection:
        connection.execute(schema.payments.update().values(condition="in_step"))
        mark_sent(connection, {f"pi_{n}": () for n in range(5)}, 1.0)
        mark_sent(connection, {"pi_new": (1, None)}, 2.0)
        forget_oldest_sent(connection, 1)
        assert sent_among(connection, ["pi_1", "pi_new"]) == Sent(frozenset(["pi_new"]), 1.0)
    store.housekeeping.prune(400 * DAY, 100)
    assert sum(store.people.conditions().values()) == 0


def test_copied_and_exported(store: Store, tmp_path: Path) -> None:
    """A dry run's copy in SQLite, and an export, contain what the database contains."""
    fill(store, 0, 700)
    copy = Store.open(f"sqlite:///{tmp_path}/copy.db")
    store.housekeeping.copy_to(copy.housekeeping)
    assert copy.payment("pi_7") == store.payment("pi_7")
    kinds = [kind for kind, _ in store.housekeeping.export()]
    assert (kinds.count("payment"), kinds.count("event")) == (700, 700)
    copy.close()


# --- the server fails ------------------------------------------------------------------------------


@pytest.fixture
def away(server: Server) -> Iterator[tuple[Store, Server, str]]:
    """A store whose server the test may stop."""
    name = server.database()
    opened = Store.open(server.url(name), password=PASSWORD, busy_seconds=1.0)
    fill(opened, 1, 1)
    yield opened, server, name
    opened.close()


def works(store: Store) -> None:
    payment = store.payment("pi_1")
    assert payment is not None
    assert payment["state"] == PaymentState.PROCESSING
    store.write_notes({"a": "1"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_restarted(away: tuple[Store, Server, str], number: int) -> None:
    """A restart between two transactions causes no error; while the server is down, syncd reports that."""
    store, server, _ = away
    with reading(store._engine), reading(store._engine):
        pass  # two pooled connections, both of which the restart breaks
    server.restart(number)
    works(store)
    server.stop(number)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="cannot be used at the moment"):
            store.write_notes({"b": "1"})
    server.start()
    works(store)


def test_lost_within_a_transaction(away: tuple[Store, Server, str]) -> None:
    """If the connection breaks within a transaction, nothing of it is stored, and the next one works."""
    store, server, name = away
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with pytest.raises(StoreUnavailable), writing(store._engine) as connection:  # noqa: PT012
        connection.execute(schema.notes.insert(), [{"name": "half", "value": "1"}])
        server.ask(end, "postgres", name)
        connection.execute(schema.notes.insert(), [{"name": "whole", "value": "1"}])
    assert store.notes() == {}
    works(store)


def test_hangs(away: tuple[Store, Server, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts connections but never answers causes an error within the time limit."""
    store, server, _ = away
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 1.0)
    server.signal_all(signal.SIGSTOP)
    begun = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable):
            store.notes()
        assert time.monotonic() - begun < 20.0
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.notes()  # fails at once, because the last attempt got no answer
        assert time.monotonic() - begun < 1.0
    finally:
        server.signal_all(signal.SIGCONT)
    end = time.monotonic() + 20.0
    while True:
        try:
            works(store)
        except StoreUnavailable:
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return


def test_too_many_connections(away: tuple[Store, Server, str]) -> None:
    """A server without a free connection is unavailable, and syncd uses it again when one is free."""
    store, server, name = away
    store._engine.dispose()
    held = []
    try:
        while True:
            held.append(psycopg.connect(server.url_with_password(name), connect_timeout=5))
    except psycopg.OperationalError:
        pass
    with pytest.raises(StoreUnavailable, match="cannot be used at the moment"):
        store.notes()
    for connection in held:
        connection.close()
    end = time.monotonic() + 10.0
    while time.monotonic() < end:
        try:
            works(store)
        except StoreUnavailable:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the store did not work again")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_tls(server: Server, tmp_path: Path) -> None:
    """With verify-full only a server with the right certificate is used; the connection is encrypted."""
    for name in ("ours", "another"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=db", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", f"{tmp_path}/{name}.key", "-out", f"{tmp_path}/{name}.crt"],
            check=True, capture_output=True,
        )  # fmt: skip
    for end in ("crt", "key"):
        installed = shutil.copy(tmp_path / f"ours.{end}", server.data / f"server.{end}")
        shutil.chown(installed, server.data.owner())
        Path(installed).chmod(0o600)
    server.ask("ALTER SYSTEM SET ssl = on", "postgres")
    server.restart()
    url = server.url(server.database()) + "?sslmode=verify-full&sslrootcert="
    opened = Store.open(f"{url}{tmp_path}/ours.crt", password=PASSWORD)
    assert opened.housekeeping.facts()["encrypted"] is True
    opened.close()
    with pytest.raises(StoreUnusable, match="certificate verify failed"):
        Store.open(f"{url}{tmp_path}/another.crt", password=PASSWORD)
    elsewhere = url.replace("@127.0.0.1", "@localhost")
    with pytest.raises(StoreUnusable, match="does not match host name"):
        Store.open(f"{elsewhere}{tmp_path}/ours.crt", password=PASSWORD)


@root
def test_full(server: Server, tmp_path: Path) -> None:
    """If the server's disk is full, no step ends the engine; once there is space, it pushes again."""
    disk = server.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    try:
        shutil.chown(disk, ACCOUNT)
        name = server.database_with_tables()
        server.ask(f"CREATE TABLESPACE small LOCATION '{disk}'", "postgres")
        server.ask(f"ALTER DATABASE {name} SET TABLESPACE small", "postgres")
        clock = HandClock()
        with Sandbox(clock=clock) as box:
            rig = Rig(box, clock, tmp_path, {}, database=server.url(name), password=PASSWORD)
            first = rig.pay("succeeded")
            rig.cycle()
            use_up(disk / "ballast")
            waiting = [rig.pay("succeeded") for _ in range(300)]
            for _ in range(3):
                rig.clock.seconds += 300
                rig.cycle()
            (failed, *_) = [line for line in rig.told.lines if line.get("side") == "store"]
            assert "has room on its disk" in failed["reason"]
            (disk / "ballast").unlink()
            for _ in range(6):
                rig.clock.seconds += 300
                rig.cycle()
            assert {tuple(rig.statuses(payment)) for payment in (first, *waiting)} == {(3,)}
    finally:
        server.stop()
        subprocess.run(["umount", str(disk)], check=True)


def test_a_read_only_server(away: tuple[Store, Server, str]) -> None:
    """A server that accepts no writes, such as a replica, is unavailable, and used again later."""
    store, server, name = away
    server.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on", "postgres")
    store._engine.dispose()
    with pytest.raises(StoreUnavailable, match="read-only"):
        store.write_notes({"a": "1"})
    server.ask(f"ALTER DATABASE {name} RESET default_transaction_read_only", "postgres")
    store._engine.dispose()
    works(store)


def test_commits_are_durable(away: tuple[Store, Server, str]) -> None:
    """Commits survive a crash of the server, also if the database is set to asynchronous commits."""
    store, server, name = away
    server.ask(f"ALTER DATABASE {name} SET synchronous_commit = off", "postgres")
    store._engine.dispose()
    with writing(store._engine) as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    store.write_notes({"a": "1"})
    server.restart(signal.SIGKILL)
    assert store.notes() == {"a": "1"}
