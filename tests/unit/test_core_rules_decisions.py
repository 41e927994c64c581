"""The decision table, line by line, as one pure function."""

import dataclasses
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.holds import HoldCode, command_for
from syncd.core.payments import Observation, Payment, PaymentState, settle
from syncd.core.rows import Row
from syncd.core.rules.decisions import (
    AskStripe,
    Create,
    Hold,
    InStep,
    Policy,
    Unmatched,
    Update,
    decide,
    invoice_number,
    left_out,
)

S = PaymentState
NUMBERS = {
    S.SUCCEEDED: 3,
    S.PAYMENT_FAILED: 4,
    S.PROCESSING: 5,
    S.CANCELED: 6,
    S.REQUIRES_ACTION: 7,
}
POLICY = Policy(NUMBERS)
CREATING = Policy(NUMBERS, create_missing=True)


def said(state: PaymentState | None, **more: Any) -> Payment:
    fields = {"amount": 1099, "amount_received": 1099, "currency": "usd", "invoice": "1001", **more}
    return settle(None, Observation("pi_1", state, 5, read=False, **fields))


def row(status: int | None = 1, amount: str | None = "10.99", name: int | None = 1) -> Row:
    return Row(name, "pi_1", 1001, None if amount is None else Decimal(amount), status)


def code(decision: object) -> HoldCode:
    assert isinstance(decision, Hold)
    assert decision.text.endswith(f"Then run: {command_for(decision.code, 'pi_1')}")
    return decision.code


@pytest.mark.parametrize("state", PaymentState)
def test_update(state: PaymentState) -> None:
    """The rows whose status differs from Stripe's state are updated, and no others."""
    rows = [row(1, "5.00", 1), row(NUMBERS[state], "5.99", 2), row(99, "0", 3)]
    assert decide(said(state), rows, POLICY) == Update((1, 3), (1, 99), NUMBERS[state])


@pytest.mark.parametrize("state", PaymentState)
def test_a_status_that_cannot_be_read(state: PaymentState) -> None:
    """A row with an unreadable status may be paid, so the payment is held whatever else agrees."""
    rows = [row(NUMBERS[state], "10.99", 1), row(None, "0", 3)]
    assert code(decide(said(state), rows, POLICY)) is HoldCode.ROW_UNREADABLE


@pytest.mark.parametrize("state", PaymentState)
def test_in_step(state: PaymentState) -> None:
    """If all rows have the right status, nothing is sent, even if the amounts disagree."""
    rows = [row(NUMBERS[state], "1", 1), row(NUMBERS[state], "2", 2)]
    assert decide(said(state), rows, POLICY) == InStep((1, 2), NUMBERS[state])


@pytest.mark.parametrize("state", PaymentState)
def test_not_configured(state: PaymentState) -> None:
    """A state without a status number is held, and the text names the key."""
    policy = Policy({s: n for s, n in NUMBERS.items() if s is not state})
    decision = decide(said(state), [row()], policy)
    assert code(decision) is HoldCode.STATUS_NOT_CONFIGURED
    assert f"halo.status.{state} " in decision.text  # type: ignore[union-attr]


def test_nobody_can_tell_what_is_paid() -> None:
    """Without the number of succeeded a row might already be paid, so the payment is held."""
    policy = Policy({S.CANCELED: 6})
    decision = decide(said(S.CANCELED), [row()], policy)
    assert code(decision) is HoldCode.STATUS_NOT_CONFIGURED
    assert "halo.status.succeeded " in decision.text  # type: ignore[union-attr]


@pytest.mark.parametrize("state", [s for s in PaymentState if s is not S.SUCCEEDED])
def test_halo_says_succeeded(state: PaymentState) -> None:
    """If a row is paid in Halo but not at Stripe, syncd re-reads Stripe first and then holds the payment."""
    rows = [row(1), row(3, "1", 2)]
    assert decide(said(state), rows, POLICY) == AskStripe()
    assert code(decide(said(state), rows, POLICY, asked=True)) is HoldCode.HALO_SAYS_SUCCEEDED


def test_amounts() -> None:
    """A success is pushed only if the rows add up to the received amount, unless mismatches are allowed."""
    two = [row(1, "5.00", 1), row(1, "5.99", 2)]
    assert decide(said(S.SUCCEEDED), two, POLICY) == Update((1, 2), (1, 1), 3)
    short = [row(1, "5.00", 1), row(1, "5.98", 2)]
    assert code(decide(said(S.SUCCEEDED), short, POLICY)) is HoldCode.AMOUNT_MISMATCH
    one = decide(said(S.SUCCEEDED), short[:1], POLICY)
    assert "Halo's 1 row for pi_1 adds up to 5.00 USD." in one.text  # type: ignore[union-attr]
    push = Policy(NUMBERS, push_on_mismatch=True)
    assert decide(said(S.SUCCEEDED), short, push) == Update((1, 2), (1, 1), 3)


