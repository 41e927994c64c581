"""Cases that users of similar programs reported, over real HTTP to the sandbox."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from syncd.core.records import Condition
from syncd.sandbox.faults import Fault
from syncd.service.lanes import Steps
from syncd.sync.build import Parts
from syncd.sync.lease import Lease, this_process
from syncd.sync.policy import release_holds
from tests.conftest import Rig

DAY = 86_400


# --- a status that cannot be read ----------------------------------------------------------------


@pytest.mark.parametrize("written", ["3", " 3 ", "3.0", 3.0, "+3"])
@pytest.mark.parametrize("state", ["processing", "canceled"])
def test_a_status_written_as_text_is_read(rig: Rig, written: Any, state: str) -> None:
    """A paid row whose status is a text counts as paid: syncd does not overwrite it."""
    payment = rig.pay(state)
    rig.box.halo.rows_of(payment)[0]["status"] = written
    rig.once()
    assert rig.statuses(payment) == [written]
    assert [line.code for line in rig.attention()] == ["halo_says_succeeded"]


@pytest.mark.parametrize(
    "written", [None, True, False, "", "paid", "3.5", 3.5, [3], {}, "0x3", "\u0663"]
)
@pytest.mark.parametrize("state", ["processing", "succeeded", "payment_failed"])
def test_a_status_that_cannot_be_read_is_held(rig: Rig, written: Any, state: str) -> None:
    """A row with an unreadable status may be paid: syncd does not write it and lists the payment."""
    payment = rig.pay(state)
    rig.box.halo.rows_of(payment)[0]["status"] = written
    rig.once()
    assert rig.statuses(payment) == [written]
    assert rig.posts() == []
    [line] = rig.attention()
    assert line.code == "row_unreadable"
    assert "status that syncd can read" in line.reason
    rig.box.halo.rows_of(payment)[0]["status"] = 1
    rig.stored(lambda store: store.people.retry([payment], rig.clock()))
    rig.once()
    assert rig.condition(payment) is Condition.IN_STEP


def test_a_row_without_the_field(rig: Rig) -> None:
    """If one of two rows has no status, the payment is held, whatever the other row shows."""
    payment = rig.pay("succeeded", rows=(5.0, 5.99))
    del rig.box.halo.rows_of(payment)[1]["status"]
    rig.once()
    assert rig.posts() == []
    assert [line.code for line in rig.attention()] == ["row_unreadable"]


# --- pages that are shorter than requested ---------------------------------------------------------


@pytest.mark.parametrize("cap", [100, 50, 20, 7, 1])
@pytest.mark.parametrize("shape", ["bare", "payments"])
def test_pages_capped_below_what_was_asked_for(rig: Rig, cap: int, shape: str) -> None:
    """Each row of each page is found, whatever the page size and whether or not Halo sends a count."""
    count = 130 if cap >= 20 else 24
    rig.box.halo.rate_limit = None
    rig.box.halo.page_cap, rig.box.halo.list_shape = cap, shape
    payments = [rig.pay("succeeded") for _ in range(count)]
    rig.once()
    assert {rig.condition(payment) for payment in payments} == {Condition.IN_STEP}


def test_a_list_that_names_no_payment(rig: Rig) -> None:
    """If Halo's pages do not show the payment of a row, syncd asks Halo for each payment separately."""
    payments = [rig.pay("succeeded") for _ in range(15)]
    for payment in payments:
        rig.box.halo.rows_of(payment)[0]["intent_id"] = None
    asked = []

    def look(request: Any) -> bool:
        asked.append(request.params().get("intent_id"))
        return False

    rig.box.halo.faults.append(Fault("500", path="InvoicePayment", match=look))
    rig.once()
    assert set(payments) <= set(asked)


def test_one_payment_with_more_rows_than_a_page(rig: Rig) -> None:
    """All rows of one payment are found, over several short pages without a count."""
    rig.box.halo.page_cap, rig.box.halo.list_shape = 2, "bare"
    payment = rig.pay("succeeded", amount=700, rows=(1.0,) * 7)
    rig.once()
    assert rig.statuses(payment) == [3] * 7


# --- single runs by a timer -----------------------------------------------------------------------


