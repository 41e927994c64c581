"""`syncd audit`: which differences it finds, which it ignores, its API usage, and its output."""

import json
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from syncd.audit.auditor import Auditor
from syncd.audit.compare import compare
from syncd.audit.compare_invoices import several_payments
from syncd.audit.differences import Difference, InvoiceName, Kind, tidy
from syncd.audit.invoices import Invoices
from syncd.audit.report.export import Links
from syncd.audit.summary import Audit, sums
from syncd.cli.main import app
from syncd.core.money import Money
from syncd.core.payments import Observation, PaymentState
from syncd.core.records import Condition
from syncd.core.reversals import Reversal, ReversalKind
from syncd.core.rows import Invoice, Row
from syncd.core.rules.decisions import Policy
from syncd.sandbox import Fault
from syncd.store.store import Store
from syncd.sync.build import assemble_readers
from syncd.sync.pull.listing import DAY
from tests.conftest import NOW, Rig

NUMBERS = {state: number for number, state in enumerate(PaymentState, start=3)}
POLICY = Policy(NUMBERS)
PLACES = Links("https://example.halopsa.com", test=True, account="")


def audit(
    rig: Rig,
    days: int = 30,
    *,
    fix: bool = False,
    invoices_max: int | None = None,
    until: int | None = None,
    everything: bool = False,
) -> Audit:
    """One audit with the rig's clock and a store of its own."""
    import asyncio

    memory = rig.open()
    own = Store.open(f"sqlite:///{rig.folder}/own.db")

    async def go() -> Audit:
        parts = assemble_readers(rig.config(), own, rig.told, rig.world, counted_in=memory)
        try:
            invoices = Invoices(parts.sink, own, parts.policy, invoices_max, everything)
            auditor = Auditor(
                parts.all_rows,
                parts.policy,
                parts.reversal_sweeper,
                own,
                memory,
                invoices,
                rig.clock,
                fix,
                everything,
            )
            return await auditor.run(int(rig.clock()) - days * DAY, until)
        finally:
            await parts.close()

    try:
        return asyncio.run(go())
    finally:
        own.close()
        memory.close()
        (rig.folder / "own.db").unlink()


def seen(found: Audit) -> list[tuple[str, str | None, str | None, str | None]]:
    """The findings in short form: kind, payment, amount, currency."""
    return [
        (
            str(one.kind),
            one.intent_id,
            None if one.amount is None else f"{one.amount:f}",
            one.currency,
        )
        for one in found.findings
    ]


def allow_all(rig: Rig) -> None:
    rig.box.stripe.permissions |= {"refunds", "disputes"}


def status(rig: Rig, payment: str, state: str | int) -> None:
    """Set the status of all rows of a payment, as a person would."""
    for row in rig.box.halo.rows_of(payment):
        row["status"] = state if isinstance(state, int) else rig.box.halo.status[state]


# --- differences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(PaymentState))
def test_sides_in_step_agree(rig: Rig, state: PaymentState) -> None:
    """After a push there is no difference in any state, and payments without a row are not differences."""
    allow_all(rig)
    rig.pay(str(state))
    rig.pay(str(state), rows=())
    rig.pay(None)
    rig.once()
    found = audit(rig)
    assert (found.findings, found.notes) == ((), ())
    assert (found.payments, found.agree, found.not_halos, found.rows) == (3, 2, 1, 2)


def test_paid_at_stripe_only(rig: Rig) -> None:
    """A payment that only Stripe shows as paid is a difference, with the amount that Halo shows as unpaid."""
    allow_all(rig)
    payment = rig.pay("succeeded")
    found = audit(rig)
    [one] = found.findings
    row = rig.box.halo.rows_of(payment)[0]
    assert one == Difference(
        kind=Kind.PAID_AT_STRIPE_ONLY,
        meaning="The customer paid 10.99 USD, but Halo does not show the payment as paid.",
        action="Do not remind the customer; to mark the payment as paid:",
        command=f"syncd resync {payment}", intent_id=payment, customer="A customer",
        invoices=(InvoiceName(row["invoice_id"], row["invoice_invoicenumber"]),), rows=(row["id"],),
        made=int(NOW), at_stripe="succeeded", in_halo="not paid (status 1)",
        stripe_amount=Decimal("10.99"), halo_amount=Decimal(0), amount=Decimal("10.99"),
        currency="USD", pushable=True,
    )  # fmt: skip


