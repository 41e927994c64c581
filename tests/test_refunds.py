"""Refunds and disputes over real HTTP: which go on the attention list, how often, and at what API usage."""

import asyncio
import random
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.clients.stripe.charges import Charges
from syncd.core.errors import LinkFailure, ServerError, Side
from syncd.core.holds import command_for
from syncd.core.payments import EVENT_TYPES
from syncd.core.records import Condition
from syncd.core.reversals import (
    REVERSAL_EVENT_TYPES,
    Reversal,
    ReversalKind,
    ReversalStatus,
    counted,
    describe,
    newer,
    remedy,
)
from syncd.sandbox.faults import Fault
from syncd.service.web.page import _kinds
from tests.conftest import NOW, Rig

DAY = 86_400


def told(rig: Rig) -> list[tuple[str, str | None, int | None, str | None]]:
    """The entries of the attention list: id, code, amount, currency."""
    return [(line.id, line.code, line.amount, line.currency) for line in rig.attention()]


def paid(rig: Rig, **more: object) -> str:
    """A payment that succeeded and that syncd has pushed to Halo."""
    payment = rig.pay("succeeded", **more)  # type: ignore[arg-type]
    rig.once()
    rig.clock.seconds += 60
    return payment


# --- which reversals go on the attention list -----------------------------------------------------


def test_a_refund_calls_a_person_and_writes_nothing(rig: Rig) -> None:
    """A refund of a payment that Halo shows as paid goes on the attention list; syncd writes nothing."""
    payment = paid(rig)
    writes = len(rig.box.halo.writes)
    refund = rig.box.stripe.refund(payment, 500, reason="requested_by_customer")
    rig.once()
    rig.once()
    [line] = rig.attention()
    row = rig.box.halo.rows_of(payment)[0]
    assert (line.id, line.kind, line.code, line.amount, line.currency, line.rows) == (
        refund,
        "refunded",
        "refunded",
        500,
        "usd",
        (row["id"],),
    )
    assert line.reason == (
        f"Stripe refunded 5.00 USD of {payment} (status succeeded, reason requested_by_customer). "
        "That is a part of the 10.99 USD that Stripe received. syncd does not change Halo. "
        f"Book the refund in Halo. Then run: syncd attention dismiss {refund}"
    )
    assert len(rig.box.halo.writes) == writes
    assert row["status"] == rig.box.halo.status["succeeded"]


def test_a_dispute_calls_a_person(rig: Rig) -> None:
    """A dispute goes on the attention list with amount, reason and status; the entry then shows its loss."""
    payment = paid(rig)
    dispute = rig.box.stripe.dispute(payment, reason="product_not_received")
    rig.once()
    [line] = rig.attention()
    assert (line.id, line.code, line.amount) == (dispute, "disputed", 1099)
    assert "needs_response, reason product_not_received" in line.reason
    rig.clock.seconds += DAY
    rig.box.stripe.reversals.close_dispute(dispute, "lost")
    rig.once()
    [line] = rig.attention()
    assert "was lost" in line.reason


def test_a_dispute_that_was_won_needs_nobody(rig: Rig) -> None:
    """If nobody has dismissed a dispute, winning it removes it from the attention list."""
    dispute = rig.box.stripe.dispute(paid(rig))
    rig.once()
    rig.clock.seconds += DAY
    rig.box.stripe.reversals.close_dispute(dispute, "won")
    rig.once()
    assert rig.attention() == []


def test_dismissed_until_there_is_news(rig: Rig) -> None:
    """A dismissed refund stays off the list until it changes; a second refund gets its own entry."""
    payment = paid(rig)
    first = rig.box.stripe.refund(payment, 500)
    rig.once()
    assert rig.stored(lambda store: store.people.dismiss([first], rig.clock())) == [first]
    rig.clock.seconds += 60
    rig.once()
    assert told(rig) == []
    second = rig.box.stripe.refund(payment, 599)
    rig.once()
    assert told(rig) == [(second, "refunded", 599, "usd")]
    rig.clock.seconds += 60
    rig.box.stripe.reversals.fail_refund(first)
    rig.once()
    assert {line[0] for line in told(rig)} == {first, second}
    assert "you keep the money" in next(a.reason for a in rig.attention() if a.id == first)
    assert rig.stored(lambda store: store.people.dismiss([payment], rig.clock())) == [payment]
    assert told(rig) == []


# --- a dispute's steps ---------------------------------------------------------------------------


