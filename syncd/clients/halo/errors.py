"""Classifies Halo's HTTP answers: which failure each error answer means.

Does not belong here: parsing of JSON (`parse`) and sending of requests (`connection`).
"""

import re
from typing import Any
from urllib.parse import urlsplit

import httpx

from syncd.clients.halo.parse import ERROR_KEYS, as_sentence, error_text, read_json, stated_error
from syncd.clients.retry import retry_after_seconds, server_time
from syncd.core.errors import (
    BadAnswer,
    Failure,
    PermissionMissing,
    RateLimited,
    RowsRefused,
    ServerError,
    Side,
    SignInRefused,
)
from syncd.text.sanitize import plain
from syncd.text.shape import shape_of_body

WAIT_WITHOUT_RETRY_AFTER_SECONDS = 60.0
"""The wait after a 429 without `Retry-After`. Authors of Halo clients report a minute or more."""

_TAILS = ("/auth/token", "/token", "/api/authinfo", "/api/InvoicePayment")
"""Ends of paths that are not part of a tenant's address."""

_LOGIN = re.compile(r"log-?[io]n|sign-?in|auth|account|session", re.IGNORECASE)
"""Paths of login pages."""

_ABOUT_TOKEN = re.compile(
    r"(?i)invalid[ _]token|token[^.]{0,40}\b(?:not found|invalid|expired|revoked|unknown|missing"
    r"|not valid|not recogni[sz]ed|does not exist|doesn't exist)"
    r"|\b(?:expired|revoked|unknown|missing|no)\b[^.]{0,20}\btoken|session[^.]{0,20}expired"
    r"|unauthori[sz]ed|unauthenticated|not (?:signed|logged) in"
)
"""Words in a refusal that concern the token, unlike "Unexpected token" of a JSON parser."""

_SESSION_ENDED = frozenset({419, 440, 498})
"""Non-standard statuses with which gateways and web servers report an expired session."""

_ERROR_BYTES_MAX = 2_000
"""A successful answer that is longer contains rows and is not searched for an error."""

_REFUSED_ROWS = frozenset({400, 404, 409, 413, 422})


def read_answer(response: httpx.Response, *, reading: bool) -> Any:
    """Parse the body of a successful answer; None for a write whose answer is not JSON.

    Raises:
        BadAnswer: the answer to a read is not JSON.
    """
    body = read_json(response.content)
    if body is None and reading:
        kind = response.headers.get("content-type", "no type")[:60]
        message = (
            f"Halo answered with {len(response.content)} bytes of {plain(kind)} instead of "
            "JSON. Check that halo.url names the tenant itself, not a portal in front of it."
        )
        raise BadAnswer(Side.HALO, message).of(shape_of_body(response.content, kind))
    return body


def failure_of(
    response: httpx.Response, method: str, *, writing: bool, now: float
) -> Failure | None:
    """Classify an answer by its HTTP status; None for a 2xx.

    Args:
        response: Halo's answer.
        method: the HTTP method of the request.
        writing: whether the request carried rows.
        now: Unix seconds.
    """
    status = response.status_code
    if 200 <= status < 300:
        return None
    what = f"{method} {response.request.url.path}"
    sent_at = server_time(response.headers.get("date"))  # a date in Retry-After is by Halo's clock
    wait = retry_after_seconds(response.headers.get("retry-after"), sent_at or now)
    said = error_message(read_json(response.content), response)
    if status == 429:
        return RateLimited(
            Side.HALO,
            f"Halo's rate limit is reached ({what}, HTTP 429): {said}",
            retry_after_seconds=WAIT_WITHOUT_RETRY_AFTER_SECONDS if wait is None else wait,
        )
    if status >= 500:
        return ServerError(
            Side.HALO,
            f"Halo answered {status} to {what}: {said}",
            retry_after_seconds=wait,
            maybe_applied=writing,
            # After a gateway's error (502, 504, 524, …), the server behind the gateway may still
            # carry out the write.
            late=status != 500,
        )
    refused = _not_allowed(response, method, said, writing=writing)
    if refused is not None:
        return refused
    if writing and status in _REFUSED_ROWS and not is_web_page(response):
        return RowsRefused(said)
    if 300 <= status < 400:
        return redirected(response, method, writing=writing)
    refusal = BadAnswer(
        Side.HALO,
        f"Halo answered {status} to {what}: {said} Check halo.url.",
        maybe_applied=writing,
        late=writing,
    )
    refusal.status = None if is_web_page(response) else status
    return refusal


