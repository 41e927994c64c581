"""An audit as one page of HTML that needs nothing else: it may be mailed, printed and kept.

Everything in it may come from outside: the template escapes all of it, and the page's own policy
lets a browser fetch and run nothing.
"""

import base64
import hashlib
from pathlib import Path

from syncd.audit.findings import Audit
from syncd.audit.report import (
    ELSEWHERE_WORDS,
    Places,
    fix_command,
    fix_words,
    grouped,
    invoice_of,
    not_listed,
    said,
    stakes,
    summary,
)
from syncd.text.timestamps import day, day_or_minute
from syncd.text.wording import counted

_TEMPLATES = Path(__file__).parent / "templates"


def as_html(audit: Audit, places: Places) -> str:
    """The whole audit."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # few audits need it

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals |= {"counted": counted, "day": day, "day_or_minute": day_or_minute, "said": said,
                     "invoice_of": invoice_of, "stakes": stakes}  # fmt: skip
    css = (_TEMPLATES / "audit.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return made.get_template("audit.html").render(
        audit=audit,
        places=places,
        css=css,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        summary=summary(audit),
        groups=grouped(audit.findings),
        elsewhere_words=ELSEWHERE_WORDS,
        not_listed=not_listed(audit),
        fix_words=None if audit.fix is None else fix_words(audit.fix),
        fix_command=None if audit.fix is None else fix_command(audit.fix),
    )
