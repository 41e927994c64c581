"""The engine over real HTTP: the decision table, and faults of Stripe, Halo and the network."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from syncd.clients.stripe import source
from syncd.core.errors import LeaseHeld, LinkFailure, Side
from syncd.core.records import Condition, Holder
from syncd.sandbox import Fault, Request
from syncd.store.coordination import LAST
from syncd.sync.build import Parts
from syncd.sync.lease import Lease
from tests.conftest import HandWorld, Rig
from tests.due import next_due

STATES = ("succeeded", "payment_failed", "processing", "canceled", "requires_action")
DAY = 86_400


# --- the decision table ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_update(rig: Rig, state: str) -> None:
    """If a row's status differs, syncd writes the new status and the trace that a webhook would leave."""
    payment = rig.pay(state)
    rig.once()
    (row,) = rig.box.halo.rows_of(payment)
    assert row["status"] == rig.box.halo.status[state]
    trace = json.loads(row["webhook_payload"])
    assert (trace["type"], trace["data"]["object"]["id"]) == (f"payment_intent.{state}", payment)
    assert "secret" not in row["webhook_payload"].replace(
        "payment_intent_client_secret=[removed]", ""
    )
    assert row["webhook_received_date"].startswith("2026-11-24T")
    (posted,) = rig.posts()
    assert set(posted.json()[0]) == {"id", "status", "webhook_payload", "webhook_received_date"}
    assert rig.condition(payment) is Condition.IN_STEP


def test_one_line_of_log_for_a_push(rig: Rig) -> None:
    """The log entry of a push has the payment, rows, old and new status, attempt and delay."""
    payment = rig.pay("succeeded")
    rig.clock.seconds += 42
    rig.once()
    (row,) = rig.box.halo.rows_of(payment)
    assert rig.told.events("pushed") == [
        {
            "level": "info",
            "event": "pushed",
            "intent": payment,
            "rows": [row["id"]],
            "old": ["status 1"],
            "new": "succeeded",
            "attempt": 1,
            "lag_seconds": 42.0,
        }
    ]


def test_without_trace(rig: Rig) -> None:
    """With `push.trace = false`, syncd sends only the row's id and status."""
    rig.settings["SYNCD_PUSH__TRACE"] = "false"
    rig.pay("succeeded")
    rig.once()
    assert [set(row) for row in rig.posts()[0].json()] == [{"id", "status"}]


def test_several_rows_of_one_intent(rig: Rig) -> None:
    """If a payment pays three invoices, syncd updates all three rows in one request."""
    payment = rig.pay("succeeded", amount=6_000, rows=(10.0, 20.0, 30.0))
    rig.once()
    assert rig.statuses(payment) == [3, 3, 3]
    assert len(rig.posts()) == 1


def test_in_step_already(rig: Rig) -> None:
    """If Halo's own webhook has already updated the row, syncd sends nothing."""
    payment = rig.pay(None)
    rig.box.stripe.advance(payment, "succeeded")
    rig.box.halo.native_webhook(rig.box.stripe.events[-1])
    rig.once()
    assert rig.posts() == []
    assert rig.condition(payment) is Condition.IN_STEP


@pytest.mark.parametrize("state", STATES)
def test_hold_without_a_number(rig: Rig, state: str) -> None:
    """A payment in a state without a configured number is held, and the entry names the key to set."""
    rig.settings[f"SYNCD_HALO__STATUS__{state.upper()}"] = ""
    payment = rig.pay(state)
    rig.once()
    (entry,) = rig.attention()
    assert (entry.id, entry.code) == (payment, "status_not_configured")
    assert f"halo.status.{state}" in entry.reason
    assert rig.posts() == []


def test_hold_is_lifted_by_configuration(rig: Rig) -> None:
    """After the missing status number is configured, syncd pushes the payments that were held for it."""
    rig.settings["SYNCD_HALO__STATUS__PROCESSING"] = ""
    payment = rig.pay("processing")
    rig.once()
    assert rig.condition(payment) is Condition.HELD
    del rig.settings["SYNCD_HALO__STATUS__PROCESSING"]
    rig.once()
    assert rig.statuses(payment) == [5]
    assert rig.attention() == []


@pytest.mark.parametrize("state", ["payment_failed", "processing", "canceled", "requires_action"])
def test_halo_says_succeeded(rig: Rig, state: str) -> None:
    """If only Halo shows a payment as paid, syncd asks Stripe again, holds the payment and writes nothing."""
    payment = rig.pay(state)
    rig.box.halo.rows_of(payment)[0]["status"] = rig.box.halo.status["succeeded"]
    rig.once()
    assert f"/v1/payment_intents/{payment}" in [r.path for r in rig.box.stripe.requests]
    (entry,) = rig.attention()
    assert (entry.code, rig.statuses(payment), rig.posts()) == ("halo_says_succeeded", [3], [])


def test_halo_says_succeeded_and_stripe_agrees_when_asked(rig: Rig) -> None:
    """If Stripe, when asked again, reports succeeded too, the payment is in step without a write."""
    payment = rig.pay("processing")
    rig.box.stripe.advance(payment, "succeeded", visible_after=600)
    rig.box.halo.rows_of(payment)[0]["status"] = 3
    rig.once()
    assert (rig.condition(payment), rig.attention(), rig.posts()) == (Condition.IN_STEP, [], [])


def test_amount_mismatch_is_held(rig: Rig) -> None:
    """If a payment succeeded but its rows do not add up to the amount received, syncd holds it."""
    payment = rig.pay("succeeded", rows=(10.98,))
    rig.once()
    (entry,) = rig.attention()
    assert (entry.code, rig.statuses(payment)) == ("amount_mismatch", [1])
    assert "10.99 USD" in entry.reason
    assert "10.98" in entry.reason


def test_amount_mismatch_can_be_pushed(rig: Rig) -> None:
    """With `push.on_amount_mismatch = "push"`, syncd updates the rows although the amounts differ."""
    rig.settings["SYNCD_PUSH__ON_AMOUNT_MISMATCH"] = "push"
    payment = rig.pay("succeeded", rows=(10.98,))
    rig.once()
    assert rig.statuses(payment) == [3]


@pytest.mark.parametrize(
    ("currency", "amount", "rows"),
    [
        ("jpy", 500, (500,)),
        ("bhd", 12_340, (12.34,)),
        ("usd", 30, (0.1, 0.1, 0.1)),
        ("ugx", 50_000, (500,)),
        ("eur", 1_000_000_007, (10_000_000.07,)),
    ],
)
def test_amounts_agree(rig: Rig, currency: str, amount: int, rows: tuple[float, ...]) -> None:
    """Syncd compares amounts exactly, whatever number of decimals the currency has."""
    payment = rig.pay("succeeded", amount=amount, rows=rows, currency=currency)
    rig.once()
    assert set(rig.statuses(payment)) == {3}


@pytest.mark.parametrize(
    ("rows", "left_out"),
    [
        ((12.99,), ""),
        ((12.49,), "a surcharge of 0.50 USD"),
        ((5.0, 6.49), "a tip of 1.50 USD"),
        ((10.99,), "a surcharge of 0.50 USD and a tip of 1.50 USD"),
    ],
)
def test_surcharge_and_tip(rig: Rig, rows: tuple[float, ...], left_out: str) -> None:
    """Rows may leave out exactly the surcharge, the tip, or both; the log entry says which."""
    payment = rig.pay("succeeded", amount=1_299, rows=rows, surcharge=50, tip=150)
    rig.once()
    assert set(rig.statuses(payment)) == {3}
    (pushed,) = rig.told.events("pushed")
    assert pushed.get("rows_leave_out", "") == left_out


