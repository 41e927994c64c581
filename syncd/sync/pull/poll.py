"""Observe: four ways to learn what Stripe says, all filling the same table.

The poll (recent events), the sweep (recent payment intents, and all that may still change), the
backfill (payment intents since a date) and the resync (one payment intent). None of them pushes.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.clients.stripe.parse import Unreadable
from syncd.clients.stripe.source import PAGE_SIZE, Page, StripeSource
from syncd.core.errors import BadAnswer, CursorRefused, IntentUnknown, LinkFailure, Side
from syncd.core.payments import Observation
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.sync.pull.rereads import Doubts

DAY = 86_400
EVENTS_KEPT_SECONDS = 30 * DAY - 3_600
"""How far back Stripe lists events, less an hour for the time the listing takes."""

SWEEP_SECONDS = 3 * DAY
"""How far back a sweep lists payment intents; older ones are asked for if they may still change."""

UNSETTLED_SECONDS_MAX = 90 * DAY
"""A payment that has not ended by then is left to events: most such were simply given up."""

UNSETTLED_MAX = 10_000
"""The most payments that a sweep looks after, the newest first."""

PAGES_MAX = 100_000
"""A listing that goes on for longer is not a listing: ten million objects."""


Progress = Callable[[int, float], None]
"""Told how many payments were listed, and how much of the time asked for is covered (0 to 1)."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far observing looks.

    Attributes:
        overlap_seconds: read again before the watermark, for events that become visible late.
        look_back_seconds: how far the very first poll looks back.
    """

    overlap_seconds: int
    look_back_seconds: int


@dataclass(slots=True)
class Observer:
    """Reads Stripe into the store.

    Attributes:
        doubts: reads payment intents one by one.
    """

    source: StripeSource
    store: Store
    reach: Reach
    report: Report
    now: Callable[[], float]
    progress: Progress = field(default=lambda _listed, _share: None)
    doubts: Doubts = field(init=False)

    def __post_init__(self) -> None:
        self.doubts = Doubts(self.source, self.store, self.report, self.now)

    @property
    def trouble(self) -> LinkFailure | None:
        """Why a payment was left out, though Stripe works; None where none was."""
        return self.doubts.trouble

    async def poll(self) -> int:
        """Read the recent events, and re-read the payments in doubt. Returns how many are new.

        The watermark moves only after the last page, and by Stripe's clock: ours may jump.
        """
        self.doubts.trouble = None
        mark = self.watermark()
        started = int(self.now())
        since = (
            started - self.reach.look_back_seconds
            if mark is None
            else (mark - self.reach.overlap_seconds)
        )
        page = await self.source.events(since)
        self._say_refused_events()
        clock = page.server_time
        if clock is not None:
            if mark is None and clock - self.reach.look_back_seconds < since - 60:
                # Our clock is ahead of Stripe's: look back from theirs.
                since = max(0, clock - self.reach.look_back_seconds)
                page = await self.source.events(since)
            if mark is not None and clock - since > EVENTS_KEPT_SECONDS:
                await self._fill_gap(since, clock)
        new, newest = 0, 0
        places = _Places(f"events since {since}")
        while True:
            new += self._take_events(page)
            newest = max([newest, *(event.at for event in page.events)])
            if page.cursor is None:
                break
            page = await self.source.events(since, places.reach(page.cursor))
        reached = _reached(clock, newest, started)
        if reached is not None and (mark is None or reached > mark):
            self.store.write_notes({"watermark": str(reached)})
        # What is in doubt stands in the store: it is read at the next poll where it can't be now.
        await self.doubts.reread()
        return new

    def _say_refused_events(self) -> None:
        """Say once that the key isn't shown refunds and disputes; payments are polled all the same."""
        name, refused = "reversal_events_refused", self.source.reversal_events_refused
        if refused == (self.store.note(name) is not None):
            return
        self.store.write_notes({name: "yes" if refused else None})
        if refused:
            text = (
                "Stripe's key isn't shown the events of refunds and disputes: give it read access "
            )
            text += "to Charges and Refunds, and to Disputes. Payments are followed all the same."
            self.report.log("warning", name, text=text)

    def watermark(self) -> int | None:
        """Up to when events were read to the last page, Unix seconds of Stripe's clock."""
        text = self.store.note("watermark")
        return int(text) if text else None

    def _take_events(self, page: Page) -> int:
        taken = self.store.take_in(
            [event.observation for event in page.events if event.observation is not None],
            self.now(),
            events={event.id: event.at for event in page.events},
            unreadable=[(odd.id, odd.reason, odd.at) for odd in page.unreadable],
            reversals=[event.reversal for event in page.events if event.reversal is not None],
        )
        self.report.count("events", len(taken.new_events), outcome="new")
        self.report.count("events", len(page.events) - len(taken.new_events), outcome="repeated")
        self._say_unreadable(page)
        for event in page.events:
            said_nothing = event.observation is None and event.reversal is None
            if said_nothing and event.id in taken.new_events:
                self.report.count("events", outcome="unknown_type")
                self.report.log("warning", "event_type_unknown", id=event.id, type=event.kind)
        return len(taken.new_events)

    def _say_unreadable(self, page: Page) -> None:
        for odd in page.unreadable:
            self.report.count("events", outcome="unreadable")
            self.report.log("warning", "unreadable", id=odd.id, reason=odd.text)
        for status in page.unknown_statuses:
            self.report.log("warning", "intent_status_unknown", status=status)

    def _take_intents(self, page: Page) -> None:
        self.store.take_in(
            page.intents,
            self.now(),
            unreadable=[(odd.id, odd.reason, odd.at) for odd in page.unreadable],
        )
        self._say_unreadable(page)

    async def _fill_gap(self, since: int, clock: int) -> None:
        """Events of the gap are gone; what became of the payments is not."""
        days = (clock - since) / DAY
        self.report.log(
            "warning",
            "gap",
            days=round(days, 1),
            text=f"No poll for {days:.0f} days, longer than Stripe keeps events. What happened to "
            "the payments meanwhile is read from the payment intents.",
        )
        # Those made before the gap may have changed in it: known ones are asked for, and a month
        # more is listed for those that were never seen.
        listed = await self._list_and_ask(
            since - EVENTS_KEPT_SECONDS, oldest=0, unshown=self._doubt
        )
        self.report.count("gaps")
        self.store.write_notes(
            {
                "gap": json.dumps(
                    {"from": since, "to": clock, "filled_at": int(self.now()), "intents": listed}
                )
            }
        )

    def _doubt(self, intent_id: str, _error: LinkFailure) -> None:
        """A payment whose events are gone, and that Stripe can't show: who knows what became of it."""
        self.store.doubts.begin(intent_id, self.now())

    async def ask(self, intent_id: str, known_at: int) -> Observation | None:
        """Read one payment intent again because Halo says otherwise."""
        return await self.doubts.read_one(intent_id, known_at)

    async def sweep(self) -> None:
        """List the payment intents of the last days, and all older ones that may still change."""
        now = int(self.now())
        # What Stripe can't show of the older ones, events may; the next sweep asks again.
        await self._list_and_ask(
            now - SWEEP_SECONDS, oldest=now - UNSETTLED_SECONDS_MAX, unshown=lambda *_: None
        )
        await self.doubts.reread()

    async def _list_and_ask(
        self, since: int, *, oldest: int, unshown: Callable[[str, LinkFailure], None]
    ) -> int:
        """List the intents made since a time, and read older ones that may still change.

        Older ones are asked for one by one, or the listing goes back to the oldest of them:
        whichever takes fewer requests. Returns how many were listed.

        Args:
            since: Unix seconds.
            oldest: older ones are left to events; Unix seconds.
            unshown: told which of the older ones Stripe can't show.
        """
        older = self.store.unsettled(oldest, since, UNSETTLED_MAX)
        if older:
            back_to = min(made for _, made in older)
            pages = self.store.made_between(back_to, since) // PAGE_SIZE + 1
            if len(older) > pages:
                since, older = back_to, []
        listed = await self._list(since)
        unread = [(intent_id, 0) for intent_id, _ in older]
        await self.doubts.read_each(unread, lambda _: None, unshown)
        return listed

    async def _list(
        self,
        since: int,
        *,
        cursor: str | None = None,
        after_page: Callable[[str | None], None] | None = None,
    ) -> int:
        started, listed = int(self.now()), 0
        places = _Places(f"payment intents since {since}")
        while True:
            page = await self.source.intents(since, cursor)
            self._take_intents(page)
            listed += len(page.intents)
            if page.oldest is not None and started > since:
                self.progress(
                    listed, min(1.0, max(0.0, (started - page.oldest) / (started - since)))
                )
            cursor = None if page.cursor is None else places.reach(page.cursor)
            if after_page is not None:
                after_page(cursor)
            if cursor is None:
                self.progress(listed, 1.0)
                return listed

    async def backfill(self, since: int, asked: str) -> int:
        """List all payment intents made since a time (Unix seconds). Returns how many.

        One that was stopped goes on where it was when the same is asked for again; what was made
        meanwhile is listed as well.

        Args:
            since: Unix seconds.
            asked: the user's words for it: they tell whether the same is meant.
        """
        begun, cursor = int(self.now()), None
        left = json.loads(self.store.note("backfill") or "{}")
        if left.get("asked") == asked and begun - DAY <= left.get("begun", 0) <= begun:
            since, cursor = left["since"], left["cursor"]
            self.report.log("info", "backfill_continued", since=since, begun=left["begun"])
        else:
            left = {"asked": asked, "since": since, "begun": begun}

        def remember(place: str | None) -> None:
            self.store.write_notes(
                {"backfill": json.dumps(left | {"cursor": place}) if place else None}
            )

        try:
            listed = await self._list(since, cursor=cursor, after_page=remember)
        except CursorRefused:
            self.report.log("warning", "backfill_restarted", since=since)
            listed = await self._list(since, after_page=remember)
        if cursor is not None:
            listed += await self._list(left["begun"] - PAGE_SIZE)
        await self.doubts.reread()
        return listed

    async def resync(self, intent_id: str) -> Observation:
        """Read one payment intent and let it stand for all that was said before.

        Raises:
            IntentUnknown: Stripe doesn't know it, or it can't be read.
        """
        read = await self.source.intent(intent_id)
        if isinstance(read, Unreadable):
            raise IntentUnknown(read.text)
        self.store.replace(read, self.now())
        return read


@dataclass(slots=True)
class _Places:
    """The places that a listing has gone on from: at none of them twice, and not for ever."""

    what: str
    _known: set[str] = field(default_factory=set)

    def reach(self, cursor: str) -> str:
        """Go on from there.

        Raises:
            BadAnswer: it was there before, or the listing is longer than any can be.
        """
        if cursor in self._known or len(self._known) >= PAGES_MAX:
            message = f"Stripe's list of {self.what} does not end."
            raise BadAnswer(Side.STRIPE, message)
        self._known.add(cursor)
        return cursor


def _reached(clock: int | None, newest: int, ours: int) -> int | None:
    """Up to when events were surely read (Unix seconds): the watermark. None where nobody knows.

    By Stripe's clock, but no further than our own clock or an event agrees to: a single wrong
    `Date`, from some box on the way, would pass over all that happens until then.

    Args:
        clock: Stripe's clock; None where it didn't say.
        newest: when the newest event was created; 0 where there was none.
        ours: our own clock.
    """
    if clock is None:
        return min(newest, ours) or None
    return min(clock, max(newest, ours))