cents = st.integers(0, 10**9)


@given(bill=cents, surcharge=st.none() | cents, tip=st.none() | cents, other=cents, data=st.data())
def test_money_that_is_explained(
    bill: int, surcharge: int | None, tip: int | None, other: int, data: st.DataObject
) -> None:
    """Rows agree if they add up to the received amount, minus exactly surcharge, tip, both or neither."""
    received = bill + (surcharge or 0) + (tip or 0)
    parts = {0, surcharge or 0, tip or 0, (surcharge or 0) + (tip or 0)}
    total = data.draw(st.sampled_from([*(received - part for part in sorted(parts)), other]))
    first = data.draw(st.integers(0, total))
    rows = [row(1, f"{Decimal(cent) / 100}", n) for n, cent in enumerate((first, total - first))]
    payment = said(S.SUCCEEDED, amount_received=received, surcharge=surcharge, tip=tip)
    decision = decide(payment, rows, POLICY)
    if received - total in parts:
        assert isinstance(decision, Update)
        assert bool(decision.left_out) == (total != received)
    else:
        assert code(decision) is HoldCode.AMOUNT_MISMATCH


@pytest.mark.parametrize(
    ("surcharge", "tip", "total", "words"),
    [
        (50, None, "10.49", "a surcharge of 0.50 USD"),
        (50, 100, "9.99", "a tip of 1.00 USD"),
        (50, 100, "10.49", "a surcharge of 0.50 USD"),
        (50, 100, "10.99", ""),
        (50, 100, "9.49", "a surcharge of 0.50 USD and a tip of 1.00 USD"),
        (0, 0, "10.99", ""),
        (50, 50, "10.49", "a surcharge of 0.50 USD or a tip of 0.50 USD"),
    ],
)
def test_words_of_money_that_is_explained(surcharge: int, tip: int, total: str, words: str) -> None:
    """The decision names the surcharge or tip that the rows omit, but only if the payment succeeded."""
    payment = said(S.SUCCEEDED, surcharge=surcharge, tip=tip)
    assert decide(payment, [row(1, total)], POLICY) == Update((1,), (1,), 3, left_out=words)
    failed = said(S.PAYMENT_FAILED, surcharge=surcharge, tip=tip)
    assert decide(failed, [row(1, total)], POLICY) == Update((1,), (1,), 4)


def test_a_mismatch_names_surcharge_and_tip() -> None:
    """The hold names the surcharge and tip, if they do not explain the difference between the amounts."""
    payment = said(S.SUCCEEDED, surcharge=50, tip=100)
    decision = decide(payment, [row(1, "10.00")], POLICY)
    assert code(decision) is HoldCode.AMOUNT_MISMATCH
    parts = "(with a surcharge of 0.50 USD and a tip of 1.00 USD)"
    assert f"10.99 USD {parts} for pi_1" in decision.text  # type: ignore[union-attr]
    beyond = said(S.SUCCEEDED, surcharge=2_000)
    assert code(decide(beyond, [row(1, "-9.01")], POLICY)) is HoldCode.AMOUNT_MISMATCH


def test_amounts_that_can_not_be_read() -> None:
    """If an amount or the currency is unreadable on either side, the payment is held."""
    assert code(decide(said(S.SUCCEEDED), [row(1, None)], POLICY)) is HoldCode.AMOUNT_UNREADABLE
    nothing = said(S.SUCCEEDED, amount_received=None)
    assert code(decide(nothing, [row()], POLICY)) is HoldCode.AMOUNT_UNREADABLE
    odd = said(S.SUCCEEDED, currency="xxx")
    assert code(decide(odd, [row()], POLICY)) is HoldCode.CURRENCY_UNKNOWN


def test_row_without_id() -> None:
    """A payment whose row has no ID is held."""
    assert code(decide(said(S.SUCCEEDED), [row(name=None)], POLICY)) is HoldCode.ROW_UNREADABLE


def test_create() -> None:
    """Without a row, and if creating is allowed, the new row gets the received amount or the amount due."""
    assert decide(said(S.SUCCEEDED, amount_received=500), [], CREATING) == Create(
        1001, Decimal("5.00"), 3
    )
    assert decide(said(S.CANCELED, amount_received=0), [], CREATING) == Create(
        1001, Decimal("10.99"), 6
    )


def test_no_row() -> None:
    """If there is no row and none may be created, the payment is unmatched, even without a status number."""
    assert decide(said(S.SUCCEEDED), [], POLICY) == Unmatched()
    assert decide(said(S.SUCCEEDED, invoice=None), [], CREATING) == Unmatched()
    assert decide(said(S.SUCCEEDED), [], Policy({})) == Unmatched()


