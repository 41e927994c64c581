"""The life of a payment: the database does what the table of transitions says, and nothing else."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from docs.transitions import MARKS, block
from syncd.core.payments import Observation, PaymentState, settle
from syncd.core.records import Condition, Outcome
from syncd.core.rows import Row
from syncd.core.rules.transitions import (
    DECIDE_AGAIN,
    FORGET_ROWS,
    MAKE_DUE,
    PUSH_CAUSES,
    PUSHED,
    START_OVER,
    TRANSITIONS,
    Cause,
    Value,
    diagram,
    transition,
    transitions_by,
)
from syncd.store.db import schema
from syncd.store.db.connection import writing
from syncd.store.payments import fields_of
from syncd.store.store import Store

NOW = 1_000.0
ID = "pi_1"
GIVEN: dict[str, Any] = {
    "code": "given",
    "reason": "why",
    "next_try": 5_000.0,
    "attempts": 4,
    "looks": 3,
    "doubt_until": 6_000.0,
}
BEFORE: dict[str, Any] = {
    "code": "old", "reason": "before", "dismissed": False, "attempts": 7, "looks": 8,
    "next_try": 77.0, "doubt_until": 2_000.0, "changed_at": 10.0, "acked_state": "processing",
    "acked_at": 9.0, "rows": "28", "seen_rows": '[[28, 1025, "INV-1025"]]',
}  # fmt: skip
CODES: dict[Cause, str] = {
    Cause.READ_FAILED: "stripe_unreadable",
    Cause.READ_POSTPONED: "stripe_unreadable",
    Cause.UNREADABLE: "stripe_unreadable",
    Cause.RETRIED_UNREADABLE: "stripe_unreadable",
    Cause.RETRIED_ROW_DELETED: "row_deleted",
    Cause.ROWS_DIFFER: "row_deleted",
    Cause.CONFIG_CHANGED: "status_not_configured",
}
"""The reason for which a payment must be held, so that a cause applies."""


def _seen(state: PaymentState | None, at: int, *, read: bool = False) -> Observation:
    return Observation(ID, state, at, read=read, amount=5, amount_received=5, currency="usd")


def _push(store: Store, target: Condition) -> None:
    store.record([Outcome(ID, PaymentState.PROCESSING, target, **GIVEN)], NOW)


def _rows_differ(store: Store) -> None:
    store.rows.add([Row(1, ID, 1025, None, 99)])
    store.rows.drifted({PaymentState.PROCESSING: 5}, NOW, whole=True)


RAISE: dict[Cause, Callable[[Store], object]] = {
    Cause.STATE_REPORTED: lambda s: s.take_in([_seen(PaymentState.SUCCEEDED, 50, read=True)], NOW),
    Cause.NOTHING_REPORTED: lambda s: s.take_in([_seen(None, 50, read=True)], NOW),
    Cause.CONTRADICTED: lambda s: s.take_in(
        [_seen(PaymentState.PROCESSING, 20), _seen(PaymentState.REQUIRES_ACTION, 20)], NOW
    ),
    Cause.EVENTS_LOST: lambda s: s.doubts.begin(ID, NOW),
    Cause.READ_FAILED: lambda s: s.doubts.failed(ID),
    Cause.READ_POSTPONED: lambda s: s.doubts.put_off(ID, GIVEN["next_try"]),
    Cause.UNREADABLE: lambda s: s.doubts.hold(
        ID, "stripe_unreadable", GIVEN["reason"], NOW, GIVEN["next_try"]
    ),
    **{cause: lambda s, to=to: _push(s, to) for to, cause in PUSH_CAUSES.items()},  # type: ignore[misc]
    Cause.ROWS_DIFFER: _rows_differ,
    Cause.AUDIT_DIFFERS: lambda s: s.audit.make_due([_seen(PaymentState.PROCESSING, 20)], NOW),
    Cause.CONFIG_CHANGED: lambda s: s.people.release(["status_not_configured"], NOW),
    Cause.RETRIED: lambda s: s.people.retry([ID], NOW),
    Cause.RETRIED_ROW_DELETED: lambda s: s.people.retry([ID], NOW),
    Cause.RETRIED_UNREADABLE: lambda s: s.people.retry([ID], NOW),
    Cause.DISMISSED: lambda s: s.people.dismiss([ID], NOW),
}
"""How to raise each cause, through the store's public methods."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path_factory.mktemp('walk')}/syncd.db")
    yield opened
    opened.close()


