"""Whose fault it is, by what else worked."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.failures import BadAnswer, LinkFailure, ServerTrouble, Side
from syncd.payments import Observation, PaymentState, settle
from syncd.records import Condition, Work
from syncd.troubles import COUNTED_APART_SECONDS, WRITES_MAX, Troubles

NOW = 1_000_000.0
READ = ServerTrouble(Side.HALO, "Halo answered 500")
WRITE = ServerTrouble(Side.HALO, "Halo answered 500", maybe_applied=True)
STRIPE = BadAnswer(Side.STRIPE, "Stripe answered HTML")
SAID = Observation("pi_1", PaymentState.SUCCEEDED, 7, read=False)
WORK = Work(settle(None, SAID), Condition.DUE, NOW, 0, 0, None, None, had_rows=False)

failures = st.sampled_from([READ, WRITE, STRIPE])


@given(st.lists(failures, max_size=5), st.booleans(), st.booleans())
def test_nobody_is_forgotten(found: list[LinkFailure], read: bool, wrote: bool) -> None:
    """Each payment is either blamed or left; blamed only where the same kind of request worked."""
    troubles = Troubles(read=read, wrote=wrote)
    for error in found:
        troubles.add(WORK, error)
    blamed = [error for _, error in troubles.blamed()]
    assert sorted(map(id, blamed + [error for _, error in troubles.found])) == sorted(
        map(id, found)
    )
    assert set(map(id, blamed)) == {
        id(error) for error in found if (error is READ and read) or (error is WRITE and wrote)
    }


def test_blamed_before() -> None:
    """A payment that stands on the list already stays there, whatever else works."""
    troubles = Troubles()
    failed = replace(WORK, condition=Condition.FAILED)
    troubles.add(failed, WRITE)
    assert (troubles.blamed(), troubles.found) == ([(failed, WRITE)], [])


@pytest.mark.parametrize(
    ("found", "waited", "counts"),
    [
        ([WRITE], COUNTED_APART_SECONDS, True),
        ([WRITE], COUNTED_APART_SECONDS - 1, False),
        ([WRITE, WRITE], COUNTED_APART_SECONDS, False),
        ([READ], COUNTED_APART_SECONDS, False),
        ([STRIPE], COUNTED_APART_SECONDS, False),
        ([], COUNTED_APART_SECONDS, False),
    ],
)
def test_alone(found: list[LinkFailure], waited: float, counts: bool) -> None:
    """One that is written alone, in vain, counts, but at most once in five minutes."""
    troubles = Troubles()
    for error in found:
        troubles.add(WORK, error)
    assert troubles.alone(NOW + waited) == ((WORK, WRITE) if counts else None)
    troubles.found = [(replace(work, next_try=None), error) for work, error in troubles.found]
    assert troubles.alone(NOW + waited) is None


def test_suspicion() -> None:
    """Two writes in vain and none that worked: no more are tried. Reads in vain say nothing of it."""
    troubles = Troubles()
    troubles.add(WORK, READ)
    for _ in range(WRITES_MAX - 1):
        troubles.add(WORK, WRITE)
    assert not troubles.suspicious()
    troubles.add(WORK, WRITE)
    assert troubles.suspicious()
    troubles.wrote = True
    assert not troubles.suspicious()


@pytest.mark.parametrize(
    ("found", "unclear"), [([READ], True), ([WRITE], False), ([STRIPE], False), ([], False)]
)
def test_unclear_reads(found: list[LinkFailure], unclear: bool) -> None:
    """A question in vain leaves open whether Halo answers, until something was looked up."""
    troubles = Troubles()
    for error in found:
        troubles.add(WORK, error)
    assert troubles.unclear_reads() is unclear
    troubles.in_a_row = 2
    troubles.looked_up()
    assert (troubles.unclear_reads(), troubles.in_a_row) == (False, 0)
