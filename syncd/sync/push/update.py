"""Updates rows: one list per request; a refused list is halved until the row at fault is alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from syncd.core.errors import LinkFailure, RowsRefused, ServerError
from syncd.core.records import Condition, DuePayment, Outcome
from syncd.core.rows import Acknowledged, Row, WholeRow
from syncd.core.rules.decisions import Update
from syncd.store.store import Store
from syncd.sync.lease import Lease
from syncd.sync.policy import PushSettings
from syncd.sync.push.backlog import Backlog
from syncd.sync.push.guard import UpdateGuard
from syncd.sync.push.outcomes import (
    UNPROVEN_MAX,
    Outcomes,
    as_planned,
    due_again,
    listed,
    state_of,
)
from syncd.sync.push.proof.reading import Batch, Befores
from syncd.sync.push.proof.tenant import WritesStopped
from syncd.sync.push.proof.verify import Verifier, former_fields, sent_rows
from syncd.sync.sink import Sink

HELD_BACK_MAX = 3
"""How many requests of a push may wait so long that rows are read again; later ones are sent all the same."""


@dataclass(slots=True)
class Updater:
    """Sets the status of rows.

    Attributes:
        outcomes: turns results into records for the store.
        verifier: completes the rows as this tenant needs them, and checks answers.
        backlog: what failed in this push, and what is left for the next push.
        lease: the push lease; None in a dry run.
    """

    sink: Sink
    store: Store
    settings: PushSettings
    outcomes: Outcomes
    backlog: Backlog
    verifier: Verifier
    now: Callable[[], float]
    lease: Lease | None

    async def send(self, batch: Sequence[tuple[DuePayment, Update]]) -> None:
        """Send one list of rows; if Halo refuses the list, send its halves.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: Halo as a whole does not work, or seems not to.
        """
        if self.outcomes.plan is not None:
            for due, update in batch:
                self.outcomes.planned(
                    due,
                    update,
                    f"{listed(update.rows)} → status {update.status}{_left_out(update)}",
                )
            self.store.record(as_planned([due for due, _ in batch]), self.now())
            return
        held_back = 0
        while batch:
            # After a list that had to wait too long, each payment goes alone: it is read faster.
            part = batch[:1] if held_back else batch
            read = await self.verifier.befores(part, self.backlog.failures)
            size = len(part) if read is None else read.payments
            waits = held_back < HELD_BACK_MAX
            old = [one for one in batch[:size] if waits and self._outdated(one[0], read)]
            fresh = [one for one in batch[:size] if one not in old]
            left = await self._send(fresh, read, may_hold_back=waits)
            held_back += len(left) + len(old) == size
            batch = [*left, *old, *batch[size:]]

    def _outdated(self, due: DuePayment, read: Befores | None) -> bool:
        return read is not None and self.verifier.reader.outdated(due.intent_id, read)

    async def _send(self, batch: Batch, read: Befores | None, *, may_hold_back: bool) -> Batch:
        """Send one list of rows, complete if they were read.

        With `may_hold_back` nothing is sent if the request has waited too long since the reading.

        Returns the payments that the guard held back although nothing is new about them.

        Raises:
            LeaseHeld: another process pushes.
            LinkFailure: Halo as a whole does not work, or seems not to.
        """
        now, befores = self.now(), None if read is None else read.rows
        if read is not None and befores is not None:
            gone = [one for one in batch if not all(row in befores for row in one[1].rows)]
            again = [due for due, _ in gone if due.intent_id not in read.failed]
            self.store.record([due_again(due, now) for due in again], now)
            batch = [one for one in batch if one not in gone]
        rows = self.verifier.as_sent(
            [row for due, update in batch for row in self.settings.changed_rows(due, update, now)],
            befores,
        )
        if not rows:
            return []
        payments = [due for due, _ in batch]
        notes = self.verifier.note_before(batch)
        was = {due.intent_id: update.was for due, update in batch}
        guard = UpdateGuard(self.store, self.lease, payments, self.now, notes, was)
        if may_hold_back:
            guard.outdated = lambda: any(self._outdated(due, read) for due in payments)
        try:
            answer = await self.sink.update(rows, guard)
        except (RowsRefused, LinkFailure) as error:
            if isinstance(error, LinkFailure) and (
                error.maybe_applied or error.maybe_applied_before
            ):
                late = error.may_come_late or error.maybe_applied_before
                await self.verifier.check_unanswered(late=late)
            elif guard.asked:
                self.store.write_notes(self.verifier.note_after(batch))
            await self._send_parts(batch, error)
            return []
        if answer is None:
            if guard.lost is not None:
                raise guard.lost
            if guard.asked:  # an earlier attempt of this request may have been carried out
                await self.verifier.check_unanswered(late=True)
            return [one for one in batch if one[0].intent_id not in guard.overtaken]
        self.backlog.failures.has_written()
        await self._record(batch, answer, befores)
        return []

    async def _record(
        self, batch: Batch, answer: Acknowledged, befores: Mapping[int, WholeRow] | None
    ) -> None:
        """Record what an answer proves, after a check that nothing else in the rows has changed.

        Raises:
            WritesStopped: the update had side effects.
            LinkFailure: the request failed.
        """
        shown = {row.id: row for row in answer.rows}
        outcomes: list[Outcome] = []
        notes: Mapping[str, str | None] = {}
        try:
            odd = await self.verifier.odd_rows(batch, answer, befores)
            # If one single row differs, a person changed it, not Halo.
            alone = len(odd) == 1 and sum(len(update.rows) for _, update in batch) > 1
            notes = self.verifier.note_after(batch)
            for due, update in batch:
                if alone and not odd.keys().isdisjoint(update.rows):
                    outcomes.append(due_again(due, self.now()))
                    continue
                outcome = await self._updated(due, update, shown, answer)
                outcomes.append(outcome)
        finally:
            self.store.record(outcomes, self.now(), notes=notes)
        if odd and not alone:
            self.verifier.stop(sent_rows(batch), odd, former_fields(batch, befores))
            raise WritesStopped

    async def _send_parts(
        self, batch: Sequence[tuple[DuePayment, Update]], error: RowsRefused | LinkFailure
    ) -> None:
        """After a list of rows failed: send its halves, if the failure is about the rows.

        Raises:
            LinkFailure: `error`, if Halo as a whole does not work, or seems not to.
        """
        about_rows = isinstance(error, RowsRefused) or (
            isinstance(error, ServerError) and error.maybe_applied and not error.late
        )
        if about_rows and len(batch) > 1:
            middle = len(batch) // 2
            await self.send(batch[:middle])
            await self.send(batch[middle:])
        elif isinstance(error, RowsRefused):
            self.store.record([self.outcomes.failed(batch[0][0], str(error))], self.now())
        elif len(batch) > 1 or not error.maybe_applied:
            if error.maybe_applied:
                # Send smaller lists next time: if one row is at fault after all, it is soon alone.
                self.backlog.set_batch_size(max(1, len(batch) // 2))
            raise error
        elif self.backlog.failures.add(batch[0][0], error):
            raise error  # it fails for every payment

    async def _updated(
        self,
        due: DuePayment,
        update: Update,
        shown: Mapping[int | None, Row],
        answer: Acknowledged,
    ) -> Outcome:
        """Record a payment as in step if the answer lists its rows as they were sent."""
        current, state = due.payment.current, state_of(due)
        proven = all(row in shown and shown[row].status == update.status for row in update.rows)
        if not proven and due.attempts >= UNPROVEN_MAX:
            back = {row.id: row for row in await self.sink.rows_of(current.intent_id)}
            proven = all(row in back and back[row].status == update.status for row in update.rows)
        if proven:
            pushed = self.outcomes.report_push(due, update, "updated")
            return Outcome(
                current.intent_id,
                state,
                Condition.IN_STEP,
                acked=True,
                rows=update.rows,
                pushed=pushed,
            )
        if due.attempts >= UNPROVEN_MAX:
            return self.outcomes.failed(
                due,
                f"Halo accepts the update, but its row does not change. {answer.complaint or ''}",
            )
        # Due at once: the next round reads the rows back and decides again.
        return due_again(due, self.now(), attempts=1)


def _left_out(update: Update) -> str:
    """Which parts of Stripe's received amount the rows do not contain, for a dry run."""
    return f" (the rows leave out {update.left_out})" if update.left_out else ""


def batches(
    updates: Sequence[tuple[DuePayment, Update]], size: int
) -> list[list[tuple[DuePayment, Update]]]:
    """Split into lists of at most `size` rows; the rows of one payment stay together."""
    found: list[list[tuple[DuePayment, Update]]] = []
    room = 0
    for due, update in updates:
        if not found or len(update.rows) > room:
            found.append([])
            room = size
        found[-1].append((due, update))
        room -= len(update.rows)
    return found
