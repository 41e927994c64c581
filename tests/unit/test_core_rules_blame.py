"""Whether a failed request is the payment's fault or the side's, judged by later requests."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import BadAnswer, LinkFailure, ServerError, Side, Unreachable
from syncd.core.payments import Observation, PaymentState, settle
from syncd.core.records import Condition, DuePayment
from syncd.core.rules.blame import (
    BLAMED_MAX,
    FEW_BESIDE_WRITES,
    FORGOTTEN_AFTER_SECONDS,
    IN_A_ROW_MAX,
    LISTED_AFTER_SECONDS,
    READS_IN_A_ROW_MAX,
    ReadFailures,
    RequestFailure,
    RequestFailures,
    failing_since,
)

NOW = 1_000_000.0
READ = ServerError(Side.HALO, "Halo answered 500")
WRITE = ServerError(Side.HALO, "Halo answered 500", maybe_applied=True)
UNSENT = Unreachable(Side.HALO, "Halo can't be reached")
SLOW = Unreachable(Side.HALO, "Halo can't be reached", late=True)
STRIPE = BadAnswer(Side.STRIPE, "Stripe answered HTML")
SAID = Observation("pi_1", PaymentState.SUCCEEDED, 7, read=False)
WORK = DuePayment(settle(None, SAID), Condition.DUE, None, NOW, 0, 0, None, None, had_rows=False)

steps = st.sampled_from([READ, SLOW, UNSENT, WRITE, STRIPE, "has_read", "has_written"])


def _of(*found: LinkFailure) -> RequestFailures:
    failures = RequestFailures()
    for error in found:
        failures.add(WORK, error)
    return failures


def test_how_much_is_borne() -> None:
    """The limits of failures before a payment goes on the attention list have these exact values."""
    assert (BLAMED_MAX, IN_A_ROW_MAX, FEW_BESIDE_WRITES, READS_IN_A_ROW_MAX) == (2, 3, 6, 6)
    assert (LISTED_AFTER_SECONDS, FORGOTTEN_AFTER_SECONDS) == (15 * 60, 60 * 60)


@pytest.mark.parametrize("value", [RequestFailure(WORK, WRITE), RequestFailures()])
def test_troubles_hold_nothing_else(value: object) -> None:
    """A misspelt field raises an error instead of creating a new field."""
    with pytest.raises(AttributeError):
        value.wrotte = True  # type: ignore[attr-defined]


@given(st.lists(steps, max_size=8))
def test_blame(taken: list[LinkFailure | str]) -> None:
    """A failed request is blamed on its payment only if a request of the same kind works afterwards."""
    failures = RequestFailures()
    for step in taken:
        if isinstance(step, str):
            getattr(failures, step)()
        else:
            failures.add(WORK, step)
    want = [
        step
        for at, step in enumerate(taken)
        if (step in (READ, SLOW) and "has_read" in taken[at:])
        or (step is WRITE and "has_written" in taken[at:])
    ]
    blamed = [failure.error for failure in failures.blamed()]
    assert blamed == want
    left = [step for step in taken if not isinstance(step, str)]
    for error in blamed:
        left.remove(error)
    assert sorted(map(id, left)) == sorted(id(failure.error) for failure in failures.found)
    assert (failures.read, failures.wrote) == ("has_read" in taken, "has_written" in taken)
    assert failures.blamed() == []


@pytest.mark.parametrize(
    ("found", "raised"),
    [([], None), ([STRIPE], STRIPE), ([READ, WRITE], READ), ([STRIPE, WRITE, READ], WRITE)],
)
def test_which_failure_is_raised(found: list[LinkFailure], raised: LinkFailure | None) -> None:
    """The first failure of Halo is raised before one of Stripe; without a failure nothing is raised."""
    failures = _of(*found)
    if raised is None:
        failures.raise_found()
        return
    with pytest.raises(type(raised)) as failed:
        failures.raise_found()
    assert failed.value is raised


def test_another_push() -> None:
    """clear() removes all failures and successes, so that the next push starts without any."""
    failures = _of(READ, WRITE)
    failures.has_read()
    failures.has_written()
    failures.clear()
    assert failures == RequestFailures([], read=False, wrote=False)


def test_in_a_row() -> None:
    """add() reports the third failure of one kind in a row; a success in between resets the count."""
    failures = RequestFailures()
    for _ in range(2):
        told = [failures.add(WORK, WRITE) for _ in range(IN_A_ROW_MAX + 1)]
        assert told == [False] * (IN_A_ROW_MAX - 1) + [True, True]
        assert not failures.add(WORK, STRIPE)
        assert failures.add(WORK, READ) is False
        failures.has_read()
        failures.has_written()
    assert not any(_of(STRIPE, STRIPE, STRIPE).add(WORK, STRIPE) for _ in range(2))


def test_in_a_row_of_one_kind() -> None:
    """Failed reads do not count as failed writes, and failed writes do not count as failed reads."""
    for one, other in ((READ, WRITE), (WRITE, READ)):
        assert _of(one, one).add(WORK, other) is False
        assert _of(one, one, other).add(WORK, one) is True


def test_a_connection_that_was_not_made_blames_no_payment() -> None:
    """If Halo could not be reached, the payment is not at fault, whatever works afterwards."""
    failures = _of(UNSENT, SLOW)
    failures.has_read()
    failures.has_written()
    assert [failure.error for failure in failures.blamed()] == [SLOW]
    with pytest.raises(Unreachable):
        failures.raise_found()


@pytest.mark.parametrize(
    ("found", "unclear"),
    [
        ([READ], True),
        ([SLOW], True),
        ([UNSENT], False),
        ([WRITE], False),
        ([STRIPE], False),
        ([], False),
    ],
)
def test_unclear_reads(found: list[LinkFailure], unclear: bool) -> None:
    """A failed read leaves open whether Halo answers, until another read works."""
    failures = _of(*found)
    assert failures.unclear_reads() is unclear
    failures.has_read()
    assert not failures.unclear_reads()


@pytest.mark.parametrize(
    ("found", "failing", "waited", "listed"),
    [
        ([WRITE], 1, LISTED_AFTER_SECONDS, 1),
        ([WRITE, STRIPE, READ], 1, LISTED_AFTER_SECONDS, 1),
        ([WRITE], 1, LISTED_AFTER_SECONDS + 1, 1),
        ([WRITE], 1, LISTED_AFTER_SECONDS - 1, 0),
        ([WRITE], IN_A_ROW_MAX - 1, LISTED_AFTER_SECONDS, 1),
        ([WRITE], IN_A_ROW_MAX, LISTED_AFTER_SECONDS, 0),
        ([WRITE], IN_A_ROW_MAX + 1, LISTED_AFTER_SECONDS, 0),
        ([READ], 1, LISTED_AFTER_SECONDS, 0),
        ([STRIPE], 1, LISTED_AFTER_SECONDS, 0),
    ],
)
def test_to_list(found: list[LinkFailure], failing: int, waited: float, listed: int) -> None:
    """A few payments whose writes fail for 15 minutes go on the attention list; many are the side's fault."""
    since = {f"pi_{number + 1}": NOW for number in range(failing)}
    assert _of(*found).to_list(since, NOW + waited) == listed * [RequestFailure(WORK, WRITE)]


