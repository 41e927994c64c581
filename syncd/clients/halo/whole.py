"""Compares a row of Halo before and after a write, field by field.

Pure. It is not documented what Halo does with an update that contains only some fields of a row. So
syncd reads the row before and after the write, and compares. Does not belong here: the consequences
of a difference (`core.rules.proof`).
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from syncd.clients.halo.parse import read_row
from syncd.core.rows import Row, WholeRow
from syncd.core.rules.proof import Comparison, FieldChange
from syncd.text.sanitize import REMOVED, plain, without_secrets

REQUIRED = ("invoice_id", "date", "amount", "method", "status", "module_id")
"""Columns that must not be empty and have no default (source: a description of Halo's database)."""

_NUMBERS = frozenset(REQUIRED) - {"date"}
"""Columns that Halo's API description types as numbers: sent as numbers, also where a row shows text."""

INTENT_FIELDS = ("intent_id", "intent_date", "intent_response")

TRACE_FIELDS = ("webhook_payload", "webhook_received_date")

READ_ONLY = frozenset(
    {
        "id",
        "client_name",
        "invoice_invoicenumber",
        "payment_method_name",
        "invoice_qbo_id",
        "linked_creditnotes",
    }
)
"""Fields of the invoice or customer that Halo shows in a row: compared, never sent."""

BOOKED = frozenset({"posted", "dateposted"})
"""Fields that Halo's accounting sync sets. Only the loss of a value counts.

They are sent back unchanged if everything is sent, because Halo may book a row twice that has lost
them.
"""

VOLATILE = frozenset({"last_synced", "last_modified", "change_seq", "type"})
"""Fields that every write or sync may change; the older releases lack `type`."""

OVERWRITTEN = frozenset({"intent_response", "webhook_payload", "webhook_received_date"})
"""Fields that Halo's own webhook may set at any time: only the loss of a value counts."""

OWN = frozenset({*REQUIRED, *INTENT_FIELDS, "thirdpartyid", "reference", "client_id"})
"""The row's own columns; a row read by its id shows each of them that has a value."""

ZONE_SECONDS_MAX = 14 * 3_600
"""Dates have no zone: Halo may show a date in another zone than the zone in which it was sent."""

_NEVER_YEAR = 1900
_SHOWN_MAX = 60


def compare(before: WholeRow | None, after: WholeRow, sent: Mapping[str, Any]) -> Comparison:
    """Compare a row before and after a write.

    Args:
        before: the row as it was read before the write; None for an inserted row.
        after: the row as it was read afterwards.
        sent: the fields that were sent.
    """
    missed = [
        FieldChange(name, _shown(value), _shown(after.fields.get(name)))
        for name, value in sent.items()
        if name != "id" and not is_stored(value, after.fields.get(name))
    ]
    had = {} if before is None else before.fields
    received = TRACE_FIELDS[1]
    lost: list[FieldChange] = []
    if before is not None:
        for name, value in before.fields.items():
            if name in sent or name in VOLATILE or name.startswith("_") or _plain(value) is None:
                continue
            found = after.fields.get(name)
            if name in OVERWRITTEN | BOOKED and _plain(found) not in (None, False):
                continue
            if not _is_same(_plain(value), _plain(found)) and not _is_redacted(value, found):
                lost.append(FieldChange(name, _shown(value), _shown(found)))
    return Comparison(
        not_stored=tuple(change for change in missed if change.name not in TRACE_FIELDS),
        changed=tuple(lost),
        trace_stored=not any(
            name in TRACE_FIELDS and is_stored(after.fields.get(name), had.get(name))
            for name in (change.name for change in missed)
        ),
        own_time=is_stored(sent.get(received), after.fields.get(received)) and received in sent,
    )


def compare_shown(before: Row, after: Row, *, whole: bool) -> tuple[FieldChange, ...]:
    """What a row has lost or changed after an update, in the fields that both answers show.

    The status and the trace are excluded, because the update changes them. Fields of the invoice or
    the customer are excluded, because a list and a row read by its id may show them differently.

    Args:
        before: the row as a list showed it before the update.
        after: the row in the answer, or read by its id.
        whole: whether `after` shows each of the row's own columns that has a value: then a column
            that is left out counts as empty.
    """
    had, has = before.fields, after.fields
    if had is None or has is None:
        return ()
    compared = {
        name: value
        for name, value in had.items()
        if name not in READ_ONLY | BOOKED
        and name not in TRACE_FIELDS
        and name != "status"
        and (name in has or (whole and name in OWN))
    }
    changed = compare(WholeRow(before, compared), WholeRow(after, has), {}).changed
    # Different answers may show a date in another notation or zone, but never as another time.
    return tuple(one for one in changed if not is_stored(had[one.name], has.get(one.name)))


def columns_of(before: WholeRow, *, everything: bool) -> dict[str, Any]:
    """The columns of a row that an update sends back unchanged.

    Args:
        before: the row, read right before the update.
        everything: whether to send every other column with a value too, for a tenant that empties
            the columns that a write leaves out.
    """
    kept = {
        name: value
        for name, value in before.fields.items()
        if name in REQUIRED or (name in INTENT_FIELDS and _plain(value) is not None)
    }
    if everything:
        kept |= {
            name: value
            for name, value in before.fields.items()
            if name not in READ_ONLY
            and not name.startswith("_")
            and _plain(value) is not None
            and not isinstance(value, list | dict)
        }
    return {
        name: _as_json(_as_number(value) if name in _NUMBERS else value)
        for name, value in kept.items()
        if value is not None
    }


def refilled(former: WholeRow, now: WholeRow) -> WholeRow:
    """A row as it is now, with its former value in each field that is empty now.

    A field that a person has filled in meanwhile keeps the person's value. For the status, 0 is such a
    value, because a tenant may use the number 0.
    """
    lost = {
        name: value
        for name, value in former.fields.items()
        if _plain(value) is not None and _is_emptied(name, now.fields.get(name))
    }
    fields = {**now.fields, **lost}
    return WholeRow(read_row(fields), fields, now.alone)


def _is_emptied(name: str, value: Any) -> bool:
    return _plain(value) in ((None,) if name == "status" else (None, False, 0))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values mean the same; an absent flag means that the flag is not set."""
    return bool(one == other) or (one in (None, False) and other in (None, False))


def _is_redacted(stored: Any, found: Any) -> bool:
    """Whether a value from the store is this one, without the secrets that the store must not have."""
    if not isinstance(stored, str) or REMOVED not in stored or not isinstance(found, str):
        return False
    return bool(json.loads(without_secrets(json.dumps(found))) == stored)


def is_stored(sent: Any, found: Any) -> bool:
    """Whether the value that was sent was found again, in any notation."""
    one, other = _plain(sent), _plain(found)
    if _is_same(one, other):
        return True
    if isinstance(one, datetime) and isinstance(other, datetime):
        apart = abs((one - other).total_seconds())
        # A zone differs by a whole number of quarter hours.
        return apart <= ZONE_SECONDS_MAX + 1 and min(apart % 900, 900 - apart % 900) <= 1
    return False


def _plain(value: Any) -> Any:
    """A value without meaningless differences: notation, zone, empty or absent."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        return _number(str(value))
    if isinstance(value, str):
        return _plain_text(value.strip())
    try:
        return json.dumps(value, sort_keys=True, default=str) if value else None
    except RecursionError:  # writing JSON fails at a smaller depth than reading it
        return "nested too deeply"


def _plain_text(text: str) -> Any:
    if not text:
        return None
    if (number := _number(text)) is not None:
        return number
    try:
        found = datetime.fromisoformat(text) if text[:4].isdigit() and "-" in text[:8] else None
    except ValueError:
        found = None
    if found is not None:
        if found.year <= _NEVER_YEAR:
            return None
        try:
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except OverflowError:  # the last date that .NET knows, in a zone behind UTC
            return text
    if text[0] in "{[":
        try:
            return json.dumps(json.loads(text), sort_keys=True)
        except (ValueError, RecursionError):
            return text
    return text


def _number(text: str) -> Decimal | None:
    """A plain number; texts such as 1e5 or 007 are names, not numbers."""
    digits = text.removeprefix("-")
    if not digits.replace(".", "", 1).isdecimal() or len(digits) > 30 or not digits.isascii():
        return None
    if len(digits) > 1 and digits[0] == "0" and digits[1] != ".":
        return None
    return Decimal(text).normalize() if digits != "." else None


def _as_number(value: Any) -> Any:
    """A text that is exactly a number as that number; anything else as it is."""
    number = _number(value.strip()) if isinstance(value, str) else None
    return value if number is None else number


def _shown(value: Any) -> str | None:
    if _plain(value) is None:
        return None
    return plain(value if isinstance(value, str) else str(value), _SHOWN_MAX)


def _as_json(value: Any) -> Any:
    """A value that was parsed with exact decimals, as the JSON module would write it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
