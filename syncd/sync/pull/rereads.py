"""Re-reads payment intents whose events contradict each other, one at a time.

If Stripe cannot show one payment intent but answers other requests, that payment does not delay the
others. syncd asks for it again with backoff, and finally puts it on the attention list.
"""

from collections.abc import Awaitable, Callable, Sequence
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
from syncd.core.rules.blame import ReadFailures
from syncd.core.windows import REREAD_UNSHOWN
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.text.wording import sentence

READINGS_MAX = 3
"""How often a payment intent is read, a second apart, until it is as new as its events."""

UNSHOWN_MAX = 3
"""How many reads may fail, over an hour, before the payment goes on the attention list."""


@dataclass(slots=True)
class Between:
    """Runs more urgent work between two requests of a long reading.

    Attributes:
        run: the more urgent work; by default none.
    """

    run: Callable[[], Awaitable[None]] | None = field(default=None)

    async def __call__(self) -> None:
        """Run the more urgent work."""
        if self.run is not None:
            await self.run()


@dataclass(slots=True)
class Rereads:
    """Reads single payment intents into the store.

    Attributes:
        between: called between two requests of a long reading.
        trouble: why a payment intent could not be read although Stripe works; None if all could.
    """

    source: StripeSource
    store: Store
    report: Report
    now: Callable[[], float]
    between: Between = field(default_factory=Between)
    trouble: LinkFailure | None = field(init=False, default=None)

    async def reread(self) -> None:
        """Read every payment intent whose events contradict each other.

        One that cannot be read stays in doubt, and is read again with backoff.

        Raises:
            LinkFailure: Stripe does not answer.
        """
        tried: set[str] = set()
        while doubtful := [
            one for one in self.store.doubts.due(self.now(), 200) if one[0] not in tried
        ]:
            tried.update(intent_id for intent_id, _ in doubtful)
            # Whatever the result, the payment intent is not read again in this run.
            await self.read_each(doubtful, self._hold_unread, self._leave_in_doubt)

    def _hold_unread(self, intent_id: str) -> None:
        """Hold a payment that is still in doubt after its payment intent was read."""
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
        """Postpone a payment in doubt that Stripe cannot show; hold it after UNSHOWN_MAX failures."""
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
        """Read payment intents one at a time; one that Stripe cannot show delays no other.

        A payment intent is at fault itself if Stripe answered another request afterwards, see
        `core.rules.blame`.

        Args:
            wanted: payment intents, each with the second (Unix) that the answer must cover.
            shown: called with each payment intent that was read.
            unshown: called with each payment intent that Stripe cannot show, and the failure.

        Raises:
            LinkFailure: Stripe does not answer, or shows no payment intent at all.
        """
        failures = ReadFailures[str]()
        for intent_id, known_at in wanted:
            await self.between()
            try:
                await self.read_one(intent_id, known_at)
            except BudgetSpent:
                raise  # no other request is allowed either
            except LinkFailure as error:
                if failures.add(intent_id, error):
                    await self._ask_for_anything()
                    self._blame(failures.other_worked(), unshown)
            else:
                shown(intent_id)
                self._blame(failures.has_read(), unshown)
        if failures.unclear:
            await self._ask_for_anything()
            self._blame(failures.other_worked(), unshown)

    async def _ask_for_anything(self) -> None:
        """Request any payment intent from Stripe, to test whether Stripe shows one at all.

        Raises:
            LinkFailure: Stripe shows none, so no payment is at fault.
        """
        try:
            await self.source.probe("payment_intents")
        except CursorRefused as error:  # the listing itself is refused
            raise BadAnswer(Side.STRIPE, str(error)) from None

    def _blame(
        self, at_fault: list[tuple[str, LinkFailure]], unshown: Callable[[str, LinkFailure], None]
    ) -> None:
        for intent_id, error in at_fault:
            self.trouble = self.trouble or error
            self.report.log("warning", "intent_unshown", intent=intent_id, reason=str(error))
            unshown(intent_id, error)

    async def read_one(self, intent_id: str, known_at: int = 0) -> Observation | None:
        """Read one payment intent; the answer must cover a time (Unix seconds)."""
        try:
            read = await self.source.intent(intent_id)
            for _ in range(READINGS_MAX - 1):
                if isinstance(read, Unreadable) or read.at >= known_at:
                    break
                # The payment may change again within the second of its event.
                await self.source.calling.sleep(1.0)
                read = await self.source.intent(intent_id)
        except IntentUnknown as error:
            self.report.log("warning", "intent_unknown", intent=intent_id, reason=str(error))
            return None
        if isinstance(read, Unreadable):
            self.report.log("warning", "unreadable", id=read.id, reason=read.text)
            return None
        # If Stripe's clock is behind its own events, three readings are enough to cover them.
        read = replace(read, at=max(read.at, known_at))
        self.store.take_in([read], self.now())
        return read
