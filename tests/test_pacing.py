"""poll.interval = "auto": the poll planner in the engine, in the service, and over months of payments."""

import json
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import sub
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from bench.year import (
    HOUR,
    START,
    Auto,
    Business,
    Event,
    Fixed,
    Waits,
    budget_of,
    payments,
    simulate,
)
from syncd.clients.throttle import stripe_window
from syncd.core.errors import BudgetSpent, Side
from syncd.core.payments import PaymentState
from syncd.core.rules.pacing import INTERVAL_SECONDS, SCARCE_SECONDS, Ration, hour_of_week
from syncd.core.windows import kept_spacing_seconds, reads_beside_polls
from syncd.monitor.polls import polls_status
from syncd.monitor.status import gather
from syncd.store.coordination import POLLS_LEARNT
from syncd.sync.build import Parts, assemble
from syncd.sync.engine import Engine
from syncd.sync.pull.pace import PollPace
from tests.conftest import Rig

DAY = 86_400


@pytest.fixture
def auto(rig: Rig) -> Rig:
    """A rig whose polls are planned, with a Stripe that announces payments."""
    rig.settings |= {"SYNCD_POLL__INTERVAL": "auto"}
    rig.box.stripe.announces = True
    return rig


def _polls(rig: Rig) -> list[float]:
    return [one.at for one in rig.box.stripe.requests if one.path.startswith("/v1/events")]


async def _serve(rig: Rig, parts: Parts, seconds: int) -> None:
    """Check every second whether a poll is due, as the service does."""
    for _ in range(seconds):
        if parts.engine.poll_is_due():
            await parts.engine.poll()
            await parts.engine.push()
        rig.clock.seconds += 1


def test_a_payment_under_way_is_seen_within_seconds(auto: Rig) -> None:
    """Without payments, polls are minutes apart; after `payment_intent.created` they are seconds apart."""

    async def an_hour(parts: Parts) -> None:
        await _serve(auto, parts, 1_120)
        payment = auto.pay(None)
        await _serve(auto, parts, 200)
        auto.box.stripe.advance(payment, "succeeded")
        paid = auto.clock.seconds
        await _serve(auto, parts, 20)
        assert next(at - paid for at in _polls(auto) if at >= paid) <= 15
        assert auto.statuses(payment) == [auto.box.halo.status["succeeded"]]
        await _serve(auto, parts, 1_200)

    auto.run(an_hour)
    polls = _polls(auto)
    gaps = [round(later - earlier) for earlier, later in pairwise(polls)]
    assert 280 <= max(gaps) <= 300
    assert 3 <= min(gaps) <= 7
    assert gaps[-2:] == [max(gaps)] * 2
    assert auto.told.events("event_type_unknown") == []


def test_only_the_planner_lists_new_payment_intents(auto: Rig) -> None:
    """Only the planner reads `payment_intent.created`; with a fixed interval syncd does not request it."""
    auto.once()
    auto.settings |= {"SYNCD_POLL__INTERVAL": "5m"}
    auto.once()
    asked = [str(one.query) for one in auto.box.stripe.requests if one.path == "/v1/events"]
    assert ["payment_intent.created" in query for query in asked] == [True, False]


def test_what_was_learnt_survives_a_restart(auto: Rig) -> None:
    """After a restart the planner keeps the arrivals it has learned."""
    auto.box.stripe.create_intent()

    async def poll(parts: Parts) -> None:
        await parts.engine.poll()

    auto.run(poll)
    learnt = auto.stored(lambda store: store.read(POLLS_LEARNT))
    assert (sum(learnt.arrivals), learnt.arrivals[hour_of_week(auto.clock.seconds)]) == (1.0, 1.0)

    async def quick(parts: Parts) -> None:
        await parts.engine.poll()
        auto.clock.seconds += 7
        assert parts.engine.poll_is_due(), "a payment is under way"
        pace = parts.engine.pace
        assert isinstance(pace, PollPace)
        assert sum(pace.planner.learnt.arrivals) == pytest.approx(1.0)

    auto.run(quick)


def test_a_run_by_hand_may_use_what_polls_do_not_plan(auto: Rig) -> None:
    """A backfill leaves polls 15 % of the reads, and polls slow down, so that these last for 30 days."""
    auto.settings |= {"SYNCD_STRIPE__READ_BUDGET": "1000"}
    store = auto.open()
    window = assemble(auto.config(), store, auto.told, auto.world, "a test").engine.rate_limiters
    side = next(side for side in window if side == "stripe")
    for _ in range(700):
        store.coordination.take_slots(side, window[side].window, auto.clock.seconds, 1)
    by_hand = assemble(auto.config(), store, auto.told, auto.world, "a backfill", beside_polls=True)
    assert _use_up(by_hand.engine) == 144

    async def spread(parts: Parts) -> None:
        await parts.engine.poll()
        assert not parts.engine.poll_is_due()
        assert parts.engine.pace.longest_seconds > 3_000

    auto.run(spread)
    assert len(auto.told.events("polls_spread")) == 1
    status = gather(auto.config(), store, auto.clock.seconds)
    assert status.polls is not None
    assert "because the reads run low" in status.polls.text
    store.close()