def test_surcharge_and_tip_that_do_not_explain_it(rig: Rig) -> None:
    """If surcharge and tip do not explain a difference, syncd holds the payment, and the entry names both."""
    payment = rig.pay("succeeded", amount=1_299, rows=(10.98,), surcharge=50, tip=150)
    rig.once()
    (entry,) = rig.attention()
    assert (entry.code, rig.statuses(payment)) == ("amount_mismatch", [1])
    assert "12.99 USD (with a surcharge of 0.50 USD and a tip of 1.50 USD)" in entry.reason


def test_a_surcharge_that_an_event_did_not_show(rig: Rig) -> None:
    """An event of an older API version lacks the surcharge: syncd holds the payment until the next sweep."""
    payment = rig.pay("succeeded", amount=1_149, surcharge=50)
    for event in rig.box.stripe.events:
        event["data"]["object"].pop("amount_details")
    rig.once()
    assert [entry.code for entry in rig.attention()] == ["amount_mismatch"]
    rig.sweep()
    rig.cycle()
    assert (rig.statuses(payment), rig.attention()) == ([3], [])


def test_a_dry_run_says_what_rows_leave_out(live: Rig) -> None:
    """A dry run names the surcharge that the rows leave out, and sends nothing to Halo."""
    live.pay("succeeded", amount=1_149, surcharge=50)
    done = live.command("--once", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "the rows leave out a surcharge of 0.50 USD" in " ".join(done.stdout.split())
    assert live.posts() == []


def test_partial_capture(rig: Rig) -> None:
    """After a partial capture, syncd compares the rows with the amount received, not the amount requested."""
    payment = rig.pay(None, rows=(5.0,))
    rig.box.stripe.advance(payment, "succeeded", amount_received=500)
    rig.once()
    assert rig.statuses(payment) == [3]


def test_unmatched_then_not_halos(rig: Rig) -> None:
    """Syncd looks for a missing row five times in a day, then treats the payment as not Halo's."""
    payment = rig.pay("succeeded", rows=())
    rig.once()
    assert rig.condition(payment) is Condition.UNMATCHED
    looks = 0
    while rig.condition(payment) is Condition.UNMATCHED:
        rig.clock.seconds = rig.stored(next_due)
        rig.run(lambda parts: parts.engine.pusher.push())
        looks += 1
    assert rig.condition(payment) is Condition.NOT_HALOS
    assert looks == 5
    assert DAY * 0.9 < rig.clock.seconds - 1_795_500_000 < DAY * 1.1
    assert rig.attention() == []


def test_unmatched_until_the_row_comes(rig: Rig) -> None:
    """If Halo creates the row late, syncd finds and updates the row at its next lookup."""
    payment = rig.pay("succeeded", rows=())
    rig.once()
    rig.box.halo.add_row(payment, rig.box.halo.add_invoice(), 10.99)
    rig.clock.seconds += 700
    rig.once()
    assert rig.statuses(payment) == [3]


# --- create ------------------------------------------------------------------------------------------


def _creating(rig: Rig) -> str:
    rig.settings |= {
        "SYNCD_PUSH__CREATE_MISSING": "true",
        "SYNCD_HALO__NEW_ROW__METHOD": "12",
        "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
    }
    invoice = rig.box.halo.add_invoice()
    return rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})


def test_create(rig: Rig) -> None:
    """With `push.create_missing`, syncd creates the missing row once if the metadata names the invoice."""
    payment = _creating(rig)
    rig.once()
    rig.once()
    (row,) = rig.box.halo.rows_of(payment)
    assert {k: row[k] for k in ("amount", "status", "method", "module_id", "invoice_id")} == {
        "amount": 10.99,
        "status": 3,
        "method": 12,
        "module_id": 231,
        "invoice_id": 1001,
    }
    assert [inserted for _, _, inserted in rig.box.halo.writes] == [True]


def test_nothing_is_created_unless_configured(rig: Rig) -> None:
    """By default, syncd creates no rows."""
    payment = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": "1001"})
    rig.once()
    assert (rig.condition(payment), rig.box.halo.writes) == (Condition.UNMATCHED, [])


@pytest.mark.parametrize("kind", ["500_after", "500"])
def test_create_after_an_error(rig: Rig, kind: str) -> None:
    """After an insert with an error 500, exactly one row exists, whether Halo carried it out or not."""
    payment = _creating(rig)
    rig.box.halo.faults.append(Fault(kind, method="POST", path="InvoicePayment"))
    rig.once()
    assert len(rig.box.halo.rows_of(payment)) == 1
    assert rig.condition(payment) is Condition.IN_STEP


@pytest.mark.parametrize("kind", ["reset_after", "504_after", "reset", "504", "truncated"])
def test_create_left_in_doubt(rig: Rig, kind: str) -> None:
    """After an uncertain insert, syncd waits five minutes and looks for the row before the next insert."""
    payment = _creating(rig)
    rig.box.halo.faults.append(Fault(kind, method="POST", path="InvoicePayment"))
    with pytest.raises(LinkFailure):
        rig.once()
    posts = len(rig.posts())
    with pytest.raises(LinkFailure, match=f"a new row for {payment}"):
        rig.once()  # too early: syncd sends nothing, and reports that
    assert len(rig.posts()) == posts
    rig.clock.seconds += 301
    rig.once()
    assert len(rig.box.halo.rows_of(payment)) == 1
    assert rig.condition(payment) is Condition.IN_STEP


def test_doubtful_insert_is_looked_for_soon_and_sent_late(rig: Rig) -> None:
    """After an uncertain insert, syncd looks for the row at growing gaps, and inserts again after 300 s."""
    payment = _creating(rig)
    rig.box.halo.faults.append(Fault("reset", method="POST", path="InvoicePayment"))
    began = rig.clock.seconds
    looks = []
    while len(rig.posts()) < 2:
        before = len(rig.box.halo.requests)
        rig.cycle()
        if len(rig.box.halo.requests) > before:
            looks.append(rig.clock.seconds - began)
        rig.clock.seconds += 15
    assert looks == [0, 15, 30, 60, 120, 240, 300]
    assert rig.statuses(payment) == [3]
    other = _creating(rig)
    rig.box.halo.faults.append(Fault("reset_after", method="POST", path="InvoicePayment"))
    rig.cycle()
    rig.clock.seconds += 15
    rig.cycle()
    assert rig.condition(other) is Condition.IN_STEP
    assert len(rig.posts()) == 3


@pytest.mark.parametrize("shape", ["empty", "no_json", "error_in_200", "other_rows", "bare_object"])
def test_create_with_an_answer_that_proves_nothing(rig: Rig, shape: str) -> None:
    """If a 2xx answer does not show the new row, syncd reads Halo again and inserts no second row."""
    rig.box.halo.answer_shape = shape
    payment = _creating(rig)
    rig.once()
    assert len(rig.box.halo.rows_of(payment)) == 1
    assert rig.condition(payment) is Condition.IN_STEP


def test_create_with_an_invoice_that_is_no_number(rig: Rig) -> None:
    """If the metadata names the invoice by something other than a number, syncd holds the payment."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": "INV-1001"})
    rig.once()
    assert [entry.code for entry in rig.attention()] == ["invoice_unreadable"]


def test_create_on_an_invoice_that_halo_does_not_know(rig: Rig) -> None:
    """If Halo refuses a new row, the attention list shows Halo's error message."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": "77"})
    rig.once()
    (entry,) = rig.attention()
    assert entry.code == "halo_refuses"
    assert "The invoice does not exist" in entry.reason


# --- newest report, final states, conflicting events -------------------------------------------------


