"""What the engine needs of a PSA: look up rows, list rows, change rows, insert a row.

`clients.halo.sink.HaloSink` is the one that syncd uses. Another PSA is another class with these
methods in a folder of its own beside `clients/halo`, and one line in `sync.build` that chooses it.
Only domain values pass here: nothing outside the client knows the PSA's JSON.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from syncd.clients.paging import Listed
from syncd.core.rows import Acknowledged, Guard, NewRow, Row, RowChange, RowPage, WholeRow
from syncd.core.rules.proof import Comparison, FieldChange


class Sink(Protocol):
    """A PSA. Every method raises LinkFailure where the PSA does not answer."""

    @property
    def page_size(self) -> int:
        """How many rows a full page lists."""

    async def rows_of(self, intent_id: str) -> list[Row]:
        """Look up all rows of one payment intent.

        Rows that may belong to the payment, but don't name it exactly, come without their `id`.

        Raises:
            ListingBroken: the PSA shows only a part of the rows.
        """

    async def rows_of_invoice(self, invoice_id: int) -> list[Row]:
        """Look up all rows of one invoice; raises as `rows_of`."""

    async def hides_intents(self, rows: Sequence[Row]) -> bool:
        """Whether lists leave out the payment intent that one of these rows has.

        Args:
            rows: rows that a list showed without an intent; without any, only what is known counts.
        """

    def list_rows(
        self, count_new: Callable[[RowPage], int], seen: int = 0
    ) -> AsyncIterator[Listed[RowPage]]:
        """List all rows, newest first, page by page.

        Args:
            count_new: how many rows of a page were not on the pages before; called once a page.
            seen: how many rows are known already, where the rows are listed a second time.
        """

    async def count_rows(self) -> int:
        """Read the first page of all rows: how many rows there are, as far as the page tells."""

    async def probe_lookup(self) -> None:
        """Look up a payment that does not exist: whether lookups work for any payment."""

    async def whole_row(self, intent_id: str, row_id: int) -> WholeRow | None:
        """Read one row with every field; None where the PSA has no such row."""

    async def invoice_figures(self, invoice_id: int) -> Mapping[str, str] | None:
        """What an invoice says is due and paid, by the PSA's names; None where it is not shown."""

    def as_row(self, fields: Mapping[str, Any]) -> WholeRow:
        """A row from fields that were kept of it."""

    def compare(
        self, before: WholeRow | None, after: WholeRow, sent: RowChange | NewRow
    ) -> Comparison:
        """What a write did to a row: what is not stored as sent, and what else changed.

        Args:
            before: the row before the write; None for an inserted row.
            after: the row after the write.
            sent: the write.
        """

    def refilled(self, former: WholeRow, now: WholeRow) -> WholeRow:
        """A row as it is now, with its former value in each field that is empty now."""

    def compare_shown(
        self, before: Row, after: Row, *, whole: bool = False
    ) -> tuple[FieldChange, ...]:
        """What a row had and has no more after an update, of all that both readings show.

        Args:
            before: the row as a list showed it; without its fields nothing is compared.
            after: the row as the answer shows it, or read alone.
            whole: whether `after` shows every column of its own that has a value.
        """

    async def reserve(self, requests: int) -> None:
        """Wait until the rate limit allows so many requests one after another."""

    async def has_room(self, requests: int) -> bool:
        """Whether the rate limit allows so many requests; where it does not, wait some seconds."""

    async def update(
        self, changes: Sequence[RowChange], guard: Guard, *, repeatable: bool = True
    ) -> Acknowledged | None:
        """Set the status of rows, all or none.

        Args:
            changes: the rows and their new status.
            guard: asked right before each sending, when nothing else is waited for.
            repeatable: whether to send again after a failure with `maybe_applied`.

        Returns:
            The answer; None where `guard` kept the request from being sent.

        Raises:
            RowsRefused: the PSA refuses at least one of the rows, and changed none.
        """

    async def insert(self, row: NewRow, guard: Guard) -> Acknowledged | None:
        """Insert one row; never sent again after a failure with `maybe_applied`.

        Args:
            row: the row.
            guard: as in `update`.

        Returns:
            As `update`.

        Raises:
            RowsRefused: the PSA refuses the row.
        """
