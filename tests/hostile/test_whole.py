"""The whole engine and the real commands, between a Stripe and a Halo that send hostile answers."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.clients.stripe.parse import read_event
from syncd.core.records import Condition
from syncd.sandbox import Fault, Request
from syncd.sandbox.http import Reply, json_reply
from syncd.sync.engine import Engine
from tests.conftest import NOW, Rig
from tests.hostile.strategies import (
    API_KEY,
    EVENT,
    HALO_SECRET,
    HALO_TOKEN,
    INTENT,
    MARK,
    SECRETS,
    UNSEEN,
    events,
    hostile,
)

DAY = 86_400


def on_events(rig: Rig, change: Callable[[dict[str, Any], Reply], None]) -> Callable[[], None]:
    """Change Stripe's pages of events on their way; return a function that stops this."""
    box, honest = rig.box.stripe, rig.box.stripe.answer

    def answer(request: Request) -> Reply:
        reply = honest(request)
        if request.path == "/v1/events" and reply.status == 200:
            page = json.loads(reply.body)
            change(page, reply)
            reply.body = json.dumps(page).encode()
        return reply

    box.answer = answer  # type: ignore[method-assign]

    def end() -> None:
        box.answer = honest  # type: ignore[method-assign]

    return end


def watermark(rig: Rig) -> int | None:
    text = rig.stored(lambda store: store.note("watermark"))
    return None if text is None else int(text)


def assert_no_secret_anywhere(rig: Rig) -> None:
    """Check that store, log, metrics and requests to Halo contain no secret, except for the sign-in."""
    assert MARK.encode() not in (rig.folder / "syncd.db").read_bytes()
    assert MARK not in repr(rig.told.lines)
    assert MARK.encode() not in rig.told.page({}, 0, {})
    assert not [r for r in rig.box.halo.requests if MARK.encode() in r.body]


@hostile(15)
@given(st.lists(events, min_size=1, max_size=6))
def test_odd_events_beside_a_real_one(rig: Rig, odd: list[Any]) -> None:
    """With odd events on its page, a real payment is still pushed; the others are known or listed."""
    rig.clock.seconds += 60
    payment = rig.pay("succeeded")

    def beside(page: dict[str, Any], _reply: Reply) -> None:
        page["data"] += odd

    end = on_events(rig, beside)
    rig.cycle()
    end()
    assert rig.statuses(payment) == [rig.box.halo.status["succeeded"]]
    assert watermark(rig) == int(rig.clock.seconds)
    names = {read_event(json.loads(json.dumps(raw)), "halo_invoice_id").id for raw in odd}
    again = rig.stored(lambda store: store.take_in([], NOW, events=dict.fromkeys(names, 0)))
    listed = {entry.id for entry in rig.attention()}
    assert set(again.new_events) <= listed
    assert_no_secret_anywhere(rig)


def longer(page: dict[str, Any], _reply: Reply) -> None:
    page["data"] += [{**EVENT, "id": f"evt_more{number}"} for number in range(100)]


def without_place(page: dict[str, Any], _reply: Reply) -> None:
    page["data"], page["has_more"] = [], True


def without_end(page: dict[str, Any], _reply: Reply) -> None:
    page["has_more"] = True


def no_list(page: dict[str, Any], _reply: Reply) -> None:
    page["data"] = {"0": page["data"]}


def no_truth(page: dict[str, Any], _reply: Reply) -> None:
    page["has_more"] = "false"


@pytest.mark.parametrize("change", [longer, without_place, without_end, no_list, no_truth])
def test_a_page_that_is_none(rig: Rig, change: Callable[[dict[str, Any], Reply], None]) -> None:
    """An inconsistent page fails as a whole: the watermark stays, and the page is read again later."""
    rig.once()
    before = watermark(rig)
    payment = rig.pay("succeeded")
    rig.clock.seconds += 2 * DAY
    end = on_events(rig, change)
    rig.box.stripe.requests.clear()
    rig.cycle()
    end()
    assert watermark(rig) == before
    assert len(rig.box.stripe.requests) <= 3
    (failed,) = rig.told.events("poll_failed")
    assert failed["side"] == "stripe"
    rig.clock.seconds += DAY
    rig.once()
    assert rig.statuses(payment) == [rig.box.halo.status["succeeded"]]


def test_places_in_a_circle(rig: Rig) -> None:
    """A listing whose cursors repeat never ends: syncd stops after the fourth request."""
    rig.once()
    turn = iter("abcabcabcabc")

    def circle(_request: Request) -> Reply:
        item = {**EVENT, "id": f"evt_{next(turn)}"}
        return json_reply({"object": "list", "data": [item], "has_more": True})

    rig.box.stripe.requests.clear()
    rig.box.stripe.answer = circle  # type: ignore[method-assign,assignment]
    rig.cycle()
    assert len(rig.box.stripe.requests) == 4
    assert "does not end" in rig.told.events("poll_failed")[0]["reason"]


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 26 Dec 2026 10:00:00 GMT"])
def test_one_wrong_date(rig: Rig, date: str) -> None:
    """A Date header in the future does not move the watermark past later events."""
    rig.once()

    def dated(_page: dict[str, Any], reply: Reply) -> None:
        reply.headers["Date"] = date

    end = on_events(rig, dated)
    rig.once()
    end()
    rig.clock.seconds += DAY / 4
    payment = rig.pay("succeeded")
    rig.once()
    assert rig.statuses(payment) == [rig.box.halo.status["succeeded"]]


