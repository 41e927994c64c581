"""Stories that a crash may interrupt anywhere: their payments, and what must be true at the end."""

import copy
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncd.sandbox import Fault, Sandbox
from tests.conftest import HandClock, Rig
from tests.crash.starter import Starter
from tests.test_process import until
from tests.test_proof import harmed

KILLED = -signal.SIGKILL
DOUBT_SECONDS = 301
"""An unanswered insert may still appear for five minutes; until then it is not sent again."""


@dataclass(slots=True)
class Story:
    """Payments between a Stripe and a Halo, and a syncd that is killed at some moment.

    Attributes:
        arguments: the arguments of syncd.
        expected: the statuses that Halo's rows of each payment must have at the end.
        ends: the allowed exit codes without a kill; 69 if Halo left something open.
        late: whether Halo carries out an insert late.
    """

    rig: Rig
    starter: Starter
    arguments: list[str]
    expected: dict[str, list[int]] = field(default_factory=dict)
    ends: tuple[int, ...] = (0, 69)
    late: bool = False

    @property
    def database(self) -> Path:
        return self.rig.folder / "syncd.db"

    def pay(self, state: str, rows: tuple[float, ...] = (10.99,), at: float | None = None) -> str:
        name = self.rig.pay(None, rows=rows, created=at)
        self.rig.box.stripe.advance(name, state, at, emit=at is None)
        self.expected[name] = [self.rig.box.halo.status[state]] * len(rows)
        return name

    def pay_without_row(self, at: float | None = None) -> None:
        """A payment without a row, whose metadata names an invoice: syncd must create the row."""
        invoice = self.rig.box.halo.add_invoice()
        name = self.rig.box.stripe.create_intent(
            metadata={"halo_invoice_id": str(invoice)}, created=at
        )
        self.rig.box.stripe.advance(name, "succeeded", at, emit=at is None)
        self.expected[name] = [3]

    def start(self, **environment: str) -> int:
        return self.starter.start(
            self.arguments, {**self.rig.environment(), **environment}, self.rig.folder
        )

    def run(self, **environment: str) -> int:
        """Run syncd to its end; returns the exit code."""
        code = self.starter.ended(self.start(**environment), wait=True)
        assert code is not None
        return code

    def finish(self) -> None:
        """After the crash: run again, and once more for each insert that is still uncertain."""
        self.check_file()
        for _ in range(3):
            code = self.run()
            assert code in self.ends, self.log()
            if not self.the_doubt_passes():
                break
        assert code == 0, self.log()
        self.check()

    def the_doubt_passes(self) -> bool:
        """Make the waits in the store five minutes older; returns whether there was a wait.

        By then Halo has carried out what it carries out late.
        """
        until(lambda: not self.late or len(self.inserted()) >= len(self.rig.posts()), 60)
        if not self.database.exists() or not self.database.stat().st_size:
            return False
        with closing(sqlite3.connect(self.database)) as connection, connection:
            done = connection.execute(
                "UPDATE payments SET doubt_until = doubt_until - :span, next_try = next_try - :span"
                " WHERE doubt_until IS NOT NULL",
                {"span": DOUBT_SECONDS},
            )
            trials = connection.execute(
                "UPDATE notes SET value = json_set(value, '$.at', json_extract(value, '$.at') - :span)"
                " WHERE name LIKE 'write_trial%'",
                {"span": DOUBT_SECONDS},
            )
            return done.rowcount + trials.rowcount > 0

    def check_file(self) -> None:
        """The crash left a valid database, or an empty file that becomes one."""
        if self.database.exists():
            with closing(sqlite3.connect(self.database)) as connection:
                found = connection.execute("PRAGMA integrity_check").fetchall()
            assert found == [("ok",)], self.log()

    def inserted(self) -> list[str]:
        return [posted["intent_id"] for _, posted, new in self.rig.box.halo.writes if new]

    def is_right(self) -> bool:
        return all(self.rig.statuses(name) == want for name, want in self.expected.items())

    def check(self) -> None:
        """All rows are right, no payment has a second row, and each payment is in step in the store."""
        found = {name: self.rig.statuses(name) for name in self.expected}
        assert found == self.expected, self.log()
        inserted = self.inserted()
        assert len(inserted) == len(set(inserted)), self.log()
        self.check_file()
        assert self.unsettled() == {}, self.log()

    def pushes(self) -> dict[str, list[str]]:
        """From which states of its rows each payment was pushed, by the store's list of pushes."""
        with closing(sqlite3.connect(self.database)) as connection:
            found = connection.execute("SELECT intent_id, old FROM pushes ORDER BY id").fetchall()
        return {name: [old for one, old in found if one == name] for name in self.expected}

    def unsettled(self) -> dict[str, str | None]:
        """The payments that are not in step in the store, with their conditions."""
        with closing(sqlite3.connect(self.database)) as connection:
            stands = dict(connection.execute("SELECT intent_id, condition FROM payments"))
        known = {name: stands.get(name) for name in self.expected if self.expected[name]}
        return {name: stand for name, stand in known.items() if stand != "in_step"}

    def log(self) -> str:
        file = self.rig.folder / "log"
        return file.read_text("utf-8")[-9_000:] if file.exists() else ""


