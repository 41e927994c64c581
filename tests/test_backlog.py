"""A backlog takes few requests, however many rows Halo has, and syncd misses no row of a payment."""

import contextlib
import sqlite3

import pytest

from syncd.clients.retry import ATTEMPTS_MAX
from syncd.core.errors import LinkFailure, Side
from syncd.core.records import Condition
from syncd.core.rules.proof import WriteKind
from syncd.core.rules.proof_notes import FIRST_UPDATE
from syncd.sandbox import Fault, Request
from syncd.store.coordination import PUSH_AFTER
from syncd.sync.build import Parts
from syncd.sync.pull.read_back import Progress
from tests.conftest import DAY, Rig
from tests.due import next_due


def beside(rig: Rig, rows: int) -> None:
    """Add rows of other payments to Halo."""
    invoice = rig.box.halo.add_invoice()
    for number in range(rows):
        rig.box.halo.add_row(f"pi_other{number}", invoice, 5.0, 3)


def lookups(rig: Rig) -> tuple[int, int]:
    """How many pages of rows were read, and how many payments were looked up alone."""
    gets = [r for r in rig.box.halo.requests if r.method == "GET" and "InvoicePayment" in r.path]
    pages = [r for r in gets if "pageinate" in r.params() and "intent_id" not in r.params()]
    return len(pages), len([r for r in gets if "intent_id" in r.params()])


@pytest.mark.parametrize("payments", [300, 30])
@pytest.mark.parametrize("after_days", [0, 40], ids=["same_day", "later"])
def test_burst_reads_the_newest_rows_only(rig: Rig, payments: int, after_days: int) -> None:
    """Beside many older rows, a burst of payments reads only the newest pages of rows."""
    beside(rig, 6_000)
    rig.clock.seconds += after_days * DAY
    made = [rig.pay("succeeded") for _ in range(payments)]
    rig.once()
    pages, alone = lookups(rig)
    assert pages <= payments // 100 + 1
    assert alone == 0
    assert all(rig.statuses(payment) == [3] for payment in made)


def test_one_page_that_fails_keeps_the_pages_before_it(rig: Rig) -> None:
    """Page 4 always fails: the payments of the pages before it are not looked up again."""
    made = [rig.pay("succeeded") for _ in range(600)]
    fourth = Fault("504", times=None, match=lambda one: one.params().get("page_no") == "4")
    rig.box.halo.faults.append(fourth)
    rig.once()
    pages, alone = lookups(rig)
    assert alone <= 300 + 1  # one more shows that Halo works
    assert pages <= 3 + ATTEMPTS_MAX
    assert all(rig.statuses(payment) == [3] for payment in made)
    assert [one["level"] for one in rig.told.events("rows_unlisted")] == ["warning"]


def test_burst_with_payments_that_are_not_halos(rig: Rig) -> None:
    """Payments without rows are looked up alone, and cause no further page reads."""
    beside(rig, 6_000)
    made = [rig.pay("succeeded") for _ in range(200)]
    others = [rig.pay("succeeded", rows=()) for _ in range(12)]
    rig.once()
    pages, alone = lookups(rig)
    assert pages <= 5
    assert alone == 12
    assert all(rig.statuses(payment) == [3] for payment in made)
    assert {rig.condition(payment) for payment in others} == {Condition.UNMATCHED}


def test_rows_beyond_the_pages_that_were_read(rig: Rig) -> None:
    """If only some rows of a payment are on the pages that were read, syncd looks up the payment alone."""
    split = [rig.box.stripe.create_intent(amount=3_000) for _ in range(2)]
    for payment in split:
        rig.box.halo.add_row(payment, rig.box.halo.add_invoice(), 20.0)
    beside(rig, 6_000)
    for payment in split:
        rig.box.halo.add_row(payment, rig.box.halo.add_invoice(), 10.0)
    made = [rig.pay("succeeded") for _ in range(150)]
    for payment, state in zip(split, ("succeeded", "payment_failed"), strict=True):
        rig.box.stripe.advance(payment, state)
    rig.once()
    assert lookups(rig)[0] <= 4
    assert rig.statuses(split[0]) == [3, 3]
    assert rig.statuses(split[1]) == [4, 4]
    assert all(rig.statuses(payment) == [3] for payment in made)