def test_an_event_of_tomorrow_and_no_date(rig: Rig) -> None:
    """Without a valid Date header, an event from the future does not move the watermark."""
    rig.once()

    def dated(page: dict[str, Any], reply: Reply) -> None:
        reply.headers["Date"] = "soon"
        page["data"].insert(0, {**EVENT, "id": "evt_future", "created": 4_000_000_000})

    end = on_events(rig, dated)
    rig.clock.seconds += 60
    rig.once()
    end()
    assert watermark(rig) == int(rig.clock.seconds)


@pytest.mark.parametrize(
    "field",
    [
        {"created": 10**15},
        {"created": 253_402_300_800},
        {"metadata": {"halo_invoice_id": "\ud800"}},
        {"metadata": {"halo_invoice_id": True}},
        {"amount_received": 10**400},
        {"currency": "usd\x00"},
        {"description": "\ud800\x00\u202e"},
        {"id": "pi_\ud800"},
    ],
)
def test_fields_that_a_database_or_a_calendar_refuses(rig: Rig, field: dict[str, Any]) -> None:
    """A value that cannot be stored or written as a date does not stop the poll or the push."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    payment = rig.pay("succeeded")
    odd = {**INTENT, "metadata": {"halo_invoice_id": str(rig.box.halo.add_invoice())}, **field}

    def beside(page: dict[str, Any], _reply: Reply) -> None:
        page["data"] += [{**EVENT, "created": int(NOW) - 60, "data": {"object": odd}}]

    end = on_events(rig, beside)
    rig.cycle()
    end()
    assert rig.told.events("poll_failed") + rig.told.events("push_failed") == []
    assert rig.statuses(payment) == [rig.box.halo.status["succeeded"]]


def test_rows_of_others_that_no_database_takes(rig: Rig) -> None:
    """Invalid rows of other payments do not stop the push."""
    payments = [rig.pay("succeeded") for _ in range(12)]
    honest = rig.box.halo.answer

    def answer(request: Request) -> Reply:
        reply = honest(request)
        if request.method == "GET" and request.path == "/api/InvoicePayment":
            body = json.loads(reply.body)
            body["payments"] += [
                {"id": 9_000, "intent_id": "\ud800", "amount": 1, "status": 2**63, "invoice_id": 1},
                {"id": 2**64, "intent_id": "x" * 10_000, "amount": float("inf")},
                None,
                [],
                "row",
            ]
            reply.body = json.dumps(body).replace("Infinity", "1e9999999").encode()
        return reply

    rig.box.halo.answer = answer  # type: ignore[method-assign]
    rig.cycle()
    assert [rig.statuses(payment) for payment in payments] == [[3]] * 12


HOSTILE_WORDS = f"\x1b[31;1m\x1b]0;owned\x07{UNSEEN[:-2]} <b>" + " ".join(
    secret for secret in SECRETS if secret != HALO_TOKEN
)


def assert_inert(output: str) -> None:
    """Check that the output contains no control characters, no invisible characters and no secret."""
    odd = {c for c in output if not c.isprintable()} - {"\n"}
    assert odd == set()
    assert MARK not in output
    assert HALO_SECRET not in output


def test_what_a_person_sees(live: Rig) -> None:
    """Control characters and secrets in messages of Halo and Stripe are removed in the output of commands."""
    live.box.stripe.api_key, live.box.halo.client_secret = API_KEY, HALO_SECRET
    live.once()  # records that writes are proven
    held = live.pay("succeeded", rows=(1.0,))
    refused = live.pay("succeeded")
    live.box.halo.poison(live.box.halo.rows_of(refused)[0]["id"], HOSTILE_WORDS)
    live.box.stripe.events.append(
        {**EVENT, "id": HOSTILE_WORDS, "data": None, "created": int(time.time())}
    )
    first = live.command("--once")
    assert first.returncode == 1
    live.box.halo.faults.append(Fault("403", times=None, text=HOSTILE_WORDS))
    live.box.stripe.faults.append(Fault("403", times=None, text=HOSTILE_WORDS))
    outputs = [
        live.command("attention"),
        live.command("attention", "--json"),
        live.command("--once"),
        live.command("status"),
        live.command("--once", "--dry-run"),
        live.command("resync", refused),
    ]
    for result in (first, *outputs):
        assert "Traceback" not in result.stderr
        assert_inert(result.stdout)
        assert_inert(result.stderr)
    listed = {entry["id"] for entry in json.loads(outputs[1].stdout)}
    assert {held, refused} <= listed
    assert len(listed) == 3
    assert [result.returncode for result in outputs] == [1, 1, 69, 1, 69, 69]


def test_a_link_that_fails_with_hostile_words(rig: Rig) -> None:
    """The stored reason of a failing side is already sanitized."""
    rig.box.halo.faults.append(Fault("403", times=None, text=HOSTILE_WORDS))
    rig.box.stripe.faults.append(Fault("401", times=None, after=1, text=HOSTILE_WORDS))
    payment = rig.pay("succeeded")

    async def work(parts: Any) -> None:
        engine: Engine = parts.engine
        await engine.poll()
        await engine.push()
        rig.clock.seconds += 600
        await engine.poll()
        for link in engine.links.values():
            assert link.reason
            assert_inert(link.reason)

    rig.run(work)
    assert rig.condition(payment) is Condition.DUE
    assert_no_secret_anywhere(rig)
