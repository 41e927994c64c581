"""How the audit compares Halo's rows with Stripe's state, case by case; it does not judge unknown values."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from syncd.audit import compare as payments
from syncd.audit import compare_invoices as invoices
from syncd.audit import compare_reversals as back
from syncd.audit.differences import Difference, InvoiceName, Kind
from syncd.core.payments import Observation, PaymentState
from syncd.core.reversals import Reversal, ReversalKind
from syncd.core.rows import Invoice, Row
from syncd.core.rules.decisions import Policy

S = PaymentState
FAILED, PAID, PROCESSING, CANCELED = 1_001, 1_002, 1_003, 1_004
"""Above the small integers that Python caches; the paid number is between the others."""
NUMBERS = {
    S.PAYMENT_FAILED: FAILED,
    S.SUCCEEDED: PAID,
    S.PROCESSING: PROCESSING,
    S.CANCELED: CANCELED,
}
POLICY = Policy(NUMBERS)
CREATING = Policy(NUMBERS, create_missing=True)
NO_PAID = Policy({S.PAYMENT_FAILED: FAILED, S.PROCESSING: PROCESSING})
SAID = Observation(
    "pi_1",
    S.SUCCEEDED,
    9,
    read=True,
    created=5,
    amount=1099,
    amount_received=1099,
    currency="usd",
    invoice="7",
)
WAITS = replace(SAID, state=S.PROCESSING)
REFUND = Reversal(
    "re_1", ReversalKind.REFUNDED, "pi_1", 500, "usd", "succeeded", None, 6, 6, read=True
)
BACK = replace(REFUND, status="failed")
DISPUTE = replace(REFUND, id="dp_1", kind=ReversalKind.DISPUTED, status="lost")
FOUND = Difference(
    Kind.UNCLEAR,
    "",
    intent_id="pi_1",
    invoices=(InvoiceName(7, "INV-7"),),
    rows=(1,),
    made=5,
    at_stripe="succeeded",
    in_halo="succeeded",
    currency="USD",
)


def bare(one: Difference) -> Difference:
    """Return the difference without amounts and action, which have their own tests."""
    return replace(
        one,
        meaning=one.text,
        details=(),
        action="",
        command="",
        stripe_amount=None,
        halo_amount=None,
    )


def compare(*arguments: Any, **named: Any) -> list[Difference]:
    return list(map(bare, payments.compare(*arguments, **named)))


def reversed_after(*arguments: Any) -> list[Difference]:
    return list(map(bare, back.reversed_after(*arguments)))


def unknown_at_stripe(*arguments: Any) -> Difference:
    return bare(payments.unknown_at_stripe(*arguments))


def several_payments(*arguments: Any) -> Difference | None:
    found = invoices.several_payments(*arguments)
    return None if found is None else bare(found)


def invoice_due(*arguments: Any) -> Difference | None:
    found = invoices.invoice_due(*arguments)
    return None if found is None else bare(found)


def row(status: int | None, amount: str | None = "10.99", id_: int | None = 1, **more: Any) -> Row:
    number = None if status is None else int(str(status))
    fields = {"intent_id": "pi_1", "invoice_id": 7, "made": 5, "invoice_number": "INV-7", **more}
    return Row(
        id_,
        fields["intent_id"],
        fields["invoice_id"],
        None if amount is None else Decimal(amount),
        number,
        fields["made"],
        fields["invoice_number"],
    )


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        (SAID, [row(PAID)]),
        (SAID, [row(PAID, "10.00"), row(PAID, "0.99", 2)]),
        (WAITS, [row(PROCESSING, None)]),
        (replace(SAID, state=S.REQUIRES_ACTION), []),
        (replace(SAID, state=None), []),
        (replace(SAID, state=None), [row(PROCESSING), row(None, id_=2)]),
    ],
)
def test_both_sides_agree(said: Observation, rows: list[Row]) -> None:
    """The audit finds nothing if both sides agree, or if Stripe has no state to show in Halo yet."""
    assert compare(said, rows, [BACK], POLICY) == []


def test_flags_are_named() -> None:
    """compare() accepts its flags only as keyword arguments."""
    with pytest.raises(TypeError):
        payments.compare(SAID, [row(PAID)], [], POLICY, True)  # type: ignore[call-arg]


# --- no row ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "policy", "had_rows", "found"),
    [
        (SAID, POLICY, False, True),
        (replace(SAID, invoice=None), POLICY, False, False),
        (replace(SAID, invoice=None), POLICY, True, True),
        (SAID, POLICY, True, True),
        (WAITS, POLICY, False, False),
        (WAITS, CREATING, False, True),
        (WAITS, POLICY, True, True),
        (replace(WAITS, invoice=None), CREATING, False, False),
        (replace(SAID, state=None), CREATING, True, False),
    ],
)
def test_no_row(said: Observation, policy: Policy, *, had_rows: bool, found: bool) -> None:
    """A missing row is a difference if the payment belongs to Halo and has a state that a row would show."""
    findings = compare(said, [], [], policy, had_rows=had_rows)
    assert [one.kind for one in findings] == [Kind.MISSING] * found


def test_what_is_said_of_a_missing_row() -> None:
    """The entry explains why the row is missing, whether a push can create it, and the amount."""
    paid = replace(
        FOUND,
        kind=Kind.MISSING,
        rows=(),
        invoices=(InvoiceName(7),),
        in_halo="no row",
        amount=Decimal("8.00"),
        meaning="The customer paid 8.00 USD, but Halo has no payment for it: its metadata names invoice 7.",
    )
    part = replace(SAID, amount_received=800)
    assert compare(part, [], [], POLICY) == [paid]
    refunded = (
        f"{paid.text} But: Stripe refunded 5.00 USD of pi_1 (status succeeded, no reason given)."
    )
    assert compare(part, [], [REFUND], CREATING) == [replace(paid, pushable=True, meaning=refunded)]
    text = (
        "Halo has no row for a payment that is payment failed at Stripe: the payment's row in Halo "
        "was deleted."
    )
    failed = replace(part, state=S.PAYMENT_FAILED)
    due = replace(paid, at_stripe="payment_failed", meaning=text, amount=Decimal("10.99"))
    assert compare(failed, [], [], CREATING, had_rows=True) == [due]
    unread = replace(part, amount_received=None)
    text = paid.text.replace(" 8.00 USD", "")
    assert compare(unread, [], [], POLICY) == [replace(paid, amount=None, meaning=text)]
    [unknown] = compare(replace(part, currency=None), [], [], POLICY)
    assert unknown == replace(paid, amount=None, currency=None, meaning=text)
    assert compare(part, [], [], POLICY)[0].pushable is False


# --- a success ---------------------------------------------------------------------------------------------

CHASED = "The customer paid 10.99 USD, but Halo does not show the payment as paid."
UNPAID = replace(
    FOUND, kind=Kind.PAID_AT_STRIPE_ONLY, meaning=CHASED, amount=Decimal("10.99"), pushable=True
)


@pytest.mark.parametrize(
    ("status", "in_halo"),
    [
        (FAILED, "payment_failed"),
        (PROCESSING, "processing"),
        (99, "not paid (status 99)"),
    ],
)
def test_paid_at_stripe_only(status: int | None, in_halo: str) -> None:
    """If Stripe says succeeded and the row has another status, the difference can be pushed."""
    assert compare(SAID, [row(status)], [], POLICY) == [replace(UNPAID, in_halo=in_halo)]


def test_a_status_that_cannot_be_read() -> None:
    """A row with an unreadable status may be paid: the difference is unclear and cannot be pushed."""
    for said in (SAID, replace(SAID, state=S.PAYMENT_FAILED)):
        [one] = compare(said, [row(None)], [], POLICY)
        assert (one.kind, one.in_halo, one.pushable) == (Kind.UNCLEAR, "no status", False)
        assert "no status, or a status that is not a number" in one.meaning


def test_some_rows_are_not_paid() -> None:
    """The difference lists only the rows that are not paid; each status is named once."""
    rows = [row(PAID, "5.00"), row(FAILED, "5.00", 2), row(FAILED, "0.99", 3)]
    assert compare(SAID, rows, [], POLICY) == [
        replace(
            UNPAID,
            rows=(2, 3),
            in_halo="payment_failed, succeeded",
            amount=Decimal("5.99"),
            meaning="The customer paid 10.99 USD, but Halo shows only 5.00 USD of it as paid.",
        )
    ]


def test_what_went_back_since() -> None:
    """A refund or dispute is mentioned only with a payment that looks unpaid in Halo."""
    text = f"{CHASED} But: Stripe refunded 5.00 USD of pi_1 (status succeeded, no reason given)."
    unpaid = replace(UNPAID, in_halo="payment_failed")
    assert compare(SAID, [row(FAILED)], [REFUND], POLICY) == [replace(unpaid, meaning=text)]
    assert compare(SAID, [row(FAILED)], [BACK], POLICY) == [unpaid]
    both = compare(SAID, [row(FAILED)], [REFUND, DISPUTE], POLICY)
    dispute = "The dispute about 5.00 USD of pi_1 was lost (no reason given)."
    assert both == [replace(unpaid, meaning=f"{text} {dispute}")]
    for said, rows, policy in (
        (SAID, [row(FAILED)], NO_PAID),
        (WAITS, [row(FAILED)], POLICY),
    ):
        with_it = compare(said, rows, [REFUND], policy)
        assert with_it == compare(said, rows, [], policy)
        assert len(with_it) == 1


def test_another_amount() -> None:
    """The difference is Halo's amount minus Stripe's, exactly, with all rows that contribute to it."""
    short = replace(
        FOUND,
        kind=Kind.WRONG_AMOUNT,
        amount=Decimal("-0.99"),
        meaning="Stripe received 10.99 USD, but Halo records 10.00 USD: Halo has 0.99 USD too little.",
    )
    assert compare(SAID, [row(PAID, "10.00")], [], POLICY) == [short]
    text = "Stripe received 10.99 USD, but Halo records in 2 rows 12.00 USD: Halo has 1.01 USD too much."
    rows = [row(PAID, "10.00"), row(PAID, "2.00", 2)]
    assert compare(SAID, rows, [], POLICY) == [
        replace(short, rows=(1, 2), amount=Decimal("1.01"), meaning=text)
    ]
    # The payment that looks unpaid comes first; the wrong amount is mentioned with it.
    said = f"{CHASED} {short.text}"
    [both] = compare(SAID, [row(FAILED, "10.00")], [], POLICY)
    assert both == replace(UNPAID, in_halo="payment_failed", meaning=said, pushable=False)


@pytest.mark.parametrize(
    ("said", "rows", "text"),
    [
        (replace(SAID, amount_received=None), [row(PAID)], "Stripe's amount is not a number, or is in a currency that syncd does not know."),
        (replace(SAID, currency="zzz"), [row(PAID)], "Stripe's amount is not a number, or is in a currency that syncd does not know."),
        (SAID, [row(PAID), row(PAID, None, 2)], "Halo has a row of the payment whose amount is empty or not a number."),
    ],
)  # fmt: skip
def test_an_amount_that_cannot_be_compared(said: Observation, rows: list[Row], text: str) -> None:
    """An unreadable amount makes the difference unclear; the amount counts neither as right nor as wrong."""
    [found] = compare(said, rows, [], POLICY)
    currency = (said.currency or "").upper()
    ids = tuple(range(1, len(rows) + 1))
    assert found == replace(FOUND, meaning=text, currency=currency, rows=ids)


def test_a_success_without_its_number() -> None:
    """Without halo.status.succeeded syncd cannot tell whether a row is paid: the difference is unclear."""
    text = (
        "Halo's status number for succeeded is not configured (halo.status.succeeded), so the payment "
        "could not be compared."
    )
    unclear = replace(FOUND, meaning=text, in_halo="status 1002")
    assert compare(SAID, [row(PAID)], [REFUND], NO_PAID) == [unclear]


# --- no success --------------------------------------------------------------------------------------------

ONLY_HALO = replace(
    FOUND,
    kind=Kind.PAID_IN_HALO_ONLY,
    amount=Decimal("10.99"),
    at_stripe="processing",
    meaning="Halo shows the payment as paid, but Stripe has not received it (status processing).",
)


def test_paid_in_halo_only() -> None:
    """A row that is paid in Halo without a success at Stripe is a difference that cannot be pushed."""
    assert compare(WAITS, [row(PAID)], [], POLICY) == [ONLY_HALO]
    assert compare(WAITS, [row(PAID, "10.990000001")], [], POLICY) == [ONLY_HALO]
    assert compare(WAITS, [row(PAID, None)], [], POLICY) == [replace(ONLY_HALO, amount=None)]
    unknown = compare(replace(WAITS, currency=None), [row(PAID, "10.990000001")], [], POLICY)
    assert unknown == [replace(ONLY_HALO, amount=Decimal("10.990000001"), currency=None)]
    nothing = compare(replace(WAITS, state=None), [row(PAID)], [], POLICY)
    text = ONLY_HALO.text.replace("processing", "not started")
    assert nothing == [replace(ONLY_HALO, meaning=text, at_stripe="nothing yet")]


WRONG = replace(
    FOUND,
    kind=Kind.WRONG_STATE,
    at_stripe="processing",
    in_halo="payment_failed",
    meaning="Stripe says processing, but Halo shows payment failed; nothing was paid.",
    amount=Decimal("10.99"),
    pushable=True,
)


def test_another_state() -> None:
    """A row with another state can be pushed; a row paid in Halo is a difference of another kind."""
    assert compare(WAITS, [row(FAILED)], [], POLICY) == [WRONG]
    assert compare(WAITS, [row(CANCELED)], [], POLICY) == [
        replace(WRONG, in_halo="canceled", meaning=WRONG.text.replace("payment failed", "canceled"))
    ]
    rows = [row(PROCESSING), row(FAILED, id_=2), row(CANCELED, id_=3)]
    states = "canceled, payment_failed, processing"
    text = WRONG.text.replace("payment failed", "canceled, payment failed")
    assert compare(WAITS, rows, [], POLICY) == [
        replace(WRONG, rows=(2, 3), in_halo=states, meaning=text)
    ]
    assert compare(WAITS, [row(PAID), row(FAILED, id_=2)], [], POLICY) == [
        replace(
            ONLY_HALO,
            rows=(1, 2),
            in_halo="payment_failed, succeeded",
            meaning=f"{ONLY_HALO.text} {WRONG.text}",
        )
    ]
    assert compare(WAITS, [row(PAID), row(PROCESSING, id_=2)], [], POLICY) == [
        replace(ONLY_HALO, in_halo="processing, succeeded")
    ]


def test_a_state_without_its_number() -> None:
    """The entry names the missing status number: the state's own, or that of succeeded."""
    said = replace(WAITS, state=S.REQUIRES_ACTION)
    [own] = compare(said, [row(FAILED)], [], POLICY)
    assert own == replace(
        FOUND,
        at_stripe="requires_action",
        in_halo="payment_failed",
        meaning="Halo's status number for requires action is not configured "
        "(halo.status.requires_action), so the payment could not be compared.",
    )
    [paid] = compare(WAITS, [row(FAILED)], [], NO_PAID)
    assert (paid.kind, paid.in_halo) == (Kind.UNCLEAR, "payment_failed")
    assert paid.text.startswith("Halo's status number for succeeded is not configured")
    assert compare(WAITS, [row(PROCESSING)], [], NO_PAID) == []


