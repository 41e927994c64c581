"""An audit on a terminal: grouped by difference, ids and amounts whole at any width.

A line holds what belongs to one payment, as far as it fits; the sentence stands beneath it, wrapped
at words. Nothing here can move a cursor.
"""

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

from syncd.audit.findings import Audit, Finding, Sum
from syncd.audit.report import (
    ELSEWHERE_WORDS,
    fix_command,
    fix_words,
    grouped,
    invoice_of,
    not_listed,
    said,
    stakes,
    summary,
)
from syncd.text.sanitize import inert
from syncd.text.timestamps import day
from syncd.text.wording import counted

FINDINGS_MAX = 500
"""Differences that are printed; files hold them all."""

ELSEWHERE_MAX = 10
"""Payments that aren't Halo's and are printed."""

WIDTH_MAX = 110
"""Longer lines are hard to read."""

_GAP = "  "
_AMOUNT = re.compile(r"(?<=\d) (?=[A-Z]{3,4}\b)")
_TIE = "\N{NO-BREAK SPACE}"
"""Between an amount and its currency; `inert` lets no other one through."""


def lines(audit: Audit, width: int, bold: Callable[[str], str]) -> Iterator[str]:
    """The whole report, line by line.

    Args:
        audit: what was found.
        width: of the terminal, in characters.
        bold: what makes a heading stand out.
    """
    width = min(width, WIDTH_MAX)
    yield from _wrapped(summary(audit), width)
    yield from _sums(audit.sums, width, bold)
    for title, found in grouped(audit.findings[:FINDINGS_MAX]):
        yield ""
        yield bold(inert(title))
        for one in found:
            yield from _finding(one, width)
    left = len(audit.findings) - FINDINGS_MAX
    if left > 0:
        yield ""
        yield f"{left:,} more: see --json, --csv or --html."
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


def _sums(added: Sequence[Sum], width: int, bold: Callable[[str], str]) -> Iterator[str]:
    if not added:
        return
    yield ""
    yield bold("In sum")
    titles = max(len(one.title) for one in added)
    numbers = max(len(f"{one.count:,}") for one in added)
    for one in added:
        cells = [one.title.ljust(titles), f"{one.count:,}".rjust(numbers), one.stake]
        yield from _filled(cells, width, "  ")


def _finding(one: Finding, width: int) -> Iterator[str]:
    yield ""
    first, *more = one.payments or ("no payment of Stripe's",)
    # Several payments stand one beneath the other: each id can be copied by itself.
    yield from _filled([first, one.stake, invoice_of(one), day(one.made)], width, "  ")
    for payment in more:
        yield f"  {inert(payment)}"
    sides = [("Stripe: ", one.at_stripe), ("Halo: ", one.in_halo)]
    yield from _filled([f"{side}{said(words)}" for side, words in sides if words], width, "    ")
    yield from _wrapped(one.text, width, "    ")


def _elsewhere(audit: Audit, width: int, bold: Callable[[str], str]) -> Iterator[str]:
    title = audit.elsewhere[0].title
    number = len(audit.elsewhere) + not_listed(audit)
    yield ""
    yield bold(f"{title}: {counted(number, 'payment')}, {stakes(title, audit.elsewhere_sums)}")
    yield from _wrapped(ELSEWHERE_WORDS, width, "  ")
    shown = audit.elsewhere[:ELSEWHERE_MAX]
    for one in shown:
        yield from _filled([one.payments[0], one.stake, day(one.made), one.text], width, "  ")
    if number > len(shown):
        yield f"  {number - len(shown):,} more: see --json, --csv or --html."


def _filled(cells: Sequence[str], width: int, indent: str) -> Iterator[str]:
    """Cells side by side; one that doesn't fit any more begins a line. None is ever broken."""
    line = ""
    for cell in filter(None, map(inert, cells)):
        if line and len(line) + len(_GAP) + len(cell) > width:
            yield line
            line = f"{indent}{_GAP}{cell}"
        else:
            line = f"{line}{_GAP}{cell}" if line else f"{indent}{cell}"
    if line:
        yield line


def _wrapped(text: str, width: int, indent: str = "") -> Iterator[str]:
    bound = _AMOUNT.sub(_TIE, inert(text))
    for line in textwrap.wrap(
        bound, width, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    ):  # fmt: skip
        yield line.replace(_TIE, " ")
