"""What a row's trace contains and who wrote it; syncd's own traces contain no secret."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from syncd.clients.webhook_payload import (
    TRACE_CHARACTERS_MAX,
    TRACE_DEPTH_MAX,
    Author,
    Trace,
    TracedRow,
    author_of,
    read_traced,
    trace_of,
)
from syncd.core.payments import PaymentState
from syncd.core.rows import Row

ROW = Row(28, "pi_1", 1001, Decimal("10.99"), 4)
INTENT = {"id": "pi_1", "object": "payment_intent", "livemode": False}
EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "payment_intent.succeeded",
    "livemode": True,
    "data": {"object": {"id": "pi_1", "client_secret": "x"}},
}
WEBHOOKS = Trace(
    is_event=True, state=PaymentState.SUCCEEDED, intent_id="pi_1", has_secret=True, livemode=True
)
NOT_STRIPES = Trace(is_event=False, state=None, intent_id=None, has_secret=False, livemode=None)


def _traced(payload: Any) -> Trace | None:
    return read_traced(ROW, {"webhook_payload": payload}, None, None).trace


# --- the trace in a row ------------------------------------------------------------------------------------


def test_the_trace_of_a_webhook() -> None:
    """A trace is read from text or from JSON, together with its time and the tenant's numbers."""
    raw = {"webhook_payload": json.dumps(EVENT), "webhook_received_date": "2026-03-01T12:00:00"}
    received = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert read_traced(ROW, raw, 3, 4) == TracedRow(ROW, WEBHOOKS, received, 3, 4)
    assert _traced(EVENT) == WEBHOOKS


@pytest.mark.parametrize("payload", [None, "", " \n", {}, [], [EVENT], 7, True])
def test_no_trace(payload: object) -> None:
    """An empty payload, or a payload that cannot be a trace, is read as no trace."""
    assert read_traced(ROW, {"webhook_payload": payload}, None, None) == TracedRow(
        ROW, None, None, None, None
    )
    assert read_traced(ROW, {}, None, None).trace is None


def _deep() -> dict[str, Any]:
    raw: dict[str, Any] = {}
    for _ in range(100_000):
        raw = {"": raw}
    return raw


@pytest.mark.parametrize(
    "payload",
    ["<xml>", "[1]", '"text"', "7", "{", "[" * 100_000, _deep(), {"a": [7]}],
    ids=["xml", "list", "text", "number", "cut", "deep", "deep JSON", "JSON"],
)
def test_a_trace_of_something_else(payload: object) -> None:
    """A payload that is not a Stripe object is a trace without any information."""
    assert _traced(payload) == NOT_STRIPES


def test_a_trace_in_itself() -> None:
    """A payload that cannot be written as JSON is not a Stripe trace."""
    payload: dict[str, Any] = {}
    payload["own"] = payload
    assert _traced(payload) == NOT_STRIPES


@pytest.mark.parametrize(
    ("payload", "trace"),
    [
        (INTENT, Trace(is_event=False, state=None, intent_id="pi_1", has_secret=False, livemode=False)),
        (
            {**INTENT, "type": "payment_intent.succeeded", "livemode": "yes"},
            Trace(is_event=False, state=None, intent_id="pi_1", has_secret=False, livemode=None),
        ),
        (
            {**EVENT, "type": "charge.refunded"},
            Trace(is_event=True, state=None, intent_id="pi_1", has_secret=True, livemode=True),
        ),
        (
            {"type": "payment_intent.canceled", "data": [], "object": "a"},
            Trace(is_event=True, state=PaymentState.CANCELED, intent_id=None, has_secret=False, livemode=None),
        ),
        (
            {"type": "payment_intent.canceled", "data": {"object": "pi_1"}, "object": "z"},
            Trace(is_event=True, state=PaymentState.CANCELED, intent_id=None, has_secret=False, livemode=None),
        ),
        (
            {"type": 7, "id": 7, "client_secret": ""},
            Trace(is_event=False, state=None, intent_id=None, has_secret=True, livemode=None),
        ),
    ],
)  # fmt: skip
def test_traces(payload: Any, trace: Trace) -> None:
    """An event gives a state and the payment inside it; a payment intent gives only the payment."""
    assert _traced(payload) == trace
    assert _traced(json.dumps(payload)) == trace


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T14:00:00+02:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("1901-01-01T00:00:00", datetime(1901, 1, 1, tzinfo=UTC)),
        ("1900-12-31T00:00:00", None),
        ("1899-12-31T00:00:00", None),
        ("0001-01-01T00:00:00", None),
        ("never", None),
        (7, None),
        (None, None),
    ],
)
def test_when_it_came(text: object, received: datetime | None) -> None:
    """Halo's times are UTC unless they name a zone; a date of 1900 or earlier means never."""
    assert read_traced(ROW, {"webhook_received_date": text}, None, None).received == received