@dataclass(slots=True)
class ServiceStory(Story):
    """The same with the daemon: it runs until all rows are right and in step, is reloaded, and stopped."""

    def run(self, **environment: str) -> int:
        before = self.log().count('"started"')
        process = self.start(**environment)

        def well() -> bool:
            started = self.log().count('"started"') > before
            return started and self.is_right() and not self.unsettled()

        code = self._until(process, well)
        if code is None:
            os.kill(process, signal.SIGHUP)
            seen = self.log().count('"reloaded"')
            code = self._until(process, lambda: self.log().count('"reloaded"') > seen)
        if code is None:
            os.kill(process, signal.SIGTERM)
            code = self.starter.ended(process, wait=True)
        assert code is not None
        return code

    def _until(self, process: int, true: Callable[[], bool]) -> int | None:
        """Wait until the condition is true, or the process has ended; returns its exit code then."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            code = self.starter.ended(process, wait=False)
            if code is not None or true():
                return code
            time.sleep(0.02)
        os.kill(process, signal.SIGKILL)
        self.starter.ended(process, wait=True)
        raise AssertionError(self.log())

    def finish(self) -> None:
        """After the crash: start again, five minutes later."""
        self.check_file()
        self.the_doubt_passes()
        assert self.run() == 0, self.log()
        self.check()


def poll_story(rig: Rig, starter: Starter) -> Story:
    """One poll and push: every kind of payment, one of them without a row."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    rig.settings["SYNCD_PUSH__BATCH"] = "2"
    story = Story(rig, starter, ["--once"])
    story.pay("succeeded")
    story.pay("succeeded", rows=(5.0, 5.99))
    story.pay("canceled")
    story.pay_without_row()
    return story


def doubt_story(rig: Rig, starter: Starter) -> Story:
    """An insert that Halo carries out and answers with a timeout."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    story = Story(rig, starter, ["--once"], ends=(0, 69))
    story.pay_without_row()
    rig.box.halo.faults.append(Fault("504_after", method="POST", path="InvoicePayment"))
    return story


def late_story(rig: Rig, starter: Starter) -> Story:
    """An insert that Halo answers with a timeout, and carries out later."""
    story = doubt_story(rig, starter)
    story.late = True
    rig.box.halo.faults[:] = [
        Fault("applied_late", method="POST", path="InvoicePayment", seconds=2)
    ]
    return story


def backfill_story(rig: Rig, starter: Starter) -> Story:
    """A backfill over two pages of Stripe: many payments that are not Halo's, and some that are."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    rig.settings["SYNCD_PUSH__BATCH"] = "5"
    story = Story(rig, starter, ["--backfill", "90d"])
    begun = time.time() - 40 * 86_400
    for number in range(105):
        at = begun + number * 3_600
        if number % 10 == 0:
            story.pay("succeeded", at=at)
        elif number % 50 == 1:
            story.pay_without_row(at)
        else:
            name = rig.box.stripe.create_intent(created=at)
            rig.box.stripe.advance(name, "succeeded", at, emit=False)
            story.expected[name] = []
    return story


