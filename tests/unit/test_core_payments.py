"""Pure functions of payments: which observation of a payment counts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.money import Money
from syncd.core.payments import (
    EVENT_TYPES,
    STATUSES_WITHOUT_STATE,
    Observation,
    Payment,
    PaymentState,
    settle,
    state_of_event,
    state_of_intent,
)

S = PaymentState
states = st.sampled_from(PaymentState)


@st.composite
def words(draw: st.DrawFn) -> Observation:
    """Observations of one payment, close enough in time to contradict each other."""
    read = draw(st.booleans())
    return Observation(
        intent_id="pi_1",
        state=draw(st.one_of(st.none(), states) if read else states),
        at=draw(st.integers(0, 6)),
        read=read,
        amount=draw(st.sampled_from([None, 100, 200])),
        amount_received=draw(st.sampled_from([None, 0, 100])),
        currency=draw(st.sampled_from([None, "usd"])),
        event_id=None if read else draw(st.sampled_from(["evt_a", "evt_b", "evt_c"])),
    )


def settled(seen: list[Observation]) -> Payment:
    payment = None
    for word in seen:
        payment = settle(payment, word)
    assert payment is not None
    return payment


@given(st.lists(words(), min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_order_does_not_matter(seen: list[Observation], chance: random.Random) -> None:
    """settle() gives the same result for every order of the same observations."""
    shuffled = seen[:]
    chance.shuffle(shuffled)
    assert settled(seen) == settled(shuffled)


@given(st.lists(words(), min_size=1, max_size=7))
def test_repetition_does_not_matter(seen: list[Observation]) -> None:
    """Repeated observations change nothing."""
    assert settled(seen) == settled(seen + seen)


@given(st.lists(words(), min_size=1, max_size=7))
def test_a_final_word_is_never_lost(seen: list[Observation]) -> None:
    """Once a final state was observed, the current state is final."""
    assert settled(seen).current.final == any(word.final for word in seen)


@given(st.lists(words(), min_size=1, max_size=7))
def test_among_what_is_not_final_the_newest_word_wins(seen: list[Observation]) -> None:
    """Without a final state, the newest observation with a state counts."""
    payment = settled(seen)
    said = [word.at for word in seen if word.state is not None]
    if said and not any(word.final for word in seen):
        assert payment.current.at == max(said)


@given(st.lists(words(), min_size=1, max_size=7))
def test_a_reading_ends_every_doubt(seen: list[Observation]) -> None:
    """After a newer read of the intent, no other read is needed: the intent counts or contradicts."""
    payment = settled(seen)
    for state in PaymentState:
        reading = Observation(
            "pi_1", state, 7, read=True, amount=1, amount_received=1, currency="usd"
        )
        after = settle(payment, reading)
        assert not after.needs_reading
        assert after.current.state is state or after.contradicted


def word(state: PaymentState | None, at: int, *, read: bool = False) -> Observation:
    return Observation("pi_1", state, at, read, amount=1, amount_received=1, currency="usd")


@pytest.mark.parametrize(
    ("seen", "state", "needs_reading", "contradicted"),
    [
        ([word(S.PROCESSING, 1), word(S.SUCCEEDED, 2)], S.SUCCEEDED, False, False),
        ([word(S.SUCCEEDED, 2), word(S.PROCESSING, 1)], S.SUCCEEDED, False, False),
        ([word(S.PROCESSING, 1), word(S.PAYMENT_FAILED, 1)], None, True, False),
        ([word(S.SUCCEEDED, 1), word(S.PROCESSING, 2)], S.SUCCEEDED, True, False),
        ([word(S.SUCCEEDED, 1), word(S.PROCESSING, 1)], S.SUCCEEDED, True, False),
        ([word(S.SUCCEEDED, 1), word(S.CANCELED, 2)], None, True, False),
        ([word(S.SUCCEEDED, 1), word(S.PROCESSING, 2, read=True)], S.SUCCEEDED, False, True),
        ([word(S.SUCCEEDED, 1), word(None, 2, read=True)], S.SUCCEEDED, False, True),
        ([word(S.SUCCEEDED, 2), word(S.PROCESSING, 1, read=True)], S.SUCCEEDED, False, False),
        ([word(S.SUCCEEDED, 1, read=True), word(S.CANCELED, 2, read=True)], S.CANCELED, False, True),
        ([word(S.PROCESSING, 1), word(None, 2, read=True)], S.PROCESSING, False, False),
        ([word(None, 2, read=True)], None, False, False),
        (
            [word(S.PROCESSING, 1), word(S.PAYMENT_FAILED, 1), word(S.PAYMENT_FAILED, 1, read=True)],
            S.PAYMENT_FAILED, False, False,
        ),
        (
            [word(S.PROCESSING, 1), word(S.PAYMENT_FAILED, 1), word(None, 1, read=True)],
            None, False, True,
        ),
    ],
)  # fmt: skip
def test_settle(
    seen: list[Observation], state: PaymentState | None, needs_reading: bool, contradicted: bool
) -> None:
    """Newest observation, final state, needed read and contradiction, each in its smallest case."""
    payment = settled(seen)
    assert (payment.needs_reading, payment.contradicted) == (needs_reading, contradicted)
    if state is not None:
        assert payment.current.state is state


def test_an_event_without_money_is_checked() -> None:
    """If an event's amount is unreadable, the intent must be read once, whatever amount the intent shows."""
    event = Observation("pi_1", S.SUCCEEDED, 5, read=False, amount=1, currency="usd")
    assert settle(None, event).needs_reading
    read = Observation("pi_1", S.SUCCEEDED, 5, read=True)
    assert not settle(settle(None, event), read).needs_reading


