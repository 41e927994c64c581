"""Bad input from Stripe and Halo over real HTTP: syncd guesses nothing and loses nothing.

Unusable input goes on the attention list or is counted; other input is processed as usual.
"""

import json
from typing import Any

import pytest

from syncd.clients.webhook_payload import TRACE_CHARACTERS_MAX
from syncd.core.holds import HoldCode, message
from syncd.core.records import Condition
from syncd.sandbox import Fault, Request
from syncd.sandbox.http import Reply
from syncd.sync.build import Parts
from tests.conftest import NOW, Rig

NASTY = (
    'Ann\x00\x07\x1b[31m <script>alert("1")</script> \u202eevil \ud800 &amp; Żółć 💶\r\nnew line'
)


def event(**changes: Any) -> dict[str, Any]:
    """An event of a succeeded payment, with changes; a value of ... leaves the key out."""
    whole = {
        "id": "evt_bad", "object": "event", "api_version": "2019-01-01", "created": int(NOW) - 5,
        "type": "payment_intent.succeeded", "livemode": False,
        "data": {"object": {"id": "pi_bad", "object": "payment_intent", "amount": 1_099,
                            "amount_received": 1_099, "currency": "usd", "status": "succeeded"}},
    }  # fmt: skip
    return {k: v for k, v in (whole | changes).items() if v is not ...}


def metric(rig: Rig, name: str, **labels: str) -> float:
    """The value of a counter."""
    return rig.told.registry.get_sample_value(name, labels) or 0.0


# --- events ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "name", "said"),
    [
        (event(data=...), "evt_bad", "The event evt_bad (payment_intent.succeeded) holds no payment "
         "intent."),
        (event(data=None), "evt_bad", "The event evt_bad (payment_intent.succeeded) holds no payment "
         "intent."),
        (event(data={"object": []}), "evt_bad", "The event evt_bad (payment_intent.succeeded) holds no "
         "payment intent."),
        (event(data={"object": {"id": None}}), "evt_bad", "The event evt_bad (payment_intent.succeeded) "
         "names no payment that syncd can read."),
        (event(data={"object": {"id": "../x"}}), "evt_bad", "The event evt_bad "
         "(payment_intent.succeeded) names no payment that syncd can read."),
        (event(type=None), "evt_bad", "An event from Stripe has no type."),
        (event(type=["payment_intent.succeeded"]), "evt_bad", "An event from Stripe has no type."),
        (event(created=...), "evt_bad", "The event evt_bad (payment_intent.succeeded of pi_bad) has no "
         "time."),
        (event(created="today"), "evt_bad", "The event evt_bad (payment_intent.succeeded of pi_bad) has "
         "no time."),
        (event(id=None, data={}), None, "The event {} (payment_intent.succeeded) holds no payment "
         "intent."),
        (event(id=["x"], type=7), None, "An event from Stripe has no type."),
        ("an event", None, "An event in Stripe's list isn't an object."),
        (None, None, "An event in Stripe's list isn't an object."),
        ([[]], None, "An event in Stripe's list isn't an object."),
    ],
)  # fmt: skip
def test_event_that_can_not_be_used(rig: Rig, odd: Any, name: str | None, said: str) -> None:
    """An unusable event goes on the attention list once, and syncd processes the other events."""
    rig.box.stripe.type_filter_ignored = True
    rig.box.stripe.events.append(odd)
    payment = rig.pay("succeeded")
    rig.once()
    rig.once()
    assert rig.statuses(payment) == [3]
    (entry,) = rig.attention()
    assert (entry.kind, entry.code) == ("unreadable", "unreadable")
    assert entry.id == name or (name is None and entry.id.startswith("unnamed_"))
    assert entry.reason == message(HoldCode.UNREADABLE, entry.id, problem=said.format(entry.id))
    assert metric(rig, "syncd_events_total", outcome="unreadable") >= 1
    assert rig.stored(lambda store: store.people.dismiss([entry.id], rig.clock())) == [entry.id]
    rig.once()
    assert rig.attention() == []


