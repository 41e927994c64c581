"""Finds the payment intent of refunds and disputes that name only their charge."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from syncd.clients.stripe.parse import Unreadable, charge_of, intent_of
from syncd.core.errors import (
    BadAnswer,
    CursorRefused,
    PermissionMissing,
    ServerError,
    Unreachable,
)
from syncd.core.reversals import Reversal, ReversalKind
from syncd.core.rules.blame import IN_A_ROW_MAX

CHARGES_MAX = 10_000
"""How many charges are remembered; after that, the memory is cleared."""

PAUSE_SECONDS = 60.0
"""After IN_A_ROW_MAX charges that Stripe failed to show, syncd reads no charge for so many seconds."""


@dataclass(slots=True)
class Charges:
    """Reads each charge once.

    Attributes:
        get: reads a path of Stripe's API; raises CursorRefused if there is no such object.
        probe: sends another request; raises LinkFailure if Stripe as a whole does not work.
        now: Unix seconds.
    """

    get: Callable[[str], Awaitable[object]]
    probe: Callable[[], Awaitable[object]]
    now: Callable[[], float]
    _intents: dict[str, str | None] = field(default_factory=dict, init=False)
    _failed: list[float] = field(default_factory=list, init=False)

    async def named(self, seen: Reversal, raw: object) -> Reversal | Unreadable:
        """Add the payment intent of its charge to a refund or dispute.

        A dispute whose payment cannot be found is Unreadable, so that a person sees the dispute. A
        refund whose charge has no payment intent does not concern Halo and stays unchanged.

        Args:
            seen: the refund or dispute.
            raw: its JSON object.

        Raises:
            LinkFailure: Stripe as a whole does not work.
        """
        if seen.intent_id is not None or seen.total:
            return seen
        charge = charge_of(raw)
        if charge is None:
            return self._without(seen, "names neither a payment intent nor a charge")
        if charge not in self._intents and self._pauses():
            return _lost(
                seen,
                f"names only the charge {charge}, which was not read, because Stripe failed to show "
                "other charges a minute ago.",
            )
        try:
            intent = await self._intent_of(charge)
        except (CursorRefused, PermissionMissing, ServerError, BadAnswer, Unreachable) as error:
            if not isinstance(error, CursorRefused | PermissionMissing):
                if error.retry_after_seconds is not None:
                    raise
                await self.probe()  # the charge is at fault only if another request works
                self._failed.append(self.now())
            return _lost(seen, f"names only the charge {charge}, which can't be read: {error}")
        if intent is None:
            return self._without(seen, f"is of the charge {charge}, which has no payment intent")
        return replace(seen, intent_id=intent)

    def _without(self, seen: Reversal, why: str) -> Reversal | Unreadable:
        return seen if seen.kind is ReversalKind.REFUNDED else _lost(seen, f"{why}.")

    def _pauses(self) -> bool:
        """Whether Stripe failed to show several charges in a row within the last minute."""
        now = self.now()
        self._failed = [at for at in self._failed if 0 <= now - at <= PAUSE_SECONDS * 10]
        return len(self._failed) >= IN_A_ROW_MAX and now - self._failed[-1] <= PAUSE_SECONDS

    async def _intent_of(self, charge: str) -> str | None:
        if charge not in self._intents:
            intent = intent_of(await self.get(f"/v1/charges/{charge}"))
            self._failed.clear()
            if len(self._intents) >= CHARGES_MAX:
                self._intents.clear()
            self._intents[charge] = intent
        return self._intents[charge]


def _lost(seen: Reversal, why: str) -> Unreadable:
    noun = "refund" if seen.kind is ReversalKind.REFUNDED else "dispute"
    text = f"The {noun} {seen.id} {why} So syncd cannot tell which payment it belongs to."
    return Unreadable(seen.id, text, seen.at)
