"""What the sandbox's Stripe refuses, and what its listings contain."""

import http.client
import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from syncd.sandbox import Sandbox
from tests.conftest import HandClock, Rig

DAY = 86_400


def ask(
    box: Sandbox, path: str, *, method: str = "GET", key: str | None = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Send one request to the sandbox's Stripe; return status, JSON and the headers in lower case."""
    connection = http.client.HTTPConnection(box.stripe.url.removeprefix("http://"), timeout=5)
    try:
        named = {"Authorization": f"Bearer {key or box.stripe.api_key}", **headers}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        return answer.status, body, {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def listed(box: Sandbox, path: str) -> list[str]:
    status, body, _ = ask(box, path)
    assert status == 200, body
    return [item["id"] for item in body["data"]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "between 1 and 100"),
        ("limit=101", "between 1 and 100"),
        ("limit=x", "between"),
        ("status=succeeded", "unknown parameter: status"),
        ("created[since]=1", "Invalid created"),
        ("created[gte]=today", "Invalid created"),
        ("page=2", "unknown parameter: page"),
        ("starting_after=a&ending_before=b", "only specify one"),
        ("customer=cus_1", "customer"),
        ("type=payment_intent.*&types[]=payment_intent.canceled", "only specify one"),
        ("&".join(f"types[{n}]=payment_intent.a{n}" for n in range(21)), "at most 20"),
        ("starting_after=evt_unknown", "No such event"),
        ("client_secret=x", "client_secret"),
        ("delivery_success=no", "Invalid boolean"),
    ],
)
def test_listings_that_are_refused(rig: Rig, query: str, words: str) -> None:
    """An unknown or invalid parameter, or one that excludes another one, gets a 400 and is not ignored."""
    status, body, _ = ask(rig.box, f"/v1/events?{quote(query, safe='=&')}")
    assert status == 400
    assert words in body["error"]["message"]


def test_events_by_delivery(rig: Rig) -> None:
    """`delivery_success` separates delivered events from events with pending webhooks."""
    rig.pay("succeeded")
    rig.box.stripe.pending_webhooks = 1
    rig.pay("succeeded")
    taken, waiting = rig.box.stripe.events
    for value, expected in (("true", taken), ("false", waiting)):
        _, body, _ = ask(rig.box, f"/v1/events?delivery_success={value}")
        assert [event["id"] for event in body["data"]] == [expected["id"]]
    assert [taken["pending_webhooks"], waiting["pending_webhooks"]] == [0, 1]


@pytest.mark.parametrize(
    "query", ["status=succeeded", "type=x", "types[]=x", "delivery_success=true"]
)
def test_intents_have_no_such_filter(rig: Rig, query: str) -> None:
    """Payment intents cannot be filtered by status or by the filters of events."""
    assert ask(rig.box, f"/v1/payment_intents?{quote(query, safe='=&')}")[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/v1/events", "pk_test_x", 403),
        ("GET", "/v1/events", "rk_test_wrong", 401),
        ("POST", "/v1/payment_intents", None, 403),
        ("GET", "/v2/events", None, 404),
        ("GET", "/v1/payouts", None, 404),
        ("GET", "/v1/events/evt_x", None, 404),
        ("GET", "/v1/payment_intents/pi_x", None, 404),
        ("GET", "/v1/events/a/b", None, 404),
        ("GET", "/v1/payment_intents/pi_x?include=all", None, 400),
        ("GET", "/v1/events/evt_x?client_secret=s", None, 400),
    ],
)
def test_requests_that_are_refused(
    rig: Rig, method: str, path: str, key: str | None, status: int
) -> None:
    """A wrong key, a write, an unknown path and an unknown object each get their own status."""
    assert ask(rig.box, path, method=method, key=key)[0] == status


