"""Compares the refunds and disputes of a payment with what Halo shows: money that went back.

Pure. Each refund and each dispute is a difference of its own, because its money differs from the
payment's money.
"""

from collections.abc import Mapping, Sequence

from syncd.audit.differences import ZERO, Difference, Kind, money
from syncd.audit.rows import code_of, ids_of, located, paid_rows, statuses
from syncd.core.payments import Observation
from syncd.core.reversals import Reversal, ReversalKind, ReversalStatus, counted
from syncd.core.rows import Row
from syncd.core.rules.decisions import Policy

NONE_DISMISSED: Mapping[str, str] = {}
"""No dismissed refunds or disputes."""


def reversed_after(
    current: Observation | None,
    rows: Sequence[Row],
    reversals: Sequence[Reversal],
    policy: Policy,
    dismissed: Mapping[str, str] = NONE_DISMISSED,
) -> list[Difference]:
    """The refunds and disputes at Stripe of a payment that Halo shows as paid.

    Args:
        current: what Stripe reports about the payment; None if that was not read.
        rows: all of Halo's rows of the payment intent.
        reversals: the refunds and disputes of the payment.
        policy: what the operator configured.
        dismissed: `Reversal.acknowledged_as` of each refund and dispute that a person has
            dismissed.
    """
    paid = paid_rows(rows, policy)
    if not paid:
        return []
    differences = []
    for one in counted(reversals):
        if one.money_status is ReversalStatus.BACK:
            continue
        amount = None if one.money is None else one.money.major
        meaning, action, command = _reversal_words(one)
        difference = Difference(
            kind=Kind.REFUNDED if one.kind is ReversalKind.REFUNDED else Kind.DISPUTED,
            meaning=meaning,
            action=action,
            command=command,
            details=(_stripe_words(one),),
            intent_id=one.intent_id,
            rows=ids_of(paid),
            made=current.created if current else None,
            at_stripe=f"{one.kind}, {one.status}",
            in_halo=statuses(rows, policy),
            stripe_amount=None if amount is None else -amount,
            halo_amount=ZERO,
            amount=amount,
            currency=code_of(one.currency),
            acknowledged=dismissed.get(one.id) == one.acknowledged_as,
        )
        differences.append(located(difference, paid))
    return differences


def _reversal_words(one: Reversal) -> tuple[str, str, str]:
    """The meaning of a refund or dispute, what to do, and the command for it."""
    major = None if one.money is None else one.money.major
    amount = (
        "an amount that can't be read" if major is None else money(major, code_of(one.currency))
    )
    dismiss = f"syncd attention dismiss {one.id}"
    if one.kind is ReversalKind.REFUNDED:
        return (
            f"Stripe refunded {amount}, but Halo still shows the payment as paid.",
            "Book the refund in Halo, then dismiss this entry:",
            dismiss,
        )
    if one.money_status is ReversalStatus.GONE:
        return (
            f"The customer won a dispute about {amount}, but Halo still shows the payment as paid.",
            "Book the lost amount in Halo, then dismiss this entry:",
            dismiss,
        )
    return (
        f"The customer disputes {amount}, and Halo shows the payment as paid.",
        "Answer the dispute in Stripe before its deadline.",
        "",
    )


def _stripe_words(one: Reversal) -> str:
    why = f", reason {one.reason.replace('_', ' ')}" if one.reason else ""
    return f"({one.id}, status {one.status.replace('_', ' ')}{why})"
