"""An audit for people and programs: JSON, CSV, and its words, which the page and the terminal share.

Everything in it may come from outside; in CSV a text that a spreadsheet would take for a formula is
defused.
"""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from syncd.audit.findings import Audit, Finding, Fix, Sum
from syncd.text.links import halo_invoice, stripe_payment
from syncd.text.timestamps import day_or_minute, iso, iso_or_none
from syncd.text.wording import counted

COLUMNS = (
    "difference", "acknowledged", "payment", "invoice", "invoice_id", "rows", "made", "at_stripe",
    "in_halo", "amount", "currency", "text", "stripe_link", "halo_link",
)  # fmt: skip

RETRY_IDS_MAX = 5
"""Ids that are named in a command to be typed."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the links lead.

    Attributes:
        halo_url: the tenant's address.
        test: whether it is Stripe's test data.
        account: ``acct_…`` of a connected account, else empty.
    """

    halo_url: str
    test: bool
    account: str

    def stripe(self, payment: str) -> str:
        """A payment in Stripe's dashboard; empty for what is none."""
        if not payment.startswith("pi_"):
            return ""
        return stripe_payment(payment, test=self.test, account=self.account)

    def halo(self, finding: Finding) -> str:
        """The invoice in Halo; empty where none is known."""
        return "" if finding.invoice_id is None else halo_invoice(self.halo_url, finding.invoice_id)


# --- for programs --------------------------------------------------------------------------------


def as_json(audit: Audit, places: Places) -> str:
    """The whole audit. Amounts are texts, so that no reader rounds them."""
    listed = sum(one.count for one in audit.elsewhere_sums)
    return json.dumps(
        {
            "since": iso(audit.since), "until": iso(audit.until), "payments": audit.payments,
            "agree": audit.agree, "differ": audit.differ, "acknowledged": audit.acknowledged,
            "not_halos": audit.not_halos, "rows": audit.rows,
            "invoices": audit.invoices,
            "differences": [_finding(one, places) for one in audit.findings],
            "sums": [_sum(one) for one in audit.sums],
            "elsewhere": {
                "sums": [_sum(one) for one in audit.elsewhere_sums],
                "payments": [_finding(one, places) for one in audit.elsewhere],
                "left_out": listed - len(audit.elsewhere),
            },
            "notes": list(audit.notes),
            "made_due": [] if audit.fix is None else list(audit.fix.due),
            "fix": None if audit.fix is None else {
                "made_due": list(audit.fix.due), "on_attention_list": list(audit.fix.listed),
                "dismissed": list(audit.fix.dismissed), "need_a_person": audit.fix.left,
            },
        },
        indent=2,
    )  # fmt: skip


def write_csv(audit: Audit, places: Places, to: TextIO) -> None:
    """The differences, then what isn't Halo's, one a line, with a heading."""
    writer = csv.writer(to)
    writer.writerow(COLUMNS)
    for one in (*audit.findings, *audit.elsewhere):
        values = {
            **_finding(one, places),
            "acknowledged": "yes" if one.acknowledged else "",
            "payment": " ".join(one.payments),
            "rows": " ".join(map(str, one.rows)),
            "stripe_link": " ".join(filter(None, map(places.stripe, one.payments))),
        }
        writer.writerow([_cell(values[column]) for column in COLUMNS])


def _finding(one: Finding, places: Places) -> dict[str, Any]:
    links = [link for payment in one.payments if (link := places.stripe(payment))]
    return {
        "difference": str(one.kind), "acknowledged": one.acknowledged, "payment": one.intent_id,
        "payments": list(one.payments), "invoice": one.invoice_number,
        "invoice_id": one.invoice_id, "rows": list(one.rows), "made": iso_or_none(one.made),
        "at_stripe": one.at_stripe, "in_halo": one.in_halo,
        "amount": None if one.amount is None else f"{one.amount:f}", "currency": one.currency,
        "text": one.text, "pushable": one.pushable,
        "stripe_link": links[0] if one.intent_id is not None and links else None,
        "stripe_links": links, "halo_link": places.halo(one) or None,
    }  # fmt: skip


