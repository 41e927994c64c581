"""The engine and the store work with another PSA: nothing outside clients/halo knows Halo's JSON."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import Any

from syncd.clients.paging import Listed
from syncd.core.errors import Side
from syncd.core.records import Condition
from syncd.core.rows import Acknowledged, Guard, NewRow, Row, RowChange, RowPage, WholeRow
from syncd.core.rules.proof import Comparison, FieldChange
from syncd.sync.build import assemble, build_engine
from syncd.sync.sink import Sink
from tests.conftest import Rig


@dataclass
class ListSink:
    """A PSA as a dictionary of rows."""

    rows: dict[int, Row] = field(default_factory=dict)
    page_size: int = 100

    async def rows_of(self, intent_id: str) -> list[Row]:
        return [row for row in self.rows.values() if row.intent_id == intent_id]

    async def rows_of_invoice(self, invoice_id: int) -> list[Row]:
        return [row for row in self.rows.values() if row.invoice_id == invoice_id]

    async def hides_intents(self, rows: Sequence[Row]) -> bool:
        return any(row.intent_id is not None for row in rows)

    async def list_rows(
        self, count_new: Callable[[RowPage], int], seen: int = 0, start: int = 1
    ) -> AsyncIterator[Listed[RowPage]]:
        rows = tuple(self.rows.values()) if start == 1 else ()
        page = RowPage(rows, len(self.rows))
        yield Listed(page, seen + count_new(page), whole=True)

    async def count_rows(self) -> int:
        return len(self.rows)

    async def probe_lookup(self) -> None:
        """Lookups always work."""

    async def whole_row(self, intent_id: str, row_id: int) -> WholeRow | None:
        row = self.rows.get(row_id)
        return None if row is None or row.intent_id != intent_id else self.as_row(asdict(row))

    async def invoice_figures(self, invoice_id: int) -> None:
        """There are no invoices."""

    def as_row(self, fields: Mapping[str, Any]) -> WholeRow:
        return WholeRow(Row(**fields), fields)

    def compare(
        self, before: WholeRow | None, after: WholeRow, sent: RowChange | NewRow
    ) -> Comparison:
        wrong = before == after or after.row.status != sent.status
        return Comparison((FieldChange("status", None, None),) * wrong, ())

    def refilled(self, former: WholeRow, now: WholeRow) -> WholeRow:
        return WholeRow(now.row, {**former.fields, **now.fields})

    def compare_shown(
        self, before: Row, after: Row, *, whole: bool = False
    ) -> tuple[FieldChange, ...]:
        lost = before.customer != after.customer and (whole or after.customer is not None)
        return (FieldChange("customer", before.customer, after.customer),) * lost

    async def reserve(self, requests: int) -> None:
        """There is no rate limit."""

    async def has_room(self, requests: int) -> bool:
        return requests > 0

    async def update(
        self, changes: Sequence[RowChange], guard: Guard, *, repeatable: bool = True
    ) -> Acknowledged | None:
        assert not repeatable  # the first update of a tenant
        if not guard.allows_sending():
            return None
        for one in changes:
            self.rows[one.id] = replace(self.rows[one.id], status=one.status)
        return Acknowledged(tuple(self.rows[one.id] for one in changes), None)

    async def insert(self, row: NewRow, guard: Guard) -> Acknowledged | None:
        if not guard.allows_sending():
            return None
        number = len(self.rows) + 1
        self.rows[number] = Row(number, row.intent_id, row.invoice_id, row.amount, row.status)
        return Acknowledged((self.rows[number],), None)


def test_another_psa(rig: Rig) -> None:
    """A poll and a push update the row of one payment and insert the row of another."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    known = rig.pay("succeeded", rows=())
    missing = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": "7"})
    paid = rig.box.halo.status["succeeded"]
    sink = ListSink({1: Row(1, known, 6, Decimal("10.99"), 0)})
    store = rig.open()

    async def go() -> None:
        config = rig.config()
        parts = assemble(config, store, rig.told, rig.world, "a test")
        another: Sink = sink
        engine = build_engine(
            config,
            store,
            rig.told,
            rig.world,
            "a test",
            parts.source,
            another,
            parts.engine.rate_limiters,
        )
        await engine.poll()
        await engine.push()
        assert engine.links[Side.HALO].reason is None
        await parts.close()

    try:
        asyncio.run(go())
        assert store.people.conditions()[Condition.IN_STEP] == 2
    finally:
        store.close()
    assert [(row.intent_id, row.status) for row in sink.rows.values()] == [
        (known, paid),
        (missing, paid),
    ]
    assert rig.box.halo.requests == []