def test_event_without_an_id(rig: Rig) -> None:
    """An event without an id is processed, and only once."""
    payment = rig.pay(None)
    inside = dict(rig.box.stripe.intents[payment], status="succeeded", amount_received=1_099)
    rig.box.stripe.events.append(event(id=None, data={"object": inside}))
    rig.once()
    rig.once()
    assert (rig.statuses(payment), len(rig.posts()), rig.attention()) == ([3], 1, [])


@pytest.mark.parametrize("kind", ["payment_intent.frozen", "charge.succeeded", "x" * 500, NASTY])
def test_event_of_an_unknown_type(rig: Rig, kind: str) -> None:
    """An event of an unknown type is counted and logged once, and causes no push and no entry."""
    rig.box.stripe.type_filter_ignored = True
    rig.pay(None)
    rig.box.stripe.events.append(event(type=kind))
    rig.once()
    rig.once()
    assert (rig.attention(), rig.posts()) == ([], [])
    (line,) = rig.told.events("event_type_unknown")
    assert line["type"].isprintable()
    assert len(line["type"]) <= 80
    assert metric(rig, "syncd_events_total", outcome="unknown_type") == 1


def test_events_that_differ_in_what_is_not_shown(rig: Rig) -> None:
    """Two events are distinct even if their ids look the same after sanitizing."""
    payments = [rig.pay(None) for _ in range(2)]
    for payment, name in zip(payments, ("evt_\x01", "evt_\x02"), strict=True):
        inside = dict(rig.box.stripe.intents[payment], status="processing")
        rig.box.stripe.events.append(
            event(id=name, type="payment_intent.processing", data={"object": inside})
        )
        rig.once()
    assert [rig.statuses(payment) for payment in payments] == [[5], [5]]


# --- money -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"amount_received": "1099"}, "amount_unreadable"),
        ({"amount_received": 10.99}, "amount_unreadable"),
        ({"amount_received": -1}, "amount_unreadable"),
        ({"amount_received": True}, "amount_unreadable"),
        ({"amount_received": None}, "amount_unreadable"),
        ({"amount_received": 10**30}, "amount_unreadable"),
        ({"currency": None}, "amount_unreadable"),
        ({"currency": 840}, "amount_unreadable"),
        ({"currency": "<b>usd"}, "amount_unreadable"),
        ({"currency": "zzz"}, "currency_unknown"),
        ({"currency": "btc"}, "currency_unknown"),
    ],
)
def test_money_that_can_not_be_read(rig: Rig, fields: dict[str, Any], code: str) -> None:
    """If the amount or currency is unreadable, also in the payment intent, syncd holds the payment."""
    payment = rig.pay(None)
    rig.box.stripe.advance(payment, "succeeded", emit=False)
    rig.box.stripe.intents[payment].update(fields)
    rig.box.stripe.emit(payment, "succeeded")
    rig.once()
    (entry,) = rig.attention()
    assert (entry.id, entry.code, rig.statuses(payment)) == (payment, code, [1])
    assert rig.posts() == []


def test_money_that_only_the_event_garbles(rig: Rig) -> None:
    """If only the event's amount is unreadable, syncd reads the payment intent and pushes the payment."""
    payment = rig.pay("succeeded")
    inside = rig.box.stripe.events[0]["data"]["object"]
    inside["amount_received"], inside["currency"] = "10.99", None
    rig.once()
    assert (rig.statuses(payment), rig.attention()) == ([3], [])


# --- payment intents -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["frozen", "Succeeded", "", NASTY])
def test_intent_of_an_unknown_status(rig: Rig, status: str) -> None:
    """A payment intent with an unknown status has no state: syncd logs it once and pushes nothing."""
    payment = rig.pay(None)
    rig.box.stripe.intents[payment]["status"] = status
    rig.sweep()
    assert (rig.condition(payment), rig.posts()) == (Condition.NO_STATE, [])
    (line,) = rig.told.events("intent_status_unknown")
    assert line["status"].isprintable()
    rig.box.stripe.advance(payment, "succeeded", emit=False)
    rig.clock.seconds += 60
    rig.sweep()
    assert rig.statuses(payment) == [3]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": None}, "has no status"),
        ({"status": 3}, "has no status"),
        ({"id": None}, "has no id"),
        ({"id": "pi_\x00"}, "has no id"),
    ],
)
def test_intent_that_can_not_be_used(rig: Rig, fields: dict[str, Any], said: str) -> None:
    """A payment intent without a usable id or status goes on the attention list; the others are processed."""
    good, bad = rig.pay(None), rig.pay(None)
    rig.box.stripe.advance(good, "processing", emit=False)
    rig.box.stripe.intents[bad].update(fields)
    rig.sweep()
    assert (rig.statuses(good), rig.statuses(bad)) == ([5], [1])
    (entry,) = rig.attention()
    assert said in entry.reason


