"""Restores rows that a write has harmed, before any other row is tried in this tenant.

If Halo empties the columns that an update leaves out, syncd stopped writing after the first row or
the first list. The next attempt sends each harmed row alone, with its former contents and all
columns, and reads it back. That proves no update: the next payment's rows are also sent alone. Does
not belong here: that update (`prover`).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from syncd.core.errors import BadAnswer, LinkFailure, RowsRefused
from syncd.core.holds import HoldCode
from syncd.core.rows import RowChange, WholeRow
from syncd.core.rules.proof import UpdateMode, WriteKind, WriteTrouble
from syncd.sync.push.guard import UpdateGuard
from syncd.sync.push.outcomes import INSERT_DOUBT_SECONDS
from syncd.sync.push.proof.read_back import UNREADABLE_SECONDS, read_back

if TYPE_CHECKING:
    from syncd.sync.push.proof.prover import Prover


async def restore_harmed(prover: "Prover") -> bool:
    """Restore the rows of the last side effect, if their former contents are known.

    Returns:
        Whether payments may be tried now, with all columns: nothing was harmed, or syncd has
        restored everything it could.

    Raises:
        LeaseHeld: another process pushes.
        LinkFailure: a request to Halo failed; a later push continues.
    """
    trouble = prover.tenant.trouble(WriteKind.UPDATE)
    if trouble is None or not trouble.rows:
        return True
    whole = True
    for number, fields in trouble.rows.items():
        former = prover.sink.as_row(fields)
        try:
            now = await prover.sink.whole_row(trouble.intent_id, number)
        except BadAnswer:
            which = f"harmed row {number}, not shown"
            if prover.waits.seconds_left(which, trouble.at, UNREADABLE_SECONDS) > 0:
                raise
            now = None
        if now is None or now.row.intent_id not in (None, former.row.intent_id):
            whole = False  # the row is gone, is not shown, or belongs to another payment now
            continue
        row = prover.sink.refilled(former, now)
        if row.fields != now.fields:
            end = await _restored(prover, trouble, row, former)
            if end is None:
                return False
            whole = whole and end
        change = RowChange(number, row.row.status or 0)
        whole = whole and not prover.sink.compare(former, row, change).changed
    _decide_again(prover, trouble)  # before the rows are forgotten: the process may stop here
    prover.tenant.restored(trouble, whole=whole and trouble.whole)
    return True


def _decide_again(prover: "Prover", trouble: WriteTrouble) -> None:
    """Make payments due that were held because their emptied rows could not be read."""
    formers = [prover.sink.as_row(fields).row.intent_id for fields in trouble.rows.values()]
    for intent_id in dict.fromkeys([trouble.intent_id, *formers]):
        held = prover.store.payment(intent_id) if intent_id else None
        if held and held["code"] == HoldCode.ROW_UNREADABLE and not held["dismissed"]:
            prover.store.people.retry([str(intent_id)], prover.now())


async def _restored(
    prover: "Prover", trouble: WriteTrouble, row: WholeRow, former: WholeRow
) -> bool | None:
    """Send one row. Returns whether it is right now; None if nothing else may be sent."""
    status = former.row.status if row.row.status is None else row.row.status
    if status is None or row.row.id is None:
        return False
    number, tenant = row.row.id, prover.tenant
    change = RowChange(number, status, kept=row, keep_all=True)
    # Halo may carry out the write late, with the present status: nothing else is written before.
    waits = tenant.trouble_notes(replace(trouble, next_try=prover.now() + INSERT_DOUBT_SECONDS))
    guard = UpdateGuard(prover.store, prover.lease, [], prover.now, waits)
    try:
        answer = await prover.sink.update([change], guard, repeatable=False)
    except RowsRefused:
        return False  # for example a row whose own amount is text: the next row is tried
    except LinkFailure as error:
        if not error.maybe_applied:
            prover.store.write_notes(tenant.trouble_notes(trouble))
        raise
    if answer is None:
        if guard.lost is not None:
            raise guard.lost
        return None
    prover.backlog.failures.has_written()
    found = await read_back(
        prover.sink, prover.sleep, trouble.intent_id, {number: row}, {number: change}
    )
    if found is None:
        return False  # a person has deleted the row meanwhile
    if found.is_right:
        return True
    first = trouble.reason.partition(" Later, syncd sent row")[0]
    tenant.stop(
        WriteKind.UPDATE,
        trouble.code,
        trouble.intent_id,
        trouble.row_id,
        f"{first} Later, syncd sent row {number} with its former contents, "
        f"{UpdateMode.EVERYTHING.described}, and read it back: {found}.",
        trouble.before,
        trouble.tried,
        trouble.rows,
        whole=trouble.whole,
    )
    return None
