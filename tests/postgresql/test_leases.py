"""Leases on PostgreSQL follow the server's clock, and each write checks the lease in its own transaction."""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from syncd.clients.throttle import halo_window
from syncd.core.errors import LeaseHeld
from syncd.core.records import Fence, Holder
from syncd.service.clock import Ages
from syncd.service.leadership import Leadership
from syncd.service.readiness import ready_checks
from syncd.store.db import postgresql
from syncd.store.store import Store
from syncd.sync.build import Parts
from syncd.sync.lease import Lease
from tests.conftest import Rig
from tests.postgresql.server import PASSWORD, Server
from tests.test_store import fill

ME, OTHER = Holder("me", "a push", "here", "b", 1), Holder("other", "a push", "there", "c", 2)


@pytest.fixture(params=["sqlite", "postgresql"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store with a payment, in each kind of database."""
    if request.param == "sqlite":
        opened = Store.open(f"sqlite:///{tmp_path_factory.mktemp('leases')}/syncd.db")
    else:
        opened = Store.open(request.getfixturevalue("url"), password=PASSWORD)
    fill(opened, 1, 1)
    yield opened
    opened.close()


def test_numbers_only_grow(both: Store) -> None:
    """A lease's number grows whenever a process takes the lease; renewing the lease keeps the number."""
    take = both.coordination.take_lease
    numbers = []
    for who in (ME, ME, OTHER, ME):
        taken = take("push", who, 100.0, 60.0, free=lambda *_: True)
        assert isinstance(taken, Fence)
        numbers.append(taken.number)
        if who is OTHER:
            both.coordination.give_lease("push", who)
    assert numbers == [1, 1, 2, 3]


def test_a_lost_lease_notes_nothing(both: Store) -> None:
    """After another process took the lease, syncd records no update and no insert, and reports the loss."""
    mine = Lease(both, ME, lambda: 100.0)
    mine.take()
    both.intend_update({"pi_1": (1,)}, 100.0, {"a": "1"}, mine.fence)
    both.coordination.take_lease("push", OTHER, 100.0, 60.0, free=lambda *_: True)
    due = both.due(100.0, 1)[0]
    with pytest.raises(LeaseHeld, match="took over"):
        both.intend_update({"pi_1": (1,)}, 200.0, {"a": "2"}, mine.fence)
    with pytest.raises(LeaseHeld, match="took over"):
        both.intend_insert(due, None, 200.0, 300.0, {"a": "3"}, mine.fence)
    assert both.notes()["a"] == "1"
    assert both.unproven(["pi_1"])["pi_1"].sent_at == 100.0
    assert both.doubtful_inserts(0.0) == []


def test_a_write_that_is_noted_renews_the_lease(both: Store) -> None:
    """One transaction notes a write and renews the lease; a lost lease is not renewed."""
    mine = Lease(both, ME, lambda: 100.0)
    mine.take()
    before = both.coordination.holder("push")
    both.intend_update({"pi_1": (1,)}, 150.0, {}, mine.renewing)
    after = both.coordination.holder("push")
    assert before is not None
    assert after is not None
    assert (after[0], after[1] > before[1]) == (ME, True)
    both.coordination.take_lease("push", OTHER, 100.0, 60.0, free=lambda *_: True)
    taken = both.coordination.holder("push")
    with pytest.raises(LeaseHeld, match="took over"):
        both.intend_update({"pi_1": (1,)}, 200.0, {}, mine.renewing)
    assert both.coordination.holder("push") == taken


def test_an_insert_and_its_notes_are_one(both: Store) -> None:
    """An insert and its notes are stored together; if another process was faster, neither is stored."""
    due = both.due(100.0, 1)[0]
    assert both.intend_insert(due, None, 100.0, 300.0, {"a": "mine"})
    assert both.notes()["a"] == "mine"
    assert not both.intend_insert(due, None, 200.0, 400.0, {"a": "too late"})
    assert both.notes()["a"] == "mine"
    assert [one.doubt_until for one in both.doubtful_inserts(0.0)] == [300.0]


@pytest.mark.parametrize("ahead", [-86_400.0, 86_400.0])
def test_the_servers_clock(store: Store, ahead: float) -> None:
    """A process whose clock is a day wrong cannot take a valid lease, and cannot keep one for ever."""

    def wrong() -> float:
        return time.time() + ahead

    first, second = (
        Lease(store, ME, wrong, seconds=0.5),
        Lease(store, OTHER, time.time, seconds=0.5),
    )
    first.take()
    with pytest.raises(LeaseHeld):
        second.take()
    held = store.coordination.holder("push")
    assert held is not None
    assert abs(held[1] - time.time()) < 60
    time.sleep(0.7)
    second.take()
    with pytest.raises(LeaseHeld):
        first.renew()


def test_a_lease_that_ended_while_the_database_failed(rig: Rig) -> None:
    """A leader that waited for the database until its lease ended is not ready, also before it notices."""

    async def nothing() -> None:
        """Nothing has to be prepared."""

    async def work(parts: Parts) -> None:
        lead = Leadership(
            parts.engine.store, 30.0, rig.told, rig.clock, rig.clock,
            nothing, lambda _how: None, lambda: None,
        )  # fmt: skip
        await lead.look()
        assert lead.leads

        def store() -> tuple[bool, str]:
            checks = ready_checks(parts.engine, lead, rig.clock(), Ages(rig.clock), 900.0)
            return checks["store"].ok, checks["store"].text

        assert store() == (True, "works")
        parts.engine.store_trouble = "no answer"
        rig.clock.seconds += 60
        assert not lead.leads
        assert store() == (False, "no answer")

    rig.run(work)


@pytest.fixture(params=["repeatable read", "serializable"])
def strict_url(request: pytest.FixtureRequest, shared_server: Server) -> str:
    """A database whose administrator changed PostgreSQL's default isolation level."""
    name = shared_server.database()
    setting = f"default_transaction_isolation = '{request.param}'"
    url = shared_server.url(name)
    Store.open(url, password=PASSWORD).close()
    shared_server.ask(f"ALTER DATABASE {name} SET {setting}", "postgres")
    return url


def test_fenced_whatever_the_isolation(strict_url: str, shared_server: Server) -> None:
    """With any isolation level, a process notices a lease that was taken while it waited for the lock."""
    store = Store.open(strict_url, password=PASSWORD)
    fill(store, 1, 1)
    mine = Lease(store, ME, lambda: 100.0)
    mine.take()
    found: list[str] = []

    def note() -> None:
        try:
            store.intend_update({"pi_1": (1,)}, 100.0, {}, mine.fence)
            found.append("noted")
        except LeaseHeld:
            found.append("refused")

    name = strict_url.rpartition("/")[2]
    with psycopg.connect(shared_server.url_with_password(name), autocommit=True) as other:
        other.execute("BEGIN READ WRITE")
        other.execute("SELECT pg_advisory_xact_lock(%s)", [postgresql._LOCK])
        waiting = threading.Thread(target=note)
        waiting.start()
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        end = time.monotonic() + 20
        while shared_server.ask(query, name) == [(0,)]:
            assert time.monotonic() < end
        other.execute("UPDATE lease SET owner = 'other', number = number + 1")
        other.execute("COMMIT")
    waiting.join()
    assert found == ["refused"]
    store.close()


def test_counted_whatever_the_isolation(strict_url: str) -> None:
    """With any isolation level, four processes that count requests at the same time lose none."""
    stores = [Store.open(strict_url, password=PASSWORD) for _ in range(4)]
    window = halo_window(10_000)

    def count(one: Store) -> None:
        for _ in range(20):
            assert one.coordination.take_slots("halo", window, 1_000.0, 1) == (1, 0.0)

    threads = [threading.Thread(target=count, args=(one,)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stores[0].coordination.counts("halo").values()) == 80
    for one in stores:
        one.close()


@pytest.mark.parametrize("ahead", [-3_000.0, -301.0, 290.0, 600.0])
def test_windows_go_by_the_servers_clock(strict_url: str, ahead: float) -> None:
    """Two hosts whose clocks differ by minutes share one rate limit, and never exceed it together."""
    first, second = (Store.open(strict_url, password=PASSWORD) for _ in range(2))
    window = halo_window(10)

    def take(store: Store, now: float) -> tuple[int, float]:
        return store.coordination.take_slots("halo", window, now, 1)

    for _ in range(5):
        assert take(first, time.time()) == (1, 0.0)
        assert take(second, time.time() + ahead) == (1, 0.0)
    for store, clock in ((first, 0.0), (second, ahead)):
        taken, wait = take(store, time.time() + clock)
        assert taken == 0
        assert 250 < wait < 306
        now = time.time() + clock
        assert window.left(store.coordination.counts("halo"), now) == 0
        assert all(abs(bucket - now) < 60 for bucket in store.coordination.counts("halo"))
    third = Store.open(strict_url, password=PASSWORD)
    assert all(abs(bucket - time.time()) < 60 for bucket in third.coordination.counts("halo"))
    for store in (first, second, third):
        store.close()


def test_a_clock_that_jumps_moves_no_window(strict_url: str) -> None:
    """If a host's clock jumps, each request still counts at the server's time."""
    store = Store.open(strict_url, password=PASSWORD)
    window = halo_window(100)
    for jump in (0.0, 3_600.0, 3_600.0, -3_600.0, 0.0):
        assert store.coordination.take_slots("halo", window, time.time() + jump, 1) == (1, 0.0)
    counted = store.coordination.counts("halo")
    assert sum(counted.values()) == 5
    assert all(-1 < time.time() - bucket < 60 for bucket in counted)
    store.close()


def test_counts_made_ahead_are_given_back(strict_url: str) -> None:
    """Requests that were counted but not sent are uncounted, also if the host's clock is wrong."""
    store = Store.open(strict_url, password=PASSWORD)
    window = halo_window(1_000)
    now = time.time() + 3_000
    taken, _ = store.coordination.take_slots("halo", window, now, 8)
    assert taken == 8
    store.coordination.take_slots("halo", window, now + 5, 1, (window.bucket(now), 7))
    assert sum(store.coordination.counts("halo").values()) == 2
    store.close()
