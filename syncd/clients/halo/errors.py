"""Classifies Halo's HTTP errors: the failure that each answer stands for.

Reading JSON is in `parse`; sending requests is in `sink`.
"""

import re
from typing import Any

import httpx

from syncd.clients.halo.parse import own_words, read_json, sentence
from syncd.clients.retry import retry_after_seconds
from syncd.core.errors import (
    BadAnswer,
    Failure,
    PermissionMissing,
    RateLimited,
    RowsRefused,
    ServerTrouble,
    Side,
    SignInRefused,
)
from syncd.text.sanitize import plain

WAIT_WITHOUT_RETRY_AFTER_SECONDS = 60.0
"""The wait after a 429 without `Retry-After`. Halo's clients report that Halo needs a minute or more."""

_REFUSED_ROWS = frozenset({400, 404, 409, 413, 422})


def read_answer(response: httpx.Response, *, reading: bool) -> Any:
    """Parse the body of a successful answer; None where a write was answered without JSON.

    Raises:
        BadAnswer: a read was answered without JSON.
    """
    body = read_json(response.content)
    if body is None and reading:
        kind = response.headers.get("content-type", "no type")[:60]
        message = (
            f"Halo answered with {len(response.content)} bytes of {plain(kind)} where JSON "
            "belongs. Check that halo.url names the tenant itself, not a portal in front of it."
        )
        raise BadAnswer(Side.HALO, message)
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
    wait = retry_after_seconds(response.headers.get("retry-after"), now)
    said = error_message(read_json(response.content), response)
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
    if status == 403 and writing and _is_web_page(response):
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
    if writing and status in _REFUSED_ROWS and not _is_web_page(response):
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


def _is_web_page(response: httpx.Response) -> bool:
    return "html" in response.headers.get("content-type", "") or response.content[:1] == b"<"


def error_message(body: Any, response: httpx.Response) -> str:
    """Halo's error message as one plain sentence; a sentence about the answer where it has none."""
    if said := own_words(body):
        return said
    if body is not None:
        return "its answer holds no message."
    if _is_web_page(response):
        return "it sent a web page."
    return sentence(response.content[:600].decode("utf-8", "replace")) or "it said nothing."
