"""Edge cases of the pure modules: each test kills mutants that no other test kills."""

import dataclasses
import inspect
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any

import pytest

from syncd.clients import webhook_payload as traces
from syncd.clients.halo import parse as halo_reading
from syncd.clients.stripe import parse as stripe_reading
from syncd.core import errors as failures
from syncd.core import payments, reversals
from syncd.core import windows as rates
from syncd.core.errors import LinkFailure, Side
from syncd.core.holds import HoldCode
from syncd.core.money import Money
from syncd.core.payments import Observation, Payment, PaymentState, settle, state_of_intent
from syncd.core.rows import Row
from syncd.core.rules import decisions
from syncd.core.rules.decisions import (
    AskStripe,
    Hold,
    InStep,
    Policy,
    Update,
    decide,
    invoice_number,
)
from syncd.core.windows import Window, poll_spacing_seconds

S = PaymentState
NUMBERS = {state: 1_000 + place for place, state in enumerate(S)}


def word(state: PaymentState | None, at: int, *, read: bool = False, **more: Any) -> Observation:
    money = {"amount": 1099, "amount_received": 1099, "currency": "usd"}
    return Observation("pi_1", state, at, read, **{**money, **more})


def settled(*seen: Observation) -> Payment:
    payment = None
    for said in seen:
        payment = settle(payment, said)
    assert payment is not None
    return payment


def row(status: int | None, amount: str = "10.99") -> Row:
    return Row(1, "pi_1", 1001, Decimal(amount), status)


def text(decision: object) -> str:
    assert isinstance(decision, Hold)
    return decision.text


@pytest.mark.parametrize(
    "room", [payments, decisions, failures, rates, reversals, halo_reading, stripe_reading, traces]
)
def test_values_are_values(room: ModuleType) -> None:
    """The values of these modules are frozen and slotted, so that a decision cannot change afterwards."""
    for _, member in inspect.getmembers(room, inspect.isclass):
        if member.__module__ == room.__name__ and not issubclass(member, Enum | Exception):
            assert dataclasses.is_dataclass(member), member
            kind: Any = member
            assert kind.__dataclass_params__.frozen, kind
            assert "__slots__" in vars(kind), kind


@pytest.mark.parametrize(
    "call",
    [
        lambda: state_of_intent("requires_payment_method", True),  # type: ignore[call-arg]
        lambda: decide(settled(word(S.CANCELED, 1)), [row(1)], Policy(NUMBERS), True),  # type: ignore[call-arg]
        lambda: LinkFailure(Side.HALO, "odd", 3.0),  # type: ignore[call-arg]
    ],
)
def test_flags_are_named(call: Callable[[], object]) -> None:
    """Flags are accepted only as keyword arguments."""
    with pytest.raises(TypeError):
        call()


def test_an_error_of_old_changes_no_success() -> None:
    """An error counts as a failed payment only with the status `requires_payment_method`."""
    assert state_of_intent("succeeded", has_error=True) is S.SUCCEEDED
    assert state_of_intent("zzz", has_error=True) is None


# --- money ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("money", "near", "far"),
    [
        (Money(1099, "usd"), "10.9900099", "10.99001"),
        (Money(500, "jpy"), "500.00099", "500.001"),
        (Money(12_340, "kwd"), "12.34000099", "12.340001"),
    ],
)
def test_what_is_forgiven(money: Money, near: str, far: str) -> None:
    """A difference below a thousandth of the smallest unit is ignored; a thousandth is a different amount."""
    assert money.equals(Decimal(near))
    assert not money.equals(Decimal(far))


def test_what_is_complete() -> None:
    """An observation is complete with amount and currency; a success also needs the received amount."""
    assert not word(S.PROCESSING, 1, currency=None).complete
    assert not word(S.PROCESSING, 1, amount=None).complete
    assert word(S.PROCESSING, 1, amount_received=None).complete
    assert word(None, 1, amount_received=None).complete
    assert not word(S.SUCCEEDED, 1, amount_received=None).complete


def test_money_needs_both_parts() -> None:
    """Without both an amount and a currency there is no money value."""
    whole = word(S.SUCCEEDED, 1, amount=1, amount_received=2)
    assert (whole.due, whole.received) == (Money(1, "usd"), Money(2, "usd"))
    nothing = word(S.SUCCEEDED, 1, currency=None)
    assert (nothing.due, nothing.received) == (None, None)
    nothing = word(S.SUCCEEDED, 1, amount=None, amount_received=None)
    assert (nothing.due, nothing.received) == (None, None)