def dismissed(rig: Rig, dispute: str) -> None:
    """A person dismisses the dispute, and the next poll and sweep do not list it again."""
    assert rig.stored(lambda store: store.people.dismiss([dispute], rig.clock())) == [dispute]
    rig.clock.seconds += 60
    rig.once()
    rig.sweep()
    assert told(rig) == []
    rig.clock.seconds += 60


def step(rig: Rig, dispute: str, status: str, *funds: str) -> list[str]:
    """The dispute gets a new status; returns the ids on the attention list."""
    rig.box.stripe.reversals.move_dispute(dispute, status, *funds)
    rig.once()
    return [line[0] for line in told(rig)]


@pytest.mark.parametrize(
    ("first", "then", "funds"),
    [
        ("warning_needs_response", "needs_response", ("withdrawn",)),
        ("warning_needs_response", "needs_response", ()),
        ("warning_under_review", "needs_response", ("withdrawn",)),
        ("warning_needs_response", "warning_needs_response", ("withdrawn",)),
        ("warning_under_review", "under_review", ()),
        ("warning_under_review", "warning_needs_response", ()),
        ("needs_response", "lost", ()),
        ("needs_response", "won", ("reinstated",)),
        ("under_review", "needs_response", ()),
        ("under_review", "under_review", ("withdrawn",)),
        ("lost", "lost", ("withdrawn",)),
        ("won", "won", ("reinstated",)),
        ("warning_needs_response", "warning_closed", ()),
    ],
)
def test_a_dismissed_dispute_comes_back_with_each_serious_step(
    rig: Rig, first: str, then: str, funds: tuple[str, ...]
) -> None:
    """A step that moves money, sets a deadline or decides a dismissed dispute puts it back on the list."""
    dispute = rig.box.stripe.dispute(paid(rig), status="warning_needs_response")
    rig.once()
    if first != "warning_needs_response":
        dismissed(rig, dispute)
        rig.box.stripe.reversals.move_dispute(dispute, "needs_response")
        rig.once()
        rig.clock.seconds += 60
        step(rig, dispute, first)
    dismissed(rig, dispute)
    assert step(rig, dispute, then, *funds) == [dispute]
    dismissed(rig, dispute)


@pytest.mark.parametrize(
    ("first", "then"),
    [("warning_needs_response", "warning_under_review"), ("needs_response", "under_review")],
)
def test_a_dismissed_dispute_stays_away_with_a_step_that_asks_for_nothing(
    rig: Rig, first: str, then: str
) -> None:
    """A step to "under review" does not put a dismissed dispute back on the list; the next step does."""
    dispute = rig.box.stripe.dispute(paid(rig), status=first)
    rig.once()
    dismissed(rig, dispute)
    assert step(rig, dispute, then) == []
    rig.clock.seconds += 60
    assert step(rig, dispute, "needs_response", "withdrawn") == [dispute]


def test_an_inquiry_is_told_from_a_dispute(rig: Rig) -> None:
    """An inquiry's entry says that no money has moved; a dispute that follows has another text."""
    dispute = rig.box.stripe.dispute(paid(rig), status="warning_needs_response")
    rig.once()
    [line] = rig.attention()
    assert "(an inquiry, status warning_needs_response, reason fraudulent)" in line.reason
    assert "No money has moved yet." in line.reason
    rig.clock.seconds += 60
    step(rig, dispute, "needs_response", "withdrawn")
    [line] = rig.attention()
    assert "The customer disputes 10.99 USD" in line.reason


def test_a_step_that_only_the_listing_shows(rig: Rig) -> None:
    """If Stripe shows no event of a dispute's step, the sweep finds the step in the listing."""
    rig.box.stripe.permissions |= {"disputes", "refunds"}
    dispute = rig.box.stripe.dispute(paid(rig), status="warning_needs_response", emit=False)
    rig.sweep()
    dismissed(rig, dispute)
    rig.box.stripe.reversals.listings["disputes"].items[0]["status"] = "needs_response"
    rig.sweep()
    assert [line[0] for line in told(rig)] == [dispute]


def old_refunds(rig: Rig) -> dict[str, str]:
    """Refunds of two payments that are older than the database, by payment, sorted."""
    names = ["pi_3old1", "pi_3old2"]
    for name in names:
        rig.pay(None, created=NOW - 60 * DAY, id=name)
        rig.box.stripe.advance(name, "succeeded", at=NOW - 60 * DAY, emit=False)
    rig.once()
    return {name: rig.box.stripe.refund(name, 500) for name in names}


