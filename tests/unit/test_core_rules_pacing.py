"""The planner of polls: what it learns, what it plans, and that it stays within its budget."""

from dataclasses import replace
from math import isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.clients.throttle import stripe_window
from syncd.core.payments import PaymentState
from syncd.core.rules.pacing import (
    GUARDED_SHARE,
    HOURS,
    INTERVAL_SECONDS,
    QUICK_SECONDS,
    SCARCE_SECONDS,
    Learnt,
    Ration,
    hour_of_week,
    leeway,
    plan_polls,
)
from syncd.core.rules.poll_planner import REVIEW_READS, PollPlanner, Sign
from syncd.core.windows import poll_spacing_seconds

DAY = 86_400
MONTH = 30 * DAY
NOW = 1_795_824_000.0
"""2026-11-28T00:00:00Z, a Saturday."""


def _planner(budget: int = 10_000, learnt: Learnt | None = None) -> PollPlanner:
    return PollPlanner(learnt or Learnt(NOW), stripe_window(0), Ration(budget))


def _learnt_office(payments: int = 200) -> Learnt:
    """A tenant whose payments come on weekdays from 8:00 to 18:00."""
    arrivals = [0.0] * HOURS
    for day in range(5):
        for hour in range(8, 18):
            arrivals[24 * day + hour] = payments / 50
    return Learnt(NOW, tuple(arrivals), 60.0 * DAY, 0.0)


def test_hour_of_week() -> None:
    """Hour 0 is Monday, 00:00 UTC."""
    assert (hour_of_week(NOW), hour_of_week(NOW + 2 * DAY), hour_of_week(NOW + 2 * DAY - 1)) == (
        120,
        0,
        167,
    )


def test_starts_even() -> None:
    """Before anything is learnt, all hours are equal, and polls run at least every five minutes."""
    plan = plan_polls(Learnt(NOW), 10_000)
    assert len(set(plan.rates)) == 1
    assert 1 / plan.rates[0] < INTERVAL_SECONDS
    assert 9_500 < plan.planned < 9_600


def test_polls_more_often_when_payments_are_expected() -> None:
    """Polls are more frequent in learnt office hours, and every five minutes at other times."""
    plan = plan_polls(_learnt_office(), 50_000)
    monday_noon, sunday_night = plan.rates[12], plan.rates[6 * 24 + 2]
    assert monday_noon > 4 * sunday_night
    small = plan_polls(_learnt_office(), 10_000)
    assert 1 / small.rates[6 * 24 + 2] == pytest.approx(INTERVAL_SECONDS)
    assert 1 / small.rates[12] < 250


_LEARNT = st.builds(
    Learnt,
    st.just(NOW),
    st.lists(st.floats(0, 1e4), min_size=24, max_size=24).map(lambda day: tuple(day * 7)),
    st.floats(0, 90.0 * DAY),
    st.floats(0, 90.0 * DAY),
)

_COUNTS = st.dictionaries(
    st.integers(-800, 100).map(lambda hour: int(NOW) + 3_600 * hour), st.integers(1, 2_000)
)


@settings(max_examples=40, deadline=None)
@given(learnt=_LEARNT, limit=st.integers(1, 10_000_000))
def test_never_plans_more_than_its_share(learnt: Learnt, limit: int) -> None:
    """The plan stays within its share of the budget, and no poll is rarer than at a fixed interval."""
    plan = plan_polls(learnt, limit)
    assert plan.planned <= GUARDED_SHARE * limit * 1.001 + 1
    assert all(rate >= plan.base > 0 and isfinite(1 / rate) for rate in plan.rates)
    assert 1 / max(*plan.rates, plan.quick_rate) >= QUICK_SECONDS * 0.999
    assert plan.base == min(1 / INTERVAL_SECONDS, GUARDED_SHARE * limit / MONTH)


