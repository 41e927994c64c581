"""The plan of polls, computed by the service, `syncd status` and the page from the same notes."""

from dataclasses import dataclass

from syncd.clients.throttle import stripe_window
from syncd.config.model import Config
from syncd.config.values import AUTO
from syncd.core.errors import Side
from syncd.core.rules.pacing import (
    Learnt,
    Ration,
)
from syncd.core.rules.poll_planner import PollPlanner
from syncd.store.coordination import POLLS_LEARNT
from syncd.store.store import Store
from syncd.text.timestamps import span_text

HOUR = 3_600
MONTH_SECONDS = 30 * 86_400

LOW = 0.5
"""Below this share of the planned extra reads, syncd reports that the reads run low."""


@dataclass(frozen=True, slots=True)
class PollsStatus:
    """How often syncd polls.

    Attributes:
        text: the plan as text.
        longest_seconds: the longest time between two polls.
        planned: reads that are planned for 30 days.
        allowed: reads that are allowed in 30 days.
        scarce: whether polls are less frequent than every five minutes, because the reads run low.
    """

    text: str
    longest_seconds: float
    planned: int
    allowed: int
    scarce: bool


def ration_of(read_budget: int | str, store: Store, now: float) -> Ration:
    """The reads that Stripe allows, by `stripe.read_budget`.

    Args:
        read_budget: a number, or "auto": then the succeeded payments count.
        store: has the payments.
        now: Unix seconds.
    """
    if isinstance(read_budget, int):
        return Ration(read_budget)
    hours = store.made_by(HOUR, int(now) - 2 * MONTH_SECONDS, succeeded=True)
    return Ration(None, {hour * HOUR: number for hour, number in hours.items()})


def read_limit(config: Config, store: Store, now: float) -> int:
    """How many reads Stripe allows in the 30 days before `now` (Unix seconds)."""
    return ration_of(config.stripe.read_budget, store, now).allowed(now)


def planner_of(read_budget: int | str, store: Store, now: float) -> PollPlanner:
    """A planner that continues with what was learned before."""
    learnt = store.read(POLLS_LEARNT)
    if learnt is None or not learnt.valid:
        learnt = Learnt(now)
    return PollPlanner(learnt, stripe_window(0), ration_of(read_budget, store, now))


def polls_status(config: Config, store: Store, now: float) -> PollsStatus | None:
    """How often syncd polls now; None if `poll.interval` is a fixed time."""
    if config.poll.interval != AUTO:
        return None
    planner = planner_of(config.stripe.read_budget, store, now)
    planner.review(store.coordination.counts(Side.STRIPE), now)
    plan, allowed = planner.plan, planner.ration.allowed(now)
    rates = (max(plan.quick_rate, *plan.rates), max(plan.rates), min(plan.rates))
    quick, busy, quiet = (span_text(max(1, round(1 / planner.rate(rate)))) for rate in rates)
    pace = (
        f"{busy} at all hours" if busy == quiet else f"{busy} in busy hours, {quiet} in quiet hours"
    )
    text = (
        f"every {quick} while a payment is under way, {pace}; "
        f"{plan.planned:,} of {allowed:,} reads in 30 days are planned"
    )
    if planner.leeway.factor < LOW or planner.scarce:
        text += "; slower than planned, because the reads run low"
    return PollsStatus(text, planner.longest_seconds, plan.planned, allowed, planner.scarce)