def test_which_invoice() -> None:
    """All invoices of the payment and the customers of its rows are named."""
    rows = [row(None, invoice_number=None), row(None, id_=2, invoice_number="INV-8")]
    [one] = compare(WAITS, rows, [], POLICY)
    assert (one.rows, one.invoices) == ((1, 2), (InvoiceName(7, "INV-8"),))
    apart = [row(PAID), row(PAID, None, 2, invoice_id=8), row(PAID, None, None, invoice_id=9)]
    [several] = compare(SAID, apart, [], POLICY)
    assert several.rows == (1, 2)
    assert several.invoices == (
        InvoiceName(7, "INV-7"),
        InvoiceName(8, "INV-7"),
        InvoiceName(9, "INV-7"),
    )
    assert several.customer is None
    names = [replace(one, customer=name) for one, name in zip(apart, ("A", "B", "A"), strict=True)]
    assert compare(SAID, names, [], POLICY)[0].customer == "A, B"


# --- what went back ----------------------------------------------------------------------------------------


def test_refunds_and_disputes() -> None:
    """Each refund and dispute is a difference if Halo shows the payment as paid; a failed refund is none."""
    refunded = replace(
        FOUND,
        kind=Kind.REFUNDED,
        amount=Decimal("5.00"),
        at_stripe="refunded, succeeded",
        meaning="Stripe refunded 5.00 USD, but Halo still shows the payment as paid. (re_1, status "
        "succeeded)",
    )
    disputed = replace(
        FOUND,
        kind=Kind.DISPUTED,
        amount=Decimal("5.00"),
        at_stripe="disputed, lost",
        meaning="The customer won a dispute about 5.00 USD, but Halo still shows the payment as paid. "
        "(dp_1, status lost)",
    )
    rows = [row(PAID)]
    assert compare(SAID, rows, [BACK, REFUND, DISPUTE], POLICY) == [refunded, disputed]
    for missing in ({"amount": None}, {"currency": None}):
        [unread] = reversed_after(SAID, rows, [replace(REFUND, **missing)], POLICY)  # type: ignore[arg-type]
        assert (unread.amount, unread.currency) == (None, None if "currency" in missing else "USD")
    assert reversed_after(None, rows, [DISPUTE], POLICY) == [replace(disputed, made=None)]
    assert reversed_after(SAID, [row(FAILED)], [REFUND], POLICY) == []
    assert reversed_after(SAID, rows, [REFUND], NO_PAID) == []
    [mixed] = reversed_after(SAID, [row(FAILED), row(PAID, id_=2)], [REFUND], POLICY)
    assert mixed == replace(refunded, rows=(2,), in_halo="payment_failed, succeeded")