def test_five_events_are_one_push(rig: Rig) -> None:
    """Several events of one payment become one push of the last state."""
    payment = rig.pay(None)
    for state in ("requires_action", "payment_failed", "processing", "succeeded"):
        rig.clock.seconds += 1
        rig.box.stripe.advance(payment, state)
    rig.once()
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 1)


def test_late_event_changes_nothing(rig: Rig) -> None:
    """An older event that becomes visible late does not change the payment's state and causes no push."""
    payment = rig.pay(None)
    rig.box.stripe.advance(payment, "processing", visible_after=100)
    rig.clock.seconds += 5
    rig.box.stripe.advance(payment, "succeeded")
    rig.once()
    rig.clock.seconds += 200
    rig.once()
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 1)


def test_event_visible_late_is_found_by_the_overlap(rig: Rig) -> None:
    """A poll also finds an event that becomes visible late, with a time before the watermark."""
    payment = rig.pay(None)
    rig.box.stripe.advance(payment, "succeeded", visible_after=300)
    rig.once()
    rig.clock.seconds += 310
    rig.once()
    assert rig.statuses(payment) == [3]


def test_two_events_of_one_second(rig: Rig) -> None:
    """If two events have the same second, syncd reads the payment intent to learn the current state."""
    payment = rig.pay(None)
    rig.box.stripe.advance(payment, "processing")
    rig.box.stripe.advance(payment, "payment_failed")
    rig.once()
    assert f"/v1/payment_intents/{payment}" in [r.path for r in rig.box.stripe.requests]
    assert rig.statuses(payment) == [4]


def test_final_stays_final(rig: Rig) -> None:
    """An event that contradicts succeeded changes nothing if the payment intent still shows succeeded."""
    payment = rig.pay("succeeded")
    rig.once()
    rig.clock.seconds += 60
    rig.box.stripe.emit(payment, "payment_failed")
    rig.once()
    assert (rig.statuses(payment), rig.attention()) == ([3], [])


def test_stripe_contradicts_itself(rig: Rig) -> None:
    """If an event reports succeeded but the payment intent shows processing, syncd holds the payment."""
    payment = rig.pay("processing")
    rig.clock.seconds += 5
    rig.box.stripe.emit(payment, "succeeded")
    rig.clock.seconds += 5
    rig.box.stripe.emit(payment, "processing")
    rig.once()
    (entry,) = rig.attention()
    assert (entry.code, rig.statuses(payment)) == ("stripe_contradicts_itself", [1])


def test_failed_then_paid(rig: Rig) -> None:
    """If a failed payment succeeds later, syncd pushes succeeded."""
    payment = rig.pay("payment_failed")
    rig.once()
    rig.clock.seconds += 3_600
    rig.box.stripe.advance(payment, "succeeded")
    rig.once()
    assert rig.statuses(payment) == [3]


@pytest.mark.parametrize("between", ["requires_action", "processing"])
@pytest.mark.parametrize("pages", [1, 2])
def test_failed_again_before_the_next_poll(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, between: str, pages: int
) -> None:
    """If Halo's webhook wrote a state in between, syncd writes payment_failed again on the second failure."""
    if pages == 2:
        monkeypatch.setattr(source, "PAGE_SIZE", 1)
    payment = rig.pay("payment_failed")
    rig.once()
    rig.clock.seconds += 60
    rig.box.stripe.advance(payment, between)
    for row in rig.box.halo.rows_of(payment):
        row["status"] = rig.box.halo.status[between]
    rig.clock.seconds += 60
    rig.box.stripe.advance(payment, "payment_failed")
    rig.once()
    assert rig.statuses(payment) == [rig.box.halo.status["payment_failed"]]
    requests = len(rig.box.halo.requests)
    rig.once()
    assert len(rig.box.halo.requests) == requests, "the same events are not a new state"


# --- polls, watermark and sweeps -------------------------------------------------------------------


def test_at_rest(rig: Rig) -> None:
    """If nothing is new, a poll sends one request to Stripe and none to Halo."""
    rig.pay("succeeded")
    rig.once()
    before = len(rig.box.stripe.requests), len(rig.box.halo.requests)
    rig.once()
    assert (len(rig.box.stripe.requests), len(rig.box.halo.requests)) == (before[0] + 1, before[1])


def test_commits_at_rest(rig: Rig) -> None:
    """If nothing is new, a poll commits twice: once to count the request, once to save the result."""
    rig.pay("succeeded")
    rig.once()
    commits: list[int] = []

    async def polls(parts: Parts) -> None:
        for _ in range(3):
            commits.append(_commits(rig))
            rig.clock.seconds += 300
            await parts.engine.poll()
            assert parts.engine.store.read(LAST["poll"]) == int(rig.clock())

    rig.run(polls)
    assert [later - earlier for earlier, later in pairwise(commits)] == [2, 2]


def _commits(rig: Rig) -> int:
    """Number of transactions that wrote to the database, from SQLite's file change counter."""
    return int.from_bytes((rig.folder / "syncd.db").read_bytes()[24:28], "big")


def test_watermark_moves_only_after_the_last_page(rig: Rig) -> None:
    """After an interrupted listing the watermark stays unchanged, and the next run finds every payment."""
    payments = [rig.pay("succeeded") for _ in range(150)]
    rig.box.stripe.faults.append(Fault("401", path="/v1/events", after=1))
    with pytest.raises(LinkFailure):
        rig.once()
    assert rig.stored(lambda store: store.note("watermark")) is None
    assert rig.stored(lambda store: sum(store.people.conditions().values())) == 100
    rig.once()
    assert all(rig.statuses(payment) == [3] for payment in payments)


def test_gap_is_filled_and_said(rig: Rig) -> None:
    """After 40 days without a poll, syncd reads payment intents to find missed changes, and logs the gap."""
    debit = rig.pay("processing")
    rig.once()
    rig.clock.seconds += 2 * DAY
    rig.box.stripe.advance(debit, "succeeded")
    new = rig.pay("succeeded")
    rig.clock.seconds += 40 * DAY
    rig.once()
    assert (rig.statuses(debit), rig.statuses(new)) == ([3], [3])
    assert len(rig.told.events("gap")) == 1
    assert json.loads(rig.stored(lambda store: store.note("gap")))["intents"] == 2


def test_events_after_a_gap_count_while_the_gap_cannot_be_filled(rig: Rig) -> None:
    """After 40 days without a poll, Stripe fails to list payment intents: no push writes the older state."""
    payment = rig.pay("processing", rows=())
    rig.once()
    rig.clock.seconds += 40 * DAY
    rig.box.stripe.advance(payment, "payment_failed")
    rig.box.halo.add_row(payment, rig.box.halo.add_invoice(), 10.99)
    rig.box.stripe.faults.append(Fault("500", times=99, path="/v1/payment_intents"))
    rig.cycle()
    assert rig.statuses(payment) in ([1], [rig.box.halo.status["payment_failed"]])
    assert rig.stored(lambda store: store.payment(payment))["state"] == "payment_failed"
    rig.box.stripe.faults.clear()
    rig.clock.seconds += DAY
    rig.cycle()
    assert rig.statuses(payment) == [rig.box.halo.status["payment_failed"]]


def test_sweep_finds_what_events_did_not_show(rig: Rig) -> None:
    """A sweep lists payment intents, and so finds a payment without visible events."""
    rig.once()
    payment = rig.pay(None)
    rig.box.stripe.advance(payment, "succeeded", emit=False)
    rig.sweep()
    assert rig.statuses(payment) == [3]


def test_sweep_follows_a_bank_debit(rig: Rig) -> None:
    """A sweep re-reads an old payment that is not final yet."""
    debit = rig.pay("processing")
    rig.once()
    rig.clock.seconds += 10 * DAY
    rig.box.stripe.advance(debit, "succeeded", emit=False)
    rig.sweep()
    assert rig.statuses(debit) == [3]