def _put(store: Store, condition: Condition | None, cause: Cause) -> dict[str, Any]:
    """Leave one payment in the database, in this condition, with a distinct value in every column."""
    row: dict[str, Any] = {}
    with writing(store._engine) as connection:
        connection.execute(schema.payments.delete())
        connection.execute(schema.halo_rows.delete())
        if condition is not None:
            state = None if cause is Cause.NOTHING_REPORTED else PaymentState.PROCESSING
            code = {"code": CODES[cause]} if cause in CODES else {}
            row = fields_of(settle(None, _seen(state, 20))) | BEFORE | code
            row["condition"] = condition
            connection.execute(schema.payments.insert(), [row])
    return row


def _expected(before: dict[str, Any], source: Condition | None, cause: Cause) -> dict[str, Any]:
    """The columns after a cause, by the table only."""
    change = transition(source, cause)
    if change is None:
        return before
    given = GIVEN | ({"code": "stripe_unreadable"} if cause is Cause.UNREADABLE else {})
    after = before | {"condition": change.target}
    for name, value in change.changes.items():
        after[name] = {
            Value.NULL: None,
            Value.NOW: NOW,
            Value.ZERO: 0,
            Value.TRUE: True,
            Value.FALSE: False,
            Value.PLUS_ONE: before.get(name, 0) + 1 if value is Value.PLUS_ONE else None,
            Value.GIVEN: given.get(name),
            Value.GIVEN_OR_KEPT: given.get(name),
            Value.IF_FUTURE: before.get(name),
        }[value]
    return after


WRITTEN = ("condition", *BEFORE)


@pytest.mark.parametrize("cause", list(Cause), ids=lambda cause: cause.name.lower())
@pytest.mark.parametrize("source", [None, *Condition], ids=lambda source: source or "new")
def test_every_cause_from_every_condition(
    store: Store, source: Condition | None, cause: Cause
) -> None:
    """Each cause, in each condition, changes exactly the columns that the table names."""
    before = _put(store, source, cause)
    if source is None and cause is Cause.READ_FAILED:
        return  # this cause applies only to a payment in the database
    RAISE[cause](store)
    after = store.payment(ID)
    if cause is Cause.AUDIT_DIFFERS and source in (None, Condition.NO_STATE, Condition.IN_DOUBT):
        cause = Cause.STATE_REPORTED  # the audit has read the payment intent
    if source is None and transition(None, cause) is None:
        assert after is None
        return
    assert after is not None
    wanted = _expected(before or NEW, source, cause)
    assert {name: after[name] for name in WRITTEN} == {name: wanted[name] for name in WRITTEN}


NEW: dict[str, Any] = dict.fromkeys(BEFORE) | {"dismissed": False, "attempts": 0, "looks": 0}


def test_every_condition_is_left_and_reached() -> None:
    """Every condition can be reached and left."""
    left = {source for one in TRANSITIONS for source in one.sources if one.target != source}
    assert left >= set(Condition)
    assert {one.target for one in TRANSITIONS} == set(Condition)
    assert {one.cause for one in TRANSITIONS} == set(Cause) == set(RAISE)


def test_no_payment_is_changed_twice_by_one_cause() -> None:
    """Within one cause, the conditions are disjoint, and no target is the source of a later transition."""
    for cause in Cause:
        steps = transitions_by(cause)
        for number, one in enumerate(steps):
            for later in steps[number + 1 :]:
                assert not one.sources & later.sources, cause
                assert one.target not in later.sources, cause


