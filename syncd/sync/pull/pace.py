"""Decides when to poll next: at a fixed interval, or as the planner decides.

Does not belong here: the planner's rules (`core.rules.pacing`).
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from syncd.clients.stripe.parse import SeenEvent
from syncd.clients.throttle import RateLimiter
from syncd.core.errors import Side
from syncd.core.rules.poll_planner import PollPlanner, Sign
from syncd.core.windows import poll_spacing_seconds
from syncd.monitor.polls import planner_of, ration_of
from syncd.monitor.report import Report
from syncd.store.coordination import POLLS_LEARNT
from syncd.store.store import Store

REMEMBER_SECONDS = 600.0
"""The minimum time between two writes of the planner's data to the database."""


class Pace(Protocol):
    """Decides when to poll next."""

    @property
    def planned(self) -> bool:
        """Whether the planner decides."""

    @property
    def spread(self) -> bool:
        """Whether polls are less frequent than configured or planned."""

    @property
    def longest_seconds(self) -> float:
        """The longest time between two polls that is configured or planned now, in seconds."""

    def too_early(self, now: float, last: float) -> bool:
        """Whether a poll must wait; the last one began at `last`. Both times are Unix seconds."""

    def report_spread(self, report: Report) -> None:
        """Log that polls have become less frequent than configured, or that they are normal again."""

    def remember(self) -> None:
        """Store what the planner has learned, if that is due."""


@dataclass(slots=True)
class FixedPace:
    """Polls at a fixed interval, and less often if Stripe's reads run low.

    Attributes:
        interval_seconds: the configured interval.
        limiter: the rate limiter of Stripe.
    """

    interval_seconds: int
    store: Store
    limiter: RateLimiter
    planned: bool = field(init=False, default=False)
    _spacing: float = field(init=False, default=0.0)

    @property
    def spread(self) -> bool:
        """Whether polls were less frequent than configured when `too_early` was last called."""
        return self._spacing > self.interval_seconds

    @property
    def longest_seconds(self) -> float:
        """The configured interval, in seconds."""
        return self.interval_seconds

    def too_early(self, now: float, last: float) -> bool:
        """Whether a poll must wait, so that the reads never run out."""
        counts = self.store.coordination.counts(Side.STRIPE)
        # As of the last poll: a spacing that is computed again and again would become shorter.
        at = last if 0 <= now - last < self.limiter.window.period_seconds else now
        self._spacing = poll_spacing_seconds(self.limiter.window, counts, at, self.interval_seconds)
        return self.spread and 0 <= now - last < self._spacing

    def report_spread(self, report: Report) -> None:
        """Log that polls have become less frequent than configured, or that they are normal again."""
        if not self.spread:
            report.log("info", "polls_at_interval", every_seconds=self.interval_seconds)
            return
        report.log(
            "warning",
            "polls_spread",
            every_seconds=round(self._spacing),
            text="More than half of stripe.read_budget is used. syncd polls less often, so that "
            "the rest lasts. Nothing is lost, but payments reach Halo later. A longer "
            "poll.interval needs fewer reads.",
        )

    def remember(self) -> None:
        """No-op: a fixed interval learns nothing."""


@dataclass(slots=True)
class PollPace:
    """Decides when to poll next, and learns from the events that polls find.

    Attributes:
        read_budget: `stripe.read_budget`, a number or "auto".
        limiter: the rate limiter of Stripe; its limit follows the budget.
        limit_share: the share of Stripe's limit (0 to 1) that this process may use.
        now: Unix seconds.
        monotonic: seconds of a clock that is never set.
    """

    store: Store
    read_budget: int | str
    limiter: RateLimiter
    limit_share: float
    now: Callable[[], float]
    monotonic: Callable[[], float]
    planned: bool = field(init=False, default=True)
    planner: PollPlanner = field(init=False)
    _written_at: float | None = field(init=False, default=None)
    _unwritten: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.planner = planner_of(self.read_budget, self.store, self.now())
        self._review()

    def take(self, events: Iterable[SeenEvent], new: Collection[str], clock: int | None) -> None:
        """Learn from the events of one page.

        Args:
            events: the page's events.
            new: the ids of the events that no earlier poll has found.
            clock: Stripe's clock, Unix seconds; None if the answer had no date.
        """
        signs = [sign for event in events if (sign := _sign_of(event, new)) is not None]
        now = self.now()
        self.planner.read(1)
        self.planner.take(signs, now if clock is None else clock, now, self.monotonic())
        self._unwritten = self._unwritten or any(sign.new for sign in signs)

    def spacing_seconds(self) -> float:
        """The time between two polls now, in seconds."""
        now = self.now()
        self.planner.age(now, self.monotonic())
        self._review()
        return self.planner.spacing_seconds(now, self.monotonic())

    @property
    def longest_seconds(self) -> float:
        """The longest time between two polls that is planned now, in seconds."""
        return self.planner.longest_seconds

    @property
    def spread(self) -> bool:
        """Whether polls are less frequent than the fixed interval, because Stripe's reads run low."""
        return self.planner.scarce

    def too_early(self, now: float, last: float) -> bool:
        """Whether a poll must wait."""
        return 0 <= now - last < self.spacing_seconds()

    def report_spread(self, report: Report) -> None:
        """Log that polls have become less frequent than planned, or that they are normal again."""
        if not self.spread:
            report.log("info", "polls_at_interval", every_seconds=round(self.spacing_seconds()))
            return
        report.log(
            "warning",
            "polls_spread",
            every_seconds=round(self.longest_seconds),
            text="Most of stripe.read_budget is used. syncd polls less often than every 5 "
            "minutes, so that the rest lasts. Nothing is lost, but payments reach Halo "
            "later. A large backfill or audit is a normal cause: then nothing need be done.",
        )

    def remember(self) -> None:
        """Store what the planner has learned, if it has changed and the last time was a while ago."""
        since = None if self._written_at is None else self.monotonic() - self._written_at
        if not self._unwritten or (since is not None and since < REMEMBER_SECONDS):
            return
        self.store.write(POLLS_LEARNT, self.planner.learnt)
        self._written_at, self._unwritten = self.monotonic(), False

    def _review(self) -> None:
        now = self.now()
        if not self.planner.is_due(now):
            return
        self.planner.ration = ration_of(self.read_budget, self.store, now)
        self.planner.review(self.store.coordination.counts(Side.STRIPE), now)
        allowed = max(1, int(self.planner.ration.ceiling(now) * self.limit_share))
        if allowed != self.limiter.window.limit:
            self.limiter.window = self.limiter.window.with_limit(allowed)


def _sign_of(event: SeenEvent, new: Collection[str]) -> Sign | None:
    """What an event means for the planner; None for an event without meaning."""
    if event.new_intent is not None:
        return Sign(event.new_intent, None, event.at, event.at, event.id in new)
    seen = event.observation
    if seen is None:
        return None
    return Sign(seen.intent_id, seen.state, event.at, seen.created, event.id in new)
