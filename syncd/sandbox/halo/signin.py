"""How the simulated Halo signs clients in, and what a token allows."""

import secrets
from collections.abc import Callable
from urllib.parse import parse_qsl

from syncd.sandbox.http import Reply, Request, json_reply


class HaloSignIn:
    """Tokens by client credentials.

    Attributes:
        tenant: must be sent with a sign-in, if authinfo exists to tell it.
        tenant_wanted_in: where the tenant is read from: "form", "query", or both.
        authinfo: authinfo's answer instead of the usual one.
        token_refusal: status and body for an unknown token; None for a 401 without a body. The body
            of a redirect is its target; a text that begins with "<" is a web page.
        granted_scope: the scope in the token's answer; None leaves it out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.url = ""
        self.client_id = "sandbox-client"
        self.client_secret = "sandbox-client-secret"  # valid only in the sandbox
        self.tenant = "sandbox"
        self.tenant_wanted_in = {"form"}
        self.authinfo: dict[str, object] | None = None
        self.token_refusal: tuple[int, object] | None = None
        self.has_authinfo = True
        self.auth_url: str | None = None
        self.token_lifetime = 3_600.0
        self.permissions = {"read:invoices", "edit:invoices"}
        self.granted_scope: str | None = None
        self._tokens: dict[str, tuple[float, set[str]]] = {}

    def expire_tokens(self) -> None:
        """Let all tokens expire now."""
        self._tokens.clear()

    def _sign_in(self, request: Request) -> Reply | None:
        if request.path == "/api/authinfo" and request.method == "GET":
            if not self.has_authinfo:
                return Reply(
                    404, b"<html><body>Not found</body></html>", {"Content-Type": "text/html"}
                )
            if self.authinfo is not None:
                return json_reply(self.authinfo)
            return json_reply(
                {"auth_url": self.auth_url or f"{self.url}/auth", "tenant_id": self.tenant}
            )
        if request.path == "/auth/token" and request.method == "POST":
            return self._token(request)
        return None

    def _token(self, request: Request) -> Reply:
        if not request.headers.get("content-type", "").startswith(
            "application/x-www-form-urlencoded"
        ):
            return json_reply({"error": "invalid_request"}, 400)
        form = dict(parse_qsl(request.body.decode()))
        request.body = b""  # it contains the secret
        if form.get("grant_type") != "client_credentials":
            return json_reply({"error": "unsupported_grant_type"}, 400)
        if (form.get("client_id"), form.get("client_secret")) != (
            self.client_id,
            self.client_secret,
        ):
            return json_reply({"error": "invalid_client"}, 401)
        named = {"form": form.get("tenant"), "query": request.params().get("tenant")}
        wrong = any(named[place] != self.tenant for place in self.tenant_wanted_in)
        if self.has_authinfo and self.tenant and wrong:
            return json_reply(
                {"error": "invalid_request", "error_description": "The tenant is unknown."}, 400
            )
        scopes = set(form.get("scope", "").split())
        if not scopes or not scopes <= {"read:invoices", "edit:invoices", "all"}:
            return json_reply({"error": "invalid_scope"}, 400)
        token = secrets.token_hex(24)
        self._tokens[token] = (self.clock() + self.token_lifetime, scopes)
        answer = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(self.token_lifetime),
        }
        if self.granted_scope is not None:
            answer["scope"] = self.granted_scope
        return json_reply(answer)

    def _unauthorised(self, request: Request) -> Reply | None:
        token = request.authorization.removeprefix("Bearer ")
        until, scopes = self._tokens.get(token, (0.0, set()))
        if until <= self.clock():
            if self.token_refusal is not None:
                status, body = self.token_refusal
                if 300 <= status < 400:
                    return Reply(status, b"", {"Location": str(body)})
                if isinstance(body, str) and body.startswith("<"):
                    return Reply(status, body.encode(), {"Content-Type": "text/html"})
                return json_reply(body, status)
            return Reply(401, b"")
        needed = "read:invoices" if request.method == "GET" else "edit:invoices"
        if needed not in self.permissions or not {needed, "all"} & scopes:
            return json_reply(
                {
                    "ClassName": "System.UnauthorizedAccessException",
                    "Message": "You do not have permission to access this.",
                },
                403,
            )
        return None
