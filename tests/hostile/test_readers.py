"""The parsers over thousands of shapes: an unreadable value is reported or None, never guessed."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.clients.halo.parse import error_text, read_acknowledgement, read_row
from syncd.clients.retry import retry_after_seconds, server_time
from syncd.clients.stripe.parse import SeenEvent, Unreadable, read_event, read_intent
from syncd.clients.webhook_payload import TRACE_CHARACTERS_MAX, trace_of
from syncd.core.payments import INTENT_ID, Observation, state_of_event
from syncd.store.store import Store
from syncd.text.sanitize import conceal, plain
from tests.hostile.strategies import (
    HALO_SECRET,
    MARK,
    anything,
    deep,
    events,
    halo_errors,
    header_values,
    hostile,
    intents,
    rows,
    texts,
)
from tests.hostile.wire import NOW, assert_fit_to_be_kept, assert_fit_to_be_shown


def assert_sound(seen: Observation) -> None:
    """Check that the rest of syncd can rely on the observation."""
    assert INTENT_ID.fullmatch(seen.intent_id)
    for number in (seen.amount, seen.amount_received, seen.created):
        assert number is None or (type(number) is int and 0 <= number <= 10**15)
    assert type(seen.at) is int
    assert seen.currency is None or (seen.currency.isascii() and seen.currency.islower())
    assert seen.invoice is None or seen.invoice
    assert_fit_to_be_shown(seen.invoice or "")
    assert_fit_to_be_kept(seen.trace)
    assert seen.trace is None or len(seen.trace) <= TRACE_CHARACTERS_MAX
    if seen.trace is not None:
        json.loads(seen.trace, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@hostile(150)
@given(events)
def test_events(raw: Any) -> None:
    """An event becomes a valid observation with its type's state, or is reported as unreadable."""
    read = read_event(raw, "halo_invoice_id")
    assert read == read_event(raw, "halo_invoice_id")
    assert read.id.isascii()
    assert 0 < len(read.id) <= 255
    if isinstance(read, Unreadable):
        assert_fit_to_be_shown(read.text)
        return
    assert_fit_to_be_shown(read.kind)
    assert type(read.at) is int
    assert (read.observation is None) == (state_of_event(raw["type"]) is None)
    if read.observation is not None:
        assert (read.observation.state, read.observation.at) == (
            state_of_event(raw["type"]),
            read.at,
        )
        assert read.observation.intent_id == raw["data"]["object"]["id"]
        assert_sound(read.observation)


@hostile(150)
@given(intents)
def test_intents(raw: Any) -> None:
    """A payment intent becomes a valid observation, or is reported as unreadable."""
    read = read_intent(raw, "halo_invoice_id", int(NOW))
    if isinstance(read, Unreadable):
        assert_fit_to_be_shown(read.id)
        assert_fit_to_be_shown(read.text)
        return
    assert (read.read, read.at) == (True, int(NOW))
    assert_sound(read)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("store")
    store = Store.open(f"sqlite:///{folder}/syncd.db")
    yield store
    store.close()


@hostile(60)
@given(page=st.lists(events, min_size=1, max_size=5))
def test_nothing_of_a_page_is_lost(store: Store, page: list[Any]) -> None:
    """Every event of a page is stored or goes on the attention list."""
    read = [read_event(raw, "halo_invoice_id") for raw in page]
    seen = [event for event in read if isinstance(event, SeenEvent)]
    odd = [event for event in read if isinstance(event, Unreadable)]
    words = [event.observation for event in seen if event.observation is not None]
    store.take_in(
        words,
        NOW,
        events={event.id: event.at for event in seen},
        unreadable=[(event.id, event.text, event.at) for event in odd],
    )
    assert all(store.payment(word.intent_id) is not None for word in words)
    listed = {entry.id for entry in store.people.attention(100_000)}
    assert {event.id for event in odd} <= listed
    again = store.take_in(words, NOW, events={event.id: event.at for event in seen})
    assert again.new_events == frozenset()


