"""Plans how often to poll Stripe, so that a limited number of reads makes payments visible soonest.

The planner polls at least every INTERVAL_SECONDS, like a fixed interval. Reads that Stripe allows
beyond that (the extra reads) make polls fast while a payment is under way, and frequent in the
hours of the week in which payments usually come. Extra reads are made only as long as the fixed
interval still fits into the remaining reads. So no payment waits longer than with a fixed interval.

The rule for the hours: the average wait is shortest if the polls per second grow with the square
root of the payments per second.

Pure: no clock, no randomness, no I/O. Times are Unix seconds, unless a docstring says monotonic.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import sqrt

from syncd.core.windows import Window, poll_spacing_seconds

HOURS = 168
"""Hours in a week; hour 0 begins on Monday at 00:00 UTC."""

QUICK_SECONDS = 3.0
"""The shortest time between two polls."""

INTERVAL_SECONDS = 300.0
"""The fixed interval; the planner never polls less often as long as the reads last."""

SCARCE_SECONDS = 600.0
"""The longest time between polls if the ration follows the payments and payments stop."""

EXTRA_SHARE = 0.85
"""The share of the extra reads that is planned; the rest is for sweeps and re-reads."""

QUICK_SHARE = 0.5
"""Up to this share of the extra reads, polls are as fast as possible while a payment is under way."""

GUARDED_SHARE, FIXED_SHARE = 0.975, 0.98
"""Extra reads use at most the first share of the allowed reads; polls plan with the second."""

READS_PER_TRANSACTION, READS_MIN = 500, 10_000
"""Stripe allows 500 reads for each transaction of the last 30 days, and never fewer than 10,000."""

_DAY = 86_400.0
MONTH_SECONDS = 30 * _DAY
_HALF_LIFE_SECONDS = 90 * _DAY
_AGED_SECONDS_MAX = _DAY
_FLOOR = 0.02
_NEIGHBOURS = ((-2, 1 / 9), (-1, 2 / 9), (0, 3 / 9), (1, 2 / 9), (2, 1 / 9))
_SMOOTHING = 1.0
_PRIOR_SECONDS, _PRIOR_QUICK_SECONDS = 10 * _DAY, 864.0
_WEEK = 7 * _DAY
_SUSTAINED_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Ration:
    """How many reads Stripe allows in 30 days.

    Attributes:
        budget: a fixed number (`stripe.read_budget`); None if it follows from the transactions.
        transactions: how many payments succeeded, by the time (Unix seconds) from which they count.
    """

    budget: int | None = None
    transactions: Mapping[int, int] = field(default_factory=dict)
    _starts: tuple[int, ...] = field(init=False, repr=False)
    _sums: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts = sorted(self.transactions)
        sums = accumulate((self.transactions[start] for start in starts), initial=0)
        object.__setattr__(self, "_starts", tuple(starts))
        object.__setattr__(self, "_sums", tuple(sums))

    def allowed(self, now: float) -> int:
        """The reads that are allowed in the 30 days before `now`."""
        return self._allowance(self._counting(now))

    def ceiling(self, now: float) -> int:
        """The upper limit of reads, computed from the transactions of 60 days.

        Transactions that came all at once also leave Stripe's window all at once. If polls stopped
        then, payments would wait for weeks; with this limit, polls only become less frequent.
        """
        return self._allowance(self._counting(now, 2 * MONTH_SECONDS))

    def known(self, at: float) -> int:
        """The reads allowed at a later time if no further transaction comes."""
        return self.budget or self._allowance(self._counting(at))

    def coming(self, now: float) -> float:
        """Transactions per second that are safe to plan with: the worst of the last four weeks.

        Payments that came all at once do not count as a lasting rate.
        """
        return min(self._counting(now - week * _WEEK, _WEEK) for week in range(4)) / _WEEK

    def sustained(self, now: float) -> int:
        """The reads in 30 days that polls can keep up while the ration follows the payments.

        If payments stop, READS_MIN must cover what was read since the last payments that count, and
        infrequent polls afterwards. Payments do not come evenly, so a part of the remaining reads
        is not planned.
        """
        allowed, coming = self.allowed(now), self.coming(now)
        if self.budget is not None or READS_PER_TRANSACTION * coming * MONTH_SECONDS <= READS_MIN:
            return min(allowed, self.expected(now + MONTH_SECONDS, coming * MONTH_SECONDS))
        since = READS_MIN / (READS_PER_TRANSACTION * coming)
        rare = (MONTH_SECONDS - since) / SCARCE_SECONDS
        left = GUARDED_SHARE * READS_MIN - rare - since / INTERVAL_SECONDS
        extra = _SUSTAINED_SHARE * left / since * MONTH_SECONDS
        return min(allowed, int(MONTH_SECONDS / INTERVAL_SECONDS + extra))

    def expected(self, at: float, coming: float) -> int:
        """The reads allowed at a later time.

        Args:
            at: Unix seconds.
            coming: how many transactions come until then.
        """
        return self.budget or self._allowance(self._counting(at) + coming)

    def _counting(self, at: float, seconds: float = MONTH_SECONDS) -> int:
        before, until = bisect_right(self._starts, at - seconds), bisect_right(self._starts, at)
        return self._sums[until] - self._sums[before]

    def _allowance(self, transactions: float) -> int:
        if self.budget is not None:
            return self.budget
        return max(READS_MIN, int(READS_PER_TRANSACTION * transactions))


def hour_of_week(at: float) -> int:
    """The hour of the week (UTC, 0 to 167) that a time lies in."""
    return int((at + 3 * _DAY) // 3_600) % HOURS  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the planner has learned about a tenant's payments; it fades with a half-life.

    Attributes:
        at: up to when the observations have faded, Unix seconds.
        arrivals: events that no other event announced, by hour of the week.
        observed_seconds: how long payments were observed.
        quick_seconds: for how long of that time polls were fast; slower polls count less.
    """

    at: float
    arrivals: tuple[float, ...] = (0.0,) * HOURS
    observed_seconds: float = 0.0
    quick_seconds: float = 0.0

    @property
    def valid(self) -> bool:
        """Whether a planner can have written this value; a damaged note is dropped."""
        values = (*self.arrivals, self.observed_seconds, self.quick_seconds)
        return len(self.arrivals) == HOURS and all(0 <= value < 1e12 for value in values)

    def aged(self, now: float, quick_seconds: float = 0.0) -> "Learnt":
        """Let the observations fade up to `now`, and add the seconds in which polls were fast.

        A step of more than a day counts as one day, and a step back counts as none: the service was
        stopped, or the clock was set. Neither reveals anything about payments.
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
        """The share of the time (0 to 1) in which polls are fast."""
        return min(
            1.0,
            (self.quick_seconds + _PRIOR_QUICK_SECONDS) / (self.observed_seconds + _PRIOR_SECONDS),
        )

    def hours(self) -> tuple[float, ...]:
        """The expected payments in each hour of the week, relative to the average (1 is average).

        If there are few payments, an hour is judged by its hour of the day and its day of the week.
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
        base: polls per second in every hour: the fixed interval, or less if the reads are scarce.
        rates: polls per second in each hour of the week without a payment under way; at least
            `base`.
        quick_rate: polls per second while a payment is under way; at least `base`.
        extra: how many extra reads are planned from the start of the week to the end of each hour.
    """

    base: float
    rates: tuple[float, ...]
    quick_rate: float
    extra: tuple[float, ...]

    @property
    def planned(self) -> int:
        """The reads that are planned for 30 days."""
        return round(self.base * MONTH_SECONDS + self.extra[-1] * 30 / 7)

    def extra_until(self, at: float) -> float:
        """The extra reads planned from 1969-12-29 to a time; only differences matter."""
        hours = (at + 3 * _DAY) / 3_600
        weeks, hour = divmod(int(hours), HOURS)
        before = self.extra[hour - 1] if hour else 0.0
        part = hours - int(hours)
        return weeks * self.extra[-1] + before + part * (self.extra[hour] - before)


def plan_polls(learnt: Learnt, limit: int) -> Plan:
    """Plan the polls of a week.

    Args:
        learnt: what is known about the tenant's payments.
        limit: reads allowed in 30 days.
    """
    allowed = GUARDED_SHARE * limit / MONTH_SECONDS
    base = min(1 / INTERVAL_SECONDS, allowed)
    extra = EXTRA_SHARE * (allowed - base)
    hours = learnt.hours()
    usual = learnt.quick_share
    shares = [min(1.0, usual * hour) for hour in hours]
    share = sum(shares) / HOURS
    fastest = max(base, 1 / QUICK_SECONDS)
    quick = min(fastest, base + QUICK_SHARE * extra / share)
    mean = base + extra - share * (quick - base)
    rates = _rates([sqrt(hour) for hour in hours], mean, base, fastest)
    return Plan(
        base=base,
        rates=tuple(rates),
        quick_rate=quick,
        extra=tuple(
            accumulate(
                3_600 * (rate - base + one * max(0.0, quick - rate))
                for rate, one in zip(rates, shares, strict=True)
            )
        ),
    )


def _rates(weights: Sequence[float], mean: float, slowest: float, fastest: float) -> list[float]:
    """Rates in proportion to `weights`, limited by two bounds; polls per second.

    Args:
        weights: one for each hour of the week.
        mean: the average of the rates.
        slowest: the lower bound of a rate.
        fastest: the upper bound of a rate.
    """
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


@dataclass(frozen=True, slots=True)
class Leeway:
    """How much of a plan fits into the remaining reads.

    Attributes:
        base_seconds: the time between two polls without extra reads.
        factor: the share (0 to 1) of the extra reads that may be made.
    """

    base_seconds: float = INTERVAL_SECONDS
    factor: float = 1.0


def leeway(
    plan: Plan, window: Window, ration: Ration, counts: Mapping[int, int], now: float
) -> Leeway:
    """Compute how much of a plan fits into the remaining reads.

    At every future moment, the reads made until then must fit beside the earlier reads that still
    count. The polls of the fixed interval come first; extra reads get the remainder.

    Args:
        plan: what is planned.
        window: how Stripe's reads are counted.
        ration: how many reads are allowed.
        counts: the reads of all processes, by bucket.
        now: Unix seconds.
    """
    a_second = ration.coming(now)

    def expected(at: float) -> int:
        return ration.expected(at, a_second * min(MONTH_SECONDS, at - now))

    moments = list(_moments(window, counts, now, expected))
    if ration.budget is not None:
        fixed = window.with_limit(ration.budget)
        base_seconds = poll_spacing_seconds(fixed, counts, now, INTERVAL_SECONDS, FIXED_SHARE)
        return Leeway(base_seconds, _factor(plan, moments, now, 1 / base_seconds))
    factor = _factor(plan, moments, now, plan.base)
    base = min([plan.base, *(one.left / one.seconds for one in moments)])
    # If payments stop, the ration shrinks. This many reads keep polls at the minimum frequency.
    scarce, spared = 1 / SCARCE_SECONDS, 1.0
    for one in _moments(window, counts, now, ration.known, window.bucket_seconds):
        seconds = min(one.seconds, _DAY)
        left = one.left - scarce * one.seconds
        more = (plan.base - scarce) * seconds
        extra = plan.extra_until(now + seconds) - plan.extra_until(now)
        factor = min(factor, max(0.0, left - more) / max(extra, 1.0))
        spared = min(spared, max(0.0, left) / max(more, 1.0))
    base = min(max(base, scarce), scarce + spared * (plan.base - scarce))
    return Leeway(1 / base, factor)


@dataclass(frozen=True, slots=True)
class _Moment:
    """How many reads are available in total from now until a moment, `seconds` from now."""

    seconds: float
    left: float


def _moments(
    window: Window,
    counts: Mapping[int, int],
    now: float,
    allowed: Callable[[float], float],
    apart_seconds: float = 6 * 3_600,
) -> Iterator[_Moment]:
    """The moments at which reads leave the window, some time apart, and the end of the window."""
    kept_seconds = window.bucket_seconds + window.period_seconds
    moved, oldest = window.rebased(counts, now), window.oldest(now)
    still = sum(number for start, number in moved.items() if start >= oldest)
    checked = 0.0
    for start, number in sorted(moved.items()):
        if start < oldest:
            continue
        if start >= checked + apart_seconds:
            checked, leaves = start, start + kept_seconds
            yield _Moment(leaves - now, GUARDED_SHARE * allowed(leaves) - still)
        still -= number
    end = now + kept_seconds
    yield _Moment(kept_seconds, GUARDED_SHARE * allowed(end))


def _factor(plan: Plan, moments: Iterable[_Moment], now: float, base: float) -> float:
    """The share (0 to 1) of the extra reads that fits beside `base` polls per second."""
    begun, factor = plan.extra_until(now), 1.0
    for one in moments:
        extra = plan.extra_until(now + one.seconds) - begun
        factor = min(factor, max(0.0, one.left - base * one.seconds) / max(extra, 1.0))
    return factor