def test_single_runs_sweep_when_a_sweep_is_due(rig: Rig) -> None:
    """Runs by a timer sweep once a day: they find a missed event, a late row and a drifted row."""
    rig.once()
    late = rig.pay(None)
    rig.box.stripe.advance(late, "succeeded", emit=False)
    unmatched = rig.pay("succeeded", rows=())
    rig.once()
    assert rig.statuses(late) == [1]
    rig.clock.seconds += DAY / 2
    rig.once()
    assert rig.stored(lambda store: store.note("last_sweep")) is None
    drifted = rig.pay("succeeded")
    rig.once()
    rig.box.halo.rows_of(drifted)[0]["status"] = 1
    rig.clock.seconds += DAY / 2
    rig.box.halo.add_row(unmatched, rig.box.halo.add_invoice(), 10.99)
    rig.once()
    assert (rig.statuses(late), rig.statuses(drifted)) == ([3], [3])
    assert rig.statuses(unmatched) == [3]
    assert rig.stored(lambda store: store.note("last_sweep")) is not None
    before = len(rig.box.stripe.requests)
    rig.clock.seconds += 300
    rig.once()
    assert len(rig.box.stripe.requests) - before == 1  # the next sweep is due in a day


def test_a_sweep_lists_since_the_last_sweep(rig: Rig) -> None:
    """A sweep lists payments since the last successful sweep, also after a week or after failures."""
    rig.settings = {"SYNCD_POLL__SWEEP": "7d"}
    rig.once()
    early = rig.pay(None)
    rig.box.stripe.advance(early, "succeeded", emit=False)
    rig.clock.seconds += 7 * DAY
    rig.once()
    assert rig.statuses(early) == [3]
    rig.settings = {}
    rig.box.stripe.faults.append(Fault("403", times=None, path="/v1/payment_intents"))
    missed = rig.pay(None)
    rig.box.stripe.advance(missed, "succeeded", emit=False)
    for _ in range(5):
        rig.clock.seconds += DAY
        with suppress(Exception):
            rig.once()
    rig.box.stripe.faults.clear()
    rig.once()
    assert rig.statuses(missed) == [3]


def test_a_service_that_is_restarted_every_day_sweeps(rig: Rig) -> None:
    """Before the first sweep the time counts from the first start: daily restarts delay no sweep."""

    async def serve(parts: Parts) -> None:
        steps = Steps(
            parts, lambda step: step(), lambda: None, lambda: None, rig.clock(), rig.clock
        )
        await steps._sweep()
        await asyncio.gather(*steps.running)

    for _ in range(3):
        rig.run(serve)
        assert rig.stored(lambda store: store.note("last_sweep")) is None
        rig.clock.seconds += DAY / 3
    rig.run(serve)
    assert rig.stored(lambda store: store.note("last_sweep")) is not None


def test_a_sweep_of_a_single_run_that_failed_is_due_still(rig: Rig) -> None:
    """A failed sweep stops no push, is reported, and the next run retries it."""
    rig.once()
    rig.clock.seconds += DAY + 1
    payment = rig.pay("succeeded")
    rig.box.stripe.faults.append(Fault("403", times=None, path="/v1/payment_intents"))
    with pytest.raises(Exception, match="payment_intents"):
        rig.once()
    assert rig.statuses(payment) == [3]
    assert rig.stored(lambda store: store.note("last_sweep")) is None
    rig.box.stripe.faults.clear()
    rig.once()
    assert rig.stored(lambda store: store.note("last_sweep")) is not None


@pytest.mark.parametrize("how", ["service", "single run"])
def test_a_sweep_whose_half_at_stripe_fails_still_reads_halo_back(rig: Rig, how: str) -> None:
    """If the sweep fails at Stripe, it still reads Halo's rows back, once, and stays due."""
    drifted = rig.pay("succeeded")
    rig.once()
    rig.box.halo.rows_of(drifted)[0]["status"] = 1
    rig.clock.seconds += DAY + 1
    rig.box.stripe.faults.append(Fault("403", times=None, path="/v1/payment_intents"))

    async def serve(parts: Parts) -> None:
        steps = Steps(parts, lambda step: step(), lambda: None, lambda: None, 0.0, rig.clock)
        await steps._sweep()
        await asyncio.gather(*steps.running)

    def sweep() -> None:
        if how == "service":
            rig.run(serve)
        else:
            with pytest.raises(Exception, match="payment_intents"):
                rig.once()

    sweep()
    assert rig.statuses(drifted) == [3]
    assert rig.stored(lambda store: store.note("last_sweep")) is None
    rig.clock.seconds += 900
    before = len(rig.box.halo.requests)
    sweep()
    assert len(rig.box.halo.requests) - before <= 3  # at most a sign-in and one cheap request
    rig.box.stripe.faults.clear()
    rig.clock.seconds += 900
    if how == "service":
        rig.run(serve)
    else:
        rig.once()
    assert rig.stored(lambda store: store.note("last_sweep")) is not None


