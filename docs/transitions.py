"""Puts the diagram of a payment's conditions into docs/works.md: ``python -m docs.transitions``.

It is built from the table in `syncd.core.rules.transitions`; a test compares the two.
"""

from pathlib import Path

from syncd.core.rules.transitions import diagram

DOCUMENT = Path(__file__).with_name("works.md")
MARKS = (
    "<!-- Built by `python -m docs.transitions`. Do not edit. -->\n",
    "<!-- End of what is built. -->\n",
)


def block() -> str:
    """The diagram with its marks, as it is in the document."""
    return f"{MARKS[0]}\n```mermaid\n{diagram()}```\n\n{MARKS[1]}"


def main() -> None:
    """Replace the diagram in the document."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    DOCUMENT.write_text(before + block() + after)


if __name__ == "__main__":
    main()
