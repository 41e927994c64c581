"""Notes about writes in one tenant: proofs, problems, trials, and updates not compared yet.

Each note names the tenant and the format. A note of another tenant, of another version, or a
damaged note counts as absent. Pure: `store` reads and writes the texts.
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
    """A trial of a new row, as text for the database."""
    return _dumped(tenant, {**asdict(trial), "amount": str(trial.amount)})


def read_new_row_trial(text: str | None, tenant: str | None = None) -> NewRowTrial | None:
    """Read a trial of a new row; None if it is missing, damaged, or about another tenant."""
    values = _loaded(text, tenant)
    try:
        values["amount"] = Decimal(values["amount"])
        return NewRowTrial(**values)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def sent_rows_text(rows: Sequence[SentRow], tenant: str) -> str:
    """The rows of an update, as text for the database."""
    lines = [
        [
            row.id,
            row.status,
            row.intent_id,
            row.invoice_id,
            _text_of(row.amount),
            row.made,
            dict(row.fields),
        ]
        for row in rows
    ]
    return without_secrets(_dumped(tenant, {"rows": lines}))


def read_sent_rows(text: str | None, tenant: str | None = None) -> tuple[SentRow, ...]:
    """Read the rows of an update; empty if they are missing, damaged, or about another tenant."""
    try:
        return tuple(
            SentRow(
                number,
                status,
                intent,
                invoice,
                None if amount is None else Decimal(amount),
                made,
                dict(fields),
            )
            for number, status, intent, invoice, amount, made, fields in _loaded(text, tenant)[
                "rows"
            ]
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return ()


def _text_of(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def proof_text(proof: Proof, tenant: str) -> str:
    """A proof as text for the database; `tenant` is the Halo for which the proof holds."""
    return _dumped(tenant, {**asdict(proof), "invoice": [astuple(one) for one in proof.invoice]})


def read_proof(text: str | None, tenant: str | None = None) -> Proof | None:
    """Read a proof; None if it is missing, damaged, of another version, or about another tenant.

    Args:
        text: the text in the database.
        tenant: the tenant that the proof must be about; None for any.
    """
    values = _loaded(text, tenant)
    try:
        values["kind"], values["mode"] = WriteKind(values["kind"]), UpdateMode(values["mode"])
        values["invoice"] = tuple(FieldChange(*one) for one in values["invoice"])
        return Proof(**values)
    except (KeyError, TypeError, ValueError):
        return None


def trouble_text(trouble: WriteTrouble, tenant: str) -> str:
    """A trouble, as text for the database."""
    rows = {str(row): dict(fields) for row, fields in trouble.rows.items()}
    values = {**asdict(replace(trouble, rows={})), "before": dict(trouble.before), "rows": rows}
    return without_secrets(_dumped(tenant, values))


def read_trouble(text: str | None, tenant: str | None = None) -> WriteTrouble | None:
    """Read a trouble; None if it is missing, damaged, or about another tenant.

    Args:
        text: the text in the database.
        tenant: the tenant that the trouble must be about; None for any.
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
    """A trial as text for the database, without secrets that Halo's texts may contain."""
    values = {
        "at": trial.at,
        "intent_id": trial.intent_id,
        "status": trial.status,
        "mode": trial.mode,
        "rows": {str(row): dict(fields) for row, fields in trial.rows.items()},
        "alone": trial.alone,
    }
    return without_secrets(_dumped(tenant, values))


def read_trial(text: str | None, tenant: str | None = None) -> Trial | None:
    """Read a trial; None if it is missing, damaged, or about another tenant."""
    values = _loaded(text, tenant)
    try:
        values["mode"] = UpdateMode(values["mode"])
        values["rows"] = {int(row): dict(fields) for row, fields in values["rows"].items()}
        return Trial(**values)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def due_at_once(text: str) -> str:
    """The text of a trouble after its next try has been made due."""
    return json.dumps({**json.loads(text), "next_try": 0})


def _dumped(tenant: str, values: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, "tenant": tenant, **values}, default=_plain_number)


def _plain_number(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _loaded(text: str | None, tenant: str | None) -> dict[str, Any]:
    """The values of a note; empty if the note has another format or tenant."""
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
        name: the note's name in the database.
        encode: turns a value and its tenant into text for the database.
        decode: reads a text. None or empty if the text is missing, damaged, or about another tenant
            than the given one (None for any).
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
"""Why syncd writes nothing of a kind."""

TRIAL = TenantNote("write_trial", trial_text, read_trial)
"""The first update: stored from before the request until it was read back."""

WHOLE_ROWS: TenantNote[bool] = TenantNote(
    "writes_whole_rows",
    lambda value, tenant: _dumped(tenant, {"whole_rows": value}),
    lambda text, tenant: _loaded(text, tenant).get("whole_rows") is True,
)
"""Whether an update had a side effect in this tenant: each update then brings all columns, for good."""

FIRST_UPDATE: TenantNote[str] = TenantNote(
    "write_first",
    lambda intent_id, tenant: _dumped(tenant, {"intent_id": intent_id}),
    lambda text, tenant: _loaded(text, tenant).get("intent_id"),
)
"""The payment whose first update was not stored: it is repeated before another payment is written."""

NEW_ROW_TRIAL = TenantNote("write_trial insert", new_row_trial_text, read_new_row_trial)
"""The first new row: stored from before the request until it was read back."""

UNCHECKED: TenantNote[Sequence[SentRow]] = TenantNote(
    "update_unchecked", sent_rows_text, read_sent_rows
)
"""Rows of updates that were sent, until their results were compared."""

HARM = "write_harm "
"""The prefix of the names of the notes with the former contents of harmed rows."""


def harm_note(row_id: int | None) -> TenantNote[WriteTrouble]:
    """The note with the former contents of a harmed row, until a person dismisses the entry."""
    return TenantNote(f"{HARM}{row_id}", trouble_text, read_trouble)