@pytest.mark.parametrize(
    ("word", "acknowledged"),
    [("gone:500", True), ("gone:400", False), ("gone:600", False), ("open:500", False)],
)
def test_what_a_person_has_dismissed(word: str, *, acknowledged: bool) -> None:
    """A dismissed refund stays acknowledged until its status or amount changes."""
    for name in ("re_1", "re_2"):
        [one] = compare(SAID, [row(PAID)], [REFUND], POLICY, dismissed={name: word})
        assert one.acknowledged is (acknowledged and name == "re_1")


def test_unknown_at_stripe() -> None:
    """If Stripe does not know the payment, the difference shows the rows, their states and their total."""
    rows = [row(PAID, made=3), row(FAILED, "1.00", 2, made=4)]
    unknown = replace(
        FOUND,
        kind=Kind.UNKNOWN_AT_STRIPE,
        rows=(1, 2),
        made=3,
        at_stripe="unknown",
        in_halo="payment_failed, succeeded",
        amount=Decimal("11.99"),
        currency=None,
        meaning="Halo has a payment pi_1 that this Stripe account does not know.",
    )
    assert unknown_at_stripe("pi_1", rows, POLICY) == unknown
    none = unknown_at_stripe("pi_1", [], POLICY)
    assert (none.rows, none.made, none.in_halo) == ((), None, "no row")


