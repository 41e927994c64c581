"""The database file: its permissions, refusals that leave it unchanged, and tables that never grow."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from syncd.core.errors import StoreUnavailable, StoreUnusable
from syncd.core.payments import Observation, PaymentState
from syncd.core.records import Condition, Outcome
from syncd.store.db import connection as database
from syncd.store.db import schema, sqlite
from syncd.store.db.connection import writing
from syncd.store.history import Sent, forget_oldest_sent, mark_sent, sent_among
from syncd.store.store import Store
from syncd.sync.build import Parts
from tests.conftest import Rig

DAY = 86_400
NOBODY = 65_534
root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")


def said(number: int, **other: Any) -> Observation:
    """An observation of a payment; its trace is what makes a database large."""
    seen = Observation(
        f"pi_{number}",
        PaymentState.PROCESSING,
        number,
        read=False,
        amount=1_099,
        currency="usd",
        event_id=f"evt_{number}",
        trace="x" * 2_000,
    )
    return replace(seen, **other)


def fill(store: Store, start: int, number: int) -> None:
    words = [said(n) for n in range(start, start + number)]
    store.take_in(words, 1.0, events={f"evt_{n}": n for n in range(start, start + number)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "syncd.db"


def opened(path: Path, **how: Any) -> Store:
    return Store.open(f"sqlite:///{path}", **how)


@pytest.fixture
def healthy(path: Path) -> Path:
    """A database of syncd with some payments in it."""
    store = opened(path)
    fill(store, 0, 30)
    store.close()
    return path


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file in a folder: its bytes and its mode."""
    return {p.name: (p.read_bytes(), p.stat().st_mode) for p in folder.iterdir() if p.is_file()}


def refused(path: Path, error: type[Exception], words: str, **how: Any) -> str:
    """Opening fails, and changes no byte, mode or other file in the folder."""
    before = everything(path.parent)
    with pytest.raises(error, match=words) as caught:
        opened(path, **how)
    assert everything(path.parent) == before
    return str(caught.value)


# --- permissions -----------------------------------------------------------------------------------


def test_readable_by_its_owner_alone(path: Path) -> None:
    """The database file and SQLite's journal have mode 600, whatever the umask is."""
    before = os.umask(0)
    try:
        sqlite.look_before_opening(path, 1.0)
        assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (0, 0o600)
        store = opened(path)
        with database.writing(store._engine) as connection:
            connection.execute(schema.notes.insert(), [{"name": "a", "value": "b"}])
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert modes == {"syncd.db": 0o600, "syncd.db-journal": 0o600}


def test_mode_that_was_widened(healthy: Path) -> None:
    """If a database file was made readable for others, syncd sets its mode to 600 again."""
    healthy.chmod(0o644)
    opened(healthy).close()
    assert stat.S_IMODE(healthy.stat().st_mode) == 0o600


def _as_nobody(work: Callable[[], str]) -> str:
    """What `work` returns in an unprivileged process."""
    if os.geteuid() != 0:
        return work()
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns about forks with threads
        child = os.fork()
    if child == 0:
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        answer = told.read()
    os.waitpid(child, 0)
    return answer


