"""Classifies the errors of the `stripe` package: which failure each error means."""

from collections.abc import Mapping
from typing import Any

import stripe

from syncd.clients.http import AnswerRefused, words_of
from syncd.clients.retry import retry_after_seconds, server_time
from syncd.core.errors import (
    BadAnswer,
    CursorRefused,
    Failure,
    PermissionMissing,
    RateLimited,
    ServerError,
    Side,
    SignInRefused,
    Unreachable,
)
from syncd.text.sanitize import plain

_PERMISSION = {
    "/v1/charges": "Charges and Refunds",
    "/v1/refunds": "Charges and Refunds",
    "/v1/disputes": "Disputes",
}


def failure_of(error: stripe.StripeError, path: str, now: float) -> Failure:
    """Classify an error of the `stripe` package; `now` in Unix seconds."""
    status = error.http_status
    what = f"GET {path}"
    # Without JSON, the package's message is the body itself: a web page, or a customer's data.
    told = error.user_message if isinstance(error.json_body, dict) else ""
    said = plain(told) if isinstance(told, str) else ""
    said = said if not said or said.endswith((".", "!", "?")) else f"{said}."
    headers = error.headers or {}
    sent_at = server_time(header(headers, "date"))  # the date in Retry-After is by Stripe's clock
    wait = retry_after_seconds(header(headers, "retry-after"), sent_at or now)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, AnswerRefused):
        return BadAnswer(Side.STRIPE, f"syncd rejected Stripe's answer to {what}: {cause}.")
    if isinstance(error, stripe.APIConnectionError):
        return Unreachable(
            Side.STRIPE, f"Stripe can't be reached ({what}): {_network_words(error)}."
        )
    if status == 429:
        reason = header(error.headers or {}, "stripe-rate-limited-reason")
        why = (
            f"the limit {plain(reason, 60)} is reached"
            if reason
            else "another request holds a lock"
        )
        return RateLimited(
            Side.STRIPE, f"Stripe answered 429 to {what}: {why}.", retry_after_seconds=wait
        )
    if status == 401:
        return SignInRefused(
            Side.STRIPE,
            "Stripe refuses the API key. Create a new restricted key in Stripe's dashboard, "
            "and replace the secret stripe_api_key.",
        )
    if status == 403:
        return PermissionMissing(
            Side.STRIPE,
            f"Stripe's key isn't allowed to {what}: {said or 'a permission is missing.'}",
            f"Give the key read access to {_PERMISSION.get(path, 'Events and PaymentIntents')}.",
        )
    if status is not None and status >= 500:
        return ServerError(
            Side.STRIPE, f"Stripe answered {status} to {what}.", retry_after_seconds=wait
        )
    if status in (400, 404) and isinstance(error, stripe.InvalidRequestError):
        return CursorRefused(f"Stripe refused {what}: {said or status}")
    return BadAnswer(
        Side.STRIPE,
        f"Stripe's answer to {what} (HTTP {status}) cannot be parsed: "
        f"{said or 'it is not JSON.'} Check stripe.api_base.",
    )


def _network_words(error: stripe.StripeError) -> str:
    """The network's error message, without the package's advice around it."""
    cause = error.__cause__ or error.__context__
    return words_of(cause, "stripe.api_base") if cause else plain(str(error), 200)


def header(headers: Mapping[str, Any], name: str) -> str | None:
    """A header by its lower-case name; None without one."""
    for key, value in headers.items():
        if str(key).lower() == name:
            return str(value)
    return None