@pytest.mark.parametrize("kind", ["500", "400", "504", "html", "garbage", "redirect", "cut_json"])
def test_rows_that_halo_cannot_list_delay_no_other_refund(rig: Rig, kind: str) -> None:
    """One payment whose rows Halo cannot list delays no other refund or payment, and goes on the list."""
    bad, good = refunds = old_refunds(rig)
    fault = Fault(
        kind, times=None, method="GET", match=lambda asked: asked.params().get("intent_id") == bad
    )
    rig.box.halo.faults.append(fault)
    payment = rig.pay("succeeded")
    rig.once()
    assert rig.condition(payment) is Condition.IN_STEP
    assert [line.id for line in rig.attention()] == [refunds[good]]
    asked = fault.struck
    rig.once()
    assert fault.struck == asked
    for seconds in (301, 901, 2_401):
        rig.clock.seconds += seconds
        rig.once()
    lines = rig.attention()
    assert [line.id for line in lines] == [refunds[good], f"{bad}_rows"]
    assert (lines[1].code, lines[1].intent_id) == ("rows_unlisted", bad)
    assert "payments/pi_3old1_rows" not in rig.command("attention", "--json").stdout
    rig.box.halo.faults.clear()
    rig.clock.seconds += 3_601
    rig.once()
    assert {line.id for line in rig.attention()} == set(refunds.values())


@pytest.mark.parametrize("how", ["paid", "resync", "won"])
def test_the_entry_about_rows_goes_when_halo_need_not_be_asked(rig: Rig, how: str) -> None:
    """The entry goes when syncd reads the payment, or when the money is back."""
    bad = rig.pay(None, created=NOW - 60 * DAY, id="pi_3old")
    rig.box.stripe.advance(bad, "succeeded", at=NOW - 60 * DAY, emit=False)
    rig.once()
    dispute = rig.box.stripe.dispute(bad)
    rig.box.halo.faults.append(
        Fault("500", times=None, match=lambda asked: asked.params().get("intent_id") == bad)
    )
    for seconds in (0, 301, 901, 2_401):
        rig.clock.seconds += seconds
        rig.once()
    assert [line.code for line in rig.attention()] == ["rows_unlisted"]
    if how == "won":
        rig.box.stripe.reversals.close_dispute(dispute, "won")
    elif how == "paid":
        rig.box.stripe.advance(bad, "succeeded")
    else:
        rig.command("resync", bad)
    with suppress(LinkFailure):
        rig.once()
    assert "rows_unlisted" not in [line.code for line in rig.attention()]


def test_refunds_that_stripe_no_longer_shows(rig: Rig) -> None:
    """Refunds that are too old for events, and that the key may not list, keep an entry until it may."""
    payment = paid(rig)
    rig.box.stripe.permissions -= {"refunds", "disputes", "charges"}
    rig.clock.seconds += DAY
    refund = rig.box.stripe.refund(payment, 500, emit=False)
    rig.clock.seconds += 40 * DAY
    rig.once()
    rig.sweep()
    entries = {line.id: line for line in rig.attention()}
    assert set(entries) == {"refunds_unknown", "disputes_unknown"}
    entry = entries["refunds_unknown"]
    assert (entry.code, entry.intent_id) == ("reversals_unknown", None)
    assert entry.reason.startswith("Stripe's key may not list refunds, and Stripe no longer keeps")
    assert entry.reason.endswith("Then run: syncd attention dismiss refunds_unknown")
    rig.box.stripe.permissions |= {"refunds", "disputes", "charges"}
    rig.sweep()
    assert [line.id for line in rig.attention()] == [refund]


def test_a_halo_that_lists_no_rows_gives_no_refund_an_entry(rig: Rig) -> None:
    """If Halo lists no payment's rows, the push fails, and no refund is blamed with an entry."""
    refunds = old_refunds(rig)
    rig.box.halo.faults.append(Fault("400", times=None, method="GET", path="InvoicePayment"))
    for _ in range(6):
        with pytest.raises(LinkFailure):
            rig.once()
        rig.clock.seconds += 4_000
    assert rig.attention() == []
    rig.box.halo.faults.clear()
    rig.once()
    assert {line.id for line in rig.attention()} == set(refunds.values())


