"""Payments: the five states, Stripe's reports about a payment, and which report counts.

Pure: no clock, no randomness, no I/O (source: Stripe's documentation of PaymentIntents, events and
currencies). Does not belong here: how Stripe's JSON is parsed (`clients.stripe.parse`).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from syncd.core.money import Money

INTENT_ID = re.compile(r"[A-Za-z0-9_]{3,255}")
"""The format of a payment intent's id (``pi_…``); Stripe does not document a stricter one."""


class PaymentState(StrEnum):
    """The five states an invoice payment can be in; named as in Stripe's event types."""

    SUCCEEDED = "succeeded"
    PAYMENT_FAILED = "payment_failed"
    PROCESSING = "processing"
    CANCELED = "canceled"
    REQUIRES_ACTION = "requires_action"

    @property
    def final(self) -> bool:
        """Whether the state is final. A failed payment is not: the customer may pay again."""
        return self in (PaymentState.SUCCEEDED, PaymentState.CANCELED)


EVENT_TYPES = tuple(f"payment_intent.{state}" for state in PaymentState)
"""The event types of the five states."""

CREATED_EVENT = "payment_intent.created"
"""The event type of a new payment: it reports no state, but another event follows."""

_STATE_OF_EVENT = dict(zip(EVENT_TYPES, PaymentState, strict=True))

_STATE_OF_STATUS = {
    "succeeded": PaymentState.SUCCEEDED,
    "processing": PaymentState.PROCESSING,
    "canceled": PaymentState.CANCELED,
    "requires_action": PaymentState.REQUIRES_ACTION,
}

STATUSES_WITHOUT_STATE = frozenset(
    {"requires_payment_method", "requires_confirmation", "requires_capture"}
)
"""Statuses of payments that have not started."""


def state_of_event(event_type: str) -> PaymentState | None:
    """The state of an event type; None for other types.

    The type means the same in every API version, so the type decides, not the object in the event.
    """
    return _STATE_OF_EVENT.get(event_type)


def state_of_intent(status: str, *, has_error: bool) -> PaymentState | None:
    """The state of a payment intent; None if the payment has not started or the status is unknown.

    `has_error` is whether `last_payment_error` is set. Stripe may add statuses; syncd maps an
    unknown status to no state.
    """
    if status == "requires_payment_method" and has_error:
        return PaymentState.PAYMENT_FAILED
    return _STATE_OF_STATUS.get(status)


# --- Stripe's reports ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observation:
    """One report of Stripe about one payment intent: an event, or the payment intent itself.

    Attributes:
        intent_id: ``pi_…``.
        state: the reported state; None for none of the five.
        at: Unix seconds on Stripe's clock. For an event, its creation time. For a payment intent
            that was read, the latest second at which this state is certain.
        read: True for a payment intent that was read, False for an event.
        created: Unix seconds at which the payment intent was created; None if unknown.
        amount: requested, in the smallest unit; None if unreadable.
        amount_received: received, in the smallest unit; None if unreadable.
        currency: three lower-case letters; None if unreadable.
        invoice: Halo's invoice in the metadata, as text; None if the metadata names none.
        surcharge: the part of the amount that is a surcharge, in the smallest unit; None if Stripe
            shows none.
        tip: the part of the amount that is a tip, in the smallest unit; None if Stripe shows none.
        event_id: ``evt_…`` for an event.
        trace: the event or payment intent as JSON without secrets, as Halo's webhook would store it
            in the row.
    """

    intent_id: str
    state: PaymentState | None
    at: int
    read: bool
    created: int | None = None
    amount: int | None = None
    amount_received: int | None = None
    currency: str | None = None
    invoice: str | None = None
    event_id: str | None = None
    trace: str | None = None
    surcharge: int | None = None
    tip: int | None = None

    @property
    def final(self) -> bool:
        """Whether the reported state is final."""
        return self.state is not None and self.state.final

    @property
    def complete(self) -> bool:
        """Whether the amounts that the state needs are readable."""
        if self.state is PaymentState.SUCCEEDED and self.amount_received is None:
            return False
        return self.amount is not None and self.currency is not None

    @property
    def received(self) -> Money | None:
        """The amount received; None if unreadable."""
        if self.amount_received is None or self.currency is None:
            return None
        return Money(self.amount_received, self.currency)

    @property
    def due(self) -> Money | None:
        """The amount requested; None if unreadable."""
        if self.amount is None or self.currency is None:
            return None
        return Money(self.amount, self.currency)


