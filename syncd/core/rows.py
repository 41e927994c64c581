"""Rows (invoice payments of the PSA) and invoices: as read, as written, and as stored.

The stored form (`SeenRow`) helps a person to find the row and its invoice in Halo. syncd never
decides by it: each push reads the rows again. Does not belong here: parsing of Halo's JSON
(`clients.halo.parse`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

SEEN_MAX = 20
"""How many rows of one payment the attention list shows at most."""


@dataclass(frozen=True, slots=True)
class Row:
    """One of Halo's invoice payments, with the values that decisions need.

    Attributes:
        id: Halo's number of the row; None if unreadable.
        intent_id: the payment intent in the row; None without one.
        invoice_id: Halo's number of the invoice; None if unreadable.
        amount: in major units; None if unreadable.
        status: the tenant's status number; None without one.
        made: Unix seconds of the payment intent's date, else of the row's date; None if unreadable.
        invoice_number: the invoice's number as people use it; None if unreadable.
        customer: the customer's name; None if unreadable.
        fields: the PSA's own field names and values, if the row was just read. Only the PSA's
            client uses them. Comparisons of rows ignore them.
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
        rows: all rows on the page, unfiltered.
        total: the number of all rows; None if the PSA does not count them.
    """

    rows: tuple[Row, ...]
    total: int | None


@dataclass(frozen=True, slots=True)
class Trace:
    """The event that syncd leaves in a row, as Halo's webhook would.

    Attributes:
        payload: Stripe's object as JSON, without secrets.
        received: when syncd writes the row, Unix seconds.
    """

    payload: str
    received: float


@dataclass(frozen=True, slots=True)
class WholeRow:
    """A row with every field that the PSA showed.

    Attributes:
        row: the row, with the values that decisions need.
        fields: the PSA's own field names and values; only the PSA's client uses them.
        alone: True if the row was read by its id, False if the row comes from a list.
    """

    row: Row
    fields: Mapping[str, Any]
    alone: bool = True

    def is_of(self, intent_id: str) -> bool:
        """Whether a row read by its id still shows this payment intent.

        Without the payment intent, Halo may have emptied the row: its fields must not be sent back.
        """
        return not self.alone or self.row.intent_id == intent_id


@dataclass(frozen=True, slots=True)
class RowChange:
    """A new status for one row.

    Attributes:
        id: the row's number in the PSA.
        status: the tenant's status number.
        trace: the event to store in the row; None leaves the row's trace unchanged.
        kept: the row as it was read; the update sends its required columns back unchanged. None
            for an update with only the status and the trace.
        keep_all: whether the update sends back every column of `kept` that has a value.
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
        created: when the payment intent was created, Unix seconds; None if unknown.
        trace: the event to store in the row.
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
        rows: the rows in the answer. Only these rows prove that something was written.
        complaint: the PSA's message, if an answer of success lists no rows.
        error: whether the answer of success reports an error.
        web_page: whether the answer is a web page. Halo's API never answers with one, so it comes
            from a proxy, and Halo may never have received the rows.
    """

    rows: tuple[Row, ...]
    complaint: str | None
    error: bool = False
    web_page: bool = False


class Guard(Protocol):
    """The final check before a write. A sink calls it right before each request that writes."""

    def allows_sending(self) -> bool:
        """Whether the write is still wanted. If False, the sink must not send the request."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """One of Halo's invoices, with the values that comparisons need; unreadable values are None.

    Attributes:
        id: Halo's number of the invoice.
        number: the invoice's number as people use it.
        total, due: major units.
        currency: three capital letters.
        customer: the customer's name.
    """

    id: int
    number: str | None
    total: Decimal | None
    due: Decimal | None
    currency: str | None
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A row and its invoice, as the attention list shows them; unknown values are None.

    Attributes:
        id: Halo's number of the row; None also for a row that does not exist yet.
        invoice_id: Halo's number of the invoice.
        invoice_number: the invoice's number as people use it.
        customer: the customer's name.
    """

    id: int | None
    invoice_id: int | None
    invoice_number: str | None = None
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class SeenInvoice:
    """An invoice, as people look it up in Halo.

    Attributes:
        id: Halo's number of the invoice; None if only `number` is known.
        number: the invoice's number as people use it; None if unknown.
    """

    id: int | None
    number: str | None

    @property
    def name(self) -> str:
        """The invoice's name for people: ``INV-1025``, else ``invoice 1025``."""
        return self.number or f"invoice {self.id}"


def seen(rows: Sequence[Row]) -> tuple[SeenRow, ...]:
    """The part of the rows that the store keeps."""
    return tuple(
        SeenRow(row.id, row.invoice_id, row.invoice_number, row.customer) for row in rows[:SEEN_MAX]
    )


def customers_of(rows: Iterable[SeenRow]) -> tuple[str, ...]:
    """The names of the customers of these rows, without repetition."""
    return tuple(dict.fromkeys(row.customer for row in rows if row.customer))


def invoices_of(rows: Iterable[SeenRow]) -> tuple[SeenInvoice, ...]:
    """The invoices that these rows pay, without repetition."""
    named = (SeenInvoice(row.invoice_id, row.invoice_number) for row in rows)
    return tuple(
        dict.fromkeys(one for one in named if one.id is not None or one.number is not None)
    )