def test_a_zone_is_kept() -> None:
    """A time with a zone keeps its zone."""
    raw = {"webhook_received_date": "2026-03-01T14:00:00+02:00"}
    received = read_traced(ROW, raw, None, None).received
    assert received is not None
    assert received.tzinfo == timezone(timedelta(hours=2))


# --- who wrote it ------------------------------------------------------------------------------------------


def _trace(**fields: Any) -> Trace:
    kept = {"is_event": True, "state": PaymentState.SUCCEEDED, "intent_id": "pi_1"}
    return Trace(**{**kept, "has_secret": True, "livemode": None, **fields})


@pytest.mark.parametrize(
    ("trace", "author"),
    [
        (None, Author.BARE),
        (_trace(), Author.WEBHOOK),
        (_trace(intent_id=b"pi_1".decode()), Author.WEBHOOK),
        (_trace(intent_id="pi_0"), Author.OTHER),
        (_trace(intent_id="pi_2"), Author.OTHER),
        (_trace(intent_id=None), Author.OTHER),
        (_trace(state=None), Author.OTHER),
        (_trace(is_event=False), Author.OTHER),
        (_trace(has_secret=False), Author.DOUBTFUL),
        (_trace(has_secret=False, is_event=False, state=None), Author.SYNCD),
    ],
)
def test_authors(trace: Trace | None, author: Author) -> None:
    """An event with its secret is from Halo, an intent without one from syncd; all others are recognised."""
    assert author_of(TracedRow(ROW, trace, None, None, None), sent=False) is author
    # If syncd may have sent something, the row's status may come from syncd.
    assert author_of(TracedRow(ROW, trace, None, None, None), sent=True) is Author.SYNCD


@pytest.mark.parametrize(
    "row",
    [
        Row(None, "pi_1", 1001, None, 4),
        Row(28, None, 1001, None, 4),
        Row(28, "pi_1", 1001, None, None),
        Row(None, None, None, None, None),
    ],
)
def test_no_payment_of_stripes(row: Row) -> None:
    """A row without an ID, a payment intent or a status has no author, whatever syncd sent."""
    for sent in (False, True):
        for trace in (None, _trace(), _trace(intent_id=None)):
            assert author_of(TracedRow(row, trace, None, None, None), sent=sent) is Author.OTHER


def test_flags_are_named() -> None:
    """`sent` is accepted only as a keyword argument."""
    with pytest.raises(TypeError):
        author_of(TracedRow(ROW, None, None, None, None), True)  # type: ignore[call-arg]


# --- what syncd writes -------------------------------------------------------------------------------------


def test_a_trace_without_secrets() -> None:
    """Secrets and non-finite numbers are removed at any depth; everything else is kept, in ASCII."""
    raw = {
        "client_secret": "x",
        "a": [{"client_secret": "x", "b": 1.5}, float("inf"), float("nan")],
        "url": "https://pay/pi_1_secret_abc/x",
        "z_after": "é",
        "n": None,
        "yes": True,
    }
    assert trace_of(raw) == (
        '{"a":[{"b":1.5},null,null],"url":"https://pay/pi_1[removed]/x","z_after":"\\u00e9",'
        '"n":null,"yes":true}'
    )


def test_how_much_is_left() -> None:
    """The limits of a trace are 64,000 characters and 40 levels."""
    assert (TRACE_CHARACTERS_MAX, TRACE_DEPTH_MAX) == (64_000, 40)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"k": inner}])
def test_how_deep_a_trace_goes(wrap: Any) -> None:
    """A trace keeps 40 levels below the first; deeper objects and lists are removed, plain values stay."""
    deepest: Any = {"at": "the bottom"}
    for _ in range(39):
        deepest = wrap(deepest)
    assert json.loads(trace_of({"top": deepest})) == {"top": deepest}
    cut: Any = None
    for _ in range(40):
        cut = wrap(cut)
    assert json.loads(trace_of({"top": wrap(deepest)})) == {"top": cut}
    flat: Any = "a word"
    for _ in range(40):
        flat = wrap(flat)
    assert json.loads(trace_of({"top": flat})) == {"top": flat}


def test_how_long_a_trace_is() -> None:
    """A trace of 64,000 characters is kept whole; a longer one is reduced to its shortened head fields."""
    head = {"id": "evt_1", "type": "t" * 501, "created": 7, "livemode": False, "api_version": None}
    empty = len(json.dumps({**head, "more": ""}, separators=(",", ":")))
    whole = {**head, "more": "x" * (64_000 - empty)}
    assert json.loads(trace_of(whole)) == whole
    short = {**head, "type": "t" * 500}
    longer = {**head, "more": "x" * (64_001 - empty)}
    assert json.loads(trace_of(longer)) == short
    inner = {"object": {"id": "pi_1", "amount": [1], "description": "d"}, "other": 1}
    assert json.loads(trace_of({**longer, "data": inner})) == {
        **short,
        "data": {"object": {"id": "pi_1", "amount": "[1]"}},
    }
    for odd in (None, [inner], "object", {"object": ["pi_1"]}, {}):
        assert json.loads(trace_of({**longer, "data": odd})) == short
