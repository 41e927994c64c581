"""Reads rows of the PSA into the store, page by page: all rows, or as far as a push gains by it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from syncd.core.errors import BadAnswer
from syncd.core.records import DuePayment
from syncd.core.rows import Row, RowPage
from syncd.core.rules.pages import PagesLeft, settled_among
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.sync.sink import Sink

FEW = 10
"""Up to so many payments are looked up one by one: not even one page is read for them."""

SAMPLE = 20
"""So many rows without an intent are read alone at most, where no row of the list shows an intent."""

FIELDS_MAX, TEXT_MAX = 2_000, 200
"""The fields of so many rows, the newest, are kept to be compared after a write, without long texts."""

UNNAMED = ""
"""In place of a payment, where a row is read alone to learn its payment."""

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""

MakeWay = Callable[[int], Awaitable[None]]
"""Called before so many requests: what is more urgent goes first, and is waited for."""


async def _nothing(_requests: int) -> None:
    """Nothing is more urgent."""


def _each(_page: RowPage, _seen: int) -> bool:
    """Each page is worth reading."""
    return True


@dataclass(slots=True)
class AllRows:
    """Reads all of Halo's rows.

    Attributes:
        keep_lease: called for each page, because a process that reads all rows holds the push lease.
        memory: the store that knows which rows were seen before; None for `store`.
        progress: called with how many rows were read, and how many there are.
        hidden: whether the lists that were read last hide the rows' payments.
        stopped: whether the last reading stopped before the last page.
    """

    sink: Sink
    store: Store
    report: Report
    keep_lease: Callable[[], None]
    memory: Store | None = None
    progress: Progress = field(default=lambda _rows, _total: None)
    hidden: bool = field(init=False, default=False)
    stopped: bool = field(init=False, default=False)
    _named: bool = field(init=False, default=False)
    _making_way: bool = field(init=False, default=False)
    _nameless: list[Row] = field(init=False, default_factory=list)
    _fields: dict[int, Mapping[str, Any]] = field(init=False, default_factory=dict)

    async def read_for_due(self, due: int, now: float, make_way: MakeWay = _nothing) -> bool:
        """Read Halo's rows, newest first, as far as that takes fewer requests than single lookups.

        Returns whether rows were read: then `of` says of which payments all rows are known. Where no
        page is worth its request, or the pages can't be read, the caller looks up each payment.

        Args:
            due: how many payments are due.
            now: Unix seconds, of the payments that are due.
            make_way: called between two pages, with how many requests come next.
        """
        if due <= FEW or await self.sink.hides_intents(()):
            return False
        pages = PagesLeft(self.store.due_days(now))

        def worth_reading(page: RowPage, seen: int) -> bool:
            found = self.store.due_among([row.intent_id for row in page.rows if row.intent_id], now)
            settled = settled_among(found, self.store.rows.of([one.intent_id for one in found]))
            dates = [row.made for row in page.rows if row.made is not None]
            made = [_made(one) for one in settled]
            return pages.worth_reading(made, max(dates, default=None), seen, page.total)

        return await self._read(False, make_way, worth_reading) or self.stopped

    async def read(self, *, by_number: bool = False, make_way: MakeWay = _nothing) -> bool:
        """Read all of Halo's rows into the store, under the lease. Returns whether they are all.

        Args:
            by_number: where lists hide intents, give a row the payment for which syncd has seen its
                number before. That is good for comparing what is known, never for matching.
            make_way: as in `read_for_due`.
        """
        return await self._read(by_number, make_way, _each)

    async def _read(
        self, by_number: bool, make_way: MakeWay, worth_reading: Callable[[RowPage, int], bool]
    ) -> bool:
        """Read the pages, and once more where rows were missing. Returns whether all rows were read."""
        self.store.rows.forget()
        self._making_way = self.stopped = False
        self._named, self._nameless, self._fields = False, [], {}
        self.hidden = await self.sink.hides_intents(())
        if self.hidden and not by_number:
            return False
        try:
            seen, whole = await self._read_pages(0, make_way, worth_reading)
            if not whole and not self.stopped:
                # New rows are on the first pages, which were read before: read the pages again.
                seen, whole = await self._read_pages(seen, make_way, _each)
        except BadAnswer as error:
            if self._making_way:
                raise  # about a payment, not about the pages
            self.report.log("warning", "rows_unlisted", reason=str(error))
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
        """Where lists hide intents, read the newest rows alone that syncd has not seen before.

        Raises:
            LinkFailure: Halo can't be read.
        """
        found: dict[int, str] = {}
        for number in self.store.rows.newest_nameless(SAMPLE) if self.hidden else ():
            row = await self.sink.whole_row(UNNAMED, number)
            if row is not None and row.row.intent_id is not None:
                found[number] = row.row.intent_id
        self.store.rows.name(found)

    def of(self, due_payments: Sequence[DuePayment]) -> dict[str, list[Row]]:
        """The rows of these payments as read; with their fields, where those are kept.

        A payment is missing where not all its rows may have been read. Only after all pages were read,
        a payment may be there without rows.
        """
        found = self.store.rows.of([due.intent_id for due in due_payments])
        if self.stopped:
            due_payments = settled_among(due_payments, found)
        return {
            due.intent_id: [
                replace(row, fields=self._fields.get(row.id or 0)) for row in found[due.intent_id]
            ]
            for due in due_payments
        }

    def lookups(self, due_payments: Sequence[DuePayment]) -> int:
        """How many of these payments must be looked up alone, because pages may miss rows of them."""
        return len(due_payments) - len(self.of(due_payments))

    def first_of(self, due_payments: Sequence[DuePayment], lookups_max: int) -> list[DuePayment]:
        """As many of these payments, from the first on, as need at most so many lookups."""
        known = self.of(due_payments)
        number = 0
        for position, due in enumerate(due_payments):
            number += due.intent_id not in known
            if number > lookups_max:
                return list(due_payments[:position])
        return list(due_payments)

    async def rows_of(self, intent_ids: Sequence[str]) -> dict[str, list[Row]]:
        """The rows of these payments as read; where lists hide intents, each missing one is looked up.

        Raises:
            LinkFailure: Halo can't be read.
        """
        rows = self.store.rows.of(intent_ids)
        for intent_id in intent_ids if self.hidden else ():
            if not rows[intent_id]:
                self.keep_lease()
                rows[intent_id] = await self.sink.rows_of(intent_id)
                self.store.rows.name({row.id: intent_id for row in rows[intent_id] if row.id})
        return rows

    async def _read_pages(
        self, seen: int, make_way: MakeWay, worth_reading: Callable[[RowPage, int], bool]
    ) -> tuple[int, bool]:
        """Read pages into the store. Returns how many rows, and whether they are all rows."""
        whole = None
        async for listed in self.sink.list_rows(self._store_page, seen):
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
        return self.store.rows.add(page.rows)


def _made(due: DuePayment) -> int:
    """When a payment was made, Unix seconds."""
    current = due.payment.current
    return current.at if current.created is None else current.created
