"""Finds the payment of a row if Halo's lists do not show `intent_id`.

A row of a live tenant's list came without `intent_id` (source: see docs/halo-and-stripe.md). Either
lists leave out empty fields, or lists never show this field. So syncd reads such a row by its id.
If rows read by their ids have a payment intent that the list left out, syncd tests the filter
`?intent_id=` instead, and then trusts the filter; one lookup in CHECK_EVERY reads a row by its id
again.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from syncd.core.errors import (
    BadAnswer,
    ListingBroken,
    PermissionMissing,
    ServerError,
    Side,
    SignInRefused,
)
from syncd.core.rows import Row, WholeRow

PROVEN_ROWS = 3
"""How many rows, read by their ids, must agree with the filter before the filter is trusted."""

CHECK_EVERY = 50
"""Every how many lookups one row is read by its id, although the filter is trusted."""

ALONE_MAX = 20
"""The maximum number of rows in one listing that are read by their ids."""


@dataclass(slots=True)
class ListedIntents:
    """What is known about the lists of this tenant.

    Attributes:
        row_alone: reads one row by its id.
        keep: stores beyond this process whether the filter is trusted in this tenant.
        trusted: whether lists hide the payment intent, and the filter is proven to work.
        shown: whether a list has shown a payment intent.
    """

    row_alone: Callable[[int], Awaitable[WholeRow | None]]
    keep: Callable[[bool], None]
    trusted: bool = False
    shown: bool = False
    _agreed: int = field(init=False, default=0)
    _lookups: int = field(init=False, default=0)

    def take(self, rows: Sequence[Row]) -> None:
        """Learn from the rows of a list, as the list shows them."""
        if any(row.intent_id is not None for row in rows):
            self.shown = True
            if self.trusted:
                self._distrust()  # the lists of this tenant show payment intents now

    async def of_filter(self, intent_id: str, rows: Sequence[Row]) -> list[Row]:
        """Complete the rows without a payment intent that a working filter returned.

        Returns the rows with their payment intents. A row that cannot be read by its id, or that
        has no payment intent there either, is returned without one.
        """
        if self.trusted:
            self._lookups += 1
            if self._lookups % CHECK_EVERY:
                return [replace(row, intent_id=intent_id) for row in rows]
            first = await self.alone(rows[0])
            if first is not None and first.intent_id == intent_id:
                return [first, *(replace(row, intent_id=intent_id) for row in rows[1:])]
            self._distrust()
        found = []
        for row in rows[:ALONE_MAX]:
            alone = await self.alone(row)
            if alone is None:
                continue
            found.append(alone)
            if alone.intent_id == intent_id:
                self._agreed += 1
            elif alone.intent_id is not None:
                self._distrust()
        found += rows[ALONE_MAX:]
        if self._agreed >= PROVEN_ROWS and not self.shown and not self.trusted:
            self.trusted = True
            self.keep(True)
        return found

    async def of_invoice(self, rows: Sequence[Row]) -> list[Row]:
        """Complete the rows of one invoice; unchanged if lists show payment intents."""
        hidden = [row for row in rows if row.intent_id is None and row.id is not None]
        if self.shown or not hidden:
            return list(rows)
        completed = {row.id: await self.alone(row) for row in hidden[:ALONE_MAX]}
        found = (completed.get(row.id, row) if row.id is not None else row for row in rows)
        return [row for row in found if row is not None]

    async def hide(self, rows: Sequence[Row]) -> bool:
        """Whether lists hide payment intents; reads rows by their ids to find out."""
        if self.trusted:
            return True
        if self.shown:
            return False
        for row in rows[:ALONE_MAX]:
            alone = await self.alone(row)
            if alone is not None and alone.intent_id is not None:
                return True
        return False

    async def each_alone(self, intent_id: str, rows: Sequence[Row]) -> dict[int | None, Row]:
        """The payment's rows, if Halo ignores the filter and hides payment intents.

        Raises:
            ListingBroken: there are too many rows to read each by its id.
        """
        if len(rows) > ALONE_MAX:
            message = (
                "Halo's lists do not show intent_id, and Halo ignores the filter by intent_id, so syncd "
                f"cannot find the rows of a payment among {len(rows)}. syncd wrote nothing. Please report this "
                "to the project with the output of syncd bugreport."
            )
            raise ListingBroken(Side.HALO, message)
        read = [await self.alone(row) for row in rows]
        return {row.id: row for row in read if row is not None and row.intent_id == intent_id}

    async def alone(self, row: Row) -> Row | None:
        """The row read by its id; the same row if Halo does not show it alone; None if deleted."""
        if row.id is None:
            return row
        try:
            whole = await self.row_alone(row.id)
        except (BadAnswer, PermissionMissing, SignInRefused, ServerError) as error:
            if error.retry_after_seconds is not None:
                raise
            return row
        return None if whole is None else whole.row

    def _distrust(self) -> None:
        self._agreed = 0
        if self.trusted:
            self.trusted = False
            self.keep(False)
