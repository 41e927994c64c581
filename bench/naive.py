"""What one would write instead: list with the package's own iterator, one GET and one POST each."""

import os

import httpx
import stripe


def main() -> None:
    """Push every payment that succeeded, as a script of an afternoon would."""
    halo = httpx.Client(base_url=os.environ["HALO_URL"])
    form = {
        "grant_type": "client_credentials",
        "client_id": os.environ["HALO_CLIENT_ID"],
        "client_secret": os.environ["HALO_CLIENT_SECRET"],
        "scope": "read:invoices edit:invoices",
        "tenant": os.environ["HALO_TENANT"],
    }
    token = halo.post("/auth/token", data=form).json()["access_token"]
    halo.headers["Authorization"] = f"Bearer {token}"
    client = stripe.StripeClient(
        os.environ["STRIPE_API_KEY"], base_addresses={"api": os.environ["STRIPE_URL"]}
    )
    for intent in client.v1.payment_intents.list({"limit": 100}).auto_paging_iter():
        if intent.status != "succeeded":
            continue
        answer = halo.get("/api/InvoicePayment", params={"intent_id": intent.id}).json()
        rows = answer["payments"] if isinstance(answer, dict) else answer
        status = int(os.environ["STATUS_SUCCEEDED"])
        posted = halo.post("/api/InvoicePayment", json=[{"id": rows[0]["id"], "status": status}])
        posted.raise_for_status()


if __name__ == "__main__":
    main()