def test_paid_in_halo_only(rig: Rig) -> None:
    """A payment that only Halo shows as paid is a difference, after the audit has asked Stripe again."""
    allow_all(rig)
    payment, late = rig.pay("processing"), rig.pay("processing")
    status(rig, payment, "succeeded")
    status(rig, late, "succeeded")
    box, answer = rig.box.stripe, rig.box.stripe.answer

    def racing(request: Any) -> Any:
        reply = answer(request)
        if request.path == "/v1/payment_intents":
            box.advance(late, "succeeded", emit=False)
        return reply

    box.answer = racing  # type: ignore[method-assign]  # the payment changes right after it was listed
    found = audit(rig)
    assert seen(found) == [("paid_in_halo_only", payment, "10.99", "USD")]
    assert (found.findings[0].in_halo, found.findings[0].pushable) == ("succeeded", False)


def test_wrong_amount(rig: Rig) -> None:
    """If both sides show a payment as paid with different amounts, the audit shows the exact difference."""
    allow_all(rig)
    payment = rig.pay("succeeded", rows=(5.0, 5.0))
    status(rig, payment, "succeeded")
    other = rig.pay("succeeded", amount=500, currency="eur", rows=(5.5,))
    status(rig, other, "succeeded")
    found = audit(rig)
    assert sorted(seen(found), key=str) == sorted(
        [
            ("wrong_amount", other, "0.50", "EUR"),
            ("wrong_amount", payment, "-0.99", "USD"),
        ],
        key=str,
    )
    one = next(f for f in found.findings if f.intent_id == other)
    assert one.text == (
        "Stripe received 5.00 EUR, but Halo records 5.50 EUR: Halo has 0.50 EUR too much. "
        "Halo's invoice INV-1003 of 5.50 EUR shows 0.00 EUR as due."
    )
    assert [one.stake for one in found.sums] == [
        "Halo has 0.50 EUR too much",
        "Halo has 0.99 USD too little",
    ]
    assert (found.agree, found.differ) == (0, 2)


def test_missing(rig: Rig) -> None:
    """A payment without a row is missing if its metadata names an invoice or if its row was deleted."""
    allow_all(rig)
    invoice = rig.box.halo.add_invoice()
    named = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    nowhere = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": "424242"})
    rig.pay("payment_failed", rows=(), metadata={"halo_invoice_id": str(invoice)})
    deleted = rig.pay("succeeded")
    rig.once()
    rig.box.halo.delete_row(rig.box.halo.rows_of(deleted)[0]["id"])
    found = audit(rig)
    assert {one[:3] for one in seen(found)} == {
        ("missing", named, "10.99"),
        ("missing", nowhere, "10.99"),
        ("missing", deleted, "10.99"),
    }
    texts = {one.intent_id: one.text for one in found.findings}
    assert "Halo's invoice INV-1001 of 10.99 USD shows 10.99 USD as due." in texts[named]
    assert "Halo does not show invoice id 424242." in texts[nowhere]
    assert "row in Halo was deleted" in texts[deleted]


def test_wrong_state_and_unclear(rig: Rig) -> None:
    """Another status in Halo is a difference; a state without a configured number is unclear."""
    allow_all(rig)
    rig.settings["SYNCD_HALO__STATUS__CANCELED"] = ""
    failed, canceled = rig.pay("payment_failed"), rig.pay("canceled")
    assert {one[:2] for one in seen(audit(rig))} == {
        ("wrong_state", failed),
        ("unclear", canceled),
    }


