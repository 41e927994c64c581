"""What the engine needs of a PSA: look up rows, list rows, change rows, insert a row.

syncd uses `clients.halo.sink.HaloSink`. Another PSA is another class with these methods, in its own
folder beside `clients/halo`, and one line in `sync.build` that chooses it. Only domain values are
exchanged
here: nothing outside the client knows the PSA's JSON.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from syncd.clients.paging import Listed
from syncd.core.rows import Acknowledged, Guard, NewRow, Row, RowChange, RowPage, WholeRow
from syncd.core.rules.proof import Comparison, FieldChange


class Sink(Protocol):
    """A PSA. Every method raises LinkFailure if the PSA does not answer."""

    @property
    def page_size(self) -> int:
        """How many rows a full page contains."""

    async def rows_of(self, intent_id: str) -> list[Row]:
        """Look up all rows of one payment intent.

        Rows that may belong to the payment, but do not name it exactly, come without their `id`.

        Raises:
            ListingBroken: the PSA shows only a part of the rows.
        """

    async def rows_of_invoice(self, invoice_id: int) -> list[Row]:
        """Look up all rows of one invoice; raises as `rows_of`."""

    async def hides_intents(self, rows: Sequence[Row]) -> bool:
        """Whether lists leave out the payment intent that one of these rows has.

        Args:
            rows: rows that a list showed without a payment intent; without rows, earlier knowledge
                decides.
        """

    def list_rows(
        self, count_new: Callable[[RowPage], int], seen: int = 0, start: int = 1
    ) -> AsyncIterator[Listed[RowPage]]:
        """List all rows, newest first, page by page.

        Args:
            count_new: how many rows of a page were not on earlier pages; called once per page.
            seen: how many rows are known already, if the rows are listed a second time.
            start: the number of the first page to read, from 1.
        """

    async def count_rows(self) -> int:
        """Read the first page of all rows: the number of all rows, as far as the page shows it."""

    async def probe_lookup(self) -> None:
        """Look up a payment that does not exist, to test whether lookups work at all."""

    async def whole_row(self, intent_id: str, row_id: int) -> WholeRow | None:
        """Read one row with every field; None if the PSA has no such row."""

    async def invoice_figures(self, invoice_id: int) -> Mapping[str, str] | None:
        """The amounts due and paid of an invoice, by the PSA's names; None if not shown."""

    def as_row(self, fields: Mapping[str, Any]) -> WholeRow:
        """A row, rebuilt from its stored fields."""

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
        """What a row has lost or changed after an update, in the fields that both answers show.

        Args:
            before: the row as a list showed it; without its fields nothing is compared.
            after: the row as the answer shows it, or read by its id.
            whole: whether `after` shows each of the row's own columns that has a value.
        """

    async def reserve(self, requests: int) -> None:
        """Wait until the rate limit allows that many requests in a row."""

    async def has_room(self, requests: int) -> bool:
        """Whether the rate limit allows that many requests; if not, wait some seconds first."""

    async def update(
        self, changes: Sequence[RowChange], guard: Guard, *, repeatable: bool = True
    ) -> Acknowledged | None:
        """Set the status of rows, all or none.

        Args:
            changes: the rows and their new status.
            guard: the final check; asked right before each request, after all other waits.
            repeatable: whether to retry after a failure with `maybe_applied`.

        Returns:
            The answer; None if `guard` stopped the request.

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