def test_unreadable() -> None:
    """A file that syncd may not read is refused with its name and the remedy, and left unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "syncd.db"
        opened(path).close()
        if os.geteuid() != 0:
            path.chmod(0)

        def attempt() -> str:
            try:
                opened(path).close()
            except StoreUnusable as error:
                return str(error)
            return "opened"

        before = path.stat()
        assert _as_nobody(attempt) == (
            f"This account may not read and write the database {path}. Set another file in "
            "state.url, or give the account of syncd access to this one."
        )
        Path(folder).chmod(0o700)
        if os.geteuid() == 0:
            assert "Permission denied" in _as_nobody(attempt)
        assert path.stat() == before


def test_places_that_can_not_be(path: Path) -> None:
    """A missing folder, or a folder instead of a file, is reported, and nothing is created."""
    with pytest.raises(StoreUnusable, match=r"folder .*/none does not exist"):
        opened(path.parent / "none" / "syncd.db")
    path.mkdir()
    with pytest.raises(StoreUnusable, match="is not a file"):
        opened(path)
    assert list(path.parent.iterdir()) == [path]


# --- refused databases -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda _: b"not a database at all" * 100, "file is not a database"),
        (lambda whole: whole[:4096] + bytes(4096) + whole[8192:], "malformed"),
        (lambda whole: whole[: len(whole) // 2], "malformed"),
        (lambda whole: b"\0" * len(whole), "file is not a database"),
        (lambda whole: whole[:100], "malformed|not a database"),
    ],
    ids=["text", "page", "half", "zeros", "head"],
)
def test_damaged(healthy: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    """A damaged file is refused before anything is written, and the error names the remedy."""
    healthy.write_bytes(damage(healthy.read_bytes()))
    text = refused(healthy, StoreUnusable, words)
    assert text.endswith(
        "syncd did not change it. Restore a copy; or move the file away and run syncd --backfill 90d, "
        "which rebuilds the database from Stripe and Halo."
    )


def test_damage_that_is_met_later(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage in a database too large for a full check is reported with the same error when it is read."""
    monkeypatch.setattr(sqlite, "QUICK_CHECK_BYTES_MAX", 0)
    with contextlib.closing(sqlite3.connect(healthy)) as plain:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'payments'"
        [page] = plain.execute(query).fetchone()
    with healthy.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    store = opened(healthy)
    with pytest.raises(StoreUnusable, match="malformed"):
        store.payment("pi_1")
    with pytest.raises(StoreUnusable, match="malformed"):
        fill(store, 100, 30)
    store.close()


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_foreign(path: Path, journal: str) -> None:
    """Another program's database is refused, and even its journal mode stays unchanged."""
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute(f"PRAGMA journal_mode={journal}")
        other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    path.chmod(0o644)
    refused(path, StoreUnusable, "has tables of another program")


@pytest.mark.parametrize("version", ["9f3c0d", "0000"])
def test_foreign_with_alembic(path: Path, version: str) -> None:
    """Another program's database that also uses Alembic is not mistaken for a database of syncd."""
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        other.execute("INSERT INTO alembic_version VALUES (?)", (version,))
    other.close()
    refused(path, StoreUnusable, "has tables of another program")


def test_newer_schema(healthy: Path) -> None:
    """A database of a newer syncd is refused, because this version could damage it."""
    with contextlib.closing(sqlite3.connect(healthy)) as newer, newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.close()
    refused(healthy, StoreUnusable, r"written by a newer version of syncd \(schema 9999\)")


def test_locked(healthy: Path) -> None:
    """If another process locks the database, syncd waits only as long as configured and changes nothing."""
    store = opened(healthy, busy_seconds=0.1)
    with contextlib.closing(sqlite3.connect(healthy, isolation_level=None)) as other, other:
        other.execute("BEGIN EXCLUSIVE")
        refused(
            healthy, StoreUnavailable, "Another process has locked the database", busy_seconds=0.1
        )
        with pytest.raises(StoreUnavailable, match="syncd changed nothing"):
            fill(store, 100, 1)
        with pytest.raises(StoreUnavailable, match="syncd changed nothing"):
            store.payment("pi_1")
        other.execute("ROLLBACK")
    other.close()
    fill(store, 100, 1)
    assert sum(store.people.conditions().values()) == 31
    store.close()


