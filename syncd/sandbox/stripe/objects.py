"""Stripe's objects as the simulated Stripe creates them."""

from typing import Any


def new_intent(name: str, client_secret: str, **known: Any) -> dict[str, Any]:
    """A payment intent before its first payment method.

    Args:
        name: its id.
        client_secret: its client secret.
        known: the fields that differ from those of every other new payment intent.
    """
    return {
        "id": name, "object": "payment_intent", "amount": 0, "amount_capturable": 0,
        "amount_details": {}, "amount_received": 0, "application": None,
        "application_fee_amount": None, "automatic_payment_methods": {"enabled": True},
        "canceled_at": None, "cancellation_reason": None, "capture_method": "automatic",
        "client_secret": client_secret,
        "confirmation_method": "automatic", "created": 0,
        "currency": "usd", "customer": None, "customer_account": None,
        "description": None, "excluded_payment_method_types": None,
        "last_payment_error": None, "latest_charge": None, "livemode": False,
        "managed_payments": None, "metadata": {}, "next_action": None,
        "on_behalf_of": None, "payment_method": None,
        "payment_method_configuration_details": None, "payment_method_options": {},
        "payment_method_types": ["card"], "processing": None,
        "receipt_email": None, "review": None, "setup_future_usage": None, "shipping": None,
        "source": None, "statement_descriptor": None, "statement_descriptor_suffix": None,
        "status": "requires_payment_method", "transfer_data": None, "transfer_group": None,
        **known,
    }  # fmt: skip


def amount_details(surcharge: int | None, tip: int | None) -> dict[str, Any]:
    """A tip is always shown, empty without one; the surcharge is a preview feature."""
    details: dict[str, Any] = {"tip": {} if tip is None else {"amount": tip}}
    return details if surcharge is None else details | {"surcharge": {"amount": surcharge}}