@pytest.mark.parametrize("metadata", [None, [], "halo_invoice_id", {"halo_invoice_id": None},
                                      {"halo_invoice_id": {}}, {"halo_invoice_id": "  "}])  # fmt: skip
def test_metadata_that_is_none(rig: Rig, metadata: Any) -> None:
    """If the metadata has another type or names no invoice, syncd creates no row."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    payment = rig.pay(None, rows=())
    rig.box.stripe.intents[payment]["metadata"] = metadata
    rig.box.stripe.advance(payment, "succeeded")
    rig.once()
    assert (rig.condition(payment), rig.box.halo.writes) == (Condition.UNMATCHED, [])


@pytest.mark.parametrize("invoice", [NASTY, "-7", "0", "1e3", "١٢", "9" * 400, "1001; DROP TABLE"])
def test_metadata_that_names_no_invoice(rig: Rig, invoice: str) -> None:
    """If the metadata names the invoice by anything but a number, syncd holds the payment."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    payment = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": invoice})
    rig.once()
    (entry,) = rig.attention()
    assert (entry.id, entry.code, rig.box.halo.writes) == (payment, "invoice_unreadable", [])


# --- texts -----------------------------------------------------------------------------------------


def test_five_megabytes_of_description(rig: Rig) -> None:
    """A payment with a description of five megabytes is pushed; trace and database stay small."""
    payment = rig.pay("succeeded", description="x" * 5_000_000)
    rig.once()
    (row,) = rig.box.halo.rows_of(payment)
    assert row["status"] == 3
    assert len(row["webhook_payload"]) <= TRACE_CHARACTERS_MAX
    trace = json.loads(row["webhook_payload"])
    assert (trace["type"], trace["data"]["object"]["id"]) == ("payment_intent.succeeded", payment)
    assert (rig.folder / "syncd.db").stat().st_size < 1_000_000


def test_control_characters_and_markup(rig: Rig) -> None:
    """Control characters and markup reach Halo unchanged in JSON, but appear in no log entry or reason."""
    payment = rig.pay(
        "succeeded", description=NASTY, metadata={"customer": NASTY, "halo_invoice_id": NASTY}
    )
    held = rig.pay("succeeded", rows=(5.0,), description=NASTY)
    rig.box.halo.rows_of(payment)[0]["client_name"] = NASTY
    rig.once()
    (row,) = rig.box.halo.rows_of(payment)
    trace = json.loads(row["webhook_payload"])
    assert trace["data"]["object"]["description"] == NASTY
    assert trace["data"]["object"]["metadata"]["customer"] == NASTY
    assert row["webhook_payload"].isascii()
    assert row["webhook_payload"].isprintable()
    assert [entry.id for entry in rig.attention()] == [held]
    for text in [*map(str, rig.told.lines), *(entry.reason for entry in rig.attention())]:
        assert text.isprintable()
        assert "script" not in text


def test_halos_words_with_markup(rig: Rig) -> None:
    """Halo's error message is sanitized to one plain line."""
    payment = rig.pay("succeeded")
    rig.box.halo.poison(payment, f"Bad row {NASTY}")
    rig.once()
    (entry,) = rig.attention()
    assert entry.reason.isprintable()
    assert 'Bad row Ann[31m alert("1")' in entry.reason
    assert "<script>" not in entry.reason


