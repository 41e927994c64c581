"""Looks up Halo's rows of each due payment, and decides what to do.

This module only decides: it writes nothing to Halo or to the store.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from syncd.core.errors import (
    BadAnswer,
    BudgetSpent,
    LinkFailure,
    ListingBroken,
    PermissionMissing,
    RateLimited,
    ServerError,
    Side,
    SignInRefused,
    Unreachable,
)
from syncd.core.holds import HoldCode
from syncd.core.records import Condition, DuePayment, Outcome
from syncd.core.rows import Row, SeenRow, seen
from syncd.core.rules.blame import IN_A_ROW_MAX
from syncd.core.rules.decisions import (
    AskStripe,
    Create,
    Decision,
    Hold,
    InStep,
    Unmatched,
    Update,
    decide,
    held,
)
from syncd.core.windows import LOOK_UP_AGAIN
from syncd.store.history import Unproven
from syncd.store.store import Store
from syncd.sync.policy import PushSettings
from syncd.sync.pull.rereads import Rereads
from syncd.sync.push.backlog import Backlog
from syncd.sync.push.outcomes import Outcomes, due_again
from syncd.sync.sink import Sink

ASK_LATER_SECONDS = 300.0
"""When to decide again about a payment that needs Stripe, while Stripe answers no requests."""

EMPTIED = (
    "An update emptied the payment's row. Restore or delete the row in Halo, and dismiss the row's own entry "
    "(row_… in `syncd attention`) before a retry."
)
"""Precedes the text of a hold where a second row must not be inserted beside an emptied one."""


@dataclass(slots=True)
class Decided:
    """The decisions about some payments, sorted by what is to be done.

    Attributes:
        outcomes: of payments for which nothing is sent.
        updates: payments whose rows get a new status.
        creates: payments that get a new row.
        seen: the rows that were found, by payment.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    updates: list[tuple[DuePayment, Update]] = field(default_factory=list)
    creates: list[tuple[DuePayment, Create]] = field(default_factory=list)
    seen: dict[str, tuple[SeenRow, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class Lookup:
    """Looks payments up in Halo, one at a time or in the rows that were read, and decides.

    Attributes:
        rereads: re-reads a payment from Stripe if Halo contradicts it.
        outcomes: turns a decision into a record for the store.
        backlog: what failed in this push, and what is left for the next push.
        may_reread: whether enough of Stripe's budget is left to re-read payments without rows.
    """

    sink: Sink
    store: Store
    rereads: Rereads
    settings: PushSettings
    outcomes: Outcomes
    backlog: Backlog
    now: Callable[[], float]
    may_reread: Callable[[], bool] = field(default=lambda: True)
    _stripe_out: bool = field(init=False, default=False)
    _stripe_failures: int = field(init=False, default=0)

    def begin(self) -> None:
        """Start another push."""
        self._stripe_out, self._stripe_failures = False, 0

    async def decide(
        self, due_payments: Sequence[DuePayment], kept: Mapping[str, list[Row]] | None
    ) -> Decided:
        """Decide about payments, and record those for which nothing is to be sent.

        Args:
            due_payments: the payments.
            kept: as in `decide_each`.

        Raises:
            LinkFailure: Halo does not answer, or asks to wait.
        """
        decided = Decided()
        try:
            await self.decide_each(due_payments, kept, decided)
        finally:
            self.store.record(decided.outcomes, self.now(), seen=decided.seen)
        return decided

    async def decide_each(
        self,
        due_payments: Sequence[DuePayment],
        kept: Mapping[str, list[Row]] | None,
        decided: Decided,
    ) -> None:
        """Look up each payment, decide, and add the decisions to `decided`.

        A payment whose own request fails is recorded as failed and left out, so that it does not
        delay the others.

        Args:
            due_payments: the payments.
            kept: Halo's rows by payment, if all rows were read; a payment that is missing is looked
                up alone. None to look up each payment.
            decided: gets the decisions; also filled if this method raises.

        Raises:
            LinkFailure: Halo does not answer, or asks to wait.
        """
        unproven = self.store.unproven([due.intent_id for due in due_payments])
        for due in due_payments:
            self.backlog.trying = due.intent_id
            try:
                decision = await self._decision(due, kept, decided)
            except LinkFailure as error:
                if error.side is Side.STRIPE:
                    self._stripe_failed(error)
                elif not isinstance(error, ServerError | BadAnswer | Unreachable):
                    raise
                elif error.retry_after_seconds is not None:
                    raise  # Halo asks to wait: decide later whose fault it is
                elif isinstance(error, ListingBroken):
                    # If the listing of an unknown payment fails too, no payment is at fault.
                    await self.sink.probe_lookup()
                if self.backlog.failures.add(due, error):
                    await self.ask_for_anything()
                continue
            if kept is None or isinstance(decision, Hold | Create):
                self.backlog.failures.has_read()
            if isinstance(decision, Update):
                decided.updates.append((due, decision))
            elif isinstance(decision, Create):
                decided.creates.append((due, decision))
            elif isinstance(decision, AskStripe):
                decided.outcomes.append(due_again(due, self.now() + ASK_LATER_SECONDS))
            elif decision is not None:
                write = unproven.get(due.intent_id) if isinstance(decision, InStep) else None
                was = write.was if write is not None and _was_sent(due, write) else None
                decided.outcomes.append(self.outcomes.settled(due, decision, was))

    async def _decision(
        self, due: DuePayment, kept: Mapping[str, list[Row]] | None, decided: Decided
    ) -> Decision | None:
        """Decide about one payment; None if Stripe, re-read, now reports another state.

        AskStripe if Stripe is not asked any more in this push.
        """
        intent_id = due.intent_id
        if kept is not None and intent_id in kept:
            rows = kept[intent_id]
        else:
            rows, kept = await self.sink.rows_of(intent_id), None
        decision = self._decide(due, rows)
        first_or_last_look = due.looks in (0, len(LOOK_UP_AGAIN.waits_seconds))
        if kept is not None and (
            isinstance(decision, Hold | Create)
            or (isinstance(decision, Unmatched) and first_or_last_look)
            or (isinstance(decision, InStep) and due.acked_state is due.payment.current.state)
        ):
            # Rows move between pages while the pages are read, and lists may leave out a row's
            # payment intent. So look again before a hold or an insert, and before a payment is
            # unmatched. A payment that Halo had acknowledged is due because a row differs: the row
            # may be on a page that was not read.
            rows = await self.sink.rows_of(intent_id)
            decision = self._decide(due, rows)
        if isinstance(decision, Create) and intent_id in self.store.people.harmed_payments():
            # A write of syncd emptied its row, so Halo does not list the row: do not insert a
            # second one.
            text = held(HoldCode.ROW_DELETED, intent_id).text
            decision = Hold(HoldCode.ROW_DELETED, f"{EMPTIED} {text}")
        if isinstance(decision, Unmatched) and await self._was_corrected(due):
            return None  # due again, with the corrected metadata
        decided.seen[intent_id] = seen(rows)
        if isinstance(decision, Create):
            decided.seen[intent_id] = (SeenRow(None, decision.invoice_id),)
        if isinstance(decision, AskStripe) and not self._stripe_out:
            asked = await self._ask_stripe(due, rows)
            return None if isinstance(asked, AskStripe) else asked
        return decision

    async def _was_corrected(self, due: DuePayment) -> bool:
        """Whether Stripe, re-read, now names another invoice in the payment's metadata.

        Stripe sends no event for corrected metadata. So a payment is re-read when its row is looked
        for again.
        """
        if not (self.settings.policy.create_missing and due.looks and self.may_reread()):
            return False
        if self._stripe_out:
            return False
        current = due.payment.current
        try:
            await self.rereads.read_one(current.intent_id, current.at)
        except LinkFailure as error:
            self._stripe_failed(error)
            return False
        fresh = self.store.due_payment(current.intent_id, self.now())
        return fresh is None or fresh.payment.current.invoice != current.invoice

    def _stripe_failed(self, error: LinkFailure) -> None:
        """Count a failed re-read; stop asking Stripe unless the failure concerns only one payment."""
        self._stripe_failures += 1
        not_of_one_payment = SignInRefused | PermissionMissing | RateLimited | BudgetSpent
        if isinstance(error, not_of_one_payment) or self._stripe_failures >= IN_A_ROW_MAX:
            self._stripe_out = True

    async def ask_for_anything(self) -> None:
        """Read the first page of Halo's rows, to test whether Halo answers at all.

        Raises:
            LinkFailure: Halo does not answer, so no payment is at fault.
        """
        await self.sink.count_rows()
        self.backlog.failures.has_read()

    def _decide(self, due: DuePayment, rows: Sequence[Row], *, asked: bool = False) -> Decision:
        return decide(
            due.payment,
            rows,
            self.settings.policy,
            asked=asked,
            acknowledged=due.had_rows,
            accepted=due.accepted,
        )

    async def _ask_stripe(self, due: DuePayment, rows: Sequence[Row]) -> Decision | None:
        """Re-read the payment intent, then decide; None if Stripe now reports another state."""
        current = due.payment.current
        await self.rereads.read_one(current.intent_id, current.at)
        fresh = self.store.due_payment(current.intent_id, self.now())
        if fresh is None or fresh.payment.current.state is not current.state:
            return None
        return self._decide(fresh, rows, asked=True)


def _was_sent(due: DuePayment, unproven: Unproven) -> bool:
    """Whether the rows show a write of syncd that no answer of Halo has proven.

    Such a write has timed out, or Halo's answer did not list the rows. A write of an earlier state
    does not count: then Halo's own webhook, or a person, wrote the state that the rows show now.

    Args:
        due: the payment.
        unproven: the payment's last write.
    """
    if due.condition is Condition.FAILED:
        return False
    tried = due.attempts > 0 or due.doubt_until is not None
    return tried or unproven.sent_at >= min(unproven.changed_at, due.payment.current.at)
