"""Contract tests for Stripe's adapter alone."""

import json

import pytest

from syncd.clients.stripe.parse import Unreadable
from syncd.clients.stripe.source import Page, StripeSource
from syncd.core.errors import (
    BadAnswer,
    CursorRefused,
    IntentUnknown,
    PermissionMissing,
    RateLimited,
    SignInRefused,
)
from syncd.core.payments import Observation, PaymentState
from syncd.sandbox import Fault
from tests.contract.conftest import Bench

NOW = 1_795_500_000
DAY = 86_400
TYPES = {
    f"types[{place}]": kind
    for place, kind in enumerate(
        [
            "payment_intent.succeeded", "payment_intent.payment_failed",
            "payment_intent.processing", "payment_intent.canceled",
            "payment_intent.requires_action", "charge.refunded", "charge.refund.updated",
            "refund.created", "refund.updated", "refund.failed", "charge.dispute.created",
            "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_withdrawn",
            "charge.dispute.funds_reinstated",
        ]
    )
}  # fmt: skip


async def _all_events(source: StripeSource, since: int = 0) -> list[Page]:
    pages = [await source.events(since)]
    while pages[-1].cursor is not None:
        pages.append(await source.events(since, pages[-1].cursor))
    return pages


# --- listings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "pages"), [(0, [0]), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])]
)
def test_events_page_by_page(bench: Bench, events: int, pages: list[int]) -> None:
    """All events are listed, newest first, 100 per page.

    No request follows the last page, even a full one.
    """
    payment = bench.box.stripe.create_intent()
    names = [bench.box.stripe.emit(payment, "processing", NOW - n) for n in range(events)]
    found = bench.stripe(_all_events)
    assert [len(page.events) for page in found] == pages
    assert [event.id for page in found for event in page.events] == names
    assert len(bench.box.stripe.requests) == len(pages)


def test_parameters_of_events(bench: Bench) -> None:
    """A request for events contains the start time, the types, the page size and the cursor."""
    payment = bench.box.stripe.create_intent()
    for n in range(101):
        bench.box.stripe.emit(payment, "processing", NOW - n)
    (first, _) = bench.stripe(lambda source: _all_events(source, NOW - 500))
    asked = [request.params() for request in bench.box.stripe.requests]
    base = {"created[gte]": str(NOW - 500), "limit": "100", **TYPES}
    assert asked == [base, base | {"starting_after": first.events[-1].id}]


def test_events_since(bench: Bench) -> None:
    """The start time is inclusive: an event of that second is listed, an event one second older is not."""
    payment = bench.box.stripe.create_intent()
    inside = bench.box.stripe.emit(payment, "processing", NOW - 60)
    bench.box.stripe.emit(payment, "processing", NOW - 61)
    page = bench.stripe(lambda source: source.events(NOW - 60))
    assert [event.id for event in page.events] == [inside]


def test_what_an_event_says(bench: Bench) -> None:
    """An event gives the payment's state, time, amounts, invoice and event ID; `read` is False."""
    made = bench.box.stripe.create_intent(
        amount=5_050, currency="EUR", created=NOW - 100, metadata={"halo_invoice_id": " 1001 "}
    )
    event = bench.box.stripe.advance(made, "succeeded", NOW - 5, amount_received=5_000)
    page = bench.stripe(lambda source: source.events(0))
    (seen,) = page.events
    assert seen.observation is not None
    trace = seen.observation.trace
    assert seen.observation == Observation(
        intent_id=made,
        state=PaymentState.SUCCEEDED,
        at=NOW - 5,
        read=False,
        created=NOW - 100,
        amount=5_050,
        amount_received=5_000,
        currency="eur",
        invoice="1001",
        event_id=event,
        trace=trace,
    )
    assert page.server_time == NOW
    assert (page.intents, page.unreadable, page.unknown_statuses) == ((), (), ())


def test_cursor_that_is_refused(bench: Bench) -> None:
    """An unknown cursor, or one older than 30 days, raises CursorRefused."""
    with pytest.raises(CursorRefused, match="No such event: 'evt_gone'"):
        bench.stripe(lambda source: source.events(0, "evt_gone"))
    old = bench.box.stripe.emit(bench.box.stripe.create_intent(), "processing", NOW - 31 * DAY)
    with pytest.raises(CursorRefused, match="too old"):
        bench.stripe(lambda source: source.events(0, old))
    with pytest.raises(CursorRefused, match="No such payment_intent: 'pi_gone'"):
        bench.stripe(lambda source: source.intents(0, "pi_gone"))


