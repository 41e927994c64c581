"""Three ways, besides the poll, to read Stripe's reports; none of them pushes.

The sweep lists recent payment intents and re-reads older ones that may still change. The backfill
lists payment intents since a date. The resync reads one payment intent.
"""

from collections.abc import Callable
from dataclasses import dataclass

from syncd.clients.stripe.parse import Unreadable
from syncd.clients.stripe.source import PAGE_SIZE, StripeSource
from syncd.core.errors import CursorRefused, IntentUnknown, Side
from syncd.core.payments import Observation
from syncd.monitor.report import Report
from syncd.store.coordination import BACKFILL, SWEEPS_COUNTED_FROM, SWEPT, BackfillNote
from syncd.store.store import Store
from syncd.sync.pull.listing import DAY, IntentListing
from syncd.sync.pull.poll import stripe_clock
from syncd.sync.pull.rereads import Rereads

SWEEP_SECONDS = 3 * DAY
"""How far back a sweep lists at least; older payment intents are re-read if they may still change."""

UNSETTLED_SECONDS_MAX = 90 * DAY
"""Older open payments are updated by events only: most of them were abandoned."""


@dataclass(slots=True)
class Sweeper:
    """Reads payment intents into the store, without events."""

    source: StripeSource
    store: Store
    listing: IntentListing
    rereads: Rereads
    report: Report
    now: Callable[[], float]

    async def sweep(self) -> None:
        """List the payment intents since the last sweep, and in any case those of the last days.

        Older ones that may still change are re-read.
        """
        now = stripe_clock(self.store, self.now())
        last = self.store.read(SWEPT[Side.STRIPE]) or self.store.read(SWEEPS_COUNTED_FROM)
        since = min(now - SWEEP_SECONDS, (now if last is None else last) - DAY)
        # The next sweep re-reads payment intents that Stripe cannot show now, unless events come
        # earlier.
        await self.listing.list_and_reread(
            max(since, now - UNSETTLED_SECONDS_MAX),
            oldest=now - UNSETTLED_SECONDS_MAX,
            unshown=lambda *_: None,
        )
        await self.rereads.reread()

    async def backfill(self, since: int, asked: str) -> int:
        """List all payment intents created since a time. Returns how many.

        A backfill that was stopped resumes when the user starts the same backfill again; payment
        intents created in the meantime are listed as well.

        Args:
            since: Unix seconds.
            asked: what the user typed; the same text within a day resumes the backfill.

        Raises:
            LinkFailure: the request failed.
        """
        begun, cursor = int(self.now()), None
        left = self.store.read(BACKFILL)
        if left is not None and left.asked == asked and begun - DAY <= left.begun <= begun:
            since, cursor, begun = left.since, left.cursor, left.begun
            self.report.log("info", "backfill_continued", since=since, begun=begun)

        def remember(resume_point: str | None) -> dict[str, str | None]:
            if resume_point is None:
                return {BACKFILL.name: None}
            return {BACKFILL.name: BACKFILL.encode(BackfillNote(asked, since, begun, resume_point))}

        try:
            listed = await self.listing.list_since(since, cursor=cursor, continuing=remember)
        except CursorRefused:
            self.report.log("warning", "backfill_restarted", since=since)
            listed = await self.listing.list_since(since, continuing=remember)
        if cursor is not None:
            listed += await self.listing.list_since(begun - PAGE_SIZE)
        await self.rereads.reread()
        return listed

    async def resync(self, intent_id: str) -> Observation:
        """Read one payment intent; its answer replaces everything known of the payment.

        Raises:
            IntentUnknown: Stripe doesn't know it, or it can't be read.
        """
        read = await self.source.intent(intent_id)
        if isinstance(read, Unreadable):
            raise IntentUnknown(read.text)
        self.store.replace(read, self.now())
        return read