def test_rows_that_never_add_up(rig: Rig) -> None:
    """If rows have other amounts than Stripe, syncd reads all pages instead of single payments."""
    rig.settings["SYNCD_PUSH__ON_AMOUNT_MISMATCH"] = "push"
    beside(rig, 1_000)
    made = [rig.pay("succeeded", rows=(9.0,)) for _ in range(150)]
    rig.once()
    pages, alone = lookups(rig)
    assert (pages <= 13, alone) == (True, 0)
    assert all(rig.statuses(payment) == [3] for payment in made)


def test_old_rows_of_many_payments(rig: Rig) -> None:
    """If the rows of the due payments are on all pages, syncd reads every page and no single payment."""
    made = []
    for _ in range(150):
        made.append(rig.pay("succeeded"))
        beside(rig, 10)
    rig.once()
    pages, alone = lookups(rig)
    assert (pages <= 18, alone) == (True, 0)
    assert all(rig.statuses(payment) == [3] for payment in made)


def test_few_payments_beside_many_rows(rig: Rig) -> None:
    """A few old payments take one page, and then one lookup each."""
    made = [rig.pay("succeeded") for _ in range(15)]
    beside(rig, 6_000)
    rig.once()
    assert lookups(rig) == (1, 15)
    assert all(rig.statuses(payment) == [3] for payment in made)


def test_old_payments_without_rows_are_looked_up_once(rig: Rig) -> None:
    """A backfill looks up an old payment without a row only once."""
    old = rig.clock() - 30 * DAY
    made = [rig.pay("succeeded", rows=(), created=old) for _ in range(30)]
    rig.box.stripe.events.clear()
    rig.backfill()
    assert lookups(rig)[1] == 30
    assert {rig.condition(payment) for payment in made} == {Condition.NOT_HALOS}
    assert rig.stored(next_due) is None


def test_a_row_that_appears_late_for_an_old_payment(rig: Rig) -> None:
    """If Halo creates a row for an old payment later, the next sweep finds it."""
    payment = rig.pay("succeeded", rows=(), created=rig.clock() - 30 * DAY)
    rig.box.stripe.events.clear()
    rig.backfill()
    rig.box.halo.add_row(payment, rig.box.halo.add_invoice(), 10.99)
    rig.sweep()
    assert rig.statuses(payment) == [3]


def test_an_old_bank_debit_that_succeeds_now(rig: Rig) -> None:
    """An old payment whose event is new is unmatched, and syncd keeps looking for its row."""
    payment = rig.pay("succeeded", rows=(), created=rig.clock() - 10 * DAY)
    rig.once()
    assert rig.condition(payment) is Condition.UNMATCHED


def test_fresh_payments_do_not_wait_for_a_sweep(rig: Rig) -> None:
    """While a sweep reads all rows of Halo, a new payment is pushed within a minute.

    The sweep read the payment's row before the push, and does not report drift because of it.
    """
    rig.settings["SYNCD_HALO__RATE_LIMIT"] = "20"
    fresh: list[str] = []
    began = rig.clock()

    async def work(parts: Parts) -> None:
        sleep = rig.world.sleep

        async def nap(seconds: float) -> None:
            await sleep(seconds)
            if rig.clock() > began + 100 and not fresh:
                fresh.append(waiting)
                rig.box.stripe.advance(waiting, "succeeded")
                await parts.engine.poll()

        await parts.engine.poll()
        parts.engine.rate_limiters[Side.HALO].sleep = nap
        await parts.engine.sweep()

    rig.pay("succeeded")
    rig.once()
    beside(rig, 3_000)
    waiting = rig.pay(None)
    rig.run(work)
    row = rig.stored(lambda store: store.payment(waiting))
    assert row["acked_at"] - row["said_at"] < 60
    assert rig.clock() - row["acked_at"] > 100
    assert rig.statuses(waiting) == [3]
    assert rig.told.events("drifted") == []
    assert rig.condition(waiting) is Condition.IN_STEP


def test_a_sweep_asks_for_few_open_payments_alone(rig: Rig) -> None:
    """A sweep lists the days with many open payments, and reads the few older open payments one by one."""
    now = int(rig.clock())
    for number in range(700):  # seven pages of final payments, two months old
        rig.pay("succeeded", created=now - 60 * DAY - number)
    old = [rig.pay("processing", created=now - 80 * DAY - number) for number in range(3)]
    recent = [rig.pay("processing", created=now - 5 * DAY - number) for number in range(40)]
    rig.box.stripe.events.clear()
    rig.backfill()
    rig.box.stripe.requests.clear()
    for payment in (*old, *recent):
        rig.box.stripe.advance(payment, "succeeded", emit=False)
    rig.sweep()
    listed = [r for r in rig.box.stripe.requests if r.path == "/v1/payment_intents"]
    alone = [r for r in rig.box.stripe.requests if r.path.startswith("/v1/payment_intents/")]
    assert (len(listed), len(alone)) == (1, 3)
    assert all(rig.statuses(payment) == [3] for payment in (*old, *recent))


