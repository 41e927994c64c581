"""How an audit is shown: as JSON, as CSV, as an HTML page, and on a terminal of any width."""

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Locator, Page, sync_playwright

from syncd.audit.differences import Consequence, Difference, InvoiceName, Kind, money
from syncd.audit.report.export import COLUMNS, Links, as_json, write_csv
from syncd.audit.report.html import as_html
from syncd.audit.report.text import lines
from syncd.audit.report.words import fix_words
from syncd.audit.summary import (
    Audit,
    Fix,
    counts,
    first_paragraph,
    in_order,
    sums,
    totals_by_currency,
    totals_by_customer,
)
from syncd.text.links import halo_invoice, stripe_payment
from syncd.text.timestamps import DAY
from tests.conftest import NOW, Rig

PLACES = Links("https://example.halopsa.com", test=True, account="")
CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")

EVIL = '=HYPERLINK("http://evil.example","<script>alert(1)</script>")'


def report(*findings: Difference, notes: tuple[str, ...] = ()) -> Audit:
    return Audit(0, 1, 1, 0, 1, 0, 0, 1, findings, sums(findings), notes=notes)


def story() -> Audit:
    """An audit with each kind of difference that has a layout of its own."""
    found = (
        Difference(
            Kind.PAID_AT_STRIPE_ONLY,
            "The customer paid 1,210.00 USD, but Halo does not show the payment as paid.",
            action="Do not remind the customer; to mark the payment as paid:",
            command="syncd resync pi_3QAbcdefghijklmnopqrstuv", customer="Ågren & Söner AB",
            intent_id="pi_3QAbcdefghijklmnopqrstuv",
            invoices=(InvoiceName(7, "INV-7"), InvoiceName(6)), made=int(NOW),
            at_stripe="succeeded", in_halo="not paid (status 1)", stripe_amount=Decimal("1210.00"),
            halo_amount=Decimal(0), amount=Decimal("1210.00"), currency="USD",
        ),
        Difference(
            Kind.WRONG_AMOUNT,
            "Stripe received 60.00 USD, but Halo records 20.00 USD: Halo has 40.00 USD too little.",
            action="Correct the payment's amount in Halo to 60.00 USD.", customer="Ågren & Söner AB",
            intent_id="pi_3QWrong", invoices=(InvoiceName(8),), stripe_amount=Decimal("60.00"),
            halo_amount=Decimal("20.00"), amount=Decimal("-40.00"), currency="USD",
        ),
        Difference(
            Kind.SEVERAL_PAYMENTS, "2 payments add up to more than the invoice.",
            intents=("pi_3QOne", "pi_3QTwo"), invoices=(InvoiceName(9),), customer="Blue Ltd",
            stripe_amount=Decimal(30), halo_amount=Decimal(15), amount=Decimal(15), currency="USD",
        ),
        Difference(
            Kind.REFUNDED, "Stripe refunded it.", intent_id="pi_3QBack", acknowledged=True,
            stripe_amount=Decimal(-5), halo_amount=Decimal(0), amount=Decimal(5), currency="USD",
        ),
    )  # fmt: skip
    shop = Difference(
        Kind.ELSEWHERE,
        "Two mugs",
        intent_id="pi_3QShop",
        made=int(NOW),
        at_stripe="succeeded",
        in_halo="no row",
        stripe_amount=Decimal(1900),
        amount=Decimal(1900),
        currency="JPY",
    )
    agreeing = Difference(
        Kind.AGREES, "Stripe and Halo agree.", intent_id="pi_3QFine", made=int(NOW),
        customer="Blue Ltd", invoices=(InvoiceName(5, "INV-5"),), at_stripe="succeeded",
        in_halo="succeeded", stripe_amount=Decimal(7), halo_amount=Decimal(7), currency="USD",
    )  # fmt: skip
    return Audit(
        since=int(NOW), until=int(NOW) + 60, payments=8, agree=1, differ=4, acknowledged=1,
        not_halos=1, rows=6, findings=found, sums=sums(found), elsewhere=(shop,),
        elsewhere_sums=sums([shop, shop]), agreeing=(agreeing,), notes=("something",), invoices=3,
        fix=Fix(("pi_3QAbcdefghijklmnopqrstuv",), (), (), 2),
    )  # fmt: skip