def test_sweep_lists_when_many_are_open(rig: Rig) -> None:
    """A sweep lists thirty old open payments with one request instead of thirty."""
    debits = [rig.pay("processing") for _ in range(30)]
    rig.once()
    rig.clock.seconds += 10 * DAY
    for debit in debits:
        rig.box.stripe.advance(debit, "succeeded", emit=False)
    rig.box.stripe.requests.clear()
    rig.sweep()
    paths = [request.path for request in rig.box.stripe.requests]
    assert paths == ["/v1/payment_intents", "/v1/refunds", "/v1/disputes"]
    assert all(rig.statuses(debit) == [3] for debit in debits)


def test_sweep_reads_halo_back(rig: Rig) -> None:
    """If someone changes a row in Halo, the sweep finds the row and syncd restores its status."""
    payment = rig.pay("succeeded")
    rig.once()
    rig.box.halo.rows_of(payment)[0]["status"] = 1
    rig.sweep()
    assert rig.statuses(payment) == [3]


def test_sweep_finds_a_deleted_row(rig: Rig) -> None:
    """If someone deletes a row in Halo, the sweep puts the payment on the attention list."""
    payment = rig.pay("succeeded")
    rig.once()
    rig.box.halo.delete_row(rig.box.halo.rows_of(payment)[0]["id"])
    rig.sweep()
    assert [(e.id, e.code) for e in rig.attention()] == [(payment, "row_deleted")]


def test_clock_that_jumps_back(rig: Rig) -> None:
    """If the machine's clock jumps back two hours, syncd still finds and pushes new payments."""
    rig.pay("succeeded")
    rig.once()
    rig.world.now = lambda: rig.clock.seconds - 7_200
    payment = rig.pay("succeeded")
    rig.once()
    assert rig.statuses(payment) == [3]


def test_clock_that_is_ahead_at_the_first_poll(rig: Rig) -> None:
    """If the machine's clock is 30 days ahead, the first poll still finds recent events."""
    payment = rig.pay("succeeded")
    rig.world.now = lambda: rig.clock.seconds + 30 * DAY
    rig.once()
    assert rig.statuses(payment) == [3]


# --- backfill --------------------------------------------------------------------------------------


def test_backfill(rig: Rig) -> None:
    """A backfill updates the rows of payments older than syncd; a second backfill writes nothing."""
    old = [rig.pay(state, created=rig.clock() - 60 * DAY) for state in STATES]
    rig.box.stripe.events.clear()
    assert rig.backfill() == 5
    assert [rig.statuses(payment)[0] for payment in old] == [3, 4, 5, 6, 7]
    writes = len(rig.box.halo.writes)
    rig.backfill()
    assert len(rig.box.halo.writes) == writes


def test_backfill_goes_on_where_it_was(rig: Rig) -> None:
    """An interrupted backfill resumes after its last page, and includes payments made in the meantime."""
    for number in range(250):
        rig.box.stripe.create_intent(created=rig.clock() - DAY - number)
    rig.box.stripe.faults.append(Fault("401", path="payment_intents", after=2))
    with pytest.raises(LinkFailure):
        rig.backfill()
    rig.box.stripe.requests.clear()
    late = rig.pay("succeeded")
    rig.backfill()
    intents = [r for r in rig.box.stripe.requests if r.path == "/v1/payment_intents"]
    queries = [r.params() for r in intents]
    assert "starting_after" in queries[0]
    assert len(queries) == 2
    assert rig.statuses(late) == [3]


def test_backfill_reads_pages_of_rows(rig: Rig) -> None:
    """If many payments are due, syncd reads Halo's rows by pages instead of one by one."""
    payments = [rig.pay("succeeded") for _ in range(150)]
    rig.backfill()
    gets = [r for r in rig.box.halo.requests if r.method == "GET" and "Payment" in r.path]
    assert len(gets) <= 4
    assert len(rig.posts()) == 3
    assert all(rig.statuses(payment) == [3] for payment in payments)


@pytest.mark.parametrize("paging", ["ignored", "same_page"])
@pytest.mark.parametrize("shape", ["payments", "bare"])
def test_paging_that_does_not_page(rig: Rig, paging: str, shape: str) -> None:
    """If Halo ignores paging or repeats the same page, syncd still pushes all payments."""
    rig.box.halo.paging, rig.box.halo.list_shape, rig.box.halo.rate_limit = paging, shape, None
    rig.settings["SYNCD_HALO__RATE_LIMIT"] = "10000"
    payments = [rig.pay("succeeded") for _ in range(130)]
    rig.backfill()
    assert all(rig.statuses(payment) == [3] for payment in payments)


def test_filter_that_is_ignored(rig: Rig) -> None:
    """If Halo ignores the filter and returns other payments' rows too, syncd does not change those rows."""
    rig.box.halo.filter_ignored = True
    mine, other = rig.pay("succeeded"), rig.pay(None)
    rig.once()
    assert (rig.statuses(mine), rig.statuses(other)) == ([3], [1])


# --- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["stripe", "halo"])
@pytest.mark.parametrize("kind", ["500", "502", "503", "504", "reset", "truncated", "html_500"])
def test_a_fault_that_passes(rig: Rig, side: str, kind: str) -> None:
    """If a request to Stripe or Halo fails twice, the same run retries it with success."""
    payment = rig.pay("succeeded")
    getattr(rig.box, side).faults.append(Fault(kind, times=2))
    rig.once()
    assert rig.statuses(payment) == [3]
    assert len(rig.world.waited) >= 2


@pytest.mark.parametrize(
    "kind", ["500_after", "504_after", "reset_after", "truncated", "500", "reset"]
)
def test_a_fault_on_an_update(rig: Rig, kind: str) -> None:
    """If an update fails or is not answered, syncd sends it again, because updates only set values."""
    payment = rig.pay("succeeded")
    rig.box.halo.faults.append(Fault(kind, method="POST", path="InvoicePayment"))
    rig.once()
    assert (rig.statuses(payment), rig.condition(payment)) == ([3], Condition.IN_STEP)


@pytest.mark.parametrize("side", ["stripe", "halo"])
@pytest.mark.parametrize("kind", ["html", "garbage", "empty", "cut_json", "403", "redirect"])
def test_an_answer_that_makes_no_sense(rig: Rig, side: str, kind: str) -> None:
    """If a side answers with nonsense or 403, nothing counts as a failed attempt, and syncd pushes later."""
    payment = rig.pay("succeeded")
    fault = Fault(kind, times=None)
    getattr(rig.box, side).faults.append(fault)
    rig.cycle()
    assert (rig.statuses(payment), rig.attention()) == ([1], [])
    assert len(rig.told.events("poll_failed" if side == "stripe" else "push_failed")) == 1
    getattr(rig.box, side).faults.clear()
    rig.clock.seconds += 600
    rig.cycle()
    assert rig.statuses(payment) == [3]
    row = rig.stored(lambda store: store.payment(payment))
    assert row["attempts"] == 0


@pytest.mark.parametrize("side", ["stripe", "halo"])
def test_retry_after_is_honoured(rig: Rig, side: str) -> None:
    """After a 429 with a short Retry-After, syncd waits that long and continues in the same run."""
    payment = rig.pay("succeeded")
    getattr(rig.box, side).faults.append(Fault("429", retry_after=7))
    rig.once()
    assert rig.statuses(payment) == [3]
    assert max(rig.world.waited) >= 7