@pytest.mark.parametrize("kind", ["reset", "500", "html", "cut_json"])
def test_a_charge_that_stripe_does_not_show_stops_no_poll(rig: Rig, kind: str) -> None:
    """A charge that Stripe fails to show stops no payment; its refund is matched once Stripe shows it."""
    payment = paid(rig)
    rig.box.stripe.permissions |= {"charges"}
    rig.box.stripe.reversals.intents_named = False
    refund = rig.box.stripe.refund(payment, 500)
    rig.box.stripe.faults.append(Fault(kind, times=None, path="/v1/charges/"))
    other = rig.pay("succeeded")
    rig.once()
    assert rig.condition(other) is Condition.IN_STEP
    assert refund in [line.id for line in rig.attention()]
    rig.box.stripe.faults.clear()
    rig.clock.seconds += 60
    rig.once()
    [line] = [line for line in rig.attention() if line.id == refund]
    assert (line.kind, line.intent_id) == ("refunded", payment)


def refunds_by_charge(rig: Rig, count: int) -> set[str]:
    """Refunds that name only their charges, each of a payment of its own."""
    rig.box.stripe.permissions |= {"charges"}
    payments = [rig.pay("succeeded") for _ in range(count)]
    rig.once()
    rig.box.stripe.reversals.intents_named = False
    return {rig.box.stripe.refund(payment, 500) for payment in payments}


def test_stripe_fails_while_charges_are_read(rig: Rig) -> None:
    """Stripe goes down after the page of events: no refund is blamed, and the next poll reads all of them."""
    refunds = refunds_by_charge(rig, 12)
    rig.box.stripe.faults.append(Fault("500", times=None, after=1))
    began = rig.clock.seconds
    with pytest.raises(LinkFailure):
        rig.once()
    assert rig.clock.seconds - began < 200
    assert rig.attention() == []
    rig.box.stripe.faults.clear()
    rig.clock.seconds += 60
    rig.once()
    assert {line.id for line in rig.attention() if line.kind == "refunded"} == refunds


def test_stripe_fails_on_all_charges(rig: Rig) -> None:
    """If Stripe shows no charge but everything else, syncd retries three charges and asks for the others once."""
    refunds = refunds_by_charge(rig, 12)
    rig.box.stripe.faults.append(Fault("500", times=None, path="/v1/charges/"))
    other, began = rig.pay("succeeded"), rig.clock.seconds
    rig.once()
    assert rig.condition(other) is Condition.IN_STEP
    assert rig.clock.seconds - began < 300
    rig.box.stripe.faults.clear()
    rig.clock.seconds += 60
    rig.once()
    assert {line.id for line in rig.attention() if line.kind == "refunded"} == refunds


def test_charges_that_stripe_fails_to_show_delay_no_other_charge(rig: Rig) -> None:
    """Stripe never shows the first three charges, and rate-limits one of the others: the others are read."""
    refunds_by_charge(rig, 0)
    rig.box.stripe.reversals.intents_named = True
    payments = [rig.pay("succeeded") for _ in range(8)]
    rig.once()
    rig.box.stripe.reversals.intents_named = False
    refunds = []
    for payment in payments:
        rig.clock.seconds += 5
        refunds.append(rig.box.stripe.refund(payment, 500))
    charges = [rig.box.stripe.intents[payment]["latest_charge"] for payment in payments]
    for charge in charges[-3:]:  # the newest events are listed first
        rig.box.stripe.faults.append(Fault("500", times=None, path=f"/v1/charges/{charge}"))
    rig.box.stripe.faults.append(Fault("429", times=1, path=f"/v1/charges/{charges[0]}"))
    rig.once()
    found = {line.id for line in rig.attention() if line.kind == "refunded"}
    assert found >= set(refunds[:5])
    assert found.isdisjoint(refunds[5:])


def test_a_failing_charge_is_asked_for_once_a_minute() -> None:
    """While Stripe fails to show a charge, syncd does not ask for the charge at every poll."""
    asked: list[str] = []
    clock = [NOW]

    async def fails(path: str, _retries: bool) -> object:
        asked.append(path)
        raise ServerError(Side.STRIPE, "Stripe answers 500.")

    async def works() -> None:
        return None

    charges = Charges(fails, works, lambda: clock[0])
    refund = Reversal(
        "re_1",
        ReversalKind.REFUNDED,
        None,
        500,
        "usd",
        "pending",
        None,
        int(NOW),
        int(NOW),
        read=True,
    )
    for _ in range(40):
        asyncio.run(charges.named(refund, {"id": "re_1", "charge": "ch_1"}))
        clock[0] += 3
    assert asked == ["/v1/charges/ch_1"] * 2


