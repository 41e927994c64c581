"""Payment intents read one by one: those in doubt, of which only the intent itself says what is true.

One that Stripe can't show, though it answers other questions, keeps no other waiting. It is asked
for again at growing gaps, and at last a person is told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from syncd.clients.stripe.parse import Unreadable
from syncd.clients.stripe.source import StripeSource
from syncd.core.errors import (
    BadAnswer,
    BudgetSpent,
    CursorRefused,
    IntentUnknown,
    LinkFailure,
    Side,
)
from syncd.core.holds import HoldCode, message
from syncd.core.payments import Observation
from syncd.core.windows import REREAD_UNSHOWN
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.text.wording import sentence

READINGS_MAX = 3
"""How often a payment in doubt is read, a second apart, until Stripe's clock has passed the doubt."""

TROUBLES_MAX = 3
"""After so many payments in a row that can't be read, something else is asked; after twice as many,
the link is at fault, not they."""

UNSHOWN_MAX = 3
"""How often that may fail, an hour in all, before a person is told."""


@dataclass(slots=True)
class Rereads:
    """Reads single payment intents into the store.

    Attributes:
        trouble: why a payment was left out, though Stripe works; None where none was.
    """

    source: StripeSource
    store: Store
    report: Report
    now: Callable[[], float]
    trouble: LinkFailure | None = field(init=False, default=None)

    async def reread(self) -> None:
        """Read every payment in doubt: only the intent itself can say what is true.

        One that can't be read stays in doubt, and is asked for again at growing gaps.

        Raises:
            LinkFailure: Stripe doesn't answer.
        """
        tried: set[str] = set()
        while doubtful := [
            one for one in self.store.doubts.due(self.now(), 200) if one[0] not in tried
        ]:
            tried.update(intent_id for intent_id, _ in doubtful)
            # Whatever came of it, it isn't asked for again in this run.
            await self.read_each(doubtful, self._hold_unread, self._leave_in_doubt)

    def _hold_unread(self, intent_id: str) -> None:
        """A payment that is in doubt although its intent was read: a person must look."""
        problem = (
            f"Stripe's events for {intent_id} contradict each other, and Stripe's answer for the "
            "payment intent has no usable state."
        )
        self.store.doubts.hold(
            intent_id,
            HoldCode.STRIPE_UNREADABLE,
            message(HoldCode.STRIPE_UNREADABLE, intent_id, problem=problem),
            self.now(),
        )

    def _leave_in_doubt(self, intent_id: str, error: LinkFailure) -> None:
        """A payment in doubt that Stripe can't show: once more later, and at last a person is told."""
        now = self.now()
        failed = self.store.doubts.failed(intent_id)
        wait = REREAD_UNSHOWN.wait_seconds(failed - 1)
        if failed <= UNSHOWN_MAX:
            self.store.doubts.put_off(intent_id, now + wait)
            return
        problem = f"Stripe answers other requests, but fails on {intent_id}: {sentence(str(error))}"
        reason = message(HoldCode.STRIPE_UNREADABLE, intent_id, problem=problem)
        self.store.doubts.hold(intent_id, HoldCode.STRIPE_UNREADABLE, reason, now, now + wait)

    async def read_each(
        self,
        wanted: Sequence[tuple[str, int]],
        shown: Callable[[str], None],
        unshown: Callable[[str, LinkFailure], None],
    ) -> None:
        """Read payment intents one by one; one that Stripe can't show keeps no other waiting.

        It is to blame itself once Stripe has answered another question afterwards.

        Args:
            wanted: which, each with the second (Unix) that the answer must cover.
            shown: told which was answered.
            unshown: told which can't be shown, and why.

        Raises:
            LinkFailure: Stripe doesn't answer, or shows no payment intent at all.
        """
        failed: list[tuple[str, LinkFailure]] = []
        in_a_row = 0
        for intent_id, known_at in wanted:
            try:
                await self.read_one(intent_id, known_at)
            except BudgetSpent:
                raise  # nothing else may be asked either
            except LinkFailure as error:
                failed.append((intent_id, error))
                in_a_row += 1
                if in_a_row == 2 * TROUBLES_MAX:
                    raise
            else:
                in_a_row = 0
                shown(intent_id)
                self._blame(failed, unshown)
            if len(failed) == TROUBLES_MAX:
                await self._ask_for_anything()
                self._blame(failed, unshown)
        if failed:
            await self._ask_for_anything()
            self._blame(failed, unshown)

    async def _ask_for_anything(self) -> None:
        """Ask Stripe for any payment intent: whether it shows one at all.

        Raises:
            LinkFailure: it doesn't, and no payment is to blame.
        """
        try:
            await self.source.probe("payment_intents")
        except CursorRefused as error:  # the listing itself is refused
            raise BadAnswer(Side.STRIPE, str(error)) from None

    def _blame(
        self, failed: list[tuple[str, LinkFailure]], unshown: Callable[[str, LinkFailure], None]
    ) -> None:
        for intent_id, error in failed:
            self.trouble = self.trouble or error
            self.report.log("warning", "intent_unshown", intent=intent_id, reason=str(error))
            unshown(intent_id, error)
        failed.clear()

    async def read_one(self, intent_id: str, known_at: int = 0) -> Observation | None:
        """Read one payment intent, so that the answer covers what was known (Unix seconds)."""
        try:
            read = await self.source.intent(intent_id)
            for _ in range(READINGS_MAX - 1):
                if isinstance(read, Unreadable) or read.at >= known_at:
                    break
                # The payment may change once more within the second that its event names.
                await self.source.calling.sleep(1.0)
                read = await self.source.intent(intent_id)
        except IntentUnknown as error:
            self.report.log("warning", "intent_unknown", intent=intent_id, reason=str(error))
            return None
        if isinstance(read, Unreadable):
            self.report.log("warning", "unreadable", id=read.id, reason=read.text)
            return None
        # Where Stripe's clock stays behind its own events, three readings have outwaited them.
        read = replace(read, at=max(read.at, known_at))
        self.store.take_in([read], self.now())
        return read