def test_several_payments_on_one_invoice(rig: Rig) -> None:
    """Payments that exceed an invoice's total are a difference; payments that add up to the total are not."""
    allow_all(rig)
    halo = rig.box.halo
    twice, parts, cash = (
        halo.add_invoice(total=10.99),
        halo.add_invoice(total=21.98),
        halo.add_invoice(total=10.99),
    )
    halo.invoices[cash]["currency_code_name"] = "usd"  # otherwise the payments' currency counts
    paying = []
    for invoice in (twice, twice, parts, parts, cash):
        payment = rig.pay("succeeded", rows=())
        halo.add_row(payment, invoice, 10.99, halo.status["succeeded"])
        paying.append(payment)
    halo.add_row(None, cash, 4.0, halo.status["succeeded"])
    found = audit(rig)
    assert [(one.kind, one.invoices[0].id, one.amount, one.currency) for one in found.findings] == [
        (Kind.SEVERAL_PAYMENTS, twice, Decimal("10.99"), "USD"),
        (Kind.SEVERAL_PAYMENTS, cash, Decimal("4.00"), "USD"),
    ]
    assert [one.text for one in found.findings] == [
        "2 payments add up to 21.98 USD, which is 10.99 USD more than the invoice of 10.99 USD.",
        "2 payments (1 not from Stripe) add up to 14.99 USD, which is 4.00 USD more than the invoice "
        "of 10.99 USD.",
    ]
    assert found.findings[0].payments == tuple(paying[:2])
    assert found.findings[1].payments == (paying[4],)
    assert (found.agree, found.differ) == (2, 3)
    reads = [r for r in halo.requests if r.path.startswith("/api/Invoice/")]
    assert len(reads) == 3


def test_refunded_and_disputed(rig: Rig) -> None:
    """Refunds and disputes of payments that Halo shows as paid are differences, also for older payments."""
    allow_all(rig)
    payment, old = rig.pay("succeeded"), rig.pay("succeeded", created=NOW - 50 * DAY)
    never = rig.pay("succeeded", rows=())
    rig.once()
    rig.box.stripe.refund(payment, 200)
    rig.box.stripe.refund(payment, 300, status="pending")
    rig.box.stripe.dispute(old)
    rig.box.stripe.refund(never)
    won = rig.box.stripe.dispute(payment)
    rig.box.stripe.reversals.close_dispute(won, "won")
    found = audit(rig)
    assert seen(found) == [
        ("disputed", old, "10.99", "USD"),
        ("refunded", payment, "3.00", "USD"),
        ("refunded", payment, "2.00", "USD"),
    ]
    refunds = found.sums[0]
    assert (refunds.count, refunds.amount, refunds.currency) == (2, Decimal("5.00"), "USD")


def test_refunded_before_halo_knew(rig: Rig) -> None:
    """If Stripe refunded a payment that Halo shows as unpaid, the difference mentions the refund."""
    allow_all(rig)
    rig.box.stripe.refund(rig.pay("succeeded"))
    [one] = audit(rig).findings
    assert one.kind is Kind.PAID_AT_STRIPE_ONLY
    assert "But: Stripe refunded 10.99 USD" in one.text


def test_a_payment_has_one_leading_difference(rig: Rig) -> None:
    """An unpaid payment with another amount is one difference in the sums, and its text has both problems."""
    allow_all(rig)
    payment = rig.pay("succeeded", amount=6000, rows=(20.0,))
    found = audit(rig)
    assert seen(found) == [("paid_at_stripe_only", payment, "60.00", "USD")]
    assert [(one.kind, one.count, one.stake) for one in found.sums] == [
        (Kind.PAID_AT_STRIPE_ONLY, 1, "60.00 USD")
    ]
    assert found.findings[0].text.endswith(
        "Stripe received 60.00 USD, but Halo records 20.00 USD: Halo has 40.00 USD too little."
    )


def test_an_acknowledged_refund_is_no_difference_any_more(rig: Rig) -> None:
    """The audit sums up dismissed refunds and disputes separately, until Stripe reports a change."""
    allow_all(rig)
    payment, other = rig.pay("succeeded"), rig.pay("succeeded")
    rig.once()
    refund, dispute = rig.box.stripe.refund(payment, 200), rig.box.stripe.dispute(other)
    rig.once()
    assert audit(rig).open == 2
    rig.stored(lambda store: store.people.dismiss([refund, dispute], rig.clock()))
    found = audit(rig)
    assert [(one.kind, one.acknowledged) for one in found.findings] == [
        (Kind.DISPUTED, True),
        (Kind.REFUNDED, True),
    ]
    assert [(one.title, one.stake) for one in found.sums] == [
        ("Refunded at Stripe, acknowledged", "2.00 USD"),
        ("Disputed at Stripe, acknowledged", "10.99 USD"),
    ]
    assert (found.open, found.agree, found.differ, found.acknowledged) == (0, 0, 0, 2)
    rig.box.stripe.reversals.close_dispute(dispute, "lost")
    found = audit(rig)
    assert [(one.kind, one.acknowledged) for one in found.findings] == [
        (Kind.DISPUTED, False),
        (Kind.REFUNDED, True),
    ]


