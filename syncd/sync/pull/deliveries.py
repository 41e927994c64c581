"""Counts Stripe's payment events that a webhook endpoint has not accepted, and stores the result.

Used by `syncd check`, `syncd calibrate`, and once a day by the service, for the page. Does not
belong
here: what the count means (`core.rules.deliveries`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from syncd.clients.paging import read_pages
from syncd.clients.stripe.source import StripeSource
from syncd.core.errors import Side
from syncd.core.rules.deliveries import EVENTS_DAYS, Undelivered, add
from syncd.store.coordination import UNDELIVERED
from syncd.store.store import Store

PAGES_MAX = 5
"""The maximum number of pages of 100 events: enough to see the extent, with few of Stripe's reads."""

DAY = 86_400


@dataclass(slots=True)
class Deliveries:
    """Reads which payment events were not delivered, with few requests."""

    source: StripeSource
    store: Store
    now: Callable[[], float]
    _tried: float = field(init=False, default=float("-inf"))

    async def read(self, *, keep: bool = True) -> Undelivered:
        """Count the events of the last 30 days that at least one webhook endpoint has not accepted.

        Args:
            keep: whether to store the result, for the page.

        Raises:
            CursorRefused, LinkFailure: the request failed.
        """
        self._tried = self.now()
        found, pages = Undelivered(int(self.now())), 0
        since = found.read_at - EVENTS_DAYS * DAY
        async for page in read_pages(
            lambda cursor: self.source.undelivered(since, cursor),
            lambda page: page.cursor,
            Side.STRIPE,
            "undelivered events",
        ):
            named = [
                (one.at, one.kind, None if one.observation is None else one.observation.intent_id)
                for one in page.events
            ]
            unnamed = [(one.at or found.read_at, "an event", None) for one in page.unreadable]
            found = add(found, [*named, *unnamed])
            pages += 1
            if pages == PAGES_MAX and page.cursor is not None:
                found = replace(found, complete=False)
                break
        if keep:
            self.store.write(UNDELIVERED, found)
        return found

    def is_due(self) -> bool:
        """Whether the last count and the last attempt are more than a day old, or missing."""
        last = self.store.read(UNDELIVERED)
        counted = float("-inf") if last is None else last.read_at
        return not 0 <= self.now() - max(counted, self._tried) < DAY