def test_event_types() -> None:
    """Each of the five event types gives its state; any other type gives none."""
    assert [state_of_event(kind) for kind in EVENT_TYPES] == list(PaymentState)
    assert state_of_event("payment_intent.created") is None
    assert state_of_event("charge.refunded") is None


@pytest.mark.parametrize(
    ("status", "has_error", "state"),
    [
        ("succeeded", False, S.SUCCEEDED),
        ("processing", False, S.PROCESSING),
        ("canceled", True, S.CANCELED),
        ("requires_action", False, S.REQUIRES_ACTION),
        ("requires_payment_method", True, S.PAYMENT_FAILED),
        ("requires_payment_method", False, None),
        ("requires_confirmation", True, None),
        ("requires_capture", False, None),
        ("invented_tomorrow", False, None),
    ],
)
def test_statuses(status: str, has_error: bool, state: PaymentState | None) -> None:
    """Each status maps to its state as Stripe documents; an unknown status maps to none."""
    assert state_of_intent(status, has_error=has_error) is state
    assert (status in STATUSES_WITHOUT_STATE) == status.startswith(("requires_p", "requires_c"))


def test_final_states() -> None:
    """Only succeeded and canceled are final."""
    assert [state for state in PaymentState if state.final] == [S.SUCCEEDED, S.CANCELED]
    assert not word(None, 1).final


def test_money_of_an_observation() -> None:
    """An unreadable amount is None, never zero."""
    assert word(S.SUCCEEDED, 1).received == Money(1, "usd")
    assert word(S.SUCCEEDED, 1).due == Money(1, "usd")
    bare = Observation("pi_1", S.SUCCEEDED, 1, read=True)
    assert (bare.received, bare.due, bare.complete) == (None, None, False)


@given(st.permutations(range(3)))
def test_came_back(order: list[int]) -> None:
    """A payment that failed, required an action and failed again came back, in any order of the events."""

    def word(state: PaymentState, at: int) -> Observation:
        return Observation("pi_1", state, at, read=False, event_id=f"evt_{at}")

    first = word(S.PAYMENT_FAILED, 100)
    before = settled([first])
    later = [
        word(S.REQUIRES_ACTION, 110),
        word(S.PAYMENT_FAILED, 120),
        first,
    ]
    payment = before
    for number in order:
        payment = settle(payment, later[number])
    assert payment.came_back(before, 105.0)
    assert not payment.came_back(payment, 105.0)
    assert not settle(before, word(S.PAYMENT_FAILED, 120)).came_back(before, 105.0)
    assert not settle(before, word(S.REQUIRES_ACTION, 90)).came_back(before, 105.0)
