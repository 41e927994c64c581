"""The parameters of a listing, checked as strictly as Stripe checks them, and Stripe's errors."""

import base64
import re
from typing import Any

from syncd.sandbox.http import Reply, Request, json_reply
from syncd.sandbox.stripe.reversals import OF, field_of

_RANGES = ("gt", "gte", "lt", "lte")
EXPAND = re.compile(r"expand\[\d*\]")


class Query:
    """A listing's parameters, parsed as strictly as Stripe does."""

    def __init__(self, kind: str, query: list[tuple[str, str]]) -> None:
        self.refusal: Reply | None = None
        self.limit, self.since, self.to = 10, -(2**62), 2**62
        self.after: str | None = None
        self.before: str | None = None
        self.type: str | None = None
        self.types: list[str] = []
        self.delivered: bool | None = None
        self.of: dict[str, str] = {}
        for key, value in query:
            self._take(kind, key, value)
        if self.after and self.before:
            self.refusal = error_reply(
                400, "You may only specify one of these parameters: ending_before, starting_after."
            )
        if self.type and self.types:
            self.refusal = error_reply(
                400, "You may only specify one of these parameters: type, types."
            )
        if len(self.types) > 20:
            self.refusal = error_reply(400, "You may pass at most 20 types.", param="types")

    def _take(self, kind: str, key: str, value: str) -> None:
        if bounded := re.fullmatch(r"created(?:\[(\w+)\])?", key):
            self._range(bounded[1], value)
        elif key == "limit":
            self.limit = int(value) if value.isdigit() else 0
            if not 1 <= self.limit <= 100:
                self.refusal = error_reply(
                    400,
                    f"Invalid integer: {value}. Limit can range between 1 and 100.",
                    code="parameter_invalid_integer",
                    param="limit",
                )
        elif key == "starting_after":
            self.after = value
        elif key == "ending_before":
            self.before = value
        elif kind == "events" and key == "type":
            self.type = value
        elif kind == "events" and re.fullmatch(r"types\[\d*\]", key):
            self.types.append(value)
        elif key in OF.get(kind, ()):
            self.of[key] = value
        elif kind == "events" and key == "delivery_success":
            self._delivery(value)
        elif not EXPAND.fullmatch(key):
            self.refusal = unknown_parameter(key)

    def _delivery(self, value: str) -> None:
        if value not in ("true", "false"):
            self.refusal = error_reply(
                400,
                f"Invalid boolean: {value}",
                code="parameter_invalid_boolean",
                param="delivery_success",
            )
            return
        self.delivered = value == "true"

    def _range(self, bound: str | None, value: str) -> None:
        if not value.lstrip("-").isdigit() or (bound is not None and bound not in _RANGES):
            self.refusal = error_reply(400, f"Invalid created: {value}", param="created")
            return
        number = int(value)
        if bound in (None, "gte"):
            self.since = max(self.since, number)
        if bound == "gt":
            self.since = max(self.since, number + 1)
        if bound in (None, "lte"):
            self.to = min(self.to, number)
        if bound == "lt":
            self.to = min(self.to, number - 1)

    def takes_delivery(self, event: dict[str, Any]) -> bool:
        """Whether an event matches the requested delivery status.

        An event is delivered after every webhook endpoint has accepted it.
        """
        return self.delivered is None or self.delivered is not bool(event.get("pending_webhooks"))

    def takes(self, event: dict[str, Any]) -> bool:
        """Whether an event is of the requested types."""
        wanted = self.types or ([self.type] if self.type else [])
        if not wanted:
            return True
        kind = field_of(event, "type")
        if not isinstance(kind, str):
            return True  # garbage that a test added is always shown
        return any(re.fullmatch(re.escape(w).replace(r"\*", ".*"), kind) for w in wanted)


def bearer_of(authorization: str) -> str | None:
    """The key in an Authorization header; None without one."""
    if authorization.startswith("Bearer "):
        return authorization[7:]
    if authorization.startswith("Basic "):
        return base64.b64decode(authorization[6:]).decode().partition(":")[0]
    return None


def error_reply(status: int, message: str, **more: str) -> Reply:
    """An error in Stripe's shape."""
    return json_reply(
        {"error": {"message": message, "type": "invalid_request_error", **more}}, status
    )


def unknown_parameter(key: str) -> Reply:
    """The refusal of a parameter that Stripe does not know."""
    return error_reply(
        400, f"Received unknown parameter: {key}", code="parameter_unknown", param=key
    )


def unknown_url(request: Request) -> Reply:
    """The refusal of a path that Stripe does not know."""
    return error_reply(404, f"Unrecognized request URL ({request.method}: {request.path}).")
