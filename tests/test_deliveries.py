"""Undelivered webhooks: how many payment events, the oldest, what they mean, and the API usage."""

import json
import re
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import Side
from syncd.core.rules.deliveries import Undelivered, add
from syncd.sandbox import Fault
from syncd.store.coordination import UNDELIVERED
from syncd.sync.build import Parts
from syncd.sync.pull.deliveries import PAGES_MAX
from syncd.text.timestamps import minute
from tests.conftest import NOW as AT
from tests.conftest import Rig
from tests.test_check import _sides
from tests.test_process import daemon

DAY = 86_400
NOW = int(AT)


def _read(rig: Rig) -> Undelivered:
    return rig.run(lambda parts: parts.engine.deliveries.read())  # type: ignore[no-any-return]


def _count_daily(rig: Rig) -> None:
    async def work(parts: Parts) -> None:
        await parts.engine.count_undelivered()

    rig.run(work)


def _asked(rig: Rig) -> list[dict[str, str]]:
    """The requests that asked for undelivered events."""
    queries = [dict(request.query) for request in rig.box.stripe.requests]
    return [query for query in queries if "delivery_success" in query]


def _undelivered(rig: Rig, ages_seconds: list[float], state: str = "succeeded") -> list[str]:
    """Create payments of these ages whose events no webhook endpoint has accepted."""
    rig.box.stripe.pending_webhooks = 1
    payments = [rig.box.stripe.create_intent() for _ in ages_seconds]
    for payment, age in zip(payments, ages_seconds, strict=True):
        rig.box.stripe.advance(payment, state, NOW - age)
    rig.box.stripe.pending_webhooks = 0
    return payments


def test_what_was_not_delivered_is_counted_and_kept(rig: Rig) -> None:
    """Only undelivered payment events count, and the oldest is shown with its payment."""
    rig.pay("succeeded")
    old, _, _ = _undelivered(rig, [3 * DAY, 2 * DAY, 60])
    rig.box.stripe.pending_webhooks = 2
    rig.box.stripe.refund(rig.pay("succeeded"))  # charge.refunded is not a payment event
    rig.box.stripe.pending_webhooks = 0
    found = _read(rig)
    assert found == Undelivered(
        NOW,
        4,
        2,
        oldest_at=NOW - 3 * DAY,
        oldest_type="payment_intent.succeeded",
        oldest_intent=old,
    )
    assert rig.stored(lambda store: store.read(UNDELIVERED)) == found
    assert len(_asked(rig)) == 1


def test_events_that_were_delivered_are_none(rig: Rig) -> None:
    """If all events were delivered, the count is 0, and the text says so."""
    rig.pay("succeeded")
    found = _read(rig)
    assert (found.number, found.oldest_at, found.meaning) == (0, None, "")
    assert found.found == "no payment event of the last 30 days waits for a webhook endpoint"


def test_a_later_delivery_is_seen(rig: Rig) -> None:
    """An event that Stripe has delivered in the meantime is no longer counted."""
    _undelivered(rig, [DAY])
    assert _read(rig).number == 1
    rig.box.stripe.events[-1]["pending_webhooks"] = 0
    assert _read(rig).number == 0


def test_a_stripe_that_ignores_the_filter_is_not_believed(rig: Rig) -> None:
    """If Stripe ignores the filter, events without a pending delivery do not count."""
    _undelivered(rig, [DAY])
    rig.pay("succeeded")
    listed = {"object": "list", "has_more": False, "data": list(rig.box.stripe.events)}
    answer = Fault("200", path="/v1/events", body=json.dumps(listed).encode())
    rig.box.stripe.faults.append(answer)
    assert _read(rig).number == 1


def test_many_are_counted_in_few_requests(rig: Rig) -> None:
    """Syncd reads at most five pages; then the text says "at least 500" and covers 30 days."""
    _undelivered(rig, [DAY + n for n in range(100 * PAGES_MAX + 1)])
    found = _read(rig)
    assert (found.number, found.complete, len(_asked(rig))) == (100 * PAGES_MAX, False, PAGES_MAX)
    assert found.found.startswith("at least 500 payment events of the last 30 days were not")
    assert "the oldest that syncd read" in found.found
    assert found.meaning.endswith(f"syncd audit --since {_day(NOW - 30 * DAY)}")


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def test_an_event_that_cannot_be_read_counts(rig: Rig) -> None:
    """An event without a readable payment counts, but no payment is named."""
    _undelivered(rig, [DAY])
    rig.box.stripe.events[-1]["data"] = {"object": None}
    found = _read(rig)
    assert (found.number, found.oldest_intent) == (1, None)


ages = st.lists(st.integers(0, 30 * DAY), max_size=12)