def test_request_that_is_refused(bench: Bench) -> None:
    """A 400 to a request without a cursor raises BadAnswer: there is no cursor to drop."""
    bench.box.stripe.faults.append(Fault("400", text="Invalid created"))
    # The error type is not Stripe's type for a refused request; a proxy's 400 looks like this.
    with pytest.raises(BadAnswer, match="Invalid created"):
        bench.stripe(lambda source: source.events(0))
    error = {"error": {"type": "invalid_request_error", "message": "Unknown parameter"}}
    bench.box.stripe.faults.append(Fault("400", body=json.dumps(error).encode()))
    with pytest.raises(BadAnswer, match="refused GET /v1/events: Unknown parameter"):
        bench.stripe(lambda source: source.events(0))


def test_listing_that_can_not_go_on(bench: Bench) -> None:
    """If Stripe announces more events but the page has no ID to continue from, the adapter raises."""
    bench.box.stripe.events.extend({"created": NOW - n} for n in range(101))
    with pytest.raises(BadAnswer, match="an id to continue from"):
        bench.stripe(lambda source: source.events(0))


def test_intents_page_by_page(bench: Bench) -> None:
    """Payment intents are listed between two times, and each page reports its oldest intent."""
    made = [bench.box.stripe.create_intent(created=NOW - n) for n in range(150)]

    async def work(source: StripeSource) -> tuple[Page, Page, Page]:
        first = await source.intents(NOW - 148)
        second = await source.intents(NOW - 148, first.cursor)
        return first, second, await source.intents(NOW - 148, before=NOW - 140)

    first, second, part = bench.stripe(work)
    assert [seen.intent_id for seen in (*first.intents, *second.intents)] == made[:149]
    assert (first.oldest, second.oldest, second.cursor) == (NOW - 99, NOW - 148, None)
    assert [seen.intent_id for seen in part.intents] == made[141:149]
    assert [request.params() for request in bench.box.stripe.requests] == [
        {"created[gte]": str(NOW - 148), "limit": "100"},
        {"created[gte]": str(NOW - 148), "limit": "100", "starting_after": made[99]},
        {"created[gte]": str(NOW - 148), "created[lt]": str(NOW - 140), "limit": "100"},
    ]


@pytest.mark.parametrize(
    ("status", "error", "state", "unknown"),
    [
        ("succeeded", False, "succeeded", []),
        ("processing", False, "processing", []),
        ("canceled", False, "canceled", []),
        ("requires_action", False, "requires_action", []),
        ("requires_payment_method", True, "payment_failed", []),
        ("requires_payment_method", False, None, []),
        ("requires_confirmation", True, None, []),
        ("requires_capture", False, None, []),
        ("partially_funded", False, None, ["partially_funded"]),
        ("", False, None, [""]),
        ("Succeeded", False, None, ["Succeeded"]),
    ],
)
def test_statuses(
    bench: Bench, status: str, error: bool, state: str | None, unknown: list[str]
) -> None:
    """Each status of a payment intent maps to its state; an unknown status maps to none and is reported."""
    made = bench.box.stripe.create_intent()
    bench.box.stripe.intents[made] |= {
        "status": status,
        "last_payment_error": {"type": "card_error"} if error else None,
    }
    page = bench.stripe(lambda source: source.intents(0))
    assert [seen.state for seen in page.intents] == [state]
    assert list(page.unknown_statuses) == unknown


# --- one intent ------------------------------------------------------------------------------------


def test_one_intent(bench: Bench) -> None:
    """A payment intent read by ID is valid for the second before the answer."""
    made = bench.box.stripe.create_intent(created=NOW - 9)
    read = bench.stripe(lambda source: source.intent(made))
    assert read == Observation(
        intent_id=made,
        state=None,
        at=NOW - 1,
        read=True,
        created=NOW - 9,
        amount=1_099,
        amount_received=0,
        currency="usd",
    )
    (request,) = bench.box.stripe.requests
    assert (request.path, request.query) == (f"/v1/payment_intents/{made}", [])


def test_one_intent_that_is_not_there(bench: Bench) -> None:
    """An unknown payment intent raises IntentUnknown; an invalid ID does so without a request to Stripe."""
    with pytest.raises(IntentUnknown, match="No such payment_intent: 'pi_gone'"):
        bench.stripe(lambda source: source.intent("pi_gone"))
    asked = len(bench.box.stripe.requests)
    for odd in ("", "pi_../account", "pi_a?expand[]=customer", "pi_é", "x" * 256):
        with pytest.raises(IntentUnknown, match="is not the id of a payment intent"):
            bench.stripe(lambda source, odd=odd: source.intent(odd))  # type: ignore[misc]
    assert len(bench.box.stripe.requests) == asked


def test_answer_about_another_intent(bench: Bench) -> None:
    """An answer about a payment other than the requested one is refused."""
    made = bench.box.stripe.create_intent()
    bench.box.stripe.intents["pi_asked"] = bench.box.stripe.intents[made]
    with pytest.raises(BadAnswer, match="does not contain this payment"):
        bench.stripe(lambda source: source.intent("pi_asked"))


