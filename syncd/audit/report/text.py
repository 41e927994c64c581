"""An audit on a terminal: one block per difference; ids, links and amounts are never broken.

Texts from outside cannot move the cursor.
"""

import textwrap
from collections.abc import Callable, Iterator, Sequence

from syncd.audit.differences import Consequence, Difference
from syncd.audit.report.export import Links
from syncd.audit.report.words import (
    ELSEWHERE_WORDS,
    elsewhere_count,
    elsewhere_money,
    fix_command,
    fix_words,
    invoices_of,
    state_of,
    tied,
)
from syncd.audit.summary import (
    Audit,
    Total,
    counts,
    first_paragraph,
    totals_by_currency,
    totals_by_customer,
)
from syncd.text.sanitize import inert
from syncd.text.timestamps import day
from syncd.text.wording import counted

DIFFERENCES_MAX = 500
"""How many differences are printed; files contain all of them."""

CUSTOMERS_MAX = 50
"""How many customers are printed with their sums."""

ELSEWHERE_MAX = 10
"""How many payments that are not Halo's are printed."""

WIDTH_MAX = 110
"""The maximum line length in characters; longer lines are hard to read."""

CONSEQUENCES = {
    Consequence.NOT_COUNTED: "paid at Stripe but not in Halo",
    Consequence.NOT_PAID: "paid in Halo but not at Stripe",
    Consequence.PAID_TOO_MUCH: "paid too much",
}
"""The sums by their meaning, for people."""

_GAP = "  "
_TIE = "\N{NO-BREAK SPACE}"
"""The space between an amount and its currency; `inert` removes all other such spaces."""


def lines(audit: Audit, places: Links, width: int, bold: Callable[[str], str]) -> Iterator[str]:
    """The whole report, line by line.

    Args:
        audit: the audit.
        places: builds the links.
        width: of the terminal, in characters.
        bold: prints a heading in bold.
    """
    width = min(width, WIDTH_MAX)
    yield from _wrapped(first_paragraph(audit), width)
    yield from _wrapped(counts(audit), width)
    yield from _totals("By currency", totals_by_currency(audit.findings), width, bold)
    customers = totals_by_customer(audit.findings)
    if customers:
        yield from _totals("By customer", customers[:CUSTOMERS_MAX], width, bold, named=True)
    if len(customers) > CUSTOMERS_MAX:
        yield f"  {len(customers) - CUSTOMERS_MAX:,} more: see --json, --csv or --html."
    for number, one in enumerate(audit.findings[:DIFFERENCES_MAX], start=1):
        yield from _difference(number, one, places, width, bold)
    left = len(audit.findings) - DIFFERENCES_MAX
    if left > 0:
        yield ""
        yield f"{left:,} more: see --json, --csv or --html."
    if audit.agreeing:
        yield from _agreeing(audit, width, bold)
    if audit.elsewhere:
        yield from _elsewhere(audit, width, bold)
    if audit.notes or audit.fix:
        yield ""
    for note in audit.notes:
        yield from _wrapped(f"Not compared: {note}", width)
    if audit.fix is not None:
        yield from _wrapped(fix_words(audit.fix), width)
        if fix_command(audit.fix):
            yield f"  {inert(fix_command(audit.fix))}"


def _totals(
    heading: str,
    totals: Sequence[Total],
    width: int,
    bold: Callable[[str], str],
    *,
    named: bool = False,
) -> Iterator[str]:
    if not totals:
        return
    yield ""
    yield bold(heading)
    for one in totals:
        parts = [
            f"{one.money(key)} {words}" for key, words in CONSEQUENCES.items() if one.money(key)
        ]
        if one.unknown:
            parts.append(f"{one.unknown} of unknown amount")
        name = (one.customer or "Customer not known") if named else (one.currency or "Unknown")
        number = counted(one.count, "difference")
        yield from _wrapped(f"{name}: {'; '.join([number, *parts])}", width, "  ", "    ")


def _difference(
    number: int, one: Difference, places: Links, width: int, bold: Callable[[str], str]
) -> Iterator[str]:
    yield ""
    head = f"{number}. {one.customer or 'Customer not known'}"
    cells = filter(None, [head, *_invoice_cells(one), day(one.made)])
    yield from map(bold, _wrapped(_GAP.join(cells), width, "", "   "))
    yield from _filled([one.title], width, "   ")
    amounts = [
        ("At Stripe: ", one.stripe_money),
        ("In Halo: ", one.halo_money),
        ("Difference: ", one.off_money),
    ]
    yield from _filled([f"{label}{money}" for label, money in amounts if money], width, "   ")
    yield from _wrapped(one.text, width, "   ")
    if one.action:
        yield from _wrapped(f"To do: {one.action}", width, "   ")
    if one.command:
        yield f"     {inert(one.command)}"
    stripe, halo = places.links(one)
    # Each id and each link is on a line of its own, so that it can be copied.
    for line in [*stripe, *(p for p in one.payments if not places.stripe(p)), *halo]:
        yield f"   {inert(line)}"


def _invoice_cells(one: Difference) -> list[str]:
    if not one.invoices:
        return []
    return [f"{'invoice' if len(one.invoices) == 1 else 'invoices'} {invoices_of(one)}"]


def _agreeing(audit: Audit, width: int, bold: Callable[[str], str]) -> Iterator[str]:
    yield ""
    yield bold(f"Stripe and Halo agree: {counted(len(audit.agreeing), 'payment')}")
    for one in audit.agreeing[:DIFFERENCES_MAX]:
        cells = [
            one.payments[0],
            one.stripe_money,
            invoices_of(one),
            day(one.made),
            one.customer or "",
            state_of(one.at_stripe),
            *one.details,
        ]
        yield from _filled(cells, width, "  ")
    if len(audit.agreeing) > DIFFERENCES_MAX:
        yield f"  {len(audit.agreeing) - DIFFERENCES_MAX:,} more: see --json, --csv or --html."


def _elsewhere(audit: Audit, width: int, bold: Callable[[str], str]) -> Iterator[str]:
    number = elsewhere_count(audit)
    yield ""
    head = f"{audit.elsewhere[0].title}: {counted(number, 'payment')}, {elsewhere_money(audit)}"
    yield from map(bold, _wrapped(head, width))
    yield from _wrapped(ELSEWHERE_WORDS, width, "  ")
    shown = audit.elsewhere[:ELSEWHERE_MAX]
    for one in shown:
        yield from _filled([one.payments[0], one.stake, day(one.made), one.text], width, "  ")
    if number > len(shown):
        yield f"  {number - len(shown):,} more: see --json, or --csv and --html with --all."


def _filled(cells: Sequence[str], width: int, indent: str) -> Iterator[str]:
    """Cells side by side; a cell that does not fit begins a new line. No cell is broken."""
    line = ""
    for cell in filter(None, map(inert, cells)):
        if line and len(line) + len(_GAP) + len(cell) > width:
            yield line
            line = f"{indent}{_GAP}{cell}"
        else:
            line = f"{line}{_GAP}{cell}" if line else f"{indent}{cell}"
    if line:
        yield line


def _wrapped(text: str, width: int, indent: str = "", later: str | None = None) -> Iterator[str]:
    bound = tied(inert(text))
    for line in textwrap.wrap(
        bound,
        width,
        initial_indent=indent,
        subsequent_indent=indent if later is None else later,
        break_long_words=False,
        break_on_hyphens=False,
    ):
        yield line.replace(_TIE, " ")
