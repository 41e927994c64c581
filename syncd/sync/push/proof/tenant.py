"""What is known about writing in this tenant, as the store keeps it: proofs, troubles, a trial."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from syncd.core.errors import Failure
from syncd.core.holds import HoldCode
from syncd.core.proof import (
    Proof,
    Trial,
    UpdateMode,
    WriteKind,
    WriteTrouble,
    proof_text,
    read_proof,
    read_trial,
    read_trouble,
    trial_text,
    trouble_text,
)
from syncd.monitor.report import Report
from syncd.store.store import Store

RETRY_SECONDS = 86_400.0
"""How long nothing is written after a proof failed; then one row is tried again."""

TRIAL, REFUSED = "write_trial", "insert_refused"


@dataclass(slots=True)
class TenantWrites:
    """What is known about writing in this tenant, kept in the store.

    Attributes:
        tenant: which Halo this is. What was proven in another one counts for nothing.
        settings: what the configuration says of writing; a changed one is tried at once.
    """

    store: Store
    report: Report
    now: Callable[[], float]
    tenant: str
    settings: str

    def proof(self, kind: WriteKind) -> Proof | None:
        """The proof of a kind of write; None while there is none."""
        return read_proof(self.store.note(f"write_proof {kind}"), self.tenant)

    def trouble(self, kind: WriteKind) -> WriteTrouble | None:
        """Why nothing of a kind is written; None where nothing is known against it."""
        return read_trouble(self.store.note(f"write_trouble {kind}"), self.tenant)

    def may_try(self, kind: WriteKind) -> bool:
        """Whether a write of this kind may be sent: nothing is known against it, or it is time to retry."""
        trouble = self.trouble(kind)
        if trouble is None or trouble.settings != self.settings:
            return True
        now = self.now()
        return not now < trouble.next_try <= now + RETRY_SECONDS  # the clock may have been set

    @property
    def mode(self) -> UpdateMode:
        """How updates are sent."""
        proof = self.proof(WriteKind.UPDATE)
        return UpdateMode.CHANGES if proof is None else proof.mode

    def proven(self, proof: Proof) -> None:
        """Keep a proof, and lift what was known against this kind of write."""
        self.store.write_notes(
            {
                f"write_proof {proof.kind}": proof_text(proof, self.tenant),
                f"write_trouble {proof.kind}": None,
                **({REFUSED: None} if proof.kind is WriteKind.INSERT else {}),
            }
        )
        self.report.log(
            "info", "write_proven", kind=str(proof.kind), intent=proof.intent_id, row=proof.row_id,
            mode=str(proof.mode), trace=proof.trace, invoice=[str(one) for one in proof.invoice],
        )  # fmt: skip

    def stop(
        self, kind: WriteKind, code: HoldCode, intent_id: str, row_id: int | None, reason: str,
        before: Mapping[str, str], tried: tuple[str, ...],
    ) -> None:  # fmt: skip
        """Write nothing of this kind any more, until a person or the next day asks for another try."""
        known, now = self.trouble(kind), self.now()
        since = known.at if known is not None and known.code is code else now
        trouble = WriteTrouble(
            kind, code, since, intent_id, row_id, reason, before, tried, now + RETRY_SECONDS,
            self.settings,
        )  # fmt: skip
        self.store.write_notes(
            {
                f"write_proof {kind}": None,
                f"write_trouble {kind}": trouble_text(trouble, self.tenant),
                TRIAL: None,
                REFUSED: None,
            }
        )
        self.report.log(
            "error", "writes_stopped", kind=str(kind), code=str(code), intent=intent_id, row=row_id,
            reason=reason,
        )  # fmt: skip

    def refused_inserts(self, intent_id: str) -> tuple[str, ...]:
        """Count one more payment whose new row was refused. Returns all of them."""
        known = tuple((self.store.note(REFUSED) or "").split())
        tried = known if intent_id in known else (*known, intent_id)
        self.store.write_notes({REFUSED: " ".join(tried[-10:])})
        return tried

    def trial(self) -> Trial | None:
        """The write that was being proven when the process stopped."""
        return read_trial(self.store.note(TRIAL), self.tenant)

    def keep_trial(self, trial: Trial) -> None:
        """Note what is about to be sent, with what the rows had before."""
        self.store.write_notes({TRIAL: trial_text(trial, self.tenant)})

    def forget_trial(self) -> None:
        """The write was read back, or it was never sent."""
        self.store.write_notes({TRIAL: None})


class WritesStopped(Failure):
    """Nothing is written in this tenant until a person, or the next day, asks for another try."""
