"""Writes an audit for programs and spreadsheets, as JSON and CSV, with links.

All texts may come from outside. In CSV, a text that a spreadsheet would read as a formula is
escaped.
"""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TextIO

from syncd.audit.differences import Difference, InvoiceName, with_decimals
from syncd.audit.summary import (
    Audit,
    Sum,
    Total,
    first_paragraph,
    totals_by_currency,
    totals_by_customer,
)
from syncd.text.links import halo_invoice, stripe_payment
from syncd.text.timestamps import day, iso, iso_or_none

COLUMNS = (
    "Line",
    "Customer",
    "Invoice",
    "Payment date",
    "At Stripe",
    "In Halo",
    "Difference",
    "Currency",
    "Currency in Halo",
    "What differs",
    "What it means",
    "What to do",
    "Command",
    "Status at Stripe",
    "Status in Halo",
    "Acknowledged",
    "Payment",
    "Invoice id",
    "Row id",
)
"""The columns of the CSV file before the links."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Links:
    """Builds the links to Stripe and Halo.

    Attributes:
        halo_url: the tenant's address.
        test: whether the links lead to Stripe's test data.
        account: ``acct_…`` of a connected account, else empty.
    """

    halo_url: str
    test: bool
    account: str

    def stripe(self, payment: str) -> str:
        """The link to a payment in Stripe's dashboard; empty if `payment` is not a payment intent."""
        if not payment.startswith("pi_"):
            return ""
        return stripe_payment(payment, test=self.test, account=self.account)

    def halo(self, invoice: InvoiceName) -> str:
        """The link to an invoice in Halo."""
        return halo_invoice(self.halo_url, invoice.id)

    def links(self, one: Difference) -> tuple[list[str], list[str]]:
        """All links of a difference: to Stripe, and to Halo."""
        stripe = [link for payment in one.payments if (link := self.stripe(payment))]
        return stripe, [self.halo(invoice) for invoice in one.invoices]


# --- JSON ----------------------------------------------------------------------------------------


def as_json(audit: Audit, places: Links) -> str:
    """The whole audit as JSON. Amounts are texts, so that no reader rounds them."""
    listed = sum(one.count for one in audit.elsewhere_sums)
    return json.dumps(
        {
            "since": iso(audit.since),
            "until": iso(audit.until),
            "summary": first_paragraph(audit),
            "payments": audit.payments,
            "compared": audit.compared,
            "agree": audit.agree,
            "differ": audit.differ,
            "acknowledged": audit.acknowledged,
            "not_halos": audit.not_halos,
            "rows": audit.rows,
            "invoices": audit.invoices,
            "differences": [_difference(one, places) for one in audit.findings],
            "sums": [_sum(one) for one in audit.sums],
            "by_customer": [_total(one) for one in totals_by_customer(audit.findings)],
            "by_currency": [_total(one) for one in totals_by_currency(audit.findings)],
            "agreeing": [_difference(one, places) for one in audit.agreeing],
            "elsewhere": {
                "sums": [_sum(one) for one in audit.elsewhere_sums],
                "payments": [_difference(one, places) for one in audit.elsewhere],
                "left_out": listed - len(audit.elsewhere),
            },
            "notes": list(audit.notes),
            "made_due": [] if audit.fix is None else list(audit.fix.due),
            "fix": None
            if audit.fix is None
            else {
                "made_due": list(audit.fix.due),
                "on_attention_list": list(audit.fix.listed),
                "dismissed": list(audit.fix.dismissed),
                "need_a_person": audit.fix.left,
            },
        },
        indent=2,
    )


