"""Reads all rows of the PSA into the store, where that takes fewer requests than single lookups."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from syncd.core.errors import BadAnswer
from syncd.core.rows import Row, RowPage
from syncd.monitor.report import Report
from syncd.store.coordination import HALO_ROWS
from syncd.store.store import Store
from syncd.sync.sink import Sink

FEW = 10
"""Up to so many payments are looked up one by one, without finding out how many rows Halo has."""

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


@dataclass(slots=True)
class AllRows:
    """Reads all of Halo's rows.

    Attributes:
        keep_lease: called for each page, because whoever reads all rows holds the push lease.
        memory: the store that knows which rows were seen before; None for `store`.
        progress: called with how many rows were read, and how many there are.
        hidden: whether the lists that were read last hide the rows' payments.
    """

    sink: Sink
    store: Store
    report: Report
    keep_lease: Callable[[], None]
    memory: Store | None = None
    progress: Progress = field(default=lambda _rows, _total: None)
    hidden: bool = field(init=False, default=False)
    _named: bool = field(init=False, default=False)
    _making_way: bool = field(init=False, default=False)
    _nameless: list[Row] = field(init=False, default_factory=list)
    _fields: dict[int, Mapping[str, Any]] = field(init=False, default_factory=dict)

    async def cheaper_for(self, due: int) -> bool:
        """Whether reading all of Halo's rows takes fewer requests than asking for each payment."""
        if due <= FEW or await self.sink.hides_intents(()):
            return False
        known = self.store.read(HALO_ROWS)
        if known is None:
            known = await self.sink.count_rows()
        return due > known // self.sink.page_size + 1

    async def read(self, *, by_number: bool = False, make_way: MakeWay = _nothing) -> bool:
        """Read all of Halo's rows into the store, under the lease. Returns whether they are all.

        Where the pages can't be read, the caller looks up each payment instead.

        Args:
            by_number: where lists hide intents, give a row the payment for which syncd has seen its
                number before. That is good for comparing what is known, never for matching.
            make_way: called between two pages, with how many requests come next.
        """
        self.store.rows.forget()
        self._making_way = False
        self._named, self._nameless, self._fields = False, [], {}
        self.hidden = await self.sink.hides_intents(())
        if self.hidden and not by_number:
            return False
        try:
            seen, whole = await self._read_pages(0, make_way)
            if not whole:
                # New rows are on the first pages, which were read before: read the pages again.
                seen, whole = await self._read_pages(seen, make_way)
        except BadAnswer as error:
            if self._making_way:
                raise  # about a payment, not about the pages
            self.report.log("warning", "rows_unlisted", reason=str(error))
            return False
        if not self._named and self._nameless and not self.hidden:
            self.hidden = await self.sink.hides_intents(self._nameless)
            if self.hidden:
                self.report.log(
                    "warning", "rows_without_intents", seen=seen,
                    reason="Halo's lists do not show intent_id, so syncd looks up each payment alone.",
                )  # fmt: skip
        if self.hidden and not by_number:
            self.store.rows.forget()
            return False
        if self.hidden:
            self.store.rows.name((self.memory or self.store).rows.owners())
        self.store.write(HALO_ROWS, seen)
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

    def of(self, intent_ids: Sequence[str]) -> dict[str, list[Row]]:
        """The rows of these payments as read; with their fields, where those are kept."""
        return {
            intent_id: [replace(row, fields=self._fields.get(row.id or 0)) for row in rows]
            for intent_id, rows in self.store.rows.of(intent_ids).items()
        }

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

    async def _read_pages(self, seen: int, make_way: MakeWay) -> tuple[int, bool]:
        """Read all pages into the store. Returns how many rows, and whether they are all rows."""
        whole = None
        async for listed in self.sink.list_rows(self._store_page, seen):
            seen, whole = listed.seen, listed.whole
            self.progress(seen, max(seen, listed.page.total or 0))
            if whole is None:
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
                    name: value for name, value in row.fields.items()
                    if not (isinstance(value, str) and len(value) > TEXT_MAX)
                }  # fmt: skip
        self._nameless += nameless[: max(0, SAMPLE - len(self._nameless))]
        return self.store.rows.add(page.rows)