def test_the_plan_in_words(auto: Rig) -> None:
    """The status says how often syncd polls, and how many reads are planned."""
    auto.once()
    told = auto.stored(lambda store: polls_status(auto.config(), store, auto.clock.seconds))
    assert told.text == (
        "every 5s while a payment is under way, 4m44s at all hours; "
        "9,583 of 10,000 reads in 30 days are planned"
    )
    auto.settings |= {"SYNCD_POLL__INTERVAL": "5m"}
    assert auto.stored(lambda store: polls_status(auto.config(), store, auto.clock.seconds)) is None


def test_the_ration_follows_the_payments(auto: Rig) -> None:
    """With `stripe.read_budget = "auto"`, the budget is 500 reads per succeeded payment, at least 10,000."""
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
    """If the planner's stored data is damaged, a run still works."""
    auto.stored(
        lambda store: store.write_notes(
            {"polls_learnt": json.dumps({"at": 1.0, "arrivals": [1.0]})}
        )
    )
    auto.once()


# --- months of payments ------------------------------------------------------------------------------

INTERVAL = 300.0
MEAN, P95 = INTERVAL / 2, 0.95 * INTERVAL
"""What payments wait for their poll if polls are five minutes apart, whenever payments come."""

ROUNDING = 0.02
"""Seconds: the precision to which `Waits.share_expected` searches. There is no other tolerance."""

_HOURS = st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0]), min_size=21, max_size=21).filter(any)
_BURSTS = st.lists(
    st.tuples(st.floats(0, 44), st.integers(2, 200), st.sampled_from([0.0, 600.0])), max_size=4
)


