"""Reads and writes Halo's invoice payments over HTTP.

The API is known from its description and from people who wrote clients, not from its maker. So an
answer proves only the rows that it lists as they were sent (see `Acknowledged`).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from syncd.clients.halo.errors import failure_of, read_answer
from syncd.clients.halo.parse import (
    PAGE_SIZE,
    Acknowledged,
    InvoicePage,
    RowPage,
    TracedPage,
    is_whole,
    last_page,
    own_words,
    read_acknowledgement,
    read_invoice,
    read_invoice_page,
    read_listing,
    read_row,
    read_traced_page,
)
from syncd.clients.halo.sign_in import SignIn
from syncd.clients.http import ANSWER_SECONDS_MAX, AnswerRefused, client, words_of
from syncd.clients.retry import Calling, server_time
from syncd.core.errors import (
    BadAnswer,
    ListingBroken,
    Side,
    Unreachable,
)
from syncd.core.rows import Invoice, Row
from syncd.failpoints import Point, crash_point
from syncd.text.sanitize import plain

BODY_BYTES_MAX = 64 * 1024 * 1024
"""A larger answer is refused while it is read: an endpoint that ignores paging may send all."""

PAGES_OF_ONE_INTENT_MAX = 1_000
"""A listing of one payment's rows that goes on for longer shows rows of everybody, or is made up."""

NOBODYS = "pi_nobodys"
"""A payment that there isn't: whoever is asked for its rows shows none."""

_PATH = "/api/InvoicePayment"
_INVOICE_PATH = "/api/Invoice"


