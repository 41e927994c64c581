"""How Stripe's objects are parsed, case by case: events, payment intents, refunds, disputes and charges."""

from dataclasses import replace
from typing import Any

import pytest

from syncd.clients.stripe.parse import (
    SeenEvent,
    Unreadable,
    read_charge,
    read_dispute,
    read_event,
    read_intent,
    read_refund,
    unknown_status,
)
from syncd.clients.webhook_payload import trace_of
from syncd.core.payments import Observation, PaymentState
from syncd.core.reversals import Reversal, ReversalKind

KEY = "halo_invoice_id"
AT = 1_772_366_400
INTENT: dict[str, Any] = {
    "id": "pi_1",
    "status": "processing",
    "created": AT - 60,
    "amount": 1099,
    "amount_received": 0,
    "currency": "USD",
    "metadata": {KEY: " 1001\n", "other": "1002"},
}
REFUND: dict[str, Any] = {
    "id": "re_1",
    "payment_intent": "pi_1",
    "amount": 500,
    "amount_refunded": 700,
    "currency": "USD",
    "status": "pending",
    "reason": "duplicate",
    "created": AT - 30,
}
SAID = Observation(
    "pi_1",
    PaymentState.PROCESSING,
    AT,
    read=False,
    created=AT - 60,
    amount=1099,
    amount_received=0,
    currency="usd",
    invoice="1001",
)
REFUNDED = Reversal(
    "re_1", ReversalKind.REFUNDED, "pi_1", 500, "usd", "pending", "duplicate", AT - 30, AT,
    read=False,
)  # fmt: skip


def _event(inner: Any, kind: Any = "payment_intent.processing", **more: Any) -> dict[str, Any]:
    return {"id": "evt_1", "type": kind, "created": AT, "data": {"object": inner}, **more}


def _unreadable(read: object) -> Unreadable:
    assert isinstance(read, Unreadable), read
    return read


# --- events ----------------------------------------------------------------------------------------------


def test_an_event() -> None:
    """An event gives the state of its type, not of the intent inside it, at the event's time."""
    raw = _event(INTENT)
    said = replace(SAID, event_id="evt_1", trace=trace_of(raw))
    assert read_event(raw, KEY) == SeenEvent("evt_1", AT, "payment_intent.processing", said)
    assert read_event(_event({**INTENT, "status": "canceled"}), KEY) == replace(
        SeenEvent("evt_1", AT, "payment_intent.processing", said),
        observation=replace(said, trace=trace_of(_event({**INTENT, "status": "canceled"}))),
    )


def test_an_event_of_another_kind() -> None:
    """An event of another type is read without an observation, with or without a time."""
    kind = "payment_intent.created"
    assert read_event(_event(None, kind), KEY) == SeenEvent("evt_1", AT, kind, None)
    assert read_event(_event(None, kind, created="x"), KEY) == SeenEvent("evt_1", 0, kind, None)
    long = read_event(_event(None, "x" * 81), KEY)
    assert long == SeenEvent("evt_1", AT, "x" * 80, None)


@pytest.mark.parametrize(
    ("raw", "text", "at"),
    [
        (_event(INTENT, None), "An event from Stripe has no type.", AT),
        (_event(INTENT, 7), "An event from Stripe has no type.", AT),
        (_event(None), "The event evt_1 (payment_intent.processing) holds no payment intent.", AT),
        (_event(INTENT, data=[INTENT]), "The event evt_1 (payment_intent.processing) holds no payment intent.", AT),
        (_event({"id": 7}), "The event evt_1 (payment_intent.processing) names no payment that syncd can read.", AT),
        (_event({"id": "p i"}), "The event evt_1 (payment_intent.processing) names no payment that syncd can read.", AT),
        (_event(INTENT, created=None), "The event evt_1 (payment_intent.processing of pi_1) has no time.", None),
        (_event(INTENT, created=-1), "The event evt_1 (payment_intent.processing of pi_1) has no time.", None),
        (_event(REFUND, "refund.created", created=None), "The event evt_1 (refund.created) has no time.", None),
        (
            _event([], "refund.created"),
            "The event evt_1 (refund.created) can't be used: A refund from Stripe isn't an object.", AT,
        ),
        (
            _event(REFUND, "refund.created", data=[REFUND]),
            "The event evt_1 (refund.created) can't be used: A refund from Stripe isn't an object.", AT,
        ),
    ],
)  # fmt: skip
def test_an_unreadable_event(raw: Any, text: str, at: int | None) -> None:
    """An unreadable event is reported with its ID, its time and the reason."""
    assert read_event(raw, KEY) == Unreadable("evt_1", text, at)


def test_what_a_person_reads_of_it() -> None:
    """The reason says what is wrong, what syncd does and what the user can do."""
    odd = Unreadable("evt_1", "The event evt_1 has no time.")
    assert odd.reason == (
        "The event evt_1 has no time. syncd ignores it. Look for evt_1 in Stripe's dashboard, to "
        "know what it is. Then run: syncd attention dismiss evt_1"
    )


