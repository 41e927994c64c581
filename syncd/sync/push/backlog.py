"""Backlog of a push: postponed payments, new attention entries, and where the next push resumes.

A payment that fails alone is postponed, and goes on the attention list after some attempts. A
payment that failed along with others stays due, because the whole side may be at fault. The next
push then resumes after that payment, with smaller batches if necessary, so that a few failing
payments do not block the others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from syncd.core.errors import LinkFailure, Side
from syncd.core.payments import PaymentState
from syncd.core.records import Condition, DuePayment, Outcome
from syncd.core.rules.blame import BLAMED_MAX, RequestFailures, failing_since
from syncd.core.windows import POSTPONED
from syncd.monitor.report import Report
from syncd.store.coordination import PUSH_AFTER, PUSH_BATCH, PUSH_FAILING
from syncd.store.store import Store
from syncd.sync.link import remember_failures_shape
from syncd.sync.push.outcomes import Outcomes, due_again, state_of


@dataclass(slots=True)
class Backlog:
    """What one push leaves for the next push.

    Attributes:
        outcomes: turns results into records for the store.
        failures: the failed requests of single payments in this push.
        trying: the payment that the push is working on.
        trouble: why a payment was postponed although Halo works; None without one.
    """

    store: Store
    outcomes: Outcomes
    failures: RequestFailures
    report: Report
    now: Callable[[], float]
    trouble: LinkFailure | None = field(init=False, default=None)
    trying: str | None = field(init=False, default=None)

    def begin(self) -> None:
        """Start another push."""
        self.failures.clear()
        self.trouble, self.trying = None, None

    # --- where the next push resumes -----------------------------------------------------------------

    def resume_point(self) -> str:
        """The payment after which to resume; empty after a complete push."""
        return self.store.read(PUSH_AFTER) or ""

    def resume_after(self, intent_id: str | None) -> None:
        """Let the next push resume after that payment; None to start with the first."""
        self.store.write(PUSH_AFTER, intent_id)

    def batch_size(self, batch: int) -> int:
        """How many rows to send in one request, at most the configured `batch`."""
        smaller = self.store.read(PUSH_BATCH)
        return batch if smaller is None else max(1, min(batch, smaller))

    def set_batch_size(self, rows: int | None) -> None:
        """Let the next push send `rows` rows in one request; None for the configured number."""
        self.store.write(PUSH_BATCH, rows)

    # --- which payments failed --------------------------------------------------------------------

    def finish(self, *, complete: bool) -> None:
        """Postpone payments that are at fault themselves; the other failed payments stay due.

        Args:
            complete: whether the push came to its end.
        """
        now, failures = self.now(), self.failures
        if not failures.found:
            return
        for failed in failures.found:
            remember_failures_shape(self.store, failed.error, now)
        writes = [trouble for trouble in failures.found if trouble.writing]
        failing = failing_since(self.failing(), writes, now)
        self.store.write(PUSH_FAILING, failing)
        outcomes = []
        for trouble in failures.blamed():
            due = trouble.due_payment
            self.report.log(
                "warning",
                "put_off",
                intent=due.intent_id,
                state=state_of(due),
                attempt=due.attempts + 1,
                reason=str(trouble.error),
            )
            self.trouble = self.trouble or trouble.error
            outcomes.append(self._blame(due, trouble.error, now))
        since = {name: began for name, (began, _) in failing.items()}
        listed_ones = failures.to_list(since, now) if complete or failures.wrote else []
        for trouble in failures.found:
            due = trouble.due_payment
            if trouble.error.side is Side.STRIPE:
                outcomes.append(self.outcomes.unasked(due))
            elif due.condition is Condition.FAILED:
                outcomes.append(self.outcomes.still_failed(due))
            elif trouble in listed_ones:
                outcomes.append(self.outcomes.failed(due, str(trouble.error), before=BLAMED_MAX))
            else:
                self.resume_after(due.intent_id)
        self.store.record(outcomes, now)

    def failing(self) -> Mapping[str, tuple[float, float]]:
        """Payments whose writes failed recently: when that began and was last seen, Unix seconds."""
        return self.store.read(PUSH_FAILING) or {}

    def _blame(self, due: DuePayment, error: LinkFailure, now: float) -> Outcome:
        """Postpone a payment at fault; after BLAMED_MAX attempts, put it on the attention list."""
        if due.attempts >= BLAMED_MAX or due.condition is Condition.FAILED:
            return self.outcomes.failed(due, str(error), before=BLAMED_MAX)
        wait = POSTPONED.wait_seconds(due.attempts)
        return due_again(due, now + wait, attempts=1)


FRESH_SECONDS = 3_600.0
"""Payments that reached their state within this time (seconds) go before a backlog."""

FRESH_MAX = 20
"""If more payments are that recent, they are the backlog themselves."""


@dataclass(slots=True)
class FreshPayments:
    """The payments of the last hour: a person may be waiting for their invoices.

    Attributes:
        intents: the payments that were tried before the backlog in this push; the pusher adds them.
    """

    store: Store
    now: Callable[[], float]
    intents: set[str] = field(init=False, default_factory=set)
    _tried: set[tuple[str, PaymentState | None]] = field(init=False, default_factory=set)

    def begin(self) -> None:
        """Start another push."""
        self.intents.clear()
        self._tried.clear()

    def not_tried(self) -> list[DuePayment]:
        """Recent due payments not tried in this push, newest first; each then counts as tried."""
        now = self.now()
        found = self.store.fresh(now, now - FRESH_SECONDS, FRESH_MAX + 1)
        if len(found) > FRESH_MAX:
            return []
        new = [due for due in found if _state(due) not in self._tried]
        self._tried.update(map(_state, new))
        return new


def _state(due: DuePayment) -> tuple[str, PaymentState | None]:
    return due.intent_id, due.payment.current.state
