"""All of Halo's rows, read page by page into the store, where that is cheaper than asking for each."""

from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.clients.halo.parse import PAGE_SIZE, is_whole, last_page
from syncd.clients.halo.sink import HaloSink
from syncd.core.errors import BadAnswer
from syncd.monitor.report import Report
from syncd.store.store import Store

FEW = 10
"""Up to so many payments are looked up one by one without asking how many rows Halo has."""

PAGES_MAX = 100_000

Progress = Callable[[int, int], None]
"""Told how many payments are done, and how many were due."""


@dataclass(slots=True)
class AllRows:
    """Reads all of Halo's rows.

    Attributes:
        keep_lease: called for each page: who reads them all holds the lease.
        progress: told how many rows were read, and how many there are.
    """

    sink: HaloSink
    store: Store
    report: Report
    keep_lease: Callable[[], None]
    progress: Progress = field(default=lambda _rows, _total: None)

    async def cheaper_for(self, due: int) -> bool:
        """Whether reading all of Halo's rows takes fewer requests than asking for each payment."""
        if due <= FEW:
            return False
        known = self.store.note("halo_rows")
        if known is None:
            async for page in self.sink.pages():
                known = str(len(page.rows) if page.total is None else page.total)
                break
        return due > int(known or 0) // PAGE_SIZE + 1

    async def read(self) -> bool:
        """Read all of Halo's rows into the store, under the lease. Returns whether they are all.

        Where they can't be read page by page, the payments are asked for one by one instead.
        """
        self.store.rows.forget()
        try:
            seen, whole = await self._read_pages(0)
            if not whole:
                # Rows that were made meanwhile stand on the first pages, which were read before.
                seen, whole = await self._read_pages(seen)
        except BadAnswer as error:
            self.report.log("warning", "rows_unlisted", reason=str(error))
            return False
        self.store.write_notes({"halo_rows": str(seen)})
        if not whole:
            self.report.log("warning", "rows_incomplete", seen=seen)
        return whole

    async def _read_pages(self, seen: int) -> tuple[int, bool]:
        """Read page by page until one ends the listing; returns how many rows, and whether all."""
        number = 0
        async for page in self.sink.pages():
            self.keep_lease()
            new = self.store.rows.add(page.rows)
            seen, number = seen + new, number + 1
            self.progress(seen, max(seen, page.total or 0))
            if last_page(page, new=new, seen=seen) or number >= PAGES_MAX:
                return seen, number < PAGES_MAX and is_whole(page, new=new, seen=seen)
        return seen, False
