"""Restores a row that a write has harmed, before any other row is tried in this tenant.

A tenant whose Halo empties what an update leaves out was stopped after its first row. The next try does
not go to another row: it gives the harmed row its former contents, with all columns, and reads it back.
Does not belong here: the first update of a payment (`prover`).
"""

from typing import TYPE_CHECKING

from syncd.core.errors import RowsRefused
from syncd.core.rows import RowChange, WholeRow
from syncd.core.rules.proof import Comparison, Proof, UpdateMode, WriteKind, WriteTrouble
from syncd.sync.push.guard import UpdateGuard
from syncd.sync.push.proof.tenant import Restored

if TYPE_CHECKING:
    from syncd.sync.push.proof.prover import Prover


async def restore_harmed(prover: "Prover") -> bool:
    """Restore the rows of the last side effect, where their former contents are known.

    Returns:
        Whether payments may be tried now, with all columns: nothing was harmed, or the rows are right
        again, or gone, or Halo refuses to take these rows back.

    Raises:
        LeaseHeld: another process pushes.
        LinkFailure: Halo can't be read or written; the next push tries again.
    """
    trouble = prover.tenant.trouble(WriteKind.UPDATE)
    if trouble is None or not trouble.rows:
        return True
    befores: dict[int, WholeRow] = {}
    changes: list[RowChange] = []
    for number, fields in trouble.rows.items():
        now = await prover.sink.whole_row(trouble.intent_id, number)
        if now is None:
            continue  # a person has deleted it
        former = prover.sink.as_row(fields)
        status = former.row.status if now.row.status is None else now.row.status
        if status is None:
            continue
        befores[number] = prover.sink.refilled(former, now)
        changes.append(RowChange(number, status, kept=befores[number], keep_all=True))
    if not changes:
        return True
    guard = UpdateGuard(prover.store, prover.lease, [], prover.now)
    try:
        answer = await prover.sink.update(changes, guard, repeatable=False)
    except RowsRefused:
        return True  # such as a row whose own amount is a text: another row shows more
    if answer is None:
        if guard.lost is not None:
            raise guard.lost
        return False
    prover.backlog.failures.has_written()
    sent = {change.id: change for change in changes}
    found = await prover.compared(trouble.intent_id, befores, sent)
    if found is None:
        return False  # a row was deleted meanwhile: the next push looks again
    if not found.is_right:
        return _stopped(prover, trouble, found)
    _proven(prover, trouble, found, befores)
    return True


def _stopped(prover: "Prover", trouble: WriteTrouble, found: Comparison) -> bool:
    first = trouble.reason.partition(" Later, syncd sent the")[0]
    prover.tenant.stop(
        WriteKind.UPDATE,
        trouble.code,
        trouble.intent_id,
        trouble.row_id,
        f"{first} Later, syncd sent the row's former contents {UpdateMode.EVERYTHING.described} and "
        f"read it back: {found}.",
        trouble.before,
        trouble.tried,
        trouble.rows,
        whole=trouble.whole,
    )
    return False


def _proven(
    prover: "Prover", trouble: WriteTrouble, found: Comparison, befores: dict[int, WholeRow]
) -> None:
    number, row = next(iter(befores.items()))
    all_back = set(befores) == set(trouble.rows) and all(
        not prover.sink.compare(
            prover.sink.as_row(trouble.rows[one]), restored, _nothing(one)
        ).changed
        for one, restored in befores.items()
    )
    restored = Restored.NOTHING
    if all_back:
        restored = Restored.WHOLE if trouble.whole else Restored.KNOWN
    prover.tenant.proven(
        Proof(
            WriteKind.UPDATE,
            prover.now(),
            trouble.intent_id,
            number,
            row.row.invoice_id,
            UpdateMode.EVERYTHING,
            found.trace_stored,
            (),
            row.alone,
        ),
        restored=restored,
    )


def _nothing(number: int) -> RowChange:
    return RowChange(number, 0)