@pytest.mark.parametrize("event_id", ["", "evt 1", "evt-1", "x" * 256, 7, None])
def test_an_event_without_a_name(event_id: object) -> None:
    """An event without a valid ID gets a fingerprint as its ID, the same one each time."""
    read = read_event(_event(INTENT, id=event_id), KEY)
    assert isinstance(read, SeenEvent)
    assert read.observation is not None
    assert read.observation.event_id == read.id
    assert read.id.startswith("unnamed_")
    assert len(read.id) == len("unnamed_") + 24
    assert read == read_event(_event(INTENT, id=event_id), KEY)
    other = read_event(_event({**INTENT, "amount": 1}, id=event_id), KEY)
    assert other.id != read.id


def test_what_is_no_event() -> None:
    """An event that is not an object is reported under its fingerprint."""
    odd, other = (_unreadable(read_event(raw, KEY)) for raw in ("x", ["x"]))
    assert (odd.text, odd.at) == ("An event in Stripe's list isn't an object.", None)
    assert odd.id.startswith("unnamed_")
    assert odd.id != other.id


# --- intents ---------------------------------------------------------------------------------------------


def test_an_intent() -> None:
    """A payment intent gives its own state; a trace is kept only if it has a state."""
    assert read_intent(INTENT, KEY, AT) == replace(SAID, read=True, trace=trace_of(INTENT))
    waiting = {**INTENT, "status": "requires_payment_method"}
    assert read_intent(waiting, KEY, AT) == replace(SAID, state=None, read=True)
    failed = {**waiting, "last_payment_error": {"code": "card_declined"}}
    assert read_intent(failed, KEY, AT) == replace(
        SAID, state=PaymentState.PAYMENT_FAILED, read=True, trace=trace_of(failed)
    )
    assert read_intent({**waiting, "last_payment_error": None}, KEY, AT) == replace(
        SAID, state=None, read=True
    )


@pytest.mark.parametrize(
    ("details", "surcharge", "tip"),
    [
        ({"tip": {"amount": 5}, "surcharge": {"amount": 7}}, 7, 5),
        ({"tip": {}}, None, None),
        ({"tip": {"amount": 0}, "surcharge": None}, None, 0),
        ({}, None, None),
        (None, None, None),
        ([], None, None),
        ({"tip": 5, "surcharge": {"amount": "7"}}, None, None),
        ({"tip": {"amount": -5}, "surcharge": {"amount": 7.5}}, None, None),
    ],
)
def test_parts_of_an_amount(details: object, surcharge: int | None, tip: int | None) -> None:
    """Surcharge and tip are read if Stripe shows them as whole amounts; otherwise they are None."""
    read = read_intent({**INTENT, "amount_details": details}, KEY, AT)
    assert isinstance(read, Observation)
    assert (read.surcharge, read.tip) == (surcharge, tip)


def test_an_unreadable_intent() -> None:
    """A payment intent without an ID or a status is unreadable; the report names it as well as possible."""
    assert _unreadable(read_intent([INTENT], KEY, AT)).text == (
        "A payment intent in Stripe's answer isn't an object."
    )
    for intent_id in (None, 7, "p i"):
        read = _unreadable(read_intent({**INTENT, "id": intent_id}, KEY, AT))
        assert read.text == "A payment intent in Stripe's answer has no id."
        assert read.id.startswith("unnamed_")
    for status in (None, 7):
        assert read_intent({**INTENT, "status": status}, KEY, AT) == Unreadable(
            "pi_1", "Stripe's answer for pi_1 has no status."
        )


@pytest.mark.parametrize(
    ("number", "whole"),
    [
        (0, 0),
        (1, 1),
        (10**15, 10**15),
        (10**15 + 1, None),
        (-1, None),
        (10.0, None),
        ("10", None),
        (True, None),
        (False, None),
        (None, None),
    ],
)
def test_amounts(number: object, whole: int | None) -> None:
    """An amount is a whole number of the smallest unit, from 0 to 10**15."""
    read = read_intent({**INTENT, "amount": number, "amount_received": number}, KEY, AT)
    assert read == replace(
        SAID,
        read=True,
        amount=whole,
        amount_received=whole,
        trace=trace_of({**INTENT, "amount": number, "amount_received": number}),
    )
    assert isinstance(read, Observation)
    assert type(read.amount) is type(whole)


@pytest.mark.parametrize(
    ("seconds", "created"),
    [
        (0, 0),
        (4_102_444_799, 4_102_444_799),
        (4_102_444_800, 4_102_444_800),
        (4_102_444_801, None),
        (4_102_444_802, None),
        (1e9, None),
        (None, None),
    ],
)
def test_times(seconds: object, created: int | None) -> None:
    """A time must be between 1970 and the year 2100."""
    read = read_intent({**INTENT, "created": seconds}, KEY, AT)
    assert isinstance(read, Observation)
    assert read.created == created


@pytest.mark.parametrize(
    ("word", "currency"),
    [("usd", "usd"), ("Usd", "usd"), ("usdc", "usdc"), ("us", None), ("u1d", None), (7, None), (None, None)],
)  # fmt: skip
def test_currencies(word: object, currency: str | None) -> None:
    """A currency has three or four letters."""
    read = read_intent({**INTENT, "currency": word}, KEY, AT)
    assert isinstance(read, Observation)
    assert read.currency == currency