def test_halo_429_without_a_time(rig: Rig) -> None:
    """After a 429 without Retry-After, syncd sends Halo nothing for a minute."""

    async def twice(parts: object) -> None:
        await parts.engine.poll()  # type: ignore[attr-defined]
        await parts.engine.push()  # type: ignore[attr-defined]
        rig.clock.seconds += 59
        await parts.engine.push()  # type: ignore[attr-defined]

    payment = rig.pay("succeeded")
    rig.box.halo.faults.append(Fault("429", path="InvoicePayment"))
    rig.run(twice)
    assert rig.statuses(payment) == [1]
    rig.clock.seconds += 10
    rig.cycle()
    assert rig.statuses(payment) == [3]


def test_token_that_expired(rig: Rig) -> None:
    """If a token has expired, syncd signs in again once and repeats the request."""
    payment = rig.pay("succeeded")
    rig.box.halo.faults.append(Fault("401", path="InvoicePayment"))
    rig.once()
    assert rig.statuses(payment) == [3]
    assert sum(r.path == "/auth/token" for r in rig.box.halo.requests) == 2


def test_permission_that_is_missing(rig: Rig) -> None:
    """A 403 names the missing permission; a 401 despite a good sign-in is reported after a few requests."""
    rig.pay("succeeded")
    rig.box.halo.permissions = {"read:invoices"}
    with pytest.raises(LinkFailure, match="edit invoices"):
        rig.once()
    rig.box.halo.faults.append(Fault("401", times=None, path="InvoicePayment"))
    before = len(rig.box.halo.requests)
    with pytest.raises(LinkFailure, match="although the sign-in worked"):
        rig.once()
    assert len(rig.box.halo.requests) - before <= 6


def test_poisoned_row_stands_alone(rig: Rig) -> None:
    """If Halo refuses one of forty rows, only that payment fails, with Halo's error message."""
    payments = [rig.pay("succeeded") for _ in range(40)]
    bad = payments[17]
    rig.box.halo.poison(bad, "Could not convert string to integer.")
    rig.once()
    assert [rig.statuses(p)[0] for p in payments if p != bad] == [3] * 39
    (entry,) = rig.attention()
    assert (entry.id, entry.code) == (bad, "halo_refuses")
    assert "Could not convert string to integer." in entry.reason
    rig.box.halo.unpoison(bad)
    rig.stored(lambda store: store.people.retry([bad], rig.clock()))
    rig.once()
    assert (rig.statuses(bad), rig.attention()) == ([3], [])


def test_row_deleted_between_reading_and_writing(rig: Rig) -> None:
    """If Halo answers "Record not found" for one row, only that payment goes on the attention list."""
    kept, gone = rig.pay("succeeded"), rig.pay("succeeded")
    row = rig.box.halo.rows_of(gone)[0]["id"]

    def vanish(_request: object) -> bool:
        rig.box.halo.rows.pop(row, None)
        return False

    rig.box.halo.faults.append(Fault("500", method="POST", path="InvoicePayment", match=vanish))
    rig.once()
    assert rig.statuses(kept) == [3]
    assert [entry.id for entry in rig.attention()] == [gone]
    assert "Record not found" in rig.attention()[0].reason


def test_a_failed_payment_is_tried_within_a_day_of_a_clock_that_was_set_back(rig: Rig) -> None:
    """A failed payment is retried within a day, also if the clock is set back by a day."""
    payment, other = rig.pay("succeeded"), rig.pay("succeeded")
    rig.box.halo.poison(payment)
    for wait in (0, 700, 4_000, 22_000):
        rig.clock.seconds += wait
        rig.cycle()
    assert (rig.condition(payment), rig.statuses(other)) == (Condition.FAILED, [3])
    rig.clock.seconds += 2 * DAY
    rig.cycle()
    rig.box.halo.unpoison(payment)
    rig.clock.seconds += 60 - DAY
    rig.cycle()
    assert rig.statuses(payment) == [3]


@pytest.mark.parametrize("shape", ["empty", "no_json", "error_in_200", "other_rows"])
def test_answer_that_proves_nothing(rig: Rig, shape: str) -> None:
    """If a 2xx answer to an update does not list the rows, syncd reads them back instead of sending again."""
    rig.box.halo.answer_shape = shape
    payments = [rig.pay("succeeded") for _ in range(3)]
    rig.once()
    assert [rig.condition(p) for p in payments] == [Condition.IN_STEP] * 3
    assert len(rig.posts()) == 1


def test_answer_that_proves_nothing_and_nothing_changes(rig: Rig) -> None:
    """If Halo answers updates with an empty 2xx and changes nothing, the payment is listed after 3 tries."""
    payment = rig.pay("succeeded")
    rig.box.halo.faults.append(Fault("empty", times=None, method="POST", path="InvoicePayment"))
    real = rig.box.halo.answer
    rig.box.halo.answer = (  # type: ignore[method-assign]
        lambda request: (
            real(request)
            if request.method == "GET" or "token" in request.path
            else real(_as_get(request))
        )
    )
    rig.once()
    assert [(e.id, e.code) for e in rig.attention()] == [(payment, "halo_refuses")]
    assert len(rig.posts()) == 3


def _as_get(request: Request) -> Request:
    return replace(request, method="GET")


def test_halo_window_is_kept(rig: Rig) -> None:
    """Syncd keeps Halo's rate limit, however many payments are due."""
    rig.settings["SYNCD_HALO__RATE_LIMIT"] = "20"
    rig.settings["SYNCD_PUSH__BATCH"] = "1"
    rig.box.halo.rate_limit = 20
    payments = [rig.pay("succeeded") for _ in range(60)]
    rig.once()
    assert all(rig.statuses(payment) == [3] for payment in payments)
    assert not [r for r in rig.box.halo.requests if r.status == 429]


def test_halo_window_survives_a_restart(rig: Rig) -> None:
    """Requests that an earlier process sent count against Halo's rate limit after a restart."""
    rig.settings["SYNCD_HALO__RATE_LIMIT"] = "5"
    rig.box.halo.rate_limit = 5
    first = rig.pay("succeeded")
    rig.once()
    second = rig.pay("processing")
    rig.once()
    assert (rig.statuses(first), rig.statuses(second)) == ([3], [5])
    assert not [r for r in rig.box.halo.requests if r.status == 429]


def test_stripe_budget_is_kept(rig: Rig) -> None:
    """When the read budget is used up, syncd stops polling and names the key; later syncd polls again."""
    rig.settings["SYNCD_STRIPE__READ_BUDGET"] = "3"
    for _ in range(3):
        rig.once()
    with pytest.raises(LinkFailure, match=r"stripe\.read_budget"):
        rig.once()
    assert len(rig.box.stripe.requests) == 3
    rig.clock.seconds += 31 * DAY
    rig.cycle()  # a single run would sweep as well, for which three reads are too few
    assert rig.told.events("poll_failed") == []
    assert rig.stored(lambda store: store.note("last_poll")) == str(int(rig.clock()))


def test_other_process_pushes(rig: Rig) -> None:
    """While another process holds the push lease, syncd pushes nothing and names that process."""
    from syncd.core.errors import LeaseHeld
    from syncd.core.records import Holder

    rig.pay("succeeded")
    other = Holder("x", "a backfill", "elsewhere", "boot", 4711)
    rig.stored(
        lambda s: s.coordination.take_lease("push", other, rig.clock(), 120, free=lambda *_: True)
    )
    with pytest.raises(LeaseHeld, match=r"a backfill \(process 4711 on elsewhere\)"):
        rig.once()
    assert rig.posts() == []
    rig.clock.seconds += 121
    rig.once()
    assert len(rig.posts()) == 1