@settings(max_examples=40, deadline=None)
@given(learnt=_LEARNT, counts=_COUNTS, budget=st.integers(1_000, 100_000))
def test_extra_reads_are_those_that_a_fixed_interval_leaves(
    learnt: Learnt, counts: dict[int, int], budget: int
) -> None:
    """Polls are as frequent as at a fixed interval, and extra reads use only the budget that remains.

    This also holds if the clock was set back, so that some reads lie in the future.
    """
    plan, window = plan_polls(learnt, budget), stripe_window(budget)
    found = leeway(plan, window, Ration(budget), counts, NOW)
    assert found.base_seconds <= poll_spacing_seconds(window, counts, NOW, INTERVAL_SECONDS)
    assert 0 <= found.factor <= 1
    a_month = plan.extra_until(NOW + MONTH) - plan.extra_until(NOW)
    fixed = MONTH / found.base_seconds
    assert found.factor * a_month <= max(0.0, GUARDED_SHARE * budget - fixed) + 1
    if window.used(counts, NOW) >= budget:
        assert found.factor == 0


@settings(max_examples=40, deadline=None)
@given(
    learnt=_LEARNT,
    counts=_COUNTS,
    paid=st.dictionaries(
        st.integers(-1_440, 0).map(lambda hour: int(NOW) + 3_600 * hour), st.integers(1, 50)
    ),
)
def test_polls_stay_between_two_bounds_where_the_ration_follows_the_payments(
    learnt: Learnt, counts: dict[int, int], paid: dict[int, int]
) -> None:
    """Whatever was read and paid, polls without extra reads are 5 to 10 minutes apart."""
    ration = Ration(None, paid)
    plan = plan_polls(learnt, ration.sustained(NOW))
    found = leeway(plan, stripe_window(0), ration, counts, NOW)
    assert found.base_seconds * 1.0001 >= INTERVAL_SECONDS
    assert found.base_seconds <= SCARCE_SECONDS * 1.0001
    assert 0 <= found.factor <= 1
    assert ration.sustained(NOW) <= ration.allowed(NOW) <= ration.ceiling(NOW)


def _spacing(planner: PollPlanner, at: float) -> float:
    planner.age(NOW + at, at)
    planner.review({}, NOW + at)
    return planner.spacing_seconds(NOW + at, at)


def _take(planner: PollPlanner, at: float, *signs: Sign) -> None:
    planner.take(signs, NOW + at, NOW + at, at)


def _sign(state: PaymentState | None, at: float, *, age: float = 0, new: bool = True) -> Sign:
    return Sign("pi_1", state, int(NOW + at), int(NOW + at - age), new)


def test_polls_quickly_while_a_payment_is_under_way() -> None:
    """A new payment intent makes polls quick; they slow down after a while or when the payment ends."""
    planner = _planner(50_000)
    slow = _spacing(planner, 0)
    _take(planner, 10, _sign(None, 10))
    assert _spacing(planner, 10) == QUICK_SECONDS
    assert QUICK_SECONDS < _spacing(planner, 500) < 30
    assert _spacing(planner, 611) == pytest.approx(slow)
    _take(planner, 700, _sign(None, 700))
    _take(planner, 703, _sign(PaymentState.SUCCEEDED, 703))
    assert _spacing(planner, 703) == pytest.approx(slow)


@pytest.mark.parametrize(
    ("state", "age", "quick"),
    [
        (PaymentState.REQUIRES_ACTION, 0, True),
        (PaymentState.PAYMENT_FAILED, 60, True),
        (PaymentState.PAYMENT_FAILED, 3 * DAY, False),
        (PaymentState.PROCESSING, 0, False),
        (PaymentState.CANCELED, 0, False),
    ],
)
def test_which_events_announce_another(state: PaymentState, age: float, quick: bool) -> None:
    """3-D Secure and a failed card announce another event; a failed bank debit does not."""
    planner = _planner(50_000)
    _take(planner, 5, _sign(state, 5, age=age))
    assert (_spacing(planner, 5) == QUICK_SECONDS) is quick


def test_events_of_the_last_minutes_count_after_a_restart() -> None:
    """After a restart, events of the last minutes still make polls quick, and are not learnt twice."""
    planner = _planner(50_000)
    _take(planner, 30, _sign(None, 0, new=False))
    assert _spacing(planner, 30) == QUICK_SECONDS
    assert sum(planner.learnt.arrivals) == 0, "an event that was found before is not learnt twice"


