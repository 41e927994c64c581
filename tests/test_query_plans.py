"""No statement of the service, the page or `syncd status` reads a whole table that grows."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.core.records import Condition
from syncd.monitor.status import gather
from syncd.store.db import counts
from syncd.store.db.connection import reading
from syncd.store.store import Store
from syncd.sync.build import Parts
from tests.conftest import DAY, NOW, Rig

GROWS = ("payments", "seen_events", "halo_rows", "pushes", "sent", "reversals", "unreadable")

WORK = (
    "payments_waiting",
    "payments_fresh",
    "payments_doubtful",
    "reversals_open",
    "reversals_unplaced",
    "unreadable_open",
)
"""Indexes of open work and of the attention list: reading one of them is not a table scan."""

ALLOWED = {
    "a sweep compares all kept rows of Halo": "UPDATE payments SET condition=",
    "the rows of Halo are deleted together when a push or a sweep ends": "DELETE FROM halo_rows",
    "syncd status counts refunds and disputes": "SELECT count(*) AS count_1 \nFROM reversals",
    "a sweep deletes unreadable answers of half a year ago, which are few": "DELETE FROM unreadable",
}
"""Statements of a daily sweep that read a whole table, and why; with how they begin."""

FILL = f"""
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
INSERT INTO payments (intent_id, state, said_at, read, heard, final, condition, dismissed, attempts,
    next_try, looks, changed_at, created, amount, amount_received, currency, acked_state, event_id)
SELECT 'pi_' || i, 'succeeded', {NOW} - i * 60, 0, 'event:succeeded:1', i % 7 > 0,
    CASE WHEN i % 50 = 0 THEN 'due' WHEN i % 99 = 0 THEN 'held' WHEN i % 3 = 0 THEN 'unmatched'
        ELSE 'in_step' END,
    0, 0, {NOW} + (i % 2) * 1000 - 10, 0, {NOW} - i * 60, {NOW} - i * 60, 1099, 1099, 'usd',
    CASE WHEN i % 3 THEN 'succeeded' END, 'evt' || i FROM n;
INSERT INTO seen_events SELECT 'evt_' || intent_id, said_at FROM payments;
INSERT INTO halo_rows (id, intent_id, status) SELECT rowid, intent_id, 3 FROM payments;
INSERT INTO pushes (at, intent_id, old, new, rows) SELECT said_at, intent_id, '', 'succeeded', '' FROM payments;
INSERT INTO sent SELECT intent_id, said_at, '' FROM payments;
INSERT INTO unreadable SELECT 'odd_' || intent_id, 'x', 1, {NOW}, 1 FROM payments WHERE final;
INSERT INTO reversals (id, kind, intent_id, amount, status, at, read, total, stand, word, dismissed, changed_at,
    of_halos)
    SELECT 're_' || intent_id, 'refunded', intent_id, 1, 'succeeded', 1, 1, 0, 'gone', 'gone', 'gone', 1, 0
    FROM payments;
"""  # noqa: S608  # only numbers of this file


@contextmanager
def statements() -> Iterator[dict[str, Any]]:
    """Every statement that is run meanwhile, with its parameters."""
    found: dict[str, Any] = {}

    def note(_c: Any, _u: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        found[statement] = parameters[0] if many else parameters

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def scans(path: str, found: dict[str, Any]) -> list[str]:
    """The statements that read a whole table that grows, with what they read."""
    plain, wrong = sqlite3.connect(path), []
    for statement, parameters in found.items():
        if (
            not statement.lstrip()
            .upper()
            .startswith(("SELECT", "UPDATE", "DELETE", "INSERT", "WITH"))
        ):
            continue
        if statement.lstrip().startswith(tuple(ALLOWED.values())):
            continue
        for row in plain.execute(f"EXPLAIN QUERY PLAN {statement}", parameters):
            table = row[3].split()[1] if row[3].startswith("SCAN ") else ""
            name = table.rstrip("0123456789_")
            if name in GROWS and not any(index in row[3] for index in WORK):
                wrong.append(f"{row[3]}: {' '.join(statement.split())[:300]}")
    plain.close()
    return wrong


@pytest.fixture
def filled(rig: Rig) -> Rig:
    """A service whose tables have all grown."""
    Store.open(rig.url).close()
    plain = sqlite3.connect(rig.folder / "syncd.db")
    plain.executescript(FILL)
    plain.close()
    return rig


async def _poll_and_push(parts: Parts) -> None:
    await parts.engine.poll()
    await parts.engine.push()


async def _sweep(parts: Parts) -> None:
    await parts.engine.sweep()


async def _tick(parts: Parts) -> None:
    engine = parts.engine
    gather(parts.config, engine.store, engine.now())
    engine.store.people.attention(100)
    engine.store.people.attention_count()
    engine.store.people.next_try()
    engine.store.people.reported_states(engine.now() - 2 * DAY)
    engine.store.people.pushes(engine.now() - 2 * DAY)
    engine.store.people.not_halos(100)
    engine.store.reversals.oldest_open_dispute()
    engine.store.reversals.counts()
    await engine.push()


STEPS = {"poll and push": _poll_and_push, "sweep": _sweep, "tick, page and status": _tick}


@pytest.mark.parametrize("step", STEPS)
def test_no_statement_reads_a_whole_table(filled: Rig, step: str) -> None:
    """Each statement of a step uses an index. The database has no statistics, as in production."""
    filled.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    filled.pay("succeeded")
    with statements() as found:
        filled.run(STEPS[step])
    assert len(found) > 10
    assert scans(f"{filled.folder}/syncd.db", found) == []


def test_counts_by_condition_are_right_after_every_step(filled: Rig) -> None:
    """The counts that triggers keep match the table after every step."""
    filled.pay("succeeded")
    filled.pay("processing", rows=())
    filled.once()
    filled.sweep()
    filled.clock.seconds += 200 * DAY
    filled.sweep()
    store = Store.open(filled.url)
    with reading(store._engine) as connection:
        text = "SELECT condition, count(*) FROM payments GROUP BY condition"
        counted = {row[0]: row[1] for row in connection.exec_driver_sql(text)}
        kept = {name: number for name, number in counts.by_condition(connection).items() if number}
    store.close()
    assert kept == counted
    assert kept.keys() >= {Condition.HELD}


def test_due_payments_are_counted_as_they_are_listed(rig: Rig) -> None:
    """The count of due payments equals the number listed, also after a clock was set back."""
    store = Store.open(rig.url)
    with sqlite3.connect(rig.folder / "syncd.db") as plain:
        plain.execute(f"""
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
            INSERT INTO payments (intent_id, state, said_at, read, heard, final, condition, dismissed,
                attempts, next_try, looks, changed_at)
            SELECT 'pi_' || i, 'succeeded', {NOW}, 0, '', 1,
                CASE i % 4 WHEN 0 THEN 'due' WHEN 1 THEN 'failed' WHEN 2 THEN 'unmatched' ELSE 'held' END,
                0, 0, {NOW} + (i - 450) * 700.0, 0, {NOW} FROM n""")  # noqa: S608  # ours
    plain.close()
    for now in (NOW - 4 * DAY, NOW - 700, NOW, NOW + 700, NOW + 4 * DAY):
        assert store.due_count(now) == len(store.due(now, 1_000))
    store.close()
