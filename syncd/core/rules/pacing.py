"""Plans how often to poll Stripe, so that a limited number of reads makes payments visible soonest.

The planner learns in which hours of the week payments come, and polls more often then. While a
payment is under way, it polls every few seconds. It spends `PLANNED_SHARE` of the reads that Stripe
allows in 30 days, and slows down before the reads run out.

The rule: the average wait is shortest where polls per second grow with the square root of the payments
per second. One factor for all hours then makes the planned reads come to the budget.

Pure: no clock, no randomness, no I/O. Times are Unix seconds, except where a docstring says monotonic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import sqrt

from syncd.core.windows import Window

HOURS = 168
"""Hours of a week; number 0 begins on Monday at 00:00 UTC."""

QUICK_SECONDS = 3.0
"""The shortest time between two polls."""

SPACING_SECONDS_MAX = 900.0
"""The longest planned time between two polls; a small or used-up budget can make it longer."""

PLANNED_SHARE = 0.85
"""How much of the allowed reads polls plan with; the rest is for sweeps, re-reads and backfills."""

QUICK_SHARE = 0.2
"""Up to this share of the planned reads, polls are as quick as possible while a payment is under way."""

GUARDED_SHARE = 0.95
"""Above this share of the allowed reads, polls slow down until the window frees some."""

READS_PER_TRANSACTION, READS_MIN = 500, 10_000
"""Stripe allows 500 reads for each transaction of the last 30 days, and never fewer than 10,000."""

_DAY = 86_400.0
MONTH_SECONDS = 30 * _DAY
_HALF_LIFE_SECONDS = 90 * _DAY
_AGED_SECONDS_MAX = _DAY
_FLOOR = 0.1
_NEIGHBOURS = ((-2, 1 / 9), (-1, 2 / 9), (0, 3 / 9), (1, 2 / 9), (2, 1 / 9))
_SMOOTHING = 4.0
_PRIOR_SECONDS, _PRIOR_QUICK_SECONDS = 10 * _DAY, 864.0
TRUST_STEP = 0.04
_TRUSTED_RATIO, _DISTRUSTED_RATIO = 0.95, 1.03
_HORIZON_SECONDS = 12 * 3_600


@dataclass(frozen=True, slots=True)
class Ration:
    """How many reads Stripe allows in 30 days.

    Attributes:
        budget: a fixed number (`stripe.read_budget`); None where it follows from the transactions.
        transactions: how many payments succeeded, by day (Unix seconds of its begin).
    """

    budget: int | None = None
    transactions: Mapping[int, int] = field(default_factory=dict)

    def allowed(self, now: float) -> int:
        """The reads that are allowed in the 30 days before `now`."""
        return self._allowance(self._counting(now))

    def ceiling(self, now: float) -> int:
        """The reads above which none is sent: by the transactions of 60 days.

        Transactions leave Stripe's window at once where they came at once. Polls that stopped then would
        make payments wait for weeks, so they only slow down.
        """
        return self._allowance(self._counting(now, 2 * MONTH_SECONDS))

    def expected(self, now: float, at: float) -> int:
        """The reads that will at least be allowed at a later time, by what is known at `now`.

        Transactions leave Stripe's window. New ones are expected as they came in the last 30 days, less
        one standard deviation (the square root of their number).
        """
        coming = self._counting(now) * min(1.0, max(0.0, at - now) / MONTH_SECONDS)
        return self._allowance(self._counting(at) + max(0.0, coming - sqrt(coming)))

    def _counting(self, at: float, seconds: float = MONTH_SECONDS) -> int:
        return sum(number for day, number in self.transactions.items() if day > at - seconds)

    def _allowance(self, transactions: float) -> int:
        if self.budget is not None:
            return self.budget
        return max(READS_MIN, int(READS_PER_TRANSACTION * transactions))


def hour_of_week(at: float) -> int:
    """The hour of the week (UTC, 0 to 167) that a time lies in."""
    return int((at + 3 * _DAY) // 3_600) % HOURS  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the planner has learnt of a tenant's payments. Old observations fade with a half-life.

    Attributes:
        at: up to when it is aged.
        arrivals: events that no other event announced, by hour of the week.
        observed_seconds: how long was observed.
        quick_seconds: for how long of that polls were quick; slower ones count for less.
        ratio: how long the learnt hours made the last arrivals wait, compared with polls at even
            intervals: below 1 the learnt hours are better.
    """

    at: float
    arrivals: tuple[float, ...] = (0.0,) * HOURS
    observed_seconds: float = 0.0
    quick_seconds: float = 0.0
    ratio: float = 1.0

    @property
    def valid(self) -> bool:
        """Whether this can be what a planner wrote; a damaged note is dropped."""
        values = (*self.arrivals, self.observed_seconds, self.quick_seconds)
        return (
            len(self.arrivals) == HOURS
            and all(0 <= value < 1e12 for value in values)
            and 0 < self.ratio < 1e3
        )

    def aged(self, now: float, quick_seconds: float = 0.0) -> "Learnt":
        """Let the observations fade up to `now`; polls were quick for some of that time.

        A step of more than a day counts as one day, and a step back as none: the service was stopped,
        or the clock was set. Neither shows anything about payments.
        """
        step = min(max(0.0, now - self.at), _AGED_SECONDS_MAX)
        keep = 0.5 ** (step / _HALF_LIFE_SECONDS)
        return replace(
            self,
            at=now,
            arrivals=tuple(number * keep for number in self.arrivals),
            observed_seconds=self.observed_seconds * keep + step,
            quick_seconds=self.quick_seconds * keep + min(step, quick_seconds),
        )

    @property
    def quick_share(self) -> float:
        """For which share of the time polls are quick."""
        return min(
            1.0,
            (self.quick_seconds + _PRIOR_QUICK_SECONDS) / (self.observed_seconds + _PRIOR_SECONDS),
        )

    def hours(self) -> tuple[float, ...]:
        """How much more or less than on average is expected in each hour of the week; 1 is average.

        With few payments, an hour is judged by its hour of the day and its day of the week.
        """
        total = sum(self.arrivals)
        by_hour = [sum(self.arrivals[hour::24]) for hour in range(24)]
        by_day = [sum(self.arrivals[24 * day : 24 * day + 24]) for day in range(7)]
        hour_factor = [
            24
            * (sum(part * by_hour[(i + off) % 24] for off, part in _NEIGHBOURS) + 0.25)
            / (total + 6)
            for i in range(24)
        ]
        day_factor = [7 * (number + 1) / (total + 7) for number in by_day]
        mean = total / HOURS
        found = [
            (number + _SMOOTHING * hour_factor[index % 24] * day_factor[index // 24])
            / (mean + _SMOOTHING)
            for index, number in enumerate(self.arrivals)
        ]
        return tuple(_FLOOR + (1 - _FLOOR) * value for value in found)


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to poll.

    Attributes:
        limit: reads allowed in 30 days.
        rates: polls a second in each hour of the week, while no payment is under way.
        quick_rate: polls a second while a payment is under way.
        reads: how many reads are planned from the begin of the week to the end of each hour.
        learnt_ratio: by hour of the week, the wait with learnt hours compared with even intervals.
    """

    limit: int
    rates: tuple[float, ...]
    quick_rate: float
    reads: tuple[float, ...]
    learnt_ratio: tuple[float, ...]

    @property
    def planned(self) -> int:
        """Reads that are planned for 30 days."""
        return round(self.reads[-1] * 30 / 7)

    def reads_until(self, at: float) -> float:
        """How many reads are planned from 1969-12-29 to a time: differences of two count."""
        hours = (at + 3 * _DAY) / 3_600
        weeks, hour = divmod(int(hours), HOURS)
        before = self.reads[hour - 1] if hour else 0.0
        part = hours - int(hours)
        return weeks * self.reads[-1] + before + part * (self.reads[hour] - before)

    @property
    def quick_seconds(self) -> float:
        """Seconds between two polls while a payment is under way."""
        return 1 / self.quick_rate

    @property
    def longest_seconds(self) -> float:
        """The longest planned time between two polls."""
        return 1 / min(self.rates)


def plan_polls(learnt: Learnt, limit: int, period_seconds: float) -> Plan:
    """Plan the polls of a week.

    Args:
        learnt: what is known of the tenant's payments.
        limit: reads allowed in `period_seconds`.
        period_seconds: the length of Stripe's window.
    """
    even = PLANNED_SHARE * limit / period_seconds
    hours = learnt.hours()
    learnt_rates = _rates([sqrt(hour) for hour in hours], even)
    trust = (_DISTRUSTED_RATIO - learnt.ratio) / (_DISTRUSTED_RATIO - _TRUSTED_RATIO)
    trust = min(1.0, max(0.0, trust))
    expected = [trust * hour + 1 - trust for hour in hours]
    shares = [min(1.0, learnt.quick_share * hour) for hour in expected]
    share = sum(shares) / HOURS
    quick = min(1 / QUICK_SECONDS, QUICK_SHARE * even / share if share > 0 else 1.0)
    rates = _rates([sqrt(hour) for hour in expected], even - share * quick)
    return Plan(
        limit=limit,
        rates=tuple(rates),
        quick_rate=quick,
        reads=tuple(
            accumulate(
                3_600 * (rate + one * max(0.0, quick - rate))
                for rate, one in zip(rates, shares, strict=True)
            )
        ),
        learnt_ratio=tuple(even / rate for rate in learnt_rates),
    )


def _rates(weights: Sequence[float], mean: float) -> list[float]:
    """Rates in proportion to `weights`, within the shortest and the longest spacing.

    Args:
        weights: one for each hour of the week.
        mean: the average of the rates, polls a second.
    """
    fastest = 1 / QUICK_SECONDS
    slowest = min(fastest, max(1 / SPACING_SECONDS_MAX, mean / 4), mean / 2)
    left = min(mean, fastest) * len(weights)
    rates = [slowest] * len(weights)
    free = set(range(len(weights)))
    while free:
        factor = left / max(sum(weights[i] for i in free), 1e-12)
        high = [i for i in free if factor * weights[i] >= fastest]
        low = [i for i in free if factor * weights[i] <= slowest]
        over = sum(factor * weights[i] - fastest for i in high)
        under = sum(slowest - factor * weights[i] for i in low)
        fixed, rate = (high, fastest) if over >= under else (low, slowest)
        if not fixed:
            for i in free:
                rates[i] = factor * weights[i]
            break
        for i in fixed:
            rates[i] = rate
            left -= rate
            free.discard(i)
    return rates


def slow_down(
    plan: Plan, window: Window, ration: Ration, counts: Mapping[int, int], now: float
) -> float:
    """By which factor (0 to 1) polls must be slower than planned, so that the reads never run out.

    At each coming moment, the reads that are planned until then must fit beside those that still
    count then. Without this, polls would stop for weeks after a large backfill.

    Args:
        plan: what is planned.
        window: how Stripe's reads are counted.
        ration: how many are allowed.
        counts: the reads of all processes, by bucket.
        now: Unix seconds.
    """
    kept_seconds = window.bucket_seconds + window.period_seconds
    moved, oldest = window.rebased(counts, now), window.oldest(now)
    still = sum(number for start, number in moved.items() if start >= oldest)
    factor, begun, checked = 1.0, plan.reads_until(now), 0.0
    for start, number in sorted(moved.items()):
        if start < oldest:
            continue
        if start >= checked + _HORIZON_SECONDS:
            checked, leaves = start, start + kept_seconds
            left = GUARDED_SHARE * ration.expected(now, leaves) - still
            factor = min(factor, max(left, 1.0) / (plan.reads_until(leaves) - begun))
        still -= number
    if ration.budget is None:
        floor = PLANNED_SHARE * READS_MIN / 2 / max(plan.reads[-1] * 30 / 7, 1.0)
        factor = max(factor, min(1.0, floor))
    return factor
