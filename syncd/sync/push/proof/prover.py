"""Proves the first update in a tenant: one payment's rows are sent alone, and read back.

It is not documented what Halo does with an update that has only a row's id and status. So before
syncd writes a second row, it reads one row, writes it, reads it again, and compares. The result
decides how every later update is sent, or that nothing is sent at all. Does not belong here: new
rows (`new_row`), and the check of later answers (`update`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syncd.core.errors import WEB_PAGE, BadAnswer, LinkFailure, RowsRefused, Side
from syncd.core.holds import HoldCode
from syncd.core.records import DuePayment
from syncd.core.rows import RowChange, Trace, WholeRow
from syncd.core.rules.decisions import Update
from syncd.core.rules.proof import (
    Comparison,
    Trial,
    UpdateMode,
    WriteKind,
    next_mode,
)
from syncd.store.store import Store
from syncd.sync.lease import Lease
from syncd.sync.policy import PushSettings
from syncd.sync.push.backlog import Backlog
from syncd.sync.push.guard import InsertWaits, UpdateGuard
from syncd.sync.push.outcomes import INSERT_DOUBT_SECONDS, Outcomes, due_again
from syncd.sync.push.proof.conclusion import note_proof
from syncd.sync.push.proof.read_back import (
    UNREADABLE_SECONDS,
    End,
    read_back,
    written_by_others,
)
from syncd.sync.push.proof.reading import RowReader
from syncd.sync.push.proof.restore import restore_harmed
from syncd.sync.push.proof.tenant import TenantWrites, WritesStopped
from syncd.sync.sink import Sink

CANDIDATES_MAX = 3
"""After refusals of so many payments, the tenant counts as refusing updates, not a payment."""

LATER_SECONDS = 60.0
"""When to retry a payment whose row changed or disappeared during the proof."""


@dataclass(slots=True)
class Prover:
    """Sends one payment's rows alone and finds out what Halo did with them.

    Attributes:
        tenant: what is known about writes in this tenant.
        backlog: which payments' writes failed, recently and in this push.
        lease: the push lease; None in a dry run.
        sleep: waits, or raises Stopping.
        waits: how long this process waits for a write that Halo may still carry out.
    """

    sink: Sink
    store: Store
    settings: PushSettings
    outcomes: Outcomes
    tenant: TenantWrites
    backlog: Backlog
    now: Callable[[], float]
    lease: Lease | None
    sleep: Callable[[float], Awaitable[None]]
    waits: InsertWaits
    _words: str = field(init=False, default="")

    @property
    def reader(self) -> RowReader:
        """Reads rows right before they are sent back."""
        return RowReader(self.sink, self.now, self.waits)

    async def prove(
        self, updates: Sequence[tuple[DuePayment, Update]], *, by_hand: bool = False
    ) -> str | None:
        """Prove updates with one of these payments. Returns its id; None without a proof.

        Args:
            updates: the payments and the decision for each.
            by_hand: a person has chosen the payment.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: a request to Halo failed; the next push continues the proof.
        """
        refused: list[tuple[DuePayment, Update, str]] = []
        failing, others = self.backlog.failing(), False
        if self.tenant.trial() is not None:
            return None  # an earlier part of this push: Halo may still carry out that write
        first = None if by_hand else self.tenant.first_update()
        if first and first not in failing:
            # That write may have arrived without being stored: write no other row before.
            updates = [one for one in updates if one[0].intent_id == first]

        def simplest_first(one: tuple[DuePayment, Update]) -> tuple[bool, int, int, int]:
            due, update = one
            current = due.payment.current
            return current.intent_id in failing, len(update.rows), due.attempts, -current.at

        for due, update in sorted(updates, key=simplest_first)[:CANDIDATES_MAX]:
            if (end := await self._try(due, update)) is End.PROVEN:
                for other, _, words in refused:
                    self.store.record([self.outcomes.failed(other, words)], self.now())
                return due.intent_id
            if end is End.STOPPED:
                return None
            if end is End.REFUSED:
                refused.append((due, update, self._words))
            else:
                others = True
            if self.tenant.trial() is not None or self.tenant.first_update() not in (None, first):
                return None  # Halo may still carry out that write: nothing else is sent before
        if self.tenant.proof(WriteKind.UPDATE) is not None:  # Halo accepts rows, but not these
            self.store.record(
                [self.outcomes.failed(due, words) for due, _, words in refused], self.now()
            )
        elif refused and not others:
            due, update, words = refused[0]
            self.tenant.stop(
                WriteKind.UPDATE,
                HoldCode.WRITES_REFUSED,
                due.intent_id,
                update.rows[0],
                f"Halo refuses the update of each row that syncd tried, also with all required "
                f"columns: {words.strip()}",
                {},
                tuple(one.intent_id for one, _, _ in refused),
            )
        return None

    async def prove_first(
        self, updates: list[tuple[DuePayment, Update]]
    ) -> list[tuple[DuePayment, Update]]:
        """Prove updates with one of these payments, if not done yet. Returns those still to be sent.

        Raises:
            WritesStopped: nothing may be written in this tenant.
        """
        if not updates or self.tenant.proof(WriteKind.UPDATE):
            return updates
        self.backlog.trying = None
        proven = await self.prove(updates)
        if self.tenant.ends_push(one[0].intent_id for one in updates):
            raise WritesStopped
        if proven is None:
            return []
        now, left = self.now(), [one for one in updates if one[0].intent_id != proven]
        return [one for one in left if self.store.due_payment(one[0].intent_id, now)]

    def waiting_seconds(self) -> float:
        """How long Halo may still carry out a write that was not read back, in seconds."""
        trial = self.tenant.trial()
        if trial is None or not self.tenant.may_try(WriteKind.UPDATE):
            return 0.0
        return self.waits.seconds_left(f"update of {trial.intent_id}", trial.at)

    def overdue_seconds(self) -> float:
        """As `waiting_seconds` if the write is minutes old by the host's clock; otherwise 0."""
        trial = self.tenant.trial()
        old = trial is not None and trial.at + INSERT_DOUBT_SECONDS <= self.now()
        return self.waiting_seconds() if old else 0.0

    async def resume(self, *, restore: bool = True) -> bool:
        """Read back a write that a stopped process left unproven. Returns whether to continue.

        Args:
            restore: whether to restore also a row that an earlier write has harmed.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: a request to Halo failed.
        """
        trial = self.tenant.trial()
        if trial is None:
            return not restore or await restore_harmed(self)
        befores = {
            row: replace(self.sink.as_row(fields), alone=trial.alone)
            for row, fields in trial.rows.items()
        }
        sent = {row: RowChange(row, trial.status, Trace("", trial.at)) for row in befores}
        try:
            found = await self._read_back(trial.intent_id, befores, sent)
        except BadAnswer as error:
            which = f"update of {trial.intent_id}, not shown"
            if self.waits.seconds_left(which, trial.at, UNREADABLE_SECONDS) > 0:
                raise
            self.tenant.keep_unread(trial, str(error))
            found = None
        if found is not None and not found.is_carried_out and self.waiting_seconds() > 0:
            return False
        if found is not None and not found.changed and found.not_stored:
            found = None
        if found is None:  # a row is gone, or the write never arrived
            self.tenant.note_first_update(trial.intent_id)
            self.tenant.forget_trial()
            return True
        due = self.store.due_payment(trial.intent_id, self.now())
        if not found.changed or due is None:
            return self.tenant.conclude(due, trial.mode, befores, found)
        write = self.store.unproven([trial.intent_id]).get(trial.intent_id)
        update = Update(tuple(befores), () if write is None else write.was, trial.status)
        # Perhaps the complete row was not sent before the process stopped: send it again.
        end = await self._carry_through(due, update, befores, UpdateMode.CHANGES, found)
        return end is not End.STOPPED

    # --- one payment -----------------------------------------------------------------------------

    async def _try(self, due: DuePayment, update: Update) -> End:
        if (befores := await self._read(due, update)) is None:
            return End.LATER
        return await self._carry_through(due, update, befores, None, None)

    async def _read(self, due: DuePayment, update: Update) -> dict[int, WholeRow] | None:
        """Read the rows right before they are sent; None if one is gone, or Halo fails to show it.

        Raises:
            LinkFailure: Halo asks to wait, or fails for every payment.
        """
        read = await self.reader.of_list([(due, update)], self.backlog.failures)
        if read.failed:
            return None
        if len(read.rows) < len(update.rows):
            self._try_later(due)
            return None
        return dict(read.rows)

    async def _read_again(
        self,
        due: DuePayment,
        update: Update,
        befores: Mapping[int, WholeRow],
        harm: Comparison | None,
    ) -> Mapping[int, WholeRow] | None:
        """The rows to send whole; where a write harmed them, with what they had before."""
        if harm is None:
            return await self._read(due, update)
        return await self.reader.refilled(due.intent_id, befores)

    def _try_later(self, due: DuePayment) -> None:
        self.store.record([due_again(due, self.now() + LATER_SECONDS)], self.now())

    async def _carry_through(
        self,
        due: DuePayment,
        update: Update,
        befores: Mapping[int, WholeRow],
        mode: UpdateMode | None,
        found: Comparison | None,
    ) -> End:
        """Send, read back, and send again in the other mode if the first was not right."""
        invoice = next(iter(befores.values())).row.invoice_id
        figures = None if invoice is None else await self.sink.invoice_figures(invoice)
        sent_in = mode
        mode = self.tenant.mode if mode is None else next_mode(found, mode)
        while mode is not None:
            harm = found if found is not None and found.changed else None
            if sent_in is not None:  # a person may have changed the rows since that write
                read = await self._read_again(due, update, befores, harm)
                if read is None:
                    self._forget_trial(harm)
                    return End.LATER
                befores = read
            sent_in = mode
            try:
                found = await self._sent(due, update, befores, mode, harm)
            except RowsRefused as error:
                self._words, found = str(error), harm
                if harm is not None:
                    break  # the row stays as the first write left it
            else:
                if found is None:
                    return End.LATER
                if found.is_right:
                    break
                if not found.changed:  # if the next write fails, no other row is written before
                    self.tenant.note_first_update(due.intent_id)
            mode = next_mode(found, mode)
        if found is None:
            self.tenant.note_first_update(None)
            self.tenant.forget_trial()
            return End.REFUSED
        if not self.tenant.conclude(due, sent_in or self.tenant.mode, befores, found):
            return End.STOPPED
        await note_proof(self, due, update, befores, figures, found, sent_in)
        return End.PROVEN

    async def _unanswered(
        self,
        due: DuePayment,
        befores: Mapping[int, WholeRow],
        rows: Sequence[RowChange],
        error: LinkFailure,
        harm: Comparison | None,
    ) -> Comparison | None:
        """What a write without an answer did; None if it did nothing, or if that is not certain yet.

        Raises:
            LinkFailure: `error`, if Halo asks to wait, or fails for every payment, or if harm
                remains that the next push repairs.
        """
        if not error.maybe_applied:
            self._forget_trial(harm)
            raise error
        found = await self._read_back(due.intent_id, befores, {one.id: one for one in rows})
        if found is not None and found.changed and harm is not None:
            raise error
        is_certain = found is not None and (found.is_carried_out or not error.may_come_late)
        if found is not None and is_certain and (found.changed or not found.not_stored):
            # Otherwise the status may be a webhook's, and the write may still be carried out.
            return found
        if not error.may_come_late:  # else the next pushes read the rows back
            self.tenant.forget_trial()
        elif not error.late and (trial := self.tenant.trial()) is not None:
            self.waits.begin(f"update of {due.intent_id}", trial.at, LATER_SECONDS / 2)
        if error.retry_after_seconds is not None or self.backlog.failures.add(due, error):
            raise error
        return None

    def _forget_trial(self, harm: Comparison | None) -> None:
        """Forget a trial that was not carried out, unless an earlier write's harm must be repaired."""
        if harm is None:
            self.tenant.forget_trial()

    async def _sent(
        self,
        due: DuePayment,
        update: Update,
        befores: Mapping[int, WholeRow],
        mode: UpdateMode,
        harm: Comparison | None,
    ) -> Comparison | None:
        """Send the rows once and compare them; None without a result: try later.

        If `harm` is given, this write repairs what an earlier write has changed.

        Raises:
            RowsRefused: Halo refuses the rows.
            LeaseHeld: another process pushes.
            LinkFailure: Halo fails for every payment, or the rows cannot be read back.
        """
        current, now = due.payment.current, self.now()
        rows = [
            change
            if mode is UpdateMode.CHANGES
            else replace(change, kept=befores[change.id], keep_all=mode is UpdateMode.EVERYTHING)
            for change in self.settings.changed_rows(due, update, now)
        ]
        before = {row: one.fields for row, one in befores.items()}
        alone = all(one.alone for one in befores.values())
        trial = Trial(now, current.intent_id, update.status, mode, before, alone)
        notes, was = self.tenant.trial_notes(trial), {due.intent_id: update.was}
        guard = UpdateGuard(self.store, self.lease, [due], self.now, notes, was)
        try:
            answer = await self.sink.update(rows, guard, repeatable=False)
        except LinkFailure as error:
            return await self._unanswered(due, befores, rows, error, harm)
        if answer is None:
            if guard.lost is not None:
                raise guard.lost  # a trial recorded now belongs to another process
            self._forget_trial(harm)
            return None
        if answer.web_page:
            page = BadAnswer(Side.HALO, WEB_PAGE, maybe_applied=True)
            return await self._unanswered(due, befores, rows, page, harm)
        self.backlog.failures.has_written()
        found = await self._read_back(current.intent_id, befores, {one.id: one for one in rows})
        if answer.error and found is not None and found.not_stored and not found.changed:
            # An error in an answer of success, and nothing was stored: this is a refusal.
            raise RowsRefused(answer.complaint or "Halo answered with an error and stored nothing.")
        if found is None or written_by_others(
            self.settings.policy.numbers.values(), befores, found, update.status
        ):
            self.tenant.forget_trial()
            self._try_later(due)
            return None
        return found

    async def _read_back(
        self, intent_id: str, befores: Mapping[int, WholeRow], sent: Mapping[int, RowChange]
    ) -> Comparison | None:
        return await read_back(self.sink, self.sleep, intent_id, befores, sent)