# --- invoices ----------------------------------------------------------------------------------------------

INVOICE = Invoice(7, "INV-7", Decimal("20.00"), Decimal("0.00"), "USD")
TWICE = [row(PAID, "15.00", made=3), row(PAID, "15.00", 2, intent_id="pi_2", made=4)]
SEVERAL = replace(
    FOUND,
    kind=Kind.SEVERAL_PAYMENTS,
    intent_id=None,
    intents=("pi_1", "pi_2"),
    rows=(1, 2),
    made=4,
    at_stripe="",
    amount=Decimal("10.00"),
    meaning="2 payments add up to 30.00 USD, which is 10.00 USD more than the invoice of 20.00 USD.",
)


def test_more_than_the_invoice() -> None:
    """If the paid rows exceed their invoice, the difference shows the excess and the payments."""
    assert several_payments([*TWICE, row(FAILED, id_=3)], INVOICE, POLICY, "eur") == SEVERAL
    unnamed = replace(INVOICE, currency=None)
    text = SEVERAL.text.replace("USD", "JPY")
    assert several_payments(TWICE, unnamed, POLICY, "JPY") == replace(
        SEVERAL, currency="JPY", meaning=text.replace(".00", "")
    )
    nobodys = several_payments(TWICE, unnamed, POLICY)
    assert nobodys is not None
    assert (nobodys.currency, nobodys.amount) == (None, Decimal("10.00"))
    by_hand = [TWICE[0], replace(TWICE[1], intent_id=None, made=None)]
    one = several_payments(by_hand, INVOICE, POLICY)
    text = SEVERAL.text.replace("2 payments", "2 payments (1 not from Stripe)")
    assert one == replace(SEVERAL, intent_id="pi_1", intents=(), made=3, meaning=text)
    nobody = [replace(one, intent_id=None, made=None) for one in TWICE]
    none = several_payments(nobody, INVOICE, POLICY)
    text = SEVERAL.text.replace("2 payments", "2 payments (2 not from Stripe)")
    assert none == replace(SEVERAL, intents=(), made=None, meaning=text)