def test_csv_holds_no_formula(tmp_path: Path) -> None:
    """No cell of the CSV starts a formula, whatever a name contains, and numbers stay numbers."""
    wide = "\N{FULLWIDTH EQUALS SIGN}1"
    names = [EVIL, wide, "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "plain"]
    found = report(
        *[
            Difference(
                Kind.WRONG_AMOUNT,
                name,
                invoices=(InvoiceName(1, name),),
                customer=name,
                stripe_amount=Decimal("0.99"),
                halo_amount=Decimal(0),
                amount=Decimal("-0.99"),
                currency="USD",
            )
            for name in names
        ]
    )
    with (tmp_path / "a.csv").open("w", newline="") as to:
        write_csv(found, PLACES, to)
    with (tmp_path / "a.csv").open(newline="") as back:
        head, *lines = list(csv.reader(back))
    assert head == [*COLUMNS, "Link to Stripe", "Link to Halo"]
    assert [line[head.index("Difference")] for line in lines] == ["-0.99"] * len(names)
    for column in ("Customer", "Invoice", "What it means"):
        assert [line[head.index(column)] for line in lines] == [
            f"'{EVIL}",
            f"'{wide}",
            "'+1",
            "'-2+3",
            "'@SUM(A1)",
            "' =1",
            "' =1",
            "plain",
        ]


class Tags(HTMLParser):
    """Collects the tags and the text of an HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_whole_and_harmless() -> None:
    """The HTML report escapes all text, loads nothing from outside, and supports a dark colour scheme."""
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    found = report(
        Difference(
            Kind.UNKNOWN_AT_STRIPE, evil, intent_id=f"pi_{evil}",
            invoices=(InvoiceName(7, evil),), customer=evil, action=evil, command=evil, at_stripe=evil, in_halo=evil, amount=Decimal("1.5"), currency=evil,
        ),
        notes=(evil,),
    )  # fmt: skip
    page = as_html(found, Links(f"https://x.example/{evil}", test=True, account=evil))
    tags = Tags()
    tags.feed(page)
    names = {tag for tag, _ in tags.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "form"}
    assert all(not key.startswith("on") for _, attrs in tags.tags for key in attrs)
    assert not any("src" in attrs for _, attrs in tags.tags)
    assert tags.text.count(evil) >= 6
    assert "prefers-color-scheme: dark" in page
    assert "url(" not in page
    assert "@import" not in page
    links = [attrs["href"] or "" for tag, attrs in tags.tags if tag == "a"]
    assert sorted(link[:28] for link in links) == [
        "https://dashboard.stripe.com",
        'https://x.example/"><script>',
    ]


def test_json_keeps_amounts_exact() -> None:
    """Amounts in JSON are strings, so that a reader's floating-point numbers cannot change them."""
    amount = Decimal("900719925474099.31")
    said = json.loads(as_json(report(Difference(Kind.MISSING, "", amount=amount)), PLACES))
    assert said["differences"][0]["amount"] == said["sums"][0]["amount"] == "900719925474099.31"


def test_links() -> None:
    """Links to Stripe's dashboard differ for live data, test data and a connected account."""
    at = "https://dashboard.stripe.com"
    assert stripe_payment("pi_1", test=False) == f"{at}/payments/pi_1"
    assert stripe_payment("pi_1", test=True) == f"{at}/test/payments/pi_1"
    assert stripe_payment("pi_1", test=True, account="acct_1") == f"{at}/acct_1/test/payments/pi_1"
    assert stripe_payment("pi_/../x", test=False) == f"{at}/payments/pi_%2F..%2Fx"
    assert halo_invoice("https://h.example/", 7) == (
        "https://h.example/invoices?mainview=invoices&invoiceid=7"
    )


def rows_of_csv(audit: Audit, *, everything: bool = False) -> list[dict[str, str]]:
    to = io.StringIO(newline="")
    write_csv(audit, PLACES, to, everything=everything)
    return list(csv.DictReader(io.StringIO(to.getvalue(), newline="")))


def test_the_csv_holds_each_difference() -> None:
    """The CSV has one line for each difference, with plain dates and numbers, and one link in a cell."""
    found = rows_of_csv(story())
    at, halo = "https://dashboard.stripe.com/test/payments/", "https://example.halopsa.com/invoices"
    assert found[0] == {
        "Line": "1", "Customer": "Ågren & Söner AB", "Invoice": "INV-7", "Payment date": "2026-11-24",
        "At Stripe": "1210.00", "In Halo": "0.00", "Difference": "-1210.00", "Currency": "USD",
        "Currency in Halo": "USD", "What differs": "Paid at Stripe, not in Halo",
        "What it means": "The customer paid 1,210.00 USD, but Halo does not show the payment as paid.",
        "What to do": "Do not remind the customer; to mark the payment as paid.",
        "Command": "syncd resync pi_3QAbcdefghijklmnopqrstuv", "Status at Stripe": "succeeded",
        "Status in Halo": "not paid (status 1)", "Acknowledged": "",
        "Payment": "pi_3QAbcdefghijklmnopqrstuv", "Invoice id": "7 6", "Row id": "",
        "Link to Stripe": f"{at}pi_3QAbcdefghijklmnopqrstuv", "Link to Stripe 2": "",
        "Link to Halo": f"{halo}?mainview=invoices&invoiceid=7",
        "Link to Halo 2": f"{halo}?mainview=invoices&invoiceid=6",
    }  # fmt: skip
    assert [(one["What differs"], one["Payment"], one["Acknowledged"]) for one in found[1:]] == [
        ("Paid, but not the same amount", "pi_3QWrong", ""),
        ("Payments add up to more than the invoice", "pi_3QOne pi_3QTwo", ""),
        ("Refunded at Stripe, acknowledged", "pi_3QBack", "yes"),
    ]
    several = found[2]
    assert (several["Link to Stripe"], several["Link to Stripe 2"]) == (
        f"{at}pi_3QOne",
        f"{at}pi_3QTwo",
    )
    assert [one["Difference"] for one in found] == ["-1210.00", "-40.00", "-15.00", "5.00"]


@pytest.mark.parametrize(
    ("stripe", "halo", "currency", "halo_currency", "cells"),
    [
        ("1234.5", "0", "EUR", None, ("1234.50", "0.00", "-1234.50")),
        ("1000", "0", "JPY", None, ("1000", "0", "-1000")),
        ("12.345", "0", "KWD", None, ("12.345", "0.000", "-12.345")),
        ("12", "10.5", "USD", None, ("12.00", "10.50", "-1.50")),
        ("10.5", "10.5", "EUR", "GBP", ("10.50", "10.50", "")),
        ("20", "15.505", "EUR", None, ("20.00", "15.505", "-4.495")),
        ("7", "7.5", None, None, ("7.00", "7.50", "0.50")),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(
    stripe: str, halo: str, currency: str | None, halo_currency: str | None, cells: tuple[str, ...]
) -> None:
    """Amounts in the CSV have their currency's decimals, and fractions of a cent are not rounded."""
    one = Difference(
        Kind.WRONG_CURRENCY if halo_currency else Kind.WRONG_AMOUNT,
        "",
        stripe_amount=Decimal(stripe),
        halo_amount=Decimal(halo),
        amount=Decimal(stripe),
        currency=currency,
        halo_currency=halo_currency,
    )
    [row] = rows_of_csv(report(one))
    assert (row["At Stripe"], row["In Halo"], row["Difference"]) == cells


def test_lines_without_a_difference_only_on_request() -> None:
    """With --all, the CSV lists agreeing payments and payments that are not Halo's after the differences."""
    assert len(rows_of_csv(story())) == 4
    *_, agrees, elsewhere = rows_of_csv(story(), everything=True)
    assert (agrees["What differs"], agrees["Payment"], agrees["Customer"], agrees["Difference"]) == (
        "Stripe and Halo agree", "pi_3QFine", "Blue Ltd", "0.00",
    )  # fmt: skip
    assert (elsewhere["At Stripe"], elsewhere["Currency"], elsewhere["What it means"]) == (
        "1900",
        "JPY",
        "Two mugs",
    )


def test_the_json_lists_what_is_not_halos() -> None:
    """The JSON lists payments that are not Halo's separately, with their sums and the number left out."""
    said = json.loads(as_json(story(), PLACES))
    elsewhere = said["elsewhere"]
    assert elsewhere["sums"] == [
        {
            "difference": "elsewhere",
            "acknowledged": False,
            "currency": "JPY",
            "count": 2,
            "amount": "3800",
            "of_unknown_amount": 0,
        }
    ]
    assert elsewhere["left_out"] == 1
    [shop] = elsewhere["payments"]
    assert (shop["payment"], shop["amount"], shop["currency"], shop["text"]) == (
        "pi_3QShop",
        "1900",
        "JPY",
        "Two mugs",
    )
    assert shop["stripe_link"] == "https://dashboard.stripe.com/test/payments/pi_3QShop"
    several = said["differences"][2]
    assert (several["payment"], several["stripe_link"]) == (None, None)
    assert [link.rpartition("/")[2] for link in several["stripe_links"]] == several["payments"]


def test_the_json_of_a_difference() -> None:
    """A difference in JSON has all fields of version 0.1, and the customer, all invoices and both amounts."""
    said = json.loads(as_json(story(), PLACES))
    first = said["differences"][0]
    halo = "https://example.halopsa.com/invoices?mainview=invoices&invoiceid="
    before = {
        "difference", "acknowledged", "payment", "payments", "invoice", "invoice_id", "rows", "made",
        "at_stripe", "in_halo", "amount", "currency", "text", "pushable", "stripe_link",
        "stripe_links", "halo_link",
    }  # fmt: skip
    assert before <= first.keys()
    assert first["invoices"] == [
        {"id": 7, "number": "INV-7", "link": f"{halo}7"},
        {"id": 6, "number": None, "link": f"{halo}6"},
    ]
    assert [
        first[key] for key in ("customer", "stripe_amount", "halo_amount", "halo_less_stripe")
    ] == [
        "Ågren & Söner AB",
        "1210.00",
        "0",
        "-1210.00",
    ]
    assert said["by_customer"] == [
        {"customer": "Ågren & Söner AB", "currency": "USD", "count": 2,
         "amounts": {"paid_not_counted_in_halo": "1250.00"}, "of_unknown_amount": 0},
        {"customer": "Blue Ltd", "currency": "USD", "count": 1,
         "amounts": {"paid_too_much": "15.00"}, "of_unknown_amount": 0},
    ]  # fmt: skip
    assert said["by_currency"] == [
        {
            "customer": None,
            "currency": "USD",
            "count": 3,
            "of_unknown_amount": 0,
            "amounts": {"paid_not_counted_in_halo": "1250.00", "paid_too_much": "15.00"},
        },
    ]
    assert said["agreeing"][0]["payment"] == "pi_3QFine"


# --- the first paragraph ---------------------------------------------------------------------------


def one(
    kind: Kind, amount: str | None, customer: str | None, currency: str = "EUR", **more: Any
) -> Difference:
    return Difference(
        kind,
        "",
        customer=customer,
        currency=currency,
        amount=None if amount is None else Decimal(amount),
        **more,
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([one(Kind.PAID_AT_STRIPE_ONLY, "1000.50", "A"), one(Kind.INVOICE_DUE, "200", "B"),
          one(Kind.MISSING, "34", "C"), one(Kind.WRONG_AMOUNT, "-0.50", "A")],
         "Three customers may be chased for 1,235.00 EUR that they have paid."),
        ([one(Kind.PAID_AT_STRIPE_ONLY, "10", "A"), one(Kind.PAID_AT_STRIPE_ONLY, "500", "A", "JPY")],
         "One customer may be chased for 10.00 EUR and 500 JPY that this customer has paid."),
        ([one(Kind.PAID_AT_STRIPE_ONLY, "10", None), one(Kind.INVOICE_DUE, "5", "A")],
         "Customers may be chased for 15.00 EUR that they have paid (two payments)."),
        ([one(Kind.PAID_IN_HALO_ONLY, "10", "A"), one(Kind.REFUNDED, "5", "B"),
          one(Kind.WRONG_AMOUNT, "1", "B")],
         "Halo counts 16.00 EUR of two customers as paid that Stripe did not receive, or that was refunded or disputed."),
        ([one(Kind.SEVERAL_PAYMENTS, "10", "A")], "One customer may have paid 10.00 EUR too much."),
        ([one(Kind.SEVERAL_PAYMENTS, None, "A"), one(Kind.UNCLEAR, None, "A")],
         "The amount of two differences is not known."),
        ([one(Kind.WRONG_STATE, "5", "A", stripe_amount=Decimal(0), halo_amount=Decimal(0))],
         "One difference affects no money."),
        ([one(Kind.WRONG_CURRENCY, "5", "A", halo_currency="GBP")],
         "One payment is in another currency than the invoice (5.00 EUR)."),
        ([], "Stripe and Halo agree: no difference in 5 payments."),
        ([one(Kind.REFUNDED, "5", "B", acknowledged=True)],
         "Stripe and Halo agree: no difference in 5 payments."),
    ],
)  # fmt: skip
def test_the_first_paragraph(found: list[Difference], words: str) -> None:
    """The first paragraph says who may be chased for how much, and what else differs."""
    audit = Audit(0, DAY, 5, 5 - len(found), len(found), 0, 0, 5, tuple(found), sums(found))
    assert first_paragraph(audit) == words
    assert first_paragraph(replace(audit, notes=("x",))).endswith("see the end of this report.")


def test_nothing_compared_is_no_agreement() -> None:
    """If no payment could be compared, the first paragraph says so, and does not report agreement."""
    empty = Audit(0, 2 * DAY, 0, 0, 0, 0, 0, 3, (), ())
    text = first_paragraph(empty)
    assert text.startswith(
        "No payment was compared: Stripe has none from 1970-01-01 to 1970-01-03."
    )
    assert "does not show that Stripe and Halo agree" in text
    text = first_paragraph(replace(empty, payments=4, not_halos=4))
    assert text.startswith("No payment was compared: of 4 payments at Stripe from 1970-01-01")
    assert "no difference" not in text
    assert counts(empty) == "0 payments at Stripe from 1970-01-01 to 1970-01-03."


def test_the_greatest_stake_comes_first() -> None:
    """Open differences come before dismissed ones, and within a currency the largest amount comes first."""
    found = [
        one(Kind.MISSING, "5", "A"),
        one(Kind.REFUNDED, "900", "A", acknowledged=True),
        one(Kind.WRONG_AMOUNT, "-70", "B"),
        one(Kind.MISSING, "8000", "C", "JPY"),
        one(Kind.UNCLEAR, None, "D"),
        one(Kind.SEVERAL_PAYMENTS, "60", "E"),
    ]
    assert [(f.currency, f.amount) for f in in_order(found)] == [
        ("EUR", Decimal(-70)),
        ("EUR", Decimal(60)),
        ("EUR", Decimal(5)),
        ("EUR", None),
        ("JPY", Decimal(8000)),
        ("EUR", Decimal(900)),
    ]


@given(st.lists(st.tuples(st.sampled_from(Kind), st.integers(-10**9, 10**9), st.sampled_from("ABC"),
                          st.sampled_from(["EUR", "JPY"]))))  # fmt: skip
def test_sums_by_customer_add_up(parts: list[tuple[Kind, int, str, str]]) -> None:
    """The sums by customer and by currency count every open difference exactly once."""
    found = [one(kind, str(amount), name, code) for kind, amount, name, code in parts]
    customers, currencies = totals_by_customer(found), totals_by_currency(found)
    assert sum(t.count for t in customers) == sum(t.count for t in currencies) == len(found)
    for code in ("EUR", "JPY"):
        for consequence in Consequence:
            expected = sum(
                f.at_stake or 0
                for f in found
                if f.currency == code and f.consequence is consequence is not Consequence.NONE
            )
            for totals in (customers, currencies):
                assert expected == sum(
                    t.amounts.get(consequence, 0) for t in totals if t.currency == code
                )


# --- the terminal and the page ---------------------------------------------------------------------


def test_the_terminal_at_80_columns() -> None:
    """On a terminal of 80 columns, the report has the summary, the sums, and a block for each difference."""
    at = "https://dashboard.stripe.com/test/payments"
    halo = "https://example.halopsa.com/invoices?mainview=invoices&invoiceid"
    assert list(lines(story(), PLACES, 80, lambda text: f"*{text}*")) == [
        "One customer may be chased for 1,250.00 USD that this customer has paid. One",
        "customer may have paid 15.00 USD too much. Not everything could be compared: see",
        "the end of this report.",
        "8 payments at Stripe from 2026-11-24 06:00 UTC to 2026-11-24 06:01 UTC: 1",
        "agrees, 4 differ, 1 acknowledged, 1 not for an invoice in Halo, 1 not started.",
        "",
        "*By currency*",
        "  USD: 3 differences; 1,250.00 USD paid at Stripe but not in Halo; 15.00 USD",
        "    paid too much",
        "",
        "*By customer*",
        "  Ågren & Söner AB: 2 differences; 1,250.00 USD paid at Stripe but not in Halo",
        "  Blue Ltd: 1 difference; 15.00 USD paid too much",
        "",
        "*1. Ågren & Söner AB  invoices INV-7, id 6  2026-11-24*",
        "   Paid at Stripe, not in Halo",
        "   At Stripe: 1,210.00 USD  In Halo: 0.00 USD  Difference: -1,210.00 USD",
        "   The customer paid 1,210.00 USD, but Halo does not show the payment as paid.",
        "   To do: Do not remind the customer; to mark the payment as paid:",
        "     syncd resync pi_3QAbcdefghijklmnopqrstuv",
        f"   {at}/pi_3QAbcdefghijklmnopqrstuv",
        f"   {halo}=7",
        f"   {halo}=6",
        "",
        "*2. Ågren & Söner AB  invoice id 8*",
        "   Paid, but not the same amount",
        "   At Stripe: 60.00 USD  In Halo: 20.00 USD  Difference: -40.00 USD",
        "   Stripe received 60.00 USD, but Halo records 20.00 USD: Halo has 40.00 USD too",
        "   little.",
        "   To do: Correct the payment's amount in Halo to 60.00 USD.",
        f"   {at}/pi_3QWrong",
        f"   {halo}=8",
        "",
        "*3. Blue Ltd  invoice id 9*",
        "   Payments add up to more than the invoice",
        "   At Stripe: 30.00 USD  In Halo: 15.00 USD  Difference: -15.00 USD",
        "   2 payments add up to more than the invoice.",
        f"   {at}/pi_3QOne",
        f"   {at}/pi_3QTwo",
        f"   {halo}=9",
        "",
        "*4. Customer not known*",
        "   Refunded at Stripe, acknowledged",
        "   At Stripe: -5.00 USD  In Halo: 0.00 USD  Difference: +5.00 USD",
        "   Stripe refunded it.",
        f"   {at}/pi_3QBack",
        "",
        "*Stripe and Halo agree: 1 payment*",
        "  pi_3QFine  7.00 USD  INV-5  2026-11-24  Blue Ltd  succeeded",
        "",
        "*Paid at Stripe, not for an invoice in Halo: 2 payments, 3,800 JPY*",
        "  Stripe received this money, but Halo has no row for it, and its metadata names",
        "  no Halo invoice. syncd does not count the payment as a difference. Check",
        "  whether a payment belongs to an invoice.",
        "  pi_3QShop  1,900 JPY  2026-11-24  Two mugs",
        "  1 more: see --json, or --csv and --html with --all.",
        "",
        "Not compared: something",
        "--fix: 1 payment made due: the next push includes it; 2 differences need a",
        "person.",
    ]


@given(st.integers(1, 300))
def test_no_width_breaks_an_id_or_an_amount(width: int) -> None:
    """At any width, ids, amounts and commands stay on one line; from 60 columns, other lines fit."""
    shown = list(lines(story(), PLACES, width, str))
    for found in (*story().findings, *story().elsewhere):
        for whole in (*found.payments, found.stripe_money, found.halo_money, found.command):
            assert any(whole in line for line in shown)
    if width >= 60:
        assert all(len(line) <= width or "://" in line for line in shown)


def test_what_is_short_is_not_set_off() -> None:
    """Amounts too low and amounts too high in one currency are summed separately."""
    found = [
        Difference(Kind.WRONG_AMOUNT, "", amount=Decimal(by), currency="USD")
        for by in ("-40.00", "40.00", "-1.00")
    ]
    assert [(each.count, each.stake) for each in sums(found)] == [
        (2, "Halo has 41.00 USD too little"),
        (1, "Halo has 40.00 USD too much"),
    ]


def test_what_fix_did_is_always_said() -> None:
    """`audit --fix` always reports its result, also if there was nothing to correct."""
    assert fix_words(Fix((), (), (), 0)) == "--fix: there was nothing to correct."
    assert fix_words(Fix((), (), (), 1)) == "--fix: 1 difference needs a person."
    assert fix_words(Fix(("a", "b"), ("c",), ("d",), 2)) == (
        "--fix: 2 payments made due: the next push includes them; 1 payment is on the attention "
        "list: correct what the list names, then retry; 1 was dismissed by a person and left alone; "
        "2 differences need a person."
    )


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("40.0", "USD", "40.00 USD"),
        ("40.0", "JPY", "40 JPY"),
        ("1.5", "KWD", "1.500 KWD"),
        ("0.30000000000000004", "EUR", "0.30 EUR"),
        ("1.234", "EUR", "1.234 EUR"),
        ("15.0", None, "15.00 (currency unknown)"),
        ("7", "XYZ", "7.00 XYZ"),
        ("1234567.5", "EUR", "1,234,567.50 EUR"),
    ],
)
def test_money_is_written_with_its_decimals(amount: str, currency: str | None, text: str) -> None:
    """Amounts have their currency's decimals and thousands separators, and lose nothing by rounding."""
    assert money(Decimal(amount), currency) == text


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium isn't installed")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """At any width, the HTML page does not scroll sideways and breaks no id."""
    (tmp_path / "a.html").write_text(as_html(story(), PLACES), "utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page()
        for width in (375, 700, 1200):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto((tmp_path / "a.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.locator("thead").first.is_visible() == (width == 1200)
            ids = page.locator(".id a")
            assert ids.count() == 7
            assert all(ids.nth(n).bounding_box()["height"] < 30 for n in range(7))  # type: ignore[index]  # all are shown
        assert "--fix" in page.locator("footer").inner_text()
        assert page.locator("time, img, script").count() == 0
        assert "T" not in page.locator("td.date").first.inner_text()
        browser.close()


@contextmanager
def in_browser(folder: Path, width: int, **changes: Any) -> Iterator[Page]:
    """The page of an audit whose first difference is changed, in a window of the given width in pixels."""
    first, *others = story().findings
    report = replace(story(), findings=(replace(first, **changes), *others))
    (folder / "a.html").write_text(as_html(report, PLACES), "utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((folder / "a.html").as_uri())
        yield page
        browser.close()


def height_of(cell: Locator) -> float:
    """The height of a cell's text, in pixels."""
    height: float = cell.evaluate(
        "e => { const r = document.createRange(); r.selectNodeContents(e);"
        " return r.getBoundingClientRect().height }"
    )
    return height


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium isn't installed")
@pytest.mark.parametrize("width", [375, 1000, 1100, 1400])
def test_a_long_name_takes_no_room_from_others(tmp_path: Path, width: int) -> None:
    """A very long customer name or invoice number makes no column of the page collapse or overflow."""
    long = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3
    invoices = (InvoiceName(7, long[:100]), InvoiceName(6))
    with in_browser(tmp_path, width, customer=long, invoices=invoices) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        row = page.locator(".differences tbody tr").first
        boxes = [row.locator("td").nth(n).bounding_box() for n in range(7)]
        if width > 1088:
            assert all(box is not None and box["width"] >= 80 for box in boxes)
            assert boxes[6] is not None
            assert boxes[6]["width"] > 250
        money = row.locator("td.number")
        for place in range(3):
            assert height_of(money.nth(place)) < 30


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium isn't installed")
@pytest.mark.parametrize("width", [375, 1100, 1400])
def test_a_large_amount_stays_in_its_column(tmp_path: Path, width: int) -> None:
    """In a narrow column, an amount breaks before its currency, never within its digits."""
    amounts = {"stripe_amount": Decimal("1234567.5"), "halo_amount": Decimal(0)}
    with in_browser(tmp_path, width, **amounts) as page:
        money = page.locator(".differences tbody tr").first.locator("td.number")
        for place, lines in enumerate((2, 1, 2)):
            cell = money.nth(place)
            assert cell.evaluate("e => e.scrollWidth <= e.clientWidth")
            assert height_of(cell) < (30 * lines if width > 1088 else 30)


@pytest.mark.parametrize("option", ["--html", "--csv"])
def test_a_report_replaces_no_device_and_no_link(rig: Rig, option: str) -> None:
    """The audit does not write its report over a pipe, and writes through a symbolic link."""
    pipe, link, kept = (rig.folder / name for name in ("pipe", "link", "report"))
    os.mkfifo(pipe)
    link.symlink_to(kept)
    kept.write_text("before")
    refused = rig.command("audit", option, str(pipe))
    assert (refused.returncode, pipe.is_fifo()) == (2, True)
    assert "is not a regular file; - writes to standard output" in " ".join(
        re.sub("[│╭╮╰╯─]", " ", refused.stderr).split()
    )
    assert rig.command("audit", option, str(link)).returncode == 0
    assert link.is_symlink()
    assert kept.read_text() != "before"


@pytest.mark.parametrize("option", ["--html", "--csv"])
def test_a_report_with_an_impossible_name(rig: Rig, option: str) -> None:
    """A file name that is too long is refused with an error message, without a traceback."""
    refused = rig.command("audit", option, f"/{'a' * 5_000}")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "File name too long" in " ".join(re.sub("[│╭╮╰╯─]", " ", refused.stderr).split())
