"""The values that the store accepts and returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from syncd.core.payments import Payment, PaymentState
from syncd.core.rows import SeenInvoice


class Condition(StrEnum):
    """The condition of a payment between Stripe and Halo."""

    NO_STATE = "no_state"  # the payment has not started
    IN_DOUBT = "in_doubt"  # Stripe's events contradict each other; the payment intent must be read
    DUE = "due"
    IN_STEP = "in_step"
    HELD = "held"
    FAILED = "failed"
    UNMATCHED = "unmatched"  # Halo has no row yet; syncd looks again
    NOT_HALOS = "not_halos"


ATTENTION = (Condition.HELD, Condition.FAILED)
WAITING = (Condition.DUE, Condition.FAILED, Condition.UNMATCHED)
"""Conditions of payments that a push tries again at their `next_try`."""


@dataclass(frozen=True, slots=True)
class DuePayment:
    """A payment that a push must try, and its earlier attempts.

    Attributes:
        reason: the reason on the attention list; None if the payment is not on it.
        next_try: when the payment became due, Unix seconds.
        attempts: how often syncd tried to write the state.
        looks: how often syncd looked for rows and found none.
        doubt_until: until when an insert is uncertain, Unix seconds; None if none is.
        acked_state: the state that Halo acknowledged last.
        had_rows: whether Halo has ever acknowledged a state.
        accepted: the reason of the hold that a person overrode; None without one.
        known_rows: Halo's numbers of the payment's rows, as syncd last saw or wrote them.
    """

    payment: Payment
    condition: Condition
    reason: str | None
    next_try: float | None
    attempts: int
    looks: int
    doubt_until: float | None
    acked_state: PaymentState | None
    had_rows: bool
    accepted: str | None = None
    known_rows: frozenset[int] = frozenset()

    @property
    def intent_id(self) -> str:
        """The payment intent's id."""
        return self.payment.current.intent_id


@dataclass(frozen=True, slots=True)
class Pushed:
    """A state that syncd wrote to Halo.

    Attributes:
        at: Unix seconds of Halo's acknowledgement.
        intent_id: the payment.
        old: the rows' former state, as text; empty if Halo had no row.
        new: the state that syncd wrote.
        lag_seconds: from Stripe's event to the acknowledgement; None without an event.
        rows: Halo's numbers of the rows.
    """

    at: float
    intent_id: str
    old: str
    new: PaymentState
    lag_seconds: float | None
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReportedState:
    """A payment's newest state at Stripe, and when Stripe reported it (Unix seconds)."""

    at: int
    intent_id: str
    state: PaymentState


@dataclass(frozen=True, slots=True)
class DoubtfulInsert:
    """An uncertain insert: syncd sent a new row, but Halo does not show the row yet.

    Attributes:
        intent_id: the payment.
        next_try: when syncd looks for the row again, Unix seconds.
        doubt_until: until when syncd does not send the row again, Unix seconds.
    """

    intent_id: str
    next_try: float
    doubt_until: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attempt to push a payment's state.

    Attributes:
        intent_id: the payment.
        state: the state that was pushed; a newer state stays due.
        condition: the payment's condition now.
        code: the code of the hold or failure; None without one.
        reason: the reason for the attention list; None without one.
        acked: whether Halo has acknowledged the state.
        rows: Halo's numbers of the payment's rows; None if unknown.
        next_try: when to try again, Unix seconds; None for never.
        attempts: how often syncd tried to write the state.
        looks: how often syncd looked for rows and found none.
        doubt_until: until when an insert is uncertain, Unix seconds; None keeps the stored value.
        pushed: what syncd wrote to Halo; None if it wrote nothing.
    """

    intent_id: str
    state: PaymentState
    condition: Condition
    code: str | None = None
    reason: str | None = None
    acked: bool = False
    rows: tuple[int, ...] | None = None
    next_try: float | None = None
    attempts: int = 0
    looks: int = 0
    doubt_until: float | None = None
    pushed: Pushed | None = None


@dataclass(frozen=True, slots=True)
class PageChanges:
    """What storing a page of reports changed: the new events, and how many payments changed."""

    new_events: frozenset[str]
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionEntry:
    """One entry of the attention list.

    Attributes:
        id: the id for retry and dismiss: ``pi_…``, ``re_…``, ``dp_…``, or of an unreadable answer.
        kind: tenant, payment, refunded, disputed or unreadable.
        amount: in the smallest unit.
        next_try, since: Unix seconds.
        rows: Halo's numbers of the payment's rows, as last read.
        invoices: the invoices that those rows pay.
        customers: the names of the customers in Halo.
        intent_id: the payment, also of a refund or dispute; None if unknown.
        dismissed: whether a person has dismissed the entry.
        dismissed_at: when, Unix seconds; None if unknown.
        note: the person's note.
    """

    id: str
    kind: str
    condition: str
    code: str | None
    reason: str
    state: str | None = None
    amount: int | None = None
    currency: str | None = None
    attempts: int = 0
    next_try: float | None = None
    since: float
    rows: tuple[int, ...] = ()
    invoices: tuple[SeenInvoice, ...] = ()
    intent_id: str | None = None
    customers: tuple[str, ...] = ()
    dismissed: bool = False
    dismissed_at: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class UnmatchedPayment:
    """A payment that Halo has no row for.

    Attributes:
        amount: received for a succeeded payment, otherwise requested; in the smallest unit.
        made: Unix seconds of its creation; if unknown, of Stripe's newest report.
        next_look: when syncd looks for a row again, Unix seconds; None if syncd no longer looks.
    """

    id: str
    state: str | None
    amount: int | None
    currency: str | None
    made: int
    next_look: float | None


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lease."""

    owner: str
    what: str
    host: str
    boot: str
    pid: int

    @property
    def described(self) -> str:
        """The holder as text: ``backfill (process 4711 on host)``."""
        return f"{self.what} (process {self.pid} on {self.host})"


@dataclass(frozen=True, slots=True)
class Fence:
    """The lease that a transaction checks before it records a write to Halo.

    Attributes:
        name: the lease's name.
        owner: the process that took the lease.
        number: the fencing number of the lease; it rises each time the lease is taken.
        renew_seconds: the transaction also renews the lease for so long; None if it only checks.
    """

    name: str
    owner: str
    number: int
    renew_seconds: float | None = None


def first_entries(entries: Sequence[AttentionEntry], most: int) -> list[AttentionEntry]:
    """The first `most` entries, of each kind, so that many held payments do not hide other kinds."""
    others = [entry.id for entry in entries if entry.kind != "payment"][: most // 2]
    payments = [entry.id for entry in entries if entry.kind == "payment"]
    chosen = {*others, *payments[: most - len(others)]}
    return [entry for entry in entries if entry.id in chosen]
