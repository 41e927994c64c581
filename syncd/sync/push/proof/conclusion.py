"""Records a proof, and the payment whose rows proved updates.

Does not belong here: the attempt itself (`prover`), and what stops writes (`tenant`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from syncd.core.records import Condition, DuePayment, Outcome
from syncd.core.rows import WholeRow
from syncd.core.rules.decisions import Update
from syncd.core.rules.proof import Comparison, Proof, UpdateMode, WriteKind
from syncd.sync.push.outcomes import due_again, state_of
from syncd.sync.push.proof.read_back import changed_figures

if TYPE_CHECKING:
    from syncd.sync.push.proof.prover import Prover


async def note_proof(
    prover: "Prover",
    due: DuePayment,
    update: Update,
    befores: Mapping[int, WholeRow],
    figures: Mapping[str, str] | None,
    found: Comparison,
    mode: UpdateMode | None,
) -> None:
    """Store a proof, with what the update changed in the invoice, and record the payment as in step.

    Args:
        prover: the proof's parts.
        due: the payment whose rows were written.
        update: the decision.
        befores: the rows before the update, by Halo's number.
        figures: the invoice's amounts before the update; None if Halo did not show them.
        found: the rows before and after.
        mode: how the last update was sent; None if an update was sent by an earlier process.

    Raises:
        LinkFailure: the request for the invoice failed.
    """
    current = due.payment.current
    before = next(iter(befores.values()))
    invoice = before.row.invoice_id
    after = None if invoice is None else await prover.sink.invoice_figures(invoice)
    prover.tenant.proven(
        Proof(
            kind=WriteKind.UPDATE,
            at=prover.now(),
            intent_id=current.intent_id,
            row_id=update.rows[0],
            invoice_id=invoice,
            mode=mode or UpdateMode.CHANGES,
            trace=found.trace_stored,
            invoice=changed_figures(figures, after),
            alone=before.alone,
        )
    )
    if prover.settings.policy.numbers.get(state_of(due)) != update.status:
        # Stripe has reported another state since the first update was sent: that state is due.
        prover.store.record([due_again(due, prover.now())], prover.now())
        return
    pushed = prover.outcomes.report_push(due, update, "updated")
    done = Outcome(
        current.intent_id,
        state_of(due),
        Condition.IN_STEP,
        acked=True,
        rows=update.rows,
        pushed=pushed,
    )
    prover.store.record([done], prover.now())
