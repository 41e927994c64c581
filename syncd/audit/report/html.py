"""Writes an audit as one self-contained HTML page, which can be mailed, printed and archived.

All texts may come from outside: the template escapes them, and the page's content security policy
lets a browser load and run nothing.
"""

import base64
import hashlib
from pathlib import Path

from syncd.audit.differences import Difference
from syncd.audit.report.export import Links
from syncd.audit.report.text import CONSEQUENCES
from syncd.audit.report.words import (
    ELSEWHERE_WORDS,
    elsewhere_count,
    elsewhere_money,
    fix_command,
    fix_words,
    state_of,
    tied,
)
from syncd.audit.summary import (
    Audit,
    counts,
    first_paragraph,
    totals_by_currency,
    totals_by_customer,
)
from syncd.text.timestamps import day, day_or_minute
from syncd.text.wording import counted

ELSEWHERE_MAX = 50
"""How many payments that are not Halo's are shown, unless all were requested."""

_TEMPLATES = Path(__file__).parent / "templates"


def as_html(audit: Audit, places: Links, *, everything: bool = False) -> str:
    """The whole audit as HTML.

    Args:
        audit: the audit.
        places: builds the links.
        everything: whether payments without a difference are all shown.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # few audits need it

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "counted": counted,
        "day": day,
        "day_or_minute": day_or_minute,
        "state_of": state_of,
        "tied": tied,
        "consequences": {
            key: f"{words[0].upper()}{words[1:]}" for key, words in CONSEQUENCES.items()
        },
    }
    css = (_TEMPLATES / "audit.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    elsewhere = audit.elsewhere if everything else audit.elsewhere[:ELSEWHERE_MAX]
    return made.get_template("audit.html").render(
        audit=audit,
        places=places,
        css=css,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        summary=first_paragraph(audit),
        counts=counts(audit),
        by_currency=totals_by_currency(audit.findings),
        by_customer=totals_by_customer(audit.findings),
        tables=_tables(audit),
        elsewhere=elsewhere,
        elsewhere_words=ELSEWHERE_WORDS,
        elsewhere_money=elsewhere_money(audit),
        elsewhere_count=elsewhere_count(audit),
        fix_words=None if audit.fix is None else fix_words(audit.fix),
        fix_command=None if audit.fix is None else fix_command(audit.fix),
    )


def _tables(audit: Audit) -> list[tuple[str, list[Difference]]]:
    """The differences under their headings, without empty tables."""
    tables = [
        ("Differences", [one for one in audit.findings if not one.acknowledged]),
        ("Acknowledged", [one for one in audit.findings if one.acknowledged]),
        ("Stripe and Halo agree", list(audit.agreeing)),
    ]
    return [(heading, found) for heading, found in tables if found]
