"""The audit of invoices under paid rows: still due, paid twice, and how many requests that takes."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.audit.compare_invoices import invoice_due, several_payments
from syncd.audit.differences import Difference, InvoiceName, Kind
from syncd.core.errors import ServerError
from syncd.core.money import Money
from syncd.core.payments import PaymentState
from syncd.core.reversals import Reversal, ReversalKind
from syncd.core.rows import Invoice, Row
from syncd.core.rules.blame import READS_IN_A_ROW_MAX
from syncd.core.rules.decisions import Policy
from syncd.sandbox import Fault
from syncd.sandbox.halo.tenant import LIST_KEYS_SEEN, InvoiceList
from syncd.text.timestamps import DAY
from tests.conftest import NOW, Rig
from tests.test_audit import allow_all, audit, seen, status

PAID = 3
POLICY = Policy({PaymentState.SUCCEEDED: PAID})


def paid(rig: Rig, amount: int = 1099, invoice: int | None = None, **other: Any) -> str:
    """A payment that both sides show as paid, alone on its invoice or on a given invoice."""
    payment = rig.pay("succeeded", amount=amount, rows=(), **other)
    halo, major = rig.box.halo, amount / 100
    number = invoice or halo.add_invoice(total=major)
    halo.add_row(payment, number, major, halo.status["succeeded"])
    return payment


def invoices_read(rig: Rig) -> int:
    return sum(r.path.startswith("/api/Invoice/") for r in rig.box.halo.requests)


def test_a_paid_row_whose_invoice_is_still_due(rig: Rig) -> None:
    """If both sides show a payment as paid but its invoice is still due, the audit reports the invoice."""
    allow_all(rig)
    payment = paid(rig)
    assert audit(rig).findings == ()
    rig.box.halo.rows_pay = False
    found = audit(rig)
    row = rig.box.halo.rows_of(payment)[0]
    assert found.findings == (
        Difference(
            Kind.INVOICE_DUE,
            "A payment of 10.99 USD is marked as paid, but the invoice of 10.99 USD still shows "
            "10.99 USD as due.",
            action="Do not remind the customer; record the payment on the invoice in Halo.",
            intent_id=payment,
            invoices=(InvoiceName(row["invoice_id"], "INV-1001"),),
            customer="A customer",
            rows=(row["id"],),
            made=int(NOW),
            at_stripe="succeeded",
            in_halo="succeeded",
            stripe_amount=Decimal("10.99"),
            halo_amount=Decimal("0.00"),
            amount=Decimal("10.99"),
            currency="USD",
        ),
    )
    assert (found.agree, found.differ, found.open, found.invoices) == (0, 1, 1, 1)


def test_a_part_of_an_invoice_is_well(rig: Rig) -> None:
    """An invoice is fine if only the part is due that its rows do not pay, or that Stripe refunded."""
    allow_all(rig)
    invoice = rig.box.halo.add_invoice(total=60.0)
    paid(rig, 2000, invoice)
    paid(rig, 1999, invoice)
    back = paid(rig, 5000)
    refund = rig.box.stripe.refund(back, 1000)
    rig.once()
    number = rig.box.halo.rows_of(back)[0]["invoice_id"]
    rig.box.halo.invoices[number]["total"] = 60.0  # somebody has charged the refunded 10.00 again
    rig.stored(lambda store: store.people.dismiss([refund], rig.clock()))
    assert audit(rig).open == 0
    rig.box.halo.rows_pay = False
    assert {one for one in seen(audit(rig)) if one[0] == "invoice_due"} == {
        ("invoice_due", back, "40.00", "USD"),
        ("invoice_due", None, "39.99", "USD"),
    }


def test_the_weightier_difference_leads(rig: Rig) -> None:
    """A wrong amount on a due invoice is one difference; a payment unpaid at Stripe adds no due invoice."""
    allow_all(rig)
    short = rig.pay("succeeded", rows=(10.0,))
    open_ = rig.pay("processing")
    for payment in (short, open_):
        status(rig, payment, "succeeded")
    rig.box.halo.rows_pay = False
    found = audit(rig)
    assert seen(found) == [
        ("paid_in_halo_only", open_, "10.99", "USD"),
        ("invoice_due", short, "10.00", "USD"),
    ]
    assert "Halo has 0.99 USD too little" in found.findings[1].text
    assert [one.count for one in found.sums] == [1, 1]


def test_a_row_that_moved_meanwhile_is_read_again(rig: Rig) -> None:
    """If a row loses its paid status while the audit runs, the audit reports no due invoice."""
    allow_all(rig)
    payment = paid(rig)
    box, answer = rig.box.halo, rig.box.halo.answer

    def racing(request: Any) -> Any:
        if request.path.startswith("/api/Invoice/"):
            status(rig, payment, 1)
        return answer(request)

    box.answer = racing  # type: ignore[method-assign]  # somebody changes the status in Halo
    assert audit(rig).findings == ()


@pytest.mark.parametrize(("most", "read", "left"), [(0, 0, 3), (1, 1, 2), (3, 3, 0)])
def test_no_more_invoices_than_allowed(rig: Rig, most: int, read: int, left: int) -> None:
    """The audit reads at most --invoices invoices, the newest first, and reports how many it did not read."""
    allow_all(rig)
    payments = [paid(rig) for _ in range(3)]
    for place, payment in enumerate(payments):
        rig.box.halo.rows_of(payment)[0]["intent_date"] = f"2026-11-2{place + 1}T00:00:00"
    rig.box.halo.rows_pay = False
    found = audit(rig, invoices_max=most)
    assert [one.intent_id for one in found.findings] == payments[::-1][:read]
    assert invoices_read(rig) == read
    assert found.notes == (
        (
            f"{left} invoices were not read, so syncd cannot say whether they are still due. "
            "--invoices 3 reads up to so many, one request each.",
        )
        if left
        else ()
    )


@pytest.mark.parametrize(
    ("fault", "times", "note"),
    [
        ("403", None, "Halo does not let syncd read invoices, so none was compared: "),
        (
            "500",
            8,
            "Halo does not show the amounts of 1 invoice, so syncd cannot say whether it is still due.",
        ),
    ],
)
def test_invoices_that_cannot_be_read_stop_nothing(
    rig: Rig, fault: str, times: int | None, note: str
) -> None:
    """If Halo refuses or fails to show an invoice, the audit compares the rest and adds a note."""
    allow_all(rig)
    paid(rig)
    payment = rig.pay("succeeded")
    rig.box.halo.faults.append(Fault(fault, path="/api/Invoice/", times=times))
    found = audit(rig)
    assert seen(found) == [("paid_at_stripe_only", payment, "10.99", "USD")]
    assert len(found.notes) == 1
    assert found.notes[0].startswith(note)


def test_invoices_that_halo_fails_on_stop_nothing(rig: Rig) -> None:
    """If Halo fails on six of ten invoices, the audit compares the other four and adds a note."""
    allow_all(rig)
    payments = [paid(rig) for _ in range(10)]
    numbers = [rig.box.halo.rows_of(payment)[0]["invoice_id"] for payment in payments]
    for number in (*numbers[3:7], *numbers[:2]):
        rig.box.halo.faults.append(Fault("500", path=f"/api/Invoice/{number}", times=None))
    found = audit(rig)
    assert (seen(found), found.invoices) == ([], 4)
    [note] = found.notes
    assert note.startswith("Halo does not show the amounts of 6 invoices")


def test_a_halo_that_fails_on_every_invoice_ends_the_audit(rig: Rig) -> None:
    """If six invoice reads in a row fail, the audit ends with an error of Halo."""
    allow_all(rig)
    for _ in range(8):
        paid(rig)
    rig.box.halo.faults.append(Fault("500", path="/api/Invoice/", times=None))
    with pytest.raises(ServerError):
        audit(rig)
    asked = {r.path for r in rig.box.halo.requests if r.path.startswith("/api/Invoice/")}
    assert len(asked) == READS_IN_A_ROW_MAX


# --- how invoices are read -------------------------------------------------------------------------


def paths(rig: Rig) -> tuple[int, int]:
    """How many pages of the invoice list were read, and how many single invoices."""
    asked = [request.path for request in rig.box.halo.requests]
    alone = sum(path.startswith("/api/Invoice/") for path in asked)
    return asked.count("/api/Invoice"), alone


def many(rig: Rig, number: int, **invoice: Any) -> list[str]:
    """Payments that both sides show as paid, each on an invoice of its own."""
    halo, made = rig.box.halo, []
    for place in range(number):
        payment = rig.box.stripe.create_intent(amount=1000 + place, created=NOW - 60 - place)
        rig.box.stripe.advance(payment, "succeeded", emit=False)
        total = (1000 + place) / 100
        chosen = halo.add_invoice(total=total, currency="USD", client_name=f"C {place}", **invoice)
        halo.add_row(payment, chosen, total, halo.status["succeeded"])
        made.append(payment)
    return made


def test_every_invoice_is_read_by_pages(rig: Rig) -> None:
    """An audit of 400 invoices reads four pages of rows, four pages of invoices, and no single invoice."""
    allow_all(rig)
    rig.box.halo.rate_limit = None
    payments = many(rig, 400)
    found = audit(rig)
    assert (found.findings, found.notes, found.invoices) == ((), (), 400)
    assert paths(rig) == (4, 0)
    reads = [r for r in rig.box.halo.requests if r.path.startswith("/api/Invoice")]
    assert len(reads) <= 0.05 * len(payments)


@pytest.mark.parametrize("shape", ["invoices", "uncounted", "bare"])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("cap", [100, 20])
def test_pages_however_halo_makes_them(rig: Rig, shape: str, cap: int, *, ordered: bool) -> None:
    """The audit compares every invoice, also if Halo caps pages, gives no count, or does not sort."""
    allow_all(rig)
    rig.box.halo.rate_limit = None
    payments = many(rig, 60)
    rig.box.halo.rows_pay = False
    rig.box.halo.invoice_list = InvoiceList(page_cap=cap, shape=shape, ordered=ordered)
    found = audit(rig)
    assert {one.intent_id for one in found.findings} == set(payments)
    assert {one.customer for one in found.findings} == {f"C {n}" for n in range(60)}
    assert found.notes == ()
    pages, alone = paths(rig)
    assert pages <= 5
    assert alone == 0


@pytest.mark.parametrize(
    ("paging", "pages", "alone"), [("absent", 1, 30), ("same_page", 2, 10), ("ignored", 1, 0)]
)
def test_without_a_list_invoices_are_read_one_by_one(
    rig: Rig, paging: str, pages: int, alone: int
) -> None:
    """If the invoice list is absent or incomplete, the audit reads the missing invoices one by one."""
    allow_all(rig)
    payments = many(rig, 30)
    rig.box.halo.rows_pay = False
    rig.box.halo.invoice_list = InvoiceList(paging=paging, page_cap=20)
    found = audit(rig)
    assert {one.intent_id for one in found.findings} == set(payments)
    assert paths(rig) == (pages, alone)


def test_a_long_list_is_not_read_for_few_invoices(rig: Rig) -> None:
    """If Halo has many other invoices, the audit reads the few relevant ones one by one."""
    allow_all(rig)
    rig.box.halo.rate_limit = None
    many(rig, 12)
    for _ in range(3_000):
        rig.box.halo.add_invoice()
    assert audit(rig).invoices == 12
    assert paths(rig) == (1, 12)


def test_a_list_that_shows_little(rig: Rig) -> None:
    """If the invoice list shows no totals and currencies, the audit reads those invoices one by one."""
    allow_all(rig)
    many(rig, 30)
    rig.box.halo.invoice_list.keys = LIST_KEYS_SEEN
    rig.box.halo.invoices[1005]["total"] = 500.0  # paid in part, which only the total shows
    assert audit(rig).findings == ()
    # One open invoice, and 29 invoices whose currency only the single invoice shows.
    assert paths(rig) == (1, 30)


def test_currencies_that_the_list_does_not_show(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a limit, the audit reads single invoices for their currency, and reports how many are left."""
    allow_all(rig)
    monkeypatch.setattr("syncd.audit.invoices.CURRENCIES_MAX", 5)
    payments = many(rig, 30)
    rig.box.halo.invoice_list.keys = LIST_KEYS_SEEN | {"total"}
    rig.box.halo.invoices[1030]["currency_code"] = "GBP"
    found = audit(rig)
    [one] = found.findings
    assert (one.kind, one.intent_id, one.currency, one.halo_currency) == (
        Kind.WRONG_CURRENCY,
        payments[29],
        "USD",
        "GBP",
    )
    assert found.notes == (
        "Halo's list does not show the currency of 25 invoices, so their currency was not compared. "
        "--invoices 30 reads these one by one.",
    )
    rig.box.halo.requests.clear()
    assert audit(rig, invoices_max=30).notes == ()


