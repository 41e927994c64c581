"""Checks later answers of Halo: whether updates still change nothing but what they send.

A proof on one row shows what Halo did that day. Every later answer that shows rows is compared with
the rows as they were read. If answers do not show whole rows, one row of each push is read back. If
Halo did not answer, or syncd was stopped before the answer, the rows are read before the next
write.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from syncd.core.errors import BadAnswer, ServerError, Unreachable
from syncd.core.holds import HoldCode
from syncd.core.rows import Acknowledged, Row, RowChange, WholeRow
from syncd.core.rules.blame import RequestFailures
from syncd.core.rules.proof import FieldChange, SentRow, UpdateMode, WriteKind
from syncd.sync.push.guard import InsertWaits
from syncd.sync.push.proof.read_back import SETTLE_SECONDS, unlisted
from syncd.sync.push.proof.reading import Batch, Befores, RowReader
from syncd.sync.push.proof.tenant import TenantWrites, WritesStopped
from syncd.sync.sink import Sink
from syncd.text.timestamps import iso

SUSPECTS_MAX = 3
"""How many rows of a list are read by their ids; the others are judged by these."""

UNCHECKED_MAX = 200
"""How many rows of updates without an answer are stored until they can be compared."""


FIELD_CHARACTERS_MAX = 300
"""Longer texts of a row are not stored while its update has no answer."""


@dataclass(slots=True)
class Verifier:
    """Compares rows with an answer's version of them.

    Attributes:
        tenant: what is known about writes in this tenant.
        sleep: waits, or raises Stopping.
        waits: how long this process waits for a write that Halo may still carry out.
    """

    sink: Sink
    tenant: TenantWrites
    sleep: Callable[[float], Awaitable[None]]
    waits: InsertWaits
    _looked: bool = field(init=False, default=False)

    def begin(self) -> None:
        """Start another push: one row may be read back again."""
        self._looked = False

    async def befores(self, batch: Batch, failures: RequestFailures) -> Befores | None:
        """Read the rows that complete updates need; None if updates send only their changes.

        Arguments and failures as in `RowReader.of_list`.
        """
        if self.tenant.mode is UpdateMode.CHANGES:
            return None
        return await self.reader.of_list(batch, failures)

    @property
    def reader(self) -> RowReader:
        """Reads rows right before they are sent back."""
        return RowReader(self.sink, self.tenant.now, self.waits)

    def as_sent(
        self, changes: list[RowChange], befores: Mapping[int, WholeRow] | None
    ) -> list[RowChange]:
        """Updates of rows in the mode that this tenant needs."""
        proof = self.tenant.proof(WriteKind.UPDATE)
        if proof is not None and not proof.trace:
            changes = [replace(one, trace=None) for one in changes]
        if befores is None:
            return changes
        keep_all = self.tenant.mode is UpdateMode.EVERYTHING
        return [replace(one, kept=befores[one.id], keep_all=keep_all) for one in changes]

    async def odd_rows(
        self, batch: Batch, answer: Acknowledged, befores: Mapping[int, WholeRow] | None
    ) -> dict[int, tuple[FieldChange, ...]]:
        """The rows that changed in more than the update sent, with these changes.

        A row that an answer shows oddly is read by its id, and once more after a moment: only
        changes that both answers show count.

        Raises:
            LinkFailure: the request failed.
        """
        shown = {row.id: row for row in answer.rows}
        sent = {row: update.status for _, update in batch for row in update.rows}
        suspects: list[tuple[str, Row]] = []
        hidden: list[tuple[str, Row]] = []
        right = False
        for due, update in batch:
            for row in update.before:
                seen = shown.get(row.id)
                one = (due.intent_id, row)
                if seen is None or seen.amount is None or seen.invoice_id is None:
                    hidden.append(one)
                elif _differs(row, seen, strict=False):
                    suspects.append(one)
                elif self.sink.compare_shown(row, seen, whole=True):
                    # A column that an answer leaves out is either not shown, or empty now.
                    shows = bool(self.sink.compare_shown(row, seen))
                    (suspects if shows else hidden).append(one)
                else:
                    right = True
        sample = not suspects
        if sample and not self._looked:
            suspects = hidden
        found: dict[int, tuple[FieldChange, ...]] = {}
        for intent_id, row in suspects[:SUSPECTS_MAX]:
            changes, status = await self._confirmed(intent_id, row, befores)
            if sample and not changes and status == sent.get(row.id or 0):
                self._looked = True
                break  # one row that is right stands for the others that the answer does not show
            if changes and row.id is not None:
                found[row.id] = changes
        if len(found) == len(suspects) == 1 and not (sample or right):
            found |= await self._first_odd(hidden, befores)
        return found

    async def _first_odd(
        self, hidden: Sequence[tuple[str, Row]], befores: Mapping[int, WholeRow] | None
    ) -> dict[int, tuple[FieldChange, ...]]:
        """Whether a row that the answer does not show has changed like the only row that it shows."""
        for intent_id, row in hidden[:1]:
            changes, _ = await self._confirmed(intent_id, row, befores)
            if changes and row.id is not None:
                return {row.id: changes}
        return {}

    async def _confirmed(
        self, intent_id: str, row: Row, befores: Mapping[int, WholeRow] | None
    ) -> tuple[tuple[FieldChange, ...], int | None]:
        """What has changed of a row by two readings, and the status that it has."""
        changes: tuple[FieldChange, ...] = ()
        status: int | None = None
        for again in (False, True):
            if again:
                await self.sleep(SETTLE_SECONDS)
            after = None if row.id is None else await self.sink.whole_row(intent_id, row.id)
            if after is None and (again or self._reads_alone):
                return self._of_missing(intent_id), None
            if after is None:
                continue
            changes = _differs(row, after.row, strict=after.alone)
            shown = self.sink.compare_shown(row, after.row, whole=after.alone)
            known = {one.name for one in changes}
            changes += tuple(one for one in shown if one.name not in _NAMES | known)
            before = None if befores is None else befores.get(row.id or 0)
            if before is not None:
                change = RowChange(before.row.id or 0, before.row.status or 0)
                changes = self.sink.compare(before, after, change).changed
            status = after.row.status
            if not changes:
                return (), status
        return changes, status

    @property
    def _reads_alone(self) -> bool:
        """Whether Halo shows this tenant's rows by their ids."""
        proof = self.tenant.proof(WriteKind.UPDATE)
        return proof is None or proof.alone

    def _of_missing(self, intent_id: str) -> tuple[FieldChange, ...]:
        """The changes of a row that Halo no longer shows.

        Where Halo shows rows by their ids, a person deleted the row: the next lookup finds out.
        Otherwise the update may have emptied the row's payment.
        """
        return () if self._reads_alone else unlisted(intent_id)

    # --- updates without an answer ---------------------------------------------------------------

    def note_before(self, batch: Batch) -> dict[str, str | None]:
        """What to record before a list is sent: its rows' contents, and rows not compared yet."""
        rows = sent_rows(batch)
        numbers = {row.id for row in rows}
        older = [row for row in self.tenant.unchecked() if row.id not in numbers]
        return self.tenant.unchecked_note([*older[-UNCHECKED_MAX:], *rows])

    def note_after(self, batch: Batch) -> dict[str, str | None]:
        """What to record after a list was compared with Halo's answer, or was refused."""
        numbers = {row for _, update in batch for row in update.rows}
        return self.tenant.unchecked_note(
            [row for row in self.tenant.unchecked() if row.id not in numbers]
        )

    async def check_unanswered(self, *, late: bool) -> None:
        """Compare rows of updates that Halo did not answer, before anything else is written.

        Some of the rows are read; the others are judged by these. A row that cannot be read stays
        recorded.

        Args:
            late: whether Halo may still carry out the updates: then rows without the new status
                stay recorded for some minutes.

        Raises:
            WritesStopped: the update had side effects.
            LinkFailure: Halo cannot be read in general.
        """
        rows = self.tenant.unchecked()
        if not rows:
            return
        odd: dict[int, tuple[FieldChange, ...]] = {}
        read = fine = False
        for sent in dict.fromkeys((rows[0], rows[len(rows) // 2], rows[-1])):
            try:
                written, changes = await self._what_happened(sent)
            except (ServerError, BadAnswer, Unreachable):
                continue
            read = True
            if changes:
                odd[sent.id] = changes
            elif written:
                fine = True
                if not odd:
                    break
        # If one single row differs while another one is right, a person changed it.
        if odd and not (fine and len(odd) == 1):
            self.stop(rows, odd, {row.id: row.fields for row in rows if row.fields})
            raise WritesStopped
        if fine or (read and not (late and self._may_still_come(rows))):
            self.tenant.store.write_notes(self.tenant.unchecked_note(()))

    def _may_still_come(self, rows: Sequence[SentRow]) -> bool:
        which = float(sum(row.id for row in rows))
        return self.waits.seconds_left(f"update of row {rows[0].id}", which) > 0

    async def _what_happened(self, sent: SentRow) -> tuple[bool, tuple[FieldChange, ...]]:
        """Whether a row has the status that was sent, and what else of it has changed."""
        fields = dict(sent.fields) or None
        before = Row(
            sent.id, sent.intent_id, sent.invoice_id, sent.amount, None, sent.made, fields=fields
        )
        after = await self.sink.whole_row(sent.intent_id, sent.id)
        if after is None:
            return False, self._of_missing(sent.intent_id)
        written = after.row.status == sent.status
        differs = _differs(before, after.row, strict=after.alone)
        if not differs and not self.sink.compare_shown(before, after.row, whole=after.alone):
            return written, ()
        changes, _ = await self._confirmed(sent.intent_id, before, None)
        return written, changes

    def stop(
        self,
        rows: Sequence[SentRow],
        odd: Mapping[int, tuple[FieldChange, ...]],
        fields: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        """Withdraw the proof, and store what these rows had before.

        Args:
            rows: the rows of the list.
            odd: the changes of the rows that were examined.
            fields: each row's former fields, if known.
        """
        number, changes = next(iter(odd.items()))
        former = {
            f"row {row.id}": f"{row.intent_id}, invoice {row.invoice_id}, amount {row.amount}"
            for row in rows
        }
        intent_id = next(row.intent_id for row in rows if row.id == number)
        self.tenant.stop(
            WriteKind.UPDATE,
            HoldCode.WRITES_HAVE_SIDE_EFFECTS,
            intent_id,
            number,
            f"syncd updated {len(former)} rows, and row {number} of {intent_id} changed beyond that: "
            f"{', '.join(map(str, changes))}.",
            former,
            tuple(dict.fromkeys(row.intent_id for row in rows)),
            fields,
            whole=False,
        )
        self.tenant.store.write_notes(self.tenant.unchecked_note(()))


def sent_rows(batch: Batch) -> list[SentRow]:
    """The rows of a list, with their former values and the status that is sent."""
    return [
        SentRow(
            row.id,
            update.status,
            due.intent_id,
            row.invoice_id,
            row.amount,
            row.made,
            _short(row.fields or {}),
        )
        for due, update in batch
        for row in update.before
        if row.id is not None
    ]


def _short(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A row's fields that have a value, without long texts such as the trace: stored before each list."""
    return {
        name: value
        for name, value in fields.items()
        if value not in (None, "")
        and not isinstance(value, list | dict)
        and len(str(value)) <= FIELD_CHARACTERS_MAX
    }


def former_fields(
    batch: Batch, befores: Mapping[int, WholeRow] | None
) -> dict[int, Mapping[str, Any]]:
    """The former fields of each row of a list, as read by its id, or as Halo listed it."""
    listed = {
        row.id: row.fields
        for _, update in batch
        for row in update.before
        if row.id is not None and row.fields is not None
    }
    return listed | {number: row.fields for number, row in (befores or {}).items()}


_NAMES = frozenset({"intent_id", "invoice_id", "amount"})
"""Halo's fields that `_differs` compares already."""


def _differs(before: Row, after: Row, *, strict: bool) -> tuple[FieldChange, ...]:
    """What a row has lost or changed. A field that an answer leaves out counts only if `strict`."""
    found = []
    for name in ("intent_id", "invoice_id", "amount", "made"):
        had, has = getattr(before, name), getattr(after, name)
        if had is None or had == has or (has is None and not strict):
            continue
        change = FieldChange(name, str(had), None if has is None else str(has))
        found.append(change if name != "made" else _of_date(before, had, has))
    return tuple(found)


def _of_date(before: Row, had: int, has: int | None) -> FieldChange:
    """A change of the row's date, under Halo's name of the field."""
    own = before.fields is not None and not before.fields.get("intent_date")
    name = "date" if own else "intent_date"
    return FieldChange(name, iso(had), None if has is None else iso(has))
