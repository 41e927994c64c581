"""What is known about writes in this tenant, as the store keeps it: proofs, problems, a trial."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from syncd.core.errors import BadAnswer, Failure, LinkFailure, Side
from syncd.core.holds import HoldCode
from syncd.core.records import Condition, DuePayment
from syncd.core.rows import WholeRow
from syncd.core.rules.proof import (
    Comparison,
    NewRowTrial,
    Proof,
    SentRow,
    Trial,
    UpdateMode,
    WriteKind,
    WriteTrouble,
    code_of,
    shown_fields,
)
from syncd.core.rules.proof_notes import (
    FIRST_UPDATE,
    NEW_ROW_TRIAL,
    PROOFS,
    TRIAL,
    TROUBLES,
    UNCHECKED,
    WHOLE_ROWS,
    TenantNote,
    due_at_once,
    harm_note,
)
from syncd.monitor.report import Report
from syncd.store.coordination import INSERTS_REFUSED
from syncd.store.store import Store

T = TypeVar("T")

RETRY_SECONDS = 86_400.0
"""How long nothing is written after a failed proof, in seconds; then one row is tried again."""

REFUSED_MAX = 10
"""How many payments whose new row was refused are remembered; the newest is the last."""


@dataclass(slots=True)
class TenantWrites:
    """What is known about writes in this tenant; kept in the store.

    Attributes:
        tenant: identifies the Halo. What was proven in another Halo does not count.
        known: why kinds of writes are stopped, as of the last push; for callers that must not wait
            for the database.
        settings: the settings that concern writes; after a change, a write is tried at once.
    """

    store: Store
    report: Report
    now: Callable[[], float]
    tenant: str
    settings: str
    known: dict[WriteKind, WriteTrouble] = field(init=False, default_factory=dict)

    def proof(self, kind: WriteKind) -> Proof | None:
        """The proof of a kind of write; None without one."""
        return self._read(PROOFS[kind])

    def trouble(self, kind: WriteKind) -> WriteTrouble | None:
        """Why nothing of a kind is written; None without such a reason."""
        return self._read(TROUBLES[kind])

    def _read(self, note: TenantNote[T]) -> T | None:
        return note.decode(self.store.note(note.name), self.tenant)

    def _noted(self, note: TenantNote[T], value: T) -> dict[str, str]:
        return {note.name: note.encode(value, self.tenant)}

    def begin(self) -> None:
        """Forget what was known about another tenant, so that nobody sees it."""
        for kind in WriteKind:
            text = self.store.note(TROUBLES[kind].name)
            trouble = TROUBLES[kind].decode(text, self.tenant)
            if text is not None and trouble is None:
                self.store.write_notes({TROUBLES[kind].name: None})
            self._know(kind, trouble)

    def _know(self, kind: WriteKind, trouble: WriteTrouble | None) -> None:
        if trouble is None:
            self.known.pop(kind, None)
        else:
            self.known[kind] = trouble

    def may_try(self, kind: WriteKind) -> bool:
        """Whether a write of this kind may be sent: no trouble is known, or it is time to retry."""
        trouble = self.trouble(kind)
        if trouble is None or trouble.settings != self.settings:
            return True
        now = self.now()
        # Another host's clock may be hours ahead; a time further away was written before a clock
        # was set back.
        return not now < trouble.next_try <= now + 2 * RETRY_SECONDS

    @property
    def mode(self) -> UpdateMode:
        """How updates are sent: after a side effect, each has all columns, also the next attempt."""
        proof = self.proof(WriteKind.UPDATE)
        if proof is not None:
            return proof.mode
        return UpdateMode.EVERYTHING if self._read(WHOLE_ROWS) else UpdateMode.CHANGES

    def proven(self, proof: Proof) -> None:
        """Store a proof, and delete what was known against this kind of write."""
        self.store.write_notes(
            {
                **self._harm(proof.kind),
                **self._noted(PROOFS[proof.kind], proof),
                **(self._noted(WHOLE_ROWS, True) if proof.mode is UpdateMode.EVERYTHING else {}),
                TROUBLES[proof.kind].name: None,
                **_ended(proof.kind),
            }
        )
        self._know(proof.kind, None)
        self.report.log(
            "info",
            "write_proven",
            kind=str(proof.kind),
            intent=proof.intent_id,
            row=proof.row_id,
            mode=str(proof.mode),
            trace=proof.trace,
            invoice=[str(one) for one in proof.invoice],
        )

    def stop(
        self,
        kind: WriteKind,
        code: HoldCode,
        intent_id: str,
        row_id: int | None,
        reason: str,
        before: Mapping[str, str],
        tried: tuple[str, ...],
        rows: Mapping[int, Mapping[str, Any]] | None = None,
        *,
        whole: bool = True,
        invoice_id: int | None = None,
    ) -> None:
        """Stop writes of this kind until a person, or the next day, asks for another attempt.

        The arguments are the parts of a `WriteTrouble`.
        """
        known, now = self.trouble(kind), self.now()
        harms = code is HoldCode.WRITES_HAVE_SIDE_EFFECTS
        since = known.at if known is not None and known.code is code else now
        trouble = WriteTrouble(
            kind,
            code,
            since,
            intent_id,
            row_id,
            reason,
            before,
            tried,
            now + RETRY_SECONDS,
            self.settings,
            rows or {},
            whole,
            invoice_id,
        )
        self.store.write_notes(
            {
                **(self._harm(kind) if known is not None and known.row_id != row_id else {}),
                PROOFS[kind].name: None,
                **self._noted(TROUBLES[kind], trouble),
                **(self._noted(WHOLE_ROWS, True) if harms else {}),
                **_ended(kind),
            }
        )
        self._know(kind, trouble)
        self.report.log(
            "error",
            "writes_stopped",
            kind=str(kind),
            code=str(code),
            intent=intent_id,
            row=row_id,
            reason=reason,
        )

    def conclude(
        self,
        due: DuePayment | None,
        mode: UpdateMode,
        befores: Mapping[int, WholeRow],
        found: Comparison,
    ) -> bool:
        """Stop all writes if the rows of the first update are not right. Returns whether they are.

        Args:
            due: the payment; None if it is not due any more.
            mode: how the update was sent.
            befores: the rows before the update, by Halo's number.
            found: the rows before and after.
        """
        if found.is_right:
            self.forget_trial()
            return True
        row, before = next(iter(befores.items()))
        intent_id = before.row.intent_id or (due.intent_id if due else "")
        self.stop(
            WriteKind.UPDATE,
            code_of(found),
            intent_id,
            row,
            f"syncd sent row {row} of {intent_id} {mode.described} and read it back: {found}.",
            shown_fields(before.fields),
            (intent_id,),
            {number: one.fields for number, one in befores.items()} if found.changed else None,
        )
        return False

    def trouble_notes(self, trouble: WriteTrouble) -> dict[str, str]:
        """The notes that store a trouble."""
        return self._noted(TROUBLES[trouble.kind], trouble)

    def restored(self, trouble: WriteTrouble, *, whole: bool) -> None:
        """Record that harmed rows were restored if possible: another row may be tried at once.

        Args:
            trouble: what was known of the rows.
            whole: whether the rows have all former contents, so that no person has to check.
        """
        more = " Later, syncd restored the fields that it knew and that Halo accepted."
        known = replace(trouble, reason=trouble.reason + more)
        kept = replace(trouble, before={}) if whole else known
        self.store.write_notes(self.trouble_notes(replace(kept, rows={}, next_try=0.0)))

    def _harm(self, kind: WriteKind) -> dict[str, str]:
        """What must outlive a trouble: the former contents of the rows that it harmed."""
        trouble = self.trouble(kind)
        if trouble is None or trouble.code is not HoldCode.WRITES_HAVE_SIDE_EFFECTS:
            return {}
        return self._noted(harm_note(trouble.row_id), trouble) if trouble.before else {}

    def keep_unread(self, trial: Trial, why: str) -> None:
        """Keep the former contents of rows that Halo has not shown since an update without an answer.

        A person has to look at the rows: they may be as before, changed, or gone.
        """
        now = self.now()
        for number, fields in trial.rows.items():
            shown = shown_fields(fields)
            trouble = WriteTrouble(
                WriteKind.UPDATE,
                HoldCode.WRITES_HAVE_SIDE_EFFECTS,
                now,
                trial.intent_id,
                number,
                f"syncd sent Halo an update of row {number} of {trial.intent_id} and got no answer, "
                f"and Halo has not shown the row since: {why}",
                shown,
                (),
                now,
                self.settings,
            )
            self.store.write_notes(self._noted(harm_note(number), trouble))

    def refused_inserts(self, intent_id: str) -> tuple[str, ...]:
        """Count one more payment whose new row was refused. Returns all of them."""
        known = tuple((self.store.read(INSERTS_REFUSED) or "").split())
        tried = known if intent_id in known else (*known, intent_id)
        self.store.write(INSERTS_REFUSED, " ".join(tried[-REFUSED_MAX:]))
        return tried

    def try_again(self, kind: WriteKind) -> None:
        """Forget the proof of a kind of write, and let the next write of it be tried at once."""
        trouble = TROUBLES[kind].name
        text = self.store.note(trouble)
        self.store.write_notes(
            {PROOFS[kind].name: None, **({} if text is None else {trouble: due_at_once(text)})}
        )

    def trial(self) -> Trial | None:
        """The write that was being proven when the process stopped."""
        return self._read(TRIAL)

    def trial_notes(self, trial: Trial) -> dict[str, str]:
        """What to record before rows are sent for the proof: the rows' former contents."""
        return self._noted(TRIAL, trial)

    def forget_trial(self) -> None:
        """Forget the trial: the write was read back, or it was never sent."""
        self.store.write_notes({TRIAL.name: None})

    def first_update(self) -> str | None:
        """The payment whose update was sent first and not stored; None if no such payment is due.

        Its update is repeated before another payment's rows are written, also by another process.
        """
        intent_id = self._read(FIRST_UPDATE)
        payment = None if intent_id is None else self.store.payment(intent_id)
        return intent_id if payment and payment["condition"] == Condition.DUE else None

    def waits_for_first_update(self, failing: Container[str]) -> LinkFailure | None:
        """Why no update may be sent in this push; None if updates may be sent.

        Halo may still carry out the first update, or the payment of `first_update` is due later.

        Args:
            failing: payments whose writes failed recently; no other payment waits for these.
        """
        first, trial = self.first_update(), self.trial()
        if trial is not None:
            first, what = trial.intent_id, "Halo may still carry out"
        elif first is not None and first not in failing:
            if self.store.due_payment(first, self.now()) is not None:
                return None
            what = "Halo has not stored"
        else:
            return None
        return BadAnswer(
            Side.HALO,
            f"{what} the first update of this tenant, for {first}. All payments stay due: syncd "
            "repeats that update within five minutes, before it writes another payment.",
        )

    def ends_push(self, tried: Iterable[str]) -> bool:
        """Whether a push ends here because updates are stopped, after `tried` without a proof.

        It goes on if another payment's update must be repeated first: only then is that one reached.
        """
        if self.trouble(WriteKind.UPDATE) is None:
            return False
        first = self.first_update()
        return first is None or first in tried or not self.may_try(WriteKind.UPDATE)

    def note_first_update(self, intent_id: str | None) -> None:
        """Remember such a payment; None to forget it."""
        text = None if intent_id is None else FIRST_UPDATE.encode(intent_id, self.tenant)
        self.store.write_notes({FIRST_UPDATE.name: text})

    def new_row_trial(self) -> NewRowTrial | None:
        """The first new row of this tenant, if it was sent and not read back yet; otherwise None."""
        return self._read(NEW_ROW_TRIAL)

    def new_row_notes(self, trial: NewRowTrial) -> dict[str, str]:
        """What to record before the first new row is sent."""
        return self._noted(NEW_ROW_TRIAL, trial)

    def forget_new_row_trial(self) -> None:
        """Forget the first new row: it was never sent, or it can prove nothing."""
        self.store.write_notes({NEW_ROW_TRIAL.name: None})

    def unchecked(self) -> tuple[SentRow, ...]:
        """Rows of updates that were sent, and whose results were not compared yet."""
        return tuple(UNCHECKED.decode(self.store.note(UNCHECKED.name), self.tenant) or ())

    def unchecked_note(self, rows: Sequence[SentRow]) -> dict[str, str | None]:
        """The note that stores such rows; without rows, the note's removal."""
        return {UNCHECKED.name: UNCHECKED.encode(rows, self.tenant) if rows else None}


def _ended(kind: WriteKind) -> dict[str, None]:
    """The notes that a proof, or a stop, of a kind of write removes."""
    names = (TRIAL, FIRST_UPDATE) if kind is WriteKind.UPDATE else (INSERTS_REFUSED, NEW_ROW_TRIAL)
    return {note.name: None for note in names}


class WritesStopped(Failure):
    """Writes in this tenant are stopped until a person, or the next day, asks for another attempt."""
