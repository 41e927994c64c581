"""The simulated Stripe: events, payment intents, charges, refunds and disputes."""

from syncd.sandbox.stripe.service import SandboxStripe

__all__ = ["SandboxStripe"]