# --- Halo's rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"amount": "10,99"}, "amount_unreadable"),
        ({"amount": None}, "amount_unreadable"),
        ({"amount": 1e300}, "amount_unreadable"),
        ({"id": None}, "row_unreadable"),
        ({"id": "seven"}, "row_unreadable"),
        ({"amount": -10.99}, "amount_mismatch"),
        ({"amount": "1,010.99"}, "amount_unreadable"),
        ({"amount": "10.99 EUR"}, "amount_unreadable"),
        ({"amount": ""}, "amount_unreadable"),
        ({"amount": True}, "amount_unreadable"),
        ({"amount": "11.99"}, "amount_mismatch"),
        ({"id": 0}, "row_unreadable"),
        ({"id": -7}, "row_unreadable"),
    ],
)
def test_row_that_makes_no_sense(rig: Rig, fields: dict[str, Any], code: str) -> None:
    """If a row has no usable id or amount, syncd holds its payment and pushes the others."""
    bad, good = rig.pay("succeeded"), rig.pay("succeeded")
    rig.box.halo.rows_of(bad)[0].update(fields)
    rig.once()
    (entry,) = rig.attention()
    assert (entry.id, entry.code) == (bad, code)
    assert (rig.statuses(bad), rig.statuses(good)) == ([1], [3])


@pytest.mark.parametrize("status", [None, "paid", 3.5, True, [], 10**30])
def test_row_without_a_status(rig: Rig, status: Any) -> None:
    """If a row's status is not a whole number, syncd holds the payment and does not overwrite the row."""
    payment = rig.pay("succeeded")
    rig.box.halo.rows_of(payment)[0]["status"] = status
    rig.once()
    assert rig.statuses(payment) == [status]
    assert rig.condition(payment) is Condition.HELD


@pytest.mark.parametrize("amount", ["10.99", " 10.990 ", "+10.99"])
def test_row_with_its_amount_as_text(rig: Rig, amount: str) -> None:
    """An amount that is a string with a decimal number is read as that number."""
    payment = rig.pay("succeeded")
    rig.box.halo.rows_of(payment)[0]["amount"] = amount
    rig.once()
    assert (rig.condition(payment), rig.statuses(payment)) == (Condition.IN_STEP, [3])


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        b'"9999-12-31T23:59:59.9999999-05:00"',
        b'"0001-01-01T00:00:00+14:00"',
        b"1e9999",
        b"-1e999999999",
        b"1e99999999999999999999999",
        b"1e-999999999",
        b"9" * 5_000,
        b"[" * 900 + b"]" * 900,
    ],
)
def test_column_that_no_database_holds(rig: Rig, value: bytes, *, proven: bool) -> None:
    """A column with an absurd date, number or nesting stops neither the update of its row nor another one."""
    rig.proven = proven
    rig.box.halo.keeps.partial = "merge" if proven else "refuse"  # refused rows are sent back whole
    payment, other = rig.pay("processing"), rig.pay("processing")
    rig.box.halo.rows_of(payment)[0] |= {"dateposted": "absurd", "thirdpartyid": "absurd"}
    answer = rig.box.halo.answer

    def absurd(request: Request) -> Reply:
        reply = answer(request)
        reply.body = reply.body.replace(b'"absurd"', value)
        return reply

    rig.box.halo.answer = absurd  # type: ignore[method-assign]
    rig.once()
    rig.once()
    assert rig.statuses(payment) == rig.statuses(other) == [rig.box.halo.status["processing"]]


@pytest.mark.parametrize("number", [b"1e9999", b"1e999999999", b"9" * 5_000])
def test_amount_that_no_database_holds(rig: Rig, number: bytes) -> None:
    """If an amount is too large for any number type, syncd holds its payment and pushes the others."""
    bad, good = rig.pay("succeeded"), rig.pay("succeeded")
    rig.box.halo.rows_of(bad)[0]["amount"] = "absurd"
    answer = rig.box.halo.answer

    def absurd(request: Request) -> Reply:
        reply = answer(request)
        reply.body = reply.body.replace(b'"absurd"', number)
        return reply

    rig.box.halo.answer = absurd  # type: ignore[method-assign]
    rig.once()
    rig.sweep()
    (entry,) = rig.attention()
    assert (entry.id, entry.code) == (bad, "amount_unreadable")
    assert (rig.statuses(bad), rig.statuses(good)) == ([1], [3])


def test_row_with_its_status_as_text(rig: Rig) -> None:
    """A status that is a string with the right number is in step, and syncd writes nothing."""
    payment = rig.pay("succeeded")
    rig.box.halo.rows_of(payment)[0]["status"] = "3"
    rig.once()
    assert rig.condition(payment) is Condition.IN_STEP
    assert rig.posts() == []