def test_how_long_is_a_difference() -> None:
    """The time since the first failure counts, whenever that was."""
    failures = _of(WRITE)
    assert failures.to_list({"pi_1": 500.0}, 1_400.0) == [RequestFailure(WORK, WRITE)]
    assert failures.to_list({"pi_1": 500.0}, 1_399.0) == []


@pytest.mark.parametrize("side", Side)
def test_reading_and_writing(side: Side) -> None:
    """Only a request to Halo is a read or a write."""
    for written in (False, True):
        failure = RequestFailure(WORK, BadAnswer(side, "odd", maybe_applied=written))
        halos = side is Side.HALO
        assert (failure.reading, failure.writing) == (halos and not written, halos and written)


def test_to_list_beside_writes() -> None:
    """While other writes to Halo work, up to five failing payments are listed; six count as an outage."""
    for failing in range(1, FEW_BESIDE_WRITES + 1):
        since = {f"pi_{number + 1}": NOW for number in range(failing)}
        failures = RequestFailures(wrote=True)
        failures.add(WORK, WRITE)
        listed = failures.to_list(since, NOW + LISTED_AFTER_SECONDS)
        assert listed == ([] if failing == FEW_BESIDE_WRITES else [RequestFailure(WORK, WRITE)])


def test_failing_since() -> None:
    """A payment keeps the start time of its failures until an hour passes without a failure."""
    other = replace(WORK, payment=settle(None, replace(SAID, intent_id="pi_2")))
    mine, its = RequestFailure(WORK, WRITE), RequestFailure(other, WRITE)
    since = failing_since({}, [mine], NOW)
    assert since == {"pi_1": (NOW, NOW)}
    later = NOW + FORGOTTEN_AFTER_SECONDS
    since = failing_since(since, [its], later)
    assert since == {"pi_1": (NOW, NOW), "pi_2": (later, later)}
    assert failing_since(since, [mine], later)["pi_1"] == (NOW, later)
    assert failing_since({"pi_1": (NOW, later)}, [mine], later + 1)["pi_1"] == (NOW, later + 1)
    assert failing_since(since, [mine], later + 1)["pi_1"] == (later + 1, later + 1)
    assert failing_since(since, [mine], NOW - 5)["pi_1"] == (NOW - 5, NOW - 5)


