"""Moving from SQLite to PostgreSQL and back loses nothing."""

import time
from pathlib import Path
from typing import Any

from syncd.core.records import Holder
from syncd.store.db.leases import LEASES_TAKEN
from syncd.store.store import Store
from syncd.sync.lease import Lease, this_process
from tests.conftest import HandClock, Rig
from tests.postgresql.server import PASSWORD
from tests.test_process import daemon, until


def contents(store: Store) -> list[tuple[str, dict[str, Any]]]:
    """All rows, except the number of leases taken, because a copy takes a lease too."""
    rows = ((kind, dict(row)) for kind, row in store.housekeeping.export())
    return [(kind, row) for kind, row in rows if row.get("name") != LEASES_TAKEN.name]


def test_there_and_back(live: Rig, url: str, tmp_path: Path) -> None:
    """A copy to PostgreSQL and a copy back have the same contents, and syncd continues with them."""
    home = tmp_path / "home"
    home.mkdir()
    here = Rig(live.box, HandClock(), home, {}, password=PASSWORD)
    paid, odd = here.pay("succeeded"), here.pay("succeeded", rows=(10.0,))
    here.once()
    assert here.command("attention", "dismiss", odd, "--note", "known: ü").returncode == 0
    before = here.stored(contents)
    everything = here.stored(lambda store: list(store.housekeeping.export()))
    done = here.command("copy", url)
    assert done.returncode == 0, done.stderr
    assert f"Copied {len(everything):,} rows" in done.stdout
    there = Rig(live.box, HandClock(), tmp_path, {}, database=url, password=PASSWORD)
    assert there.stored(contents) == before
    posts = len(live.posts())
    there.once()
    assert len(live.posts()) == posts
    more = there.pay("succeeded")
    there.once()
    assert (there.statuses(paid), there.statuses(more)) == ([3], [3])
    after = there.stored(contents)
    done = there.command("copy", f"sqlite:///{home}/back.db")
    assert done.returncode == 0, done.stderr
    back = Store.open(f"sqlite:///{home}/back.db")
    assert contents(back) == after
    assert sum(back.people.conditions().values()) == 3
    back.close()
    refused = here.command("copy", url)
    assert (refused.returncode, "is not empty" in refused.stderr) == (78, True)
    wrong = here.command("copy", url.replace("//syncd@", "//syncd:hunter2@"))
    assert (wrong.returncode, "hunter2" in wrong.stderr) == (2, False)


def test_not_while_the_service_runs(live: Rig, tmp_path: Path) -> None:
    """`syncd copy` is refused while the service runs, because the copy would lack later changes."""
    target = f"sqlite:///{tmp_path}/other.db"
    with daemon(live) as running:
        until(lambda: running.events("leading"))
        done = live.command("copy", target)
        assert (done.returncode, "Stop the service" in done.stderr) == (78, True)
        assert running.stop() == 0
    done = live.command("copy", target)
    assert done.returncode == 0, done.stderr


def test_not_while_another_process_pushes(live: Rig, tmp_path: Path) -> None:
    """`syncd copy` is refused during a push, because the copy would lack a row that is being inserted."""
    live.once()
    store, target = live.open(), f"sqlite:///{tmp_path}/other.db"
    me = this_process("a backfill")
    pushing = Lease(store, Holder("another", me.what, me.host, me.boot, 1), time.time)
    pushing.take()
    done = live.command("copy", target)
    assert (done.returncode, "a backfill" in done.stderr) == (78, True), done.stderr
    pushing.give_back()
    done = live.command("copy", target)
    assert done.returncode == 0, done.stderr
    pushing.take()  # succeeds only because the copy has released the lease
    store.close()
