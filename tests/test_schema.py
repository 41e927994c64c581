"""Versions of the database: a new database, the last release's database upgraded, others refused."""

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from syncd.core.errors import StoreUnusable
from syncd.core.payments import PaymentState
from syncd.core.records import Condition, Pushed
from syncd.core.rows import Row, SeenInvoice
from syncd.store.db import schema
from syncd.store.db.connection import reading
from syncd.store.history import Sent
from syncd.store.store import Store

LAST = Path(__file__).with_name("data") / "schema_0005.sql"
"""A database that syncd 0.1 wrote, as SQL."""

T = 1_795_500_000


def _last(folder: Path) -> str:
    path = folder / "syncd.db"
    with contextlib.closing(sqlite3.connect(path)) as plain, plain:
        plain.executescript(LAST.read_text())
    plain.close()
    return f"sqlite:///{path}"


def _tables(store: Store) -> dict[str, Any]:
    """Every table and index of SQLite, with its columns."""
    with reading(store._engine) as connection:
        found = connection.exec_driver_sql(
            "SELECT name, type FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        ).all()
        columns = {
            row.name: sorted(
                (c.name, c.type, c.notnull, c.pk)
                for c in connection.exec_driver_sql(f"PRAGMA table_info({row.name})")
            )
            for row in found
        }
    return {row.name: (row.type, columns[row.name]) for row in found}


@pytest.mark.parametrize("origin", ["new", "taken over"])
def test_both_ways_lead_to_the_tables(tmp_path: Path, origin: str) -> None:
    """A new database and an upgraded database have exactly the tables the program works with."""
    url = f"sqlite:///{tmp_path}/new.db" if origin == "new" else _last(tmp_path)
    store = Store.open(url)
    with reading(store._engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        assert schema.version(connection)[0] == schema.REVISION
    other = Store.open(f"sqlite:///{tmp_path}/other.db")
    assert _tables(store) == _tables(other)
    store.close()
    other.close()


def test_the_last_version_is_taken_over(tmp_path: Path) -> None:
    """A database of syncd 0.1 keeps its data: due payments are pushed, open inserts and entries are kept."""
    store = Store.open(_last(tmp_path))
    assert store.people.conditions() == {
        Condition.NO_STATE: 1,
        Condition.IN_DOUBT: 1,
        Condition.DUE: 2,
        Condition.IN_STEP: 1,
        Condition.HELD: 1,
        Condition.FAILED: 1,
        Condition.UNMATCHED: 1,
        Condition.NOT_HALOS: 1,
    }
    assert [one.intent_id for one in store.due(T + 30, 10)] == ["pi_3", "pi_9"]
    [insert] = store.doubtful_inserts(T + 30)
    assert (insert.intent_id, insert.doubt_until) == ("pi_9", T + 4_000)
    assert store.payment("pi_1")["acked_state"] == "succeeded"  # type: ignore[index]
    assert store.payment("pi_3")["trace"] == '{"id":"pi_3"}'  # type: ignore[index]
    lines = {line.id: line for line in store.people.attention()}
    assert set(lines) == {"pi_2", "pi_5", "re_1"}
    assert lines["re_1"].invoices == (SeenInvoice(1001, "INV-1001"),)
    assert store.reversals.unplaced(10) == ["pi_old"]
    assert store.sent(["pi_1", "pi_9", "pi_2"]) == Sent(frozenset({"pi_1", "pi_9"}))
    assert store.people.pushes(0) == [
        Pushed(T + 22.0, "pi_1", "processing (5)", PaymentState.SUCCEEDED, 21.0, (28,))
    ]
    assert store.rows.of(["pi_1"]) == {"pi_1": [Row(28, "pi_1", 1001, None, 3, T, "INV-1001")]}
    pi_1 = store.payment("pi_1")
    assert pi_1 is not None
    assert (pi_1["surcharge"], pi_1["tip"]) == (None, None)
    assert (store.note("watermark"), store.note("stripe_mode")) == (str(T + 9), "live")
    assert store.take_in([], T + 31.0, events={"evt_1": T, "evt_new": T}).new_events == {"evt_new"}
    store.close()


def test_a_new_database_needs_no_alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new database is created without loading Alembic, with Alembic's own table as Alembic creates it."""
    monkeypatch.setitem(sys.modules, "alembic", None)  # an import of it fails
    Store.open(f"sqlite:///{tmp_path}/new.db").close()
    monkeypatch.undo()
    theirs = sa.create_engine(f"sqlite:///{tmp_path}/theirs.db")
    with theirs.begin() as connection:
        MigrationContext.configure(connection)._ensure_version_table()
    theirs.dispose()
    found = []
    for name in ("new.db", "theirs.db"):
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as plain:
            found.append(
                plain.execute(
                    "SELECT sql FROM sqlite_master WHERE name LIKE '%alembic_version%'"
                ).fetchall()
            )
    assert found[0] == found[1]


@pytest.mark.parametrize("version", schema.UNRELEASED)
def test_older_versions_are_refused(tmp_path: Path, version: str) -> None:
    """A database older than syncd 0.1 is refused with a remedy, and left unchanged."""
    url = _last(tmp_path)
    path = tmp_path / "syncd.db"
    with contextlib.closing(sqlite3.connect(path)) as plain, plain:
        plain.execute("UPDATE alembic_version SET version_num = ?", (version,))
    plain.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match=rf"schema {version}.*Move the database away"):
        Store.open(url)
    assert path.read_bytes() == before


def test_every_version_is_a_digit_string_of_one_length() -> None:
    """Versions have four digits and are in order, because they are compared as text."""
    assert {len(one) for one in (*schema.UNRELEASED, schema.OLDEST, schema.REVISION)} == {4}
    assert [*schema.UNRELEASED, schema.OLDEST] == sorted([*schema.UNRELEASED, schema.OLDEST])


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A database with many payments, most of them in step."""
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('plans')}/syncd.db")
    with store._engine.begin() as connection:
        connection.exec_driver_sql("""
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
            INSERT INTO payments (intent_id, state, said_at, read, heard, final, condition,
                dismissed, attempts, next_try, looks, changed_at, created)
            SELECT 'pi_' || i, 'succeeded', i, 0, '', 1,
                CASE WHEN i % 50 = 0 THEN 'due' WHEN i % 333 = 0 THEN 'held' ELSE 'in_step' END,
                0, 0, i, 0, i, i FROM n""")
        connection.exec_driver_sql("ANALYZE")
    yield store
    store.close()


PLANS = {
    "due": lambda s: s.due(1e9, 500, "pi_2"),
    "one payment": lambda s: s.due_payment("pi_50", 1e9),
    "payments in doubt": lambda s: s.doubts.due(1e9, 200),
    "attention": lambda s: s.people.attention(100),
    "history of states": lambda s: s.people.reported_states(4_990.0),
    "history of pushes": lambda s: s.people.pushes(4_990.0),
    "Halo's rows of payments": lambda s: s.rows.of(["pi_1", "pi_2"]),
    "refunds of payments": lambda s: s.reversals.of(["pi_1", "pi_2"]),
    "sent": lambda s: s.sent(["pi_1"]),
    "taking in": lambda s: s.take_in([], 1.0, events={"evt_1": 1}),
}
GROWS = ("payments", "seen_events", "halo_rows", "pushes", "sent")


@pytest.mark.parametrize("name", PLANS)
def test_no_scan_of_a_table_that_grows(many: Store, name: str) -> None:
    """The queries of every poll and push use an index, and the query of due payments does not sort."""
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _u: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE")):
            asked.append((statement, parameters))

    sa.event.listen(many._engine, "before_cursor_execute", note)
    try:
        PLANS[name](many)
    finally:
        sa.event.remove(many._engine, "before_cursor_execute", note)
    assert asked
    with many._engine.connect() as connection:
        for statement, parameters in asked:
            plan = [
                row[3]
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]
            scans = [line for line in plan if line.startswith("SCAN") and "INDEX" not in line]
            assert not any(table in line for line in scans for table in GROWS), plan
            if name == "due":
                assert not any("TEMP B-TREE" in line for line in plan), plan