def _not_allowed(
    response: httpx.Response, method: str, said: str, *, writing: bool
) -> Failure | None:
    """The failure of an answer about the sign-in or a permission; None for any other answer."""
    status, what = response.status_code, f"{method} {response.request.url.path}"
    if status == 401:
        return SignInRefused(
            Side.HALO,
            f"Halo refuses {what} (HTTP 401) although the sign-in worked: {said} The agent "
            "role behind the application may lack a permission for invoices.",
        )
    if status == 403 and writing and is_web_page(response):
        return BadAnswer(
            Side.HALO,
            f"A server in front of Halo refuses {what} (HTTP 403): {said} A firewall may block the event "
            "that syncd sends with the row; with push.trace = false, syncd sends none. Or the agent "
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
    if not writing and blames_token(response, method):
        return SignInRefused(
            Side.HALO,
            f"Halo refuses {what} (HTTP {status}) although it has just issued a token: {said} "
            "Check the application in Halo (Configuration, Integrations, Halo API).",
        )
    return None


def redirected(response: httpx.Response, method: str, *, writing: bool = False) -> BadAnswer:
    """The failure for a redirect; its text names the address to configure instead."""
    asked = response.request.url
    location = plain(response.headers.get("location", ""), 2_000)
    try:
        to = asked.join(location).copy_with(query=None, fragment=None, username=None, password=None)
        same = (to.scheme, to.host, to.port) == (asked.scheme, asked.host, asked.port)
        pointed = f"{to.scheme}://{to.netloc.decode('ascii')}{to.path}" if location else ""
    except (httpx.InvalidURL, UnicodeError, ValueError, TypeError):
        same, pointed = False, ""
    pointed = plain(pointed, 200)
    advice = (
        "Check halo.url."
        if same or not pointed
        else f"If the tenant is there, set halo.url to its address, {plain(_base(to, asked), 200)}."
    )
    return BadAnswer(
        Side.HALO,
        f"Halo redirects {method} {plain(asked.path, 200)} (HTTP {response.status_code}) to "
        f"{pointed or 'an address that cannot be read'}. syncd does not follow redirects, because "
        f"its requests carry a secret. {advice}",
        maybe_applied=writing,
        late=writing,
    )


def _base(to: httpx.URL, asked: httpx.URL) -> str:
    """The value for halo.url with which the request reaches the redirect's target."""
    path = to.path
    for tail in (asked.path, *_TAILS):
        path = path.removesuffix(tail)
    return f"{to.scheme}://{to.netloc.decode('ascii')}{path.rstrip('/')}"


def blames_token(response: httpx.Response, method: str) -> bool:
    """Whether a refusal may concern the token rather than the request.

    Halo answers with 400 or 403 if it has dropped a token before its expiry. A proxy or a portal in
    front of Halo may show its login page instead, or redirect to it.
    """
    status = response.status_code
    if method == "GET" and is_login_page(response):
        return True
    if status == 403:
        # A firewall in front of Halo may refuse the contents of a write; the write is not repeated.
        return method == "GET" or not is_web_page(response)
    return status in _SESSION_ENDED or names_token(response, method)


def names_token(response: httpx.Response, method: str) -> bool:
    """Whether the words of a refusal concern the token, for example "Token not found"."""
    status = response.status_code
    in_success = (
        response.is_success and method == "GET" and len(response.content) <= _ERROR_BYTES_MAX
    )
    if not in_success and (not 400 <= status < 500 or status in (401, 429)):
        return False
    body = read_json(response.content)
    if isinstance(body, dict):
        texts = [body[key] for key in ERROR_KEYS if isinstance(body.get(key), str)]
    else:
        text = body if isinstance(body, str) else response.content[:600].decode("utf-8", "replace")
        texts = [] if is_web_page(response) else [text]
    texts = [stated_error(body)] if in_success else [*texts, stated_error(body)]
    return any(_ABOUT_TOKEN.search(text) for text in texts)


def is_login_page(response: httpx.Response) -> bool:
    """Whether the answer may be a login page, or a redirect to one."""
    if 300 <= response.status_code < 400:
        return bool(_LOGIN.search(urlsplit(response.headers.get("location", "")).path))
    return response.is_success and is_web_page(response)


def is_web_page(response: httpx.Response) -> bool:
    """Whether the body is a web page."""
    return "html" in response.headers.get("content-type", "") or response.content[:1] == b"<"


def error_message(body: Any, response: httpx.Response) -> str:
    """Halo's error message as one plain sentence; without a message, a sentence about the answer."""
    if said := error_text(body):
        return said
    if body is not None:
        return "the answer has no message."
    if is_web_page(response):
        return "the answer is a web page."
    return as_sentence(response.content[:600].decode("utf-8", "replace")) or "the answer is empty."
