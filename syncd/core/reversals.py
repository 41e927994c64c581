"""Reversals: refunds and disputes of payments that had succeeded.

Pure: no clock, no randomness, no I/O. The payment intent stays `succeeded` after a reversal (source:
Stripe's documentation of Refunds, Disputes and their events). syncd writes nothing to Halo for a
reversal; the reversal goes on the attention list.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from syncd.core.holds import HOLDS, HoldCode, command_for
from syncd.core.money import Money


class ReversalKind(StrEnum):
    """The kind of a reversal."""

    REFUNDED = "refunded"
    DISPUTED = "disputed"


class ReversalStatus(StrEnum):
    """Who has the money of a refund or dispute."""

    GONE = "gone"  # the customer has the money, or will get it
    OPEN = "open"  # a dispute without a decision
    BACK = "back"  # the seller: the refund failed or was canceled, the dispute was won or closed


REVERSAL_EVENT_TYPES = (
    # Stripe may send no refund.* event for refunds of a charge to accounts on an API version before
    # 2024-10-28.
    "charge.refunded",
    "charge.refund.updated",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
)

FUNDS_EVENT_TYPES = frozenset({"charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"})
"""Event types that report that a dispute's money has just moved."""

_INQUIRY = frozenset({"warning_needs_response", "warning_under_review"})
"""Statuses of an inquiry: the customer's bank asks a question; no money has moved yet."""

_DEADLINE = frozenset({"needs_response", "warning_needs_response"})
"""Statuses in which the seller must answer by a deadline, or loses the dispute."""

_REFUND_BACK = frozenset({"failed", "canceled"})
# `prevented` is left out: Stripe does not document whether the customer was refunded.
_DISPUTE_BACK = frozenset({"won", "warning_closed"})


@dataclass(frozen=True, slots=True)
class Reversal:
    """Stripe's newest report about one refund or dispute.

    Attributes:
        id: ``re_…`` or ``dp_…``; the charge's id if `total`.
        kind: refund or dispute.
        intent_id: the payment intent that was refunded or disputed; None without a payment intent.
        amount: in the smallest unit; None if unreadable.
        currency: three lower-case letters; None if unreadable.
        status: Stripe's status. Stripe may add new ones; an unknown status needs attention.
        reason: Stripe's reason; None without one.
        created: Unix seconds.
        at: Unix seconds of the report, by Stripe's clock.
        read: True if the object itself was listed, False for an event.
        total: whether the amount is the sum of all refunds of a charge, without the single refunds.
        moved_at: Unix seconds at which a dispute's money last moved; None if no event reported it.
    """

    id: str
    kind: ReversalKind
    intent_id: str | None
    amount: int | None
    currency: str | None
    status: str
    reason: str | None
    created: int | None
    at: int
    read: bool
    total: bool = False
    moved_at: int | None = None

    @property
    def inquiry(self) -> bool:
        """Whether the dispute is only an inquiry, which may become a dispute."""
        return self.kind is ReversalKind.DISPUTED and self.status in _INQUIRY

    @property
    def money_status(self) -> ReversalStatus:
        """Who has the money, according to Stripe's status."""
        if self.kind is ReversalKind.REFUNDED:
            return ReversalStatus.BACK if self.status in _REFUND_BACK else ReversalStatus.GONE
        if self.status in _DISPUTE_BACK:
            return ReversalStatus.BACK
        return ReversalStatus.GONE if self.status == "lost" else ReversalStatus.OPEN

    @property
    def acknowledged_as(self) -> str:
        """What a dismissal covers: ``gone:1099``, ``inquiry:1099``. Another value is listed again."""
        return f"{'inquiry' if self.inquiry else self.money_status}:{self.amount}"

    @property
    def money(self) -> Money | None:
        """The amount; None if unreadable."""
        if self.amount is None or self.currency is None:
            return None
        return Money(self.amount, self.currency)