def test_creations_that_are_held() -> None:
    """If a value of the new row is missing or unreadable, the payment is held."""
    assert code(decide(said(S.SUCCEEDED, invoice="x"), [], CREATING)) is HoldCode.INVOICE_UNREADABLE
    no_number = Policy({}, create_missing=True)
    assert code(decide(said(S.SUCCEEDED), [], no_number)) is HoldCode.STATUS_NOT_CONFIGURED
    assert code(decide(said(S.CANCELED, amount=None), [], CREATING)) is HoldCode.AMOUNT_UNREADABLE
    assert code(decide(said(S.CANCELED, currency="xxx"), [], CREATING)) is HoldCode.CURRENCY_UNKNOWN


def test_row_that_is_gone() -> None:
    """If Halo's row of an acknowledged payment was deleted, the payment is held and no row is created."""
    decision = decide(said(S.SUCCEEDED), [], CREATING, acknowledged=True)
    assert code(decision) is HoldCode.ROW_DELETED


def test_contradiction() -> None:
    """If the payment intent contradicts the events, the payment is held."""
    word = said(S.SUCCEEDED).current
    for other in (S.PROCESSING, None):
        payment = settle(settle(None, word), replace(word, state=other, at=9, read=True))
        assert code(decide(payment, [row()], POLICY)) is HoldCode.STRIPE_CONTRADICTS_ITSELF


def test_no_state() -> None:
    """A payment without a state raises an error; nothing is decided."""
    with pytest.raises(ValueError, match="pi_1 has no state"):
        decide(said(None), [row()], POLICY)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1001", 1001), (" 1001 ", 1001), ("0", None), ("-5", None), ("1e3", None), ("", None),
        ("2147483648", None), ("12345678901", None), ("١٢", None), ("INV-7", None),
    ],
)  # fmt: skip
def test_invoice_number(text: str, number: int | None) -> None:
    """Only a positive whole number that fits Halo's field is an invoice number."""
    assert invoice_number(text) == number


rows_strategy = st.lists(
    st.builds(
        Row,
        id=st.one_of(st.none(), st.integers(1, 5)),
        intent_id=st.just("pi_1"),
        invoice_id=st.just(1),
        amount=st.one_of(st.none(), st.decimals(0, 20, places=2)),
        status=st.one_of(st.none(), st.integers(0, 8)),
    ),
    max_size=4,
)


@given(
    st.sampled_from(PaymentState),
    rows_strategy,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sets(st.sampled_from(PaymentState)),
)
def test_what_always_holds(
    state: PaymentState,
    rows: list[Row],
    create: bool,
    push: bool,
    asked: bool,
    configured: set[PaymentState],
) -> None:
    """No decision writes an unconfigured status, downgrades a paid row or creates a second row."""
    numbers = {s: NUMBERS[s] for s in configured}
    decision = decide(
        said(state),
        rows,
        Policy(numbers, create_missing=create, push_on_mismatch=push),
        asked=asked,
    )
    if isinstance(decision, Update):
        assert decision.status == numbers[state]
        assert set(decision.rows) <= {r.id for r in rows if r.status != numbers[state]}
        assert sorted(decision.rows) == sorted(r.id for r in rows if r.id in set(decision.rows))
        if state is not S.SUCCEEDED:
            assert all(r.status != numbers[S.SUCCEEDED] for r in rows)
        elif not push:
            assert sum(r.amount or Decimal(0) for r in rows) == Decimal("10.99")
    if isinstance(decision, Create):
        assert rows == []
        assert create
    if isinstance(decision, AskStripe):
        assert not asked


def test_nothing_is_left_out_of_an_unknown_amount() -> None:
    """If Stripe's or Halo's amount is unknown, no omitted part is calculated."""
    paid = said(PaymentState.SUCCEEDED).current
    assert left_out(paid, None) is None
    assert left_out(dataclasses.replace(paid, amount_received=None), Decimal(1)) is None


def test_an_accepted_amount_is_written_while_it_stays_the_same() -> None:
    """An accepted mismatch is written while the amounts stay the same; other amounts are held again."""
    rows = [row(1, "5.00", 1)]
    hold = decide(said(S.SUCCEEDED), rows, POLICY)
    assert isinstance(hold, Hold)
    assert decide(said(S.SUCCEEDED), rows, POLICY, accepted=hold.text) == Update((1,), (1,), 3)
    other = [row(1, "6.00", 1)]
    assert isinstance(decide(said(S.SUCCEEDED), other, POLICY, accepted=hold.text), Hold)