def test_lease_of_a_process_that_died(rig: Rig) -> None:
    """If the process that held the push lease has died, the next process pushes at once."""
    from syncd.sync.lease import this_process

    payment = rig.pay("succeeded")
    dead = replace(this_process("the daemon"), owner="dead", pid=2**22 + 1)
    rig.stored(
        lambda s: s.coordination.take_lease("push", dead, rig.clock(), 120, free=lambda *_: True)
    )
    rig.once()
    assert rig.statuses(payment) == [3]


def test_state_that_comes_while_pushing(rig: Rig) -> None:
    """If Stripe reports a new state during a write, syncd still pushes the new state afterwards."""
    payment = rig.pay("processing")

    def meanwhile(_request: object) -> bool:
        if rig.box.stripe.intents[payment]["status"] == "processing":
            rig.clock.seconds += 5
            rig.box.stripe.advance(payment, "succeeded")
        return False

    rig.box.halo.faults.append(Fault("500", method="POST", path="InvoicePayment", match=meanwhile))
    rig.once()
    rig.once()
    assert rig.statuses(payment) == [3]


def test_resync_of_a_payment_whose_error_was_cleared(rig: Rig) -> None:
    """After a resync of a payment whose intent no longer shows its error, the failure still reaches Halo."""
    payment = rig.pay("payment_failed", rows=())
    rig.once()
    rig.box.stripe.touch(payment)
    rig.run(lambda parts: parts.run.resync(payment))
    rig.box.halo.add_row(payment, rig.box.halo.add_invoice(), 10.99)
    rig.clock.seconds += 700
    rig.cycle()
    assert rig.statuses(payment) == [4]


def test_resync_forgets_contradictions(rig: Rig) -> None:
    """After a resync, the payment intent counts, and the hold for contradicting events ends."""
    payment = rig.pay("processing")
    rig.clock.seconds += 5
    rig.box.stripe.emit(payment, "succeeded")
    rig.box.stripe.emit(payment, "canceled")
    rig.once()
    assert len(rig.attention()) == 1

    async def resync(parts: object) -> None:
        await parts.engine.sweeper.resync(payment)  # type: ignore[attr-defined]
        await parts.engine.pusher.push()  # type: ignore[attr-defined]

    rig.run(resync)
    assert (rig.statuses(payment), rig.attention()) == ([5], [])


# --- regressions -------------------------------------------------------------------------------------


def test_change_within_the_second_of_the_reading(rig: Rig) -> None:
    """A third change in the same second as two conflicting events still reaches Halo.

    Before the fix, syncd assumed that a read of the payment intent covered the whole second of the
    read. A third change in that second looked older than the read, and was only found by the sweep.
    """
    payment = rig.pay(None)
    second = rig.clock()
    rig.box.stripe.advance(payment, "processing", at=second)
    rig.box.stripe.advance(payment, "requires_action", at=second)

    def changes_after_the_first_reading(request: Request) -> bool:
        read = [r for r in rig.box.stripe.requests if r.path.endswith(payment)]
        if len(read) == 2 and request is read[1]:
            rig.box.stripe.advance(payment, "payment_failed", at=second)
        return False

    rig.box.stripe.faults.append(Fault("500", match=changes_after_the_first_reading))
    rig.once()
    assert rig.statuses(payment) == [4]
    assert 1.0 in rig.world.waited


def test_nothing_waits_between_the_lease_and_a_write(rig: Rig) -> None:
    """Syncd renews the lease right before a write, also after a long wait for the rate limit.

    Before the fix, syncd took the lease before the wait. Another process could take over during the
    wait, and both processes would have written.
    """
    rig.settings["SYNCD_HALO__RATE_LIMIT"] = "3"
    payment = rig.pay("succeeded")
    left: list[float] = []

    def look_at_the_lease(request: Request) -> bool:
        if request.method == "POST":
            held = rig.stored(lambda store: store.coordination.holder("push"))
            left.append(held[1] - rig.clock())
        return False

    rig.box.halo.faults.append(Fault("500", path="InvoicePayment", match=look_at_the_lease))
    rig.once()
    assert rig.statuses(payment) == [3]
    assert sum(rig.world.waited) > 200
    assert left == [120.0]


def test_row_that_comes_after_a_payment_was_given_up(rig: Rig) -> None:
    """If Halo creates a row after syncd has stopped looking for it, the next sweep finds the row."""
    payment = rig.pay("succeeded", rows=())
    rig.once()
    for _ in range(6):
        rig.clock.seconds += DAY
        rig.once()
    assert rig.condition(payment) == "not_halos"
    rig.box.halo.add_row(payment, rig.box.halo.add_invoice(), 10.99)
    rig.sweep()
    assert (rig.statuses(payment), rig.condition(payment)) == ([3], "in_step")


def test_deleted_row_that_comes_back(rig: Rig) -> None:
    """If Halo hides rows for a while, the hold ends on its own when a sweep sees the rows again."""
    payment = rig.pay("succeeded")
    rig.once()
    hidden = dict(rig.box.halo.rows)
    rig.box.halo.rows.clear()
    rig.sweep()
    assert [entry.code for entry in rig.attention()] == ["row_deleted"]
    rig.box.halo.rows.update(hidden)
    rig.sweep()
    assert (rig.attention(), rig.condition(payment)) == ([], "in_step")


def test_backfill_leaves_reads_to_the_service(live: Rig) -> None:
    """A backfill stops before the read budget is used up, so that the service can still poll."""
    live.settings["SYNCD_STRIPE__READ_BUDGET"] = "5"
    live.box.seed(600)
    ended = live.command("--backfill", "90d")
    assert (ended.returncode, len(live.box.stripe.requests)) == (69, 3)
    assert "(stripe.read_budget)" in ended.stderr
    assert live.command("--once").returncode in (0, 1)


def test_polls_are_spread_when_the_budget_runs_low(rig: Rig) -> None:
    """When half of the month's reads are used, syncd polls less often, logs this once, and never stops."""
    rig.settings |= {"SYNCD_STRIPE__READ_BUDGET": "40", "SYNCD_POLL__INTERVAL": "1h"}

    async def a_month(parts: Parts) -> None:
        for _ in range(30 * 24):
            await parts.engine.poll()
            rig.clock.seconds += 3_600

    rig.run(a_month)
    asked = [request.at for request in rig.box.stripe.requests]
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert (len(rig.told.events("polls_spread")), rig.told.events("poll_failed")) == (1, [])
    assert (max(gaps) < 3 * DAY, len(asked) <= 40) == (True, True)


def test_sweeps_are_rare_while_polls_are_spread(rig: Rig) -> None:
    """When more than half of the read budget is used, sweeps run once a day, and polls continue."""
    rig.settings |= {
        "SYNCD_STRIPE__READ_BUDGET": "1000",
        "SYNCD_POLL__INTERVAL": "1h",
        "SYNCD_POLL__SWEEP": "10m",
    }
    swept: list[float] = []

    async def ten_days(parts: Parts) -> None:
        started = rig.clock.seconds
        for step in range(10 * 24 * 6):
            if parts.engine.sweep_is_due(started):
                swept.append(rig.clock.seconds)
                await parts.engine.sweep()
            if step % 6 == 0:
                await parts.engine.poll()
            rig.clock.seconds += 600

    rig.run(ten_days)
    asked = [request for request in rig.box.stripe.requests if "events" in request.path]
    gaps = [later - earlier for earlier, later in pairwise(swept)]
    assert (min(gaps) < 700, DAY <= max(gaps) < DAY + 700) == (True, True)
    assert rig.told.events("poll_failed") == []
    assert asked[-1].at > rig.clock.seconds - DAY