def test_permissions_and_accounts(rig: Rig) -> None:
    """A key reads only what it is allowed to read: the 403 names the missing permission."""
    rig.box.stripe.permissions = {"events"}
    status, body, _ = ask(rig.box, "/v1/payment_intents")
    assert (status, "'rak_payment_intent_read'" in body["error"]["message"]) == (403, True)
    headers = {"Stripe-Account": "acct_1"}
    assert ask(rig.box, "/v1/events", **headers)[0] == 403
    rig.box.stripe.accounts.add("acct_1")
    assert ask(rig.box, "/v1/events", **headers)[0] == 200
    assert ask(rig.box, "/v1/account")[1]["object"] == "account"


def test_rates(rig: Rig) -> None:
    """An endpoint allows 25 requests per second; with a test key that limit counts all endpoints together."""
    for _ in range(25):
        assert ask(rig.box, "/v1/events")[0] == 200
    status, _, headers = ask(rig.box, "/v1/events")
    assert (status, headers["stripe-rate-limited-reason"]) == (429, "endpoint-rate")
    status, _, headers = ask(rig.box, "/v1/payment_intents")
    assert (status, headers["stripe-rate-limited-reason"]) == (429, "global-rate")
    rig.clock.seconds += 1
    assert ask(rig.box, "/v1/events")[0] == 200
    rig.box.stripe.api_key = "rk_live_sandbox"
    for _ in range(24):
        ask(rig.box, "/v1/events")
    assert ask(rig.box, "/v1/events")[0] == 429
    assert ask(rig.box, "/v1/payment_intents")[0] == 200


# --- what is listed --------------------------------------------------------------------------------


def test_order_and_cursors(rig: Rig) -> None:
    """Listings are newest first, sorted by ID within a second; both cursors page through the same list."""
    stripe = rig.box.stripe
    payment = stripe.create_intent()
    for second in (0, 0, 0, 1, 2):
        stripe.emit(payment, "processing", rig.clock() - second)
    whole = listed(rig.box, "/v1/events")
    same = whole[:3]
    assert same == sorted(same)
    assert whole != [event["id"] for event in stripe.events]
    _, body, _ = ask(rig.box, "/v1/events?limit=2")
    assert ([e["id"] for e in body["data"]], body["has_more"]) == (whole[:2], True)
    _, body, _ = ask(rig.box, f"/v1/events?limit=4&starting_after={whole[1]}")
    assert ([e["id"] for e in body["data"]], body["has_more"]) == (whole[2:], False)
    _, body, _ = ask(rig.box, f"/v1/events?limit=2&ending_before={whole[3]}")
    assert ([e["id"] for e in body["data"]], body["has_more"]) == (whole[1:3], True)


def test_ten_by_default(rig: Rig) -> None:
    """Without a limit parameter a page has ten objects."""
    for _ in range(11):
        rig.box.stripe.create_intent()
    assert len(listed(rig.box, "/v1/payment_intents")) == 10


@pytest.mark.parametrize(
    ("bounds", "seconds"),
    [
        ({"gte": 2}, [0, 1, 2]),
        ({"gt": 2}, [0, 1]),
        ({"lte": 2}, [2, 3, 4]),
        ({"lt": 2}, [3, 4]),
        ({"gte": 3, "lt": 1}, [2, 3]),
        ({None: 2}, [2]),
    ],
)
def test_created(rig: Rig, bounds: dict[str | None, int], seconds: list[int]) -> None:
    """A listing can be filtered by all four bounds of the creation time and by an exact time."""
    now = int(rig.clock())
    made = [rig.box.stripe.create_intent(created=now - age) for age in range(5)]
    query = {
        "created" if b is None else f"created[{b}]": str(now - age) for b, age in bounds.items()
    }
    found = listed(rig.box, f"/v1/payment_intents?{urlencode(query)}")
    assert found == [made[age] for age in seconds]


