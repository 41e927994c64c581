"""Halo's invoice payments, read and written: with `network`, the only room that knows `httpx`.

What the API does is known from its description and from people who wrote clients, not from its
maker; so an answer is believed only as far as it shows the rows that were sent (see `Acknowledged`).
The token and the client secret never leave this room.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from syncd.clients.halo.parse import (
    PAGE_SIZE,
    Acknowledged,
    RowPage,
    TracedPage,
    is_whole,
    last_page,
    lifetime_seconds,
    own_words,
    read_acknowledgement,
    read_invoice,
    read_json,
    read_listing,
    read_row,
    read_traced_page,
    sentence,
)
from syncd.clients.http import ANSWER_SECONDS_MAX, AnswerRefused, client, words_of
from syncd.clients.retry import Calling, retry_after_seconds, server_time
from syncd.core.errors import (
    BadAnswer,
    Failure,
    ListingBroken,
    PermissionMissing,
    RateLimited,
    RowsRefused,
    ServerTrouble,
    Side,
    SignInRefused,
    Unreachable,
)
from syncd.core.rows import Invoice, Row
from syncd.failpoints import Point, crash_point
from syncd.text.sanitize import conceal, plain

BODY_BYTES_MAX = 64 * 1024 * 1024
"""A larger answer is refused while it is read: an endpoint that ignores paging may send all."""

WAIT_WITHOUT_RETRY_AFTER_SECONDS = 60.0
"""After a 429 that names no time: Halo's clients report that a minute or more is needed."""

TOKEN_MARGIN_SECONDS = 30.0

PAGES_OF_ONE_INTENT_MAX = 1_000
"""A listing of one payment's rows that goes on for longer shows rows of everybody, or is made up."""

NOBODYS = "pi_nobodys"
"""A payment that there isn't: whoever is asked for its rows shows none."""

_PATH = "/api/InvoicePayment"
_INVOICE_PATH = "/api/Invoice"
_TOKEN = re.compile(r"[!-~]{1,16384}")
_REFUSED_ROWS = frozenset({400, 404, 409, 413, 422})


@dataclass(slots=True)
class HaloSink:
    """Halo as the engine sees it.

    Attributes:
        transport: carries the requests in place of a real network; None for the real one.
        ahead_seconds: how far Halo's clock was ahead of ours at its last answer; None where it
            didn't say.
        granted: the scope that came with the token; None where Halo didn't say.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    calling: Calling
    transport: httpx.AsyncBaseTransport | None = field(repr=False, default=None)
    ahead_seconds: float | None = field(init=False, default=None)
    granted: frozenset[str] | None = field(init=False, default=None)
    _client: httpx.AsyncClient = field(init=False, repr=False)
    _token: str | None = field(init=False, repr=False, default=None)
    _token_until: float = field(init=False, default=0.0)
    _sign_in: tuple[str, str | None] | None = field(init=False, default=None)
    _filter_works: bool | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        conceal("Halo's client secret", self.client_secret)
        self._client = client(
            self.url, self.calling.timeout_seconds, BODY_BYTES_MAX, self.transport
        )

    @property
    def signed_in(self) -> bool:
        """Whether Halo has given us a token."""
        return self._token is not None

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
            token = await self._signed_in()
            url = self.url + path
            response = await self._send(
                method, url, token, params, content, about_to_send=about_to_send
            )
            if response.status_code == 401:
                # Expired, or not allowed: sign in again once, then stop and say so.
                self._token = None
                token = await self._signed_in()
                response = await self._send(
                    method, url, token, params, content, about_to_send=about_to_send
                )
            failure = _failure_of(
                response, method, writing=rows is not None, now=self.calling.now()
            )
            if failure is not None:
                raise failure
            return response

        response = await self.calling.persist(attempt, repeatable=repeatable)
        return _read_json(response, reading=rows is None)

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

    # --- signing in ------------------------------------------------------------------------------

    async def _signed_in(self) -> str:
        now = self.calling.now()
        # A clock that was set back must not make an old token look fresh for long: the 401 does it.
        if self._token is not None and now < self._token_until:
            return self._token
        if self._sign_in is None:
            self._sign_in = await self._discover()
        endpoint, tenant = self._sign_in
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": self.scope,
        }
        if tenant:
            form["tenant"] = tenant
        response = await self._send("POST", endpoint, None, None, None, form)
        if response.status_code == 429 or response.status_code >= 500:
            failure = _failure_of(response, "POST", writing=False, now=now)
            raise failure or AssertionError
        body = read_json(response.content)
        if body is None and response.is_success:
            # A portal's page in place of an answer is no refusal of ours; authinfo's may have been
            # the same portal's, so it is asked again.
            self._sign_in = None
            _read_json(response, reading=True)
        token = body.get("access_token") if isinstance(body, dict) else None
        if not response.is_success or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            self._sign_in = None
            raise SignInRefused(
                Side.HALO,
                f"Halo refuses the sign-in (HTTP {response.status_code}) for client_id "
                f"{self.client_id!r}, scope {self.scope!r}: "
                f"{'its answer holds no token.' if response.is_success else _words(body, response)} "
                "Check the "
                "application in Halo (Configuration, Integrations, Halo API), its client secret "
                "and its permissions.",
            )
        scope = body.get("scope")
        self.granted = frozenset(scope.split()) if isinstance(scope, str) else None
        conceal("Halo's token", token)
        seconds = lifetime_seconds(body.get("expires_in"))
        self._token = token
        self._token_until = now + max(seconds - TOKEN_MARGIN_SECONDS, seconds / 2)
        return token

    async def _discover(self) -> tuple[str, str | None]:
        """Find the token endpoint and the tenant's name; without authinfo, the usual path.

        The endpoint may stand on another host, as Halo's own may: who answers for the tenant's
        address over verified TLS could as well take the secret there. But it must be https, or on
        this machine where the tenant is as well.
        """
        response = await self._send("GET", f"{self.url}/api/authinfo", None, None, None)
        if response.status_code == 429 or response.status_code >= 500:
            raise (
                _failure_of(response, "GET", writing=False, now=self.calling.now())
                or AssertionError
            )
        body = read_json(response.content)
        auth_url = body.get("auth_url") if isinstance(body, dict) else None
        tenant = body.get("tenant_id") if isinstance(body, dict) else None
        if not response.is_success or not isinstance(auth_url, str) or not auth_url:
            return f"{self.url}/auth/token", None
        auth_url = auth_url.rstrip("/")
        if not may_carry_secret(auth_url, loopback=self.url.startswith("http://")):
            message = (
                f"Halo's authinfo names {plain(auth_url, 200)!r} to sign in at, which isn't a plain "
                "https address. The client secret is not sent there. Check halo.url."
            )
            raise SignInRefused(Side.HALO, message)
        return f"{auth_url}/token", str(tenant) if isinstance(tenant, str) and tenant else None


def may_carry_secret(url: str, *, loopback: bool) -> bool:
    """Whether a secret may travel to this URL: https, or (where `loopback`) this machine itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        odd = parts.username or parts.password or parts.query or parts.fragment
    except ValueError:
        return False
    if not host or odd or not url.isprintable() or " " in url:
        return False
    if parts.scheme == "https":
        return True
    return loopback and parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost")