def test_back_to_a_state_that_was_acknowledged(rig: Rig) -> None:
    """If a payment returns to an earlier state after an unanswered write, syncd writes that state again.

    Before the fix, the row kept the status of the unanswered write for a day.
    """
    payment = rig.pay("requires_action")
    rig.once()
    rig.clock.seconds += 60
    rig.box.stripe.advance(payment, "payment_failed")
    rig.box.halo.faults.append(Fault("504_after", method="POST", path="InvoicePayment", times=99))
    rig.cycle()
    rig.box.halo.faults.clear()
    rig.clock.seconds += 60
    rig.box.stripe.advance(payment, "requires_action")
    rig.once()
    assert (rig.statuses(payment), rig.condition(payment)) == ([7], "in_step")


def test_new_row_that_halo_does_not_show(rig: Rig) -> None:
    """If the new row lacks the payment's id, syncd holds the payment and inserts no other row.

    Before the fix, syncd inserted the row again, three times at first and then daily, because only
    rows with the payment's id counted.
    """
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    rig.box.halo.answer_shape = "empty"
    invoice = rig.box.halo.add_invoice()
    rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})

    def forget_intents(_request: Request) -> bool:
        for row in rig.box.halo.rows.values():
            row["intent_id"] = None
        rig.box.halo._by_intent.clear()
        return False

    rig.box.halo.faults.append(Fault("500", method="GET", match=forget_intents))
    for _ in range(5):
        rig.once()
        rig.clock.seconds += 30 * 3_600
    assert (len(rig.box.halo.rows), len(rig.posts())) == (1, 1)
    assert [entry.code for entry in rig.attention()] == ["insert_unproven"]


def test_new_row_that_was_not_made(rig: Rig) -> None:
    """If Halo answers an insert with 2xx but the invoice has no such row, syncd sends the insert again."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    invoice = rig.box.halo.add_invoice()
    payment = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    rig.box.halo.faults.append(Fault("200", method="POST", path="InvoicePayment", body=b""))
    rig.once()
    assert (rig.statuses(payment), len(rig.posts()), rig.attention()) == ([3], 2, [])


@pytest.mark.parametrize("status", [408, 502, 503, 504, 524, 302])
def test_an_insert_that_may_still_be_under_way(rig: Rig, status: int) -> None:
    """After an insert with a gateway error or a redirect, syncd waits for the row and inserts only once."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    invoice = rig.box.halo.add_invoice()
    payment = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    rig.box.halo.faults.append(
        Fault("400", method="POST", path="InvoicePayment", status=status, body=b"<html>late</html>")
    )
    rig.cycle()
    rig.box.halo.add_row(payment, invoice, 10.99, 3)  # Halo carries out the first insert after all
    for _ in range(3):
        rig.clock.seconds += 300
        rig.cycle()
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 1)


def test_a_hold_keeps_the_doubt_about_an_insert(rig: Rig) -> None:
    """A hold for a missing status number does not end the uncertainty of an earlier insert."""
    rig.settings |= {
        "SYNCD_PUSH__CREATE_MISSING": "true",
        "SYNCD_HALO__STATUS__REQUIRES_ACTION": "",
    }
    invoice = rig.box.halo.add_invoice()
    payment = rig.pay("processing", rows=(), metadata={"halo_invoice_id": str(invoice)})
    rig.box.halo.faults.append(Fault("504", method="POST", path="InvoicePayment"))
    rig.cycle()
    rig.clock.seconds += 20
    rig.box.stripe.advance(payment, "requires_action")
    rig.cycle()
    rig.clock.seconds += 20
    rig.box.stripe.advance(payment, "succeeded")
    rig.cycle()
    rig.box.halo.add_row(payment, invoice, 10.99, 5)  # Halo carries out the first insert after all
    for _ in range(3):
        rig.clock.seconds += 300
        rig.cycle()
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 2)


def _only(part: str, payment: str, box: Any) -> Callable[[Request], bool]:
    """Matches requests about one payment: writes of its rows, or lookups of the rows and the payment."""
    rows = {row["id"] for row in box.halo.rows_of(payment)}

    def about(request: Request) -> bool:
        if part == "write":
            return request.method == "POST" and any(row["id"] in rows for row in request.json())
        return request.params().get("intent_id") == payment or request.path.endswith(payment)

    return about


@pytest.mark.parametrize(("part", "kind"), [("write", "500"), ("read", "500"), ("read", "garbage")])
def test_one_payment_that_breaks_halo_holds_up_no_other(rig: Rig, part: str, kind: str) -> None:
    """If Halo fails on one payment, that payment goes on the attention list, and all others are pushed."""
    payments = sorted(rig.pay("succeeded") for _ in range(9))
    match = _only(part, payments[0], rig.box)
    path = "/api/InvoicePayment"
    rig.box.halo.faults.append(Fault(kind, times=None, path=path, match=match))
    for _ in range(6):
        rig.cycle()
        rig.clock.seconds += 400
    assert all(rig.statuses(payment) == [3] for payment in payments[1:])
    assert [entry.id for entry in rig.attention()] == [payments[0]]


def test_one_payment_that_is_never_written_is_listed_where_no_other_is_due(rig: Rig) -> None:
    """If Halo never accepts the only due payment, syncd lists the payment after several attempts."""
    payment = rig.pay("succeeded")
    match = _only("write", payment, rig.box)
    fault = Fault("500", times=None, path="/api/InvoicePayment", match=match)
    rig.box.halo.faults.append(fault)
    seen = []
    for _ in range(7):
        rig.cycle()
        seen.append(len(rig.attention()))
        rig.clock.seconds += 200
    assert (seen[:4], seen[-1]) == ([0, 0, 0, 0], 1)
    rig.box.halo.faults.remove(fault)
    rig.clock.seconds += 600
    rig.cycle()
    assert (rig.statuses(payment), rig.attention()) == ([3], [])


@pytest.mark.parametrize("method", ["POST", None])
def test_halo_that_fails_on_everything_is_the_links_fault(rig: Rig, method: str | None) -> None:
    """If Halo fails on all payments, none is listed; when Halo works again, all are pushed at once."""
    payments = [rig.pay("succeeded") for _ in range(7)]
    rig.box.halo.faults.append(Fault("500", times=None, method=method, path="/api/InvoicePayment"))
    for _ in range(6):
        before = len(rig.posts())
        rig.cycle()
        rig.clock.seconds += 400
        assert (
            len(rig.posts()) - before <= 6 * 8
        )  # of 7, 3, 1, 2, 1 and 1 rows, each tried up to 8 times
    assert rig.attention() == []
    rig.box.halo.faults.clear()
    rig.cycle()
    assert [rig.statuses(payment) for payment in payments] == 7 * [[3]]


def test_several_payments_that_cannot_be_looked_up_hold_up_no_other(rig: Rig) -> None:
    """If lookups of the first four payments fail, syncd still pushes the other payments in the same run."""
    payments = sorted(rig.pay("succeeded") for _ in range(8))
    poisoned = payments[:4]
    rig.box.halo.faults.append(
        Fault("500", times=None, match=lambda r: r.params().get("intent_id") in poisoned)
    )
    rig.cycle()
    assert [rig.statuses(payment) for payment in payments] == 4 * [[1]] + 4 * [[3]]
    for _ in range(3):
        rig.clock.seconds += 400
        rig.cycle()
    assert sorted(entry.id for entry in rig.attention()) == poisoned