def test_intent_that_can_not_be_read(bench: Bench) -> None:
    """A payment intent without a status is reported as unreadable."""
    made = bench.box.stripe.create_intent()
    bench.box.stripe.intents[made]["status"] = None
    read = bench.stripe(lambda source: source.intent(made))
    assert read == Unreadable(made, f"Stripe's answer for {made} has no status.")


# --- what is never passed on -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", ["succeeded", "payment_failed", "processing", "canceled", "requires_action"]
)
def test_no_client_secret(bench: Bench, state: str) -> None:
    """No event and no payment intent keeps its client_secret, not even inside a URL."""
    made = bench.box.stripe.create_intent(description="see pi_3Other_secret_XyZ")
    intent = bench.box.stripe.intents[made]
    intent["client_secret"] = f"{made}_secret_abcDEF123"
    bench.box.stripe.advance(made, state)
    # A client_secret in a different format and in a different place than today.
    intent["last_payment_error"] = {"payment_intent": {"client_secret": "odd-one"}}
    bench.box.stripe.emit(made, state)

    async def work(source: StripeSource) -> str:
        read = (await source.events(0), await source.intents(0), await source.intent(made))
        return repr(read)

    told = bench.stripe(work)
    assert made in told
    assert f"payment_intent.{state}" in told
    hidden = ("abcDEF123", "XyZ", "odd-one", 'client_secret"')
    assert [word for word in hidden if word in told] == []


# --- limits and keys -------------------------------------------------------------------------------


def test_429_says_which_limit(bench: Bench) -> None:
    """The error of a 429 names the rate limit; a 429 without a reason is reported as a lock."""
    for kind, words in (("429", "limit global-rate"), ("lock_429", "holds a lock")):
        bench.box.stripe.faults = [Fault(kind, times=None)]
        with pytest.raises(RateLimited, match=words):
            bench.stripe(lambda source: source.events(0))


def test_real_rate_limit_is_ridden_out(bench: Bench) -> None:
    """Stripe accepts 25 requests per second; the adapter waits and completes all 30."""

    async def work(source: StripeSource) -> None:
        for _ in range(30):
            await source.events(0)

    bench.stripe(work)
    assert [r.status for r in bench.box.stripe.requests].count(200) == 30
    assert bench.noted.count("limited") == len(bench.waited) > 0


def test_keys_that_can_not_read(bench: Bench) -> None:
    """A publishable key and a revoked key each get their own error message."""
    with pytest.raises(PermissionMissing, match="publishable API key"):
        bench.stripe(lambda source: source.events(0), api_key="pk_test_abc")
    with pytest.raises(SignInRefused, match="Create a new restricted key"):
        bench.stripe(lambda source: source.events(0), api_key="rk_test_revoked")


def test_connected_account(bench: Bench) -> None:
    """Requests for a connected account carry its ID; the error names an account that the key cannot read."""
    bench.box.stripe.accounts.add("acct_1")
    bench.stripe(lambda source: source.events(0), account="acct_1")
    with pytest.raises(PermissionMissing, match="account 'acct_2'"):
        bench.stripe(lambda source: source.events(0), account="acct_2")
    bench.stripe(lambda source: source.events(0), account="")
    sent = [r.headers.get("stripe-account") for r in bench.box.stripe.requests]
    assert sent == ["acct_1", "acct_2", None]


def test_key_of_an_organization(bench: Bench) -> None:
    """With an organization key the account goes into Stripe-Context; Stripe refuses Stripe-Account."""
    bench.box.stripe.api_key = key = "sk_org_live_abc"
    bench.box.stripe.accounts.add("acct_1")
    bench.stripe(
        lambda source: source.events(0), api_key=key, account="acct_1", account_in_context=True
    )
    with pytest.raises(BadAnswer, match="Stripe-Context"):
        bench.stripe(lambda source: source.events(0), api_key=key, account="acct_1")
    with pytest.raises(PermissionMissing, match="account 'acct_2'"):
        bench.stripe(
            lambda source: source.events(0), api_key=key, account="acct_2", account_in_context=True
        )
    headers = [request.headers for request in bench.box.stripe.requests]
    assert [h.get("stripe-context") for h in headers] == ["acct_1", None, "acct_2"]
    assert [h.get("stripe-account") for h in headers] == [None, "acct_1", None]


def test_the_version_is_pinned(bench: Bench) -> None:
    """Every request names the API version, so that a new version of Stripe's API changes nothing."""
    bench.read("stripe")
    (request,) = bench.box.stripe.requests
    assert request.headers["stripe-version"] == bench.box.stripe.api_version