def test_a_pushed_payment_keeps_no_page_for_its_trace(tmp_path: Path) -> None:
    """After a push, payments use as few pages as without traces; their traces are deleted."""
    used: list[int] = []
    for trace in ("x" * 2_000, None):
        store = opened(tmp_path / f"{len(used)}.db")
        for start in range(0, 1_000, 100):
            numbers = range(start, start + 100)
            events = {f"evt_{n}": n for n in numbers}
            store.take_in([said(n, trace=trace) for n in numbers], 1.0, events=events)
        names = [f"pi_{n}" for n in range(1_000)]
        pushed = [Outcome(one, PaymentState.PROCESSING, Condition.IN_STEP) for one in names]
        store.record(pushed, 2.0)
        assert store.payment("pi_7")["trace"] is None  # type: ignore[index]
        with database.reading(store._engine) as connection:
            pages, free = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("page_count", "freelist_count")
            )
        used.append(pages - free)
        store.close()
    assert used[0] <= used[1] + 2


def test_a_trace_goes_with_its_payment(tmp_path: Path) -> None:
    """A newer trace replaces the older trace; a trace is deleted together with its payment."""
    store = opened(tmp_path / "syncd.db")
    store.take_in([said(1)], 1.0, events={"evt_1": 1})
    later = said(1, at=5, event_id="evt_b", state=PaymentState.SUCCEEDED, trace="new")
    store.take_in([later], 2.0, events={"evt_b": 5})
    assert store.payment("pi_1")["trace"] == "new"  # type: ignore[index]
    with writing(store._engine) as connection:
        connection.exec_driver_sql("UPDATE payments SET dismissed = 1, condition = 'held'")
    store.housekeeping.prune(400.0 * DAY, 0)
    assert store.payment("pi_1") is None
    assert store.housekeeping.facts()["rows"]["traces"] == 0
    store.close()


def test_journal_that_a_crash_left(healthy: Path) -> None:
    """A transaction that a crash interrupted is rolled back at the next start and is not damage."""
    before = healthy.read_bytes()
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA cache_size=1'); c.execute('BEGIN IMMEDIATE');"
        "c.execute('UPDATE traces SET trace = hex(randomblob(1000))'); os._exit(0)"
    )
    subprocess.run(["python3", "-c", script, str(healthy)], check=True)
    assert Path(f"{healthy}-journal").stat().st_size > 0
    assert healthy.read_bytes() != before
    store = opened(healthy)
    assert sum(store.people.conditions().values()) == 30
    assert store.payment("pi_1")["trace"] == "x" * 2_000  # type: ignore[index]
    store.close()


def test_wal_is_left(healthy: Path) -> None:
    """If somebody switched the database to WAL, syncd switches it back."""
    with contextlib.closing(sqlite3.connect(healthy)) as other, other:
        other.execute("PRAGMA journal_mode=WAL")
    other.close()
    store = opened(healthy)
    with database.reading(store._engine) as connection:
        names = ("journal_mode", "synchronous", "secure_delete")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    store.close()
    assert found == ["delete", 3, 1]


# --- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def small() -> Iterator[Path]:
    """A disk of 450 KiB, outside pytest's folders: after a kill, the mount must not block their deletion."""
    folder = Path(tempfile.mkdtemp(prefix="syncd-small-"))
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=450k,mode=700", "tmpfs", str(folder)], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def use_up(ballast: Path) -> None:
    """Leave no free disk space."""
    place = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(place, bytes(4096))
    finally:
        os.close(place)


@root
def test_full(small: Path) -> None:
    """If the disk is full, no write is stored in part and old data stays; later writes work again."""
    store = opened(small / "syncd.db")
    fill(store, 0, 10)
    ballast = small / "ballast"
    ballast.write_bytes(bytes(200_000))
    with pytest.raises(StoreUnavailable, match="Free space on its disk"):
        fill(store, 100, 100)
    assert sum(store.people.conditions().values()) == 10
    ballast.unlink()
    fill(store, 100, 20)
    assert sum(store.people.conditions().values()) == 30
    store.close()
    opened(small / "syncd.db").close()


@root
def test_full_from_the_start(small: Path) -> None:
    """If the disk is full when a new database is created, the next start still creates it."""
    ballast = small / "ballast"
    use_up(ballast)
    with pytest.raises(StoreUnavailable, match="Free space on its disk"):
        opened(small / "syncd.db")
    ballast.unlink()
    opened(small / "syncd.db").close()


