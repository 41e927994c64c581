"""One proof by hand, for `syncd prove`: the planned write, the write, and what changed.

It reads both sides and the proofs; `Prover` does the write, under the push lease. Does not belong
here:
questions to the user, and output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from syncd.clients.halo.details import Change
from syncd.clients.halo.sink import HaloSink
from syncd.core.records import DuePayment
from syncd.core.rows import WholeRow
from syncd.core.rules.decisions import Create, Update
from syncd.core.rules.proof import Proof, UpdateMode, WriteKind, WriteTrouble, shown_fields
from syncd.sync.engine import Engine

LOOKED_AT_MAX = 25
"""How many due payments are looked up to find the simplest one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The rows of one payment and their invoice, as Halo shows them at one moment.

    Attributes:
        rows: the fields that have a value, as texts, by Halo's number of the row.
        invoice_id: Halo's number of the invoice; None if no row names one.
        invoice: the amounts due and paid of the invoice; None if Halo does not show the invoice.
    """

    rows: Mapping[int, Mapping[str, str]]
    invoice_id: int | None
    invoice: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Intended:
    """What a proof would write.

    Attributes:
        intent_id: the payment.
        kind: an update of its rows, or a new row.
        state: the state at Stripe.
        money: the amount received or requested, as text.
        before: the rows and the invoice now.
        sent: the fields that would be sent, as texts, by Halo's number of the row; 0 for a new row.
    """

    intent_id: str
    kind: WriteKind
    state: str
    money: str
    before: Reading
    sent: Mapping[int, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a proof.

    Attributes:
        proof: the proof; None if the write is not proven.
        trouble: why nothing of this kind is written in the tenant now; None without such a reason.
        reason: why there is neither a proof nor a trouble, for people; None otherwise.
        after: the rows and the invoice after the write.
        changes: Halo's own history of the invoice since then; None if Halo does not show it.
    """

    proof: Proof | None
    trouble: WriteTrouble | None
    reason: str | None
    after: Reading
    changes: Sequence[Change] | None


@dataclass(slots=True)
class ByHand:
    """The proof of one payment's write, step by step."""

    engine: Engine
    sink: HaloSink

    async def choose(self, intent_id: str | None, kind: WriteKind) -> Intended | None:
        """Find the payment to prove with: the named one, else the simplest due one.

        A named payment is read from Stripe. Without a name, Stripe's events are read if nothing is
        due yet. Returns None if no such payment needs this kind of write.

        Raises:
            IntentUnknown: Stripe does not know the payment intent.
            LeaseHeld: another process pushes.
            LinkFailure: Stripe or Halo does not answer.
        """
        engine = self.engine
        if intent_id is not None:
            await engine.sweeper.resync(intent_id)
            due = engine.store.due_payment(intent_id, engine.now())
            due_payments = [] if due is None else [due]
        else:
            if engine.store.due_count(engine.now()) == 0:
                await engine.poller.poll()
            due_payments = engine.store.due(engine.now(), LOOKED_AT_MAX)
        if not due_payments:
            return None
        decided = await engine.pusher.look_up(due_payments)
        found: Sequence[tuple[DuePayment, Update | Create]] = (
            decided.updates if kind is WriteKind.UPDATE else decided.creates
        )
        if not found:
            return None
        return await self._intended(*min(found, key=_simplest), kind)

    async def _intended(
        self, due: DuePayment, decision: Update | Create, kind: WriteKind
    ) -> Intended | None:
        pusher, current = self.engine.pusher, due.payment.current
        wholes: dict[int, WholeRow] = {}
        sent: dict[int, Mapping[str, str]] = {}
        if isinstance(decision, Update):
            mode = pusher.tenant.mode
            for change in pusher.settings.changed_rows(due, decision, self.engine.now()):
                whole = await self.sink.whole_row(current.intent_id, change.id)
                if whole is None:
                    return None
                wholes[change.id] = whole
                if mode is not UpdateMode.CHANGES:
                    everything = mode is UpdateMode.EVERYTHING
                    full = replace(change, kept=whole, keep_all=everything)
                    sent[change.id] = shown_fields(self.sink.fields_of(full))
                else:
                    sent[change.id] = shown_fields(self.sink.fields_of(change))
            invoice = next(iter(wholes.values())).row.invoice_id
        else:
            row = pusher.settings.new_row(due, decision, self.engine.now())
            sent[0], invoice = shown_fields(self.sink.fields_of(row)), decision.invoice_id
        money = due.payment.current.received or due.payment.current.due
        return Intended(
            current.intent_id,
            kind,
            str(current.state or "no state"),
            str(money or "unknown"),
            await self._reading(wholes, invoice),
            sent,
        )

    async def prove(self, intended: Intended) -> Found:
        """Write the rows and read them back.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: a request to Halo failed.
        """
        engine, intent_id, kind = self.engine, intended.intent_id, intended.kind
        tenant, begun = engine.pusher.tenant, engine.now()
        known = set(await self._changes(intended.before.invoice_id) or ())
        was_needed = await engine.pusher.prove(intent_id, kind)
        proof, trouble = tenant.proof(kind), tenant.trouble(kind)
        if proof is not None and (proof.intent_id != intent_id or proof.at < begun):
            proof = None
        reason = None if proof or trouble else self.why(intent_id, was_needed=was_needed)
        changes = await self._changes(intended.before.invoice_id)
        return Found(
            proof,
            trouble if proof is None else None,
            reason,
            await self._after(intended),
            None if changes is None else [one for one in changes if one not in known],
        )

    def why(self, intent_id: str, *, was_needed: bool) -> str:
        """Why a write of a payment was not proven, or is not necessary, according to the store."""
        row = self.engine.store.payment(intent_id)
        if row is None:
            return f"syncd does not know {intent_id}."
        if row["reason"]:
            return str(row["reason"])
        if was_needed:
            return (
                f"The row of {intent_id} changed or disappeared during the proof, or Halo gave no clear "
                "answer. The payment stays due."
            )
        return f"syncd has nothing to write for {intent_id}: the payment is {row['condition'].replace('_', ' ')}."

    async def _after(self, intended: Intended) -> Reading:
        rows = tuple(intended.before.rows)
        if intended.kind is WriteKind.INSERT:
            listed = await self.sink.rows_of(intended.intent_id)
            rows = tuple(row.id for row in listed if row.id is not None)
        found = {row: await self.sink.whole_row(intended.intent_id, row) for row in rows}
        wholes = {row: whole for row, whole in found.items() if whole is not None}
        return await self._reading(wholes, intended.before.invoice_id)

    async def _reading(self, wholes: Mapping[int, WholeRow], invoice: int | None) -> Reading:
        return Reading(
            {row: shown_fields(whole.fields) for row, whole in wholes.items()},
            invoice,
            None if invoice is None else await self.sink.invoice_figures(invoice),
        )

    async def _changes(self, invoice: int | None) -> Sequence[Change] | None:
        return None if invoice is None else await self.sink.details.invoice_changes(invoice)


def _simplest(one: tuple[DuePayment, Update | Create]) -> tuple[int, int, int]:
    due, decision = one
    rows = len(decision.rows) if isinstance(decision, Update) else 1
    return rows, due.attempts, -due.payment.current.at
