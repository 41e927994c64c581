"""Polls Stripe's recent events into the store, and moves the watermark. Does not push."""

from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.clients.paging import read_pages
from syncd.clients.stripe.source import Page, StripeSource
from syncd.core.errors import LinkFailure, Side
from syncd.core.payments import CREATED_EVENT
from syncd.monitor.report import Report
from syncd.store.coordination import (
    GAP,
    LAST,
    REVERSAL_EVENTS_REFUSED,
    REVERSALS_FROM,
    WATERMARK,
    GapNote,
)
from syncd.store.store import Store
from syncd.sync.link import remember_shapes
from syncd.sync.pull.listing import DAY, IntentListing, report_unreadable
from syncd.sync.pull.pace import PollPace
from syncd.sync.pull.rereads import Rereads

EVENTS_KEPT_SECONDS = 30 * DAY - 3_600
"""How far back Stripe lists events, in seconds, minus an hour for the time that the listing takes."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back a poll looks.

    Attributes:
        overlap_seconds: how far before the watermark events are read again, because some become
            visible late.
        look_back_seconds: how far the very first poll looks back.
    """

    overlap_seconds: int
    look_back_seconds: int


@dataclass(slots=True)
class Poller:
    """Reads Stripe's recent events into the store.

    Attributes:
        listing: fills a time without polls that is longer than Stripe keeps events.
        rereads: re-reads payments with conflicting events.
        pace: learns from the events when to poll; None for a fixed interval.
        noted: whether the store has a note that the latest poll has worked.
        failing: whether the store had a note that Stripe does not work when the latest poll began.
    """

    source: StripeSource
    store: Store
    reach: Reach
    listing: IntentListing
    rereads: Rereads
    report: Report
    now: Callable[[], float]
    pace: PollPace | None = None
    noted: bool = field(init=False, default=False)
    failing: bool = field(init=False, default=False)

    async def poll(self) -> int:
        """Read the recent events, and re-read payments with conflicting events.

        The watermark moves only after the last page, and by Stripe's clock, because the local clock
        may jump.

        Returns:
            How many events are new.

        Raises:
            LinkFailure: the request failed.
        """
        self.rereads.trouble, self.noted = None, False
        start = self.store.coordination.poll_start(self.now())
        mark, rereads, self.failing = start.mark, start.rereads, start.failing
        started = int(self.now())
        since = (
            started - self.reach.look_back_seconds
            if mark is None
            else (mark - self.reach.overlap_seconds)
        )
        if mark is None:
            self._list_reversals_from(since)
        first = await self.source.events(since)
        self._report_refused_events(noted=start.refused)
        clock, new, taken = first.server_time, 0, None
        if clock is not None:
            if mark is None and clock - self.reach.look_back_seconds < since - 60:
                # The local clock is ahead of Stripe's: use Stripe's clock.
                since = max(0, clock - self.reach.look_back_seconds)
                first = await self.source.events(since)
            if mark is not None and clock - since > EVENTS_KEPT_SECONDS:
                # Filling the gap may fail, and pushes must not write what these events outdate.
                new, taken = self._take_events(first, clock), first
                await self._fill_gap(since, clock)
                rereads = True
        newest = 0
        async for page in read_pages(
            lambda cursor: self._page(since, cursor, first),
            lambda page: page.cursor,
            Side.STRIPE,
            f"events since {since}",
        ):
            if page is not taken:
                new += self._take_events(page, first.server_time)
            newest = max([newest, *(event.at for event in page.events)])
        reached = _reached(clock, newest, started)
        notes = {}
        if reached is not None and (mark is None or reached > mark):
            notes[WATERMARK.name] = WATERMARK.encode(reached)
        # Without a payment to re-read, nothing can fail now: one transaction records the whole poll.
        # Without new events, no payment has become conflicting.
        self.noted = not ((rereads or new) and self.store.doubts.due(self.now(), 1))
        if self.noted:
            notes[LAST["poll"].name] = LAST["poll"].encode(int(self.now()))
        if notes:
            self.store.write_notes(notes)
        # The store remembers which payments have conflicting events: the next poll re-reads the
        # remaining ones.
        if not self.noted:
            await self.rereads.reread()
        return new

    async def _page(self, since: int, cursor: str | None, first: Page) -> Page:
        return first if cursor is None else await self.source.events(since, cursor)

    def _report_refused_events(self, *, noted: bool) -> None:
        """Log once that the key may not read refunds and disputes; polls of payments continue."""
        refused = self.source.reversal_events_refused
        if refused == noted:
            return
        self.store.write(REVERSAL_EVENTS_REFUSED, "yes" if refused else None)
        if refused:
            text = (
                "Stripe's API key may not read the events of refunds and disputes. syncd still "
                "follows payments. In Stripe's dashboard, give the key read access to Charges and "
                "Refunds, and to Disputes."
            )
            self.report.log("warning", REVERSAL_EVENTS_REFUSED.name, text=text)

    def watermark(self) -> int | None:
        """The time up to which all events were read, Unix seconds of Stripe's clock; None at first."""
        return self.store.read(WATERMARK)

    def _take_events(self, page: Page, clock: int | None) -> int:
        taken = self.store.take_in(
            [event.observation for event in page.events if event.observation is not None],
            self.now(),
            events={event.id: event.at for event in page.events},
            unreadable=[(odd.id, odd.reason, odd.at) for odd in page.unreadable],
            reversals=[event.reversal for event in page.events if event.reversal is not None],
        )
        self.report.count("events", len(taken.new_events), outcome="new")
        self.report.count("events", len(page.events) - len(taken.new_events), outcome="repeated")
        report_unreadable(page, self.report)
        remember_shapes(self.store, Side.STRIPE, [one.shape for one in page.unreadable], self.now())
        if self.pace is not None:
            self.pace.take(page.events, taken.new_events, clock)
        for event in page.events:
            irrelevant = event.observation is None and event.reversal is None
            irrelevant = irrelevant and event.kind != CREATED_EVENT
            if irrelevant and event.id in taken.new_events:
                self.report.count("events", outcome="unknown_type")
                self.report.log("warning", "event_type_unknown", id=event.id, type=event.kind)
        return len(taken.new_events)

    async def _fill_gap(self, since: int, clock: int) -> None:
        """Read the payment intents of a time whose events Stripe no longer lists."""
        days = (clock - since) / DAY
        self.report.log(
            "warning",
            "gap",
            days=round(days, 1),
            text=f"No poll for {days:.0f} days, longer than Stripe keeps events. syncd reads the "
            "payment intents of that time instead.",
        )
        # Payments created before the gap may have changed in it: known payments are re-read, and
        # one more month is listed for payments that syncd has never seen.
        listed = await self.listing.list_and_reread(
            since - EVENTS_KEPT_SECONDS, oldest=0, unshown=self._mark_conflicting
        )
        self._list_reversals_from(since)
        self.report.count("gaps")
        self.store.write(GAP, GapNote(since, clock, int(self.now()), listed))

    def _list_reversals_from(self, since: int) -> None:
        """Let the next sweep list refunds and disputes created since a time (Unix seconds).

        Stripe may no longer list their events, or the key may not have been allowed to read them.
        """
        known = self.store.read(REVERSALS_FROM)
        if known is None or since < known:
            self.store.write(REVERSALS_FROM, since)

    def _mark_conflicting(self, intent_id: str, _error: LinkFailure) -> None:
        """Re-read this payment later: its events are lost, and Stripe cannot show it now."""
        self.store.doubts.begin(intent_id, self.now())


def stripe_clock(store: Store, now: float) -> int:
    """Stripe's time at the last complete poll, Unix seconds; before the first, the local time.

    Ages of Stripe's objects are computed with this time, because a host's clock may be wrong by
    days.
    """
    mark = store.read(WATERMARK)
    return int(now) if mark is None else mark


def _reached(clock: int | None, newest: int, ours: int) -> int | None:
    """The new watermark: the time (Unix seconds) up to which all events were read; None if unknown.

    The watermark follows Stripe's clock, but not beyond both the local clock and the newest event:
    a wrong `Date` header, for example of a proxy, would skip all events until that date.

    Args:
        clock: Stripe's clock, Unix seconds; None if the answer had no date.
        newest: when the newest event was created, Unix seconds; 0 without events.
        ours: the local clock, Unix seconds.
    """
    if clock is None:
        return min(newest, ours) or None
    return min(clock, max(newest, ours))
