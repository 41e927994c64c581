"""Parses the event that a webhook left in a row of Halo, and builds the trace of syncd.

Pure. Only calibrate and check parse traces; decisions and pushes need only a `Row`. syncd builds
its trace from Stripe's JSON, so the trace must contain no secret, must not be too large, and must
contain only text that a database and Halo can store.

How to distinguish a row of Halo's own webhook from a row of syncd: Stripe's events about payment
intents contain the `client_secret` (source: Stripe's documentation), and syncd never writes one
into Halo. So Halo wrote an event with a secret. An event without one was written by syncd, or by a
program that removes secrets: such an event proves nothing, and is only shown.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from syncd.core.payments import PaymentState, state_of_event
from syncd.core.rows import Row
from syncd.text.sanitize import plain, without_secrets


@dataclass(frozen=True, slots=True)
class Trace:
    """The content of a row's `webhook_payload`.

    Attributes:
        is_event: whether it is one of Stripe's events.
        state: the state of the event's type; None if it is none of the five.
        intent_id: the payment intent of the event; None without one.
        has_secret: whether it contains a `client_secret`.
        livemode: whether the event belongs to live mode; None if unknown.
    """

    is_event: bool
    state: PaymentState | None
    intent_id: str | None
    has_secret: bool
    livemode: bool | None


@dataclass(frozen=True, slots=True)
class TracedRow:
    """One of Halo's rows, with its trace.

    Attributes:
        row: the row, with the values that decisions need.
        trace: the event in the row; None without one.
        received: when the webhook came, by Halo's clock; None for never.
        method, module_id: the tenant's numbers; None if the row has none.
        method_name: Halo's name of the method; None if the row does not show it.
    """

    row: Row
    trace: Trace | None
    received: datetime | None
    method: int | None
    module_id: int | None
    method_name: str | None = None


class Author(StrEnum):
    """Who wrote a row's status."""

    WEBHOOK = "webhook"  # Halo's own integration
    BARE = "bare"  # without a trace
    SYNCD = "syncd"  # syncd wrote it, or may have: it sent something for its payment
    DOUBTFUL = "doubtful"  # an event without its secret, although syncd knows of nothing it sent
    OTHER = "other"  # not a Stripe payment, or a trace of something else


def author_of(traced: TracedRow, *, sent: bool) -> Author:
    """Find out who wrote a row's status.

    Args:
        traced: the row.
        sent: whether syncd ever sent something for the row's payment, or may have. Then syncd may
            have written its status number, whatever trace the row has: a status can be sent without
            a trace.
    """
    row, trace = traced.row, traced.trace
    if row.id is None or row.intent_id is None or row.status is None:
        return Author.OTHER
    if sent:
        return Author.SYNCD
    if trace is None:
        return Author.BARE
    if trace.intent_id != row.intent_id:
        return Author.OTHER
    if trace.has_secret:
        return Author.WEBHOOK if trace.is_event and trace.state is not None else Author.OTHER
    # syncd leaves a payment intent instead of an event after it has read a payment intent.
    return Author.DOUBTFUL if trace.is_event else Author.SYNCD


def read_traced(
    row: Row, raw: Mapping[str, Any], method: int | None, module: int | None
) -> TracedRow:
    """Parse one of Halo's rows with its trace; an unreadable trace counts as no event of Stripe."""
    payload = raw.get("webhook_payload")
    trace = None
    if isinstance(payload, dict) and payload:
        payload = _as_text(payload)
    if isinstance(payload, str) and payload.strip():
        trace = _read_trace(payload)
    name = raw.get("payment_method_name")
    return TracedRow(
        row,
        trace,
        _moment(raw.get("webhook_received_date")),
        method,
        module,
        plain(name, 80) if isinstance(name, str) and name.strip() else None,
    )


_NO_TRACE_OF_STRIPE = Trace(
    is_event=False, state=None, intent_id=None, has_secret=False, livemode=None
)


def _as_text(payload: object) -> str:
    """The original text of a trace that Halo shows as JSON inside JSON."""
    try:
        return json.dumps(payload, default=str)
    except (ValueError, RecursionError):
        return "unreadable"


def _read_trace(payload: str) -> Trace:
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return _NO_TRACE_OF_STRIPE
    if not isinstance(body, dict):
        return _NO_TRACE_OF_STRIPE
    is_event = body.get("object") != "payment_intent" and isinstance(body.get("type"), str)
    inner: Any = body
    if is_event:
        data = body.get("data")
        inner = data.get("object") if isinstance(data, dict) else None
    intent_id = inner.get("id") if isinstance(inner, dict) else None
    livemode = body.get("livemode")
    return Trace(
        is_event=is_event,
        state=state_of_event(body["type"]) if is_event else None,
        intent_id=intent_id if isinstance(intent_id, str) else None,
        has_secret='"client_secret"' in payload,
        livemode=livemode if isinstance(livemode, bool) else None,
    )


def _moment(text: object) -> datetime | None:
    """A time in Halo's notation, in UTC if it has no zone; None for 1900, which means never."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.year <= 1900:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


# --- the trace that syncd leaves ------------------------------------------------------------------

TRACE_CHARACTERS_MAX = 64_000
"""An event with more characters is shortened to the parts that concern the payment."""

TRACE_DEPTH_MAX = 40
"""Deeper levels are removed: Stripe's objects have no more than a dozen."""

_HEADS = (
    "id", "object", "type", "api_version", "created", "livemode", "status", "amount",
    "amount_received", "currency",
)  # fmt: skip


def trace_of(raw: Mapping[str, Any]) -> str:
    """The trace to send: the JSON of an event or payment intent, without secrets.

    Removes every `client_secret`, and everything that looks like a secret inside a text (the links
    of `next_action` contain one). An event beyond TRACE_CHARACTERS_MAX is shortened.
    """
    pruned = _pruned(raw, 0)
    text = _as_json(pruned)
    return text if len(text) <= TRACE_CHARACTERS_MAX else _as_json(_shortened(pruned))


def _as_json(value: object) -> str:
    # In ASCII, as Stripe sends it: half a surrogate pair can be stored and sent only this way.
    return without_secrets(json.dumps(value, separators=(",", ":")))


_KEPT_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
"""Types of values that need no look inside."""


def _pruned(value: Any, depth: int) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no notation for it
    if not isinstance(value, dict | list):
        return value
    if depth > TRACE_DEPTH_MAX:
        return None
    if isinstance(value, list):
        return [_pruned(item, depth + 1) for item in value]
    return {
        key: inner if type(inner) in _KEPT_AS_THEY_ARE else _pruned(inner, depth + 1)
        for key, inner in value.items()
        if key != "client_secret"
    }


def _shortened(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an event or payment intent that show what happened, each limited in length."""
    short = _heads(raw)
    inner = raw.get("data")
    if isinstance(inner, dict) and isinstance(inner.get("object"), dict):
        short["data"] = {"object": _heads(inner["object"])}
    return short


def _heads(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _cut(raw[key]) for key in _HEADS if key in raw}


def _cut(value: Any) -> Any:
    return value if isinstance(value, int | float | bool | None) else str(value)[:500]
