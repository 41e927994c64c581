"""Links to Stripe's dashboard and to Halo.

Pure. Authors of clients use these addresses; neither vendor documents them as stable.
"""

import re
from urllib.parse import quote

_PAYMENT = re.compile(r"pi_[A-Za-z0-9_]{1,250}")


def stripe_link(intent_id: str | None, *, test: bool, account: str = "") -> str | None:
    """The same as `stripe_payment`; None for anything that is not a payment intent."""
    if intent_id is None or not _PAYMENT.fullmatch(intent_id):
        return None
    return stripe_payment(intent_id, test=test, account=account)


def stripe_payment(intent_id: str, *, test: bool, account: str = "") -> str:
    """A payment in Stripe's dashboard.

    Args:
        intent_id: ``pi_…``.
        test: whether it is test data.
        account: ``acct_…`` if the payment belongs to a connected account.
    """
    parts = [account, "test" if test else "", "payments", intent_id]
    return "https://dashboard.stripe.com/" + "/".join(
        quote(part, safe="") for part in parts if part
    )


def halo_invoice(url: str, invoice_id: int) -> str:
    """An invoice in Halo's agent app; `url` is the tenant's."""
    return f"{url.rstrip('/')}/invoices?mainview=invoices&invoiceid={invoice_id}"