def test_types_and_customers(rig: Rig) -> None:
    """Events are filtered by a type, a wildcard or a list of types; payment intents by customer."""
    stripe = rig.box.stripe
    mine, other = stripe.create_intent(customer="cus_1"), stripe.create_intent()
    failed = stripe.advance(mine, "payment_failed")
    made = stripe.emit(other, "created")
    assert set(listed(rig.box, "/v1/events?type=payment_intent.*")) == {failed, made}
    assert listed(rig.box, "/v1/events?types[]=payment_intent.payment_failed") == [failed]
    assert listed(rig.box, "/v1/events?type=charge.*") == []
    assert listed(rig.box, "/v1/payment_intents?customer=cus_1") == [mine]
    assert len(listed(rig.box, "/v1/payment_intents?expand[]=data.customer")) == 2


def test_events_end_after_30_days(rig: Rig) -> None:
    """An event older than 30 days is not listed, cannot be read and is not accepted as a cursor."""
    stripe = rig.box.stripe
    payment = stripe.create_intent()
    old = stripe.emit(payment, "processing", rig.clock() - 30 * DAY)
    young = stripe.emit(payment, "processing", rig.clock() - 30 * DAY + 1)
    assert listed(rig.box, "/v1/events") == [young]
    assert ask(rig.box, f"/v1/events/{old}")[0] == 404
    assert ask(rig.box, f"/v1/events?starting_after={old}")[0] == 400
    assert ask(rig.box, f"/v1/events?starting_after={young}")[0] == 200
    assert listed(rig.box, "/v1/payment_intents") == [payment]


def test_events_that_come_late(rig: Rig) -> None:
    """An event can become visible later than its time; it is then listed behind newer events."""
    stripe = rig.box.stripe
    payment = stripe.create_intent()
    late = stripe.emit(payment, "processing", visible_after=60)
    rig.clock.seconds += 30
    seen = stripe.emit(payment, "processing")
    assert listed(rig.box, "/v1/events") == [seen]
    rig.clock.seconds += 30
    assert listed(rig.box, "/v1/events") == [seen, late]


def test_life_of_an_intent(rig: Rig) -> None:
    """An intent changes its error, next action and amounts with its state; events keep a snapshot of it."""
    stripe = rig.box.stripe
    payment = stripe.create_intent(amount=500)
    stripe.advance(payment, "payment_failed")
    intent = stripe.intents[payment]
    assert (intent["status"], intent["last_payment_error"]["code"]) == (
        "requires_payment_method",
        "card_declined",
    )
    stripe.touch(payment)
    assert intent["last_payment_error"] is None
    stripe.advance(payment, "requires_action")
    assert intent["client_secret"] in json.dumps(intent["next_action"])
    stripe.advance(payment, "succeeded", amount_received=300)
    assert (intent["amount"], intent["amount_received"], intent["next_action"]) == (500, 300, None)
    other = stripe.create_intent()
    stripe.advance(other, "canceled")
    assert stripe.intents[other]["canceled_at"] == int(rig.clock())
    first = stripe.events[0]["data"]["object"]
    assert (first["status"], first["last_payment_error"]["code"]) == (
        "requires_payment_method",
        "card_declined",
    )
    with pytest.raises(ValueError, match="paid is no state"):
        stripe.advance(other, "paid")


def test_the_clock_of_its_answers(rig: Rig) -> None:
    """The Date header shows Stripe's clock, which a test can shift."""
    rig.box.stripe.clock_skew = 3_600
    headers = ask(rig.box, "/v1/events")[2]
    assert headers["date"] == "Tue, 24 Nov 2026 07:00:00 GMT"
    assert headers["request-id"].startswith("req_")


def test_ids_are_replayed_by_a_seed(clock: HandClock) -> None:
    """The same seed creates the same IDs, so that a failure can be replayed."""
    made = []
    for seed in (1, 1, 2):
        with Sandbox(clock=clock, seed=seed) as box:
            made.append(box.stripe.create_intent())
    assert made[0] == made[1] != made[2]