@given(ages, st.integers(0, 12))
def test_pages_add_up(ages: list[int], cut: int) -> None:
    """The count does not depend on how events are split into pages."""
    events = [(NOW - age, "payment_intent.succeeded", f"pi_{age}") for age in ages]
    whole = add(Undelivered(NOW), events)
    assert add(add(Undelivered(NOW), events[:cut]), events[cut:]) == whole
    assert whole.number == len(ages)
    assert whole.oldest_at == (NOW - max(ages) if ages else None)


# --- check, calibrate, the page ----------------------------------------------------------------------


def test_check_names_them_and_what_they_mean(rig: Rig) -> None:
    """`check` warns of undelivered events, names the oldest, and gives the audit command to run."""
    (old,) = _undelivered(rig, [3 * DAY])
    line = _sides(rig)["webhook deliveries"]
    assert (line.level, line.text) == (
        "warn",
        "1 payment event of the last 30 days was not delivered to at least one webhook endpoint; the "
        f"oldest: payment_intent.succeeded of {old}, {minute(NOW - 3 * DAY)}",
    )
    assert line.remedy is not None
    assert "Halo's own webhook did not update these payments" in line.remedy
    assert line.remedy.endswith(f"syncd audit --since {_day(NOW - 3 * DAY)}")


def test_check_without_the_permission_asks_once(rig: Rig) -> None:
    """If the key may not read events, `check` reports only that, and no line about deliveries."""
    rig.box.stripe.permissions = {"payment_intents"}
    lines = _sides(rig)
    assert "webhook deliveries" not in lines
    assert lines["Stripe: read Events"].level == "fail"


def test_check_where_stripe_refuses_the_filter(rig: Rig) -> None:
    """If Stripe refuses the filter for undelivered events, `check` warns and tests everything else."""
    refused = Fault("400", path="/v1/events", match=lambda r: "delivery_success" in dict(r.query))
    rig.box.stripe.faults.append(refused)
    lines = _sides(rig)
    assert lines["webhook deliveries"].level == "warn"
    assert "Stripe did not list the events" in lines["webhook deliveries"].text
    assert lines["Halo: sign-in"].level == "pass"


def test_calibrate_and_the_page_say_so(live: Rig) -> None:
    """`calibrate` counts and stores undelivered events; the page shows the stored count without a request."""
    live.box.stripe.pending_webhooks = 1
    payment = live.pay("succeeded")
    live.stored(lambda store: store.notes())  # the service has run before
    shown = live.command("calibrate")
    assert f"the oldest: payment_intent.succeeded of {payment}" in shown.stdout
    assert "syncd audit --since" in shown.stdout
    as_json: dict[str, Any] = json.loads(live.command("calibrate", "--json").stdout)
    assert as_json["undelivered"]["number"] == 1
    asked = len(_asked(live))
    with daemon(live) as running:
        page = running.get("/")[1]
        assert running.get("/")[0] == 200
        assert running.stop() == 0
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "1 payment event of the last 30 days was not delivered" in text
    assert "Stripe does not say whose endpoint it is." in text
    assert len(_asked(live)) == asked


def test_the_page_before_anybody_asked(live: Rig) -> None:
    """Without a stored count, the page shows "not read yet"."""
    with daemon(live) as running:
        page = running.get("/")[1]
        assert running.stop() == 0
    assert "not read yet" in page


# --- once a day --------------------------------------------------------------------------------------


def test_the_service_counts_once_a_day(rig: Rig) -> None:
    """The service counts undelivered events once a day, with one request."""
    _undelivered(rig, [DAY])
    for _ in range(3):
        _count_daily(rig)
    assert len(_asked(rig)) == 1
    assert [line["events"] for line in rig.told.events("undelivered")] == [1]
    rig.clock.seconds += DAY
    _count_daily(rig)
    assert len(_asked(rig)) == 2


def test_a_failed_count_stops_nothing_and_waits_a_day(rig: Rig) -> None:
    """If Stripe refuses the count, syncd logs this once, keeps polling, and does not retry at once."""
    refused = Fault("400", path="/v1/events", match=lambda r: "delivery_success" in dict(r.query))
    refused.times = None
    rig.box.stripe.faults.append(refused)
    payment = rig.pay("succeeded")

    async def work(parts: Parts) -> None:
        for _ in range(3):
            await parts.engine.count_undelivered()
        assert not parts.engine.links[Side.STRIPE].paused(rig.clock())
        await parts.engine.poll()
        await parts.engine.push()

    rig.run(work)
    assert len(rig.told.events("undelivered_unknown")) == 1
    assert rig.statuses(payment) == [3]


def test_polls_come_first(rig: Rig) -> None:
    """If more than half of Stripe's read budget is used, the service does not count undelivered events."""
    rig.settings["SYNCD_STRIPE__READ_BUDGET"] = "2"
    rig.pay("succeeded")
    rig.cycle()
    _count_daily(rig)
    assert _asked(rig) == []