@hostile(150)
@given(rows)
def test_rows(raw: Any) -> None:
    """A row's fields are valid or None; ID, invoice and status never differ from the sent numbers."""
    row = read_row(raw)
    for number in (row.id, row.invoice_id, row.status):
        assert number is None or (type(number) is int and abs(number) < 10**15)
    assert row.intent_id is None or INTENT_ID.fullmatch(row.intent_id)
    if row.amount is not None:
        assert row.amount.is_finite()
        assert len(f"{row.amount:f}") < 60
    for name in ("id", "invoice_id", "status"):
        if getattr(row, name) is not None:
            assert getattr(row, name) == raw[name]
            assert not isinstance(raw[name], bool)


@pytest.mark.parametrize(
    "text", ["1e9999999", "-1e9999999", "1e-9999999", "0e9999999", "0e-9999999"]
)
def test_numbers_that_no_double_holds(text: str) -> None:
    """A number with an absurd exponent is read as None, without an error or a memory problem."""
    row = read_row({"id": Decimal(text), "amount": Decimal(text), "status": Decimal(text)})
    assert (row.id, row.amount, row.status) == (None, None, None)


def test_numbers_that_are_some() -> None:
    """Numbers as doubles write them keep their value; booleans are not numbers."""
    row = read_row({"id": Decimal("3.0"), "amount": Decimal("0.30000000000000004"), "status": 3.5})
    assert (row.id, row.amount, row.status) == (3, Decimal("0.30000000000000004"), None)
    assert read_row({"amount": Decimal("0.00")}).amount == 0
    assert read_row({"amount": -5}).amount == -5
    assert read_row({"id": True, "amount": False}) == read_row({})


@hostile(150)
@given(halo_errors | anything())
def test_words_of_halo(body: Any) -> None:
    """Halo's error message, in whatever shape, becomes one plain sentence without secrets."""
    said = error_text(body)
    assert_fit_to_be_shown(said)
    assert not said or said[-1] in ".!?"
    for row in read_acknowledgement(body).rows:
        assert row.id is not None


@hostile(150)
@given(texts, st.integers(1, 600))
def test_plain_words(text: str, characters: int) -> None:
    """Sanitized text has printable characters, a limited length and no secret; sanitizing is idempotent."""
    said = plain(text, characters)
    assert_fit_to_be_shown(said)
    assert len(said) <= characters
    assert plain(said, characters) == said


@hostile(150)
@given(header_values, st.sampled_from([0.0, NOW, 4e9]))
def test_headers(value: str, now: float) -> None:
    """`Retry-After` is read as a wait of at most a day, `Date` as a time; otherwise both are None."""
    wait = retry_after_seconds(value, now)
    assert wait is None or 0 <= wait <= 86_400
    assert server_time(value) is None or isinstance(server_time(value), int)


def test_traces_of_a_bottomless_event() -> None:
    """Nesting beyond the depth limit is removed; the rest of the trace stays."""
    raw = {"id": "evt_1", "metadata": deep(900), "n": float("inf"), "half": "\ud800"}
    trace = json.loads(trace_of(raw))
    assert (trace["id"], trace["n"], trace["half"]) == ("evt_1", None, "\ud800")


def test_traces_of_a_huge_event() -> None:
    """An event that is too long keeps only its head fields, each with a limited length."""
    inner = {"id": "pi_1", "description": "x" * 100_000, "status": "y" * 100_000}
    trace = trace_of({"id": "evt_1", "data": {"object": inner}})
    assert json.loads(trace) == {
        "id": "evt_1",
        "data": {"object": {"id": "pi_1", "status": "y" * 500}},
    }


def test_what_looks_like_a_secret_and_is_none() -> None:
    """Ordinary words that resemble secrets stay unchanged."""
    said = "risk_level of task_id: a basic token; the secret santa, key 12, password needed"
    assert plain(said) == said


def test_known_secrets_in_every_dress() -> None:
    """A configured secret is removed from plain and form-encoded text, if it is long enough."""
    for form in (HALO_SECRET, quote_plus(HALO_SECRET)):
        assert MARK not in plain(f"you sent {form}.")
    conceal("another", "short")
    assert plain("a short story") == "a short story"
    conceal("another", "long enough")
    assert plain("a secret long enough") == "a secret [removed]"
    conceal("another", None)
    assert plain("long enough") == "long enough"