@pytest.mark.parametrize(
    ("total", "beyond"),
    [
        ("30.00", None),
        ("31.00", None),
        ("29.991", None),
        ("29.99001", "0.00999"),
        ("29.990000001", "0.01"),
        ("29.99", "0.01"),
    ],
)
def test_parts_of_an_invoice(total: str, beyond: str | None) -> None:
    """Paid rows up to the invoice's total are no difference; rounding errors of doubles are ignored."""
    found = several_payments(TWICE, replace(INVOICE, total=Decimal(total)), POLICY)
    assert (None if found is None else found.amount) == (beyond and Decimal(beyond))


@pytest.mark.parametrize(
    ("rows", "invoice", "currency"),
    [
        (TWICE, None, "EUR"),
        (TWICE, replace(INVOICE, total=None), "USD"),
        ([TWICE[0], replace(TWICE[1], amount=None)], INVOICE, "USD"),
    ],
)
def test_several_payments_that_cannot_be_compared(
    rows: list[Row], invoice: Invoice | None, currency: str
) -> None:
    """If an amount is unknown, the audit lists the invoice with several payments, without an amount."""
    text = "2 payments are marked as paid on one invoice. Halo does not show the invoice's total."
    found = several_payments(rows, invoice, POLICY, "EUR")
    assert found == replace(SEVERAL, meaning=text, amount=None, currency=currency)


