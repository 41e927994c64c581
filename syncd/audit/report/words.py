"""Sentences about an audit that the page and the terminal share."""

import re

from syncd.audit.differences import Difference
from syncd.audit.summary import Audit, Fix
from syncd.text.wording import counted

_AMOUNT = re.compile(r"(?<=\d) (?=[A-Z]{3,4}\b)")

RETRY_IDS_MAX = 5
"""Ids that are named in a command to be pasted."""

ELSEWHERE_WORDS = (
    "Stripe received this money, but Halo has no row for it and nothing names an invoice of Halo's. "
    "It does not count as a difference. Check whether a payment belongs to an invoice."
)
"""What payments that aren't Halo's are, for people."""


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
    """What has the payments on the attention list tried again; empty where there is none."""
    more = " …" if len(fix.listed) > RETRY_IDS_MAX else ""
    ids = " ".join(fix.listed[:RETRY_IDS_MAX])
    return f"syncd attention retry {ids}{more}" if ids else ""


def tied(text: str) -> str:
    """The same with a no-break space between each amount and its currency."""
    return _AMOUNT.sub("\N{NO-BREAK SPACE}", text)


def invoices_of(difference: Difference) -> str:
    """What to call its invoices: their numbers, else Halo's ids of them."""
    return ", ".join(map(str, difference.invoices))


def state_of(words: str) -> str:
    """What a side says, for people."""
    return words.replace("_", " ")


def elsewhere_count(audit: Audit) -> int:
    """How many payments aren't Halo's, listed or not."""
    return sum(one.count for one in audit.elsewhere_sums)


def elsewhere_money(audit: Audit) -> str:
    """What those come to, by currency."""
    return "; ".join(one.stake for one in audit.elsewhere_sums if one.stake)
