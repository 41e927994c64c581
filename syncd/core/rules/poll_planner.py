"""Decides when to poll next: follows the plan, and detects payments that are under way.

Pure: no clock, no randomness, no I/O. Times are Unix seconds, unless a docstring says monotonic.
Does not belong here: how a week of polls is planned (`core.rules.pacing`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import log

from syncd.core.payments import PaymentState
from syncd.core.rules.pacing import (
    INTERVAL_SECONDS,
    QUICK_SECONDS,
    Learnt,
    Leeway,
    Plan,
    Ration,
    hour_of_week,
    leeway,
    plan_polls,
)
from syncd.core.windows import Window

UNDER_WAY_SECONDS = 600.0
"""How long a payment counts as under way after its last event that announces another event."""

_QUICKEST_SECONDS = 90.0
"""How long after a payment's last event polls are fastest; then polls become less frequent."""

REVIEW_READS = 100
"""Plan again after so many reads, so that a burst of payments cannot use up the other reads."""

RETRIED_SECONDS = 3_600.0
"""After a failure within this time from the payment's creation, the customer likely tries again."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One event of a payment, with the values that the planner needs.

    Attributes:
        intent_id: ``pi_…``.
        state: the reported state; None for ``payment_intent.created``.
        at: when the event was created, by Stripe's clock, Unix seconds.
        created: when the payment intent was created, by Stripe's clock; None if unknown.
        new: False for an event that an earlier poll has found already.
    """

    intent_id: str
    state: PaymentState | None
    at: int
    created: int | None = None
    new: bool = True

    @property
    def announces(self) -> bool:
        """Whether another event of this payment is likely within minutes."""
        if self.state is PaymentState.PAYMENT_FAILED:
            return self.created is not None and self.at - self.created <= RETRIED_SECONDS
        return self.state in (None, PaymentState.REQUIRES_ACTION)


@dataclass(slots=True)
class PollPlanner:
    """Decides when to poll next. The caller stores what the planner learns (`learnt`).

    Attributes:
        learnt: what is known about the tenant's payments.
        window: how Stripe's reads are counted.
        ration: how many reads are allowed; the caller replaces it when it changes.
        review_seconds: how often to plan again.
    """

    learnt: Learnt
    window: Window
    ration: Ration
    review_seconds: float = 3_600.0
    plan: Plan = field(init=False)
    leeway: Leeway = field(init=False, default_factory=Leeway)
    _under_way: dict[str, float] = field(init=False, default_factory=dict)
    _ended: dict[str, int] = field(init=False, default_factory=dict)
    _reviewed_at: float | None = field(init=False, default=None)
    _reads: int = field(init=False, default=0)
    _aged_at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.plan = self._plan()

    def _plan(self) -> Plan:
        return plan_polls(self.learnt, self.ration.sustained(self.learnt.at))

    def under_way(self, monotonic: float) -> float | None:
        """Seconds since a payment last announced that it is under way; None without such a payment."""
        ended = [one for one, at in self._under_way.items() if monotonic - at >= UNDER_WAY_SECONDS]
        for intent_id in ended:
            del self._under_way[intent_id]
        latest = max(self._under_way.values(), default=None)
        return None if latest is None else max(0.0, monotonic - latest)

    def take(self, signs: Iterable[Sign], clock: float, now: float, monotonic: float) -> None:
        """Learn from the events that a poll found.

        Args:
            signs: the events, in any order; after a restart, the events of the last minutes again.
            clock: Stripe's clock, Unix seconds.
            now: the local clock, Unix seconds.
            monotonic: the local monotonic clock, seconds.
        """
        self.age(now, monotonic)
        for sign in sorted(signs, key=lambda sign: (sign.at, not sign.announces)):
            announced = sign.intent_id in self._under_way
            if sign.new and not announced:
                self._arrived(sign)
            ended = self._ended.get(sign.intent_id)
            if not sign.announces:
                self._ended[sign.intent_id] = max(sign.at, ended or 0)
                self._under_way.pop(sign.intent_id, None)
                continue
            passed = max(0.0, clock - sign.at)
            if passed < UNDER_WAY_SECONDS and (ended is None or ended < sign.at):
                self._under_way[sign.intent_id] = monotonic - passed
        self._ended = {
            one: at for one, at in self._ended.items() if clock - at <= UNDER_WAY_SECONDS
        }

    def _arrived(self, sign: Sign) -> None:
        hour = hour_of_week(sign.at)
        arrivals = list(self.learnt.arrivals)
        arrivals[hour] += 1
        self.learnt = replace(self.learnt, arrivals=tuple(arrivals))

    def age(self, now: float, monotonic: float) -> None:
        """Let the learned observations fade up to `now`."""
        quick = 0.0
        latest = max(self._under_way.values(), default=None)
        if latest is not None and self._aged_at is not None:
            begun = min(self._aged_at, monotonic)
            quick = _quick_until(monotonic - latest) - _quick_until(begun - latest)
        self.learnt = self.learnt.aged(now, quick)
        self._aged_at = monotonic

    @property
    def longest_seconds(self) -> float:
        """The longest time between two polls in the present plan, in seconds."""
        return 1 / self.rate(min(self.plan.rates))

    @property
    def scarce(self) -> bool:
        """Whether the remaining reads do not suffice for polls at the fixed interval."""
        return self.leeway.base_seconds > 1.05 * INTERVAL_SECONDS

    def read(self, number: int) -> None:
        """Count reads since the last review."""
        self._reads += number

    def is_due(self, now: float) -> bool:
        """Whether to plan again."""
        if self._reviewed_at is None or self._reads >= REVIEW_READS:
            return True
        return not 0 <= now - self._reviewed_at < self.review_seconds

    def review(self, counts: Mapping[int, int], now: float) -> None:
        """Plan again, if that is due.

        Args:
            counts: the reads of all processes, by bucket.
            now: Unix seconds.
        """
        if not self.is_due(now):
            return
        self.plan = self._plan()
        self.leeway = leeway(self.plan, self.window, self.ration, counts, now)
        self._reviewed_at, self._reads = now, 0

    def spacing_seconds(self, now: float, monotonic: float) -> float:
        """The time between two polls at `now`, in seconds."""
        rate = self.plan.rates[hour_of_week(now)]
        passed = self.under_way(monotonic)
        if passed is not None:
            slower = max(1.0, passed / _QUICKEST_SECONDS)
            rate = max(rate, self.plan.quick_rate / slower)
        return max(QUICK_SECONDS, 1 / self.rate(rate))

    def rate(self, planned: float) -> float:
        """Polls per second for a planned rate, as far as the remaining reads suffice."""
        extra = max(0.0, planned - self.plan.base)
        return 1 / self.leeway.base_seconds + self.leeway.factor * extra


def _quick_until(passed: float) -> float:
    """How many polls the fast phase after a payment's last event contains, up to so many seconds."""
    passed = min(max(0.0, passed), UNDER_WAY_SECONDS)
    if passed <= _QUICKEST_SECONDS:
        return passed
    return _QUICKEST_SECONDS * (1 + log(passed / _QUICKEST_SECONDS))
