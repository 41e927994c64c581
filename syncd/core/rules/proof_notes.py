"""The notes about writing in one tenant: proofs, troubles, trials and updates that were not compared yet.

Each note names the tenant and the format. What another tenant or another version wrote, or what is
damaged, counts as absent. Pure: `store` reads and writes the texts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from decimal import Decimal
from typing import Any, Generic, TypeVar

from syncd.core.holds import HoldCode
from syncd.core.rules.proof import (
    FieldChange,
    NewRowTrial,
    Proof,
    SentRow,
    Trial,
    UpdateMode,
    WriteKind,
    WriteTrouble,
)
from syncd.text.sanitize import without_secrets

FORMAT = 1
"""The version of the format. A note of another version counts as absent."""

T = TypeVar("T")


def new_row_trial_text(trial: NewRowTrial, tenant: str) -> str:
    """A trial of a new row as the store keeps it."""
    return _dumped(tenant, {**asdict(trial), "amount": str(trial.amount)})


def read_new_row_trial(text: str | None, tenant: str | None = None) -> NewRowTrial | None:
    """Read a trial of a new row; None where there is none, it is another tenant's, or it is damaged."""
    values = _loaded(text, tenant)
    try:
        values["amount"] = Decimal(values["amount"])
        return NewRowTrial(**values)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def sent_rows_text(rows: Sequence[SentRow], tenant: str) -> str:
    """The rows of an update as the store keeps them."""
    lines = [
        [row.id, row.status, row.intent_id, row.invoice_id, _text_of(row.amount), row.made]
        for row in rows
    ]
    return _dumped(tenant, {"rows": lines})


def read_sent_rows(text: str | None, tenant: str | None = None) -> tuple[SentRow, ...]:
    """Read the rows of an update; empty where there are none, they are another tenant's, or damaged."""
    try:
        return tuple(
            SentRow(
                number, status, intent, invoice, None if amount is None else Decimal(amount), made
            )
            for number, status, intent, invoice, amount, made in _loaded(text, tenant)["rows"]
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return ()


def _text_of(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def proof_text(proof: Proof, tenant: str) -> str:
    """A proof as the store keeps it. `tenant` says for which Halo it holds."""
    return _dumped(tenant, {**asdict(proof), "invoice": [astuple(one) for one in proof.invoice]})


def read_proof(text: str | None, tenant: str | None = None) -> Proof | None:
    """Read a proof; None where there is none, it is another tenant's, another version's, or damaged.

    Args:
        text: what the store keeps.
        tenant: the tenant that it must be about; None for any.
    """
    values = _loaded(text, tenant)
    try:
        values["kind"], values["mode"] = WriteKind(values["kind"]), UpdateMode(values["mode"])
        values["invoice"] = tuple(FieldChange(*one) for one in values["invoice"])
        return Proof(**values)
    except (KeyError, TypeError, ValueError):
        return None


def trouble_text(trouble: WriteTrouble, tenant: str) -> str:
    """A trouble as the store keeps it."""
    rows = {str(row): dict(fields) for row, fields in trouble.rows.items()}
    values = {**asdict(replace(trouble, rows={})), "before": dict(trouble.before), "rows": rows}
    return without_secrets(_dumped(tenant, values))


def read_trouble(text: str | None, tenant: str | None = None) -> WriteTrouble | None:
    """Read a trouble; None where there is none, it is another tenant's, or it is damaged.

    Args:
        text: what the store keeps.
        tenant: the tenant that it must be about; None for any.
    """
    values = _loaded(text, tenant)
    try:
        values["kind"], values["code"] = WriteKind(values["kind"]), HoldCode(values["code"])
        values["tried"] = tuple(values["tried"])
        former = values.get("rows", {})
        values["rows"] = {int(row): dict(fields) for row, fields in former.items()}
        return WriteTrouble(**values)
    except (KeyError, TypeError, ValueError):
        return None


def trial_text(trial: Trial, tenant: str) -> str:
    """A trial as the store keeps it; secrets that Halo's texts may hold are left out."""
    values = {
        "at": trial.at,
        "intent_id": trial.intent_id,
        "status": trial.status,
        "mode": trial.mode,
        "rows": {str(row): dict(fields) for row, fields in trial.rows.items()},
    }
    return without_secrets(_dumped(tenant, values))


def read_trial(text: str | None, tenant: str | None = None) -> Trial | None:
    """Read a trial; None where there is none, it is another tenant's, or it is damaged."""
    values = _loaded(text, tenant)
    try:
        values["mode"] = UpdateMode(values["mode"])
        values["rows"] = {int(row): dict(fields) for row, fields in values["rows"].items()}
        return Trial(**values)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def due_at_once(text: str) -> str:
    """The text of a trouble whose next try is due."""
    return json.dumps({**json.loads(text), "next_try": 0})


def _dumped(tenant: str, values: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, "tenant": tenant, **values}, default=_plain_number)


def _plain_number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _loaded(text: str | None, tenant: str | None) -> dict[str, Any]:
    """The values of a note; empty where it is not one of this format and tenant."""
    try:
        values = json.loads(text) if text else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        return {}
    known = values.pop("tenant", None)
    return values if tenant in (None, known) else {}


@dataclass(frozen=True, slots=True)
class TenantNote(Generic[T]):
    """A kind of note about one tenant.

    Attributes:
        name: its name in the database.
        encode: turns a value and its tenant into the text that the store keeps.
        decode: reads a text; None or empty where there is none, it is about another tenant than the given
            one (None for any), or it is damaged.
    """

    name: str
    encode: Callable[[T, str], str]
    decode: Callable[[str | None, str | None], T | None]

    def of(self, notes: Mapping[str, str], tenant: str | None = None) -> T | None:
        """The value among all notes, by name."""
        return self.decode(notes.get(self.name), tenant)


PROOFS = {kind: TenantNote(f"write_proof {kind}", proof_text, read_proof) for kind in WriteKind}
"""The proof of each kind of write."""

TROUBLES = {
    kind: TenantNote(f"write_trouble {kind}", trouble_text, read_trouble) for kind in WriteKind
}
"""Why nothing of a kind is written."""

TRIAL = TenantNote("write_trial", trial_text, read_trial)
"""The first update: kept from before it is sent until it was read back."""

WHOLE_ROWS: TenantNote[bool] = TenantNote(
    "writes_whole_rows",
    lambda value, tenant: _dumped(tenant, {"whole_rows": value}),
    lambda text, tenant: _loaded(text, tenant).get("whole_rows") is True,
)
"""Whether an update had a side effect in this tenant: each update then brings all columns, for good."""

NEW_ROW_TRIAL = TenantNote("write_trial insert", new_row_trial_text, read_new_row_trial)
"""The first new row: kept from before it is sent until it was read back."""

UNCHECKED: TenantNote[Sequence[SentRow]] = TenantNote(
    "update_unchecked", sent_rows_text, read_sent_rows
)
"""Rows of updates that were sent; what Halo did with them was not compared yet."""

HARM = "write_harm "
"""The beginning of the names of the notes that keep what harmed rows had before."""


def harm_note(row_id: int | None) -> TenantNote[WriteTrouble]:
    """The note that keeps what a harmed row had before, until a person dismisses it."""
    return TenantNote(f"{HARM}{row_id}", trouble_text, read_trouble)
