"""Tenants whose lists hide `intent_id`: syncd matches their rows without guesses and without second rows."""

import json
from collections import Counter

import pytest

from syncd.clients.halo.listed_intents import CHECK_EVERY
from syncd.clients.webhook_payload import Author
from syncd.core.errors import ListingBroken
from syncd.core.payments import PaymentState
from syncd.core.records import Condition
from syncd.preflight.calibration import learn
from syncd.sandbox import Fault
from syncd.store.coordination import HIDDEN_INTENTS
from syncd.sync.build import Parts
from tests.conftest import Rig
from tests.test_audit import audit
from tests.test_calibrate import _survey
from tests.test_check import _sides

CREATING = {
    "SYNCD_PUSH__CREATE_MISSING": "true",
    "SYNCD_HALO__NEW_ROW__METHOD": "12",
    "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
}


@pytest.fixture
def hiding(rig: Rig) -> Rig:
    """A tenant whose lists never show `intent_id`, and leave out null values."""
    rig.box.halo.shows.lists_hide = frozenset({"intent_id"})
    rig.box.halo.shows.nulls_left_out = True
    return rig


def reads(rig: Rig) -> Counter[str]:
    """The number of requests that read rows: by filter, alone, by invoice, or all rows by pages."""
    kinds: Counter[str] = Counter()
    for request in rig.box.halo.requests:
        if request.method != "GET" or not request.path.startswith("/api/InvoicePayment"):
            continue
        query = request.params()
        if request.path != "/api/InvoicePayment":
            kinds["alone"] += 1
        elif "intent_id" in query:
            kinds["nobody" if query["intent_id"] == "pi_nobodys" else "filter"] += 1
        else:
            kinds["invoice" if "invoice_id" in query else "pages"] += 1
    return kinds


def test_rows_are_matched(hiding: Rig) -> None:
    """Until the filter is proven, syncd reads each row alone, also for a payment with two rows."""
    payments = [hiding.pay("succeeded", rows=(5.0, 5.99)), hiding.pay("processing")]
    hiding.once()
    assert [hiding.statuses(payment) for payment in payments] == [[3, 3], [5]]
    assert hiding.attention() == []


def test_cost_of_a_payment(hiding: Rig) -> None:
    """Once the filter is proven, a payment costs one lookup; now and then one row is also read alone."""
    for _ in range(4):
        hiding.pay("succeeded")
    hiding.once()
    assert hiding.stored(lambda store: store.read(HIDDEN_INTENTS)) is not None
    hiding.box.halo.requests.clear()
    payments = [hiding.pay("succeeded") for _ in range(CHECK_EVERY)]
    hiding.once()
    assert {status for payment in payments for status in hiding.statuses(payment)} == {3}
    cost = reads(hiding)
    assert (cost["filter"], cost["alone"], cost["nobody"]) == (CHECK_EVERY, 1, 1)
    assert cost["pages"] <= 1  # nothing is matched by pages


def test_a_filter_that_is_ignored_later(hiding: Rig) -> None:
    """If Halo starts to ignore a proven filter, syncd writes no row of another payment."""
    for _ in range(4):
        hiding.pay("processing")
    others = [hiding.pay(None) for _ in range(3)]
    halo = hiding.box.halo

    async def work(parts: Parts) -> None:
        await parts.engine.poll()
        await parts.engine.push()
        assert hiding.stored(lambda store: store.read(HIDDEN_INTENTS)) is not None
        halo.filter_ignored = True
        hiding.pay("processing", rows=())
        await parts.engine.poll()
        await parts.engine.push()

    hiding.run(work)
    assert [hiding.statuses(other) for other in others] == [[1]] * 3


def test_many_payments_before_anything_is_known(hiding: Rig) -> None:
    """The first push notices that lists hide intents and looks each payment up; a sweep looks up none."""
    payments = [hiding.pay("succeeded") for _ in range(15)]
    hiding.once()
    assert {status for payment in payments for status in hiding.statuses(payment)} == {3}
    assert reads(hiding)["filter"] == 15
    hiding.box.halo.requests.clear()
    hiding.sweep()
    hiding.run(lambda parts: parts.engine.read_back())
    assert (reads(hiding)["filter"], reads(hiding)["alone"]) == (0, 0)
    assert all(hiding.condition(payment) is Condition.IN_STEP for payment in payments)