def test_a_charge_that_stripe_fails_to_show_and_asks_to_wait(rig: Rig) -> None:
    """One charge is always answered with 503 and Retry-After: other payments are pushed all the same."""
    payment = paid(rig)
    rig.box.stripe.permissions |= {"charges"}
    rig.box.stripe.reversals.intents_named = False
    refund = rig.box.stripe.refund(payment, 500)
    rig.box.stripe.faults.append(Fault("503", times=None, path="/v1/charges/", retry_after=1))
    other = rig.pay("succeeded")
    rig.once()
    assert rig.condition(other) is Condition.IN_STEP
    assert refund in [line.id for line in rig.attention()]


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("kind", ["dispute", "refund"])
def test_one_that_names_only_its_charge(rig: Rig, kind: str, *, listed: bool) -> None:
    """A dispute or refund without a payment intent is matched through its charge, read once per process."""
    payment = paid(rig)
    rig.box.stripe.permissions |= {"charges", "disputes", "refunds"}
    rig.box.stripe.reversals.intents_named = False
    make = rig.box.stripe.dispute if kind == "dispute" else rig.box.stripe.refund
    name = make(payment, 500, emit=not listed)
    rig.sweep() if listed else rig.once()
    [line] = [line for line in rig.attention() if line.id == name]
    assert (line.intent_id, line.amount, line.rows) == (
        payment,
        500,
        (rig.box.halo.rows_of(payment)[0]["id"],),
    )
    rig.once()
    reads = [r for r in rig.box.stripe.requests if r.path.startswith("/v1/charges/")]
    assert len(reads) <= 2  # one per process
    assert rig.command("attention", "--json").stdout.count(name) >= 1


@pytest.mark.parametrize(
    ("charge", "why"),
    [
        (None, "names neither a payment intent nor a charge"),
        ("ch_gone", "can't be read: "),
        ("legacy", "which has no payment intent"),
    ],
)
def test_a_dispute_whose_payment_cannot_be_found(rig: Rig, charge: str | None, why: str) -> None:
    """A dispute that leads to no payment is listed under its own id; other payments are pushed."""
    payment = paid(rig)
    rig.box.stripe.permissions |= {"charges", "disputes", "refunds"}
    rig.box.stripe.reversals.intents_named = False
    dispute = rig.box.stripe.dispute(payment, emit=False)
    item = rig.box.stripe.reversals.listings["disputes"].items[0]
    if charge == "legacy":
        rig.box.stripe.reversals.listings["charges"].items[0]["payment_intent"] = None
    else:
        item["charge"] = charge
    rig.box.stripe.reversals.move_dispute(dispute, "under_review", "withdrawn")
    other = rig.pay("succeeded")
    rig.once()
    assert rig.condition(other) == "in_step"
    [line] = rig.attention()
    assert (line.id, line.code) == (dispute, "unreadable")
    assert why in line.reason


@pytest.mark.parametrize("fault", ["500", "403", "html", "cut_json"])
def test_a_charge_that_stripe_cannot_show_stops_nothing(rig: Rig, fault: str) -> None:
    """If Stripe cannot show the charge, the dispute is listed, others are pushed, a later read matches it."""
    payment = paid(rig)
    rig.box.stripe.permissions |= {"charges", "disputes", "refunds"}
    rig.box.stripe.reversals.intents_named = False
    dispute = rig.box.stripe.dispute(payment)
    other = rig.pay("succeeded")
    rig.box.stripe.faults.append(Fault(fault, times=None, path="/v1/charges/"))
    rig.once()
    assert rig.condition(other) == "in_step"
    assert [(line.id, line.code) for line in rig.attention()] == [(dispute, "unreadable")]
    rig.box.stripe.faults.clear()
    rig.once()
    [line] = rig.attention()
    assert (line.id, line.code, line.intent_id) == (dispute, "disputed", payment)


def test_a_refund_that_failed_unseen_needs_nobody(rig: Rig) -> None:
    """A refund that failed before syncd listed it does not go on the attention list."""
    refund = rig.box.stripe.refund(paid(rig), 500)
    rig.box.stripe.reversals.fail_refund(refund, at=rig.clock() + 1)
    rig.once()
    assert told(rig) == []


