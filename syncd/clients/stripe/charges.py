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

CHARGES_MAX = 10_000
"""How many charges are remembered; after that, the memory is cleared."""


@dataclass(slots=True)
class Charges:
    """Reads each charge once.

    Attributes:
        get: reads a path of Stripe's API; raises CursorRefused if there is no such object.
    """

    get: Callable[[str], Awaitable[object]]
    _intents: dict[str, str | None] = field(default_factory=dict, init=False)

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
        try:
            intent = await self._intent_of(charge)
        except (CursorRefused, PermissionMissing, ServerError, BadAnswer, Unreachable) as error:
            return _lost(seen, f"names only the charge {charge}, which can't be read: {error}")
        if intent is None:
            return self._without(seen, f"is of the charge {charge}, which has no payment intent")
        return replace(seen, intent_id=intent)

    def _without(self, seen: Reversal, why: str) -> Reversal | Unreadable:
        return seen if seen.kind is ReversalKind.REFUNDED else _lost(seen, f"{why}.")

    async def _intent_of(self, charge: str) -> str | None:
        if charge not in self._intents:
            intent = intent_of(await self.get(f"/v1/charges/{charge}"))
            if len(self._intents) >= CHARGES_MAX:
                self._intents.clear()
            self._intents[charge] = intent
        return self._intents[charge]


def _lost(seen: Reversal, why: str) -> Unreadable:
    noun = "refund" if seen.kind is ReversalKind.REFUNDED else "dispute"
    text = f"The {noun} {seen.id} {why} So syncd cannot tell which payment it belongs to."
    return Unreadable(seen.id, text, seen.at)