def test_two_payments_that_cannot_be_written_hold_up_no_other_run(rig: Rig) -> None:
    """If a push stops at two failing payments, the next run pushes the others."""
    payments = sorted(rig.pay("succeeded") for _ in range(6))
    poisoned = {row["id"] for name in payments[:2] for row in rig.box.halo.rows_of(name)}
    rig.box.halo.faults.append(
        Fault(
            "500",
            times=None,
            method="POST",
            path="/api/InvoicePayment",
            match=lambda request: any(row["id"] in poisoned for row in request.json()),
        )
    )
    for _ in range(2):
        rig.cycle()
        rig.clock.seconds += 30
    assert [rig.statuses(payment) for payment in payments] == 2 * [[1]] + 4 * [[3]]


def test_nothing_to_try_is_no_sign_that_halo_works(rig: Rig) -> None:
    """While an insert that failed with 503 waits, an empty push does not mark Halo as working again."""
    _creating(rig)
    rig.box.halo.faults.append(Fault("503", times=None, method="POST", path="InvoicePayment"))

    async def work(parts: Parts) -> tuple[int, int]:
        await parts.engine.poll()
        await parts.engine.push()
        failed = parts.engine.links[Side.HALO].failures
        rig.clock.seconds += 10  # the pause is over, but syncd still waits for the insert
        await parts.engine.push()
        return failed, parts.engine.links[Side.HALO].failures

    assert rig.run(work) == (1, 1)


@pytest.mark.parametrize("arguments", [("--once", "--dry-run"), ("--once",), ("--backfill", "1d")])
def test_a_run_says_that_a_payment_was_put_off(live: Rig, arguments: tuple[str, ...]) -> None:
    """If a command postpones a payment, it exits with 69 and still processes the other payments."""
    payments = [live.pay("succeeded") for _ in range(2)]
    live.box.halo.faults.append(
        Fault("garbage", times=None, match=lambda r: r.params().get("intent_id") == payments[0])
    )
    done = live.command(*arguments)
    assert done.returncode == 69
    assert "syncd: Halo" in done.stderr, done.stderr
    assert "put_off" in done.stderr
    pushed = [3] if "--dry-run" not in arguments else [1]
    assert [live.statuses(payment) for payment in payments] == [[1], pushed]


def test_stripe_that_shows_no_single_payment_holds_up_no_push(rig: Rig) -> None:
    """If Stripe cannot show the one payment that it must re-read, the other payments are pushed."""
    payments = sorted(rig.pay("processing") for _ in range(6))
    rig.box.halo.rows_of(payments[0])[0]["status"] = 3
    rig.box.stripe.faults.append(
        Fault("403", times=None, match=lambda request: request.path.endswith(payments[0]))
    )
    for _ in range(3):
        rig.cycle()
        rig.clock.seconds += 400
    assert [rig.statuses(payment) for payment in payments] == [[3]] + 5 * [[5]]


def test_doubt_that_can_not_be_read_holds_up_no_other(rig: Rig) -> None:
    """If Stripe cannot show a payment with conflicting events, only that payment stays in doubt."""
    payments = sorted(rig.pay("processing") for _ in range(4))
    for payment in payments:
        rig.box.stripe.advance(payment, "payment_failed")
    rig.box.stripe.faults.append(
        Fault("500", times=None, match=lambda request: request.path.endswith(payments[0]))
    )
    for _ in range(2):
        rig.cycle()
        rig.clock.seconds += 400
    assert [rig.statuses(payment) for payment in payments] == [[1]] + 3 * [[4]]
    assert rig.condition(payments[0]) == "in_doubt"
    rig.box.stripe.faults.clear()
    rig.clock.seconds += 900
    rig.cycle()
    assert rig.statuses(payments[0]) == [4]


def test_requests_at_the_same_moment_are_spaced(rig: Rig) -> None:
    """Four simultaneous requests to Stripe are sent 50 milliseconds apart."""

    async def ask(parts: Parts) -> list[float]:
        limiter, at = parts.engine.rate_limiters[Side.STRIPE], []

        async def one() -> None:
            await limiter.take()
            at.append(rig.clock())

        await asyncio.gather(*(one() for _ in range(4)))
        return at

    began = rig.clock()
    went = [round(at - began, 3) for at in rig.run(ask)]
    assert went == [0.0, 0.05, 0.1, 0.15]


@dataclass(slots=True)
class Meanwhile(HandWorld):
    """A world in which something happens while syncd sleeps."""

    happens: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        await HandWorld.sleep(self, seconds)
        while self.happens:
            await self.happens.pop()()


@pytest.mark.parametrize(("rows", "before"), [((10.99,), 4), ((), 7)], ids=["updates", "inserts"])
def test_polled_while_a_push_waits(rig: Rig, rows: tuple[float, ...], before: int) -> None:
    """If Stripe reports a new state while a push waits for the rate limit, syncd writes the new state."""
    rig.settings |= {"SYNCD_HALO__RATE_LIMIT": str(before), "SYNCD_PUSH__CREATE_MISSING": "true"}
    rig.world = Meanwhile(now=rig.clock, random=lambda: 0.5, clock=rig.clock)
    made = sorted(
        rig.pay(None, rows=rows, metadata={"halo_invoice_id": str(rig.box.halo.add_invoice())})
        for _ in range(2)
    )
    for payment in made:
        rig.box.stripe.advance(payment, "payment_failed")

    async def work(parts: Parts) -> None:
        async def meanwhile() -> None:
            assert len(rig.posts()) == (0 if rows else 1)  # the next write is for the other payment
            rig.box.stripe.advance(made[1], "succeeded")
            await parts.engine.poll()

        await parts.engine.poll()
        assert isinstance(rig.world, Meanwhile)
        rig.world.happens.append(meanwhile)
        await parts.engine.push()

    rig.run(work)
    of = {row["id"]: row["intent_id"] for one in made for row in rig.box.halo.rows_of(one)}
    written = [(of[row], posted["status"]) for row, posted, _ in rig.box.halo.writes]
    assert written == [(made[0], 4), (made[1], 3)]


@pytest.mark.parametrize(
    ("rows", "payments", "limit"), [(21_000, 200, 60), (0, 600, 4)], ids=["alone", "pages"]
)
def test_fresh_payments_go_before_a_backlog(rig: Rig, rows: int, payments: int, limit: int) -> None:
    """During a backlog at Halo's rate limit, a new payment is pushed within 30 seconds.

    The push holds its lease for the whole time.
    """
    rig.settings["SYNCD_HALO__RATE_LIMIT"] = str(limit)
    rig.settings["SYNCD_PUSH__BATCH"] = "20"
    old = rig.clock() - 3 * 86_400
    for _ in range(payments):
        name = rig.pay(None, created=old)
        rig.box.stripe.advance(name, "succeeded", old, emit=False)
    for number in range(rows):  # many newer rows: payments are looked up one by one
        rig.box.halo.add_row(f"pi_other{number}", 1, 5.0, 3)
    fresh: list[str] = []
    free: list[float] = []

    async def work(parts: Parts) -> None:
        await parts.run.list_since(int(old) - 86_400, "4d")
        sleep, store = rig.world.sleep, parts.engine.store
        other = Lease(store, Holder("another", "a backfill", "elsewhere", "boot", 1), rig.clock)

        async def nap(seconds: float) -> None:
            await sleep(seconds)
            if rig.clock() > old + 3 * 86_400 + 400 and not fresh:
                fresh.append(rig.pay("succeeded"))
                await parts.engine.poll()
            with contextlib.suppress(LeaseHeld):
                other.take()
                free.append(rig.clock())

        parts.engine.rate_limiters[Side.HALO].sleep = nap
        await parts.engine.pusher.push()

    rig.run(work)
    row = rig.stored(lambda store: store.payment(fresh[0]))
    assert row["acked_at"] - row["said_at"] < 30
    assert len(rig.posts()) > 5
    assert free == []
    assert rig.clock() - row["acked_at"] > 300