def service_story(rig: Rig, starter: Starter) -> Story:
    """The daemon: payments from before its start, a reload, a stop."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    rig.settings["SYNCD_POLL__INTERVAL"] = "1s"
    story = ServiceStory(rig, starter, [])
    story.pay("succeeded")
    story.pay("processing")
    story.pay_without_row()
    return story


@dataclass(slots=True)
class ProofStory(Story):
    """The first updates of a tenant, with one behaviour of Halo.

    Attributes:
        before: a copy of Halo's rows before the first write of syncd.
    """

    before: dict[int, dict[str, Any]] = field(default_factory=dict)

    def check(self) -> None:
        """All payments are pushed, and no row lost a column."""
        super(ProofStory, self).check()
        assert self.pushes() == {name: ["status 1"] for name in self.expected}, self.log()
        assert harmed(self.rig, self.before) == {}, self.log()
        with closing(sqlite3.connect(self.database)) as connection:
            notes = dict(connection.execute("SELECT name, value FROM notes"))
        assert notes.get("write_proof update"), self.log()
        assert notes.get("write_trial") is None, self.log()


def proof_story(partial: str) -> Callable[[Rig, Starter], Story]:
    """The first updates in a tenant that merges, refuses or empties partial rows."""

    def build(rig: Rig, starter: Starter) -> Story:
        story = ProofStory(rig, starter, ["--once"], ends=(0, 69))
        halo = rig.box.halo
        halo.keeps.partial = partial
        story.pay("succeeded")
        story.pay("succeeded", rows=(5.0, 5.99))
        story.pay("canceled")
        for row in halo.rows.values():
            row.update(thirdpartyid=f"x-{row['id']}", reference=f"R-{row['id']}")
        story.before = copy.deepcopy(halo.rows)
        return story

    return build


@dataclass(slots=True)
class NewRowStory(Story):
    """The first new rows of a tenant.

    Attributes:
        stops: whether the tenant drops a field of the first new row, so that syncd creates no second row.
    """

    stops: bool = False

    def the_doubt_passes(self) -> bool:
        """As in Story; payments that wait for the first new row also wait five minutes less."""
        passed = super(NewRowStory, self).the_doubt_passes()
        if not self.database.exists() or not self.database.stat().st_size:
            return passed
        with closing(sqlite3.connect(self.database)) as connection, connection:
            waiting = connection.execute(
                "UPDATE payments SET next_try = next_try - :span WHERE doubt_until IS NULL"
                " AND condition = 'due' AND next_try > :now",
                {"span": DOUBT_SECONDS, "now": time.time()},
            )
        return passed or waiting.rowcount > 0

    def finish(self) -> None:
        """After the crash: run until each new row is created and read back, or new rows are stopped."""
        if not self.stops:
            super(NewRowStory, self).finish()
            return
        self.check_file()
        for _ in range(3):
            assert self.run() in self.ends, self.log()
            self.the_doubt_passes()
        self.check()

    def check(self) -> None:
        """Each payment has one row, and new rows are proven; or one new row exists, and syncd has stopped."""
        with closing(sqlite3.connect(self.database)) as connection:
            notes = dict(connection.execute("SELECT name, value FROM notes"))
        assert notes.get("write_trial insert") is None, self.log()
        if self.stops:
            assert len(self.inserted()) == 1, self.log()
            assert notes.get("write_trouble insert"), self.log()
            return
        super(NewRowStory, self).check()
        assert self.pushes() == {name: [""] for name in self.expected}, self.log()
        assert notes.get("write_proof insert"), self.log()


def new_row_story(kind: str) -> Callable[[Rig, Starter], Story]:
    """The first new rows in a tenant that stores them, answers late, or drops the status."""

    def build(rig: Rig, starter: Starter) -> Story:
        rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
        story = NewRowStory(rig, starter, ["--once"], ends=(0, 69))
        halo = rig.box.halo
        for _ in range(2):
            story.pay_without_row()
        if kind == "late":
            story.late = True
            halo.faults.append(
                Fault("applied_late", method="POST", path="/api/InvoicePayment", seconds=0.3)
            )
        if kind == "dropped":
            story.stops, story.ends = True, (0, 1, 69)
            halo.keeps.drops_new = frozenset({"status"})
        return story

    return build


PROOFS: dict[str, Callable[[Rig, Starter], Story]] = {
    f"proof {partial}": proof_story(partial) for partial in ("merge", "refuse", "empty")
} | {f"new row {kind}": new_row_story(kind) for kind in ("stored", "late", "dropped")}
"""Stories for kills during a proof."""

STORIES: dict[str, Callable[[Rig, Starter], Story]] = {
    "poll": poll_story,
    "doubt": doubt_story,
    "late": late_story,
    "backfill": backfill_story,
    "service": service_story,
}


@contextmanager
def told(name: str, starter: Starter, folder: Path) -> Iterator[Story]:
    """A story with its own sandbox and folder."""
    folder.mkdir()
    with Sandbox() as box:
        yield {**STORIES, **PROOFS}[name](Rig(box, HandClock(), folder, {}), starter)