@dataclass(slots=True)
class Troubled(Auto):
    """A service that restarts now and then, and whose clock is changed.

    Attributes:
        restarts: when the service restarts, Unix seconds, sorted.
        jumps: when the clock is changed, and by how many seconds; sorted.
    """

    restarts: list[float] = field(default_factory=list)
    jumps: list[tuple[float, float]] = field(default_factory=list)
    counted: dict[int, int] = field(default_factory=dict)
    off: float = 0.0
    _at: float = START

    def spacing(self, at: float) -> float:
        """As the planner decides, by a clock that may be wrong."""
        self._at = at
        while self.jumps and self.jumps[0][0] <= at:
            self.off += self.jumps.pop(0)[1]
        while self.restarts and self.restarts[0] <= at:
            self.restarts.pop(0)
            self.planner = replace(self.planner)  # keeps what is stored, forgets the rest
        now = at + self.off
        self.planner.age(now, at)
        if self.planner.is_due(now):
            moved = {int(hour + self.off): n for hour, n in self.transactions.items()}
            self.planner.ration = Ration(self.budget, moved)
        self.planner.review(self.counted, now)
        return self.planner.spacing_seconds(now, at)

    def read(self, number: int) -> None:
        """Count by the clock that may be wrong."""
        hour = int((self._at + self.off) // HOUR * HOUR)
        self.counted[hour] = self.counted.get(hour, 0) + number
        self.planner.read(number)


def _burst(day: float, number: int, within: float) -> list[Event]:
    """Many payments at once, or within some minutes, without an announcement."""
    at = START + day * DAY
    return [
        Event(at + within * n / number, f"pi_b{day}_{n}", PaymentState.SUCCEEDED, at, final=True)
        for n in range(number)
    ]


def _played(
    days: int, events: list[Event], budget: int | None, pace: Troubled | None = None
) -> Waits:
    """Simulate the planner; the budget must never be exceeded."""
    waits = Waits()
    pace = pace or Troubled(waits, budget=budget)
    pace.waits = waits
    limit = budget_of(events) if budget is None else lambda _at: budget
    simulate(events, pace, waits, days, limit)
    assert not waits.over, f"{waits.most:,} reads in 30 days"
    return waits


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(
    weeks=st.lists(_HOURS, min_size=1, max_size=3),
    changes_after_days=st.sampled_from([7, 20]),
    number=st.integers(1, 300),
    announced=st.booleans(),
    bursts=_BURSTS,
    restarts=st.lists(st.floats(0, 44), max_size=10).map(sorted),
    jumps=st.lists(
        st.tuples(st.floats(0, 44), st.sampled_from([-3_600.0, 3_600.0])), max_size=2
    ).map(sorted),
    budget=st.sampled_from([10_000, 10_000, 12_000, 50_000, 9_200]),
    seed=st.integers(0, 2**16),
)
def test_no_payment_waits_longer_than_with_a_fixed_interval(
    weeks: list[list[float]],
    changes_after_days: int,
    number: int,
    announced: bool,
    bursts: list[tuple[float, int, float]],
    restarts: list[float],
    jumps: list[tuple[float, float]],
    budget: int,
    seed: int,
) -> None:
    """No payment waits longer than with a five-minute interval, whenever payments come.

    The cases: changing hours, silence, bursts, abandoned forms, restarts, clock changes, and any budget that
    allows a poll every five minutes. The budget is never exceeded in any 30 days.
    """

    def weight(at: float) -> float:
        week = weeks[int((at - START) // (changes_after_days * DAY)) % len(weeks)]
        return week[hour_of_week(at) // 8]

    events = payments(Business(number, weight, announced), 45, seed)
    for burst in bursts:
        events += _burst(*burst)
    events.sort(key=lambda one: one.at)
    pace = Troubled(
        Waits(),
        budget=budget,
        restarts=[START + day * DAY for day in restarts],
        jumps=[(START + day * DAY, by) for day, by in jumps],
    )
    waits = _played(45, events, budget, pace)
    if waits.gaps:
        assert max(waits.gaps) <= INTERVAL + 1e-3
        assert waits.mean_expected <= MEAN
        assert waits.share_expected(0.95) <= P95 + ROUNDING


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(
    months=st.lists(st.sampled_from([0, 3, 20, 100, 300]), min_size=2, max_size=5),
    hours=_HOURS,
    days=st.sampled_from([7, 15, 30]),
    bursts=_BURSTS,
    restarts=st.lists(st.floats(0, 89), max_size=5).map(sorted),
    seed=st.integers(0, 2**16),
)
@example(months=[300, 3], hours=[0, 1, 0] * 7, days=30, bursts=[], restarts=[], seed=1)
@example(
    months=[100, 0, 0, 0], hours=[0, 1, 0] * 7, days=7, bursts=[(0, 200, 0.0)], restarts=[], seed=2
)
def test_a_ration_that_follows_the_payments(
    months: list[int],
    hours: list[float],
    days: int,
    bursts: list[tuple[float, int, float]],
    restarts: list[float],
    seed: int,
) -> None:
    """With `read_budget = "auto"` the budget is never exceeded, also if payments stop or come in bursts.

    If payments stop after a busy month, polls may be up to SCARCE_SECONDS apart for some days, so payments in
    these days can wait longer. All other payments do not, on average and at 95 %.
    """
    events: list[Event] = []
    for part, number in enumerate(months):
        if number:
            begin, end = START + part * days * DAY, START + (part + 1) * days * DAY
            events += [
                replace(one, intent_id=f"{one.intent_id}_{part}")
                for one in payments(
                    Business(number, lambda at: hours[hour_of_week(at) // 8]), 90, seed
                )
                if begin <= one.at < end
            ]
    for burst in bursts:
        events += _burst(*burst)
    events.sort(key=lambda one: one.at)
    pace = Troubled(Waits(), restarts=[START + day * DAY for day in restarts])
    waits = _played(90, events, None, pace)
    if waits.gaps:
        assert max(waits.gaps) <= SCARCE_SECONDS + 1e-3
    if waits.gaps and 2 * min(months) >= max(months) and not bursts:
        assert waits.mean_expected <= MEAN
        assert waits.share_expected(0.95) <= P95 + ROUNDING


def test_a_backfill_of_most_of_the_ration_stops_nothing() -> None:
    """If a backfill uses 80 % of the month's reads in an hour, polls continue, within the budget."""
    events = payments(Business(20, lambda _at: 1.0), 90, 3)
    waits = Waits()
    waits.reads[int(START)] = 8_000
    simulate(events, Auto(waits, budget=10_000), waits, 90, lambda _at: 10_000)
    assert max(waits.seconds) < DAY / 4
    assert not waits.over


@pytest.mark.parametrize(("budget", "longest"), [(10_000, HOUR), (None, SCARCE_SECONDS)])
def test_a_run_by_hand_of_any_length_leaves_the_planner_a_rhythm(
    budget: int | None, longest: float
) -> None:
    """All reads that a run by hand may use are used in an hour: polls go on for 30 days, never too rarely.

    Sweeps read as well, so polls are a little more than the kept half hour apart.
    """
    events = payments(Business(20, lambda _at: 1.0), 40, 3)
    window, waits = stripe_window(10_000), Waits()
    spacing = kept_spacing_seconds(window, INTERVAL_SECONDS) if budget else SCARCE_SECONDS
    waits.reads[int(START)] = reads_beside_polls(window, {}, START, spacing)
    assert waits.reads[int(START)] > 5_000
    simulate(events, Auto(waits, budget=budget), waits, 40, lambda _at: 10_000)
    assert max(waits.gaps) <= longest + 1e-3
    assert sorted(waits.gaps)[len(waits.gaps) // 2] <= 2_000
    assert not waits.over


@pytest.mark.parametrize("interval", ["5m", "auto"])
def test_a_backfill_without_end_leaves_the_service_polls(rig: Rig, interval: str) -> None:
    """A backfill or an audit that reads all it can: the next polls are half an hour apart at most."""
    rig.settings |= {"SYNCD_POLL__INTERVAL": interval}
    store = rig.open()
    by_hand = assemble(
        rig.config(), store, rig.told, rig.world, "a backfill", beside_polls=True
    ).engine
    assert 8_000 < _use_up(by_hand) < 8_500
    service = assemble(rig.config(), store, rig.told, rig.world, "a service").engine
    made = [rig.clock.seconds]
    while rig.clock.seconds < made[0] + 2 * DAY:
        rig.clock.seconds += 60
        if not service.pace.too_early(rig.clock.seconds, made[-1]):
            made.append(rig.clock.seconds)
            window = service.rate_limiters[Side.STRIPE].window
            assert store.coordination.take_slots(Side.STRIPE, window, made[-1], 1)[0] == 1
    assert max(map(sub, made[1:], made)) <= 1_800
    store.close()


def _use_up(by_hand: Engine) -> int:
    """Read from Stripe as long as a run by hand may; returns how many reads that was."""
    limiter, used = by_hand.rate_limiters[Side.STRIPE], 0

    def read() -> None:
        nonlocal used
        limiter.permit()
        assert limiter._count() <= 0
        used += 1

    with pytest.raises(BudgetSpent, match="for polls") as spent:
        deque(iter(read, True), maxlen=0)
    assert (spent.value.retry_after_seconds or 0) > 0
    return used


def test_a_robot_that_opens_forms_costs_no_payment_anything() -> None:
    """A robot opens a form every minute and never pays: polls are still at most five minutes apart."""
    forms = [Event(START + 60 * n, f"pi_f{n}", None, START + 60 * n) for n in range(12 * 1_440)]
    events = payments(Business(60, lambda _at: 1.0), 12, 4)
    waits = _played(12, sorted([*forms, *events], key=lambda one: one.at), 10_000)
    assert max(waits.gaps) <= INTERVAL + 1e-3


def test_fixed_is_fixed() -> None:
    """The simulation itself: a fixed interval waits half of it on average, and takes 8,640 reads a month."""
    waits = simulate(
        payments(Business(100, lambda _at: 1.0), 90, 3), Fixed(300), Waits(), 90, lambda _at: 10_000
    )
    assert waits.mean == pytest.approx(150, rel=0.1)
    assert (waits.mean_expected, waits.share_expected(0.95)) == pytest.approx(
        (MEAN, P95), abs=ROUNDING
    )
    assert waits.most == pytest.approx(8_640 + 120, rel=0.01)


@pytest.mark.parametrize(("interval", "left"), [("5m", 1_200), ("1m", 350)])
def test_a_fixed_interval_leaves_reads_for_a_backfill(rig: Rig, interval: str, left: int) -> None:
    """A month of polls leaves reads for a backfill; after the backfill, polls are as frequent as before."""
    rig.settings |= {"SYNCD_POLL__INTERVAL": interval}
    store = rig.open()

    def opened(what: str, beside_polls: bool) -> Engine:
        return assemble(
            rig.config(), store, rig.told, rig.world, what, beside_polls=beside_polls
        ).engine

    service, seconds = opened("a service", False), int(rig.config().poll.interval)
    window = service.rate_limiters[Side.STRIPE].window

    def polls(days: int) -> list[float]:
        made: list[float] = []
        for _ in range(days * DAY // 60):
            rig.clock.seconds += 60
            now = rig.clock.seconds
            last = made[-1] if made else 0.0
            if now - last >= seconds and not service.pace.too_early(now, last):
                made.append(now)
                assert store.coordination.take_slots(Side.STRIPE, window, now, 1)[0] == 1
        return made

    before = polls(31)
    assert _use_up(opened("a backfill", True)) >= left
    after = polls(2)
    assert max(map(sub, after[1:], after)) <= max(map(sub, before[1:], before))
    store.close()