def test_other_peoples_refunds_are_counted(rig: Rig) -> None:
    """Refunds of payments that Halo does not have are counted, and not listed."""
    ours, theirs = paid(rig), rig.pay("succeeded", rows=())
    rig.once()
    rig.box.stripe.refund(theirs)
    rig.box.stripe.refund(ours)
    rig.once()
    assert [line.id for line in rig.attention()] == [
        rig.box.stripe.reversals.listings["refunds"].items[1]["id"]
    ]
    assert rig.stored(lambda store: store.reversals.counts()) == {"of_halos": 1, "of_others": 1}
    shown = rig.command("status", "--json").stdout
    assert '"refunds_and_disputes": {\n    "of_halos": 1,\n    "of_others": 1\n  }' in shown


def test_a_payment_older_than_the_memory(rig: Rig) -> None:
    """For a refund of a payment that syncd never saw, syncd asks Halo once whether it has rows."""
    rows = [rig.pay("succeeded", created=NOW - 100 * DAY) for _ in range(1)]
    other = rig.box.stripe.create_intent(created=NOW - 100 * DAY)
    rig.box.stripe.advance(other, "succeeded", emit=False)
    rig.box.stripe.events.clear()
    rig.once()
    refund = rig.box.stripe.refund(rows[0])
    rig.box.stripe.refund(other)
    rig.once()
    asked = len(rig.box.halo.requests)
    rig.once()
    assert told(rig) == [(refund, "refunded", 1099, "usd")]
    assert len(rig.box.halo.requests) == asked
    assert rig.stored(lambda store: store.reversals.counts()) == {"of_halos": 1, "of_others": 1}


def test_a_held_payments_refund_is_shown(rig: Rig) -> None:
    """For a held payment with a refund, both the hold and the refund are on the attention list."""
    payment = rig.pay("succeeded", rows=(5.0,))
    refund = rig.box.stripe.refund(payment)
    rig.once()
    assert {(line.id, line.code) for line in rig.attention()} == {
        (payment, "amount_mismatch"),
        (refund, "refunded"),
    }


def test_old_api_versions_tell_only_the_sum(rig: Rig) -> None:
    """Without refund.* events syncd lists the charge's total, and never adds its refunds to the total."""
    rig.box.stripe.reversals.old_events = True
    payment = paid(rig)
    rig.box.stripe.refund(payment, 500)
    rig.once()
    charge = rig.box.stripe.intents[payment]["latest_charge"]
    assert told(rig) == [(charge, "refunded", 500, "usd")]
    rig.clock.seconds += 60
    rig.box.stripe.refund(payment, 599)
    rig.once()
    assert told(rig) == [(charge, "refunded", 1099, "usd")]
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    rig.sweep()
    assert sorted(line[2] or 0 for line in told(rig)) == [500, 599]
    assert charge not in {line[0] for line in told(rig)}


# --- API usage, and what must keep working --------------------------------------------------------


def test_still_one_request_a_poll() -> None:
    """One events request names the types of payments, refunds and disputes: 15, and Stripe allows 20."""
    assert len({*EVENT_TYPES, *REVERSAL_EVENT_TYPES}) == 15


def test_at_rest_one_request_a_poll(rig: Rig) -> None:
    """With refunds known and nothing new, a poll sends one request to Stripe and none to Halo."""
    rig.box.stripe.refund(paid(rig))
    rig.once()
    rig.box.stripe.requests.clear()
    rig.box.halo.requests.clear()
    rig.clock.seconds += 300
    rig.once()
    assert [request.path for request in rig.box.stripe.requests] == ["/v1/events"]
    assert rig.box.halo.requests == []


def test_a_key_without_the_permissions(rig: Rig) -> None:
    """If the key may not list refunds, syncd logs it once, sweeps continue, and events still count."""
    payment = paid(rig)
    refund = rig.box.stripe.refund(payment)
    rig.sweep()
    rig.once()
    rig.sweep()
    assert told(rig) == [(refund, "refunded", 1099, "usd")]
    assert len(rig.told.events("refunds_refused")) == len(rig.told.events("disputes_refused")) == 1
    assert "Charges and Refunds" in rig.told.events("refunds_refused")[0]["reason"]
    assert rig.told.events("sweep_failed") == []