def _rank(seen: Observation) -> tuple[bool, bool, bool, int, bool, str, str]:
    """Sort key of the observations of one payment; the greatest observation counts.

    A state counts before no state, and a final state before any other. Between two final states,
    the payment intent counts before an event, then the newest, and within one second the payment
    intent. The remaining parts make the order total, so the result does not depend on the order of
    arrival.
    """
    has_state = seen.state is not None
    return (
        has_state,
        seen.final,
        seen.final and seen.read,
        seen.at,
        seen.read,
        str(seen.state),
        repr(seen),
    )


@dataclass(frozen=True, slots=True)
class LastSeen:
    """When Stripe last reported one state of a payment.

    Attributes:
        state: the state; None for none of the five.
        read: whether the payment intent itself reported it.
        at: Unix seconds of the newest such report.
    """

    state: PaymentState | None
    read: bool
    at: int


@dataclass(frozen=True, slots=True)
class Payment:
    """Everything that Stripe reported about one payment intent.

    Both attributes are maxima over the observations, so the order of the observations does not
    matter.

    Attributes:
        current: the observation that counts.
        last_seen: when each state was last reported, by events and by the payment intent itself;
            sorted.
    """

    current: Observation
    last_seen: tuple[LastSeen, ...]

    @property
    def read(self) -> LastSeen | None:
        """The newest report by the payment intent itself; None if it was never read."""
        if len(self.last_seen) == 1:  # nearly every payment
            return self.last_seen[0] if self.last_seen[0].read else None
        readings = [seen for seen in self.last_seen if seen.read]
        return max(readings, key=lambda seen: (seen.at, str(seen.state)), default=None)

    @property
    def _doubt_at(self) -> int | None:
        """The newest second of an event that contradicts `current`; None without one."""
        current = self.current
        overtaking = [
            seen.at
            for seen in self.last_seen
            if not seen.read
            and seen.state is not current.state
            and (seen.at > current.at if current.read else seen.at >= current.at)
        ]
        return max(overtaking, default=None)

    def _finals(self, *, read: bool) -> int:
        """Count the final states that were reported (with `read`: by the payment intent itself)."""
        states = {
            seen.state
            for seen in self.last_seen
            if seen.state is not None and seen.state.final and (seen.read or not read)
        }
        return len(states)

    @property
    def needs_reading(self) -> bool:
        """Whether syncd must read the payment intent itself to decide.

        True after two events within one second, after an event that contradicts a final state, and
        after an event whose amount is unreadable.
        """
        read_at = -1 if self.read is None else self.read.at
        unread = read_at < self.current.at
        if self._finals(read=False) == 2 and not self.current.read and unread:
            return True
        doubt_at = self._doubt_at
        if doubt_at is not None and read_at < doubt_at:
            return True
        if self.current.state is None or self.current.read or self.current.complete:
            return False
        return unread

    @property
    def contradicted(self) -> bool:
        """Whether the payment intent itself contradicts the observation that counts."""
        if self._finals(read=True) == 2:
            return True
        read = self.read
        if read is None or read.at < self.current.at or read.state is self.current.state:
            return False
        return self.current.final or self._doubt_at is not None

    def came_back(self, before: "Payment", in_step_at: float) -> bool:
        """Whether the payment left its state and returned to it since `before`.

        Halo's own webhook may have written the state in between. Pages of events come newest first,
        so the state in between may be reported after the state that followed it.

        Args:
            before: what was known when the payment's rows had this state.
            in_step_at: when that was, Unix seconds.
        """
        since = min(before.current.at, in_step_at)
        return any(
            seen.state not in (None, self.current.state) and seen.at > since
            for seen in self.last_seen
            if seen not in before.last_seen
        )


def settle(known: Payment | None, seen: Observation) -> Payment:
    """Add one observation to what is known of its payment.

    The newest observation counts, and a final state stays. The result does not depend on the order
    of the observations, and repeated observations change nothing.
    """
    word = LastSeen(seen.state, seen.read, seen.at)
    if known is None:
        return Payment(seen, (word,))
    newest = {(one.state, one.read): one for one in known.last_seen}
    before = newest.get((word.state, word.read), word)
    newest[word.state, word.read] = max(before, word, key=lambda one: one.at)
    return Payment(
        max(known.current, seen, key=_rank),
        tuple(sorted(newest.values(), key=lambda one: (str(one.state), one.read))),
    )