# --- a refused cursor ------------------------------------------------------------------------------


def refused_cursor() -> Fault:
    """Stripe refuses every second page."""
    body = b'{"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such event"}}'
    return Fault(
        "400",
        times=None,
        path="/v1/",
        body=body,
        match=lambda request: "starting_after" in request.params(),
    )


def test_a_refused_cursor_stops_no_push_of_a_single_run(rig: Rig) -> None:
    """If Stripe refuses the second page of events, a single run still pushes what was due before."""
    rig.box.halo.faults.append(Fault("503", times=None))
    before = rig.pay("succeeded")
    with pytest.raises(Exception, match="503"):
        rig.once()
    rig.box.halo.faults.clear()
    for _ in range(120):
        rig.pay("processing", rows=())
    rig.box.stripe.faults.append(refused_cursor())
    with pytest.raises(Exception, match="No such event"):
        rig.once()
    assert rig.statuses(before) == [3]
    done = rig.command("--once")
    assert done.returncode == 69
    assert "Traceback" not in done.stderr


def test_a_refused_cursor_pauses_stripe_in_the_service(rig: Rig) -> None:
    """If Stripe refuses the second page, the log names Stripe, and the pause holds Stripe's reason."""
    for _ in range(120):
        rig.pay("processing", rows=())
    rig.box.stripe.faults.append(refused_cursor())

    async def poll(parts: Parts) -> Any:
        await parts.engine.poll()
        return parts.engine.links

    links = rig.run(poll)
    [line] = rig.told.events("poll_failed")
    assert line["side"] == "stripe"
    assert "No such event" in (links["stripe"].reason or "")


@pytest.mark.parametrize("listing", ["payment_intents", "refunds", "disputes"])
def test_one_listing_of_a_sweep_stops_no_other(rig: Rig, listing: str) -> None:
    """If one listing of a sweep fails, the sweep still reads the payment intents and the refunds."""
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    rig.once()
    rig.box.stripe.requests.clear()
    rig.box.stripe.faults.append(Fault("500", times=None, path=f"/v1/{listing}"))

    async def sweep(parts: Parts) -> None:
        await parts.engine.sweep()

    rig.run(sweep)
    read = {request.path.rpartition("/")[2] for request in rig.box.stripe.requests}
    assert {"payment_intents", "refunds"} <= read


# --- another process holds the push lock -----------------------------------------------------------


def test_a_lock_held_by_another_process_proves_nothing(rig: Rig) -> None:
    """If another process holds the lock, readiness advances only when Halo has answered that process."""
    rig.pay("succeeded")

    async def work(parts: Parts) -> list[float | None]:
        engine, store = parts.engine, parts.engine.store
        await engine.poll()
        other = Lease(store, this_process("another"), rig.clock, alive=lambda _: True)
        other.me = type(other.me)("x" * 32, "another", "elsewhere", "boot", 1)
        other.take()
        seen = []
        await engine.push()
        seen.append(engine.last.get("push"))
        store.write_notes({"last_push": str(int(rig.clock()) - 10)})
        await engine.push()
        seen.append(engine.last.get("push"))
        rig.clock.seconds += 60
        await engine.push()
        seen.append(engine.last.get("push"))
        return seen

    start = int(rig.clock())
    assert rig.run(work) == [None, start - 10, start - 10]
    assert len(rig.told.events("push_left_to_other")) == 3


# --- only real answers count --------------------------------------------------------------------------