def test_a_key_that_is_refused_the_events(rig: Rig) -> None:
    """If Stripe refuses the events of refunds, payments are polled all the same; syncd logs it once."""
    rig.box.stripe.events_need_their_permission = True
    payment = rig.pay("succeeded")
    rig.once()
    rig.once()
    assert rig.statuses(payment) == [rig.box.halo.status["succeeded"]]
    assert len(rig.told.events("reversal_events_refused")) == 1
    rig.box.stripe.permissions |= {"charges", "refunds"}
    refund = rig.box.stripe.refund(payment)
    rig.once()
    assert told(rig) == [(refund, "refunded", 1099, "usd")]


def test_the_sweep_finds_what_no_event_told(rig: Rig) -> None:
    """The sweep finds refunds and disputes without a visible event, with two requests."""
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    payment = paid(rig)
    refund = rig.box.stripe.refund(payment, 99, emit=False)
    dispute = rig.box.stripe.dispute(payment, 1000, emit=False)
    rig.box.stripe.requests.clear()
    rig.sweep()
    assert {line[:3] for line in told(rig)} == {
        (refund, "refunded", 99),
        (dispute, "disputed", 1000),
    }
    paths = [request.path for request in rig.box.stripe.requests]
    assert (paths.count("/v1/refunds"), paths.count("/v1/disputes")) == (1, 1)


def test_a_long_open_dispute_is_followed_to_its_end(rig: Rig) -> None:
    """A dispute opened long before and closed without an event: the sweep finds its end."""
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    dispute = rig.box.stripe.dispute(paid(rig))
    rig.once()
    rig.sweep()
    for _ in range(3):
        rig.clock.seconds += 20 * DAY
        rig.sweep()
    rig.box.stripe.reversals.close_dispute(dispute, "lost", emit=False)
    rig.sweep()
    [line] = rig.attention()
    assert "was lost" in line.reason


def test_a_backfill_lists_them(rig: Rig) -> None:
    """A backfill also lists the refunds since its date."""
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    payment = rig.pay("succeeded", created=NOW - 40 * DAY)
    refund = rig.box.stripe.refund(payment, at=NOW - 35 * DAY)
    rig.box.stripe.events.clear()
    rig.backfill(90)
    assert told(rig) == [(refund, "refunded", 1099, "usd")]


def test_many_pages_of_refunds(rig: Rig) -> None:
    """The sweep reads a listing to its last page, each refund once."""
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    payment = paid(rig, amount=30_000, rows=(300.0,))
    for _ in range(230):
        rig.box.stripe.refund(payment, 100, emit=False)
    rig.sweep()
    assert [line[2] for line in told(rig)] == [100] * 230


def test_nothing_is_pruned_that_stands(rig: Rig) -> None:
    """A refund that nobody dismissed stays on the attention list after pruning, however old it is."""
    payment = paid(rig)
    refund = rig.box.stripe.refund(payment)
    rig.once()
    rig.clock.seconds += 400 * DAY
    rig.stored(lambda store: store.housekeeping.prune(rig.clock(), int(rig.clock())))
    assert told(rig) == [(refund, "refunded", 1099, "usd")]
    rig.stored(lambda store: store.people.dismiss([refund], rig.clock()))
    rig.stored(lambda store: store.housekeeping.prune(rig.clock(), int(rig.clock())))
    assert rig.stored(lambda store: store.reversals.counts()) == {"of_halos": 0, "of_others": 0}


@pytest.mark.parametrize(
    "garbage",
    [
        {"object": None},
        {"object": {"id": 7}},
        {"object": {"id": "re_1", "payment_intent": 5}},
    ],
)
def test_garbage_is_shown_not_dropped(rig: Rig, garbage: dict[str, object]) -> None:
    """A refund event that syncd cannot read goes on the attention list."""
    payment = paid(rig)
    name = rig.box.stripe.record("refund.created", {**rig.box.stripe.intents[payment]})
    event = next(e for e in rig.box.stripe.events if e["id"] == name)
    event["data"] = garbage
    rig.once()
    [line] = rig.attention()
    assert (line.id, line.kind) == (name, "unreadable")


def test_amounts_that_cannot_be_read_are_said(rig: Rig) -> None:
    """A refund without a readable amount goes on the attention list, and the entry says so."""
    payment = paid(rig)
    rig.box.stripe.refund(payment)
    for event in rig.box.stripe.events:
        if event["type"] == "refund.created":
            event["data"]["object"]["amount"] = "a lot"
        if event["type"] == "charge.refunded":
            event["data"]["object"]["amount_refunded"] = None
    rig.once()
    assert [line[1:] for line in told(rig)] == [("refunded", None, "usd")]
    assert "an unreadable amount" in rig.attention()[0].reason


