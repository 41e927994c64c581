"""Checks later answers of Halo: whether updates still change nothing but what they bring.

A proof on one row says what Halo did that day. Every later answer that shows rows is compared with the
rows as they were read; where answers do not show whole rows, one row of each push is read back.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syncd.core.holds import HoldCode
from syncd.core.records import DuePayment
from syncd.core.rows import Acknowledged, Row, RowChange, WholeRow
from syncd.core.rules.decisions import Update
from syncd.core.rules.proof import FieldChange, UpdateMode, WriteKind
from syncd.sync.push.proof.prover import SETTLE_SECONDS
from syncd.sync.push.proof.tenant import TenantWrites
from syncd.sync.sink import Sink

Batch = Sequence[tuple[DuePayment, Update]]

SUSPECTS_MAX = 3
"""So many rows of a list are read alone; the others are judged by them."""


@dataclass(slots=True)
class Verifier:
    """Compares rows with what an answer shows of them.

    Attributes:
        tenant: what is known about writing in this tenant.
        sleep: waits, or raises Stopping.
    """

    sink: Sink
    tenant: TenantWrites
    sleep: Callable[[float], Awaitable[None]]
    _looked: bool = field(init=False, default=False)

    def begin(self) -> None:
        """Begin another push: one row may be read back again."""
        self._looked = False

    async def befores(self, batch: Batch) -> dict[int, WholeRow] | None:
        """Read the rows that whole updates carry; None where updates bring their changes alone.

        A row that is gone is missing.

        Raises:
            LinkFailure: Halo can't be read.
        """
        if self.tenant.mode is UpdateMode.CHANGES:
            return None
        found: dict[int, WholeRow] = {}
        for due, update in batch:
            for row in update.rows:
                before = await self.sink.whole_row(due.intent_id, row)
                if before is not None:
                    found[row] = before
        return found

    def as_sent(self, change: RowChange, befores: Mapping[int, WholeRow] | None) -> RowChange:
        """An update of one row as this tenant needs it."""
        proof = self.tenant.proof(WriteKind.UPDATE)
        if proof is not None and not proof.trace:
            change = replace(change, trace=None)
        if befores is None:
            return change
        return replace(
            change, kept=befores[change.id], keep_all=self.tenant.mode is UpdateMode.EVERYTHING
        )

    async def odd_rows(
        self, batch: Batch, answer: Acknowledged, befores: Mapping[int, WholeRow] | None
    ) -> dict[int, tuple[FieldChange, ...]]:
        """Rows of which more has changed than the update brought, and what.

        A row that an answer shows oddly is read alone, and once more after a moment: only what both
        readings show counts.

        Raises:
            LinkFailure: Halo can't be read.
        """
        shown = {row.id: row for row in answer.rows}
        suspects: list[tuple[str, Row]] = []
        hidden: list[tuple[str, Row]] = []
        for due, update in batch:
            for row in update.before:
                seen = shown.get(row.id)
                one = (due.intent_id, row)
                if seen is None or seen.amount is None or seen.invoice_id is None:
                    hidden.append(one)
                elif _differs(row, seen, strict=False):
                    suspects.append(one)
        if hidden and not suspects and not self._looked:
            suspects, self._looked = hidden[:1], True
        found: dict[int, tuple[FieldChange, ...]] = {}
        for intent_id, row in suspects[:SUSPECTS_MAX]:
            changes = await self._confirmed(intent_id, row, befores)
            if changes and row.id is not None:
                found[row.id] = changes
        return found

    async def _confirmed(
        self, intent_id: str, row: Row, befores: Mapping[int, WholeRow] | None
    ) -> tuple[FieldChange, ...]:
        changes: tuple[FieldChange, ...] = ()
        for again in (False, True):
            if again:
                await self.sleep(SETTLE_SECONDS)
            after = None if row.id is None else await self.sink.whole_row(intent_id, row.id)
            if after is None:
                return ()  # a person deleted it: the next look finds that out
            changes = _differs(row, after.row, strict=after.alone)
            before = None if befores is None else befores.get(row.id or 0)
            if before is not None:
                change = RowChange(before.row.id or 0, before.row.status or 0)
                changes = self.sink.compare(before, after, change).changed
            if not changes:
                return ()
        return changes

    def stop(self, batch: Batch, odd: Mapping[int, tuple[FieldChange, ...]]) -> None:
        """Take the proof back, and keep what the rows of this list had before."""
        row, changes = next(iter(odd.items()))
        former = {
            f"row {one.id}": f"{due.intent_id}, invoice {one.invoice_id}, amount {one.amount}"
            for due, update in batch
            for one in update.before
        }
        intent_id = next(w.intent_id for w, update in batch if row in update.rows)
        self.tenant.stop(
            WriteKind.UPDATE,
            HoldCode.WRITES_HAVE_SIDE_EFFECTS,
            intent_id,
            row,
            f"syncd updated {len(former)} rows, and row {row} of {intent_id} changed beyond that: "
            f"{', '.join(map(str, changes))}.",
            former,
            (intent_id,),
        )


def _differs(before: Row, after: Row, *, strict: bool) -> tuple[FieldChange, ...]:
    """What a row had and has no more. Where an answer leaves a field out, only `strict` counts it."""
    found = []
    for name in ("intent_id", "invoice_id", "amount", "made"):
        had, has = getattr(before, name), getattr(after, name)
        if had is None or had == has or (has is None and not strict):
            continue
        found.append(FieldChange(name, str(had), None if has is None else str(has)))
    return tuple(found)