STILL = replace(
    SEVERAL,
    kind=Kind.INVOICE_DUE,
    amount=Decimal("4.00"),
    meaning="2 payments of 30.00 USD in all are marked as paid, but the invoice of 40.00 USD still "
    "shows 14.00 USD as due.",
)
DUE = replace(INVOICE, total=Decimal("40.00"), due=Decimal("14.00"))


def test_an_invoice_that_is_still_due() -> None:
    """An invoice is a difference if more is due than its paid rows and the refunds explain."""
    assert invoice_due([*TWICE, row(FAILED, id_=3)], DUE, [BACK], POLICY, "EUR") == STILL
    text = STILL.text.replace("14.00 USD as due", "17.00 USD as due")
    text += " 5.00 USD of it was refunded or disputed at Stripe and may be due again."
    more = replace(DUE, due=Decimal("17.00"))
    refunded = invoice_due(TWICE, more, [REFUND], POLICY)
    assert refunded == replace(STILL, amount=Decimal("2.00"), meaning=text)
    assert invoice_due(TWICE, DUE, [REFUND], POLICY) is None
    one = invoice_due(TWICE[:1], replace(DUE, due=Decimal("26.00")), [], POLICY)
    text = (
        "A payment of 15.00 USD is marked as paid, but the invoice of 40.00 USD still shows 26.00 USD "
        "as due."
    )
    assert one == replace(
        STILL, meaning=text, intent_id="pi_1", intents=(), rows=(1,), made=3, amount=Decimal("1.00")
    )
    unnamed = invoice_due(TWICE, replace(DUE, currency=None), [], POLICY, "EUR")
    assert unnamed == replace(STILL, meaning=STILL.text.replace("USD", "EUR"), currency="EUR")


