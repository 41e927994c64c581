"""Reads and writes Halo's invoice payments over HTTP.

The API is known from its description and from authors of clients, not from its vendor. So an answer
proves only the rows that it lists as they were sent (see `Acknowledged`).
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx

from syncd.clients.halo.connection import Connection
from syncd.clients.halo.details import HaloDetails
from syncd.clients.halo.listed_intents import ListedIntents
from syncd.clients.halo.parse import (
    PAGE_SIZE,
    InvoicePage,
    TracedPage,
    error_text,
    is_whole,
    last_page,
    read_invoice,
    read_invoice_page,
    read_listing,
    read_row,
    read_traced_page,
)
from syncd.clients.halo.payload import changed_row, new_row
from syncd.clients.halo.sign_in import SignIn
from syncd.clients.halo.whole import compare, compare_shown, refilled
from syncd.clients.paging import PAGES_MAX, Listed, read_pages
from syncd.clients.retry import Calling
from syncd.core.errors import BadAnswer, ListingBroken, Side
from syncd.core.rows import (
    Acknowledged,
    Guard,
    Invoice,
    NewRow,
    Row,
    RowChange,
    RowPage,
    WholeRow,
)
from syncd.core.rules.proof import Comparison, FieldChange
from syncd.text.shape import shape_of

PAGES_OF_ONE_INTENT_MAX = 1_000
"""If a listing of one payment's rows is longer, Halo ignores the filter."""

UNKNOWN_INTENT_ID = "pi_nobodys"
"""A payment that does not exist."""

_NEWEST_FIRST = {"order": "id", "orderdesc": "true"}
_PATH = "/api/InvoicePayment"
_INVOICE_PATH = "/api/Invoice"

P = TypeVar("P")


def _row_page(raw: list[Any], total: int | None) -> RowPage:
    return RowPage(tuple(map(read_row, raw)), total)


