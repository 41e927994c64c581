"""Lists payment intents into the store, page by page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from syncd.clients.paging import read_pages
from syncd.clients.stripe.source import PAGE_SIZE, Page, StripeSource
from syncd.core.errors import LinkFailure, Side
from syncd.core.rules.pages import cheapest_start
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.sync.link import remember_shapes
from syncd.sync.pull.rereads import Rereads

DAY = 86_400

UNSETTLED_MAX = 10_000
"""The maximum number of open payments that a sweep re-reads, the newest first."""

Progress = Callable[[int, float], None]
"""Called with the number of payments listed, and the share of the time span covered (0 to 1)."""


@dataclass(slots=True)
class IntentListing:
    """Lists payment intents into the store.

    Attributes:
        rereads: re-reads single payment intents.
        progress: called after each page.
    """

    source: StripeSource
    store: Store
    rereads: Rereads
    report: Report
    now: Callable[[], float]
    progress: Progress = field(default=lambda _listed, _share: None)

    async def list_and_reread(
        self, since: int, *, oldest: int, unshown: Callable[[str, LinkFailure], None]
    ) -> int:
        """List payment intents created since a time, and re-read older ones that may still change.

        Each of the older ones is read by its id, or the listing begins with it: whichever takes
        fewer requests in total. Returns how many payment intents were listed.

        Args:
            since: Unix seconds.
            oldest: payments created earlier are updated by events only; Unix seconds.
            unshown: called with each of the older payments that Stripe cannot show.

        Raises:
            LinkFailure: the request failed.
        """
        older = self.store.unsettled(oldest, since, UNSETTLED_MAX)
        if older:
            made = self.store.made_by(DAY, oldest)
            days = max(1, (int(self.now()) - since) // DAY)
            # The store may know fewer payments than Stripe lists, for example before the first
            # poll.
            a_day = sum(number for day, number in made.items() if day >= since // DAY) // days
            times = [at for _, at in older]
            since = cheapest_start(times, since, made, a_day, PAGE_SIZE)
            older = [(intent_id, at) for intent_id, at in older if at < since]
        listed = await self.list_since(since)
        unread = [(intent_id, 0) for intent_id, _ in older]
        await self.rereads.read_each(unread, lambda _: None, unshown)
        return listed

    async def list_since(
        self,
        since: int,
        *,
        cursor: str | None = None,
        continuing: Callable[[str | None], Mapping[str, str | None]] = lambda _cursor: {},
    ) -> int:
        """List payment intents created since a time. Returns how many.

        Args:
            since: Unix seconds.
            cursor: where to begin; None for the newest.
            continuing: the notes to store with a page, by the cursor of the next page; the cursor
                is None on the last page.

        Raises:
            CursorRefused: Stripe refuses `cursor`.
            LinkFailure: the request failed.
        """
        started, listed = int(self.now()), 0
        async for page in read_pages(
            lambda at: self.source.intents(since, at),
            lambda page: page.cursor,
            Side.STRIPE,
            f"payment intents since {since}",
            start=cursor,
        ):
            self._take(page, continuing(page.cursor))
            await self.rereads.between()
            listed += len(page.intents)
            if page.oldest is not None and started > since:
                share = (started - page.oldest) / (started - since)
                self.progress(listed, min(1.0, max(0.0, share)))
        self.progress(listed, 1.0)
        return listed

    def _take(self, page: Page, notes: Mapping[str, str | None]) -> None:
        self.store.take_in(
            page.intents,
            self.now(),
            unreadable=[(odd.id, odd.reason, odd.at) for odd in page.unreadable],
            notes=notes,
        )
        report_unreadable(page, self.report)
        remember_shapes(self.store, Side.STRIPE, [one.shape for one in page.unreadable], self.now())


def report_unreadable(page: Page, report: Report) -> None:
    """Log and count the unreadable objects on a page of Stripe's."""
    for odd in page.unreadable:
        report.count("events", outcome="unreadable")
        report.log("warning", "unreadable", id=odd.id, reason=odd.text, shape=odd.shape)
    for status in page.unknown_statuses:
        report.log("warning", "intent_status_unknown", status=status)