@pytest.mark.parametrize("body", [b'[{"id": NaN}]', b'{"payments": [null, 7, "x", {}]}', b"[[[]]]"])
def test_list_that_makes_no_sense(rig: Rig, body: bytes) -> None:
    """If Halo's list contains no usable rows, syncd writes nothing, and pushes after the next good answer."""
    payment = rig.pay("succeeded")
    rig.box.halo.faults.append(Fault("200", method="GET", path="InvoicePayment", body=body))
    rig.cycle()
    assert (rig.statuses(payment), rig.box.halo.writes) == ([1], [])
    rig.clock.seconds += 700
    rig.cycle()
    assert rig.statuses(payment) == [3]


@pytest.mark.parametrize("side", ["stripe", "halo"])
def test_answer_that_is_nested_without_end(rig: Rig, side: str) -> None:
    """JSON that is nested too deeply counts as an unreadable answer, and syncd retries later."""
    payment = rig.pay("succeeded")
    path = "events" if side == "stripe" else "InvoicePayment"
    deep = b'{"object":' * 60_000
    getattr(rig.box, side).faults.append(Fault("200", method="GET", path=path, body=deep))
    rig.cycle()
    (line,) = rig.told.events("poll_failed" if side == "stripe" else "put_off")
    assert "nested" in line["reason"] or "JSON" in line["reason"]
    rig.clock.seconds += 30
    rig.cycle()
    assert rig.statuses(payment) == [3]


def test_command_that_stripe_refuses(live: Rig) -> None:
    """If Stripe refuses a request, the command exits with 69 and an error message, without a traceback."""
    refusal = b'{"error": {"type": "invalid_request_error", "message": "Invalid types"}}'
    live.box.stripe.faults.append(Fault("400", times=None, body=refusal))
    done = live.command("--once")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.splitlines()[-1] == (
        "syncd: Stripe refused GET /v1/events: Invalid types. Nothing is lost: the next run continues "
        "from here."
    )


# --- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, 24 * 365 * 12])
def test_clock_that_jumps_back(rig: Rig, hours: int) -> None:
    """If a clock that was ahead is corrected, a paused push resumes at once."""
    ahead = hours * 3_600

    async def work(parts: Parts) -> None:
        nonlocal ahead
        await parts.engine.poll()
        await parts.engine.push()
        ahead = 0
        rig.box.halo.faults.clear()
        await parts.engine.poll()
        await parts.engine.push()

    rig.world.now = lambda: rig.clock() + ahead
    payment = rig.pay("succeeded")
    rig.box.halo.faults.append(Fault("html", times=None))
    rig.run(work)
    assert rig.statuses(payment) == [3]


def test_clock_that_jumps_back_by_years(rig: Rig) -> None:
    """If a clock that was years ahead is corrected, syncd retries failed and unmatched payments at once."""
    ahead = 12 * 365 * 86_400
    rig.world.now = lambda: rig.clock() + ahead
    refused, unmatched = rig.pay("succeeded"), rig.pay("succeeded", rows=())
    rig.box.halo.poison(refused)
    rig.once()
    assert [rig.condition(payment) for payment in (refused, unmatched)] == [
        Condition.FAILED,
        Condition.UNMATCHED,
    ]
    ahead = 0
    rig.box.halo.unpoison(refused)
    rig.box.halo.add_row(unmatched, rig.box.halo.add_invoice(), 10.99)
    rig.once()
    assert (rig.statuses(refused), rig.statuses(unmatched)) == ([3], [3])


def test_row_of_a_nonsensical_intent(rig: Rig) -> None:
    """Rows with an impossible payment id do not stop a sweep that reads all rows."""
    for name in ("pi_\ud800", "pi_\x00", "x" * 9_000, "pi mine", ""):
        rig.box.halo.add_row(name, 1, 10.99)
    rig.box.halo.add_row("pi_long", 1, 10)
    payment = rig.pay("succeeded")
    rig.once()
    rig.box.halo.rows_of(payment)[0]["status"] = 1
    rig.sweep()
    assert rig.statuses(payment) == [3]
