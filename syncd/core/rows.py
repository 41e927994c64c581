"""Halo's rows of a payment as they were last seen: so that a person finds the row and the invoice.

Pure. What syncd itself goes by is read fresh each time; nothing is decided by what stands here.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from syncd.core.payments import Row

SEEN_MAX = 20
"""So many rows of one payment are kept; nobody looks up more by hand."""


@dataclass(frozen=True, slots=True)
class SeenRow:
    """Where a row stands in Halo; what isn't known is None.

    Attributes:
        id: Halo's number of the row; None also for one that isn't made yet.
        invoice_id: Halo's number of its invoice.
        invoice_number: what people call the invoice.
    """

    id: int | None
    invoice_id: int | None
    invoice_number: str | None = None


@dataclass(frozen=True, slots=True)
class SeenInvoice:
    """An invoice as people look it up.

    Attributes:
        id: Halo's number of it; None where only its name is known.
        number: what people call it; None where that isn't known.
    """

    id: int | None
    number: str | None

    @property
    def name(self) -> str:
        """What to call it: ``INV-1025``, else ``invoice 1025``."""
        return self.number or f"invoice {self.id}"


def seen(rows: Sequence[Row]) -> tuple[SeenRow, ...]:
    """What is kept of the rows that were read."""
    return tuple(SeenRow(row.id, row.invoice_id, row.invoice_number) for row in rows[:SEEN_MAX])


def seen_text(rows: Iterable[SeenRow]) -> str:
    """As it stands in its column: ``[[28, 1025, "INV-1025"]]``."""
    return json.dumps([[row.id, row.invoice_id, row.invoice_number] for row in rows])


def seen_of(text: str | None) -> tuple[SeenRow, ...]:
    """What was seen, out of its column."""
    return tuple(SeenRow(*row) for row in json.loads(text or "[]"))


def invoices_of(rows: Iterable[SeenRow]) -> tuple[SeenInvoice, ...]:
    """The invoices that these rows pay, each once."""
    named = (SeenInvoice(row.invoice_id, row.invoice_number) for row in rows)
    return tuple(
        dict.fromkeys(one for one in named if one.id is not None or one.number is not None)
    )
