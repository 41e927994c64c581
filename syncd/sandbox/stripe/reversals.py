"""The simulated charges, refunds and disputes, as Stripe documents them.

A payment intent stays `succeeded` when its money goes back; its charge shows how much was refunded.
"""

from collections.abc import Callable
from typing import Any, Protocol

OF = {
    "payment_intents": ("customer",),
    "charges": ("customer", "payment_intent", "transfer_group"),
    "refunds": ("charge", "payment_intent"),
    "disputes": ("charge", "payment_intent"),
}
"""The filters of each listing, besides `created`."""


class Listing:
    """Objects newest first; within a second by id, which does not show their order."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._sorted: list[tuple[int, str, dict[str, Any]]] = []
        self._key = (-1, 0)

    def ordered(self) -> list[tuple[int, str, dict[str, Any]]]:
        """All as (-created, id, object)."""
        key = (len(self.items), id(self.items))
        if key != self._key:
            self._sorted = sorted(
                ((-created_of(item), str(field_of(item, "id")), item) for item in self.items),
                key=lambda entry: entry[:2],
            )
            self._key = key
        return self._sorted


def field_of(item: object, name: str) -> Any:
    """A field of an object that may be garbage from a test."""
    return item.get(name) if isinstance(item, dict) else None


def created_of(item: object) -> int:
    """When an object was created; garbage is the newest."""
    created = field_of(item, "created")
    return created if isinstance(created, int) else 2**40


class Record(Protocol):
    """Creates an event with a snapshot of its object."""

    def __call__(self, kind: str, what: dict[str, Any], at: float | None = None) -> str:
        """Create the event; return its id."""


class Reversals:
    """Charges, and the money that goes back.

    Attributes:
        intents_named: whether refunds and disputes name their payment intent; otherwise only their
            charge.
        old_events: create only the events of API versions before 2024-10-28: charge.refunded with
            the sum, none for the refund itself.
    """

    def __init__(
        self, opaque: Callable[[int], str], record: Record, clock: Callable[[], float]
    ) -> None:
        self._opaque = opaque
        self._record = record
        self._clock = clock
        self.intents_named = True
        self.old_events = False
        self.listings = {"charges": Listing(), "refunds": Listing(), "disputes": Listing()}

    def charge(self, intent: dict[str, Any]) -> str:
        """Create the charge of a succeeding payment; return its id."""
        name = f"ch_3{self._opaque(23)}"
        amount = intent["amount_received"]
        self.listings["charges"].items.append(
            {
                "id": name,
                "object": "charge",
                "amount": amount,
                "amount_captured": amount,
                "amount_refunded": 0,
                "captured": True,
                "created": int(self._clock()),
                "currency": intent["currency"],
                "customer": intent["customer"],
                "disputed": False,
                "livemode": intent["livemode"],
                "metadata": {},
                "paid": True,
                "payment_intent": intent["id"],
                "refunded": False,
                "status": "succeeded",
                "transfer_group": None,
            }
        )
        return name

    def refund(
        self,
        intent: dict[str, Any],
        amount: int | None = None,
        *,
        reason: str | None = None,
        status: str = "succeeded",
        at: float | None = None,
        emit: bool = True,
    ) -> str:
        """Refund money; return the refund's id."""
        charge = self._charge_of(intent)
        left = charge["amount_captured"] - charge["amount_refunded"]
        amount = left if amount is None else amount
        if not 0 < amount <= left:
            message = (
                f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
            )
            raise ValueError(message)
        refund = {
            "id": f"re_3{self._opaque(23)}",
            "object": "refund",
            "amount": amount,
            "balance_transaction": f"txn_3{self._opaque(23)}",
            "charge": charge["id"],
            "created": int(self._clock() if at is None else at),
            "currency": charge["currency"],
            "livemode": charge["livemode"],
            "metadata": {},
            "payment_intent": intent["id"] if self.intents_named else None,
            "reason": reason,
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": status,
            "transfer_reversal": None,
        }
        self.listings["refunds"].items.append(refund)
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
        if emit:
            self._record("charge.refunded", charge, at)
            if not self.old_events:
                self._record("refund.created", refund, at)
        return str(refund["id"])

    def fail_refund(self, refund_id: str, *, at: float | None = None) -> None:
        """Let a refund fail: the money comes back."""
        refund = self._of("refunds", refund_id)
        refund.update(status="failed", failure_reason="expired_or_canceled_card")
        charge = self._of("charges", refund["charge"])
        charge["amount_refunded"] -= refund["amount"]
        charge["refunded"] = False
        if not self.old_events:
            self._record("refund.updated", refund, at)
            self._record("refund.failed", refund, at)

    def dispute(
        self,
        intent: dict[str, Any],
        amount: int | None = None,
        *,
        reason: str = "fraudulent",
        status: str = "needs_response",
        at: float | None = None,
        emit: bool = True,
    ) -> str:
        """Open a dispute of the customer's bank; return its id."""
        charge = self._charge_of(intent)
        charge["disputed"] = True
        dispute = {
            "id": f"du_3{self._opaque(23)}",
            "object": "dispute",
            "amount": charge["amount"] if amount is None else amount,
            "balance_transactions": [],
            "charge": charge["id"],
            "created": int(self._clock() if at is None else at),
            "currency": charge["currency"],
            "evidence": {},
            "evidence_details": {},
            "is_charge_refundable": False,
            "livemode": charge["livemode"],
            "metadata": {},
            "payment_intent": intent["id"] if self.intents_named else None,
            "reason": reason,
            "status": status,
        }
        self.listings["disputes"].items.append(dispute)
        if emit:
            self._record("charge.dispute.created", dispute, at)
            if not status.startswith("warning"):
                self._record("charge.dispute.funds_withdrawn", dispute, at)
        return str(dispute["id"])

    def move_dispute(
        self, dispute_id: str, status: str, *funds: str, at: float | None = None
    ) -> None:
        """Change a dispute: another status, and perhaps a movement of money.

        Args:
            dispute_id: the dispute.
            status: the new status; an inquiry becomes a dispute by `needs_response`.
            funds: "withdrawn" or "reinstated", with one event each.
            at: Unix seconds; None for now.
        """
        dispute = self._of("disputes", dispute_id)
        changed = dispute["status"] != status
        dispute["status"] = status
        if changed:
            self._record("charge.dispute.updated", dispute, at)
        for kind in funds:
            self._record(f"charge.dispute.funds_{kind}", dispute, at)

    def close_dispute(
        self, dispute_id: str, status: str, *, at: float | None = None, emit: bool = True
    ) -> None:
        """Let the bank decide a dispute: `won`, `lost` or `warning_closed`."""
        dispute = self._of("disputes", dispute_id)
        dispute["status"] = status
        if emit:
            self._record("charge.dispute.closed", dispute, at)
            if status == "won":
                self._record("charge.dispute.funds_reinstated", dispute, at)

    def _charge_of(self, intent: dict[str, Any]) -> dict[str, Any]:
        if intent["latest_charge"] is None:
            message = f"{intent['id']} has no successful charge to send back."
            raise ValueError(message)
        return self._of("charges", intent["latest_charge"])

    def _of(self, kind: str, name: str) -> dict[str, Any]:
        return next(item for item in self.listings[kind].items if item["id"] == name)
