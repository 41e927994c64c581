"""Lists refunds and disputes, and asks Halo whether their payments have rows.

Polls receive the events of refunds and disputes. A sweep and a backfill list those that events did
not show, because they are older or the key may not read such events. syncd writes nothing to Halo
for refunds and disputes.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from syncd.clients.paging import read_pages
from syncd.clients.stripe.source import Page, StripeSource
from syncd.core.errors import (
    BadAnswer,
    CursorRefused,
    LinkFailure,
    PermissionMissing,
    ServerError,
    Side,
    Unreachable,
)
from syncd.core.holds import HoldCode, message
from syncd.core.rows import seen
from syncd.core.rules.blame import ReadFailures
from syncd.core.windows import REREAD_UNSHOWN
from syncd.monitor.report import Report
from syncd.store.coordination import LISTING_REFUSED, REVERSALS_FROM, REVERSALS_LISTED
from syncd.store.db.notes import REVERSALS_FAILING
from syncd.store.reversals import unknown_id, unlisted_id
from syncd.store.store import Store
from syncd.sync.pull.listing import DAY
from syncd.sync.pull.poll import EVENTS_KEPT_SECONDS, stripe_clock
from syncd.sync.pull.rereads import UNSHOWN_MAX, Between
from syncd.sync.pull.sweep import SWEEP_SECONDS
from syncd.sync.sink import Sink
from syncd.text.wording import sentence

LOOKS_MAX = 10
"""How many unknown payments are looked up in Halo at one time."""

FORGOTTEN_SECONDS = 2 * DAY
"""A payment whose rows Halo could not list counts as new after this time (seconds) without a try."""

OPEN_DISPUTE_SECONDS_MAX = 365 * DAY
"""How far back a listing begins at most for a dispute that is still open, in seconds."""


@dataclass(slots=True)
class ReversalSweeper:
    """Lists refunds and disputes, and finds out which of them concern Halo.

    Attributes:
        between: called between two pages.
    """

    source: StripeSource
    sink: Sink
    store: Store
    report: Report
    now: Callable[[], float]
    between: Between = field(default_factory=Between)

    async def sweep(self) -> None:
        """List refunds and disputes since the last listing, disputes also since the oldest open one."""
        now = stripe_clock(self.store, self.now())
        last = self.store.read(REVERSALS_LISTED)
        since = now - SWEEP_SECONDS if last is None else min(now, last) - SWEEP_SECONDS
        missed = self.store.read(REVERSALS_FROM)
        if missed is not None:
            since = min(since, missed)
        oldest = self.store.reversals.oldest_open_dispute()
        disputes_since = since if oldest is None else max(oldest, now - OPEN_DISPUTE_SECONDS_MAX)
        await self.list_since(since, min(since, disputes_since))
        if missed is not None:
            for what in ("refunds", "disputes"):
                self._note_unknown(what, missed)

    async def list_since(self, refunds_since: int, disputes_since: int | None = None) -> int:
        """List refunds and disputes created since a time (Unix seconds). Returns how many.

        If the key may not read them, syncd logs that once and continues.
        """
        started = stripe_clock(self.store, self.now())
        since = refunds_since if disputes_since is None else disputes_since
        listed = await self._list("refunds", self.source.refunds, refunds_since)
        disputed = await self._list("disputes", self.source.disputes, since)
        if listed is not None and disputed is not None:
            self.store.write(REVERSALS_LISTED, started)
            missed = self.store.read(REVERSALS_FROM)
            if missed is not None and since <= missed and refunds_since <= missed:
                self.store.write(REVERSALS_FROM, None)
                self.store.reversals.are_known()
        return (listed or 0) + (disputed or 0)

    async def _list(
        self, what: str, read: Callable[[int, str | None], Awaitable[Page]], since: int
    ) -> int | None:
        """List one kind to the last page. Returns how many; None if the key may not read them."""
        note, listed = LISTING_REFUSED[what], 0
        try:
            async for page in read_pages(
                lambda cursor: read(since, cursor),
                lambda page: page.cursor,
                Side.STRIPE,
                f"{what} since {since}",
            ):
                self.store.take_in(
                    [],
                    self.now(),
                    reversals=page.reversals,
                    unreadable=[(odd.id, odd.reason, odd.at) for odd in page.unreadable],
                )
                listed += len(page.reversals)
                await self.between()
        except (PermissionMissing, CursorRefused) as error:
            if self.store.read(note) != str(error):
                self.report.log("warning", note.name, reason=str(error))
                self.store.write(note, str(error))
            return None
        if self.store.read(note) is not None:
            self.store.write(note, None)
        return listed

    def _note_unknown(self, what: str, since: int) -> None:
        """Put on the attention list that refunds or disputes of a period can no longer be read."""
        if (
            since > stripe_clock(self.store, self.now()) - EVENTS_KEPT_SECONDS
            or self.store.read(LISTING_REFUSED[what]) is None
        ):
            return  # events may still show them, or they were listed
        day = time.strftime("%Y-%m-%d", time.gmtime(since))
        name = unknown_id(what)
        reason = message(HoldCode.REVERSALS_UNKNOWN, name, what=what, day=day)
        self.store.take_in([], self.now(), unreadable=[(name, reason, since)])

    async def place(self) -> int:
        """Ask Halo for rows of refunded or disputed payments that syncd does not know.

        Such payments are older than syncd's database. Halo is asked, because Stripe's reads are
        limited. If Halo fails on the rows of one payment, that payment delays no other.

        Returns:
            How many payments have rows.

        Raises:
            LinkFailure: Halo does not answer, or lists no payment's rows.
        """
        found, failures = 0, ReadFailures[str]()
        for intent_id in self._unplaced():
            try:
                rows = await self.sink.rows_of(intent_id)
            except (ServerError, BadAnswer, Unreachable) as error:
                if error.retry_after_seconds is not None:
                    raise  # Halo asks to wait
                if failures.add(intent_id, error):
                    await self.sink.probe_lookup()
                    self._postpone(failures.other_worked())
                continue
            self.store.reversals.place(intent_id, seen(rows))
            self._postpone(failures.has_read())
            found += bool(rows)
        if failures.unclear:
            await self.sink.probe_lookup()
            self._postpone(failures.other_worked())
        return found

    def _unplaced(self) -> list[str]:
        """The payments to ask Halo for now."""
        unplaced = self.store.reversals.unplaced(LOOKS_MAX)
        if not unplaced:
            return []
        later = {name for name, (_, at) in self._failing().items() if self._is_later(at)}
        if later:
            unplaced = self.store.reversals.unplaced(LOOKS_MAX + len(later))
        return [name for name in unplaced if name not in later][:LOOKS_MAX]

    def _failing(self) -> dict[str, tuple[int, float]]:
        """Payments whose rows Halo could not list lately: how often, and when syncd asks again."""
        noted = self.store.read(REVERSALS_FAILING) or {}
        return {name: one for name, one in noted.items() if self.now() - one[1] < FORGOTTEN_SECONDS}

    def _is_later(self, at: float) -> bool:
        """Whether a time (Unix seconds) is still to come; a clock that was set back makes it due."""
        return 0 < at - self.now() <= FORGOTTEN_SECONDS

    def _postpone(self, at_fault: list[tuple[str, LinkFailure]]) -> None:
        """Ask Halo later for the rows of these payments; after UNSHOWN_MAX failures, tell a person."""
        if not at_fault:
            return
        now, failing = self.now(), self._failing()
        for intent_id, error in at_fault:
            failed = failing.get(intent_id, (0, 0.0))[0] + 1
            failing[intent_id] = (failed, now + REREAD_UNSHOWN.wait_seconds(failed - 1))
            self.report.log(
                "warning", "reversal_rows_unlisted", intent=intent_id, reason=str(error)
            )
            if failed <= UNSHOWN_MAX:
                continue
            name = unlisted_id(intent_id)
            told = sentence(str(error))
            reason = message(HoldCode.ROWS_UNLISTED, name, intent=intent_id, error=told)
            self.store.take_in([], now, unreadable=[(name, reason, None)])
        self.store.write(REVERSALS_FAILING, failing)