def newer(known: Reversal | None, seen: Reversal) -> Reversal:
    """Choose the newer of two reports about a refund or dispute; their order does not matter.

    Within one second a decided dispute counts before an open one, a dispute before an inquiry, then
    the greater amount (a total only grows). The remaining parts make the order total. The result
    keeps the last time at which the money moved, whichever event reported it.
    """
    if known is None:
        return seen
    newest = max(known, seen, key=_rank)
    moved_at = max(known.moved_at or 0, seen.moved_at or 0) or None
    return newest if newest.moved_at == moved_at else replace(newest, moved_at=moved_at)


def is_news(before: Reversal, after: Reversal) -> bool:
    """Whether a dismissed refund or dispute must be listed again.

    True if the amount or the owner of the money changed, if a dispute's money moved, and if a
    deadline begins, because the person may have dismissed only an inquiry.
    """
    if after.acknowledged_as != before.acknowledged_as or (after.moved_at or 0) > (
        before.moved_at or 0
    ):
        return True
    begins = after.kind is ReversalKind.DISPUTED and after.status in _DEADLINE
    return begins and after.status != before.status


def _rank(seen: Reversal) -> tuple[int, bool, bool, bool, bool, int, str]:
    status = seen.money_status
    return (
        seen.at,
        seen.read,
        status is not ReversalStatus.OPEN,
        status is ReversalStatus.BACK,
        not seen.inquiry,
        seen.amount or 0,
        repr(seen),
    )


def counted(reversals: Iterable[Reversal]) -> list[Reversal]:
    """Leave out totals that the single refunds of the same payment already include."""
    known = list(reversals)
    single: dict[str | None, int] = {}
    for one in known:
        if one.kind is ReversalKind.REFUNDED and not one.total:
            single[one.intent_id] = single.get(one.intent_id, 0) + (one.amount or 0)

    def adds(one: Reversal) -> bool:
        part = single.get(one.intent_id)
        if not one.total:
            return True
        return part is None if one.amount is None else one.amount > (part or 0)

    return [one for one in known if adds(one)]


def describe(seen: Reversal) -> str:
    """One sentence about what happened."""
    money = "an unreadable amount" if seen.money is None else str(seen.money)
    of = f"of {seen.intent_id}" if seen.intent_id else "of no payment intent"
    why = f"reason {seen.reason}" if seen.reason else "no reason given"
    if seen.kind is ReversalKind.REFUNDED:
        if seen.money_status is ReversalStatus.BACK:
            return f"The refund of {money} {of} {seen.status}: you keep the money."
        total = "in all, " if seen.total else ""
        return f"Stripe refunded {money} {of} ({total}status {seen.status}, {why})."
    if seen.money_status is ReversalStatus.BACK:
        return f"The dispute about {money} {of} ended as {seen.status}: you keep the money."
    if seen.money_status is ReversalStatus.GONE:
        return f"The dispute about {money} {of} was lost ({why})."
    if seen.inquiry:
        return (
            f"The customer's bank asks about {money} {of} (an inquiry, status {seen.status}, {why}). "
            "No money has moved yet."
        )
    return f"The customer disputes {money} {of} (status {seen.status}, {why})."


def message_of(seen: Reversal, share: str = "") -> str:
    """The whole message: what happened, what syncd does, what the reader can do.

    Args:
        seen: the refund or dispute.
        share: a sentence that compares its amount with the payment's.
    """
    entry = HOLDS[HoldCode(seen.kind)]
    happened = f"{describe(seen)} {share}".rstrip()
    return f"{happened} {entry.effect} {remedy(seen)} Then run: {command_for(seen.kind, seen.id)}"


def remedy(seen: Reversal) -> str:
    """What the reader can do before dismissing the entry."""
    if seen.money_status is ReversalStatus.BACK:
        return "If you booked the refund or the loss in Halo, reverse that booking."
    if seen.money_status is ReversalStatus.OPEN:
        return "Answer the dispute in Stripe's dashboard."
    if seen.kind is ReversalKind.REFUNDED:
        return HOLDS[HoldCode.REFUNDED].remedy
    return "Book the loss in Halo."