def test_a_push_without_a_request_has_not_worked(rig: Rig) -> None:
    """With nothing due, readiness advances by an occasional cheap request, only if Halo answers."""

    async def work(parts: Parts) -> list[tuple[float | None, bool]]:
        seen, start = [], rig.clock()
        for down, seconds in ((False, 0), (False, 300), (False, 200), (True, 460), (False, 900)):
            rig.clock.seconds += seconds
            rig.box.halo.faults[:] = [Fault("503", times=None)] if down else []
            before = len(rig.box.halo.requests)
            await parts.engine.push()
            last = parts.engine.last.get("push")
            seen.append((last and last - start, len(rig.box.halo.requests) - before > 0))
        return seen

    *seen, (last, asked) = rig.run(work)
    assert seen == [(0, True), (0, False), (500, True), (500, True)]
    assert asked
    assert last >= 1860


def test_single_runs_with_nothing_due_count_only_real_answers(rig: Rig) -> None:
    """Runs by a timer with nothing due send no request if Halo answered lately; later they find it down."""
    rig.once()
    first = rig.stored(lambda store: store.note("last_push"))
    before = len(rig.box.halo.requests)
    rig.clock.seconds += 60
    rig.once()
    assert len(rig.box.halo.requests) == before
    assert rig.stored(lambda store: store.note("last_push")) == first
    rig.clock.seconds += 600
    rig.box.halo.faults.append(Fault("503", times=None))
    with pytest.raises(Exception, match="503"):
        rig.once()
    assert rig.stored(lambda store: store.note("last_push")) == first


# --- a reload, and corrected metadata ---------------------------------------------------------------


def test_a_payment_held_again_for_the_same_reason_is_held_since_then(rig: Rig) -> None:
    """If a reload holds a payment again for the same reason, the hold keeps its start time."""
    payment = rig.pay("succeeded", rows=(5.0,))
    rig.once()
    [line] = rig.attention()
    rig.clock.seconds += 3_600

    async def reload(parts: Parts) -> None:
        release_holds(parts.config, parts.engine.store, rig.clock(), reloaded=True)
        await parts.engine.push()

    rig.run(reload)
    [again] = rig.attention()
    assert (again.id, again.code, again.since) == (payment, line.code, line.since)
    rig.stored(lambda store: store.people.retry([payment], rig.clock()))
    rig.box.halo.rows_of(payment)[0]["amount"] = None
    rig.once()
    [other] = rig.attention()
    assert (other.code, other.since) == ("amount_unreadable", rig.clock())


def creating(rig: Rig) -> int:
    """Enable create_missing; returns a new invoice."""
    rig.settings |= {
        "SYNCD_PUSH__CREATE_MISSING": "true",
        "SYNCD_HALO__NEW_ROW__METHOD": "12",
        "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
    }
    return rig.box.halo.add_invoice()


@pytest.mark.parametrize("first", [None, "1234567", "not a number"])
@pytest.mark.parametrize("how", ["sweep", "look"])
def test_metadata_that_was_put_right_later(rig: Rig, first: str | None, how: str) -> None:
    """The sweep, and the next check of an unmatched payment, notice corrected metadata."""
    invoice = creating(rig)
    metadata = {} if first is None else {"halo_invoice_id": first}
    payment = rig.pay("succeeded", rows=(), metadata=metadata)
    rig.once()
    assert rig.box.halo.rows_of(payment) == []
    rig.box.stripe.intents[payment]["metadata"] = {"halo_invoice_id": str(invoice)}
    rig.clock.seconds += 900
    if how == "sweep" or first is not None:
        rig.sweep()
    rig.once()
    [row] = rig.box.halo.rows_of(payment)
    assert (row["invoice_id"], row["status"]) == (invoice, 3)
    assert rig.condition(payment) is Condition.IN_STEP


def test_looks_at_unmatched_payments_spare_stripes_budget(rig: Rig) -> None:
    """With little of the budget left, syncd does not re-read unmatched payments one by one."""
    creating(rig)
    rig.settings["SYNCD_STRIPE__READ_BUDGET"] = "3"
    payment = rig.pay("succeeded", rows=(), metadata={})
    rig.once()
    rig.clock.seconds += 900
    rig.once()
    assert not [r for r in rig.box.stripe.requests if payment in r.path]


