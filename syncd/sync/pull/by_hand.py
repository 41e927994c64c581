"""How many reads a backfill or an audit may make beside the polls of the service.

Without a limit, a long run uses up the budget of 30 days, and then polls are hours apart for weeks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.clients.throttle import span_of
from syncd.core.errors import BudgetSpent, Side
from syncd.core.rules.pacing import INTERVAL_SECONDS, SCARCE_SECONDS, Ration
from syncd.core.windows import (
    Window,
    kept_spacing_seconds,
    reads_beside_polls,
    wait_beside_polls,
)
from syncd.monitor.polls import ration_of
from syncd.store.store import Store

LOOK_SECONDS = 60.0
"""For how long a look at the counted reads is used, in seconds."""


@dataclass(slots=True)
class ReadsBesidePolls:
    """Decides whether other work than polls may read from Stripe.

    Attributes:
        store: counts the reads of all processes.
        read_budget: `stripe.read_budget`, a number or "auto".
        interval_seconds: the fixed `poll.interval`; None for "auto".
        window: how Stripe's reads are counted.
        now: Unix seconds.
    """

    store: Store
    read_budget: int | str
    interval_seconds: int | None
    window: Window
    now: Callable[[], float]
    _left: int = field(init=False, default=0)
    _looked_at: float | None = field(init=False, default=None)

    def permit(self) -> None:
        """Count one read of this process.

        Raises:
            BudgetSpent: the reads that are left are kept for polls.
        """
        now = self.now()
        if (
            self._left <= 0
            or self._looked_at is None
            or not 0 <= now - self._looked_at < LOOK_SECONDS
        ):
            self._left, self._looked_at = self.left(), now
        if self._left <= 0:
            raise self._spent()
        self._left -= 1

    def left(self) -> int:
        """How many reads other work may make now; 0 or less if none."""
        now = self.now()
        ration = ration_of(self.read_budget, self.store, now)
        counts = self.store.coordination.counts(Side.STRIPE)
        return reads_beside_polls(self.window, counts, now, self._spacing(ration), ration.known)

    def _spacing(self, ration: Ration) -> float:
        """The time between polls that must remain possible, in seconds."""
        if ration.budget is None:  # the ration may shrink; the planner polls at least this often
            return max(SCARCE_SECONDS, self.interval_seconds or 0)
        window = self.window.with_limit(ration.budget)
        return kept_spacing_seconds(window, self.interval_seconds or INTERVAL_SECONDS)

    def _spent(self) -> BudgetSpent:
        now = self.now()
        ration = ration_of(self.read_budget, self.store, now)
        counts, spacing = self.store.coordination.counts(Side.STRIPE), self._spacing(ration)
        wait = wait_beside_polls(self.window, counts, now, spacing, ration.known)
        message = (
            "syncd keeps the rest of its reads (stripe.read_budget) for polls, so that they stay at most "
            f"{span_of(spacing)} apart. This run may read from Stripe again in {span_of(wait)}. A "
            "backfill that is started again within a day continues where it stopped. A list of fewer "
            "days needs fewer reads, and a longer poll.interval leaves more."
        )
        return BudgetSpent(Side.STRIPE, message, retry_after_seconds=wait)
