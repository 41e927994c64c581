"""What is said about a payment: its state, its money, and which of two words is newer.

Pure: no clock, no randomness, no I/O. Nothing here knows how Stripe or Halo are asked, only what
Stripe's words mean once they were read (source: Stripe's documentation of PaymentIntents, events
and currencies).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from syncd.core.money import Money

INTENT_ID = re.compile(r"[A-Za-z0-9_]{3,255}")
"""What the id of a payment intent may look like (``pi_…``): Stripe calls it opaque."""


class PaymentState(StrEnum):
    """The five states an invoice payment can be in; named as in Stripe's event types."""

    SUCCEEDED = "succeeded"
    PAYMENT_FAILED = "payment_failed"
    PROCESSING = "processing"
    CANCELED = "canceled"
    REQUIRES_ACTION = "requires_action"

    @property
    def final(self) -> bool:
        """Whether Stripe ever leaves this state: a failed payment may be tried again, so no."""
        return self in (PaymentState.SUCCEEDED, PaymentState.CANCELED)


EVENT_TYPES = tuple(f"payment_intent.{state}" for state in PaymentState)
"""The event types that say one of the five states."""

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
"""Statuses in which nothing has happened to the invoice yet."""


def state_of_event(event_type: str) -> PaymentState | None:
    """Say which state an event's type stands for; None where it stands for none.

    The type means the same in every API version, so it is trusted over the object inside.
    """
    return _STATE_OF_EVENT.get(event_type)


def state_of_intent(status: str, *, has_error: bool) -> PaymentState | None:
    """Say which state a payment intent is in; None where nothing has happened, or is unknown.

    `has_error` is whether `last_payment_error` is set. Stripe treats the status as an open set:
    a word that is not known here leads to no state, never to the nearest one.
    """
    if status == "requires_payment_method" and has_error:
        return PaymentState.PAYMENT_FAILED
    return _STATE_OF_STATUS.get(status)


# --- what Stripe said ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observation:
    """One word of Stripe about one payment intent.

    Attributes:
        intent_id: ``pi_…``.
        state: the state it says; None where it says none of the five.
        at: Unix seconds on Stripe's clock. For an event, when it was created. For an intent that
            was read, the last second that the reading surely covers.
        read: True where the intent itself was read, False for an event.
        created: Unix seconds at which the intent was made, if known.
        amount: asked for, in the smallest unit; None where it could not be read.
        amount_received: arrived, in the smallest unit; None where it could not be read.
        currency: three lower-case letters; None where it could not be read.
        invoice: what the metadata says of Halo's invoice, as text; None where it says nothing.
        surcharge: the part of the amount that is a surcharge, in the smallest unit; None where Stripe
            shows none.
        tip: the part of the amount that is a tip, in the smallest unit; None where Stripe shows none.
        event_id: ``evt_…`` for an event.
        trace: what was read, as JSON without secrets: what a webhook would have left in the row.
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
        """Whether it says a final state."""
        return self.state is not None and self.state.final

    @property
    def complete(self) -> bool:
        """Whether the money could be read, as far as its state needs it."""
        if self.state is PaymentState.SUCCEEDED and self.amount_received is None:
            return False
        return self.amount is not None and self.currency is not None

    @property
    def received(self) -> Money | None:
        """What arrived; None where it could not be read."""
        if self.amount_received is None or self.currency is None:
            return None
        return Money(self.amount_received, self.currency)

    @property
    def due(self) -> Money | None:
        """What was asked for; None where it could not be read."""
        if self.amount is None or self.currency is None:
            return None
        return Money(self.amount, self.currency)


def _rank(seen: Observation) -> tuple[bool, bool, bool, int, bool, str, str]:
    """Order the words about one payment; the greatest wins.

    A state beats none. A final state beats any other. Among final ones the intent itself beats an
    event; then the newest wins, the intent itself where the second is the same. What is left only
    makes the order total, so that the outcome never hangs on which word came first.
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
    """When something was last said about a payment.

    Attributes:
        state: what was said; None for none of the five.
        read: whether by the intent itself.
        at: Unix seconds, the newest.
    """

    state: PaymentState | None
    read: bool
    at: int


@dataclass(frozen=True, slots=True)
class Payment:
    """All that Stripe said about one payment intent, settled.

    Both parts are a maximum over the words, whatever their order; all else is worked out from them.

    Attributes:
        current: the word that counts.
        last_seen: when each state was last said, by events and by the intent itself; sorted.
    """

    current: Observation
    last_seen: tuple[LastSeen, ...]

    @property
    def read(self) -> LastSeen | None:
        """The newest reading of the intent itself; None where it was never read."""
        readings = [seen for seen in self.last_seen if seen.read]
        return max(readings, key=lambda seen: (seen.at, str(seen.state)), default=None)

    @property
    def _doubt_at(self) -> int | None:
        """The newest second of an event that contradicts the word that counts."""
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
        """How many of the two final states were said (by the intent itself, where `read`)."""
        states = {
            seen.state
            for seen in self.last_seen
            if seen.state is not None and seen.state.final and (seen.read or not read)
        }
        return len(states)

    @property
    def needs_reading(self) -> bool:
        """Whether only the intent itself can say what is true.

        So it is after two events of one second, after an event that would take a payment out of a
        final state, and after an event whose money could not be read.
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
        """Whether the intent itself says something else than what counts, so that nobody knows."""
        if self._finals(read=True) == 2:
            return True
        read = self.read
        if read is None or read.at < self.current.at or read.state is self.current.state:
            return False
        return self.current.final or self._doubt_at is not None


def settle(known: Payment | None, seen: Observation) -> Payment:
    """Take one more word into what is known of its payment.

    The newest word wins, a final state stays final. For a set of words the outcome is the same in
    whatever order, and however often, they come.
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
