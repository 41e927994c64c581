"""The simulated Stripe: events and payment intents, listed and read as Stripe documents it."""

import bisect
import random
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from syncd.sandbox.faults import Fault
from syncd.sandbox.http import Reply, Request, json_reply
from syncd.sandbox.stripe.objects import amount_details, new_intent
from syncd.sandbox.stripe.query import (
    EXPAND,
    Query,
    bearer_of,
    error_reply,
    unknown_parameter,
    unknown_url,
)
from syncd.sandbox.stripe.reversals import Listing, Reversals, created_of, field_of

EVENTS_KEPT_SECONDS = 30 * 86_400
STATES = ("succeeded", "payment_failed", "processing", "canceled", "requires_action")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PERMISSIONS = {
    "events": "rak_event_read",
    "payment_intents": "rak_payment_intent_read",
    "charges": "rak_charge_read",
    "refunds": "rak_charge_read",
    "disputes": "rak_dispute_read",
}


class SandboxStripe:
    """Stripe's data, and its answers.

    Attributes:
        events: all events, in no order; tests may append any garbage.
        intents: payment intents by id.
        requests: every request that came in.
        faults: the active faults.
        rate_limit_per_second: for one endpoint, and for all together with a test key (four times as
            many with a live one); None for no limit.
        permissions: what the key may read.
        clock_skew: the error of the Date header in seconds.
        events_need_their_permission: whether events of charges and refunds are refused to a key
            that may not read these objects; Stripe's real behaviour is unknown.
        pending_webhooks: how many webhook endpoints do not accept the events created from now on.
        announces: whether the creation of a payment intent creates an event, as at Stripe.
        type_filter_ignored: list events of any type, whatever was requested.
    """

    def __init__(self, clock: Callable[[], float], seed: int = 0) -> None:
        self.clock = clock
        self.api_key = "rk_test_sandbox"
        self.url = ""
        self.accounts: set[str] = set()
        self.permissions = {"events", "payment_intents"}
        self.rate_limit_per_second: int | None = 25
        self.api_version = "2026-10-28.endive"
        self.clock_skew = 0.0
        self.pending_webhooks = 0
        self.type_filter_ignored = False
        self.events_need_their_permission = False
        self.announces = False
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._random = random.Random(seed)  # noqa: S311  # not for secrets
        self._events = Listing()
        self._intents = Listing()
        self.intents: dict[str, dict[str, Any]] = {}
        self.reversals = Reversals(self._opaque, self.record, clock)
        self._listings = {
            "events": self._events,
            "payment_intents": self._intents,
            **self.reversals.listings,
        }
        self._visible: dict[str, float] = {}
        self._recent: dict[str, deque[float]] = {}

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events."""
        return self._events.items

    # --- what customers do ---------------------------------------------------------------------

    def create_intent(
        self,
        amount: int = 1099,
        currency: str = "usd",
        metadata: dict[str, str] | None = None,
        created: float | None = None,
        id: str | None = None,  # noqa: A002
        description: str | None = None,
        customer: str | None = None,
        surcharge: int | None = None,
        tip: int | None = None,
    ) -> str:
        """Create a payment intent; return its id. `amount` includes surcharge and tip."""
        name = id or f"pi_3{self._opaque(23)}"
        intent = new_intent(
            name,
            f"{name}_secret_{self._opaque(20)}",
            amount=amount,
            amount_details=amount_details(surcharge, tip),
            created=int(created or self.clock()),
            currency=currency,
            customer=customer,
            description=description,
            livemode="_live_" in self.api_key,
            metadata=metadata or {},
        )
        self.intents[name] = intent
        self._intents.items.append(intent)
        # Its id is derived from the payment's, so that the ids of all other events stay the same.
        if self.announces:
            self.record("payment_intent.created", intent, created, event_id=f"evt_1{name[-23:]}")
        return name

    def advance(
        self,
        intent_id: str,
        state: str,
        at: float | None = None,
        *,
        emit: bool = True,
        visible_after: float = 0.0,
        amount_received: int | None = None,
    ) -> str | None:
        """Move a payment to one of the five states; return the id of the event."""
        if state not in STATES:
            message = f"{state} is no state"
            raise ValueError(message)
        intent = self.intents[intent_id]
        intent["last_payment_error"] = None  # any later update clears it
        intent["next_action"] = None
        intent["status"] = "requires_payment_method" if state == "payment_failed" else state
        if state == "succeeded":
            intent["amount_received"] = (
                intent["amount"] if amount_received is None else amount_received
            )
            intent["latest_charge"] = self.reversals.charge(intent)
        elif state == "payment_failed":
            intent["last_payment_error"] = {
                "type": "card_error",
                "code": "card_declined",
                "decline_code": "insufficient_funds",
                "message": "Your card has insufficient funds.",
                "payment_method": {"id": f"pm_1{self._opaque(23)}", "type": "card"},
            }
        elif state == "requires_action":
            secret = intent["client_secret"]
            intent["next_action"] = {
                "type": "redirect_to_url",
                "redirect_to_url": {
                    "return_url": None,
                    "url": f"https://hooks.stripe.com/3ds?payment_intent_client_secret={secret}",
                },
            }
        elif state == "canceled":
            intent["canceled_at"] = int(at or self.clock())
            intent["cancellation_reason"] = "requested_by_customer"
        return self.emit(intent_id, state, at, visible_after=visible_after) if emit else None

    def touch(self, intent_id: str) -> None:
        """Update the payment: this clears the last error and creates no event."""
        self.intents[intent_id]["last_payment_error"] = None

    def emit(
        self, intent_id: str, state: str, at: float | None = None, *, visible_after: float = 0.0
    ) -> str:
        """Create an event with a snapshot of the payment."""
        snapshot = self.intents[intent_id]
        return self.record(f"payment_intent.{state}", snapshot, at, visible_after=visible_after)

    def record(
        self,
        kind: str,
        what: dict[str, Any],
        at: float | None = None,
        *,
        visible_after: float = 0.0,
        event_id: str | None = None,
    ) -> str:
        """Create an event of any type with a snapshot of its object; return its id."""
        name = event_id or f"evt_3{self._opaque(23)}"
        snapshot = {k: (dict(v) if isinstance(v, dict) else v) for k, v in what.items()}
        self._visible[name] = self.clock() + visible_after
        self.events.append(
            {
                "id": name, "object": "event", "api_version": self.api_version,
                "created": int(self.clock() if at is None else at),
                "data": {"object": snapshot}, "livemode": snapshot["livemode"],
                "pending_webhooks": self.pending_webhooks, "request": {"id": None, "idempotency_key": None},
                "type": kind,
            }
        )  # fmt: skip
        return name

    def refund(self, intent_id: str, amount: int | None = None, **more: Any) -> str:
        """Refund a succeeded payment, fully or partly; see Reversals.refund."""
        return self.reversals.refund(self.intents[intent_id], amount, **more)

    def dispute(self, intent_id: str, amount: int | None = None, **more: Any) -> str:
        """Dispute a succeeded payment; see Reversals.dispute."""
        return self.reversals.dispute(self.intents[intent_id], amount, **more)

    def _opaque(self, length: int) -> str:
        return "".join(self._random.choices(_LETTERS, k=length))

    # --- answers ----------------------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        reply = self._refusal(request) or self._answer(request)
        reply.headers["Request-Id"] = f"req_{self._opaque(14)}"
        reply.headers["Date"] = formatdate(self.clock() + self.clock_skew, usegmt=True)
        return reply

    def _refusal(self, request: Request) -> Reply | None:
        key = bearer_of(request.authorization)
        if key is None:
            return error_reply(401, "You did not provide an API key.")
        if key.startswith("pk_"):
            return error_reply(
                403,
                "This API call cannot be made with a publishable API key.",
                code="secret_key_required",
            )
        if key != self.api_key:
            return error_reply(401, "Invalid API Key provided.")
        account = request.headers.get("stripe-account")
        if key.startswith("sk_org"):
            account = request.headers.get("stripe-context")
            if account is None:
                return error_reply(400, "An organization key needs the Stripe-Context header.")
        if account is not None and account not in self.accounts:
            return error_reply(
                403,
                f"The provided key does not have access to account '{account}'.",
                code="account_invalid",
            )
        if request.method != "GET":
            return error_reply(403, "The provided key does not have the required permissions.")
        return self._limited(request)

    def _limited(self, request: Request) -> Reply | None:
        if self.rate_limit_per_second is None:
            return None
        limit = self.rate_limit_per_second
        limits = {
            "endpoint-rate": ("/".join(request.path.split("/")[:3]), limit),
            "global-rate": ("", limit * 4 if "_live_" in self.api_key else limit),
        }
        for reason, (place, most) in limits.items():
            recent = self._recent.setdefault(place, deque())
            while recent and recent[0] <= request.at - 1:
                recent.popleft()
            if len(recent) >= most:
                reply = error_reply(429, "Request rate limit exceeded.", code="rate_limit")
                reply.headers["Stripe-Rate-Limited-Reason"] = reason
                return reply
        for place, _ in limits.values():
            self._recent[place].append(request.at)
        return None

    def _answer(self, request: Request) -> Reply:
        parts = request.path.strip("/").split("/")
        if parts[0] != "v1" or len(parts) not in (2, 3):
            return unknown_url(request)
        kind = parts[1]
        if kind == "account" and len(parts) == 2:
            return json_reply(
                {
                    "id": "acct_sandbox",
                    "object": "account",
                    "country": "US",
                    "email": None,
                    "type": "standard",
                }
            )
        if kind not in self._listings:
            return unknown_url(request)
        hidden = self.events_need_their_permission and kind == "events"
        if kind not in self.permissions or (hidden and self._asks_for_hidden(request)):
            name = _PERMISSIONS[kind if kind not in self.permissions else "charges"]
            return error_reply(
                403,
                f"The provided key does not have the required permissions for this endpoint. Having the '{name}' permission would allow this request to continue.",
            )
        if len(parts) == 3:
            return self._one(kind, parts[2], request)
        return self._list(kind, request)

    def _asks_for_hidden(self, request: Request) -> bool:
        asked = [value for key, value in request.query if key.startswith("type")]
        needed = {
            "charges" if value.startswith("charge") else "refunds"
            for value in asked
            if not value.startswith("payment_intent")
        }
        return not needed <= self.permissions

    def _one(self, kind: str, name: str, request: Request) -> Reply:
        for key, _ in request.query:
            takes_secret = kind == "payment_intents" and key == "client_secret"
            if not EXPAND.fullmatch(key) and not takes_secret:
                return unknown_parameter(key)
        if kind == "payment_intents":
            found = self.intents.get(name)
        elif kind == "events":
            found = next((e for e in self._shown_events() if e.get("id") == name), None)
        else:
            found = next((e for e in self._listings[kind].items if e["id"] == name), None)
        if found is None:
            return error_reply(
                404,
                f"No such {kind[:-1]}: '{name}'",
                code="resource_missing",
                param="intent" if kind == "payment_intents" else "id",
            )
        return json_reply(found)

    def _shown_events(self) -> list[dict[str, Any]]:
        return [e for _, _, e in self._events.ordered() if self._is_shown(e)]

    def _is_shown(self, event: dict[str, Any]) -> bool:
        now = self.clock()
        return (
            created_of(event) > now - EVENTS_KEPT_SECONDS
            and self._visible.get(str(field_of(event, "id")), 0) <= now
        )

    def _list(self, kind: str, request: Request) -> Reply:  # one return a refusal
        wanted = Query(kind, request.query)
        if wanted.refusal is not None:
            return wanted.refusal
        entries = self._listings[kind].ordered()
        low = bisect.bisect_left(entries, (-wanted.to, ""), key=lambda entry: entry[:2])
        high = bisect.bisect_left(entries, (-wanted.since + 1, ""), key=lambda entry: entry[:2])
        cursor = wanted.after or wanted.before
        param = "starting_after" if wanted.after else "ending_before"
        if cursor is not None:
            place = (
                next((i for i, entry in enumerate(entries) if entry[1] == cursor), None)
                if kind != "payment_intents"
                else None
            )
            if kind == "payment_intents" and cursor in self.intents:
                found = self.intents[cursor]
                place = bisect.bisect_left(
                    entries, (-found["created"], cursor), key=lambda entry: entry[:2]
                )
            if place is None:
                return error_reply(
                    400,
                    f"No such {kind[:-1]}: '{cursor}'",
                    code="resource_missing",
                    param=param,
                )
            if (
                kind == "events"
                and created_of(entries[place][2]) <= self.clock() - EVENTS_KEPT_SECONDS
            ):
                return error_reply(
                    400,
                    f"The event '{cursor}' is too old to be a cursor.",
                    code="resource_missing",
                    param=param,
                )
            if wanted.after:
                low = max(low, place + 1)
            else:
                high = min(high, place)
        page: list[dict[str, Any]] = []
        order = range(low, high) if not wanted.before else range(high - 1, low - 1, -1)
        more = False
        for index in order:
            item = entries[index][2]
            if kind == "events" and not (
                self._is_shown(item)
                and (self.type_filter_ignored or wanted.takes(item))
                and wanted.takes_delivery(item)
            ):
                continue
            if any(item.get(key) != value for key, value in wanted.of.items()):
                continue
            if len(page) == wanted.limit:
                more = True
                break
            page.append(item)
        if wanted.before:
            page.reverse()
        return json_reply({"object": "list", "url": request.path, "has_more": more, "data": page})