def test_a_doubled_row_beyond_the_pages_that_were_read(rig: Rig) -> None:
    """A second row with the full amount, on a page that was not read, is found by the next sweep."""
    doubled = rig.pay(None)
    beside(rig, 6_000)
    rig.box.halo.add_row(doubled, rig.box.halo.add_invoice(), 10.99)
    made = [rig.pay("succeeded") for _ in range(150)]
    rig.box.stripe.advance(doubled, "succeeded")
    rig.once()
    assert rig.statuses(doubled) == [1, 3]
    rig.sweep()
    assert rig.statuses(doubled) == [1, 3]
    assert [(entry.id, entry.code) for entry in rig.attention()] == [(doubled, "amount_mismatch")]
    assert all(rig.statuses(payment) == [3] for payment in made)


def test_a_second_row_on_the_first_page_does_not_pass_for_the_only_row(rig: Rig) -> None:
    """If a second row with the full amount appears after the first was paid, syncd holds the payment.

    A sweep finds the row. The push after it reads only the newest pages, because more payments are
    due.
    """
    doubled = rig.pay("succeeded")
    rig.once()
    beside(rig, 6_000)
    rig.box.halo.add_row(doubled, rig.box.halo.add_invoice(), 10.99)
    drifted = [rig.pay(None) for _ in range(30)]
    for payment in drifted:
        rig.box.stripe.advance(payment, "succeeded", emit=False)
    rig.sweep()
    assert rig.statuses(doubled) == [3, 1]
    assert [(entry.id, entry.code) for entry in rig.attention()] == [(doubled, "amount_mismatch")]
    assert all(rig.statuses(payment) == [3] for payment in drifted)


def test_a_second_row_that_only_a_sweep_reads_is_held_in_a_burst(rig: Rig) -> None:
    """If the older of two rows was never read, syncd holds the payment after the sweep that reads it."""
    doubled = rig.pay(None)
    beside(rig, 6_000)
    rig.box.halo.add_row(doubled, rig.box.halo.add_invoice(), 10.99)
    made = [rig.pay("succeeded") for _ in range(30)]
    rig.box.stripe.advance(doubled, "succeeded")
    rig.once()
    assert rig.statuses(doubled) == [1, 3]
    for payment in (more := [rig.pay(None) for _ in range(30)]):
        rig.box.stripe.advance(payment, "succeeded", emit=False)
    rig.sweep()
    assert [(entry.id, entry.code) for entry in rig.attention()] == [(doubled, "amount_mismatch")]
    assert all(rig.statuses(payment) == [3] for payment in (*made, *more))


def test_a_search_that_has_begun_goes_on(rig: Rig) -> None:
    """The search for the row of an old payment continues, although a sweep and a re-read see the payment."""
    payment = rig.pay("succeeded", rows=(), created=rig.clock() - 4 * DAY)
    rig.once()
    rig.clock.seconds += 700
    rig.sweep()
    rig.run(lambda parts: parts.engine.poller.rereads.read_one(payment))
    rig.clock.seconds += 2_000
    rig.cycle()
    assert rig.condition(payment) is Condition.UNMATCHED


def test_pages_that_were_read_minutes_ago(rig: Rig) -> None:
    """A new payment is looked up again, because its row may have changed since the pages were read."""
    rig.settings["SYNCD_HALO__RATE_LIMIT"] = "20"
    rig.settings["SYNCD_PUSH__BATCH"] = "5"
    old = rig.clock() - 3 * DAY
    for _ in range(150):
        rig.box.stripe.advance(rig.pay(None, created=old), "succeeded", old, emit=False)
    payment, late = rig.pay(None), rig.clock() + 400
    changed: list[float] = []

    async def work(parts: Parts) -> None:
        await parts.run.list_since(int(old) - DAY, "4d")
        sleep = rig.world.sleep

        async def nap(seconds: float) -> None:
            await sleep(seconds)
            if rig.clock() > late and not changed:
                changed.append(rig.clock())
                rig.box.halo.rows_of(payment)[0]["amount"] = 5.0
                rig.box.stripe.advance(payment, "succeeded")
                await parts.engine.poll()

        parts.engine.rate_limiters[Side.HALO].sleep = nap
        await parts.engine.pusher.push()

    rig.run(work)
    assert changed
    assert (rig.statuses(payment), rig.condition(payment)) == ([1], Condition.HELD)