def test_one_way_to_become_due() -> None:
    """Each transition to due sets the same columns; the exceptions are listed here."""
    extra: dict[Cause, Sequence[str]] = {
        Cause.RETRIED: ("doubt_until",),
        Cause.RETRIED_ROW_DELETED: ("doubt_until", *FORGET_ROWS),
    }
    for one in TRANSITIONS:
        if one.target is not Condition.DUE or one.changes is PUSHED:
            continue
        if one.changes is DECIDE_AGAIN:  # keeps the reason of the hold until syncd decides again
            assert dict(one.changes).items() <= dict(MAKE_DUE).items()
            continue
        assert dict(MAKE_DUE).items() <= dict(one.changes).items(), one
        assert set(one.changes) - set(MAKE_DUE) == set(extra.get(one.cause, ())), one
    assert set(START_OVER) == set(MAKE_DUE)


def test_an_expired_uncertainty_is_forgotten_by_a_retry(store: Store) -> None:
    """A retry forgets an insert that can no longer appear in Halo."""
    _put(store, Condition.FAILED, Cause.RETRIED)
    store.people.retry([ID], 2_000.5)
    assert store.payment(ID)["doubt_until"] is None  # type: ignore[index]


def test_an_outcome_without_uncertainty_keeps_the_old_one(store: Store) -> None:
    """An outcome without an insert keeps another process's uncertain insert."""
    _put(store, Condition.DUE, Cause.PUSH_POSTPONED)
    store.record([Outcome(ID, PaymentState.PROCESSING, Condition.DUE)], NOW)
    assert store.payment(ID)["doubt_until"] == 2_000.0  # type: ignore[index]


def test_an_outcome_of_an_earlier_state_changes_no_condition(store: Store) -> None:
    """If Stripe has reported another state meanwhile, an outcome leaves the payment due."""
    before = _put(store, Condition.DUE, Cause.PUSH_DONE)
    acked = Outcome(ID, PaymentState.REQUIRES_ACTION, Condition.IN_STEP, acked=True, rows=(3,))
    store.record([acked], NOW)
    after = store.payment(ID)
    assert after is not None
    assert (after["condition"], after["changed_at"]) == (Condition.DUE, before["changed_at"])
    assert (after["acked_state"], after["rows"]) == ("requires_action", "3")


def test_a_resync_starts_over(store: Store) -> None:
    """A resync replaces everything reported, and forgets a row that was deleted in Halo."""
    before = _put(store, Condition.HELD, Cause.RETRIED_ROW_DELETED)
    store.replace(_seen(PaymentState.SUCCEEDED, 50, read=True), NOW)
    after = store.payment(ID)
    assert after is not None
    wanted = _expected(before, Condition.HELD, Cause.STATE_REPORTED) | dict.fromkeys(FORGET_ROWS)
    assert {name: after[name] for name in WRITTEN} == {name: wanted[name] for name in WRITTEN}
    assert after["heard"] == "intent:succeeded:50"


def test_only_one_module_writes_conditions() -> None:
    """No other module of the program inserts into the payments' table or updates its conditions."""
    folder = Path(__file__).parents[1] / "syncd"
    pattern = re.compile(r"payments\s*\.(update|insert)\(\)")
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if pattern.search(path.read_text()) and "migrations" not in path.parts
    }
    # store/attention.py writes only the columns of what a person has accepted.
    assert found == {"store/transitions.py", "store/attention.py"}


def test_the_diagram_shows_every_transition() -> None:
    """The diagram in docs/works.md is the one that the table generates, and contains each cause."""
    document = (Path(__file__).parents[1] / "docs" / "works.md").read_text()
    assert block() in document
    assert all(str(cause) in diagram() for cause in Cause)
    assert document.count(MARKS[0]) == 1
