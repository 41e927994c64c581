"""syncd keeps the invoice payments of a Halo tenant in step with Stripe, without a webhook."""

__version__ = "0.2.0"