def test_more_was_paid_than_the_invoice() -> None:
    """If more was paid than the invoice's total, the expected due amount is zero, not negative."""
    over = invoice_due(TWICE, replace(INVOICE, due=Decimal("0.50")), [], POLICY)
    assert over is not None
    assert over.amount == Decimal("0.50")
    assert invoice_due(TWICE, INVOICE, [], POLICY) is None


@pytest.mark.parametrize(
    ("rows", "invoice", "reversals"),
    [
        ([], DUE, []),
        ([], replace(DUE, due=Decimal("50.00")), []),
        ([row(FAILED, "1.00")], replace(DUE, due=Decimal("50.00")), []),
        ([TWICE[0], replace(TWICE[1], amount=None)], DUE, []),
        (TWICE, replace(DUE, total=None), []),
        (TWICE, replace(DUE, due=None), []),
        (TWICE, DUE, [replace(REFUND, amount=None)]),
        (TWICE, DUE, [replace(REFUND, currency="zzz")]),
        (TWICE, replace(DUE, due=Decimal("10.00")), []),
        (TWICE, replace(DUE, due=Decimal("9.00")), []),
    ],
)
def test_nothing_is_claimed(rows: list[Row], invoice: Invoice, reversals: list[Reversal]) -> None:
    """Without a paid row, or with an unknown amount, the audit reports no invoice as due."""
    assert invoice_due(rows, invoice, reversals, POLICY) is None


@pytest.mark.parametrize(
    ("currency", "known", "paid_in"),
    [
        ("GBP", {"pi_1": "EUR", "pi_2": "EUR"}, "EUR"),
        ("GBP", {"pi_1": "GBP", "pi_2": "EUR"}, "EUR"),
        ("EUR", {"pi_1": "EUR", "pi_2": "EUR"}, None),
        (None, {"pi_1": "EUR", "pi_2": "GBP"}, None),
        ("GBP", {}, None),
    ],
)
def test_currencies_that_disagree(
    currency: str | None, known: dict[str, str], paid_in: str | None
) -> None:
    """A payment in another currency than its invoice is a difference; an unknown currency is none."""
    found = invoices.other_currency(TWICE, replace(INVOICE, currency=currency), known, POLICY)
    if paid_in is None:
        assert found is None
        return
    assert found is not None
    assert (found.kind, found.currency, found.halo_currency, found.off) == (
        Kind.WRONG_CURRENCY,
        paid_in,
        currency,
        None,
    )
    assert found.payments == tuple(name for name, code in known.items() if code == paid_in)
    paid = "30.00" if len(found.payments) == 2 else "15.00"
    assert found.text == (
        f"The customer paid {paid} EUR at Stripe, but Halo's invoice is in GBP (20.00 GBP)."
    )
    assert invoices.other_currency([row(FAILED)], INVOICE, {"pi_1": "EUR"}, POLICY) is None