# --- which observation counts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "needs_reading", "contradicted"),
    [
        # A later event whose name sorts after the first one's, or before.
        ([word(S.CANCELED, 1), word(S.PROCESSING, 2)], True, False),
        ([word(S.SUCCEEDED, 1), word(S.CANCELED, 2), word(S.SUCCEEDED, 3, read=True)], False, False),
        # A read outranks events of its own second and earlier ones, but not later ones.
        ([word(S.PROCESSING, 1, read=True), word(None, 3, read=True), word(S.PAYMENT_FAILED, 1)], False, False),
        ([word(S.PROCESSING, 5, read=True), word(None, 7, read=True), word(S.PAYMENT_FAILED, 3)], False, False),
        ([word(S.SUCCEEDED, 1, read=True), word(S.PROCESSING, 2)], True, False),
        ([word(S.SUCCEEDED, 1, read=True), word(S.PROCESSING, 1)], False, False),
        # At time 0 there is no read either.
        ([word(S.SUCCEEDED, 0, amount=None)], True, False),
        # A read of the same second is an answer.
        ([word(S.SUCCEEDED, 5), word(S.CANCELED, 3), word(None, 5, read=True)], False, True),
        ([word(S.PROCESSING, 5, amount=None), word(None, 5, read=True)], False, False),
    ],
)  # fmt: skip
def test_doubt(seen: list[Observation], *, needs_reading: bool, contradicted: bool) -> None:
    """These observations need a read of the intent, or the intent contradicts them."""
    payment = settled(*seen)
    assert (payment.needs_reading, payment.contradicted) == (needs_reading, contradicted)


# --- what to do ------------------------------------------------------------------------------------------


def test_numbers_are_compared_by_value() -> None:
    """Status numbers are compared by value, however large."""
    status, policy = int("1000"), Policy({S.SUCCEEDED: 1_000, S.CANCELED: 1_001})
    decision = decide(settled(word(S.SUCCEEDED, 1)), [row(status)], policy)
    assert decision == InStep((1,), 1_000)
    rows = [row(status, "5.00"), dataclasses.replace(row(1, "5.99"), id=2)]
    assert decide(settled(word(S.SUCCEEDED, 1)), rows, policy) == Update((2,), (1,), 1_000)
    assert decide(settled(word(S.CANCELED, 1)), [row(status)], policy) == AskStripe()


def test_why_a_number_is_missed() -> None:
    """The text names Stripe's state and the missing key, also if the missing key is another state's."""
    missing = text(decide(settled(word(S.CANCELED, 1)), [row(1)], Policy({S.SUCCEEDED: 3})))
    assert "Stripe says pi_1 is canceled, but halo.status.canceled is not set. " in missing
    other = text(decide(settled(word(S.CANCELED, 1)), [row(1)], Policy({S.CANCELED: 6})))
    because = "halo.status.succeeded is not set, and without it syncd cannot tell whether"
    assert f"Stripe says pi_1 is canceled, but {because}" in other


def test_what_the_intent_itself_says() -> None:
    """The text of a contradiction contains what the payment intent says."""
    said = word(S.SUCCEEDED, 1)
    none = text(decide(settled(said, word(None, 2, read=True)), [row(1)], Policy(NUMBERS)))
    assert "the payment intent says none of the five states." in none
    other = text(decide(settled(said, word(S.PROCESSING, 2, read=True)), [row(1)], Policy(NUMBERS)))
    assert "the payment intent says processing." in other


def test_how_many_rows() -> None:
    """The text uses the singular for one row and the plural for several."""
    policy, payment = Policy(NUMBERS), settled(word(S.SUCCEEDED, 1))
    one = decide(payment, [row(1, "5.00")], policy)
    two = decide(payment, [row(1, "5.00"), dataclasses.replace(row(1, "1.00"), id=2)], policy)
    assert "Halo's 1 row for pi_1 adds up to 5.00 USD." in text(one)
    assert "Halo's 2 rows for pi_1 add up to 6.00 USD." in text(two)
    assert isinstance(two, Hold)
    assert two.code is HoldCode.AMOUNT_MISMATCH


def test_the_greatest_invoice() -> None:
    """2,147,483,647 is the largest invoice number that Halo's field accepts."""
    assert invoice_number("2147483647") == 2_147_483_647
    assert invoice_number("2147483648") is None
    assert invoice_number("2147483649") is None
    assert invoice_number("1") == 1


# --- windows ---------------------------------------------------------------------------------------------


def test_the_oldest_bucket_counts_to_its_end() -> None:
    """A bucket leaves the window together with its last second."""
    window = Window(1, 300, 5)
    assert window.wait_seconds({100: 1}, 404) == 1
    assert window.wait_seconds({100: 1}, 405) == 0


def test_a_bucket_that_frees_more_than_one() -> None:
    """If many requests leave the window together, one wait is enough."""
    assert Window(3, 300, 5).wait_seconds({100: 3, 200: 0}, 210) == 195


def test_what_lay_ahead_is_added_up() -> None:
    """All counts in the future are moved to now and added."""
    assert Window(9, 300, 5).rebased({400: 1, 4_000: 1, 8_000: 1}, 400) == {400: 3}


def test_how_far_apart_polls_are() -> None:
    """The remaining reads are spread exactly over the time until the next bucket leaves."""
    window = Window(limit=10, period_seconds=100, bucket_seconds=5)
    assert poll_spacing_seconds(window, {0: 6}, 104, 1) == 100 / 9.5
    assert poll_spacing_seconds(window, {100: 7}, 101, 1) == 104 / (9.95 - 7)
    # The oldest bucket is about to leave, and does not count from then on.
    assert poll_spacing_seconds(window, {0: 4, 100: 3}, 104, 1) == 101 / (9.95 - 3)