def backlog(rig: Rig, payments: int) -> list[str]:
    """Create payments of three days ago without events: only a backfill finds them."""
    old = rig.clock() - 3 * DAY
    made = [rig.pay(None, created=old) for _ in range(payments)]
    for payment in made:
        rig.box.stripe.advance(payment, "succeeded", old, emit=False)
    return made


class StoppedError(Exception):
    """Simulates the end of the process."""


def interrupt(rig: Rig, *, page: int = 0, chunk: int = 0) -> None:
    """Run a backfill whose process ends after this page of Halo or this chunk of payments."""

    def after(number: int) -> Progress:
        calls: list[int] = []

        def progress(*numbers: int) -> None:
            calls.extend(numbers[:1])
            if len(calls) == number:
                raise StoppedError

        return progress

    async def work(parts: Parts) -> None:
        await parts.run.list_since(int(rig.clock()) - 4 * DAY, "4d")
        pusher = parts.engine.pusher
        pusher.all_rows.progress, pusher.progress = after(page), after(chunk)
        await pusher.push()

    with pytest.raises(StoppedError):
        rig.run(work)


@pytest.mark.parametrize("page", [1, 5, 9])
def test_a_backfill_continues_the_pages_of_an_interrupted_one(rig: Rig, page: int) -> None:
    """If a backfill was stopped while it read pages, the next one reads page one and the remaining pages."""
    made = backlog(rig, 1_000)
    interrupt(rig, page=page)
    assert lookups(rig) == (page, 0)
    rig.clock.seconds += 60
    rig.backfill(4)
    pages, alone = lookups(rig)
    assert (pages, alone) == (11, 0)  # only the first page is read twice, to find newer rows
    assert all(rig.statuses(payment) == [3] for payment in made)
    assert rig.stored(lambda store: store.rows.count()) == 0


def test_a_backfill_uses_the_pages_of_one_that_was_interrupted_later(rig: Rig) -> None:
    """If a backfill was stopped during its writes, the next one uses the stored rows and reads one page."""
    made = backlog(rig, 1_000)
    interrupt(rig, chunk=2)
    before, _ = lookups(rig)
    rig.clock.seconds += 60
    rig.backfill(4)
    pages, alone = lookups(rig)
    assert (pages - before, alone) == (1, 0)
    assert all(rig.statuses(payment) == [3] for payment in made)


@pytest.mark.parametrize("rows", [5, 120])
def test_rows_that_are_new_since_the_interruption(rig: Rig, rows: int) -> None:
    """A resumed backfill finds rows that are new in Halo, and rows that moved to another page."""
    made = backlog(rig, 500)
    interrupt(rig, page=3)
    later = [rig.pay("succeeded") for _ in range(rows)]
    rig.clock.seconds += 60
    rig.run(lambda parts: parts.engine.poll())
    rig.backfill(4)
    assert all(rig.statuses(payment) == [3] for payment in [*made, *later])
    assert lookups(rig)[0] <= 5 + rows // 100 + 3


def test_rows_that_are_deleted_during_the_interruption(rig: Rig) -> None:
    """A resumed backfill finds rows that moved to an earlier page because newer rows were deleted."""
    made = backlog(rig, 500)
    interrupt(rig, page=3)
    for payment in made[-150:]:
        for row in rig.box.halo.rows_of(payment):
            del rig.box.halo.rows[row["id"]]
    rig.clock.seconds += 60
    rig.backfill(4)
    assert all(rig.statuses(payment) == [3] for payment in made[:-150])
    assert {rig.condition(payment) for payment in made[-150:]} <= {
        Condition.NOT_HALOS,
        Condition.UNMATCHED,
        Condition.FAILED,
    }


