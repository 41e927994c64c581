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

FAILING_SECONDS = 600.0
"""If Stripe failed to show FAILED_MAX charges within this time (seconds), syncd asks for each charge once."""

AGAIN_SECONDS = 60.0
"""syncd asks again for a charge that Stripe failed to show after this time, in seconds."""

FAILED_MAX = 3
"""See FAILING_SECONDS: each retried request takes most of a minute, and payments wait for all of them."""


@dataclass(slots=True)
class Charges:
    """Reads each charge once.

    Attributes:
        get: reads a path of Stripe's API, with or without retries; raises CursorRefused if there is
            no such object.
        probe: sends another request; raises LinkFailure if Stripe as a whole does not work.
        now: Unix seconds.
    """

    get: Callable[[str, bool], Awaitable[object]]
    probe: Callable[[], Awaitable[object]]
    now: Callable[[], float]
    _intents: dict[str, str | None] = field(default_factory=dict, init=False)
    _failed: dict[str, float] = field(default_factory=dict, init=False)

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
        if self._failed_at(charge) is not None:
            return _lost(
                seen,
                f"names only the charge {charge}, which Stripe failed to show a moment ago; syncd asks "
                "again in a minute.",
            )
        try:
            intent = await self._intent_of(charge)
        except (CursorRefused, PermissionMissing, ServerError, BadAnswer, Unreachable) as error:
            if not isinstance(error, CursorRefused | PermissionMissing):
                await self.probe()  # the charge is at fault only if another request works
                self._failed[charge] = self.now()
            return _lost(seen, f"names only the charge {charge}, which can't be read: {error}")
        if intent is None:
            return self._without(seen, f"is of the charge {charge}, which has no payment intent")
        return replace(seen, intent_id=intent)

    def _without(self, seen: Reversal, why: str) -> Reversal | Unreadable:
        return seen if seen.kind is ReversalKind.REFUNDED else _lost(seen, f"{why}.")

    def _failed_at(self, charge: str) -> float | None:
        """When Stripe failed to show this charge, within AGAIN_SECONDS; otherwise None."""
        at = self._failed.get(charge)
        return at if at is not None and 0 <= self.now() - at < AGAIN_SECONDS else None

    def _retries(self) -> bool:
        """Whether to retry a failed request: not if Stripe failed to show several charges lately."""
        now = self.now()
        self._failed = {
            name: at for name, at in self._failed.items() if 0 <= now - at <= FAILING_SECONDS
        }
        return len(self._failed) < FAILED_MAX

    async def _intent_of(self, charge: str) -> str | None:
        if charge not in self._intents:
            intent = intent_of(await self.get(f"/v1/charges/{charge}", self._retries()))
            if len(self._intents) >= CHARGES_MAX:
                self._intents.clear()
            self._intents[charge] = intent
        return self._intents[charge]


def _lost(seen: Reversal, why: str) -> Unreadable:
    noun = "refund" if seen.kind is ReversalKind.REFUNDED else "dispute"
    text = f"The {noun} {seen.id} {why} So syncd cannot tell which payment it belongs to."
    return Unreadable(seen.id, text, seen.at)
