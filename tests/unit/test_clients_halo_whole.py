"""A row of Halo before and after a write: which changes are differences and which are only notation."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.clients.halo.parse import read_row
from syncd.clients.halo.whole import REQUIRED, columns_of, compare, is_stored, refilled
from syncd.core.rows import WholeRow
from syncd.core.rules.proof import FieldChange, UpdateMode, code_of, next_mode

ROW: dict[str, Any] = {
    "id": 28, "invoice_id": 1001, "date": "2026-11-01T09:00:00Z", "amount": Decimal("10.99"),
    "method": 12, "status": 1, "type": 0, "module_id": 231, "intent_id": "pi_1",
    "intent_date": "2026-11-01T09:00:00.123", "intent_response": None, "webhook_payload": None,
    "webhook_received_date": "1900-01-01T00:00:00", "thirdpartyid": "", "client_id": 7,
    "client_name": "A customer", "reference": "R-1",
}  # fmt: skip
SENT = {
    "id": 28,
    "status": 3,
    "webhook_payload": '{"id": "evt_1"}',
    "webhook_received_date": "2026-11-01T09:05:00Z",
}


def whole(**changed: Any) -> WholeRow:
    fields = {key: value for key, value in {**ROW, **changed}.items() if value is not ...}
    return WholeRow(read_row(fields), fields)


def after(**changed: Any) -> WholeRow:
    return whole(**{**SENT, **changed})


def test_whose_row_it_is() -> None:
    """A row read alone belongs to the payment only if it still shows the payment's ID."""
    assert whole().is_of("pi_1")
    assert not whole(intent_id=None).is_of("pi_1")
    assert WholeRow(whole().row, {}, alone=False).is_of("pi_2")


def test_a_write_that_merges_is_right() -> None:
    """A write is right if the sent fields were stored and nothing else changed."""
    found = compare(whole(), after(), SENT)
    assert (found.not_stored, found.changed, found.trace_stored) == ((), (), True)
    assert found.is_right
    assert str(found) == "stored as sent, nothing else changed"


@pytest.mark.parametrize(
    "changed",
    [
        {"date": "2026-11-01T09:00:00"}, {"date": "2026-11-01T09:00:00.000"},
        {"date": "2026-11-01T10:00:00+01:00"}, {"amount": 10.99}, {"amount": Decimal("10.990")},
        {"amount": "10.99"}, {"method": Decimal("12.0")}, {"intent_response": ""},
        {"intent_response": ...}, {"thirdpartyid": None}, {"type": ...}, {"_warning": "x"},
        {"last_synced": "2026-11-01T09:05:00"}, {"new_field": 5},
    ],
    ids=str,
)  # fmt: skip
def test_notation_is_no_difference(changed: dict[str, Any]) -> None:
    """Another notation of the same value (zone, milliseconds, zeros, empty or absent) is no difference."""
    assert compare(
        whole(last_synced="2026-10-01T00:00:00"),
        after(**{"last_synced": "2026-10-01T00:00:00", **changed}),
        SENT,
    ).is_right


@pytest.mark.parametrize(
    ("changed", "change"),
    [
        ({"amount": 0}, FieldChange("amount", "10.99", "0")),
        ({"amount": None}, FieldChange("amount", "10.99", None)),
        ({"intent_id": None}, FieldChange("intent_id", "pi_1", None)),
        ({"intent_id": ...}, FieldChange("intent_id", "pi_1", None)),
        ({"invoice_id": 0}, FieldChange("invoice_id", "1001", "0")),
        ({"method": 0}, FieldChange("method", "12", "0")),
        ({"client_id": 8}, FieldChange("client_id", "7", "8")),
        ({"client_name": "B"}, FieldChange("client_name", "A customer", "B")),
        ({"reference": ""}, FieldChange("reference", "R-1", None)),
        (
            {"date": "2026-11-02T09:00:00Z"},
            FieldChange("date", "2026-11-01T09:00:00Z", "2026-11-02T09:00:00Z"),
        ),
        ({"date": "1900-01-01T00:00:00"}, FieldChange("date", "2026-11-01T09:00:00Z", None)),
    ],
    ids=str,
)
def test_side_effects(changed: dict[str, Any], change: FieldChange) -> None:
    """A field that had a value and now has another one, or none, is a side effect."""
    found = compare(whole(), after(**changed), SENT)
    assert found.changed == (change,)
    assert found.not_stored == ()
    assert code_of(found) == "writes_have_side_effects"
    assert next_mode(found, UpdateMode.CHANGES) is UpdateMode.EVERYTHING


