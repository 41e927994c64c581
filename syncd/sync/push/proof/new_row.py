"""Proves the first new row in a tenant: it is read back before a second one is sent.

The store records the first new row before syncd sends it, and forgets it after the row was read
back or when Halo can no longer insert it. So another process reads that row back before it sends
another one. Does not belong here: whether a new row may be sent at all (`insert`), and updates
(`prover`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from syncd.clients.retry import Sleep
from syncd.core.errors import LinkFailure, PermissionMissing, RateLimited, SignInRefused
from syncd.core.holds import HoldCode
from syncd.core.records import DuePayment
from syncd.core.rows import NewRow, Row
from syncd.core.rules.decisions import Update
from syncd.core.rules.proof import Comparison, NewRowTrial, Proof, WriteKind
from syncd.store.store import Store
from syncd.sync.policy import PushSettings
from syncd.sync.push.guard import InsertWaits
from syncd.sync.push.outcomes import INSERT_DOUBT_SECONDS, due_again
from syncd.sync.push.proof.read_back import SETTLE_SECONDS, UNREADABLE_SECONDS, changed_figures
from syncd.sync.push.proof.reading import Batch
from syncd.sync.push.proof.tenant import TenantWrites
from syncd.sync.sink import Sink

LATER_SECONDS = 60.0
"""When to retry a payment whose new row is not read back yet."""


@dataclass(slots=True)
class NewRowProver:
    """Reads the first new row of a tenant back.

    Attributes:
        waits: how long this process waits for new rows that were sent.
        sleep: waits, or raises Stopping.
    """

    sink: Sink
    store: Store
    settings: PushSettings
    tenant: TenantWrites
    waits: InsertWaits
    now: Callable[[], float]
    sleep: Sleep

    def is_unproven(self) -> bool:
        """Whether no new row of this tenant was read back and found right."""
        return self.tenant.proof(WriteKind.INSERT) is None

    async def pending(self) -> str | None:
        """Read back the first new row, if one was sent and not read back yet.

        Returns:
            The row's payment, while Halo may still insert the row or cannot show it; otherwise
            None.

        Raises:
            LinkFailure: Halo cannot be read at all.
        """
        trial = self.tenant.new_row_trial()
        if trial is None:
            return None
        try:
            row = self._row_of(trial, await self.sink.rows_of(trial.intent_id))
            if row is not None:
                await self.read_back(trial, row)
                return None
        except (RateLimited, SignInRefused, PermissionMissing):
            raise
        except LinkFailure as error:
            if error.retry_after_seconds is not None:
                raise
            unreadable = f"first new row {trial.intent_id}, not shown"
            if self.waits.seconds_left(unreadable, trial.at, UNREADABLE_SECONDS) > 0:
                return trial.intent_id
        else:
            if self.waiting_seconds() > 0:
                return trial.intent_id
        self.tenant.forget_new_row_trial()
        return None

    async def without_first_row(self, updates: Batch) -> list[tuple[DuePayment, Update]]:
        """The updates without the one of the tenant's first new row, while that row is not read back.

        An update would hide what Halo did not store of the new row.

        Raises:
            LinkFailure: the request failed.
        """
        trial = self.tenant.new_row_trial()
        first = [due for due, _ in updates if trial and due.intent_id == trial.intent_id]
        if not first or await self.pending() is None:
            return list(updates)
        now = self.now()
        self.store.record([due_again(due, now + LATER_SECONDS) for due in first], now)
        return [one for one in updates if one[0] not in first]

    def waiting_seconds(self) -> float:
        """How long Halo may still insert the first new row that was not read back, in seconds."""
        trial = self.tenant.new_row_trial()
        if trial is None:
            return 0.0
        due = self.store.due_payment(trial.intent_id, self.now())
        return max(
            self.waits.seconds_left(trial.intent_id, None if due is None else due.doubt_until),
            self.waits.seconds_left(f"first new row {trial.intent_id}", trial.at),
        )

    def overdue_seconds(self) -> float:
        """As `waiting_seconds` if the write is minutes old by the host's clock; otherwise 0."""
        trial = self.tenant.new_row_trial()
        old = trial is not None and trial.at + INSERT_DOUBT_SECONDS <= self.now()
        return self.waiting_seconds() if old else 0.0

    def _row_of(self, trial: NewRowTrial, rows: list[Row]) -> int | None:
        made = (row.id for row in rows if row.invoice_id in (None, trial.invoice_id))
        return next((number for number in made if number is not None), None)

    async def read_back(self, trial: NewRowTrial, row: int, *, answered: bool = False) -> bool:
        """Read the first new row back. Returns whether new rows are proven now.

        Args:
            trial: what was sent.
            row: Halo's number of the row.
            answered: whether Halo's answer to the new row named that number. Otherwise a row with another
                date and another status may be one that Halo's integration or a person made meanwhile.

        Raises:
            LinkFailure: the request failed; the next new row waits for this one.
        """
        intent_id = trial.intent_id
        sent = self._sent(trial)
        figures = await self.sink.invoice_figures(trial.invoice_id)
        found: Comparison | None = None
        for again in (False, True):
            if again:
                await self.sleep(SETTLE_SECONDS)
            after = await self.sink.whole_row(intent_id, row)
            if after is None:  # a person deleted it
                self.tenant.forget_new_row_trial()
                return False
            found = self.sink.compare(None, after, sent)
            if found.is_right:
                self.tenant.proven(
                    Proof(
                        WriteKind.INSERT,
                        self.now(),
                        intent_id,
                        row,
                        trial.invoice_id,
                        trace=found.trace_stored,
                        invoice=changed_figures(trial.figures, figures),
                        alone=after.alone,
                    )
                )
                return True
            if after.row.status != trial.status and after.row.status in self._numbers():
                # Halo's own webhook, a person, or a later update of syncd has set another status.
                self.tenant.forget_new_row_trial()
                return False
        if not answered and found is not None and _is_of_others(found):
            self.tenant.forget_new_row_trial()
            return False
        self.tenant.stop(
            WriteKind.INSERT,
            HoldCode.WRITES_NOT_STORED,
            intent_id,
            row,
            f"syncd made row {row} for {intent_id} on invoice {trial.invoice_id} and read it back: "
            f"{found}.",
            {},
            (intent_id,),
            invoice_id=trial.invoice_id,
        )
        return False

    def _numbers(self) -> set[int]:
        return set(self.settings.policy.numbers.values())

    def _sent(self, trial: NewRowTrial) -> NewRow:
        due = self.store.due_payment(trial.intent_id, self.now())
        trace = None if due is None else self.settings.trace_of(due, trial.at)
        return NewRow(
            trial.intent_id,
            trial.invoice_id,
            trial.amount,
            trial.status,
            trial.paid_at,
            trial.created,
            trace,
        )


def _is_of_others(found: Comparison) -> bool:
    """Whether a row has neither the date nor the status that syncd sent."""
    return {"date", "status"} <= {change.name for change in found.not_stored}
