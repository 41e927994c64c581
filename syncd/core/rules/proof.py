"""Whether this tenant's Halo stores what syncd writes, and nothing else: found out on one row.

No document says what Halo does with a row that brings only its id and status: it may merge it, refuse
it, drop a field while it answers 200, or empty what was left out. So the first write of each kind goes
alone and is read back. Pure: what is sent and when is decided in `sync.push`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from syncd.core.holds import HoldCode
from syncd.core.rows import WholeRow
from syncd.text.sanitize import plain


class WriteKind(StrEnum):
    """A kind of write. Each is proven for itself."""

    UPDATE = "update"
    INSERT = "insert"


class UpdateMode(StrEnum):
    """What an update of a row brings in this tenant."""

    CHANGES = "changes"  # the row's id, the new status and the trace
    REQUIRED = "required"  # also the columns that Halo demands, as they were right before
    EVERYTHING = "everything"  # also every other column that has a value: Halo empties the rest

    @property
    def described(self) -> str:
        """What an update brings, for people."""
        return {
            UpdateMode.CHANGES: "with its new status",
            UpdateMode.REQUIRED: "with its new status and the columns that Halo requires",
            UpdateMode.EVERYTHING: "with its new status and all its columns",
        }[self]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of one row before and after.

    Attributes:
        name: Halo's name of the field.
        before: what was there, or what was sent; None for nothing.
        after: what is there now; None for nothing.
    """

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'empty'} → {self.after or 'empty'}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a write did to one row.

    Attributes:
        not_stored: what was sent and is not there (as sent, as found), without the trace.
        changed: what was not sent and has changed or is gone.
        trace_stored: whether the trace of the event is there, where it was sent.
    """

    not_stored: tuple[FieldChange, ...]
    changed: tuple[FieldChange, ...]
    trace_stored: bool = True

    @property
    def is_right(self) -> bool:
        """Whether everything that counts was stored and nothing else changed."""
        return not self.not_stored and not self.changed

    @staticmethod
    def of(parts: "Sequence[Comparison]") -> "Comparison":
        """What a write did to several rows."""
        return Comparison(
            tuple(change for part in parts for change in part.not_stored),
            tuple(change for part in parts for change in part.changed),
            all(part.trace_stored for part in parts),
        )

    def __str__(self) -> str:
        missed = ", ".join(
            f"{one.name} (sent: {one.before or 'empty'}, found: {one.after or 'empty'})"
            for one in self.not_stored
        )
        parts = [f"not stored: {missed}"] * bool(missed)
        parts += [f"also changed: {', '.join(map(str, self.changed))}"] * bool(self.changed)
        return "; ".join(parts) or "stored as sent, nothing else changed"


@dataclass(frozen=True, slots=True)
class Proof:
    """One write of a kind that was read back and found right.

    Attributes:
        at: Unix seconds.
        intent_id, row_id, invoice_id: which payment's row; None where it isn't known.
        mode: what an update brings in this tenant from now on.
        trace: whether the tenant stores the trace; it is not sent otherwise.
        invoice: what happened to the invoice meanwhile. It is shown; it does not decide.
        alone: whether the row could be read alone; else the proof rests on the list.
    """

    kind: WriteKind
    at: float
    intent_id: str
    row_id: int | None
    invoice_id: int | None
    mode: UpdateMode = UpdateMode.CHANGES
    trace: bool = True
    invoice: tuple[FieldChange, ...] = ()
    alone: bool = True


@dataclass(frozen=True, slots=True)
class WriteTrouble:
    """Why nothing of a kind is written in this tenant any more.

    Attributes:
        code: writes_refused, writes_not_stored or writes_have_side_effects.
        at: Unix seconds of the first time.
        intent_id, row_id: which payment's row showed it.
        reason: what happened, for people.
        before: the row's former contents by field, to restore them by hand.
        tried: the payments that were tried; another one may be tried at once after a refusal.
        next_try: Unix seconds at which one row is tried again.
        settings: what the configuration said of writing then.
        rows: each harmed row's former fields, as Halo showed them, by Halo's number of the row. Texts
            come without secrets. Empty where they are not known.
        whole: whether those are all fields of the rows: they were read alone, not listed.
        invoice_id: the invoice of a new row; None where the payment's rows name it.
    """

    kind: WriteKind
    code: HoldCode
    at: float
    intent_id: str
    row_id: int | None
    reason: str
    before: Mapping[str, str]
    tried: tuple[str, ...]
    next_try: float
    settings: str
    rows: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    whole: bool = True
    invoice_id: int | None = None

    @property
    def entry_id(self) -> str:
        """What the attention list calls it, and what `retry` takes."""
        return str(self.code) if self.kind is WriteKind.UPDATE else f"{self.code}_new"


def shown_fields(row: WholeRow) -> dict[str, str]:
    """A row's fields as texts for people; empty fields are left out, long ones are cut."""
    return {
        plain(name, 40): plain(str(value), 60)
        for name, value in row.fields.items()
        if value not in (None, "", [], {})
    }


def code_of(comparison: Comparison) -> HoldCode:
    """The code of a write that is not right. Lost data is worse than a status that is not stored."""
    if comparison.changed:
        return HoldCode.WRITES_HAVE_SIDE_EFFECTS
    return HoldCode.WRITES_NOT_STORED


def next_mode(comparison: Comparison | None, mode: UpdateMode) -> UpdateMode | None:
    """How to write the same row once more; None where no other way is left.

    Args:
        comparison: what the write did; None where it was refused.
        mode: how it was sent.
    """
    if mode is UpdateMode.EVERYTHING:
        return None
    if comparison is not None and comparison.changed:
        return UpdateMode.EVERYTHING
    return UpdateMode.REQUIRED if mode is UpdateMode.CHANGES else None


@dataclass(frozen=True, slots=True)
class Trial:
    """A write that is being proven: kept from before it is sent until it was read back.

    Attributes:
        intent_id, status: which payment, and the status that its rows are to have.
        mode: how the write was sent.
        rows: each row's fields as they were read before, by Halo's number of the row. Texts come
            without secrets.
    """

    at: float
    intent_id: str
    status: int
    mode: UpdateMode
    rows: Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class NewRowTrial:
    """The first new row of a tenant: kept from before it is sent until it was read back.

    Attributes:
        at: when it was sent, Unix seconds.
        intent_id: which payment.
        invoice_id: the invoice's number in the PSA.
        amount: in major units.
        status: the tenant's status number.
        paid_at: when the payment reached its state, Unix seconds.
        created: when the payment intent was made, Unix seconds; None where that is unknown.
        figures: what the invoice said of itself before, by name; empty where Halo did not show it.
    """

    at: float
    intent_id: str
    invoice_id: int
    amount: Decimal
    status: int
    paid_at: int
    created: int | None
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SentRow:
    """A row of an update that was sent: kept until what Halo did with it was compared.

    Attributes:
        id: the row's number in the PSA.
        status: the status number that was sent.
        intent_id, invoice_id, amount, made: what the row had before; None where it had nothing.
    """

    id: int
    status: int
    intent_id: str
    invoice_id: int | None
    amount: Decimal | None
    made: int | None
