"""Why syncd holds a payment, and what releases the hold.

Does not belong here: when a payment is held (`core.decisions`).
"""

from enum import StrEnum


class HoldCode(StrEnum):
    """Why a payment is held; each has one sentence, one remedy."""

    STATUS_NOT_CONFIGURED = "status_not_configured"
    HALO_SAYS_SUCCEEDED = "halo_says_succeeded"
    AMOUNT_MISMATCH = "amount_mismatch"
    AMOUNT_UNREADABLE = "amount_unreadable"
    CURRENCY_UNKNOWN = "currency_unknown"
    ROW_UNREADABLE = "row_unreadable"
    ROW_DELETED = "row_deleted"
    INVOICE_UNREADABLE = "invoice_unreadable"
    STRIPE_CONTRADICTS_ITSELF = "stripe_contradicts_itself"


RELEASED_BY = {
    "halo.status": ("status_not_configured", "halo_says_succeeded"),
    "push.on_amount_mismatch": ("amount_mismatch", "amount_unreadable", "currency_unknown"),
    "push.create_missing": (
        "invoice_unreadable", "status_not_configured", "currency_unknown", "amount_unreadable",
    ),
}  # fmt: skip
"""Which holds a changed key may lift: those payments are decided again."""
