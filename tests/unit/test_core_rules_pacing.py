"""The planner of polls: what it learns, what it plans, and that it never plans more than is allowed."""

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
    PLANNED_SHARE,
    QUICK_SECONDS,
    QUICK_SHARE,
    SPACING_SECONDS_MAX,
    Learnt,
    Ration,
    hour_of_week,
    plan_polls,
    slow_down,
)
from syncd.core.rules.poll_planner import PollPlanner, Sign

DAY = 86_400
MONTH = 30 * DAY
NOW = 1_795_824_000.0
"""2026-11-28T00:00:00Z, a Saturday."""


def _planner(budget: int = 10_000, learnt: Learnt | None = None) -> PollPlanner:
    return PollPlanner(learnt or Learnt(NOW), stripe_window(0), Ration(budget))


def _learnt_office(payments: int = 200) -> Learnt:
    """A tenant whose payments come on weekdays from 8 to 18 o'clock."""
    arrivals = [0.0] * HOURS
    for day in range(5):
        for hour in range(8, 18):
            arrivals[24 * day + hour] = payments / 50
    return Learnt(NOW, tuple(arrivals), 60.0 * DAY, 0.0, 0.7)


def test_hour_of_week() -> None:
    """Hour 0 is Monday, 00:00 UTC."""
    assert (hour_of_week(NOW), hour_of_week(NOW + 2 * DAY), hour_of_week(NOW + 2 * DAY - 1)) == (
        120, 0, 167,
    )  # fmt: skip


def test_starts_even() -> None:
    """Before anything is learnt, all hours are alike, and 85 % of the reads are planned."""
    plan = plan_polls(Learnt(NOW), 10_000, MONTH)
    assert len(set(plan.rates)) == 1
    assert plan.planned == pytest.approx(8_500, rel=0.01)


def test_polls_more_often_when_payments_are_expected() -> None:
    """Office hours are learnt: polls are at least twice as frequent there, at the same reads."""
    plan = plan_polls(_learnt_office(), 10_000, MONTH)
    monday_noon, sunday_night = plan.rates[12], plan.rates[6 * 24 + 2]
    assert monday_noon > 2 * sunday_night
    assert plan.planned == pytest.approx(8_500, rel=0.01)
    assert plan.longest_seconds <= SPACING_SECONDS_MAX


def test_learnt_hours_that_fail_are_not_trusted() -> None:
    """Where payments come in other hours than learnt, polls are as frequent in all hours again."""
    plan = plan_polls(replace(_learnt_office(), ratio=1.1), 10_000, MONTH)
    assert max(plan.rates) == pytest.approx(min(plan.rates), rel=0.01)


_LEARNT = st.builds(
    Learnt,
    st.just(NOW),
    st.lists(st.floats(0, 1e4), min_size=24, max_size=24).map(lambda day: tuple(day * 7)),
    st.floats(0, 90.0 * DAY),
    st.floats(0, 90.0 * DAY),
    st.floats(0.01, 5),
)


@settings(max_examples=40, deadline=None)
@given(learnt=_LEARNT, limit=st.integers(1, 10_000_000))
def test_never_plans_more_than_its_share(learnt: Learnt, limit: int) -> None:
    """Whatever was learnt: at most 85 % of the reads are planned, and no spacing is out of bounds."""
    plan = plan_polls(learnt, limit, MONTH)
    assert plan.planned <= PLANNED_SHARE * limit * 1.001 + 1
    assert all(rate > 0 and isfinite(1 / rate) for rate in plan.rates)
    assert 1 / max(*plan.rates, plan.quick_rate) >= QUICK_SECONDS * 0.999


@settings(max_examples=40, deadline=None)
@given(
    learnt=_LEARNT,
    counts=st.dictionaries(
        st.integers(-800, 100).map(lambda hour: int(NOW) + 3_600 * hour), st.integers(1, 2_000)
    ),
    budget=st.integers(1_000, 100_000),
)
def test_slows_down_before_the_reads_run_out(
    learnt: Learnt, counts: dict[int, int], budget: int
) -> None:
    """Whatever was read: reads that are planned fit beside those that still count, now and in a month.

    Also where the clock was set back, so that some reads lie in the future.
    """
    plan, window = plan_polls(learnt, budget, MONTH), stripe_window(budget)
    factor = slow_down(plan, window, Ration(budget), counts, NOW)
    assert 0 < factor <= 1
    used = window.used(counts, NOW)
    a_month = plan.reads_until(NOW + MONTH + 3_600) - plan.reads_until(NOW)
    assert factor * a_month <= max(1.0, GUARDED_SHARE * budget) * 1.01
    if used >= budget:
        soon = plan.reads_until(NOW + 3_600) - plan.reads_until(NOW)
        assert factor * soon <= max(2.0, 0.2 * budget)


