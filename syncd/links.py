"""Where people look things up: addresses in Stripe's dashboard and in Halo.

Pure. Each form is one that people who wrote clients use; neither maker documents it as fixed.
"""

from urllib.parse import quote


def stripe_payment(intent_id: str, *, test: bool, account: str = "") -> str:
    """A payment in Stripe's dashboard.

    Args:
        intent_id: ``pi_…``.
        test: whether it is test data.
        account: ``acct_…`` where it belongs to a connected account.
    """
    parts = [account, "test" if test else "", "payments", intent_id]
    return "https://dashboard.stripe.com/" + "/".join(
        quote(part, safe="") for part in parts if part
    )


def halo_invoice(url: str, invoice_id: int) -> str:
    """An invoice in Halo's agent app; `url` is the tenant's."""
    return f"{url.rstrip('/')}/invoices?mainview=invoices&invoiceid={invoice_id}"
