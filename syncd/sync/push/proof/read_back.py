"""Reads rows back after an update, and compares them with what they were and what was sent.

The result decides how the attempt of a proof ended.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from enum import StrEnum

from syncd.core.rows import RowChange, WholeRow
from syncd.core.rules.proof import Comparison, FieldChange
from syncd.sync.sink import Sink

SETTLE_SECONDS = 2.0
"""Seconds before a row that differs is read again: another program may be writing it."""

UNREADABLE_SECONDS = 3_600.0
"""If Halo does not show a row that was written for so many seconds, syncd goes on without it."""


class End(StrEnum):
    """How one attempt ended."""

    PROVEN = "proven"
    LATER = "later"
    REFUSED = "refused"
    STOPPED = "stopped"


async def read_back(
    sink: Sink,
    sleep: Callable[[float], Awaitable[None]],
    intent_id: str,
    befores: Mapping[int, WholeRow],
    sent: Mapping[int, RowChange],
) -> Comparison | None:
    """Read the rows of a payment back, once more if they differ.

    None if one of the rows is gone and the others lost nothing. A row that Halo shows only in its
    payment's list may be missing there because the write has emptied its payment: that counts as a
    change.

    Raises:
        LinkFailure: Halo does not show a row.
    """
    found: Comparison | None = None
    for again in (False, True):
        if again:
            await sleep(SETTLE_SECONDS)
        parts: list[Comparison] = []
        gone = False
        for row, before in befores.items():
            after = await sink.whole_row(intent_id, row)
            if after is not None:
                parts.append(sink.compare(before, after, sent[row]))
            elif before.alone:
                gone = True
            else:
                parts.append(Comparison((), unlisted(intent_id)))
        found = Comparison.of(parts)
        if again and gone and not found.changed:
            return None
        if found.is_right and not gone:
            break
    return found


def unlisted(intent_id: str) -> tuple[FieldChange, ...]:
    """The change of a row that its payment's list no longer shows."""
    return (FieldChange("intent_id", intent_id, None),)


def written_by_others(
    numbers: Collection[int], befores: Mapping[int, WholeRow], found: Comparison, status: int
) -> bool:
    """Whether the only difference is a status that neither syncd sent nor the rows had before.

    Then Halo's own webhook, or a person, has written the row.

    Args:
        numbers: the configured status numbers.
        befores: the rows before the update.
        found: what the rows were afterwards.
        status: the number that syncd sent.
    """
    if found.changed or {one.name for one in found.not_stored} != {"status"}:
        return False
    known = {str(number) for number in numbers} - {str(status)}
    known -= {str(one.row.status) for one in befores.values()}
    return all(one.after in known for one in found.not_stored)


def changed_figures(
    before: Mapping[str, str] | None, after: Mapping[str, str] | None
) -> tuple[FieldChange, ...]:
    """What differs between an invoice's amounts before and after a write, by Halo's names.

    Empty if Halo did not show the invoice both times.
    """
    if not before or not after:
        return ()
    return tuple(
        FieldChange(name, before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    )
