"""What a push leaves unfinished: who is put off, who comes before a person, where the next one goes on.

A payment that fails alone is put off, and at last a person is called. One that failed along with
others stays due for the link's sake; then the next push goes on behind it, with smaller lists if
need be, so that nobody is kept waiting by the same few.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.core.errors import LinkFailure, Side
from syncd.core.records import Condition, Outcome, Work
from syncd.core.windows import POSTPONED
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.sync.push.blame import BLAMED_MAX, Troubles, failing_since
from syncd.sync.push.outcomes import Outcomes, due_again, state_of

RESUME, SMALLER, FAILING = "push_after", "push_batch", "push_failing"
"""Notes of a push that broke off: where the next one goes on, with what size of batch, and since when
which payments fail."""


@dataclass(slots=True)
class Unfinished:
    """What one push leaves for the next.

    Attributes:
        outcomes: says what came of each payment.
        troubles: what failed in this push for single payments.
        trying: the payment that the push has come to.
        trouble: why a payment was put off in this push, though Halo works; None where none was.
    """

    store: Store
    outcomes: Outcomes
    troubles: Troubles
    report: Report
    now: Callable[[], float]
    trouble: LinkFailure | None = field(init=False, default=None)
    trying: str | None = field(init=False, default=None)

    def begin(self) -> None:
        """Begin another push."""
        self.troubles.clear()
        self.trouble, self.trying = None, None

    # --- where the next push goes on -----------------------------------------------------------------

    def place(self) -> str:
        """The payment behind which to go on; empty where the last push went through."""
        return self.store.note(RESUME) or ""

    def go_on_behind(self, intent_id: str | None) -> None:
        """Let the next push go on behind that payment; None: from the first on."""
        self.store.write_notes({RESUME: intent_id})

    def lists_of(self, batch: int) -> int:
        """How many rows to send in one list, where `batch` are configured."""
        smaller = self.store.note(SMALLER) or ""
        return max(1, min(batch, int(smaller))) if smaller.isdecimal() else batch

    def use_lists_of(self, rows: int | None) -> None:
        """Let the next push send so many rows in one list; None: as configured."""
        self.store.write_notes({SMALLER: None if rows is None else str(rows)})

    # --- who failed ----------------------------------------------------------------------------------

    def settle(self, *, whole: bool) -> None:
        """Put off the payments that are at fault themselves; the others stay due, for the link's sake.

        Args:
            whole: whether nothing else failed.
        """
        now, troubles = self.now(), self.troubles
        if not troubles.found:
            return
        writes = [trouble for trouble in troubles.found if trouble.writing]
        failing = failing_since(self._failing(), writes, now)
        self.store.write_notes({FAILING: json.dumps(failing)})
        outcomes = []
        for trouble in troubles.blamed():
            work = trouble.work
            self.report.log(
                "warning", "put_off", intent=work.payment.said.intent_id, state=state_of(work),
                attempt=work.attempts + 1, reason=str(trouble.error),
            )  # fmt: skip
            self.trouble = self.trouble or trouble.error
            outcomes.append(self._blame(work, trouble.error, now))
        since = {name: began for name, (began, _) in failing.items()}
        listed_ones = troubles.to_list(since, now) if whole or troubles.wrote else []
        for trouble in troubles.found:
            work = trouble.work
            if trouble.error.side is Side.STRIPE:
                outcomes.append(self.outcomes.unasked(work))
            elif work.condition is Condition.FAILED:
                outcomes.append(self.outcomes.still_failed(work))
            elif trouble in listed_ones:
                outcomes.append(self.outcomes.failed(work, str(trouble.error), before=BLAMED_MAX))
            else:
                self.go_on_behind(work.payment.said.intent_id)
        self.store.record(outcomes, now)

    def _failing(self) -> dict[str, tuple[float, float]]:
        try:
            found = json.loads(self.store.note(FAILING) or "{}")
            return {str(name): (float(since), float(last)) for name, (since, last) in found.items()}
        except (ValueError, TypeError, AttributeError):
            return {}  # a note of another version

    def _blame(self, work: Work, error: LinkFailure, now: float) -> Outcome:
        """A payment whose own request failed: once more, and at last a person is called."""
        if work.attempts >= BLAMED_MAX or work.condition is Condition.FAILED:
            return self.outcomes.failed(work, str(error), before=BLAMED_MAX)
        wait = POSTPONED.wait_seconds(work.attempts)
        return due_again(work, now + wait, attempts=1)
