"""An audit for people and programs: JSON, CSV and one page of HTML that can be mailed.

Everything in it may come from outside. In HTML all of it is escaped; in CSV a text that a
spreadsheet would take for a formula is defused.
"""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, TextIO

from syncd.audit import Audit
from syncd.comparing import TITLES, Finding, Sum
from syncd.links import halo_invoice, stripe_payment

COLUMNS = (
    "difference", "payment", "invoice", "invoice_id", "rows", "made", "at_stripe", "in_halo",
    "amount", "currency", "text", "stripe_link", "halo_link",
)  # fmt: skip

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

    def stripe(self, finding: Finding) -> str:
        """The payment in Stripe's dashboard; empty where there is none."""
        if finding.intent_id is None or not finding.intent_id.startswith("pi_"):
            return ""
        return stripe_payment(finding.intent_id, test=self.test, account=self.account)

    def halo(self, finding: Finding) -> str:
        """The invoice in Halo; empty where none is known."""
        return "" if finding.invoice_id is None else halo_invoice(self.halo_url, finding.invoice_id)


def as_json(audit: Audit, places: Places) -> str:
    """The whole audit. Amounts are texts, so that no reader rounds them."""
    return json.dumps(
        {
            "since": iso(audit.since), "until": iso(audit.until), "payments": audit.payments,
            "agree": audit.agree, "not_halos": audit.not_halos, "rows": audit.rows,
            "differences": [_finding(one, places) for one in audit.findings],
            "sums": [_sum(one) for one in audit.sums],
            "notes": list(audit.notes), "made_due": list(audit.due),
        },
        indent=2,
    )  # fmt: skip


def write_csv(audit: Audit, places: Places, to: TextIO) -> None:
    """The differences, one a line, with a heading."""
    writer = csv.writer(to)
    writer.writerow(COLUMNS)
    for one in audit.findings:
        values = {**_finding(one, places), "rows": " ".join(map(str, one.rows))}
        writer.writerow([_cell(values[column]) for column in COLUMNS])


def summary(audit: Audit) -> str:
    """The audit in one sentence."""
    differ = len(audit.findings)
    end = {0: "no difference", 1: "1 difference"}.get(differ, f"{differ} differences")
    whose = "isn't Halo's" if audit.not_halos == 1 else "aren't Halo's"
    return (
        f"{audit.payments} payments since {iso(audit.since)}: {audit.agree} agree, "
        f"{audit.not_halos} {whose}, {end}."
    )


def iso(seconds: float | None) -> str:
    """Unix seconds as people write time; empty for None."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def invoice_of(finding: Finding) -> str:
    """What to call the invoice: its number, else Halo's id of it."""
    if finding.invoice_number is not None:
        return finding.invoice_number
    return "" if finding.invoice_id is None else f"id {finding.invoice_id}"


def sum_of(one: Sum) -> str:
    """A sum for people; what has no known amount is named."""
    amount = f"{one.amount:f} {one.currency or '?'}" if one.count > one.unknown else ""
    unknown = f"{one.unknown} of unknown amount" if one.unknown else ""
    return ", ".join(part for part in (amount, unknown) if part)


def _finding(one: Finding, places: Places) -> dict[str, Any]:
    return {
        "difference": str(one.kind), "payment": one.intent_id, "invoice": one.invoice_number,
        "invoice_id": one.invoice_id, "rows": list(one.rows), "made": iso(one.made) or None,
        "at_stripe": one.at_stripe, "in_halo": one.in_halo,
        "amount": None if one.amount is None else f"{one.amount:f}", "currency": one.currency,
        "text": one.text, "pushable": one.pushable, "stripe_link": places.stripe(one) or None,
        "halo_link": places.halo(one) or None,
    }  # fmt: skip


def _sum(one: Sum) -> dict[str, Any]:
    return {
        "difference": str(one.kind), "currency": one.currency, "count": one.count,
        "amount": f"{one.amount:f}", "of_unknown_amount": one.unknown,
    }  # fmt: skip