def _sum(one: Sum) -> dict[str, Any]:
    return {
        "difference": str(one.kind), "acknowledged": one.acknowledged, "currency": one.currency,
        "count": one.count, "amount": f"{one.amount:f}", "of_unknown_amount": one.unknown,
    }  # fmt: skip


def _cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula; a plain number may begin with a minus."""
    text = "" if value is None else "".join(c if c.isprintable() else " " for c in str(value))
    if text.lstrip()[:1] in ("=", "+", "-", "@") and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


# --- for people ----------------------------------------------------------------------------------


def summary(audit: Audit) -> str:
    """The audit in one sentence, whose numbers add up."""
    waiting = audit.payments - sum((audit.agree, audit.differ, audit.acknowledged, audit.not_halos))
    parts = [
        f"{audit.agree:,} {'agrees' if audit.agree == 1 else 'agree'}",
        f"{audit.differ:,} {'differs' if audit.differ == 1 else 'differ'}" if audit.differ else "",
        f"{audit.acknowledged:,} acknowledged" if audit.acknowledged else "",
        f"{audit.not_halos:,} {'isn' if audit.not_halos == 1 else 'aren'}'t Halo's"
        if audit.not_halos
        else "",
        f"{waiting:,} not begun" if waiting else "",
    ]
    end = (
        f"That makes {counted(audit.open, 'difference')}"
        if audit.open
        else "There is no difference"
    )
    return (
        f"{counted(audit.payments, 'payment')} since {day_or_minute(audit.since)}: "
        f"{', '.join(filter(None, parts))}. {end}."
    )


def fix_words(fix: Fix) -> str:
    """What came of --fix, in one sentence: also that nothing could be done."""
    parts = []
    if fix.due:
        it = "it" if len(fix.due) == 1 else "them"
        parts.append(f"{counted(len(fix.due), 'payment')} made due: the next push takes {it}")
    if fix.listed:
        stands = "stands" if len(fix.listed) == 1 else "stand"
        parts.append(
            f"{counted(len(fix.listed), 'payment')} {stands} on the attention list (syncd attention "
            "retry, once it was put right)"
        )
    if fix.dismissed:
        was = "was" if len(fix.dismissed) == 1 else "were"
        parts.append(f"{len(fix.dismissed):,} {was} dismissed by a person, and left alone")
    if fix.left:
        parts.append(
            f"{counted(fix.left, 'difference')} {'needs' if fix.left == 1 else 'need'} a person"
        )
    return f"--fix: {'; '.join(parts) or 'there was nothing to put right'}."


def fix_command(fix: Fix) -> str:
    """What has the payments on the attention list tried again; empty where there is none."""
    more = " …" if len(fix.listed) > RETRY_IDS_MAX else ""
    ids = " ".join(fix.listed[:RETRY_IDS_MAX])
    return f"syncd attention retry {ids}{more}" if ids else ""


def grouped(findings: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """The findings under their headings, in the report's order."""
    groups: dict[str, list[Finding]] = {}
    for one in findings:
        groups.setdefault(one.title, []).append(one)
    return list(groups.items())


def stakes(title: str, added: Sequence[Sum]) -> str:
    """What stands at stake under a heading, by currency."""
    return "; ".join(one.stake for one in added if one.title == title and one.stake)


def invoice_of(finding: Finding) -> str:
    """What to call the invoice: its number, else Halo's id of it."""
    if finding.invoice_number is not None:
        return finding.invoice_number
    return "" if finding.invoice_id is None else f"id {finding.invoice_id}"


def said(words: str) -> str:
    """What a side says, for people."""
    return words.replace("_", " ")


def not_listed(audit: Audit) -> int:
    """How many payments that aren't Halo's are only in the sums."""
    return sum(one.count for one in audit.elsewhere_sums) - len(audit.elsewhere)


ELSEWHERE_WORDS = (
    "Money that came in at Stripe and has no row in Halo; nothing in it names an invoice of Halo's. "
    "It counts as no difference. Look whether one should have had a row."
)
"""What payments that aren't Halo's are, for people."""