# --- the amounts on either side, and what to do ------------------------------------------------------------

LATE = replace(REFUND, kind=ReversalKind.DISPUTED, id="dp_2", status="needs_response")


@pytest.mark.parametrize(
    ("said", "rows", "reversals", "sides", "action"),
    [
        (SAID, [row(FAILED)], [], ("10.99", "0"), "Do not remind the customer; to mark the payment as paid: syncd resync pi_1"),
        (SAID, [row(FAILED, "9.00")], [], ("10.99", "0"), "Do not remind the customer; correct the payment in Halo. Correct the payment's amount in Halo to 10.99 USD."),
        (SAID, [row(PAID, "10.00")], [], ("10.99", "10.00"), "Correct the payment's amount in Halo to 10.99 USD."),
        (SAID, [row(PAID, "10.00"), row(PAID, "2.00", 2)], [], ("10.99", "12.00"), "Correct the amounts of the payment's rows in Halo: together 10.99 USD."),
        (WAITS, [row(PAID)], [], ("0", "10.99"), "Wait for the bank, then run the audit again; remind the customer if it fails."),
        (replace(SAID, state=S.CANCELED), [row(PAID)], [], ("0", "10.99"), "Ask your bookkeeper whether the customer paid by other means; if not, reopen the invoice."),
        (WAITS, [row(FAILED)], [], ("0", "0"), "syncd can correct the status: syncd resync pi_1"),
        (SAID, [], [], ("10.99", "0"), "Record the payment in Halo."),
        (SAID, [row(PAID)], [REFUND], ("-5.00", "0"), "Book the refund in Halo, then dismiss this entry: syncd attention dismiss re_1"),
        (SAID, [row(PAID)], [DISPUTE], ("-5.00", "0"), "Book the lost amount in Halo, then dismiss this entry: syncd attention dismiss dp_1"),
        (SAID, [row(PAID)], [LATE], ("-5.00", "0"), "Answer the dispute in Stripe before its deadline."),
        (SAID, [row(PAID, None)], [], ("10.99", None), "Compare the amounts by hand."),
    ],
)  # fmt: skip
def test_amounts_and_actions(
    said: Observation,
    rows: list[Row],
    reversals: list[Reversal],
    sides: tuple[str, str | None],
    action: str,
) -> None:
    """Each difference shows the paid amount on both sides, the amount it is off by, and what to do."""
    [one] = payments.compare(said, rows, reversals, POLICY)
    stripe, halo = (None if side is None else Decimal(side) for side in sides)
    assert (one.stripe_amount, one.halo_amount) == (stripe, halo)
    assert one.off == (None if halo is None or stripe is None else halo - stripe)
    assert f"{one.action} {one.command}".strip() == action


def test_amounts_of_an_invoice() -> None:
    """The difference shows what should be paid on the invoice, what Halo counts as paid, and the gap."""
    for found, sides in (
        (invoices.several_payments(TWICE, INVOICE, POLICY), ("30.00", "20.00")),
        (invoices.invoice_due(TWICE, DUE, [], POLICY), ("30.00", "26.00")),
        (
            invoices.invoice_due(TWICE, replace(DUE, due=Decimal("17.00")), [REFUND], POLICY),
            ("25.00", "23.00"),
        ),
        (
            invoices.invoice_due(TWICE, replace(INVOICE, due=Decimal("0.50")), [], POLICY),
            ("20.00", "19.50"),
        ),
    ):
        assert found is not None
        assert (found.stripe_amount, found.halo_amount) == tuple(map(Decimal, sides))
        assert found.at_stake == found.amount
