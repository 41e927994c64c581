"""A year of payments: how long a payment waits for the poll that finds it, and how many reads that takes.

The planner and the window are the real ones (`syncd.core`). Simulated are the payments, the clock, and a
Stripe that shows each event at once; a poll takes one read. Polls in which nothing happens are counted
without being carried out one by one, which makes a year affordable.
"""

import math
import random
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from syncd.clients.throttle import stripe_window
from syncd.core.payments import PaymentState
from syncd.core.rules.pacing import GUARDED_SHARE, Learnt, Ration
from syncd.core.rules.poll_planner import PollPlanner, Sign

DAY, HOUR = 86_400.0, 3_600.0
START = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""

SWEEP_READS = 4
"""Reads of a sweep and of the daily count of undelivered events."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a payment; `final` where it is the one that people wait for."""

    at: float
    intent_id: str
    state: PaymentState | None
    created: float
    final: bool = False


@dataclass(frozen=True, slots=True)
class Business:
    """When payments come.

    Attributes:
        payments: how many a month.
        weight: how much more often than at other times payments come at a time.
        announced: whether `payment_intent.created` comes before the customer pays.
        form_seconds: how long it takes from opening the form of a card to the answer, at the median. By default
            so long that 95 % have an answer within ten minutes, the time for which a payment counts as under way.
    """

    payments: int
    weight: Callable[[float], float]
    announced: bool = True
    form_seconds: float = 161.0


