"""Sentences about an audit, shared by the page and the terminal."""

import re

from syncd.audit.differences import Difference
from syncd.audit.summary import Audit, Fix
from syncd.text.wording import counted

_AMOUNT = re.compile(r"(?<=\d) (?=[A-Z]{3,4}\b)")

RETRY_IDS_MAX = 5
"""How many ids a command to be pasted contains."""

ELSEWHERE_WORDS = (
    "Stripe received this money, but Halo has no row for it, and its metadata names "
    "no Halo invoice. syncd does not count the payment as a difference. Check "
    "whether a payment belongs to an invoice."
)
"""What payments that are not Halo's are, for people."""


def fix_words(fix: Fix) -> str:
    """The result of --fix, in one sentence, also if nothing could be done."""
    parts = []
    if fix.due:
        it = "it" if len(fix.due) == 1 else "them"
        parts.append(f"{counted(len(fix.due), 'payment')} made due: the next push includes {it}")
    if fix.listed:
        is_ = "is" if len(fix.listed) == 1 else "are"
        parts.append(
            f"{counted(len(fix.listed), 'payment')} {is_} on the attention list: correct what the "
            "list names, then retry"
        )
    if fix.dismissed:
        was = "was" if len(fix.dismissed) == 1 else "were"
        parts.append(f"{len(fix.dismissed):,} {was} dismissed by a person and left alone")
    if fix.left:
        parts.append(
            f"{counted(fix.left, 'difference')} {'needs' if fix.left == 1 else 'need'} a person"
        )
    return f"--fix: {'; '.join(parts) or 'there was nothing to correct'}."


def fix_command(fix: Fix) -> str:
    """The command that retries the payments on the attention list; empty without any."""
    more = " …" if len(fix.listed) > RETRY_IDS_MAX else ""
    ids = " ".join(fix.listed[:RETRY_IDS_MAX])
    return f"syncd attention retry {ids}{more}" if ids else ""


def tied(text: str) -> str:
    """The text with a no-break space between each amount and its currency."""
    return _AMOUNT.sub("\N{NO-BREAK SPACE}", text)


def invoices_of(difference: Difference) -> str:
    """The invoices of a difference: their numbers as people use them, else Halo's ids."""
    return ", ".join(map(str, difference.invoices))


def state_of(words: str) -> str:
    """The state on one side, for people."""
    return words.replace("_", " ")


def elsewhere_count(audit: Audit) -> int:
    """How many payments are not Halo's, listed or not."""
    return sum(one.count for one in audit.elsewhere_sums)


def elsewhere_money(audit: Audit) -> str:
    """The sums of the payments that are not Halo's, by currency."""
    return "; ".join(one.stake for one in audit.elsewhere_sums if one.stake)