def test_a_payment_in_another_currency_than_its_invoice(rig: Rig) -> None:
    """A payment in another currency than its invoice is a difference; an unreadable currency is not."""
    allow_all(rig)
    payment = rig.pay("succeeded", amount=1000, currency="eur", rows=())
    invoice = rig.box.halo.add_invoice(total=10.0, currency="GBP")
    rig.box.halo.add_row(payment, invoice, 10.0, rig.box.halo.status["succeeded"])
    [one] = audit(rig).findings
    assert (one.kind, one.stripe_money, one.halo_money, one.off) == (
        Kind.WRONG_CURRENCY,
        "10.00 EUR",
        "10.00 GBP",
        None,
    )
    rig.box.halo.invoices[invoice]["currency_code"] = 1
    assert audit(rig).findings == ()


def test_every_invoice_of_a_payment_is_named(rig: Rig) -> None:
    """If a payment pays several invoices, its difference names all of them and the customer."""
    allow_all(rig)
    payment = rig.pay("succeeded", amount=3000, rows=(10.0, 20.0))
    [one] = audit(rig).findings
    assert one.intent_id == payment
    assert one.invoices == (InvoiceName(1001, "INV-1001"), InvoiceName(1002, "INV-1002"))
    assert one.customer == "A customer"


def test_the_period_ends_where_it_is_said(rig: Rig) -> None:
    """With --until, the audit ignores later payments and rows; with --all, it also lists what agrees."""
    allow_all(rig)
    early = rig.pay("succeeded", created=NOW - 10 * DAY)
    late = rig.pay("succeeded", created=NOW - DAY)
    fine = rig.pay("succeeded", created=NOW - 11 * DAY)
    status(rig, fine, "succeeded")
    for row in rig.box.halo.rows_of(fine) + rig.box.halo.rows_of(early):
        row["intent_date"] = "2026-11-13T00:00:00"
    found = audit(rig, until=int(NOW) - 5 * DAY, everything=True)
    assert [one.intent_id for one in found.findings] == [early]
    assert (found.payments, found.until) == (2, int(NOW) - 5 * DAY)
    [agrees] = found.agreeing
    assert (agrees.intent_id, agrees.customer, agrees.off) == (fine, "A customer", Decimal(0))
    assert {one.intent_id for one in audit(rig).findings} == {early, late}