def test_a_payment_that_was_written_during_the_interruption(rig: Rig) -> None:
    """After syncd has written a row, a resumed backfill reads the row again before the next write."""
    made, old = backlog(rig, 300), rig.clock() - 3 * DAY
    name = rig.pay(None, created=old)  # its row is on the first page
    rig.box.stripe.advance(name, "payment_failed", old, emit=False)
    interrupt(rig, page=2)
    rig.run(lambda parts: parts.engine.pusher.prove(name, WriteKind.UPDATE))
    assert rig.statuses(name) == [4]
    rig.clock.seconds += 60
    rig.box.halo.rows_of(name)[0]["amount"] = 5.0
    rig.box.stripe.advance(name, "succeeded")
    rig.run(lambda parts: parts.engine.poll())
    rig.backfill(4)
    assert rig.condition(name) is Condition.HELD
    assert all(rig.statuses(payment) == [3] for payment in made)


@pytest.mark.parametrize("due", [True, False])
def test_rows_that_an_interrupted_push_left_are_deleted(rig: Rig, *, due: bool) -> None:
    """Stored rows older than five minutes are not used: the next push reads new ones, or deletes them."""
    backlog(rig, 300)
    interrupt(rig, page=2)
    rig.clock.seconds += 301
    if not due:
        with contextlib.closing(sqlite3.connect(rig.folder / "syncd.db")) as database, database:
            database.execute("UPDATE payments SET condition = 'in_step'")
    rig.run(lambda parts: parts.engine.pusher.push())
    assert lookups(rig)[0] == 2 + (3 if due else 0)
    assert rig.stored(lambda store: store.rows.count()) == 0


def test_commits_of_a_listing(rig: Rig) -> None:
    """Each page of Stripe's list takes two commits: one for the request, one for the page itself."""
    commits: list[int] = []

    async def work(parts: Parts) -> None:
        commits.append(_commits(rig))
        await parts.engine.sweeper.backfill(int(rig.clock()) - 90 * DAY, "90d")
        commits.append(_commits(rig))

    for _ in range(500):
        rig.pay(None)
    rig.run(work)
    assert commits[1] - commits[0] == 5 * 2


def _commits(rig: Rig) -> int:
    """Number of transactions that wrote to the database, from SQLite's file change counter."""
    return int.from_bytes((rig.folder / "syncd.db").read_bytes()[24:28], "big")


@pytest.mark.parametrize("kind", ["500", "504", "reset"])
def test_list_of_all_rows_that_always_fails(rig: Rig, kind: str) -> None:
    """If only the list of all rows fails, syncd looks up each payment alone and pushes it."""
    payments = [rig.pay("succeeded") for _ in range(12)]

    def lists_all(asked: Request) -> bool:
        return asked.path == "/api/InvoicePayment" and "intent_id" not in asked.params()

    rig.box.halo.faults.append(Fault(kind, times=None, method="GET", match=lists_all))
    rig.once()
    assert {rig.condition(payment) for payment in payments} == {Condition.IN_STEP}


def test_halo_that_lists_nothing_is_not_asked_for_each_payment(rig: Rig) -> None:
    """If the list of rows and the test lookup both fail, the push ends without a lookup of each payment."""
    payments = [rig.pay("succeeded") for _ in range(12)]
    rig.box.halo.faults.append(Fault("500", times=None, method="GET", path="/api/InvoicePayment"))
    with pytest.raises(LinkFailure):
        rig.once()
    assert {rig.condition(payment) for payment in payments} == {Condition.DUE}
    asked = {one.params().get("intent_id") for one in rig.box.halo.requests}
    assert asked.isdisjoint(payments)


@pytest.mark.parametrize(("batch", "place"), [(50, 4), (2, 4), (2, -1)])
def test_a_stopped_tenant_is_tried_again_where_its_first_update_was_passed(
    rig: Rig, batch: int, place: int
) -> None:
    """An interrupted push resumes behind the payment whose update comes first: it is reached all the same."""
    rig.proven = False
    rig.settings["SYNCD_PUSH__BATCH"] = str(batch)
    made = [rig.pay("succeeded") for _ in range(9)]
    rig.box.halo.keeps.drops = frozenset({"status"})
    rig.cycle()
    rig.box.halo.keeps.drops = frozenset()
    rig.clock.seconds += DAY + 600
    passed = rig.stored(lambda store: store.due(rig.clock(), 100, "")[place].intent_id)
    tenant = f"{rig.box.halo.url} {rig.box.halo.client_id}"
    first = FIRST_UPDATE.encode(passed, tenant)
    rig.stored(lambda store: store.write_notes({FIRST_UPDATE.name: first, PUSH_AFTER.name: passed}))
    rig.cycle()
    assert all(rig.statuses(payment) == [3] for payment in made)
