"""Tests on one row whether this tenant's Halo stores what syncd writes, and changes nothing else.

No document says what Halo does with an update that has only a row's id and status. Halo may merge
it, refuse it, drop a field although it answers 200, or empty the fields that were left out. So
syncd sends the first write of each kind alone and reads it back. Pure: `sync.push` decides what is
sent and when.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from syncd.core.holds import HoldCode
from syncd.text.sanitize import plain


class WriteKind(StrEnum):
    """A kind of write. Each kind needs its own proof."""

    UPDATE = "update"
    INSERT = "insert"


class UpdateMode(StrEnum):
    """Which columns an update of a row sends in this tenant."""

    CHANGES = "changes"  # the row's id, the new status and the trace
    REQUIRED = "required"  # also the columns that Halo requires, unchanged
    EVERYTHING = "everything"  # also every other column with a value: Halo empties the rest

    @property
    def described(self) -> str:
        """The columns that an update sends, as text for people."""
        return {
            UpdateMode.CHANGES: "with its new status",
            UpdateMode.REQUIRED: "with its new status and the columns that Halo requires",
            UpdateMode.EVERYTHING: "with its new status and all its columns",
        }[self]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of one row before and after a write.

    Attributes:
        name: Halo's name of the field.
        before: the value before, or the value that was sent; None for none.
        after: the value now; None for none.
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
        not_stored: fields that were sent but not stored (as sent, as found), without the trace.
        changed: fields that were not sent and have changed or disappeared.
        trace_stored: whether Halo stored the event's trace; also True if no trace was sent.
        own_time: whether the rows have the time at which syncd sent them as `webhook_received_date`.
            Otherwise a webhook or a person may have set the status, and a write without an answer may
            still be carried out.
    """

    not_stored: tuple[FieldChange, ...]
    changed: tuple[FieldChange, ...]
    trace_stored: bool = True
    own_time: bool = False

    @property
    def is_right(self) -> bool:
        """Whether Halo stored everything that counts, and nothing else changed."""
        return not self.not_stored and not self.changed

    @property
    def is_carried_out(self) -> bool:
        """Whether Halo has certainly carried out the write, and will not do so later."""
        return bool(self.changed) or (self.own_time and not self.not_stored)

    @staticmethod
    def of(parts: "Sequence[Comparison]") -> "Comparison":
        """What a write did to several rows."""
        return Comparison(
            tuple(change for part in parts for change in part.not_stored),
            tuple(change for part in parts for change in part.changed),
            all(part.trace_stored for part in parts),
            all(part.own_time for part in parts),
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
    """A write of one kind that syncd read back and found right.

    Attributes:
        at: Unix seconds.
        intent_id, row_id, invoice_id: the payment's row; None if unknown.
        mode: which columns an update sends in this tenant from now on.
        trace: whether the tenant stores the trace; otherwise syncd does not send it.
        invoice: what happened to the invoice in the meantime. It is displayed; it decides nothing.
        alone: whether the row could be read by its id; otherwise the proof relies on the list.
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
    """Why syncd no longer writes anything of one kind in this tenant.

    Attributes:
        code: writes_refused, writes_not_stored or writes_have_side_effects.
        at: when this happened first, Unix seconds.
        intent_id, row_id: the payment and the row that showed the problem.
        reason: what happened, for people.
        before: the row's former contents by field, to restore them by hand.
        tried: the payments that were tried; after a refusal another payment may be tried at once.
        next_try: when syncd tries one row again, Unix seconds.
        settings: the configuration of writes at that time.
        rows: each harmed row's former fields, as Halo showed them, by Halo's number of the row.
            Texts contain no secrets. Empty if unknown.
        whole: whether `rows` has all fields of the rows: they were read by their ids, not listed.
        invoice_id: the invoice of a new row; None if the payment's rows name it.
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
        """The id of the entry on the attention list, for `retry`."""
        return str(self.code) if self.kind is WriteKind.UPDATE else f"{self.code}_new"


def shown_fields(fields: Mapping[str, object]) -> dict[str, str]:
    """A row's fields as texts for people, without secrets and empty fields; long values are cut."""
    return {
        plain(name, 40): plain(str(value), 60)
        for name, value in fields.items()
        if value not in (None, "", [], {})
    }


def code_of(comparison: Comparison) -> HoldCode:
    """The code of a write that is not right. Lost data is worse than a status that is not stored."""
    if comparison.changed:
        return HoldCode.WRITES_HAVE_SIDE_EFFECTS
    return HoldCode.WRITES_NOT_STORED


def next_mode(comparison: Comparison | None, mode: UpdateMode) -> UpdateMode | None:
    """The mode in which to send the same row again; None if no mode is left to try.

    Args:
        comparison: what the write did; None if Halo refused it.
        mode: the mode of the write.
    """
    if mode is UpdateMode.EVERYTHING:
        return None
    if comparison is not None and comparison.changed:
        return UpdateMode.EVERYTHING
    return UpdateMode.REQUIRED if mode is UpdateMode.CHANGES else None


@dataclass(frozen=True, slots=True)
class Trial:
    """A write that is being proven: stored from before the request until it was read back.

    Attributes:
        intent_id, status: the payment, and the status that its rows shall have.
        mode: which columns the write sends.
        rows: each row's fields as they were read before, by Halo's number of the row. Texts contain
            no secrets.
        alone: whether Halo showed each row by its id before; otherwise the rows come from a list.
    """

    at: float
    intent_id: str
    status: int
    mode: UpdateMode
    rows: Mapping[int, Mapping[str, Any]]
    alone: bool = True


@dataclass(frozen=True, slots=True)
class NewRowTrial:
    """The first new row of a tenant: stored from before the request until it was read back.

    Attributes:
        at: when the row was sent, Unix seconds.
        intent_id: the payment.
        invoice_id: the invoice's number in the PSA.
        amount: in major units.
        status: the tenant's status number.
        paid_at: when the payment reached its state, Unix seconds.
        created: when the payment intent was created, Unix seconds; None if unknown.
        figures: the invoice's own amounts before the write, by name; empty if Halo did not show
            them.
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
    """A row of an update that was sent: stored until its result was compared.

    Attributes:
        id: the row's number in the PSA.
        status: the status number that was sent.
        intent_id, invoice_id, amount, made: the row's values before; None for no value.
        fields: the row's short fields before, by Halo's name, without secrets; empty if unknown.
    """

    id: int
    status: int
    intent_id: str
    invoice_id: int | None
    amount: Decimal | None
    made: int | None
    fields: Mapping[str, Any] = field(default_factory=dict, hash=False)