def _spacing(planner: PollPlanner, at: float) -> float:
    planner.age(NOW + at, at)
    planner.review({}, NOW + at)
    return planner.spacing_seconds(NOW + at, at)


def _take(planner: PollPlanner, at: float, *signs: Sign) -> None:
    planner.take(signs, NOW + at, NOW + at, at)


def _sign(state: PaymentState | None, at: float, *, age: float = 0, new: bool = True) -> Sign:
    return Sign("pi_1", state, int(NOW + at), int(NOW + at - age), new)


def test_polls_quickly_while_a_payment_is_under_way() -> None:
    """A new payment intent makes polls quick; rarer after a while; the end of the payment ends that."""
    planner = _planner()
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
    """3-D Secure and a card that failed announce a next event; a bank debit that failed does not."""
    planner = _planner()
    _take(planner, 5, _sign(state, 5, age=age))
    assert (_spacing(planner, 5) == QUICK_SECONDS) is quick


def test_events_of_the_last_minutes_count_after_a_restart() -> None:
    """A poll lists the last minutes again: after a restart, polls are quick for what is under way."""
    planner = _planner()
    _take(planner, 30, _sign(None, 0, new=False))
    assert _spacing(planner, 30) == QUICK_SECONDS
    assert sum(planner.learnt.arrivals) == 0, "an event that was found before is not learnt twice"


def test_events_of_one_second_in_any_order() -> None:
    """A payment that succeeds in the second of its creation is not under way."""
    planner = _planner()
    _take(planner, 5, _sign(PaymentState.SUCCEEDED, 5), _sign(None, 5))
    assert _spacing(planner, 5) > QUICK_SECONDS
    _take(planner, 6, _sign(None, 5, new=False))
    assert _spacing(planner, 6) > QUICK_SECONDS


def test_forms_that_are_never_sent_take_a_bounded_share() -> None:
    """A robot that opens a form each minute: quick polls take at most a fifth of the planned reads."""
    learnt = Learnt(NOW, (5.0,) * HOURS, 60.0 * DAY, 60.0 * DAY)
    plan = plan_polls(learnt, 10_000, MONTH)
    assert plan.quick_rate * learnt.quick_share * MONTH <= QUICK_SHARE * 8_500 * 1.01
    assert plan.planned <= 8_501


@pytest.mark.parametrize("jump", [-400 * DAY, -3_600, 3_600, 400 * DAY])
def test_the_clock_jumps(jump: float) -> None:
    """A clock that is set forgets at most one day's share, and polls go on at a normal pace."""
    planner = _planner(learnt=_learnt_office())
    before, total = _spacing(planner, 0), sum(planner.learnt.arrivals)
    planner.age(NOW + jump, 1)
    planner.review({int(NOW): 100}, NOW + jump)
    spacing = planner.spacing_seconds(NOW + jump, 1)
    assert sum(planner.learnt.arrivals) > 0.98 * total
    assert before / 6 < spacing < before * 6
    assert planner.learnt.aged(NOW, 0.0).observed_seconds <= 62 * DAY


def test_a_month_of_silence() -> None:
    """After a month without a payment, office hours are still known, and every hour is polled."""
    learnt = _learnt_office()
    for hour in range(30 * 24):
        learnt = learnt.aged(NOW + 3_600 * hour)
    plan = plan_polls(learnt, 10_000, MONTH)
    assert plan.rates[12] > 1.8 * plan.rates[6 * 24 + 2]
    assert plan.longest_seconds <= SPACING_SECONDS_MAX


def test_ration() -> None:
    """At least 10,000 reads, 500 for each transaction of the last 30 days; a fixed number stays."""
    today = int(NOW) - DAY
    many = Ration(None, {today: 100, today - 40 * DAY: 900})
    assert (Ration().allowed(NOW), many.allowed(NOW), Ration(777, {today: 100}).allowed(NOW)) == (
        10_000, 50_000, 777,
    )  # fmt: skip
    assert Ration(None, {today - 27 * DAY: 100}).expected(NOW, NOW + 3 * DAY) < 10_500
    assert many.expected(NOW, NOW + MONTH) == 45_000


def test_a_damaged_memory_is_dropped() -> None:
    """Only what a planner can have written is used."""
    assert _learnt_office().valid
    assert not replace(_learnt_office(), arrivals=(1.0,)).valid
    assert not replace(_learnt_office(), observed_seconds=float("nan")).valid
    assert not replace(_learnt_office(), ratio=0.0).valid
