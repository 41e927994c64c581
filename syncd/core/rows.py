"""Rows (invoice payments of the PSA) and invoices: as read, as written, and as the store keeps them.

The short form lets a person find the row and its invoice in Halo. syncd decides nothing by it: each
push reads the rows afresh. Does not belong here: how Halo's JSON is parsed (`clients.halo.parse`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

SEEN_MAX = 20
"""How many rows of one payment are kept for people; nobody looks up more by hand."""


@dataclass(frozen=True, slots=True)
class Row:
    """One of Halo's invoice payments, as far as deciding needs it.

    Attributes:
        id: Halo's number of the row; None where it could not be read.
        intent_id: the payment intent it belongs to; None where it belongs to none.
        invoice_id: Halo's number of the invoice; None where it could not be read.
        amount: in major units; None where it could not be read.
        status: the tenant's number; None where it has none.
        made: Unix seconds of its intent's date, else its own; None where neither could be read.
        invoice_number: what people call the invoice; None where it could not be read.
        customer: the name of the customer; None where it could not be read.
        fields: the PSA's own names and values, where the row was just read; only the PSA's client
            reads them. They take no part in comparing two rows.
    """

    id: int | None
    intent_id: str | None
    invoice_id: int | None
    amount: Decimal | None
    status: int | None
    made: int | None = None
    invoice_number: str | None = None
    customer: str | None = None
    fields: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RowPage:
    """One page of a listing of rows.

    Attributes:
        rows: what is on the page, unfiltered.
        total: how many rows there are in all; None where the PSA does not count them.
    """

    rows: tuple[Row, ...]
    total: int | None


@dataclass(frozen=True, slots=True)
class Trace:
    """What a webhook would have left in the row.

    Attributes:
        payload: Stripe's object as JSON, without secrets.
        received: when syncd writes it, Unix seconds.
    """

    payload: str
    received: float


@dataclass(frozen=True, slots=True)
class WholeRow:
    """A row with every field that the PSA showed of it.

    Attributes:
        row: the row, as far as deciding needs it.
        fields: the PSA's own names and values; only the PSA's client reads them.
        alone: whether the row was read alone; else it was read from a list.
    """

    row: Row
    fields: Mapping[str, Any]
    alone: bool = True

    def is_of(self, intent_id: str) -> bool:
        """Whether the row is still the payment's: a row read alone shows the payment intent.

        What a row without it holds must not be sent back: it may have been emptied.
        """
        return not self.alone or self.row.intent_id == intent_id


@dataclass(frozen=True, slots=True)
class RowChange:
    """A new status for one row.

    Attributes:
        id: the row's number in the PSA.
        status: the tenant's status number.
        trace: what to leave in the row; None leaves the row's trace as it is.
        kept: the row as it was read; the update sends its required columns back as they were. None
            for an update that brings only the status and the trace.
        keep_all: whether to send back every column of `kept` that has a value.
    """

    id: int
    status: int
    trace: Trace | None = None
    kept: WholeRow | None = None
    keep_all: bool = False


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row to insert.

    Attributes:
        intent_id: ``pi_…``.
        invoice_id: the invoice's number in the PSA.
        amount: in major units.
        status: the tenant's status number.
        at: when the payment reached its state, Unix seconds.
        created: when the payment intent was made, Unix seconds; None where that is unknown.
        trace: what to leave in the row.
    """

    intent_id: str
    invoice_id: int
    amount: Decimal
    status: int
    at: int
    created: int | None = None
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What the PSA answered to a write.

    Attributes:
        rows: the rows that the answer lists. Only they prove anything.
        complaint: the PSA's message, where an answer of success lists no rows.
        error: whether the answer of success reports an error.
        web_page: whether the answer is a web page. Halo's API answers none: something in front of it
            did, and Halo may never have got the rows.
    """

    rows: tuple[Row, ...]
    complaint: str | None
    error: bool = False
    web_page: bool = False


class Guard(Protocol):
    """The final check before a write; a sink asks right before each request that writes."""

    def allows_sending(self) -> bool:
        """Whether the write is still wanted. False keeps the request from being sent."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of Halo's, as far as comparing needs it; what could not be read is None.

    Attributes:
        id: Halo's number of the invoice.
        number: what people call the invoice.
        total, due: major units.
        currency: three capital letters.
        customer: the name of the customer.
    """

    id: int
    number: str | None
    total: Decimal | None
    due: Decimal | None
    currency: str | None
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A row and its invoice, for people; unknown values are None.

    Attributes:
        id: Halo's number of the row; None also for one that isn't made yet.
        invoice_id: Halo's number of its invoice.
        invoice_number: what people call the invoice.
        customer: the name of the customer.
    """

    id: int | None
    invoice_id: int | None
    invoice_number: str | None = None
    customer: str | None = None


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
    return tuple(
        SeenRow(row.id, row.invoice_id, row.invoice_number, row.customer) for row in rows[:SEEN_MAX]
    )


def customers_of(rows: Iterable[SeenRow]) -> tuple[str, ...]:
    """The names of the customers whose rows these are, each once."""
    return tuple(dict.fromkeys(row.customer for row in rows if row.customer))


def invoices_of(rows: Iterable[SeenRow]) -> tuple[SeenInvoice, ...]:
    """The invoices that these rows pay, each once."""
    named = (SeenInvoice(row.invoice_id, row.invoice_number) for row in rows)
    return tuple(
        dict.fromkeys(one for one in named if one.id is not None or one.number is not None)
    )
