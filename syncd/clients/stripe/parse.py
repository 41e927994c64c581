"""Parses Stripe's JSON leniently: events, payment intents, refunds and disputes.

Pure. An event may have the format of any API version, and it may contain any text. What cannot be
parsed is reported, never guessed, and no secret leaves this module.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from syncd.clients.webhook_payload import trace_of
from syncd.core.errors import BadAnswer, Side
from syncd.core.holds import HoldCode, message
from syncd.core.payments import (
    CREATED_EVENT,
    INTENT_ID,
    STATUSES_WITHOUT_STATE,
    Observation,
    PaymentState,
    state_of_event,
    state_of_intent,
)
from syncd.core.reversals import FUNDS_EVENT_TYPES, REVERSAL_EVENT_TYPES, Reversal, ReversalKind
from syncd.text.sanitize import plain

_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_CURRENCY = re.compile(r"[A-Za-z]{3,4}")
_AMOUNT_MAX = 10**15
_SECONDS_MAX = 4_102_444_800  # the year 2100


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An event or object that cannot be parsed.

    Attributes:
        id: its own id, or a fingerprint of its text if it has none.
        text: what is wrong with it.
        at: Unix seconds; None if it contains no time.
        shape: its structure without its contents.
    """

    id: str
    text: str
    at: int | None = None
    shape: str = field(default="", compare=False)

    @property
    def reason(self) -> str:
        """The message for the attention list."""
        return message(HoldCode.UNREADABLE, self.id, problem=self.text)


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event that was listed.

    Attributes:
        id: ``evt_…``.
        at: when it was created, Unix seconds.
        kind: its type.
        observation: the state of a payment that it reports; None if it reports none of the five states.
        reversal: the refund or dispute that it reports; None if it reports none.
        new_intent: the payment intent that was created; None for any other event.
    """

    id: str
    at: int
    kind: str
    observation: Observation | None
    reversal: Reversal | None = None
    new_intent: str | None = None


def read_event(raw: object, invoice_key: str) -> SeenEvent | Unreadable:
    """Parse one listed event.

    The state comes from the event's type, which means the same in every API version; the object
    inside has the shape of the API version when the event was created, so it is parsed leniently.
    """
    if not isinstance(raw, dict):
        return Unreadable(_fingerprint(raw), "An event in Stripe's list isn't an object.")
    event_id, kind, at = raw.get("id"), raw.get("type"), _seconds(raw.get("created"))
    named = isinstance(event_id, str) and _ID.fullmatch(event_id)
    name = str(event_id) if named else _fingerprint(raw)
    if not isinstance(kind, str):
        return Unreadable(name, "An event from Stripe has no type.", at)
    if kind in REVERSAL_EVENT_TYPES:
        return _reversal_event(raw, name, kind, at)
    state = state_of_event(kind)
    if kind == CREATED_EVENT:
        return SeenEvent(name, at or 0, kind, None, new_intent=_intent_of(raw))
    if state is None:
        return SeenEvent(name, at or 0, plain(kind, 80), None)
    data = raw.get("data")
    intent = data.get("object") if isinstance(data, dict) else None
    if not isinstance(intent, dict):
        return Unreadable(name, f"The event {name} ({kind}) holds no payment intent.", at)
    intent_id = intent.get("id")
    if not isinstance(intent_id, str) or not INTENT_ID.fullmatch(intent_id):
        return Unreadable(
            name, f"The event {name} ({kind}) names no payment that syncd can read.", at
        )
    if at is None:
        return Unreadable(name, f"The event {name} ({kind} of {intent_id}) has no time.")
    observation = _observation(intent, intent_id, state, at, invoice_key, trace_of(raw), name)
    return SeenEvent(name, at, kind, observation)


def _intent_of(raw: Mapping[str, Any]) -> str | None:
    """The id of the payment intent in an event; None if it is missing or unreadable."""
    data = raw.get("data")
    intent = data.get("object") if isinstance(data, dict) else None
    intent_id = intent.get("id") if isinstance(intent, dict) else None
    return intent_id if isinstance(intent_id, str) and INTENT_ID.fullmatch(intent_id) else None


def read_intent(
    raw: object, invoice_key: str, at: int, *, traced: bool = True
) -> Observation | Unreadable:
    """Parse a payment intent that was read; `at` as in Observation.

    Without `traced`, the trace contains only the description: for a command that writes no rows.
    """
    if not isinstance(raw, dict):
        return Unreadable(_fingerprint(raw), "A payment intent in Stripe's answer isn't an object.")
    intent_id, status = raw.get("id"), raw.get("status")
    if not isinstance(intent_id, str) or not INTENT_ID.fullmatch(intent_id):
        return Unreadable(_fingerprint(raw), "A payment intent in Stripe's answer has no id.")
    if not isinstance(status, str):
        return Unreadable(intent_id, f"Stripe's answer for {intent_id} has no status.")
    state = state_of_intent(status, has_error=isinstance(raw.get("last_payment_error"), dict))
    trace = None
    if state is not None:
        described = raw.get("description")
        trace = trace_of(raw) if traced else described and trace_of({"description": described})
    return _observation(raw, intent_id, state, at, invoice_key, trace or None)


def _observation(
    intent: Mapping[str, Any],
    intent_id: str,
    state: PaymentState | None,
    at: int,
    key: str,
    trace: str | None,
    event_id: str | None = None,
) -> Observation:
    """Parse a payment intent from an event (`event_id`), or one that was read."""
    metadata = intent.get("metadata")
    invoice = metadata.get(key) if isinstance(metadata, dict) else None
    details = intent.get("amount_details")
    parts = details if isinstance(details, dict) else {}
    return Observation(
        intent_id=intent_id,
        state=state,
        at=at,
        read=event_id is None,
        event_id=event_id,
        trace=trace,
        created=_seconds(intent.get("created")),
        amount=_whole(intent.get("amount")),
        amount_received=_whole(intent.get("amount_received")),
        currency=_currency(intent.get("currency")),
        invoice=(plain(str(invoice), 100) or None) if isinstance(invoice, str | int) else None,
        surcharge=_part(parts.get("surcharge")),
        tip=_part(parts.get("tip")),
    )


def _part(value: object) -> int | None:
    """A part of the amount, such as a tip; Stripe shows ``{}`` if there is none."""
    return _whole(value.get("amount")) if isinstance(value, dict) else None


def _reversal_event(
    raw: Mapping[str, Any], name: str, kind: str, at: int | None
) -> SeenEvent | Unreadable:
    data = raw.get("data")
    inner = data.get("object") if isinstance(data, dict) else None
    if at is None:
        return Unreadable(name, f"The event {name} ({kind}) has no time.")
    if kind == "charge.refunded":
        read = read_charge(inner, at)
    elif "dispute" in kind:
        read = read_dispute(inner, at)
    else:
        read = read_refund(inner, at)
    if isinstance(read, Unreadable):
        return Unreadable(name, f"The event {name} ({kind}) can't be used: {read.text}", at)
    if kind in FUNDS_EVENT_TYPES:
        read = replace(read, moved_at=at)
    return SeenEvent(name, at, kind, None, read)


def read_refund(raw: object, at: int, *, read: bool = False) -> Reversal | Unreadable:
    """Parse a refund; `at` and `read` as in Reversal."""
    return _reversal(raw, ReversalKind.REFUNDED, "amount", at, read=read)


def read_dispute(raw: object, at: int, *, read: bool = False) -> Reversal | Unreadable:
    """Parse a dispute; `at` and `read` as in Reversal."""
    return _reversal(raw, ReversalKind.DISPUTED, "amount", at, read=read)


def read_charge(raw: object, at: int) -> Reversal | Unreadable:
    """Parse a charge into the sum of its refunds: older API versions report nothing else."""
    found = _reversal(raw, ReversalKind.REFUNDED, "amount_refunded", at, read=False)
    if isinstance(found, Unreadable):
        return found
    return replace(found, total=True, status="refunded", reason=None)


def _reversal(
    raw: object, kind: ReversalKind, amount: str, at: int, *, read: bool
) -> Reversal | Unreadable:
    noun = "refund" if kind is ReversalKind.REFUNDED else "dispute"
    if not isinstance(raw, dict):
        return Unreadable(_fingerprint(raw), f"A {noun} from Stripe isn't an object.")
    name = raw.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        return Unreadable(_fingerprint(raw), f"A {noun} from Stripe has no id.")
    intent = _expanded_id(raw.get("payment_intent"))
    charge = raw.get("charge")
    if intent is None and isinstance(charge, dict):
        intent = _expanded_id(charge.get("payment_intent"))
    if intent is not None and (not isinstance(intent, str) or not INTENT_ID.fullmatch(intent)):
        return Unreadable(name, f"The {noun} {name} names no payment that syncd can read.", at)
    status, reason = raw.get("status"), raw.get("reason")
    return Reversal(
        id=name,
        kind=kind,
        intent_id=intent,
        amount=_whole(raw.get(amount)),
        currency=_currency(raw.get("currency")),
        status=plain(status, 40) if isinstance(status, str) and status else "unknown",
        reason=plain(reason, 80) if isinstance(reason, str) and reason else None,
        created=_seconds(raw.get("created")),
        at=at,
        read=read,
    )


def charge_of(raw: object) -> str | None:
    """The id of the charge of a refund or dispute; None without a charge."""
    charge = _expanded_id(raw.get("charge")) if isinstance(raw, dict) else None
    return charge if isinstance(charge, str) and _ID.fullmatch(charge) else None


def intent_of(charge: object) -> str | None:
    """The payment intent of a charge; None without one."""
    intent = _expanded_id(charge.get("payment_intent")) if isinstance(charge, dict) else None
    return intent if isinstance(intent, str) and INTENT_ID.fullmatch(intent) else None


def _expanded_id(value: object) -> object:
    """An id, also if Stripe sends the whole object in its place."""
    return value.get("id") if isinstance(value, dict) else value


def _currency(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _CURRENCY.fullmatch(value) else None


def _whole(value: object) -> int | None:
    """A whole number from 0 up to a plausible limit; text does not count as a number."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _AMOUNT_MAX:
        return None
    return value