def test_money_that_is_not_halos_is_listed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe payments without a row in Halo are listed, newest first, and are not differences."""
    allow_all(rig)
    monkeypatch.setattr("syncd.audit.auditor.ELSEWHERE_MAX", 2)
    shop = rig.pay("succeeded", rows=(), created=NOW - DAY, description="Two\nmugs")
    for days in (2, 3):
        rig.pay("succeeded", amount=500, currency="jpy", rows=(), created=NOW - days * DAY)
    rig.pay("processing", rows=())
    rig.pay(None, rows=())
    found = audit(rig)
    assert found.findings == ()
    assert (found.payments, found.not_halos, len(found.elsewhere)) == (5, 4, 2)
    assert found.elsewhere[0] == Difference(
        Kind.ELSEWHERE,
        "Two mugs",
        intent_id=shop,
        made=int(NOW) - DAY,
        at_stripe="succeeded",
        in_halo="no row",
        stripe_amount=Decimal("10.99"),
        amount=Decimal("10.99"),
        currency="USD",
    )
    assert [(one.count, one.stake) for one in found.elsewhere_sums] == [
        (2, "1,000 JPY"),
        (1, "10.99 USD"),
    ]


def test_rows_that_stripe_does_not_know(rig: Rig) -> None:
    """A row whose payment Stripe does not know is a difference; the row of an older payment is not."""
    allow_all(rig)
    halo, invoice = rig.box.halo, rig.box.halo.add_invoice()
    halo.add_row("pi_of_another_account", invoice, 7.5, halo.status["succeeded"])
    halo.add_row("gocardless_1", invoice, 1.0, 1)
    halo.add_row("pi_undated", invoice, 1.0, 1, date="soon", intent_date=None)
    halo.add_row("pi_long_ago", invoice, 1.0, 1, intent_date="2020-01-01T00:00:00")
    older = rig.pay("succeeded", created=NOW - 50 * DAY)
    status(rig, older, "succeeded")
    found = audit(rig)
    assert seen(found) == [("unknown_at_stripe", "pi_of_another_account", "7.5", None)]
    assert found.notes == (
        "Rows in Halo without a readable date: 1. syncd did not look them up at Stripe.",
    )
    singles = [r.path for r in rig.box.stripe.requests if r.path.count("/") == 3]
    assert sorted(singles) == sorted(
        ["/v1/payment_intents/pi_of_another_account", f"/v1/payment_intents/{older}"]
    )


# --- API usage, and what the audit does not change -------------------------------------------------


def test_it_is_frugal_and_counted(rig: Rig) -> None:
    """An audit of 250 payments takes five reads of Stripe, which count in its budget, and three of Halo."""
    allow_all(rig)
    rig.box.seed(250, in_step=True)
    rig.once()
    rig.box.stripe.requests.clear()
    rig.box.halo.requests.clear()
    before = rig.stored(lambda store: sum(store.coordination.counts("stripe").values()))
    found = audit(rig, days=40)
    assert (found.payments, found.agree, found.findings) == (250, 250, ())
    assert [r.path for r in rig.box.stripe.requests] == [
        "/v1/refunds",
        "/v1/disputes",
        *["/v1/payment_intents"] * 3,
    ]
    rows = [r for r in rig.box.halo.requests if r.path == "/api/InvoicePayment"]
    assert (len(rows), {r.method for r in rows}) == (3, {"GET"})
    assert rig.stored(lambda store: sum(store.coordination.counts("stripe").values())) == before + 5


def test_it_is_read_only(rig: Rig) -> None:
    """The audit writes nothing to Halo, and does not change payments or notes in the service's store."""
    rig.pay("succeeded")
    rig.once()
    payment = rig.pay("succeeded")
    before = rig.stored(lambda store: store.notes())
    writes = len(rig.box.halo.writes)
    assert seen(audit(rig)) == [("paid_at_stripe_only", payment, "10.99", "USD")]
    assert rig.stored(lambda store: store.payment(payment)) is None
    assert rig.stored(lambda store: store.notes()) == before
    assert len(rig.box.halo.writes) == writes
    assert all(r.method == "GET" for r in rig.box.stripe.requests)