def test_a_filter_that_lists_another_payments_row(hiding: Rig) -> None:
    """If Halo's filter lists another payment's row, syncd holds the payment and does not write the row."""
    payment = hiding.pay("succeeded", rows=())
    other = hiding.pay(None)
    (row,) = hiding.box.halo.rows_of(other)
    body = json.dumps([hiding.box.halo.shows.in_list(row)]).encode()
    hiding.box.halo.faults.append(
        Fault("200", times=None, body=body, match=lambda r: r.params().get("intent_id") == payment)
    )
    hiding.once()
    assert hiding.statuses(other) == [1]
    assert [entry.code for entry in hiding.attention()] == ["row_unreadable"]


@pytest.mark.parametrize("kind", ["401", "403", "html"])
def test_a_row_that_cannot_be_read_alone(hiding: Rig, kind: str) -> None:
    """If Halo does not show a row alone, its payment is unknown: syncd holds the payment, writes nothing."""
    payment = hiding.pay("succeeded")
    hiding.box.halo.faults.append(
        Fault(kind, times=None, match=lambda r: r.path.startswith("/api/InvoicePayment/"))
    )
    hiding.once()
    assert hiding.statuses(payment) == [1]
    assert [entry.code for entry in hiding.attention()] == ["row_unreadable"]


def test_lists_that_show_intents_again(hiding: Rig) -> None:
    """If lists show `intent_id` again, syncd uses the lists and forgets the proof of the filter."""
    for _ in range(4):
        hiding.pay("succeeded")
    hiding.once()
    hiding.box.halo.shows.lists_hide = frozenset()
    payment = hiding.pay("succeeded")
    hiding.once()
    assert hiding.statuses(payment) == [3]
    assert hiding.stored(lambda store: store.read(HIDDEN_INTENTS)) is None


def test_inserts_are_not_doubled(hiding: Rig) -> None:
    """After an unanswered insert syncd finds the row on its invoice, although lists hide `intent_id`."""
    hiding.settings |= CREATING
    invoice = hiding.box.halo.add_invoice(total=10.99)
    metadata = {"halo_invoice_id": str(invoice)}
    payments = [hiding.pay("succeeded", rows=(), metadata=metadata) for _ in range(2)]
    hiding.box.halo.faults.append(
        Fault("504_after", times=1, match=lambda r: r.method == "POST" and "Payment" in r.path)
    )
    for _ in range(6):
        hiding.cycle()
        hiding.clock.seconds += 400
    assert [hiding.statuses(payment) for payment in payments] == [[3], [3]]
    assert hiding.attention() == []


def test_a_tenant_of_accounting_rows(rig: Rig) -> None:
    """Rows without any `intent_id`, also when read alone, belong to no payment."""
    for _ in range(30):
        rig.box.halo.add_row(None, rig.box.halo.add_invoice(total=10.99), 10.99)
    payments = [rig.pay("succeeded", rows=()) for _ in range(12)]
    rig.once()
    assert all(rig.condition(payment) is Condition.UNMATCHED for payment in payments)
    assert rig.posts() == []


def test_rows_of_an_invoice(hiding: Rig) -> None:
    """The rows of an invoice are read alone: syncd learns the payment of each, or that it has none."""
    halo = hiding.box.halo
    invoice = halo.add_invoice(total=10.99)
    for name in ("pi_1", "pi_2", None):
        halo.add_row(name, invoice, 10.99)
    rows = hiding.run(lambda parts: parts.engine.pusher.sink.rows_of_invoice(invoice))
    assert [row.intent_id for row in rows] == ["pi_1", "pi_2", None]
    assert reads(hiding) == {"invoice": 1, "alone": 3}


def test_a_filter_that_is_ignored_as_well(hiding: Rig) -> None:
    """If Halo also ignores the filter, syncd reads a few rows alone; with many rows the push fails."""
    hiding.settings |= CREATING
    hiding.box.halo.filter_ignored = True
    payments = [hiding.pay("succeeded") for _ in range(3)]
    hiding.once()
    assert [hiding.statuses(payment) for payment in payments] == [[3], [3], [3]]
    hiding.box.halo.requests.clear()
    invoice = str(hiding.box.halo.add_invoice(total=10.99))
    more = [hiding.pay("succeeded", metadata={"halo_invoice_id": invoice}) for _ in range(30)]
    with pytest.raises(ListingBroken, match="Halo ignores the filter"):
        hiding.once()
    assert {status for payment in more for status in hiding.statuses(payment)} == {1}
    assert hiding.posts() == []


