"""Writes the codes of the attention list into docs/operate.md: ``python -m docs.holds``.

The text comes from the registry in `syncd.core.holds`; a test checks that the document has it.
"""

import re
from pathlib import Path

from syncd.core.holds import HOLDS, HoldCode, HoldEntry, LiftedBy, command_for, remedy_for

DOCUMENT = Path(__file__).parent / "operate.md"

BEGIN = "<!-- Begin: written by docs/holds.py from syncd/core/holds.py. -->"
END = "<!-- End -->"


_CAUSES = {
    LiftedBy.ROW_FOUND: "the daily sweep finds a row of the payment in Halo",
    LiftedBy.ROW_FOUND_UNCOMPARED: "the daily sweep finds a row whose amount is not compared",
    LiftedBy.INTENT_READ: "syncd can read the payment intent",
    LiftedBy.AUTOMATIC_RETRY: "Halo accepts the row at an automatic retry",
}

_EXAMPLES = {
    HoldCode.REFUNDED: "re_123",
    HoldCode.DISPUTED: "du_123",
    HoldCode.UNREADABLE: "evt_123",
    HoldCode.ROWS_UNLISTED: "pi_123_rows",
    HoldCode.REVERSALS_UNKNOWN: "refunds_unknown",
}


def section() -> str:
    """The explanation of every code, as Markdown."""
    parts = [part for code, entry in HOLDS.items() for part in _part(code, entry)]
    return "\n\n".join([BEGIN, *parts, END])


def _part(code: HoldCode, entry: HoldEntry) -> list[str]:
    name = _EXAMPLES.get(code, "pi_123")
    command = command_for(code, name)
    paragraphs = [
        f"### `{code}`",
        f"**{entry.title}.** {entry.meaning}",
        f"{entry.effect} {remedy_for(code, name)} Then run `{command}`.",
    ]
    keys = [f"`{cause}`" for cause in LiftedBy if cause in entry.lifted_by and cause.is_config_key]
    causes = [_CAUSES[cause] for cause in LiftedBy if cause in entry.lifted_by & _CAUSES.keys()]
    if keys:
        causes.insert(0, f"{' or '.join(keys)} changes and the service is reloaded")
    if causes:
        paragraphs.append(f"The hold ends without you when {', or '.join(causes)}.")
    return paragraphs


def updated(text: str) -> str:
    """A document with its section written anew."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: section(), text)


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text("utf-8")), "utf-8")