# --- properties ------------------------------------------------------------------------------------


def rows_of(parts: list[int], currency: str) -> list[Row]:
    return [Row(n, f"pi_{n}", 7, Money(part, currency).major, PAID) for n, part in enumerate(parts)]


@given(
    st.lists(st.integers(1, 10**12), min_size=1, max_size=4),
    st.integers(0, 10**12),
    st.integers(-(10**6), 10**6),
    st.integers(0, 10**6),
    st.sampled_from(["usd", "jpy", "bhd"]),
)
def test_due_by_more_than_is_left_is_found_exactly(
    parts: list[int], left: int, off: int, back: int, currency: str
) -> None:
    """An invoice that is due by more than its unpaid and refunded parts is reported with the exact excess."""
    total = sum(parts) + left
    gone = Reversal(
        "re_1", ReversalKind.REFUNDED, "pi_0", back, currency, "succeeded", None, 0, 0, read=True
    )
    due = left + back + off
    invoice = Invoice(
        7, "INV-7", Money(total, currency).major, Money(due, currency).major, currency.upper()
    )
    found = invoice_due(rows_of(parts, currency), invoice, [gone], POLICY)
    if off <= 0:
        assert found is None
    else:
        assert found is not None
        assert found.amount == Money(off, currency).major


def test_noise_and_doubt_claim_nothing() -> None:
    """Rounding noise of binary fractions, or a missing amount, is no difference."""
    rows = rows_of([10, 20], "usd")
    total, noisy = Decimal("0.30000000000000004"), Decimal("4E-17")
    assert invoice_due(rows, Invoice(7, None, total, noisy, None), [], POLICY) is None
    assert several_payments(rows, Invoice(7, None, Decimal("0.3"), None, None), POLICY) is None
    for invoice in (
        Invoice(7, None, None, Decimal(1), "USD"),
        Invoice(7, None, Decimal(1), None, "USD"),
    ):
        assert invoice_due(rows, invoice, [], POLICY) is None
    unread = Reversal(
        "re_1", ReversalKind.REFUNDED, "pi_0", None, "usd", "succeeded", None, 0, 0, read=True
    )
    due = Invoice(7, None, Decimal(1), Decimal(1), "USD")
    assert invoice_due(rows, due, [unread], POLICY) is None
    assert invoice_due([], due, [], POLICY) is None
    assert invoice_due([Row(1, "pi_1", 7, None, PAID)], due, [], POLICY) is None