def _difference(one: Difference, places: Links) -> dict[str, Any]:
    stripe, halo = places.links(one)
    only = one.invoices[0] if len(one.invoices) == 1 else None
    return {
        "difference": str(one.kind),
        "acknowledged": one.acknowledged,
        "customer": one.customer,
        "payment": one.intent_id,
        "payments": list(one.payments),
        "invoice": only.number if only else None,
        "invoice_id": only.id if only else None,
        "invoices": [
            {"id": name.id, "number": name.number, "link": places.halo(name)}
            for name in one.invoices
        ],
        "rows": list(one.rows),
        "made": iso_or_none(one.made),
        "at_stripe": one.at_stripe,
        "in_halo": one.in_halo,
        "stripe_amount": _exact(one.stripe_amount),
        "halo_amount": _exact(one.halo_amount),
        "halo_less_stripe": _exact(one.off),
        "amount": _exact(one.amount),
        "currency": one.currency,
        "halo_currency": one.halo_currency or one.currency,
        "text": one.text,
        "meaning": one.meaning,
        "action": one.action,
        "command": one.command or None,
        "pushable": one.pushable,
        "stripe_link": stripe[0] if one.intent_id is not None and stripe else None,
        "stripe_links": stripe,
        "halo_link": halo[0] if len(halo) == 1 else None,
        "halo_links": halo,
    }


def _sum(one: Sum) -> dict[str, Any]:
    return {
        "difference": str(one.kind),
        "acknowledged": one.acknowledged,
        "currency": one.currency,
        "count": one.count,
        "amount": f"{one.amount:f}",
        "of_unknown_amount": one.unknown,
    }


def _total(one: Total) -> dict[str, Any]:
    amounts = {str(key): f"{value:f}" for key, value in sorted(one.amounts.items())}
    return {
        "customer": one.customer,
        "currency": one.currency,
        "count": one.count,
        "amounts": amounts,
        "of_unknown_amount": one.unknown,
    }


def _exact(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


# --- CSV -----------------------------------------------------------------------------------------


def write_csv(audit: Audit, places: Links, to: TextIO, *, everything: bool = False) -> None:
    """Write the differences as CSV, one per line, with a heading; a cell holds at most one link.

    Args:
        audit: the audit.
        places: builds the links.
        to: the file to write to.
        everything: whether payments without a difference follow.
    """
    listed = [*audit.findings, *(() if not everything else (*audit.agreeing, *audit.elsewhere))]
    links = [places.links(one) for one in listed]
    most_stripe = max((len(stripe) for stripe, _ in links), default=1) or 1
    most_halo = max((len(halo) for _, halo in links), default=1) or 1
    writer = csv.writer(to)
    writer.writerow(
        (*COLUMNS, *_numbered("Link to Stripe", most_stripe), *_numbered("Link to Halo", most_halo))
    )
    for number, (one, (stripe, halo)) in enumerate(zip(listed, links, strict=True), start=1):
        cells: list[object] = [
            number,
            one.customer,
            ", ".join(name.number or "" for name in one.invoices).strip(", "),
            day(one.made),
            _number(one.stripe_amount, one.currency),
            _number(one.halo_amount, one.halo_currency or one.currency),
            _number(one.off, one.currency),
            one.currency,
            one.halo_currency or (one.currency if one.halo_amount is not None else ""),
            one.title,
            one.text,
            re.sub(":$", ".", one.action),  # the command is in the next cell
            one.command,
            one.at_stripe.replace("_", " "),
            one.in_halo.replace("_", " "),
            "yes" if one.acknowledged else "",
            " ".join(one.payments),
            " ".join(str(name.id) for name in one.invoices),
            " ".join(map(str, one.rows)),
        ]
        cells += [*_filled(stripe, most_stripe), *_filled(halo, most_halo)]
        writer.writerow([_cell(cell) for cell in cells])


def _numbered(name: str, number: int) -> list[str]:
    return [name, *(f"{name} {place}" for place in range(2, number + 1))]


def _filled(links: Sequence[str], number: int) -> list[str]:
    return [*links, *[""] * (number - len(links))]


def _number(amount: Decimal | None, currency: str | None) -> str:
    """An amount as spreadsheets read numbers: the currency's decimals, no thousands separator."""
    return "" if amount is None else f"{with_decimals(amount, currency):f}"


def _cell(value: object) -> str:
    """A cell that no spreadsheet reads as a formula; a plain number may begin with a minus."""
    text = "" if value is None else "".join(c if c.isprintable() else " " for c in str(value))
    if text.lstrip()[:1] in _BEGINS_FORMULA and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


_BEGINS_FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001  # spreadsheets take the wide forms as well