def _read_json(response: httpx.Response, *, reading: bool) -> Any:
    body = read_json(response.content)
    if body is None and reading:
        kind = response.headers.get("content-type", "no type")[:60]
        message = (
            f"Halo answered with {len(response.content)} bytes of {plain(kind)} where JSON "
            "belongs. Check that halo.url names the tenant itself, not a portal in front of it."
        )
        raise BadAnswer(Side.HALO, message)
    return body


def _failure_of(
    response: httpx.Response, method: str, *, writing: bool, now: float
) -> Failure | None:
    status = response.status_code
    if 200 <= status < 300:
        return None
    what = f"{method} {response.request.url.path}"
    wait = retry_after_seconds(response.headers.get("retry-after"), now)
    said = _words(read_json(response.content), response)
    if status == 429:
        return RateLimited(
            Side.HALO,
            f"Halo limits requests ({what}): {said}",
            retry_after_seconds=WAIT_WITHOUT_RETRY_AFTER_SECONDS if wait is None else wait,
        )
    if status >= 500:
        return ServerTrouble(
            Side.HALO,
            f"Halo answered {status} to {what}: {said}",
            retry_after_seconds=wait,
            maybe_applied=writing,
            # Whatever a gateway says (502, 504, 524, …): what stands behind it may not have given up.
            late=status != 500,
        )
    if status == 401:
        return SignInRefused(
            Side.HALO,
            f"Halo refuses {what} (HTTP 401) although it has just signed us in: {said} The agent "
            "role behind the application may lack a permission for invoices.",
        )
    if status == 403 and writing and _is_page(response):
        return BadAnswer(
            Side.HALO,
            f"Something in front of Halo refuses {what} (HTTP 403): {said} A firewall that dislikes "
            "what stands in a row's trace does so (push.trace = false leaves it out), or the agent "
            "role may not edit invoices.",
            maybe_applied=True,
            late=True,
        )
    if status == 403:
        return PermissionMissing(
            Side.HALO,
            f"Halo doesn't allow {what} (HTTP 403): {said}",
            "Give the application and its agent role the permission to "
            f"{'edit' if writing else 'read'} invoices.",
        )
    if writing and status in _REFUSED_ROWS and not _is_page(response):
        return RowsRefused(said)
    if 300 <= status < 400:
        host = re.match(r"https?://([^/?#]+)", plain(response.headers.get("location", ""), 2_000))
        to = host[1][:100] if host else "another path"
        message = f"Halo redirects {what} to {to!r}, which isn't followed. Check halo.url."
        return BadAnswer(Side.HALO, message, maybe_applied=writing, late=writing)
    return BadAnswer(
        Side.HALO,
        f"Halo answered {status} to {what}: {said} Check halo.url.",
        maybe_applied=writing,
        late=writing,
    )


def _is_page(response: httpx.Response) -> bool:
    return "html" in response.headers.get("content-type", "") or response.content[:1] == b"<"


def _words(body: Any, response: httpx.Response) -> str:
    """Halo's own words, as one plain sentence. Never empty: a person has to read something."""
    if said := own_words(body):
        return said
    if body is not None:
        return "its answer holds no message."
    if _is_page(response):
        return "it sent a web page."
    return sentence(response.content[:600].decode("utf-8", "replace")) or "it said nothing."