@root
def test_engine_rides_out_a_full_disk(rig: Rig, small: Path) -> None:
    """If the disk is full, the service logs it and keeps its data; once there is space, it pushes again."""
    rig.folder = small
    first = rig.pay("succeeded")
    rig.cycle()
    ballast = small / "ballast"
    use_up(ballast)
    second = rig.pay("processing")
    rig.cycle()
    told = [line for line in rig.told.lines if line.get("side") == "store"]
    assert {line["level"] for line in told} == {"error"}
    assert all("Free space on its disk" in line["reason"] for line in told)
    assert rig.statuses(second) == [1]
    ballast.unlink()
    rig.clock.seconds += 300
    rig.cycle()
    assert (rig.statuses(first), rig.statuses(second)) == ([3], [5])


def test_engine_ends_with_its_memory(rig: Rig) -> None:
    """Damage that a step finds is raised as an error: without its database the service could only guess."""

    async def work(parts: Parts) -> None:
        await parts.engine.poll()
        path = rig.folder / "syncd.db"
        path.write_bytes(b"\xff" * path.stat().st_size)
        with pytest.raises(StoreUnusable, match="not a database"):
            await parts.engine.poll()

    rig.pay("succeeded")
    rig.run(work)


# --- migrations ------------------------------------------------------------------------------------