# --- a push that is proven by reading back -------------------------------------------------------------


def told_once(rig: Rig, payments: list[str]) -> None:
    """Each of these pushes is logged, counted and listed once."""
    assert [rig.statuses(one) for one in payments] == [[3]] * len(payments)
    assert sorted(line["intent"] for line in rig.told.events("pushed")) == sorted(payments)
    counted = {
        name: rig.told.registry.get_sample_value("syncd_pushes_total", {"outcome": name})
        for name in ("updated", "created", "in_step")
    }
    assert counted["in_step"] == 0
    assert sum(filter(None, counted.values())) == len(payments)
    pushes = rig.stored(lambda store: store.people.pushes(0))
    assert sorted(one.intent_id for one in pushes) == sorted(payments)


def run_on(rig: Rig, hours: int = 2) -> None:
    """Run the service for some hours, whatever fails."""
    for _ in range(hours * 12):
        rig.cycle()
        rig.clock.seconds += 300


@pytest.mark.parametrize("kind", ["504_after", "500_after", "reset_after", "truncated", "cut_json"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("insert", [False, True])
def test_a_write_without_an_answer_is_told_once(
    rig: Rig, kind: str, number: int, *, insert: bool
) -> None:
    """Halo stores a write and does not answer: syncd finds the rows and reports each push once."""
    payments = []
    for _ in range(number):
        metadata = {"halo_invoice_id": str(creating(rig))} if insert else {}
        payments.append(rig.pay("succeeded", rows=() if insert else (10.99,), metadata=metadata))
    rig.box.halo.faults.append(Fault(kind, times=1, method="POST", path="/api/InvoicePayment"))
    run_on(rig)
    told_once(rig, payments)


@pytest.mark.parametrize(
    ("status", "body"),
    [(202, b"{}"), (204, b""), (200, b"null"), (200, b'[{"id": 1}]'), (201, b""), (202, b"true")],
)
@pytest.mark.parametrize("insert", [False, True])
def test_an_answer_that_names_no_status_is_told_once(
    rig: Rig, status: int, body: bytes, *, insert: bool
) -> None:
    """After an answer 202, 204, null or without a status, syncd reads back and reports the push once."""
    metadata = {"halo_invoice_id": str(creating(rig))} if insert else {}
    payment = rig.pay("succeeded", rows=() if insert else (10.99,), metadata=metadata)
    rig.box.halo.faults.append(
        Fault(
            "500_after",
            times=None,
            method="POST",
            path="/api/InvoicePayment",
            status=status,
            body=body,
        )
    )
    run_on(rig)
    told_once(rig, [payment])


def test_a_state_that_halos_webhook_wrote_is_not_told_as_ours(rig: Rig) -> None:
    """If a webhook writes the next state, syncd does not report this state as its own push."""
    payment = rig.pay("processing")
    rig.cycle()
    rig.clock.seconds += 300
    rig.box.stripe.advance(payment, "succeeded")
    rig.box.halo.rows_of(payment)[0]["status"] = 3
    run_on(rig, 1)
    assert [line["new"] for line in rig.told.events("pushed")] == ["processing"]
    assert rig.condition(payment) is Condition.IN_STEP


@pytest.mark.parametrize("shape", ["rows", "empty", "no_json", "error_in_200", "other_rows"])
@pytest.mark.parametrize("insert", [False, True])
def test_a_push_is_listed_once_however_it_was_proven(rig: Rig, shape: str, *, insert: bool) -> None:
    """If Halo's answer proves nothing, syncd reads back, then logs, counts and lists the push once."""
    rig.box.halo.answer_shape = shape
    if insert:
        metadata = {"halo_invoice_id": str(creating(rig))}
        payment = rig.pay("succeeded", rows=(), metadata=metadata)
    else:
        payment = rig.pay("succeeded")
    for _ in range(3):
        rig.once()
        rig.clock.seconds += 60
    assert rig.statuses(payment) == [3]
    assert [line["intent"] for line in rig.told.events("pushed")] == [payment]
    [listed] = rig.stored(lambda store: store.people.pushes(0))
    assert (listed.intent_id, listed.rows) == (payment, (rig.box.halo.rows_of(payment)[0]["id"],))