def test_without_the_permissions(rig: Rig) -> None:
    """If the key may not read refunds and disputes, the audit compares the rest and names the permissions."""
    payment = rig.pay("succeeded")
    found = audit(rig)
    assert seen(found) == [("paid_at_stripe_only", payment, "10.99", "USD")]
    assert found.notes == (
        "Stripe's key may not read Charges and Refunds, so no refunds were compared. Give the key that permission in Stripe's dashboard.",
        "Stripe's key may not read Disputes, so no disputes were compared. Give the key that permission in Stripe's dashboard.",
    )


def test_what_moves_meanwhile_is_no_difference(rig: Rig) -> None:
    """If a row is corrected while the audit runs, the audit does not report the row."""
    allow_all(rig)
    payment = rig.pay("succeeded")
    box, answer = rig.box, rig.box.stripe.answer

    def racing(request: Any) -> Any:
        if request.path == "/v1/payment_intents":
            status(rig, payment, "succeeded")
        return answer(request)

    box.stripe.answer = racing  # type: ignore[method-assign]  # Halo's own webhook updates the row
    assert audit(rig).findings == ()


def test_rows_that_cannot_all_be_listed(rig: Rig) -> None:
    """If Halo lists only a part of its rows, the audit looks up the others and reports the partial list."""
    allow_all(rig)
    rig.box.halo.paging = "same_page"
    rig.box.halo.page_cap = 2
    for _ in range(4):
        rig.pay("succeeded")
    rig.once()
    found = audit(rig)
    assert found.findings == ()
    assert found.notes[0].startswith("Halo showed only a part of its rows")


def test_fix_makes_due_what_a_push_can_put_right(rig: Rig) -> None:
    """`audit --fix` makes payments due that a push can correct, unless they are held or dismissed."""
    allow_all(rig)
    known, unknown = rig.pay("succeeded"), rig.pay("succeeded", created=NOW - 20 * DAY)
    rig.box.stripe.events[:] = [
        e for e in rig.box.stripe.events if e["data"]["object"]["id"] == known
    ]
    held = rig.pay("succeeded", rows=(3.0,))
    booked = rig.pay("processing")
    status(rig, booked, "succeeded")
    rig.once()
    rig.stored(lambda store: store.people.dismiss([held], rig.clock()))
    rig.box.halo.rows_of(held)[0]["amount"] = 10.99  # pushable now, but it was dismissed
    status(rig, known, 1)
    found = audit(rig, fix=True)
    assert found.fix is not None
    assert set(found.fix.due) == {known, unknown}
    assert (found.fix.listed, found.fix.dismissed, found.fix.left) == ((), (held,), 1)
    assert rig.condition(held) is Condition.HELD
    assert rig.condition(booked) is Condition.HELD
    rig.once()
    paid = rig.box.halo.status["succeeded"]
    assert rig.statuses(known) == rig.statuses(unknown) == [paid]
    assert rig.statuses(held) == [1]
    left = {one.kind for one in audit(rig).findings}
    assert left == {Kind.PAID_AT_STRIPE_ONLY, Kind.PAID_IN_HALO_ONLY}


# --- the command -----------------------------------------------------------------------------------


def test_the_command(live: Rig) -> None:
    """`syncd audit` writes a difference to JSON, CSV and HTML and exits with 1; without one, with 0."""
    live.box.stripe.permissions |= {"refunds", "disputes"}
    payment = live.pay("succeeded")
    ran = live.command("audit", "--since", "7d", "--csv", "a.csv", "--html", "a.html", "--json")
    assert ran.returncode == 1, ran.stderr
    said = json.loads(ran.stdout)
    [one] = said["differences"]
    assert (one["difference"], one["payment"], one["amount"]) == (
        "paid_at_stripe_only",
        payment,
        "10.99",
    )
    assert one["stripe_link"] == f"https://dashboard.stripe.com/test/payments/{payment}"
    assert one["halo_link"] == f"{live.box.halo.url}/invoices?mainview=invoices&invoiceid=1001"
    assert said["sums"] == [
        {
            "difference": "paid_at_stripe_only",
            "acknowledged": False,
            "currency": "USD",
            "count": 1,
            "amount": "10.99",
            "of_unknown_amount": 0,
        }
    ]
    assert payment in (live.folder / "a.csv").read_text()
    assert payment in (live.folder / "a.html").read_text()
    assert not (live.folder / "syncd.db").exists()  # read-only commands create no database
    status(live, payment, "succeeded")
    ran = live.command("audit", "--since", "7d")
    assert (ran.returncode, "no difference" in ran.stdout) == (0, True)


