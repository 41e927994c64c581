"""Signs in to Halo: finds the token endpoint, requests a token, keeps it until it expires.

The client secret and the token leave this module only in the requests that need them.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from syncd.clients.halo.errors import (
    blames_token,
    error_message,
    failure_of,
    is_web_page,
    names_token,
    read_answer,
    redirected,
)
from syncd.clients.halo.parse import lifetime_seconds, read_json, stated_error
from syncd.core.errors import BadAnswer, Side, SignInRefused
from syncd.text.sanitize import conceal, plain

TOKEN_MARGIN_SECONDS = 30.0
"""A token is renewed this long before it expires."""

_NO_SIGN_IN = frozenset({404, 405, 410})
"""Statuses that mean that the address has no sign-in."""

_TOKEN = re.compile(r"[!-~]{1,16384}")

Send = Callable[[str, str, Mapping[str, str] | None], Awaitable[httpx.Response]]
"""Sends one request without a token: method, URL, form fields (None without a body)."""


@dataclass(slots=True)
class SignIn:
    """The sign-in of one application (OAuth 2.0 client credentials).

    Attributes:
        url: the tenant's address, without a slash at its end.
        send: sends a request without a token; raises LinkFailure.
        now: Unix seconds.
        tenant: the tenant's name, used if Halo's authinfo does not name it.
        issued: how many tokens Halo has issued.
        granted: the scope in the token's answer; None without one.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    send: Send
    now: Callable[[], float]
    tenant: str = ""
    issued: int = field(init=False, default=0)
    granted: frozenset[str] | None = field(init=False, default=None)
    _token: str | None = field(init=False, repr=False, default=None)
    _token_until: float = field(init=False, default=0.0)
    _endpoint: tuple[str, str | None] | None = field(init=False, default=None)
    _denied: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        conceal("Halo's client secret", self.client_secret)

    @property
    def done(self) -> bool:
        """Whether Halo has issued a token that it has not rejected since."""
        return self._token is not None

    def forget_token(self) -> None:
        """Drop the token, because Halo rejected it."""
        self._token = None

    def forget(self) -> None:
        """Drop the token and the token endpoint."""
        self._token = self._endpoint = None

    async def token(self) -> str:
        """Return the current token; request a new one if there is none, or if it expires soon.

        Raises:
            SignInRefused: Halo rejects the application, or the endpoint must not get the secret.
            LinkFailure: the request failed.
        """
        now = self.now()
        # If the clock was set back, an old token may look fresh; then Halo's 401 leads to a new
        # token.
        if self._token is not None and now < self._token_until:
            return self._token
        if self._endpoint is None:
            self._endpoint = await self.discover()
        endpoint, tenant = self._endpoint
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": self.scope,
        }
        address = endpoint
        if tenant:
            # Clients in use send the tenant in the query; Halo's guide names the form field.
            form["tenant"] = tenant
            address = f"{endpoint}?{urlencode({'tenant': tenant})}"
        response = await self.send("POST", address, form)
        body = self._token_answer(response, endpoint)
        token = body.get("access_token") if isinstance(body, dict) else None
        if not response.is_success or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            self._endpoint = None
            raise SignInRefused(Side.HALO, self._refusal(response, body, named=bool(tenant)))
        scope = body.get("scope")
        self.granted = frozenset(scope.split()) if isinstance(scope, str) else None
        conceal("Halo's token", token)
        seconds = lifetime_seconds(body.get("expires_in"))
        self._token = token
        self._token_until = now + max(seconds - TOKEN_MARGIN_SECONDS, seconds / 2)
        self.issued += 1
        self._denied.clear()
        return token

    def may_help(self, response: httpx.Response, method: str, issued: int) -> bool:
        """Whether a new sign-in may resolve this refusal: Halo may have dropped the token early.

        If a new token is refused in the same way, the token is not the cause: the words of the
        refusal must concern the token, or nothing helps. After a second refusal, syncd requests no
        further token until a request of this method needs one anyway.

        Args:
            response: Halo's answer.
            method: the HTTP method of the request.
            issued: how many tokens were issued before the request.
        """
        if response.status_code == 401:
            return True
        if not blames_token(response, method) or method in self._denied:
            return False
        if self.issued != issued and not names_token(response, method):  # the token is new
            self._denied.add(method)
            return False
        return True

    def distrust(self, issued: int) -> None:
        """Drop the token after a login page, unless it was new (`issued`: as in `may_help`)."""
        if self.issued == issued:
            self.forget_token()

    def still_refused(self, response: httpx.Response, method: str) -> None:
        """Record that a request was refused again, although its token was new."""
        if blames_token(response, method):
            self._denied.add(method)

    def _token_answer(self, response: httpx.Response, endpoint: str) -> Any:
        """Parse the answer of the token endpoint.

        Raises:
            LinkFailure: it is not an answer about the sign-in, so it proves nothing about the
                application.
        """
        status, body = response.status_code, read_json(response.content)
        if response.is_success and body is None:
            # A portal's web page is not a refusal. The answer of authinfo may have come from the
            # same portal, so authinfo is asked again.
            self._endpoint = None
            read_answer(response, reading=True)
        if status == 429 or status >= 500:
            raise failure_of(response, "POST", writing=False, now=self.now()) or AssertionError
        if 300 <= status < 400:
            self._endpoint = None
            raise redirected(response, "POST")
        if status in _NO_SIGN_IN or (not response.is_success and is_web_page(response)):
            self._endpoint = None
            path = urlsplit(self.url).path
            hint = (
                f"halo.url has the path {plain(path, 100)!r}; try halo.url without the path."
                if path
                else "Check that halo.url is the address of the tenant itself."
            )
            raise BadAnswer(
                Side.HALO,
                f"Halo's sign-in is not at {plain(endpoint, 200)} (HTTP {status}): "
                f"{error_message(body, response)} {hint}",
            )
        return body

    def _refusal(self, response: httpx.Response, body: Any, *, named: bool) -> str:
        said = (
            # Other fields of a successful answer may contain a token.
            stated_error(body) or "its answer contains no token."
            if response.is_success
            else error_message(body, response)
        )
        unnamed = (
            ""
            if named
            else (
                " The sign-in named no tenant, because Halo's authinfo names none. Only if your "
                "Halo has several tenants: set halo.tenant."
            )
        )
        return (
            f"Halo refuses the sign-in (HTTP {response.status_code}) for client_id "
            f"{self.client_id!r}, scope {self.scope!r}: {said} Check the application in Halo "
            f"(Configuration, Integrations, Halo API), its client secret and its permissions.{unnamed}"
        )

    async def discover(self) -> tuple[str, str | None]:
        """Find the token endpoint and the tenant's name; without authinfo, use the usual path.

        The tenant's name from the configuration counts only if authinfo does not name one.

        The endpoint may be on another host, as Halo's own often is. This adds no risk: a server
        that answers for the tenant's address over verified TLS could take the secret there as well.
        But the endpoint must use https, or be on this machine if the tenant is too.

        Raises:
            SignInRefused: the endpoint must not get the secret.
            LinkFailure: the request failed.
        """
        response = await self.send("GET", f"{self.url}/api/authinfo", None)
        if response.status_code == 429 or response.status_code >= 500:
            raise (failure_of(response, "GET", writing=False, now=self.now()) or AssertionError)
        if 300 <= response.status_code < 400:
            raise redirected(response, "GET")
        body = read_json(response.content) if response.is_success else None
        found = body if isinstance(body, dict) else {}
        auth_url, tenant = found.get("auth_url"), found.get("tenant_id")
        if isinstance(tenant, int) and not isinstance(tenant, bool):
            tenant = str(tenant)
        tenant = tenant if isinstance(tenant, str) and tenant else self.tenant or None
        if not isinstance(auth_url, str) or not auth_url:
            return f"{self.url}/auth/token", tenant
        # A path without a host belongs to the tenant's address.
        auth_url = f"{self.url}{auth_url}" if re.match(r"/[^/\\]", auth_url) else auth_url
        auth_url = auth_url.rstrip("/").removesuffix("/token")
        if not may_carry_secret(auth_url, loopback=self.url.startswith("http://")):
            message = (
                f"Halo's authinfo names {plain(auth_url, 200)!r} as the sign-in address, which is "
                "not a plain https:// address. syncd does not send the client secret there. Check halo.url."
            )
            raise SignInRefused(Side.HALO, message)
        return f"{auth_url}/token", tenant


def may_carry_secret(url: str, *, loopback: bool) -> bool:
    """Whether a secret may be sent to this URL: https, or (if `loopback`) this machine."""
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
