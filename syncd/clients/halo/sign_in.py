"""Signs in to Halo: finds the token endpoint, requests a token, and keeps the token until it expires.

The client secret and the token never leave this module, except in the requests that need them.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from syncd.clients.halo.errors import error_message, failure_of, read_answer
from syncd.clients.halo.parse import lifetime_seconds, read_json
from syncd.core.errors import Side, SignInRefused
from syncd.text.sanitize import conceal, plain

TOKEN_MARGIN_SECONDS = 30.0
"""A token is renewed this long before it expires."""

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
        granted: the scope that came with the token; None where Halo named none.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str
    send: Send
    now: Callable[[], float]
    granted: frozenset[str] | None = field(init=False, default=None)
    _token: str | None = field(init=False, repr=False, default=None)
    _token_until: float = field(init=False, default=0.0)
    _endpoint: tuple[str, str | None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        conceal("Halo's client secret", self.client_secret)

    @property
    def done(self) -> bool:
        """Whether Halo has issued a token that was not refused since."""
        return self._token is not None

    def forget_token(self) -> None:
        """Drop the token: Halo refused the token."""
        self._token = None

    def forget(self) -> None:
        """Drop the token and the token endpoint."""
        self._token = self._endpoint = None

    async def token(self) -> str:
        """Return the current token; request a new one where there is none, or it is about to expire.

        Raises:
            SignInRefused: Halo refuses the application, or the endpoint must not get the secret.
            LinkFailure: Halo does not answer.
        """
        now = self.now()
        # A clock that was set back must not make an old token look fresh for long: the 401 does it.
        if self._token is not None and now < self._token_until:
            return self._token
        if self._endpoint is None:
            self._endpoint = await self._discover()
        endpoint, tenant = self._endpoint
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": self.scope,
        }
        if tenant:
            form["tenant"] = tenant
        response = await self.send("POST", endpoint, form)
        if response.status_code == 429 or response.status_code >= 500:
            failure = failure_of(response, "POST", writing=False, now=now)
            raise failure or AssertionError
        body = read_json(response.content)
        if body is None and response.is_success:
            # A portal's page in place of an answer is no refusal of ours; authinfo's may have been
            # the same portal's, so it is asked again.
            self._endpoint = None
            read_answer(response, reading=True)
        token = body.get("access_token") if isinstance(body, dict) else None
        if not response.is_success or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            self._endpoint = None
            raise SignInRefused(
                Side.HALO,
                f"Halo refuses the sign-in (HTTP {response.status_code}) for client_id "
                f"{self.client_id!r}, scope {self.scope!r}: "
                f"{'its answer holds no token.' if response.is_success else error_message(body, response)} "
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
        response = await self.send("GET", f"{self.url}/api/authinfo", None)
        if response.status_code == 429 or response.status_code >= 500:
            raise (failure_of(response, "GET", writing=False, now=self.now()) or AssertionError)
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