def test_csv_on_standard_output(live: Rig) -> None:
    """`audit --csv -` prints only CSV to stdout and the summary to stderr, also without --since."""
    live.box.stripe.permissions |= {"refunds", "disputes"}
    payment, fine = live.pay("succeeded"), live.pay("succeeded")
    status(live, fine, "succeeded")
    ran = live.command("audit", "--csv", "-")
    assert ran.returncode == 1, ran.stderr
    head, *lines = ran.stdout.splitlines()
    assert head.startswith(
        "Line,Customer,Invoice,Payment date,At Stripe,In Halo,Difference,Currency"
    )
    assert len(lines) == 1
    assert payment in lines[0]
    assert "One customer may be chased for 10.99 USD" in ran.stderr
    ran = live.command("audit", "--csv", "-", "--all", "--until", "today")
    assert [payment in ran.stdout, fine in ran.stdout] == [True, True]
    assert len(ran.stdout.splitlines()) == 3
    ran = live.command("audit", "--csv", "a.csv", "--json")
    assert (live.folder / "a.csv").read_bytes().startswith(b"\xef\xbb\xbfLine,Customer,")


def test_a_page_on_standard_output(live: Rig) -> None:
    """`--html -` writes the page to standard output, and never a file named -."""
    live.pay("succeeded")
    ran = live.command("audit", "--html", "-")
    assert ran.stdout.startswith("<!DOCTYPE html>")
    assert ran.stdout.rstrip().endswith("</html>")
    assert "One customer may be chased for 10.99 USD" in ran.stderr
    assert not (live.folder / "-").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--csv", "-", "--html", "-"), "'--csv -' and '--html -' both write to standard output"),
        (("--html", "-", "--json"), "--json and '--html -' both write to standard output"),
        (("--csv", "a", "--html", "./a"), "--csv and --html both name a"),
    ],
)
def test_two_reports_in_one_place(live: Rig, options: tuple[str, ...], said: str) -> None:
    """Two reports that would overwrite each other are refused before anything is read."""
    ran = live.command("audit", *options)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in " ".join(ran.stderr.split())
    assert live.box.stripe.requests == []


def test_rows_that_leave_out_a_surcharge_agree(live: Rig) -> None:
    """Rows that leave out the surcharge and the tip agree, and the audit names both; other sums differ."""
    live.box.stripe.permissions |= {"refunds", "disputes"}
    live.pay("succeeded", amount=1_299, surcharge=50, tip=150)
    assert live.command("--once").returncode == 0
    ran = live.command("audit", "--all", "--json")
    assert ran.returncode == 0, ran.stderr
    (agrees,) = json.loads(ran.stdout)["agreeing"]
    assert agrees["text"] == (
        "Stripe and Halo agree. Halo's rows leave out a surcharge of 0.50 USD and a tip of 1.50 USD."
    )
    assert "surcharge of 0.50 USD" in " ".join(live.command("audit", "--all").stdout.split())
    live.pay("succeeded", amount=1_299, surcharge=50)
    ran = live.command("audit", "--json")
    (different,) = json.loads(ran.stdout)["differences"]
    assert ran.returncode == 1
    assert "Stripe received 12.99 USD, but Halo records 10.99 USD" in different["text"]


def test_a_period_without_payments(live: Rig) -> None:
    """For a period without payments, the audit reports that it compared nothing, instead of agreement."""
    live.box.stripe.permissions |= {"refunds", "disputes"}
    live.pay("succeeded")
    ran = live.command("audit", "--since", "2025-01", "--until", "2025-01")
    assert ran.returncode == 0, ran.stderr
    assert " ".join(ran.stdout.split()).startswith(
        "No payment was compared: Stripe has none from 2025-01-01 to 2025-02-01. This does not show"
    )
    assert "no difference" not in ran.stdout
    said = json.loads(
        live.command("audit", "--since", "2025-01", "--until", "2025-01", "--json").stdout
    )
    assert (said["compared"], said["differences"]) == (0, [])