def test_the_page_says_what_to_do(rig: Rig) -> None:
    """On the page a refund has its own heading and command."""
    refund = rig.box.stripe.refund(paid(rig), 500)
    rig.once()
    [kind] = _kinds(rig.attention())
    [entry] = kind.lines
    assert (kind.title, command_for(entry.code, entry.id)) == (
        "Refunded in Stripe, paid in Halo",
        f"syncd attention dismiss {refund}",
    )
    assert [line.id for line in kind.lines] == [refund]


def test_the_command_shows_and_dismisses(rig: Rig) -> None:
    """`syncd attention` shows a refund with its amount and exits with 1; `dismiss` removes it."""
    refund = rig.box.stripe.refund(paid(rig), 500)
    rig.once()
    shown = rig.command("attention")
    assert (shown.returncode, refund in shown.stdout, "5.00 USD" in shown.stdout) == (1, True, True)
    assert rig.command("attention", "dismiss", refund).returncode == 0
    assert rig.command("attention").returncode == 0


# --- properties -----------------------------------------------------------------------------------

words = st.builds(
    Reversal,
    id=st.just("re_1"), kind=st.sampled_from(ReversalKind), intent_id=st.just("pi_1"),
    amount=st.none() | st.integers(0, 5), currency=st.just("usd"),
    status=st.sampled_from(["succeeded", "failed", "pending", "won", "lost", "needs_response", "new"]),
    reason=st.none(), created=st.none(), at=st.integers(0, 3), read=st.booleans(),
    total=st.booleans(),
)  # fmt: skip


@given(st.lists(words, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_no_order_of_words_matters(heard: list[Reversal], chance: random.Random) -> None:
    """The reports of a refund or dispute give the same result in any order, and also if repeated."""

    def settle(order: list[Reversal]) -> Reversal | None:
        known: Reversal | None = None
        for word in order:
            known = newer(known, word)
        return known

    mixed = [*heard, *heard]
    chance.shuffle(mixed)
    assert settle(mixed) == settle(heard)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=5), st.booleans())
def test_a_sum_and_its_parts_are_not_added(parts: list[int], known: bool) -> None:
    """The total of a charge's refunds counts only while its single refunds are unknown."""

    def one(name: str, amount: int, *, total: bool) -> Reversal:
        return Reversal(
            name,
            ReversalKind.REFUNDED,
            "pi_1",
            amount,
            "usd",
            "succeeded",
            None,
            0,
            0,
            False,
            total,
        )

    total = one("ch_1", sum(parts), total=True)
    single = [one(f"re_{n}", amount, total=False) for n, amount in enumerate(parts)]
    unread = replace(total, amount=None)
    for whole in (total, unread):
        assert counted([whole, *(single if known else [])]) == (single if known else [whole])


@pytest.mark.parametrize(
    ("kind", "status", "stand", "said", "then"),
    [
        ("refunded", "pending", ReversalStatus.GONE, "Stripe refunded", "Book the refund in Halo"),
        (
            "refunded",
            "a_new_word",
            ReversalStatus.GONE,
            "status a_new_word",
            "Book the refund in Halo",
        ),
        (
            "refunded",
            "failed",
            ReversalStatus.BACK,
            "failed: you keep the money",
            "reverse that booking",
        ),
        (
            "disputed",
            "needs_response",
            ReversalStatus.OPEN,
            "disputes 10.99 USD",
            "Answer the dispute",
        ),
        (
            "disputed",
            "warning_needs_response",
            ReversalStatus.OPEN,
            "an inquiry",
            "Answer the dispute",
        ),
        ("disputed", "prevented", ReversalStatus.OPEN, "status prevented", "Answer the dispute"),
        ("disputed", "lost", ReversalStatus.GONE, "was lost", "Book the loss in Halo"),
        ("disputed", "won", ReversalStatus.BACK, "ended as won", "reverse that booking"),
    ],
)
def test_what_is_said(kind: str, status: str, stand: ReversalStatus, said: str, then: str) -> None:
    """Each status says where the money is and what to do; an unknown status also needs a person."""
    one = Reversal("x_1", ReversalKind(kind), "pi_1", 1099, "usd", status, None, 0, 0, read=False)
    assert (one.money_status, said in describe(one), then in remedy(one)) == (stand, True, True)
    assert "of no payment intent" in describe(
        Reversal("ch_1", ReversalKind(kind), None, None, None, status, "r", 0, 0, False, total=True)
    )