@pytest.mark.parametrize(
    ("metadata", "invoice"),
    [
        ({KEY: "1001"}, "1001"),
        ({KEY: 1001}, "1001"),
        ({KEY: " "}, None),
        ({KEY: ["1001"]}, None),
        ({KEY: None}, None),
        ({KEY: "x" * 100}, "x" * 100),
        ({KEY: "x" * 101}, "x" * 100),
        ({}, None),
        (None, None),
        ([KEY], None),
    ],
)
def test_invoices(metadata: object, invoice: str | None) -> None:
    """The invoice is short text under the configured metadata key, otherwise None."""
    read = read_intent({**INTENT, "metadata": metadata}, KEY, AT)
    assert isinstance(read, Observation)
    assert read.invoice == invoice


@pytest.mark.parametrize(
    ("status", "unknown"),
    [
        ("succeeded", []),
        ("requires_capture", []),
        ("requires_payment_method", []),
        ("half_paid", ["half_paid"]),
        (None, ["None"]),
        ("x" * 81, ["x" * 80]),
    ],
)
def test_unknown_statuses(status: object, unknown: list[str]) -> None:
    """A status unknown to syncd is reported; a known status without a state is not."""
    assert unknown_status({"status": status}) == unknown


# --- refunds, disputes, charges ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reversal"),
    [
        ("refund.created", REFUNDED),
        ("charge.refund.updated", REFUNDED),
        ("charge.dispute.created", replace(REFUNDED, kind=ReversalKind.DISPUTED)),
        (
            "charge.refunded",
            replace(REFUNDED, amount=700, total=True, status="refunded", reason=None),
        ),
    ],
)
def test_events_of_money_that_went_back(kind: str, reversal: Reversal) -> None:
    """The event's type decides whether its object is a refund, a dispute or a charge's refund total."""
    assert read_event(_event(REFUND, kind), KEY) == SeenEvent("evt_1", AT, kind, None, reversal)


def test_what_was_listed() -> None:
    """A refund or dispute from a list is marked as read; one from an event is not."""
    disputed = replace(REFUNDED, kind=ReversalKind.DISPUTED)
    assert read_refund(REFUND, AT) == REFUNDED
    assert read_refund(REFUND, AT, read=True) == replace(REFUNDED, read=True)
    assert read_dispute(REFUND, AT) == disputed
    assert read_dispute(REFUND, AT, read=True) == replace(disputed, read=True)
    assert read_charge(REFUND, AT) == replace(
        REFUNDED, amount=700, total=True, status="refunded", reason=None
    )


@pytest.mark.parametrize("read", [read_refund, read_dispute])
def test_flags_are_named(read: Any) -> None:
    """`read` is accepted only as a keyword argument."""
    with pytest.raises(TypeError):
        read(REFUND, AT, True)


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({"payment_intent": {"id": "pi_2"}}, {"intent_id": "pi_2"}),
        ({"payment_intent": None}, {"intent_id": None}),
        ({"status": None}, {"status": "unknown"}),
        ({"status": ""}, {"status": "unknown"}),
        ({"status": 7}, {"status": "unknown"}),
        ({"status": "x" * 40}, {"status": "x" * 40}),
        ({"status": "x" * 41}, {"status": "x" * 40}),
        ({"reason": None}, {"reason": None}),
        ({"reason": ""}, {"reason": None}),
        ({"reason": 7}, {"reason": None}),
        ({"reason": "x" * 80}, {"reason": "x" * 80}),
        ({"reason": "x" * 81}, {"reason": "x" * 80}),
        (
            {"amount": "500", "currency": 7, "created": None},
            {"amount": None, "currency": None, "created": None},
        ),
    ],
)
def test_refunds(fields: dict[str, Any], changed: dict[str, Any]) -> None:
    """A missing field of a refund is unknown; the payment may be an ID or an object."""
    assert read_refund({**REFUND, **fields}, AT) == replace(REFUNDED, **changed)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"payment_intent": 7}, "The {noun} re_1 names no payment that syncd can read."),
        ({"payment_intent": "p i"}, "The {noun} re_1 names no payment that syncd can read."),
        ({"payment_intent": {"id": 7}}, "The {noun} re_1 names no payment that syncd can read."),
        ({"id": 7}, "A {noun} from Stripe has no id."),
        ({"id": "re 1"}, "A {noun} from Stripe has no id."),
    ],
)
def test_unreadable_refunds(fields: dict[str, Any], text: str) -> None:
    """An unreadable refund or dispute is reported with its ID and the reason."""
    raw = {**REFUND, **fields}
    for read, noun in (
        (read_refund(raw, AT), "refund"),
        (read_charge(raw, AT), "refund"),
        (read_dispute(raw, AT), "dispute"),
    ):
        odd = _unreadable(read)
        assert odd.text == text.format(noun=noun)
        assert (odd.id, odd.at) == ("re_1", AT) or (odd.id[:8], odd.at) == ("unnamed_", None)