def test_migrations_make_the_schema(path: Path) -> None:
    """A migrated database has exactly the tables that the code describes."""
    opened(path).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, schema.metadata) == []
        assert context.get_current_revision() == schema.REVISION
    engine.dispose()
    config = AlembicConfig()
    config.set_main_option("script_location", "syncd.store.db:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.REVISION


def test_plain_sql() -> None:
    """The SQL of the tables compiles for PostgreSQL."""
    from sqlalchemy.dialects import postgresql

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in schema.metadata.sorted_tables:
        text = str(sa.schema.CreateTable(table).compile(dialect=dialect))
        assert text.strip().startswith("CREATE TABLE")
        assert "DATETIME" not in text


# --- bounded size ----------------------------------------------------------------------------------


def _sizes(store: Store) -> dict[str, int]:
    with database.reading(store._engine) as connection:
        return {
            table.name: connection.execute(
                sa.select(sa.func.count()).select_from(table)
            ).scalar_one()
            for table in schema.metadata.sorted_tables
        }


def test_prune(path: Path) -> None:
    """Old payments in step, events and unreadable answers are deleted; holds and open payments stay."""
    store = opened(path)
    words = [said(n, trace=None) for n in range(4)]
    store.take_in(
        words, 0.0, events={f"evt_{n}": n * 100 for n in range(4)}, unreadable=[("odd", "why", 5)]
    )
    with database.writing(store._engine) as connection:
        for n, condition in enumerate((Condition.IN_STEP, Condition.NOT_HALOS, Condition.HELD)):
            connection.execute(
                schema.payments.update()
                .where(schema.payments.c.intent_id == f"pi_{n}")
                .values(condition=condition)
            )
    store.housekeeping.prune(179 * DAY, events_before=250)
    assert {name: _sizes(store)[name] for name in ("payments", "seen_events", "unreadable")} == {
        "payments": 4,
        "seen_events": 1,
        "unreadable": 1,
    }
    store.housekeeping.prune(181 * DAY, events_before=1_000)
    assert {name: _sizes(store)[name] for name in ("payments", "seen_events", "unreadable")} == {
        "payments": 2,
        "seen_events": 0,
        "unreadable": 0,
    }
    assert [store.payment(f"pi_{n}") is None for n in range(4)] == [True, True, False, False]
    store.close()


def test_nothing_grows(rig: Rig) -> None:
    """Once the first payments are deleted, every table keeps its size under the same load."""
    sizes: list[dict[str, int]] = []

    async def ten_months(parts: Parts) -> None:
        for _ in range(15):
            rig.pay("succeeded")
            rig.pay("processing", rows=())
            await parts.run.once()
            rig.clock.seconds += DAY
            for intent in rig.box.stripe.intents.values():
                intent["status"] = intent["status"].replace("processing", "canceled")
            await parts.engine.sweep()
            await parts.engine.push()
            rig.clock.seconds += 19 * DAY
            sizes.append(_sizes(parts.engine.store))

    memory = Path("/dev/shm")  # noqa: S108  # hundreds of commits: a disk would only make them slow
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        rig.folder = Path(folder)
        rig.run(ten_months)
        first = next(iter(rig.box.stripe.intents))
        assert rig.stored(lambda store: store.payment(first)) is None
    earlier, later = sizes[-4], sizes[-1]
    for size in (earlier, later):
        assert size["halo_rows"] == 0  # deleted when a push or a sweep has ended
        del size["sent"]  # bounded by number, below
    assert earlier == later
    assert later["payments"] < 2 * len(sizes)


# --- the real command ------------------------------------------------------------------------------


def _command(rig: Rig, *arguments: str) -> tuple[int, str]:
    done = rig.command(*arguments)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_exit_78(live: Rig) -> None:
    """With a damaged, foreign or missing database a command exits with 78 and changes nothing."""
    path = live.folder / "syncd.db"
    code, text = _command(live, "status")
    assert (code, path.exists()) == (78, False)
    assert text == (
        f"syncd: There is no database {path} yet: syncd has not run with this configuration. "
        "Name another file with --config FILE.\n"
    )
    path.write_bytes(b"not a database at all" * 100)
    before = everything(live.folder)
    for arguments in ((), ("attention",)):
        code, text = _command(live, *arguments)
        assert (code, "syncd did not change it." in text) == (78, True)
    assert everything(live.folder) == before
    assert live.box.stripe.requests == []


def test_exit_69(live: Rig) -> None:
    """If the database is locked or the disk is full, a command exits with 69: a retry may work."""
    store = opened(live.folder / "syncd.db")
    fill(store, 0, 30)
    store.close()
    payment = live.pay("succeeded")
    limit = ("sh", "-c", 'ulimit -f 8; exec "$0" "$@"')
    done = live.command("--once", before=limit)
    assert (done.returncode, "Free space on its disk" in done.stderr) == (69, True)
    assert "Traceback" not in done.stderr
    with (
        contextlib.closing(
            sqlite3.connect(live.folder / "syncd.db", isolation_level=None)
        ) as other,
        other,
    ):
        other.execute("BEGIN EXCLUSIVE")
        code, text = _command(live, "status")
    other.close()
    assert (code, "Another process has locked the database" in text) == (69, True)
    live.command("--once")
    assert live.statuses(payment) == [3]


# --- sent writes -------------------------------------------------------------------------------------


def test_only_so_many_sendings_are_remembered(path: Path) -> None:
    """The oldest sent writes are deleted; the time up to which they are deleted never goes back."""
    store = opened(path)
    for second, name in enumerate(["pi_1", "pi_2", "pi_3", "pi_1"]):
        store.intend_update({name: (1,)}, float(second))
    with writing(store._engine) as connection:
        forget_oldest_sent(connection, kept=3)
        assert sent_among(connection, ["pi_1", "pi_2", "pi_3", "pi_4"]) == Sent(
            frozenset({"pi_1", "pi_2", "pi_3"})
        )
        forget_oldest_sent(connection, kept=2)
        assert sent_among(connection, ["pi_1", "pi_2", "pi_3"]) == Sent(
            frozenset({"pi_1", "pi_3"}), forgotten=1.0
        )
        mark_sent(connection, {f"pi_old_{number}": () for number in range(1_200)}, 0.5)
        forget_oldest_sent(connection, kept=2)
    assert store.sent(["pi_1", "pi_3"]) == Sent(frozenset({"pi_1", "pi_3"}), forgotten=1.0)
    store.close()