def test_months_or_minutes(live: Rig) -> None:
    """`audit --since 3m` is refused as ambiguous, and nothing is read from Stripe."""
    ran = live.command("audit", "--since", "3m")
    assert ran.returncode == 2
    assert "3m can mean 3 months or 3 minutes" in " ".join(ran.stderr.split())
    assert live.box.stripe.requests == []


def test_fix_always_says_what_came_of_it(live: Rig) -> None:
    """`audit --fix` lists failed payments that it does not change, and the command to retry them."""
    live.box.stripe.permissions |= {"refunds", "disputes"}
    live.once()  # records that writes are proven
    failed, booked = live.pay("succeeded"), live.pay("processing")
    live.box.halo.poison(failed)
    status(live, booked, "succeeded")
    assert live.command("--once").returncode == 1
    ran = live.command("audit", "--since", "7d", "--fix", extra={"COLUMNS": "200"})
    assert ran.returncode == 1, ran.stderr
    # The text is the same, however wide the terminal is.
    assert " ".join(ran.stdout.split()).endswith(
        "--fix: 1 payment is on the attention list: correct what the list names, then retry; 1 difference needs a "
        f"person. syncd attention retry {failed}"
    )
    live.box.halo.unpoison(failed)
    assert live.command("attention", "retry", failed).returncode in (0, 1)
    ran = live.command("audit", "--since", "7d", "--fix", "--json")
    assert json.loads(ran.stdout)["fix"] == {
        "made_due": [failed],
        "on_attention_list": [],
        "dismissed": [],
        "need_a_person": 1,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "soon"),
        ("--since", "3m"),
        ("--until", "2020"),
        ("--csv", "-", "--json"),
        ("--since", "2026-10", "--until", "2026-09"),
        ("--since", "2999-01-01"),
        ("--since", "7d", "--html", "/"),
        ("--since", "7d", "--csv", "no/such/folder.csv"),
    ],
)
def test_wrong_usage_costs_nothing(
    live: Rig, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong usage of `syncd audit` exits with 2 before any request to Stripe or Halo."""
    for name, value in live.environment().items():
        monkeypatch.setenv(name, value)
    ran = CliRunner().invoke(app, ["audit", *arguments])
    assert (ran.exit_code, live.box.stripe.requests, live.box.halo.requests) == (2, [], [])


def test_a_side_out_of_reach(live: Rig) -> None:
    """If Stripe refuses the key, the audit exits with 69 and leaves no partial CSV file."""
    live.box.stripe.faults.append(Fault("401", times=None))
    ran = live.command("audit", "--since", "7d", "--csv", "a.csv")
    assert (ran.returncode, [p.name for p in live.folder.glob("*a.csv*")]) == (69, [])


# --- properties ------------------------------------------------------------------------------------

currencies = st.sampled_from(["usd", "eur", "jpy", "bhd", "ugx"])
amounts = st.integers(0, 10**14)


@st.composite
def in_step(draw: Callable[[Any], Any]) -> tuple[Observation, list[Row]]:
    """A payment and rows that agree with it."""
    state = draw(st.sampled_from(PaymentState))
    parts = draw(st.lists(amounts, min_size=1, max_size=4))
    currency = draw(currencies)
    said = Observation(
        "pi_1",
        state,
        0,
        read=True,
        created=0,
        amount=sum(parts),
        amount_received=sum(parts),
        currency=currency,
    )
    rows = [
        Row(n, "pi_1", n, Money(part, currency).major, NUMBERS[state])
        for n, part in enumerate(parts)
    ]
    return said, rows


@given(in_step())
def test_in_step_sides_never_differ(pair: tuple[Observation, list[Row]]) -> None:
    """For any state, currency and split into rows, a payment in step is no difference."""
    said, rows = pair
    back = Reversal(
        "re_1", ReversalKind.REFUNDED, "pi_1", 1, "usd", "failed", None, 0, 0, read=True
    )
    assert compare(said, rows, [back], POLICY) == []


@given(in_step(), st.integers(-(10**6), 10**6).filter(bool), st.integers(0, 3))
def test_any_other_amount_is_found_exactly(
    pair: tuple[Observation, list[Row]], off: int, which: int
) -> None:
    """If the rows of a succeeded payment are off by any amount, the audit reports exactly that amount."""
    said, rows = pair
    if said.state is not PaymentState.SUCCEEDED:
        return
    row, currency = rows[which % len(rows)], said.currency or ""
    major = Money(off, currency).major
    assert major is not None
    assert row.amount is not None
    rows[which % len(rows)] = Row(
        row.id, row.intent_id, row.invoice_id, row.amount + major, row.status
    )
    [one] = compare(said, rows, [], POLICY)
    assert (one.kind, one.amount) == (Kind.WRONG_AMOUNT, major)


@given(in_step(), st.sampled_from([*NUMBERS.values(), 99]))
def test_any_other_status_is_found(pair: tuple[Observation, list[Row]], status: int) -> None:
    """Any other status is a difference, of the kind that says which side shows the payment as paid."""
    said, rows = pair
    assert said.state is not None
    if status == NUMBERS[said.state]:
        return
    wrong = [Row(r.id, r.intent_id, r.invoice_id, r.amount, status) for r in rows]
    [one] = compare(said, wrong, [], POLICY)
    if said.state is PaymentState.SUCCEEDED:
        assert (one.kind, one.pushable) == (Kind.PAID_AT_STRIPE_ONLY, True)
    elif status == NUMBERS[PaymentState.SUCCEEDED]:
        assert (one.kind, one.pushable) == (Kind.PAID_IN_HALO_ONLY, False)
    else:
        assert (one.kind, one.pushable) == (Kind.WRONG_STATE, True)


exact = st.decimals(-(10**15), 10**15, allow_nan=False, places=17)
findings = st.builds(
    Difference,
    kind=st.sampled_from(Kind),
    meaning=st.just(""),
    amount=st.none() | exact,
    currency=st.sampled_from(["USD", "JPY", None]),
)


@given(st.lists(findings, max_size=12), st.randoms(use_true_random=False))
def test_sums_are_exact(found: list[Difference], chance: random.Random) -> None:
    """The sums contain each finding once, are not rounded, and do not depend on the order."""
    import fractions

    added = sums(found)
    mixed = list(found)
    chance.shuffle(mixed)
    assert sums(mixed) == added
    assert sum(one.count for one in added) == len(found)
    whole = sum(
        (fractions.Fraction(one.amount) for one in found if one.amount is not None),
        fractions.Fraction(0),
    )
    assert sum((fractions.Fraction(one.amount) for one in added), fractions.Fraction(0)) == whole
    assert sum(one.unknown for one in added) == sum(one.amount is None for one in found)


@given(amounts, currencies, st.floats(-1e-5, 1e-5))
def test_tidy_forgives_noise_alone(minor: int, currency: str, noise: float) -> None:
    """`tidy` removes rounding noise of binary fractions, and keeps every difference that could be money."""
    major = Money(minor, currency).major
    assert major is not None
    decimals = Money(minor, currency).decimals or 0
    noisy = major + Decimal(noise).quantize(Decimal("1e-17"))
    forgiven = abs(noisy - major) < Decimal(1).scaleb(-decimals - 3)
    assert tidy(noisy, currency) == (major if forgiven else noisy)
    assert tidy(Decimal("1.5"), "xyz") == Decimal("1.5")


def test_several_parts_of_an_invoice_are_well() -> None:
    """Paid rows up to the invoice's total are fine; without a readable amount they are a difference."""
    rows = [Row(n, f"pi_{n}", 7, Decimal("5.00"), NUMBERS[PaymentState.SUCCEEDED]) for n in (1, 2)]
    exactly = Invoice(7, "INV-7", Decimal("10.00"), None, "USD")
    assert several_payments(rows, exactly, POLICY) is None
    unknown = several_payments(rows, None, POLICY)
    assert unknown is not None
    assert unknown.amount is None
    assert "does not show the invoice's total" in unknown.text
    rows[0] = Row(1, "pi_1", 7, None, rows[0].status)
    unreadable = several_payments(rows, exactly, POLICY)
    assert unreadable is not None
    assert unreadable.amount is None