@pytest.mark.parametrize(
    ("ago", "kept"),
    [(0, True), (0.5, True), (FORGOTTEN_AFTER_SECONDS, True), (3_600.5, False), (-0.5, False)],
)
def test_a_trouble_that_is_over(ago: float, *, kept: bool) -> None:
    """A failure is kept for an hour after it was last seen; a failure in the future is dropped."""
    before = {"pi_9": (NOW - 7_200, NOW - ago)}
    assert failing_since(before, [], NOW) == (before if kept else {})
    assert failing_since({"pi_9": (50.0, 100.0)}, [], 4_000.0) == {}


def test_single_reads_that_fail() -> None:
    """Failed items are at fault once another request works; after three in a row, add() asks for one."""
    failures = ReadFailures[int]()
    assert [failures.add(number, READ) for number in (1, 2)] == [False, False]
    assert failures.has_read() == [(1, READ), (2, READ)]
    assert [failures.add(number, READ) for number in (3, 4, 5)] == [False, False, True]
    assert failures.other_worked() == [(3, READ), (4, READ), (5, READ)]
    assert (failures.unclear, failures.in_a_row) == ([], 3)


def test_single_reads_that_all_fail() -> None:
    """Six failures in a row are the side's fault, even if another request works."""
    failures = ReadFailures[int]()
    for number in range(READS_IN_A_ROW_MAX - 1):
        if failures.add(number, READ):
            failures.other_worked()
    with pytest.raises(ServerError):
        failures.add(9, READ)


@given(st.lists(st.booleans(), max_size=40))
def test_each_failed_read_is_judged_once(works: list[bool]) -> None:
    """Each failed item is at fault exactly once, or its fault stays unclear."""
    failures, at_fault = ReadFailures[int](), list[int]()
    failed = []
    for number, one in enumerate(works):
        if one:
            at_fault += [item for item, _ in failures.has_read()]
            continue
        failed.append(number)
        try:
            if failures.add(number, READ):
                at_fault += [item for item, _ in failures.other_worked()]
        except ServerError:
            break
    assert at_fault + [item for item, _ in failures.unclear] == failed