@dataclass(slots=True)
class HaloSink:
    """Halo as the engine sees it.

    Attributes:
        transport: carries the requests in place of a real network; None for the real one.
        ahead_seconds: how far Halo's clock was ahead of ours at its last answer; None where it
            didn't say.
        sign_in: the application's sign-in.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    calling: Calling
    transport: httpx.AsyncBaseTransport | None = field(repr=False, default=None)
    ahead_seconds: float | None = field(init=False, default=None)
    sign_in: SignIn = field(init=False, repr=False)
    _client: httpx.AsyncClient = field(init=False, repr=False)
    _filter_works: bool | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        self._client = client(
            self.url, self.calling.timeout_seconds, BODY_BYTES_MAX, self.transport
        )
        self.sign_in = SignIn(
            self.url,
            self.client_id,
            self.client_secret,
            self.scope,
            lambda method, url, form: self._send(method, url, None, None, None, form),
            self.calling.now,
        )

    @property
    def signed_in(self) -> bool:
        """Whether Halo has given us a token."""
        return self.sign_in.done

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def rows_of(self, intent_id: str) -> list[Row]:
        """Read all rows of one payment intent.

        A row that Halo answers with to the question for this very intent, but under another name or
        none, is no row that may be written, and no sign that there is none: it comes without its id.

        Raises:
            LinkFailure: Halo can't be read, or it can't be told whether these are all rows.
        """
        found: dict[int | None, Row] = {}
        nameless: list[Row] = []
        alike: list[Row] = []
        others = False
        async for page in self._pages({"intent_id": intent_id}):
            for row in page.rows:
                # The filter may be ignored; what belongs to others is not ours to touch.
                if row.intent_id == intent_id:
                    found[row.id] = row
                elif row.intent_id is None:
                    nameless += [row] * (row.id is not None)  # else it is no row at all
                elif row.intent_id.casefold() == intent_id.casefold():
                    alike.append(row)
                else:
                    others = True
        if not found and nameless and not others and await self._filters():
            alike += nameless
        return list(found.values()) or [replace(row, id=None) for row in alike]

    async def _filters(self) -> bool:
        """Whether Halo keeps to the intent it is asked for: then it shows no rows of nobody's."""
        if self._filter_works is None:
            pages = [page async for page in self._pages({"intent_id": NOBODYS})]
            self._filter_works = all(row.id is None for page in pages for row in page.rows)
        return self._filter_works

    async def room(self, requests: int) -> None:
        """Wait until so many requests may go one after another; see `Gate.room`."""
        await self.calling.room(requests)

    async def rows_of_invoice(self, invoice_id: int) -> list[Row]:
        """Read all rows of one invoice, by Halo's number of it; raises as `rows_of`."""
        found: dict[int | None, Row] = {}
        async for page in self._pages({"invoice_id": str(invoice_id)}):
            for row in page.rows:
                if row.invoice_id == invoice_id:
                    found[row.id] = row
        return list(found.values())

    async def pages(self, first: int = 1) -> AsyncIterator[RowPage]:
        """Read all rows, newest first, page by page.

        The caller counts new rows and stops on a page that brings none: see `last_page`.
        """
        number = first
        while True:
            yield await self._page({"order": "id", "orderdesc": "true"}, number)
            number += 1

    async def traced_pages(self) -> AsyncIterator[TracedPage]:
        """The same with the rows' traces, for who has to know where a status came from."""
        number = 1
        while True:
            raw, total = await self._raw_page({"order": "id", "orderdesc": "true"}, number)
            yield read_traced_page(raw, total)
            number += 1

    async def _pages(self, query: Mapping[str, str]) -> AsyncIterator[RowPage]:
        seen: set[int | None] = set()
        for number in range(1, PAGES_OF_ONE_INTENT_MAX + 1):
            page = await self._page(query, number)
            new = {row.id for row in page.rows} - seen
            seen |= new
            yield page
            if last_page(page, new=len(new), seen=len(seen)):
                if not is_whole(page, new=len(new), seen=len(seen)):
                    message = (
                        f"Halo shows only a part of its rows ({len(seen)} of {page.total or 'more'}) "
                        "and no way to the others; nothing is written on such a ground."
                    )
                    raise ListingBroken(Side.HALO, message)
                return
        message = (
            "Halo's list of one payment's rows does not end; nothing is written on such a ground."
        )
        raise ListingBroken(Side.HALO, message)

    async def _page(self, query: Mapping[str, str], number: int) -> RowPage:
        raw, total = await self._raw_page(query, number)
        return RowPage(tuple(map(read_row, raw)), total)

    async def _raw_page(
        self, query: Mapping[str, str], number: int
    ) -> tuple[list[Any], int | None]:
        params = {
            **query,
            "pageinate": "true",
            "page_no": str(number),
            "page_size": str(PAGE_SIZE),
        }
        body = await self._call("GET", params=params)
        listing = read_listing(body)
        if listing is None:
            message = "Halo's answer to a request for invoice payments holds no list of payments."
            raise BadAnswer(Side.HALO, f"{message} {own_words(body)}".strip())
        return listing

    async def update(
        self, rows: Sequence[Mapping[str, Any]], about_to_send: Callable[[], None]
    ) -> Acknowledged:
        """Merge rows (each with its `id`) into Halo's. May be sent twice: it only sets values.

        Args:
            rows: what to set.
            about_to_send: called right before each sending, when nothing is waited for any more
                (neither a sign-in nor room in the window): whatever it raises keeps the request
                from going out.

        Raises:
            RowsRefused: Halo doesn't take at least one of the rows, so it took none.
            LinkFailure: Halo can't be written.
        """
        return read_acknowledgement(
            await self._call("POST", rows=rows, repeatable=True, about_to_send=about_to_send)
        )

    async def insert(
        self, row: Mapping[str, Any], about_to_send: Callable[[], None]
    ) -> Acknowledged:
        """Insert one row. Never sent twice: Halo would keep both. `about_to_send` as above.

        Raises:
            RowsRefused: Halo doesn't take the row.
            LinkFailure: as above; with `maybe_applied`, the row may be there all the same.
        """
        return read_acknowledgement(
            await self._call("POST", rows=[row], repeatable=False, about_to_send=about_to_send)
        )

    async def invoice(self, invoice_id: int) -> Invoice:
        """Read one invoice.

        Raises:
            BadAnswer: Halo doesn't show it: there may be none of that number.
            LinkFailure: Halo can't be read.
        """
        body = await self._call("GET", path=f"{_INVOICE_PATH}/{invoice_id}")
        invoice = read_invoice(body, invoice_id)
        if invoice is None:
            message = f"Halo was asked for invoice {invoice_id} and answered with something else."
            raise BadAnswer(Side.HALO, message)
        return invoice

    async def invoice_page(self, number: int) -> InvoicePage:
        """Read one page of the list of invoices, newest first.

        Args:
            number: of the page, from 1.

        Raises:
            BadAnswer: Halo has no such list, or its answer holds none.
            LinkFailure: Halo can't be read.
        """
        params = {
            "pageinate": "true", "page_no": str(number), "page_size": str(PAGE_SIZE),
            "order": "id", "orderdesc": "true",
        }  # fmt: skip
        body = await self._call("GET", path=_INVOICE_PATH, params=params)
        page = read_invoice_page(body)
        if page is None:
            message = "Halo's answer to a request for a list of invoices holds no list."
            raise BadAnswer(Side.HALO, f"{message} {own_words(body)}".strip())
        return page

    # --- requests --------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        *,
        path: str = _PATH,
        params: Mapping[str, str] | None = None,
        rows: Sequence[Mapping[str, Any]] | None = None,
        repeatable: bool = True,
        about_to_send: Callable[[], None] = lambda: None,
    ) -> Any:
        content = None if rows is None else json.dumps(list(rows)).encode()

        async def attempt() -> httpx.Response:
            token = await self.sign_in.token()
            url = self.url + path
            response = await self._send(
                method, url, token, params, content, about_to_send=about_to_send
            )
            if response.status_code == 401:
                # Expired, or not allowed: sign in again once, then stop and say so.
                self.sign_in.forget_token()
                token = await self.sign_in.token()
                response = await self._send(
                    method, url, token, params, content, about_to_send=about_to_send
                )
            failure = failure_of(response, method, writing=rows is not None, now=self.calling.now())
            if failure is not None:
                raise failure
            return response

        response = await self.calling.persist(attempt, repeatable=repeatable)
        return read_answer(response, reading=rows is None)

    async def _send(
        self,
        method: str,
        url: str,
        token: str | None,
        params: Mapping[str, str] | None,
        content: bytes | None,
        form: Mapping[str, str] | None = None,
        about_to_send: Callable[[], None] = lambda: None,
    ) -> httpx.Response:
        await self.calling.take()
        about_to_send()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        what = f"{method} {urlsplit(url).path}"
        crash_point(Point.BEFORE_REQUEST)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                response = await self._client.request(
                    method, url, params=params, content=content, data=form, headers=headers
                )
        except (httpx.InvalidURL, UnicodeError) as error:
            self.calling.note("error")
            message = f"{plain(url)!r} is no address that can be asked ({plain(str(error))})."
            raise BadAnswer(Side.HALO, message) from None
        except AnswerRefused as error:
            self.calling.note("error")
            message = f"Halo's answer to {what} was refused: {error}."
            raise BadAnswer(Side.HALO, message, maybe_applied=content is not None) from None
        except (httpx.HTTPError, TimeoutError) as error:
            self.calling.note("error")
            never_sent = isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
            )
            raise Unreachable(
                Side.HALO,
                f"Halo can't be reached ({what}): {words_of(error)}.",
                maybe_applied=content is not None and not never_sent,
                late=not never_sent,
            ) from None
        crash_point(Point.AFTER_ANSWER)
        self.calling.note(
            "ok" if response.is_success else "limited" if response.status_code == 429 else "error"
        )
        clock = server_time(response.headers.get("date"))
        self.ahead_seconds = None if clock is None else clock - self.calling.now()
        return response
