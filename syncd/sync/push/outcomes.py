"""Converts the result of a payment's push into log, metrics and a record for the store.

This module sends no request and does not write to the store; `pusher`, `lookup`, `update` and
`insert` do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from syncd.core.holds import HoldCode, message
from syncd.core.payments import PaymentState
from syncd.core.records import Condition, DuePayment, Outcome, Pushed
from syncd.core.rows import Row
from syncd.core.rules.decisions import Create, Decision, Hold, InStep, Update
from syncd.core.windows import LOOK_UP_AGAIN, RETRY_FAILED
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.sync.pull.poll import stripe_clock
from syncd.text.wording import sentence

UNPROVEN_MAX = 2
"""After so many answers without proof, the payment counts as failed."""

INSERT_DOUBT_SECONDS = 300.0
"""How long an insert without an answer is uncertain, in seconds: Halo may still carry it out.

Halo's gateway gives up after about 60 s, and a second host's clock may differ by minutes.
"""

LAG_SECONDS = 30.0
"""The same, if Halo answered without proof: only Halo's lists may be late."""

LOOK_SECONDS_FIRST, LAG_LOOK_SECONDS_FIRST = 15.0, 2.0
"""When syncd first looks for a row after an insert, in seconds, unanswered or answered.

syncd then looks again at growing intervals, until the row appears or the insert is no longer
uncertain.
"""

Plan = Callable[[DuePayment, Decision, str], None]
"""Called with the planned action of a dry run for a payment, and the reason."""


@dataclass(slots=True)
class Outcomes:
    """Reports results, and converts them into records.

    Attributes:
        numbers: the status number of each configured state.
        plan: called with the planned actions of a dry run; None for a real run.
        store: has Stripe's time at the last poll.
    """

    report: Report
    now: Callable[[], float]
    numbers: Mapping[PaymentState, int]
    plan: Plan | None
    store: Store

    def settled(
        self, due: DuePayment, decision: Decision, was: Sequence[int | None] | None = None
    ) -> Outcome:
        """The record of a decision that sends nothing.

        Args:
            due: the payment.
            decision: the decision.
            was: if the rows, read back, prove an earlier write that no answer proved: their status
                numbers before that write; otherwise None.
        """
        current, state = due.payment.current, state_of(due)
        if isinstance(decision, InStep):
            inserted = due.doubt_until is not None
            proves = was is not None
            pushed = self.report_push(
                due,
                decision,
                ("created" if inserted else "updated") if proves else "in_step",
                was or (),
            )
            return Outcome(
                current.intent_id,
                state,
                Condition.IN_STEP,
                acked=True,
                rows=decision.rows,
                pushed=pushed,
            )
        if isinstance(decision, Hold):
            outcome = self._held(due, decision.code, decision.text)
            self.planned(due, decision, decision.text)
            return outcome
        self.planned(due, decision, "Halo has no row for it")
        self.report.count("pushes", outcome="unmatched")
        given_up = due.looks == 0 and self._is_old(due)  # a later read must not end a search
        if due.looks < len(LOOK_UP_AGAIN.waits_seconds) and not given_up:
            again = self.now() + LOOK_UP_AGAIN.wait_seconds(due.looks)
            return Outcome(
                current.intent_id,
                state,
                Condition.UNMATCHED,
                next_try=again,
                looks=due.looks + 1,
            )
        self.report.log("info", "not_halos", intent=current.intent_id, state=state)
        return Outcome(current.intent_id, state, Condition.NOT_HALOS)

    def _is_old(self, due: DuePayment) -> bool:
        """Whether the payment reached its state, or was created, so long ago that no row will come.

        If a row appears later nevertheless, the next sweep finds it, because it reads Halo's rows.
        """
        current = due.payment.current
        reached = current.created if current.read and current.created is not None else current.at
        return stripe_clock(self.store, self.now()) - reached > sum(LOOK_UP_AGAIN.waits_seconds)

    def unproven(self, due: DuePayment, create: Create, answered: Sequence[Row] = ()) -> Outcome:
        """Hold a payment whose new row Halo accepted but does not show; a person must decide.

        Args:
            due: the payment.
            create: the row that was sent.
            answered: the rows in Halo's answer.
        """
        ids = [row.id for row in answered if row.id is not None]
        reason = message(
            HoldCode.INSERT_UNPROVEN,
            due.intent_id,
            invoice=create.invoice_id,
            answered=f" Halo's answer names {listed(ids)}." if ids else "",
        )
        doubt_until = self.now() + INSERT_DOUBT_SECONDS
        return replace(self._held(due, HoldCode.INSERT_UNPROVEN, reason), doubt_until=doubt_until)

    def _held(self, due: DuePayment, code: HoldCode, reason: str) -> Outcome:
        """Report a new hold, and return its record."""
        intent_id, state = due.intent_id, state_of(due)
        self.report.count("pushes", outcome="held")
        self.report.log("warning", "held", intent=intent_id, state=state, code=code, reason=reason)
        return Outcome(intent_id, state, Condition.HELD, code, reason, attempts=due.attempts)

    def failed(self, due: DuePayment, words: str, before: int = 0) -> Outcome:
        """Put the payment on the attention list; retry with backoff after `before` attempts."""
        current, state = due.payment.current, state_of(due)
        tried = max(0, due.attempts - before)
        gap = RETRY_FAILED.wait_seconds(tried)
        reason = message(
            HoldCode.HALO_REFUSES, current.intent_id, state=state, error=sentence(words)
        )
        self.report.count("pushes", outcome="failed")
        self.report.log(
            "error",
            "push_failed",
            intent=current.intent_id,
            state=state,
            attempt=due.attempts + 1,
            reason=words,
        )
        return Outcome(
            current.intent_id,
            state,
            Condition.FAILED,
            HoldCode.HALO_REFUSES,
            reason,
            next_try=self.now() + gap,
            attempts=due.attempts + 1,
        )

    def still_failed(self, due: DuePayment) -> Outcome:
        """Postpone a payment on the attention list that could not be tried, by the same time."""
        gap = RETRY_FAILED.wait_seconds(due.attempts - 1)
        return due_again(due, self.now() + gap)

    def unasked(self, due: DuePayment) -> Outcome:
        """Stripe could not be asked again: the next poll asks.

        A payment on the attention list stays there, and is postponed by the same time again.
        """
        if due.condition is Condition.FAILED:
            return self.still_failed(due)
        return Outcome(due.intent_id, state_of(due), Condition.IN_DOUBT)

    def report_push(
        self,
        due: DuePayment,
        decision: Update | InStep,
        outcome: str,
        was: Sequence[int | None] = (),
    ) -> Pushed | None:
        """Log a payment that is now in step. Returns what syncd wrote; None if it wrote nothing.

        `was` has the rows' former status numbers if the decision does not.
        """
        current, state, now = due.payment.current, state_of(due), self.now()
        self.planned(due, decision, "in step already")
        self.report.count("pushes", outcome=outcome)
        if outcome == "in_step":
            self.report.log("debug", "in_step", intent=current.intent_id, state=state)
            return None
        lag = None if current.read else max(0.0, now - current.at)
        if lag is not None:
            self.report.lag(lag)
        old = self._names(decision.was if isinstance(decision, Update) else was)
        left_out = decision.left_out if isinstance(decision, Update) else ""
        self.report.log(
            "info",
            "pushed",
            intent=current.intent_id,
            rows=list(decision.rows),
            old=old,
            new=str(state),
            attempt=due.attempts + 1,
            lag_seconds=None if lag is None else round(lag, 1),
            **({"rows_leave_out": left_out} if left_out else {}),
        )
        return Pushed(
            now, current.intent_id, ", ".join(dict.fromkeys(old)), state, lag, decision.rows
        )

    def _names(self, numbers: Sequence[int | None]) -> list[str]:
        names = {number: str(state) for state, number in self.numbers.items()}
        return [
            names.get(number, f"status {number}") if number is not None else "none"
            for number in numbers
        ]

    def planned(self, due: DuePayment, decision: Decision, text: str) -> None:
        """Report the planned action (dry run only)."""
        if self.plan is not None:
            self.plan(due, decision, text)