@dataclass(slots=True)
class HaloSink:
    """Implements `sync.sink.Sink` for Halo, and adds what only Halo has.

    Attributes:
        new_row: fixed fields of every new row, by Halo's names.
        transport: replaces the network in tests; None for the network.
        tenant: the tenant's name, used if Halo's authinfo does not name it.
        lists: finds the payment intents of rows that lists show without them.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    calling: Calling
    transport: httpx.AsyncBaseTransport | None = field(repr=False, default=None)
    new_row: Mapping[str, int] = field(default_factory=dict)
    tenant: str = ""
    connection: Connection = field(init=False, repr=False)
    lists: ListedIntents = field(init=False, repr=False)
    _filter_works: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        sign_in = (self.url, self.client_id, self.client_secret, self.scope)
        self.connection = Connection(*sign_in, self.calling, self.transport, self.tenant)
        self.lists = ListedIntents(self.details.row_alone, lambda _trusted: None)

    @property
    def sign_in(self) -> SignIn:
        """The application's sign-in."""
        return self.connection.sign_in

    @property
    def page_size(self) -> int:
        """How many rows a full page contains."""
        return PAGE_SIZE

    @property
    def signed_in(self) -> bool:
        """Whether Halo has issued a token to syncd."""
        return self.connection.sign_in.done

    async def close(self) -> None:
        """Close the connections."""
        await self.connection.close()

    async def rows_of(self, intent_id: str) -> list[Row]:
        """Read all rows of one payment intent.

        Halo may answer with a row that has another payment intent or none. Such a row must not be
        written, but it also does not prove that the payment has no row: it is returned without its
        id.

        Raises:
            LinkFailure: the request failed, or it is unclear whether these are all rows.
        """
        found: dict[int | None, Row] = {}
        nameless: list[Row] = []
        alike: list[Row] = []
        others = False
        async for page in self._pages({"intent_id": intent_id}):
            self.lists.take(page.rows)
            for row in page.rows:
                # Halo may ignore the filter; rows of other payments must not be touched.
                if row.intent_id == intent_id:
                    found[row.id] = row
                elif row.intent_id is None:
                    nameless += [row] * (row.id is not None)  # otherwise it is not a row
                elif row.intent_id.casefold() == intent_id.casefold():
                    alike.append(row)
                else:
                    others = True
        if nameless and not found and not others:
            # Several rows may be all payments' rows: Halo may ignore a filter that has worked before.
            if await self._filters(again=len(nameless) > 1):
                for row in await self.lists.of_filter(intent_id, nameless):
                    if row.intent_id == intent_id:
                        found[row.id] = row
                    else:  # also rows of other payments: then it is unclear which rows exist
                        alike.append(row)
            elif await self.lists.hide(nameless):
                found |= await self.lists.each_alone(intent_id, nameless)
        return list(found.values()) or [replace(row, id=None) for row in alike]

    async def hides_intents(self, rows: Sequence[Row]) -> bool:
        """See `ListedIntents.hide`."""
        return await self.lists.hide(rows)

    async def _filters(self, *, again: bool) -> bool:
        """Whether Halo respects the filter by payment intent; asks Halo once, or `again`."""
        if again or not self._filter_works:
            pages = [page async for page in self._pages({"intent_id": UNKNOWN_INTENT_ID})]
            self._filter_works = all(row.id is None for page in pages for row in page.rows)
        return self._filter_works

    async def rows_of_invoice(self, invoice_id: int) -> list[Row]:
        """Read all rows of one invoice, by Halo's number of the invoice; raises as `rows_of`."""
        found: dict[int | None, Row] = {}
        async for page in self._pages({"invoice_id": str(invoice_id)}):
            for row in page.rows:
                if row.invoice_id == invoice_id:
                    found[row.id] = row
        self.lists.take(list(found.values()))
        return await self.lists.of_invoice(list(found.values()))

    async def count_rows(self) -> int:
        """Read the first page of all rows: the number of all rows, or of those on the page.

        Raises:
            LinkFailure: the request failed.
        """
        raw, total = await self._raw_page(_NEWEST_FIRST, 1)
        return len(raw) if total is None else total

    async def probe_lookup(self) -> None:
        """Look up a payment that does not exist, to test whether lookups work at all.

        Raises:
            LinkFailure: lookups fail in general, so no payment is at fault.
        """
        await self.rows_of(UNKNOWN_INTENT_ID)

    def list_rows(
        self, count_new: Callable[[RowPage], int], seen: int = 0, start: int = 1
    ) -> AsyncIterator[Listed[RowPage]]:
        """Read all rows, newest first, page by page.

        Args:
            count_new: how many rows of a page were not on earlier pages.
            seen: how many rows are known already, if the rows are read a second time.
            start: the number of the first page to read, from 1.

        Raises:
            LinkFailure: a request failed, or Halo's list does not end.
        """
        pages = _NEWEST_FIRST, _row_page, lambda page: page
        return self._listed(*pages, count_new, "rows", seen, start=start)

    def list_traced_rows(
        self, count_new: Callable[[TracedPage], int]
    ) -> AsyncIterator[Listed[TracedPage]]:
        """Read all rows with their traces; otherwise as `list_rows`."""
        return self._listed(
            _NEWEST_FIRST, read_traced_page, lambda page: page.page, count_new, "rows"
        )

    async def _pages(self, query: Mapping[str, str]) -> AsyncIterator[RowPage]:
        """Read the rows that match a query, to the last page.

        Raises:
            ListingBroken: Halo shows only a part of the rows.
        """
        known: set[int | None] = set()

        def count_new(page: RowPage) -> int:
            before = len(known)
            known.update(row.id for row in page.rows)
            return len(known) - before

        async for listed in self._listed(
            query,
            _row_page,
            lambda page: page,
            count_new,
            "one payment's rows",
            pages_max=PAGES_OF_ONE_INTENT_MAX,
        ):
            yield listed.page
            if listed.whole is False:
                message = (
                    f"Halo lists only {listed.seen} of {listed.page.total or 'more'} rows and no "
                    "further page. syncd wrote nothing."
                )
                raise ListingBroken(Side.HALO, message)

    async def _listed(
        self,
        query: Mapping[str, str],
        read: Callable[[list[Any], int | None], P],
        rows_on: Callable[[P], RowPage],
        count_new: Callable[[P], int],
        what: str,
        seen: int = 0,
        pages_max: int = PAGES_MAX,
        start: int = 1,
    ) -> AsyncIterator[Listed[P]]:
        """Read a listing page by page until a page has nothing new, or Halo's count is reached."""
        number, last = start, False

        async def fetch(page_number: int | None) -> P:
            return read(*await self._raw_page(query, page_number or start))

        def next_number(_page: P) -> int | None:
            return None if last else number

        async for page in read_pages(fetch, next_number, Side.HALO, what, pages_max=pages_max):
            number += 1
            new = count_new(page)
            seen += new
            last = last_page(rows_on(page), new=new, seen=seen)
            whole = is_whole(rows_on(page), new=new, seen=seen) if last else None
            yield Listed(page, seen, whole)

    async def _raw_page(
        self, query: Mapping[str, str], number: int
    ) -> tuple[list[Any], int | None]:
        body = await self.connection.read(_PATH, {**query, **_paging(number)})
        listing = read_listing(body)
        if listing is None:
            message = "Halo's answer to a request for payments contains no list of payments."
            raise BadAnswer(Side.HALO, f"{message} {error_text(body)}".strip()).of(shape_of(body))
        return listing

    async def update(
        self, changes: Sequence[RowChange], guard: Guard, *, repeatable: bool = True
    ) -> Acknowledged | None:
        """Set the status of rows. A repeated request is safe: an update only sets values.

        Args:
            changes: the rows and their new status.
            guard: the final check; asked right before each request, after sign-in and rate limit.
            repeatable: whether to retry after a failure although Halo may have carried the write
                out.

        Returns:
            Halo's answer; None if `guard` stopped the request.

        Raises:
            RowsRefused: Halo refuses at least one of the rows, so Halo changed none.
            LinkFailure: the request failed.
        """
        rows = [changed_row(one) for one in changes]
        return await self.connection.write(_PATH, rows, guard, repeatable=repeatable)

    async def insert(self, row: NewRow, guard: Guard) -> Acknowledged | None:
        """Insert one row. Never repeated automatically, because Halo would keep both rows.

        Args:
            row: the row.
            guard: as in `update`.

        Returns:
            As `update`.

        Raises:
            RowsRefused: Halo refuses the row, or JSON cannot hold its amount.
            LinkFailure: as `update`; with `maybe_applied`, Halo may have inserted the row.
        """
        rows = [new_row(row, self.new_row)]
        return await self.connection.write(_PATH, rows, guard, repeatable=False)

    @property
    def details(self) -> HaloDetails:
        """The reader of single things: invoices' figures and changes, names for numbers."""
        return HaloDetails(self.connection.read)

    async def whole_row(self, intent_id: str, row_id: int) -> WholeRow | None:
        """Read one row with all its fields; see `HaloDetails.whole_row`."""
        return await self.details.whole_row(intent_id, row_id)

    async def invoice_figures(self, invoice_id: int) -> Mapping[str, str] | None:
        """The amounts due and paid of an invoice; see `HaloDetails.invoice_figures`."""
        return await self.details.invoice_figures(invoice_id)

    def as_row(self, fields: Mapping[str, Any]) -> WholeRow:
        """A row, rebuilt from its stored fields."""
        return WholeRow(read_row(fields), fields)

    def compare(
        self, before: WholeRow | None, after: WholeRow, sent: RowChange | NewRow
    ) -> Comparison:
        """What a write did to a row; see `whole.compare`."""
        if isinstance(sent, NewRow):
            return compare(None, after, new_row(sent, self.new_row))
        return compare(before, after, changed_row(replace(sent, kept=None)))

    refilled = staticmethod(refilled)

    def compare_shown(
        self, before: Row, after: Row, *, whole: bool = False
    ) -> tuple[FieldChange, ...]:
        """See `whole.compare_shown`."""
        return compare_shown(before, after, whole=whole)

    def fields_of(self, sent: RowChange | NewRow) -> Mapping[str, Any]:
        """The fields that a write sends, by Halo's names.

        Raises:
            RowsRefused: JSON cannot hold the amount of a new row.
        """
        return new_row(sent, self.new_row) if isinstance(sent, NewRow) else changed_row(sent)

    async def reserve(self, requests: int) -> None:
        """See `RateLimiter.room`."""
        await self.calling.room(requests)

    async def has_room(self, requests: int) -> bool:
        """See `RateLimiter.has_room`."""
        return await self.calling.has_room(requests)

    async def invoice(self, invoice_id: int) -> Invoice:
        """Read one invoice.

        Raises:
            BadAnswer: Halo does not show the invoice; it may not exist.
            LinkFailure: the request failed.
        """
        body = await self.connection.read(f"{_INVOICE_PATH}/{invoice_id}")
        invoice = read_invoice(body, invoice_id)
        if invoice is None:
            message = f"Halo's answer for invoice {invoice_id} does not contain this invoice."
            raise BadAnswer(Side.HALO, message).of(shape_of(body))
        return invoice

    async def invoice_page(self, number: int) -> InvoicePage:
        """Read one page of the list of invoices, newest first.

        Args:
            number: the page's number, from 1.

        Raises:
            BadAnswer: Halo has no such list, or its answer contains no invoices.
            LinkFailure: the request failed.
        """
        params = {**_paging(number), "order": "id", "orderdesc": "true"}
        body = await self.connection.read(_INVOICE_PATH, params)
        page = read_invoice_page(body)
        if page is None:
            message = "Halo's answer to a request for a list of invoices contains no list."
            raise BadAnswer(Side.HALO, f"{message} {error_text(body)}".strip()).of(shape_of(body))
        return page


def _paging(number: int) -> dict[str, str]:
    return {"pageinate": "true", "page_no": str(number), "page_size": str(PAGE_SIZE)}
