"""poll.interval = "auto": the planner in the engine and in the service, and over months of payments."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from bench.year import START, Auto, Business, Fixed, Waits, payments, simulate
from syncd.core.rules.pacing import PLANNED_SHARE, hour_of_week
from syncd.monitor.polls import polls_status
from syncd.monitor.status import gather
from syncd.store.coordination import POLLS_LEARNT
from syncd.sync.build import Parts, assemble
from syncd.sync.pull.pace import PollPace
from tests.conftest import Rig

DAY = 86_400
MONTH = 30 * DAY


@pytest.fixture
def auto(rig: Rig) -> Rig:
    """A rig that polls when the planner decides, with a Stripe that announces payments."""
    rig.settings |= {"SYNCD_POLL__INTERVAL": "auto"}
    rig.box.stripe.announces = True
    return rig


def _polls(rig: Rig) -> list[float]:
    return [one.at for one in rig.box.stripe.requests if one.path.startswith("/v1/events")]


async def _serve(rig: Rig, parts: Parts, seconds: int) -> None:
    """Look each second whether a poll is due, as the service does."""
    for _ in range(seconds):
        if parts.engine.poll_is_due():
            await parts.engine.poll()
            await parts.engine.push()
        rig.clock.seconds += 1


def test_a_payment_under_way_is_seen_within_seconds(auto: Rig) -> None:
    """Between payments, polls are minutes apart; after `payment_intent.created`, 3 s; then minutes again."""

    async def an_hour(parts: Parts) -> None:
        await _serve(auto, parts, 1_200)
        payment = auto.pay(None)
        await _serve(auto, parts, 345)
        auto.box.stripe.advance(payment, "succeeded")
        paid = auto.clock.seconds
        await _serve(auto, parts, 20)
        assert next(at - paid for at in _polls(auto) if at >= paid) <= 13
        assert auto.statuses(payment) == [auto.box.halo.status["succeeded"]]
        await _serve(auto, parts, 1_200)

    auto.run(an_hour)
    polls = _polls(auto)
    gaps = [round(later - earlier) for earlier, later in pairwise(polls)]
    assert 300 <= max(gaps) <= 345
    assert 3 <= min(gaps) <= 12
    assert gaps[-2:] == [max(gaps)] * 2
    assert auto.told.events("event_type_unknown") == []


def test_only_the_planner_lists_new_payment_intents(auto: Rig) -> None:
    """Fixed intervals need no announcements, so Stripe is not asked for them."""
    auto.once()
    auto.settings |= {"SYNCD_POLL__INTERVAL": "5m"}
    auto.once()
    asked = [str(one.query) for one in auto.box.stripe.requests if one.path == "/v1/events"]
    assert ["payment_intent.created" in query for query in asked] == [True, False]


def test_what_was_learnt_survives_a_restart(auto: Rig) -> None:
    """A service that starts again goes on with the hours that it has learnt."""
    auto.box.stripe.create_intent()

    async def poll(parts: Parts) -> None:
        await parts.engine.poll()

    auto.run(poll)
    learnt = auto.stored(lambda store: store.read(POLLS_LEARNT))
    assert (sum(learnt.arrivals), learnt.arrivals[hour_of_week(auto.clock.seconds)]) == (1.0, 1.0)

    async def quick(parts: Parts) -> None:
        await parts.engine.poll()
        auto.clock.seconds += 3
        assert parts.engine.poll_is_due(), "a payment is under way"
        pace = parts.engine.pace
        assert isinstance(pace, PollPace)
        assert sum(pace.planner.learnt.arrivals) == pytest.approx(1.0)

    auto.run(quick)


def test_a_run_by_hand_may_use_what_polls_do_not_plan(auto: Rig) -> None:
    """Polls plan 85 % of the reads; a backfill is not refused for that, and polls slow down for it."""
    auto.settings |= {"SYNCD_STRIPE__READ_BUDGET": "1000"}
    store = auto.open()
    window = assemble(auto.config(), store, auto.told, auto.world, "a test").engine.rate_limiters
    side = next(side for side in window if side == "stripe")
    for _ in range(900):
        store.coordination.take_slots(side, window[side].window, auto.clock.seconds, 1)
    by_hand = assemble(auto.config(), store, auto.told, auto.world, "a backfill", stripe_share=0.8)
    assert by_hand.engine.rate_limiters[side].window.limit == 970

    async def spread(parts: Parts) -> None:
        await parts.engine.poll()
        assert not parts.engine.poll_is_due()
        assert parts.engine.pace.longest_seconds > 3_000

    auto.run(spread)
    assert len(auto.told.events("polls_spread")) == 1
    status = gather(auto.config(), store, auto.clock.seconds)
    assert status.polls is not None
    assert "slowed down to" in status.polls.text
    store.close()


def test_the_plan_in_words(auto: Rig) -> None:
    """`syncd status` and the page say how often syncd polls, and how many reads that takes."""
    auto.once()
    told = auto.stored(lambda store: polls_status(auto.config(), store, auto.clock.seconds))
    assert told.text == (
        "every 3s while a payment is under way, 5m39s at all hours; "
        "8,492 of 10,000 reads in 30 days are planned"
    )
    auto.settings |= {"SYNCD_POLL__INTERVAL": "5m"}
    assert auto.stored(lambda store: polls_status(auto.config(), store, auto.clock.seconds)) is None


def test_the_ration_follows_the_payments(auto: Rig) -> None:
    """`stripe.read_budget = "auto"`: 500 reads for each payment that succeeded in 30 days, 10,000 at least."""
    auto.settings |= {"SYNCD_STRIPE__READ_BUDGET": "auto"}

    def allowed() -> Any:
        status = auto.stored(lambda store: gather(auto.config(), store, auto.clock.seconds))
        return status.budgets["stripe"][1]

    auto.once()
    assert allowed() == 10_000
    for _ in range(30):
        auto.pay("succeeded")
    auto.once()
    assert allowed() == 15_000


def test_a_damaged_memory_starts_anew(auto: Rig) -> None:
    """What a planner cannot have written is ignored: polls start even."""
    auto.stored(
        lambda store: store.write_notes(
            {"polls_learnt": json.dumps({"at": 1.0, "arrivals": [1.0]})}
        )
    )
    auto.once()


# --- months of payments ------------------------------------------------------------------------------

_WEEK = st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0]), min_size=21, max_size=21).filter(any)


@settings(
    max_examples=2, deadline=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
@given(
    weeks=st.lists(_WEEK, min_size=1, max_size=3),
    seed=st.integers(0, 2**16),
    days=st.sampled_from([7, 28]),
)
@example(weeks=[[0, 1, 0] * 5 + [0, 0, 0] * 2], seed=1, days=7)
@example(weeks=[[0, 1, 0] * 7, [1, 0, 0] * 7], seed=1, days=28)
def test_never_much_worse_than_a_fixed_interval(
    weeks: list[list[float]], seed: int, days: int
) -> None:
    """For any pattern of payments that nothing announces, also one that changes: at most 10 % longer waits.

    Compared is a fixed interval with as many reads. The ration is never exceeded.
    """

    def weight(at: float) -> float:
        return weeks[int((at - START) // (days * DAY)) % len(weeks)][hour_of_week(at) // 8]

    events = payments(Business(60, weight, announced=False), 84, seed)
    waits, fixed = Waits(), MONTH / (PLANNED_SHARE * 10_000)
    simulate(events, Auto(waits, budget=10_000), waits, 84, lambda _at: 10_000)
    assert not waits.over
    if len(waits.expected) >= 40:
        assert sum(waits.expected) / len(waits.expected) <= 1.1 * fixed / 2


def test_a_backfill_of_most_of_the_ration_stops_nothing() -> None:
    """80 % of the month's reads are used in an hour: polls go on, a few an hour, and recover in a month."""
    events = payments(Business(20, lambda _at: 1.0), 90, 3)
    waits = Waits()
    waits.reads[int(START)] = 8_000
    simulate(events, Auto(waits, budget=10_000), waits, 90, lambda _at: 10_000)
    assert max(waits.seconds) < DAY / 4


def test_fixed_is_fixed() -> None:
    """The simulation itself: a fixed interval waits half of it on average, and takes 8,640 reads a month."""
    waits = simulate(
        payments(Business(100, lambda _at: 1.0), 90, 3), Fixed(300), Waits(), 90, lambda _at: 10_000
    )
    assert waits.mean == pytest.approx(150, rel=0.1)
    assert waits.most == pytest.approx(8_640 + 120, rel=0.01)