def office(at: float) -> float:
    """82 % of the payments on weekdays from 8 to 18 o'clock."""
    hour, weekday = at % DAY / HOUR, int(at // DAY + 3) % 7
    return 0.82 / 50 if weekday < 5 and 8 <= hour < 18 else 0.18 / 118


def nights(at: float) -> float:
    """All between 22 and 5 o'clock."""
    hour = at % DAY / HOUR
    return 1.0 if hour >= 22 or hour < 5 else 0.0


def month_end(at: float) -> float:
    """All in office hours of the last three days of each 30."""
    return office(at) if (at - START) % (30 * DAY) >= 27 * DAY else 0.0


def with_silence(at: float) -> float:
    """None for six weeks, then six weeks as usual."""
    return 0.0 if (at - START) // (42 * DAY) % 2 else office(at)


def even(_at: float) -> float:
    """As likely at any time."""
    return 1.0


def payments(business: Business, days: int, seed: int) -> list[Event]:
    """The events of all payments, in order.

    70 % are cards: some fail first or ask for 3-D Secure. 30 % are bank debits, which settle three to five days later, in the hours of payments.
    Of six forms that are opened, one is left without paying.
    """
    chance = random.Random(seed)  # noqa: S311  # not for secrets
    top = max(business.weight(START + hour * HOUR) for hour in range(days * 24))
    mean = sum(business.weight(START + hour * HOUR) for hour in range(days * 24)) / (days * 24)
    rate = business.payments / (30 * DAY) * 1.2
    found: list[Event] = []
    at, number = START, 0
    while True:
        at += chance.expovariate(rate * top / mean)
        if at >= START + days * DAY:
            break
        if chance.random() * top > business.weight(at):
            continue
        number += 1
        found += _story(business, f"pi_{number}", at, chance)
    return sorted((one for one in found if one.at < START + days * DAY), key=lambda one: one.at)


def _story(business: Business, name: str, at: float, chance: random.Random) -> Iterator[Event]:
    if business.announced:
        yield Event(at, name, None, at)
    if chance.random() < 1 / 6:
        return
    paid = at + chance.lognormvariate(math.log(business.form_seconds), 0.8)
    if chance.random() < 0.3:
        yield Event(paid, name, PaymentState.PROCESSING, at)
        settled = paid + chance.uniform(3, 5) * DAY
        while chance.random() * 0.82 / 50 > business.weight(settled) and business.weight is office:
            settled += HOUR
        yield Event(settled, name, PaymentState.SUCCEEDED, at, final=True)
        return
    if chance.random() < 0.1:
        yield Event(paid, name, PaymentState.PAYMENT_FAILED, at)
        paid += chance.lognormvariate(math.log(90), 0.7)
    elif chance.random() < 0.3:
        yield Event(paid, name, PaymentState.REQUIRES_ACTION, at)
        paid += chance.lognormvariate(math.log(30), 0.5)
    yield Event(paid, name, PaymentState.SUCCEEDED, at, final=True)


@dataclass(slots=True)
class Waits:
    """What a year came to.

    Attributes:
        seconds: how long each payment waited for its poll, sorted.
        gaps: the time between the two polls around the end of each payment. A wait is as likely to be
            any part of it: so the gaps give the same waits without the chance of one simulation.
        reads: reads by hour.
        limit: the most reads in any 30 days, by the hour in which they were allowed.
    """

    seconds: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    reads: dict[int, int] = field(default_factory=dict)
    most: int = 0
    over: bool = False

    def share(self, share: float) -> float:
        """The wait that a share (0 to 1) of the payments does not exceed."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    @property
    def mean(self) -> float:
        """The average wait."""
        return sum(self.seconds) / len(self.seconds)

    @property
    def mean_expected(self) -> float:
        """The average wait, without the chance of one simulation."""
        return sum(self.gaps) / 2 / len(self.gaps)

    def share_expected(self, share: float) -> float:
        """As `share`, without the chance of one simulation."""
        low, high = 0.0, max(self.gaps)
        while high - low > 0.01:
            middle = (low + high) / 2
            ended = sum(min(1.0, middle / gap) for gap in self.gaps)
            low, high = (middle, high) if ended < share * len(self.gaps) else (low, middle)
        return high


class Pace:
    """How far apart polls are; one subclass for each strategy."""

    def spacing(self, _at: float) -> float:
        """Seconds to the next poll, while nothing changes."""
        raise NotImplementedError

    def found(self, _events: list[Event], _at: float) -> None:
        """A poll has found events."""

    def read(self, _number: int) -> None:
        """So many reads were made."""

    def changes_at(self, at: float) -> float:
        """Until when the spacing stays."""
        return (at // HOUR + 1) * HOUR


@dataclass(slots=True)
class Fixed(Pace):
    """A fixed interval."""

    seconds: float

    def spacing(self, _at: float) -> float:
        """The interval."""
        return self.seconds


@dataclass(slots=True)
class Auto(Pace):
    """The real planner.

    Attributes:
        waits: where reads are counted.
        quick: whether polls are quick while a payment is under way.
        budget: a fixed number of reads; None where it follows from the payments.
        transactions: how many payments succeeded, by hour.
        review_seconds: how often the planner plans again; the service does it every hour.
    """

    waits: Waits
    quick: bool = True
    budget: int | None = None
    transactions: dict[int, int] = field(default_factory=dict)
    review_seconds: float = 3 * HOUR
    planner: PollPlanner = field(init=False)

    def __post_init__(self) -> None:
        self.planner = PollPlanner(Learnt(START), stripe_window(0), Ration(), self.review_seconds)

    def spacing(self, at: float) -> float:
        """As the planner decides."""
        self.planner.age(at, at)
        if self.planner.is_due(at):
            self.planner.ration = Ration(self.budget, self.transactions)
        self.planner.review(self.waits.reads, at)
        return self.planner.spacing_seconds(at, at)

    def read(self, number: int) -> None:
        """Let the planner count."""
        self.planner.read(number)

    def found(self, events: list[Event], at: float) -> None:
        """Let the planner learn."""
        signs = [Sign(one.intent_id, one.state, int(one.at), int(one.created)) for one in events]
        if not self.quick:
            signs = [one for one in signs if one.state is not None and one.state.final]
        self.planner.take(signs, at, at, at)
        for one in events:
            if one.final:
                hour = int(one.at // HOUR) * int(HOUR)
                self.transactions[hour] = self.transactions.get(hour, 0) + 1
        for hour in [one for one in self.transactions if one < at - 61 * DAY]:
            del self.transactions[hour]

    def changes_at(self, at: float) -> float:
        """To the end of the hour; for some seconds while a payment is under way."""
        hour = (at // HOUR + 1) * HOUR
        return hour if self.planner.under_way(at) is None else min(hour, at + 15)


def simulate(
    events: list[Event], pace: Pace, waits: Waits, days: int, limit: Callable[[float], int]
) -> Waits:
    """Poll for some days at a pace."""
    times = [event.at for event in events]
    at, taken, end = START, 0, START + days * DAY
    last = START - 1
    in_window, oldest, swept = 0, int(START // HOUR), START

    def read(number: int) -> None:
        nonlocal in_window
        hour = int(at // HOUR) * int(HOUR)
        waits.reads[hour] = waits.reads.get(hour, 0) + number
        in_window += number
        pace.read(number)

    while at < end:
        while oldest * HOUR < at - 30 * DAY - HOUR:
            in_window -= waits.reads.pop(int(oldest * HOUR), 0)
            oldest += 1
        spacing = pace.spacing(at)
        change = min(pace.changes_at(at), end)
        if last + spacing > at + 1e-6:  # wait for the next poll, or for what changes the pace
            at = min(last + spacing, change)
            if at < last + spacing - 1e-6:
                continue
        read(1)
        gap = min(at - last, DAY)
        last = at
        until = bisect_right(times, at)
        if until > taken:
            found = events[taken:until]
            taken = until
            waits.seconds += [at - event.at for event in found if event.final]
            waits.gaps += [gap for event in found if event.final]
            pace.found(found, at)
        elif change > at:
            # Nothing happens before the next event: those polls are only counted.
            quiet = min(change, times[taken] if taken < len(times) else end)
            polls = int((quiet - at) / spacing - 1e-6)
            if polls > 0:
                read(polls)
                last = at = at + polls * spacing
        if at - swept >= DAY:
            swept = at
            read(SWEEP_READS)
        waits.most = max(waits.most, in_window)
        waits.over |= in_window > limit(at)
    waits.seconds.sort()
    return waits


def budget_of(events: list[Event]) -> Callable[[float], int]:
    """The reads that Stripe allows at a time: by the payments that succeeded in 30 days."""
    times = [event.at for event in events if event.final]
    return lambda at: max(
        10_000, 500 * (bisect_right(times, at) - bisect_right(times, at - 30 * DAY))
    )


STRATEGIES = ("fixed 5m", "fixed, fills the ration", "learnt hours", "learnt + quick")


def strategy(name: str, events: list[Event], days: int) -> Waits:
    """A year of one of the STRATEGIES."""
    budget, waits = budget_of(events), Waits()
    if name == "fixed 5m":
        pace: Pace = Fixed(300)
    elif name == "fixed, fills the ration":
        allowed = [budget(START + day * DAY) for day in range(45, days)]
        pace = Fixed(max(3.0, 30 * DAY / (GUARDED_SHARE * (sum(allowed) / len(allowed)))))
    else:
        pace = Auto(waits, quick=name == "learnt + quick")
    return simulate(events, pace, waits, days, budget)


YEAR = 365
SEEDS = {20: (1, 2, 3, 4, 5), 100: (1, 2), 500: (1,)}
"""The simulated years, by payments a month: a year of 20 payments a month has few, so chance decides much."""

P50_MAX = {20: 25.0, 100: 6.0, 500: 5.0}
"""The longest allowed wait of half of the payments, by payments a month, seconds."""

SLOWER_FORMS, FASTER_FORMS = 320.0, 80.0
"""How the result for 20 payments a month depends on the time that customers take: twice, and half."""

HARD = {"all at month's end": month_end, "all at night": nights, "none for six weeks": with_silence}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result.

    Attributes:
        what: which tenant and which strategy.
        waits: what the years came to.
        p50_max: the longest allowed median, seconds; None where there is no limit.
        p95_max: the longest allowed wait of 95 %, without the chance of one simulation; None where there is no limit.
    """

    what: str
    waits: Waits
    p50_max: float | None = None
    p95_max: float | None = None

    @property
    def well(self) -> bool:
        """Whether the limits are kept, and the ration, where the planner follows it."""
        slow = self.p50_max is not None and self.waits.share(0.5) > self.p50_max
        late = self.p95_max is not None and self.waits.share_expected(0.95) > self.p95_max
        return not (slow or late or (self.waits.over and "fills" not in self.what))


def figures(days: int = YEAR, seeds: int = 5, *, whole: bool = True) -> Iterator[Figure]:
    """Each tenant with each strategy; then the hard cases, all with `stripe.read_budget = "auto"`.

    Args:
        days: how many days are simulated.
        seeds: how many times, at most.
        whole: False for the smallest tenant alone.
    """
    for number, p50_max in P50_MAX.items() if whole else [(20, P50_MAX[20])]:
        tenant = Business(number, office)
        for name in STRATEGIES:
            last = name == STRATEGIES[-1]
            waits = years(name, tenant, days, SEEDS[number][: seeds if last else 1])
            limits = (p50_max, FIXED_P95) if last else (None, None)
            yield Figure(f"{number} payments a month, {name}", waits, *limits)
    if not whole:
        return
    more = {f"20 a month, {what}": Business(20, weight) for what, weight in HARD.items()}
    more |= {f"100 a month, {what}": Business(100, weight) for what, weight in HARD.items()}
    more["20 a month, nothing announces payments"] = Business(20, office, announced=False)
    for seconds in (FASTER_FORMS, SLOWER_FORMS):
        what = f"20 a month, half of the forms take longer than {seconds:.0f} s"
        more[what] = Business(20, office, form_seconds=seconds)
    for what, tenant in more.items():
        late = FIXED_P95 if tenant.payments == 20 or "six weeks" not in what else None
        yield Figure(what, years(STRATEGIES[-1], tenant, days, (1,)), FIXED_P50, late)


FIXED_P50, FIXED_P95 = 150.0, 285.1
"""What payments wait with polls every five minutes, seconds."""


def years(name: str, business: Business, days: int, seeds: Sequence[int]) -> Waits:
    """The waits of several simulations together."""
    waits = Waits()
    for seed in seeds:
        one = strategy(name, payments(business, days, seed), days)
        waits.seconds += one.seconds
        waits.gaps += one.gaps
        waits.most = max(waits.most, one.most)
        waits.over |= one.over
    waits.seconds.sort()
    return waits


def main() -> None:
    """Print the table; end with 1 where a limit is exceeded."""
    failed = False
    print("| | p50 | p95 | mean | most reads in 30 days | |\n|---|---|---|---|---|---|")
    for figure in figures():
        waits, failed = figure.waits, failed or not figure.well
        mark = "" if figure.well and not waits.over else "over the ration" if waits.over else "OVER"
        print(
            f"| {figure.what} | {waits.share(0.5):.0f} s | {waits.share(0.95):.0f} s | "
            f"{waits.mean:.0f} s | {waits.most:,} | {mark} |",
            flush=True,
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