# --- the sweep, the audit, check and calibrate ----------------------------------------------------------


def test_a_row_that_changed_is_pushed_again(hiding: Rig) -> None:
    """The sweep finds a changed status by the row's id, without a lookup of each payment."""
    payments = [hiding.pay("succeeded") for _ in range(5)]
    hiding.once()
    hiding.box.halo.rows_of(payments[2])[0]["status"] = 1
    hiding.box.halo.requests.clear()
    hiding.sweep()
    assert [hiding.statuses(payment) for payment in payments] == [[3]] * 5
    assert reads(hiding)["pages"] <= 2
    assert reads(hiding)["filter"] <= 2


def test_a_row_that_was_deleted_is_held(hiding: Rig) -> None:
    """The sweep notices that a payment's row was deleted, and lists the payment."""
    payments = [hiding.pay("succeeded") for _ in range(4)]
    hiding.once()
    (row,) = hiding.box.halo.rows_of(payments[1])
    del hiding.box.halo.rows[row["id"]]
    hiding.sweep()
    assert [(line.id, line.code) for line in hiding.attention()] == [(payments[1], "row_deleted")]


def test_a_row_that_turns_up_late_is_found(hiding: Rig) -> None:
    """If a row appears days later, the sweep reads it alone and pushes its payment."""
    known = [hiding.pay("succeeded") for _ in range(4)]
    late = hiding.pay("succeeded", rows=())
    hiding.once()
    for _ in range(8):
        hiding.clock.seconds += 86_400
        hiding.once()
    assert hiding.condition(late) == Condition.NOT_HALOS
    hiding.box.halo.add_row(late, hiding.box.halo.add_invoice(total=10.99), 10.99)
    hiding.sweep()
    assert hiding.statuses(late) == [3]
    assert [hiding.statuses(payment) for payment in known] == [[3]] * 4


@pytest.mark.parametrize("known", [True, False])
def test_the_audit_compares(hiding: Rig, known: bool) -> None:
    """The audit finds the differences, whether or not syncd already knows the rows."""
    hiding.box.stripe.permissions |= {"charges", "refunds", "disputes"}
    agreeing = [hiding.pay("succeeded", rows=(5.0, 5.99)), hiding.pay("succeeded")]
    wrong = hiding.pay("succeeded")
    if known:
        hiding.once()
    for payment in [*agreeing, wrong]:
        for row in hiding.box.halo.rows_of(payment):
            row["status"] = 3 if payment != wrong else 1
    not_halos = hiding.pay("succeeded", rows=())
    found = audit(hiding)
    assert [(one.kind, one.intent_id) for one in found.findings] == [("paid_at_stripe_only", wrong)]
    assert (found.agree, found.differ, found.not_halos) == (2, 1, 1)
    assert [one.intent_id for one in found.elsewhere] == [not_halos]
    assert any("do not show intent_id" in note for note in found.notes)


def test_check_and_calibrate_read_the_numbers(hiding: Rig) -> None:
    """The event that Halo's webhook stored names the payment; a row without an event is read alone."""
    for state in PaymentState:
        hiding.pay(state)
        hiding.box.halo.native_webhook(hiding.box.stripe.events[-1])
    bare = hiding.pay("succeeded")
    hiding.box.halo.rows_of(bare)[0]["status"] = 3
    lines = _sides(hiding)
    assert lines["status succeeded"].text == "3, as in 1 row of Halo's own webhook"
    assert lines["one account on both sides"].text == f"Stripe knows {bare}, of Halo's newest row"
    survey = _survey(hiding)
    assert survey.authors == {Author.WEBHOOK: 5, Author.BARE: 1}
    assert (survey.alone, survey.by_hand) == (1, [])
    found = learn(survey.tally)
    assert {one.state: one.number for one in found} == {
        PaymentState(state): number for state, number in hiding.box.halo.status.items()
    }