def test_a_status_that_is_not_stored() -> None:
    """If the row read after the write has the old status, the status was not stored."""
    found = compare(whole(), after(status=1), SENT)
    assert found.not_stored == (FieldChange("status", "3", "1"),)
    assert code_of(found) == "writes_not_stored"
    assert next_mode(found, UpdateMode.CHANGES) is UpdateMode.REQUIRED
    assert next_mode(found, UpdateMode.REQUIRED) is None


def test_a_status_as_text() -> None:
    """A status that Halo stores as text equals the same number."""
    assert compare(whole(), after(status="3"), SENT).is_right


def test_a_trace_that_is_not_stored() -> None:
    """A missing trace alone is not a failed write, but it is recorded."""
    found = compare(whole(), after(webhook_payload=None), SENT)
    assert found.is_right
    assert not found.trace_stored


def test_a_trace_in_another_notation() -> None:
    """Halo may reformat the trace's JSON and show its date in another zone."""
    found = compare(
        whole(),
        after(webhook_payload='{ "id":"evt_1" }', webhook_received_date="2026-11-01T14:35:00"),
        SENT,
    )
    assert found.trace_stored


def test_what_a_whole_update_carries() -> None:
    """An update carries the required columns and the intent's; on demand all own columns with a value."""
    some = columns_of(whole(), everything=False)
    assert set(some) == {*REQUIRED, "intent_id", "intent_date"}
    assert some["amount"] == 10.99
    every = columns_of(whole(), everything=True)
    assert set(every) == {*some, "client_id", "reference", "type"}
    json.dumps(every)


@pytest.mark.parametrize(
    ("now", "status", "amount"),
    [
        ({"status": 0, "amount": 0}, 0, Decimal("10.99")),  # 0 is a status, and no amount
        ({"status": None, "amount": None}, 1, Decimal("10.99")),
        ({"status": 5, "amount": Decimal("3.00")}, 5, Decimal("3.00")),
        ({"status": ..., "amount": ...}, 1, Decimal("10.99")),
    ],
)
def test_what_an_emptied_row_gets_back(now: dict[str, Any], status: int, amount: Decimal) -> None:
    """Emptied fields get their former values; what a person or a webhook has set since stays."""
    found = refilled(whole(), whole(**now))
    assert (found.row.status, found.row.amount) == (status, amount)


def test_a_required_column_of_zero_is_carried() -> None:
    """A required column with the value 0 is sent as 0."""
    assert columns_of(whole(amount=0), everything=False)["amount"] == 0


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.text(max_size=20),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9
    ),
    st.datetimes().map(lambda at: at.isoformat()),
)


@given(st.dictionaries(st.sampled_from([*ROW, "x", "y"]), VALUES))
def test_a_row_is_like_itself(fields: dict[str, Any]) -> None:
    """An unchanged row never shows a difference, whatever its fields are."""
    row = WholeRow(read_row(fields), fields)
    assert compare(row, row, {}).is_right
    for value in fields.values():
        assert is_stored(value, value)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_numbers_differ_where_they_differ(one: int, other: int) -> None:
    """Two numbers are the same stored value only if they are equal, also as text."""
    assert is_stored(one, other) == (one == other)
    assert is_stored(one, str(other)) == (one == other)
