"""The HTTP connection to Halo: signs in, respects the rate limit, retries, and classifies errors."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload
from urllib.parse import urlsplit

import httpx

from syncd.clients.halo.errors import failure_of, is_login_page, is_web_page, read_answer
from syncd.clients.halo.parse import read_acknowledgement
from syncd.clients.halo.sign_in import SignIn
from syncd.clients.http import ANSWER_SECONDS_MAX, AnswerRefused, client, words_of
from syncd.clients.retry import Calling, server_time
from syncd.core.errors import BadAnswer, Side, Unreachable
from syncd.core.rows import Acknowledged, Guard
from syncd.failpoints import Point, crash_point
from syncd.text.sanitize import plain

BODY_BYTES_MAX = 64 * 1024 * 1024
"""The largest answer that is read, in bytes; an endpoint that ignores paging may send all rows."""

GUARDED_SECONDS = 15.0
"""A write that is this late after the guard's permission is not sent; the guard is asked again."""


@dataclass(slots=True)
class Connection:
    """Sends requests to one Halo tenant.

    Attributes:
        url: the tenant's address.
        calling: rate limit, retries and time.
        transport: replaces the network in tests; None for the network.
        tenant: the tenant's name, used if Halo's authinfo does not name it.
        ahead_seconds: how far Halo's clock was ahead of the local clock at its last answer; None if
            the answer had no date.
        sign_in: the application's sign-in.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    calling: Calling
    transport: httpx.AsyncBaseTransport | None = field(repr=False, default=None)
    tenant: str = ""
    ahead_seconds: float | None = field(init=False, default=None)
    sign_in: SignIn = field(init=False, repr=False)
    _client: httpx.AsyncClient = field(init=False, repr=False)

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
            self._send_unsigned,
            self.calling.now,
            self.tenant,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def read(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """GET a path. Returns the answer's JSON.

        Raises:
            BadAnswer: the answer is not JSON.
            LinkFailure: the request failed.
        """
        response = await self._request("GET", path, params=params)
        return read_answer(response, reading=True)

    async def write(
        self, path: str, rows: Sequence[Mapping[str, Any]], guard: Guard, *, repeatable: bool
    ) -> Acknowledged | None:
        """POST rows.

        Args:
            path: the path of the endpoint.
            rows: what to write.
            guard: the final check; asked right before each request, after sign-in and rate limit.
            repeatable: whether to retry after a failure although Halo may have carried the write
                out.

        Returns:
            Halo's answer; None if `guard` stopped the request.

        Raises:
            RowsRefused: Halo refuses at least one of the rows.
            LinkFailure: the request failed.
        """
        content = json.dumps(list(rows)).encode()
        response = await self._request(
            "POST", path, content=content, repeatable=repeatable, guard=guard
        )
        if response is None:
            return None
        body = read_answer(response, reading=False)
        if body is None and is_web_page(response):
            return Acknowledged((), None, web_page=True)
        return read_acknowledgement(body)

    @overload
    async def _request(
        self, method: str, path: str, *, params: Mapping[str, str] | None
    ) -> httpx.Response: ...

    @overload
    async def _request(
        self, method: str, path: str, *, content: bytes, repeatable: bool, guard: Guard
    ) -> httpx.Response | None: ...

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        repeatable: bool = True,
        guard: Guard | None = None,
    ) -> httpx.Response | None:
        """Send one request, signed in, with retries; None if `guard` stopped the request."""
        url = self.url + path

        async def attempt() -> httpx.Response | None:
            issued = self.sign_in.issued
            token = await self.sign_in.token()
            response = await self._send(method, url, token, params, content, guard=guard)
            if response is not None and self.sign_in.may_help(response, method, issued):
                # The token expired or was never accepted: sign in again once.
                self.sign_in.forget_token()
                token = await self.sign_in.token()
                response = await self._send(method, url, token, params, content, guard=guard)
                if response is not None:
                    self.sign_in.still_refused(response, method)
            elif response is not None and content is not None and is_login_page(response):
                # Halo may have carried the write out, so it is not sent again here. The next
                # request signs in first.
                self.sign_in.distrust(issued)
            if response is None:
                return None
            failure = failure_of(
                response, method, writing=content is not None, now=self.calling.now()
            )
            if failure is not None:
                raise failure
            return response

        return await self.calling.retry(attempt, repeatable=repeatable)

    async def _send_unsigned(
        self, method: str, url: str, form: Mapping[str, str] | None
    ) -> httpx.Response:
        response = await self._send(method, url, None, None, None, form)
        assert response is not None  # noqa: S101  # no guard was given
        return response

    async def _send(
        self,
        method: str,
        url: str,
        token: str | None,
        params: Mapping[str, str] | None,
        content: bytes | None,
        form: Mapping[str, str] | None = None,
        guard: Guard | None = None,
    ) -> httpx.Response | None:
        """Send one request within the rate limit; None if `guard` stopped the request."""
        await self.calling.take()
        asked_at = self.calling.now()
        if guard is not None and not guard.allows_sending():
            return None

        async def trace(event: str, _info: Mapping[str, Any]) -> None:
            # The last moment at which Halo certainly has not received the write. Since the guard
            # was asked, the process may have been suspended, or the connection may have been slow,
            # and another process may have taken over.
            paused = abs(self.calling.now() - asked_at) > GUARDED_SECONDS
            if guard is not None and paused and event.endswith("send_request_headers.started"):
                message = "the process was suspended (a paused virtual machine?) before the request"
                raise httpx.ConnectError(message)

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        what = f"{method} {urlsplit(url).path}"
        crash_point(Point.BEFORE_REQUEST)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                response = await self._client.request(
                    method,
                    url,
                    params=params,
                    content=content,
                    data=form,
                    headers=headers,
                    extensions={"trace": trace},
                )
        except (httpx.InvalidURL, UnicodeError) as error:
            self.calling.note("error")
            message = (
                f"{plain(url)!r} is not a valid address ({plain(str(error))}). Check halo.url."
            )
            raise BadAnswer(Side.HALO, message) from None
        except AnswerRefused as error:
            self.calling.note("error")
            message = f"syncd rejected Halo's answer to {what}: {error}."
            raise BadAnswer(Side.HALO, message, maybe_applied=content is not None) from None
        except (httpx.HTTPError, TimeoutError) as error:
            self.calling.note("error")
            never_sent = isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout
            )
            raise Unreachable(
                Side.HALO,
                f"Halo can't be reached ({what}): {words_of(error, 'halo.url')}.",
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