def test_events_of_one_second_in_any_order() -> None:
    """A payment that succeeds in the second of its creation is not in progress."""
    planner = _planner(50_000)
    _take(planner, 5, _sign(PaymentState.SUCCEEDED, 5), _sign(None, 5))
    assert _spacing(planner, 5) > QUICK_SECONDS
    _take(planner, 6, _sign(None, 5, new=False))
    assert _spacing(planner, 6) > QUICK_SECONDS


def test_forms_that_are_never_sent_take_a_bounded_share() -> None:
    """Intents that are never paid use no more quick polls than the plan allows."""
    learnt = Learnt(NOW, (5.0,) * HOURS, 60.0 * DAY, 60.0 * DAY)
    plan = plan_polls(learnt, 10_000)
    assert plan.quick_rate * learnt.quick_share * MONTH <= 9_600
    assert plan.planned <= 9_600


def test_plans_again_after_many_reads() -> None:
    """After many reads the planner reviews its plan before the hour is over."""
    planner = _planner()
    planner.review({}, NOW)
    assert not planner.is_due(NOW + 60)
    planner.read(REVIEW_READS)
    assert planner.is_due(NOW + 60)
    planner.review({int(NOW): 10_000}, NOW + 60)
    assert not planner.is_due(NOW + 120)
    assert planner.scarce
    assert planner.longest_seconds > INTERVAL_SECONDS


@pytest.mark.parametrize("jump", [-400 * DAY, -3_600, 3_600, 400 * DAY])
def test_the_clock_jumps(jump: float) -> None:
    """After a clock change the planner keeps at least 98% of what it learnt, and polls keep a normal pace."""
    planner = _planner(50_000, _learnt_office())
    before, total = _spacing(planner, 0), sum(planner.learnt.arrivals)
    planner.age(NOW + jump, 1)
    planner.review({int(NOW): 100}, NOW + jump)
    spacing = planner.spacing_seconds(NOW + jump, 1)
    assert sum(planner.learnt.arrivals) > 0.98 * total
    assert before / 6 < spacing < before * 6
    assert planner.learnt.aged(NOW, 0.0).observed_seconds <= 62 * DAY


def test_a_month_of_silence() -> None:
    """After a month without payments, office hours are still known, and polls run every five minutes."""
    learnt = _learnt_office()
    for hour in range(30 * 24):
        learnt = learnt.aged(NOW + 3_600 * hour)
    plan = plan_polls(learnt, 50_000)
    assert plan.rates[12] > 1.8 * plan.rates[6 * 24 + 2]
    assert 1 / min(plan.rates) <= INTERVAL_SECONDS * 1.001


def test_ration() -> None:
    """The ration is 500 reads per transaction of 30 days, at least 10,000; a configured number stays."""
    today = int(NOW) - DAY
    many = Ration(None, {today: 100, today - 40 * DAY: 900})
    assert (Ration().allowed(NOW), many.allowed(NOW), Ration(777, {today: 100}).allowed(NOW)) == (
        10_000,
        50_000,
        777,
    )
    assert (many.ceiling(NOW), many.known(NOW), many.known(NOW + MONTH)) == (
        500_000,
        50_000,
        10_000,
    )
    assert Ration(777).expected(NOW, 0.0) == 777


def test_a_ration_is_planned_by_payments_that_come_steadily() -> None:
    """Payments that came all at once do not raise the planned reads; steady payments do."""
    clump = Ration(None, {int(NOW) - DAY: 500})
    steady = Ration(None, {int(NOW) - 7_200 * n: 2 for n in range(360)})
    assert clump.sustained(NOW) == 10_000
    assert 50_000 < steady.sustained(NOW) < steady.allowed(NOW)
    few = Ration(None, {int(NOW) - 90_000 * n: 1 for n in range(30)})
    assert 10_000 <= few.sustained(NOW) < 14_500


def test_a_damaged_memory_is_dropped() -> None:
    """Stored values that the planner cannot have written are invalid."""
    assert _learnt_office().valid
    assert not replace(_learnt_office(), arrivals=(1.0,)).valid
    assert not replace(_learnt_office(), observed_seconds=float("nan")).valid