def _cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula; a plain number may begin with a minus."""
    text = "" if value is None else "".join(c if c.isprintable() else " " for c in str(value))
    if text.lstrip()[:1] in ("=", "+", "-", "@") and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


# --- HTML ----------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --soft: #f3f5f8; --text: #1b2330; --link: #0b57c2; --bad: #a3271c; }
@media (prefers-color-scheme: dark) { :root { --line: #3a4250; --soft: #1d232d; --text: #e6eaf0; --link: #8ab8ff; --bad: #ff9a8f; } }
@media (prefers-color-scheme: dark) { body { background: #12161d; } }
body { color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .45rem .6rem; text-align: left; vertical-align: top; }
th { background: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:not(:last-child) { white-space: nowrap; } td.id { white-space: normal; min-width: 11rem; }
a { color: var(--link); } .id { font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere; }
.bad { color: var(--bad); font-weight: 600; } footer { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: .5rem; font-size: .85em; }
"""


def as_html(audit: Audit, places: Places) -> str:
    """One page that needs nothing else: it may be mailed, printed and kept."""
    well = not audit.findings
    parts = [
        "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="referrer" content="no-referrer">',
        f"<title>Stripe and Halo since {escape(iso(audit.since))}</title>",
        f"<style>{_STYLE}</style></head><body>", "<h1>Does Halo agree with Stripe?</h1>",
        f'<p{"" if well else _CLASS_BAD}>{escape(summary(audit))}</p>',
        f"<p>{escape(places.halo_url)}, "
        f"{'test' if places.test else 'live'} payments"
        f"{escape(' of ' + places.account) if places.account else ''}, read at {iso(audit.until)}.</p>",
    ]  # fmt: skip
    if audit.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in audit.notes)
        parts.append(f"<h2>Not compared</h2><ul>{notes}</ul>")
    if audit.due:
        parts.append(f"<p>{len(audit.due)} payments were made due; the next push takes them.</p>")
    if not well:
        parts += [_sums_html(audit), *_tables(audit, places)]
    parts.append(
        "<footer>Made by syncd audit, which changes nothing at Stripe or in Halo.</footer>"
    )
    return "\n".join([*parts, "</body></html>", ""])


_CLASS_BAD = ' class="bad"'


def _sums_html(audit: Audit) -> str:
    lines = "".join(
        f"<tr><td>{escape(TITLES[one.kind])}</td>"
        f'<td class="number">{one.count}</td><td class="number">{escape(sum_of(one))}</td></tr>'
        for one in audit.sums
    )
    head = (
        '<tr><th>Difference</th><th class="number">Number</th><th class="number">Amount</th></tr>'
    )
    return f"<h2>In sum</h2><table>{head}{lines}</table>"


def _tables(audit: Audit, places: Places) -> list[str]:
    groups: Mapping[str, list[Finding]] = {}
    groups = {title: [] for title in TITLES.values()}
    for one in audit.findings:
        groups[TITLES[one.kind]].append(one)
    head = (
        "<tr><th>Payment</th><th>Invoice</th><th>Made</th><th>Stripe</th><th>Halo</th>"
        '<th class="number">Amount</th><th>What it is</th></tr>'
    )
    return [
        f'<h2>{escape(title)}</h2><div class="wide"><table>{head}'
        + "".join(_line(one, places) for one in found)
        + "</table></div>"
        for title, found in groups.items()
        if found
    ]


def _line(one: Finding, places: Places) -> str:
    amount = "" if one.amount is None else f"{one.amount:f} {one.currency or '?'}"
    cells = [
        f'<td class="id">{_link(places.stripe(one), one.intent_id or "")}</td>',
        f"<td>{_link(places.halo(one), invoice_of(one))}</td>",
        f"<td>{escape(iso(one.made)[:10])}</td>", f"<td>{escape(one.at_stripe)}</td>",
        f"<td>{escape(one.in_halo)}</td>", f'<td class="number">{escape(amount)}</td>',
        f"<td>{escape(one.text)}</td>",
    ]  # fmt: skip
    return f"<tr>{''.join(cells)}</tr>"


def _link(url: str, text: str) -> str:
    if not url or not text:
        return escape(text)
    return f'<a href="{escape(url)}" rel="noopener noreferrer">{escape(text)}</a>'