def state_of(due: DuePayment) -> PaymentState:
    """The state to push; a due payment always has one."""
    state = due.payment.current.state
    if state is None:
        message = f"{due.intent_id} is due without a state"
        raise AssertionError(message)
    return state


def due_again(
    due: DuePayment, next_try: float, *, attempts: int = 0, doubt_until: float | None = None
) -> Outcome:
    """Make a payment due from a time on; a failed payment stays on the attention list.

    Args:
        due: the payment.
        next_try: when it becomes due, Unix seconds.
        attempts: how many attempts to add to the earlier ones.
        doubt_until: until when an insert is uncertain, Unix seconds.
    """
    failed = due.condition is Condition.FAILED
    return Outcome(
        due.intent_id,
        state_of(due),
        due.condition if failed else Condition.DUE,
        HoldCode.HALO_REFUSES if failed else None,
        due.reason if failed else None,
        next_try=next_try,
        attempts=due.attempts + attempts,
        doubt_until=doubt_until,
    )


def doubtful(
    due: DuePayment, until: float, now: float, *, attempts: int = 0, known: float | None = None
) -> Outcome:
    """Record an uncertain insert; syncd looks for its row until the time is over.

    Args:
        due: the payment.
        until: when the wait ends, Unix seconds.
        now: Unix seconds.
        attempts: how many attempts to add to the earlier ones.
        known: the stored end of the uncertainty, if it stays; None to store `until`.
    """
    left, first, whole = until - now, LOOK_SECONDS_FIRST, INSERT_DOUBT_SECONDS
    if left <= LAG_SECONDS:
        first, whole = LAG_LOOK_SECONDS_FIRST, LAG_SECONDS
    next_try = min(until, now + max(first, whole - left))
    ends = until if known is None else known
    return due_again(due, next_try, attempts=attempts, doubt_until=ends)


def as_planned(due_payments: Sequence[DuePayment]) -> list[Outcome]:
    """Records for the store of a dry run, as if the payments had been pushed, so that the run ends."""
    return [Outcome(due.intent_id, state_of(due), Condition.IN_STEP) for due in due_payments]


def listed(rows: Sequence[int]) -> str:
    """Row numbers as text: ``row 28``, ``rows 28, 29``."""
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows))}"
