"""Reads rows of the PSA into the store, page by page: all rows, or as many pages as save requests."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from syncd.core.errors import BadAnswer, LeaseHeld, ServerError, Unreachable
from syncd.core.records import DuePayment
from syncd.core.rows import Row, RowPage
from syncd.core.rules.pages import PagesLeft, settled_among
from syncd.monitor.report import Report
from syncd.store.db.notes import ROWS_READ, RowsNote
from syncd.store.store import Store
from syncd.sync.sink import Sink

FEW = 10
"""Up to this number of due payments, each is looked up alone and no page is read."""

SAMPLE = 20
"""How many rows are read by their ids if no row of the list shows a payment intent."""

FIELDS_MAX, TEXT_MAX = 2_000, 200
"""How many rows (the newest) keep their fields for comparisons after a write, without long texts."""

USED_SECONDS = 300.0
"""For how long the rows that an interrupted push has read are used by the next push, in seconds."""

SETTLED_SECONDS = 86_400.0
"""Stored rows are used only for payments whose state is older than this: such rows hardly change."""

UNNAMED = ""
"""Used in place of a payment if a row is read by its id to learn its payment."""

Progress = Callable[[int, int], None]
"""Called with the number of rows done, and the number of all rows."""

KnownRows = Mapping[str, list[Row]]
"""The rows of payments as pages showed them."""

Coming = tuple[list[DuePayment], KnownRows | None]
"""The payments to push next, and their rows if pages showed them."""

MakeWay = Callable[[int], Awaitable[object]]
"""Called before that many requests, to do more urgent work first."""


async def _nothing(_requests: int) -> None:
    """No-op, used if no work is more urgent."""


def _each(_page: RowPage, _seen: int) -> bool:
    """Always true: each page is worth reading."""
    return True


@dataclass(slots=True)
class AllRows:
    """Reads all of Halo's rows.

    Attributes:
        now: Unix seconds.
        keep_lease: called for each page to renew the push lease.
        memory: the store that knows which rows were seen before; None for `store`.
        progress: called with how many rows were read, and how many there are.
        hidden: whether the latest lists hide the rows' payment intents.
        stopped: whether the latest reading may have left out pages.
        resumed: whether rows that an earlier push read are used.
    """

    sink: Sink
    store: Store
    report: Report
    now: Callable[[], float]
    keep_lease: Callable[[], None]
    memory: Store | None = None
    progress: Progress = field(default=lambda _rows, _total: None)
    hidden: bool = field(init=False, default=False)
    stopped: bool = field(init=False, default=False)
    resumed: bool = field(init=False, default=False)
    _begun: float = field(init=False, default=0.0)
    _page: int | None = field(init=False, default=None)
    _named: bool = field(init=False, default=False)
    _making_way: bool = field(init=False, default=False)
    _nameless: list[Row] = field(init=False, default_factory=list)
    _fields: dict[int, Mapping[str, Any]] = field(init=False, default_factory=dict)

    async def read_for_due(self, due: int, now: float, make_way: MakeWay = _nothing) -> bool:
        """Read Halo's rows, newest first, as long as that takes fewer requests than single lookups.

        Returns whether rows were read: then `of` tells for which payments all rows are known. If no
        page is worth its request, or the pages cannot be read, the caller looks up each payment.

        Args:
            due: how many payments are due.
            now: the time for which payments count as due, Unix seconds.
            make_way: called between two pages, with how many requests come next.
        """
        if due <= FEW or await self.sink.hides_intents(()):
            return False
        kept = self._kept()
        pages = PagesLeft(
            self.store.due_days(now, without_rows=kept is not None),
            0 if kept is None else kept.page or 0,
        )

        def worth_reading(page: RowPage, seen: int) -> bool:
            found = self.store.due_among([row.intent_id for row in page.rows if row.intent_id], now)
            settled = settled_among(found, self.store.rows.of([one.intent_id for one in found]))
            dates = [row.made for row in page.rows if row.made is not None]
            made = [_made(one) for one in settled]
            return pages.worth_reading(made, max(dates, default=None), seen, page.total)

        try:
            whole = await self._read(False, make_way, worth_reading, kept)
        except (ServerError, Unreachable) as error:
            if self._making_way or error.retry_after_seconds is not None:
                raise
            # Long lists may be too heavy for Halo, while the list of one payment is not.
            await self.sink.probe_lookup()
            self.report.log("warning", "rows_unlisted", reason=str(error))
            # The rows read so far settle their payments; all other payments are looked up alone.
            self.stopped = self.store.rows.count() > 0
            return self.stopped
        if (whole or self.stopped) and self._page is not None:
            self.store.write(ROWS_READ, RowsNote(self._begun, None))
        return whole or self.stopped

    async def read(self, *, by_number: bool = False, make_way: MakeWay = _nothing) -> bool:
        """Read all of Halo's rows into the store, under the lease. Returns whether these are all.

        Args:
            by_number: if lists hide payment intents, assign rows to payments by row numbers seen
                earlier. This is safe to compare known payments, but never to match new ones.
            make_way: as in `read_for_due`.
        """
        return await self._read(by_number, make_way, _each)

    async def _read(
        self,
        by_number: bool,
        make_way: MakeWay,
        worth_reading: Callable[[RowPage, int], bool],
        kept: RowsNote | None = None,
    ) -> bool:
        """Read the pages, again if rows were missing. Returns whether all rows were read.

        With the rows of an interrupted push (`kept`), only newer rows and the remaining pages are
        read.
        """
        if kept is None:
            self.store.rows.forget()
        self._begun, self.resumed = (self.now() if kept is None else kept.begun), kept is not None
        self._making_way = self.stopped = False
        self._named, self._nameless, self._fields = False, [], {}
        self.hidden = await self.sink.hides_intents(())
        if self.hidden and not by_number:
            return False
        try:
            if kept is not None:
                await self._resume(kept, make_way, worth_reading)
                return False
            self._page = 0
            seen, whole = await self._read_pages(0, make_way, worth_reading)
            if not whole and not self.stopped:
                # New rows appear on the first pages, which were read before: read the pages again.
                seen, whole = await self._read_pages(seen, make_way, _each)
        except BadAnswer as error:
            if self._making_way:
                raise  # it concerns a payment, not the pages
            self.report.log("warning", "rows_unlisted", reason=str(error))
            # The rows read so far settle their payments; all other payments are looked up alone.
            self.stopped = not by_number and self.store.rows.count() > 0
            return False
        if self.stopped:
            return False
        if not self._named and self._nameless and not self.hidden:
            self.hidden = await self.sink.hides_intents(self._nameless)
            if self.hidden:
                self.report.log(
                    "warning",
                    "rows_without_intents",
                    seen=seen,
                    reason="Halo's lists do not show intent_id, so syncd looks up each payment alone.",
                )
        if self.hidden and not by_number:
            self.store.rows.forget()
            return False
        if self.hidden:
            self.store.rows.name((self.memory or self.store).rows.owners())
        if not whole:
            self.report.log("warning", "rows_incomplete", seen=seen)
        return whole

    async def name_newest(self) -> None:
        """If lists hide payment intents, read the newest unknown rows by their ids.

        Raises:
            LinkFailure: the request failed.
        """
        found: dict[int, str] = {}
        for number in self.store.rows.newest_nameless(SAMPLE) if self.hidden else ():
            row = await self.sink.whole_row(UNNAMED, number)
            if row is not None and row.row.intent_id is not None:
                found[number] = row.row.intent_id
        self.store.rows.name(found)

    def of(self, due_payments: Sequence[DuePayment]) -> dict[str, list[Row]]:
        """The rows of these payments as read, with their fields if those were kept.

        A payment is missing if some of its rows may not have been read. Only after all pages were
        read, a payment may be present without rows.
        """
        names = [due.intent_id for due in due_payments]
        found = self.store.rows.of(names)
        if self.resumed:  # rows that syncd has written since, or that others may have changed
            lately = {one.intent_id for one in due_payments if self._is_lively(one)}
            for name in lately | self.store.rows.sent_since(names, self._begun):
                found[name] = []
        if self.stopped:
            due_payments = settled_among(due_payments, found)
        return {
            due.intent_id: [
                replace(row, fields=self._fields.get(row.id or 0)) for row in found[due.intent_id]
            ]
            for due in due_payments
        }

    def coming(self, before: float, size: int, after: str, *, paged: bool) -> Coming:
        """The payments to push next, and their rows if pages were read (`paged`).

        Then at most a quarter of them must be looked up alone.

        Args:
            before: the time for which payments count as due, Unix seconds.
            size: the maximum number of payments.
            after: the last payment of the earlier ones.
            paged: whether pages were read.
        """
        due_payments = self.store.due(before, size, after)
        return self._first_of(due_payments, size // 4) if paged else (due_payments, None)

    def _first_of(
        self, due_payments: Sequence[DuePayment], lookups_max: int
    ) -> tuple[list[DuePayment], KnownRows]:
        """The longest prefix of these payments that needs at most `lookups_max` lookups.

        Also returns the rows of its payments, as `of` does.
        """
        known = self.of(due_payments)
        first: list[DuePayment] = []
        number = 0
        for due in due_payments:
            number += due.intent_id not in known
            if number > lookups_max:
                break
            first.append(due)
        return first, {
            one.intent_id: known[one.intent_id] for one in first if one.intent_id in known
        }

    async def rows_of(self, intent_ids: Sequence[str]) -> dict[str, list[Row]]:
        """The rows of these payments; if lists hide payment intents, missing ones are looked up.

        Raises:
            LinkFailure: the request failed.
        """
        rows = self.store.rows.of(intent_ids)
        for intent_id in intent_ids if self.hidden else ():
            if not rows[intent_id]:
                self.keep_lease()
                rows[intent_id] = await self.sink.rows_of(intent_id)
                self.store.rows.name({row.id: intent_id for row in rows[intent_id] if row.id})
        return rows

    def forget(self) -> None:
        """Delete the stored rows: what needed them has ended, and rows grow outdated."""
        if self.store.read(ROWS_READ) is not None:
            self.store.rows.forget()
            self._fields = {}

    def forget_outdated(
        self, leased: Callable[[], AbstractContextManager[None]], *, kept: bool
    ) -> None:
        """Delete rows that an interrupted push left, once they are too old to be used.

        Args:
            kept: whether rows are stored.
            leased: holds the push lease; if another process holds it, nothing is deleted.
        """
        if kept and self._kept() is None:
            with suppress(LeaseHeld), leased():
                self.forget()

    def _is_lively(self, due: DuePayment) -> bool:
        """Whether a payment changed so lately that a person or a webhook may have changed its row."""
        current = due.payment.current
        latest = _made(due) if current.event_id is None else current.at
        return latest > self._begun - SETTLED_SECONDS

    def _kept(self) -> RowsNote | None:
        """The stored rows of a push that was interrupted, if the next push may use them."""
        kept = self.store.read(ROWS_READ)
        if kept is None or not 0 <= self.now() - kept.begun <= USED_SECONDS:
            return None
        return kept if self.store.rows.count() else None

    async def _resume(
        self, kept: RowsNote, make_way: MakeWay, worth_reading: Callable[[RowPage, int], bool]
    ) -> None:
        """Read the rows that are newer than the stored rows, then the remaining pages.

        New rows move the remaining rows to later pages. Rows that Halo deleted move them to earlier
        pages, which are not read again: the payments of such rows are looked up alone.
        """
        seen = before = self.store.rows.count()

        def all_new(page: RowPage, number: int) -> bool:
            nonlocal seen
            new, seen = number - seen, number
            return new == len(page.rows)

        self._page = None  # newer rows do not change how far the list was read
        await self._read_pages(seen, make_way, all_new)
        if kept.page is not None:
            moved = (seen - before) * kept.page // before  # pages that are as full as earlier ones
            self._page = kept.page + moved
            await self._read_pages(seen, make_way, worth_reading, self._page + 1)
        self.stopped = True  # what moved between the pages meanwhile is looked up alone

    async def _read_pages(
        self,
        seen: int,
        make_way: MakeWay,
        worth_reading: Callable[[RowPage, int], bool],
        start: int = 1,
    ) -> tuple[int, bool]:
        """Read pages into the store. Returns how many rows, and whether they are all rows."""
        whole = None
        async for listed in self.sink.list_rows(self._store_page, seen, start):
            seen, whole = listed.seen, listed.whole
            self.progress(seen, max(seen, listed.page.total or 0))
            if whole is not None:
                continue
            if not worth_reading(listed.page, seen):
                self.stopped = True
                break
            self._making_way = True
            await make_way(1)
            self._making_way = False
        return seen, bool(whole)

    def _store_page(self, page: RowPage) -> int:
        self.keep_lease()
        nameless = [row for row in page.rows if row.intent_id is None and row.id is not None]
        self._named = self._named or len(nameless) < len(page.rows)
        for row in page.rows:
            if row.id is not None and row.fields and len(self._fields) < FIELDS_MAX:
                self._fields[row.id] = {
                    name: value
                    for name, value in row.fields.items()
                    if not (isinstance(value, str) and len(value) > TEXT_MAX)
                }
        self._nameless += nameless[: max(0, SAMPLE - len(self._nameless))]
        if self._page is None:
            return self.store.rows.add(page.rows)
        self._page += 1
        return self.store.rows.add(page.rows, RowsNote(self._begun, self._page))


def _made(due: DuePayment) -> int:
    """When a payment was created, Unix seconds."""
    current = due.payment.current
    return current.at if current.created is None else current.created
