"""Moving from SQLite to PostgreSQL and back: nothing is lost."""

from pathlib import Path
from typing import Any

from syncd.store.store import Store
from tests.conftest import HandClock, Rig
from tests.postgresql.server import PASSWORD
from tests.test_process import daemon, until


def contents(store: Store) -> list[tuple[str, dict[str, Any]]]:
    return [(kind, dict(row)) for kind, row in store.housekeeping.export()]


def test_there_and_back(live: Rig, url: str, tmp_path: Path) -> None:
    """Everything is the same after a copy to PostgreSQL and one back; syncd goes on from there."""
    home = tmp_path / "home"
    home.mkdir()
    here = Rig(live.box, HandClock(), home, {}, password=PASSWORD)
    paid, odd = here.pay("succeeded"), here.pay("succeeded", rows=(10.0,))
    here.once()
    assert here.command("attention", "dismiss", odd, "--note", "known: ü").returncode == 0
    before = here.stored(contents)
    done = here.command("copy", url)
    assert done.returncode == 0, done.stderr
    assert f"Copied {len(before):,} rows" in done.stdout
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
    """A copy beside the service is refused: what the service writes later would be missing."""
    target = f"sqlite:///{tmp_path}/other.db"
    with daemon(live) as running:
        until(lambda: running.events("leading"))
        done = live.command("copy", target)
        assert (done.returncode, "Stop the service" in done.stderr) == (78, True)
        assert running.stop() == 0
    done = live.command("copy", target)
    assert done.returncode == 0, done.stderr