def _seconds(value: object) -> int | None:
    """Unix seconds; None beyond any possible payment, because such years cannot be formatted."""
    seconds = _whole(value)
    return None if seconds is None or seconds > _SECONDS_MAX else seconds


def unknown_status(raw: Mapping[str, Any]) -> list[str]:
    """The status of a payment intent, in a list, if it is not a known status; else an empty list."""
    status = str(raw.get("status"))
    known = state_of_intent(status, has_error=False) or status in STATUSES_WITHOUT_STATE
    return [] if known else [plain(status, 80)]


def _fingerprint(raw: object) -> str:
    text = trace_of({"": raw})
    return "unnamed_" + hashlib.sha256(text.encode()).hexdigest()[:24]


def next_cursor(body: Mapping[str, Any], cursor: str | None) -> str | None:
    """The cursor of the page after `cursor`'s page; None if a listing (`body`) has ended.

    Raises:
        BadAnswer: the listing cannot continue: it must not count as complete.
    """
    if not body["has_more"]:
        return None
    for raw in reversed(body["data"]):
        found = raw.get("id") if isinstance(raw, dict) else None
        if isinstance(found, str) and found and found != cursor:
            return found
    message = "Stripe reports another page, but no entry of this page has an id to continue from."
    raise BadAnswer(Side.STRIPE, message)
