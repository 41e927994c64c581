"""Reads all rows of the PSA into the store, where that takes fewer requests than single lookups."""

from collections.abc import Callable
from dataclasses import dataclass, field

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

Progress = Callable[[int, int], None]
"""Called with how many are done, and how many there are."""


@dataclass(slots=True)
class AllRows:
    """Reads all of Halo's rows.

    Attributes:
        keep_lease: called for each page, because whoever reads all rows holds the push lease.
        progress: called with how many rows were read, and how many there are.
    """

    sink: Sink
    store: Store
    report: Report
    keep_lease: Callable[[], None]
    progress: Progress = field(default=lambda _rows, _total: None)
    _named: bool = field(init=False, default=False)
    _nameless: list[Row] = field(init=False, default_factory=list)

    async def cheaper_for(self, due: int) -> bool:
        """Whether reading all of Halo's rows takes fewer requests than asking for each payment."""
        if due <= FEW or await self.sink.hides_intents(()):
            return False
        known = self.store.read(HALO_ROWS)
        if known is None:
            known = await self.sink.count_rows()
        return due > known // self.sink.page_size + 1

    async def read(self) -> bool:
        """Read all of Halo's rows into the store, under the lease. Returns whether they are all.

        Where the pages can't be read, the caller looks up each payment instead.
        """
        self.store.rows.forget()
        self._named, self._nameless = False, []
        if await self.sink.hides_intents(()):
            return False
        try:
            seen, whole = await self._read_pages(0)
            if not whole:
                # New rows are on the first pages, which were read before: read the pages again.
                seen, whole = await self._read_pages(seen)
        except BadAnswer as error:
            self.report.log("warning", "rows_unlisted", reason=str(error))
            return False
        if not self._named and self._nameless and await self.sink.hides_intents(self._nameless):
            self.store.rows.forget()
            self.report.log(
                "warning", "rows_without_intents", seen=seen,
                reason="Halo's lists do not show intent_id, so syncd looks up each payment alone.",
            )  # fmt: skip
            return False
        self.store.write(HALO_ROWS, seen)
        if not whole:
            self.report.log("warning", "rows_incomplete", seen=seen)
        return whole

    async def _read_pages(self, seen: int) -> tuple[int, bool]:
        """Read all pages into the store. Returns how many rows, and whether they are all rows."""
        whole = None
        async for listed in self.sink.list_rows(self._store_page, seen):
            seen, whole = listed.seen, listed.whole
            self.progress(seen, max(seen, listed.page.total or 0))
        return seen, bool(whole)

    def _store_page(self, page: RowPage) -> int:
        self.keep_lease()
        nameless = [row for row in page.rows if row.intent_id is None and row.id is not None]
        self._named = self._named or len(nameless) < len(page.rows)
        self._nameless += nameless[: max(0, SAMPLE - len(self._nameless))]
        return self.store.rows.add(page.rows)
