"""What the store takes and gives: its values, as the rest of syncd knows them."""

from dataclasses import dataclass
from enum import StrEnum

from syncd.core.payments import Payment, PaymentState
from syncd.core.rows import SeenInvoice


class Condition(StrEnum):
    """Where a payment stands between Stripe and Halo."""

    NO_STATE = "no_state"  # nothing has happened to the invoice yet
    IN_DOUBT = "in_doubt"  # the intent itself has to be read
    DUE = "due"
    IN_STEP = "in_step"
    HELD = "held"
    FAILED = "failed"
    UNMATCHED = "unmatched"  # Halo has no row yet; looked for again
    NOT_HALOS = "not_halos"


ATTENTION = (Condition.HELD, Condition.FAILED)
WAITING = (Condition.DUE, Condition.FAILED, Condition.UNMATCHED)
"""Conditions in which a payment is tried when its time comes."""


@dataclass(frozen=True, slots=True)
class DuePayment:
    """A payment that is to be pushed, and what was tried before.

    Attributes:
        reason: the sentence for people, where a person must look.
        next_try: when its time came, Unix seconds.
        attempts: how often the state was tried.
        looks: how often rows were looked for in vain.
        doubt_until: until when an insert may still appear in Halo, Unix seconds.
        acked_state: the state that Halo acknowledged last.
        had_rows: whether Halo ever acknowledged one.
        accepted: the reason of the hold that a person overrode; None where there is none.
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

    @property
    def intent_id(self) -> str:
        """The payment intent's id."""
        return self.payment.current.intent_id


@dataclass(frozen=True, slots=True)
class Pushed:
    """A payment's state that was written to Halo.

    Attributes:
        at: Unix seconds of Halo's acknowledgement.
        intent_id: which payment.
        old: what its rows said before, in words; empty where there was no row.
        new: the state they were given.
        lag_seconds: from Stripe's event to the acknowledgement; None where no event told it.
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
    """The state that Stripe last said a payment is in, and when (Unix seconds)."""

    at: int
    intent_id: str
    state: PaymentState


@dataclass(frozen=True, slots=True)
class DoubtfulInsert:
    """A new row that was sent, and that Halo doesn't show yet.

    Attributes:
        intent_id: of which payment.
        next_try: when it is looked for again, Unix seconds.
        doubt_until: until when it isn't sent again, Unix seconds.
    """

    intent_id: str
    next_try: float
    doubt_until: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of trying to push a payment's state.

    Attributes:
        intent_id: which payment.
        state: the state that was pushed; another one that came meanwhile stays due.
        condition: where it stands now.
        code: machine's word for why, where a person must look.
        reason: the sentence for people.
        acked: whether Halo has acknowledged the state.
        rows: Halo's rows of it, where known.
        next_try: when to try again, where that is planned.
        attempts: how often the state was tried.
        looks: how often rows were looked for in vain.
        doubt_until: until when an insert may still appear in Halo; None leaves what was known of it.
        pushed: what was written to Halo, where something was.
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
    """What taking in a page has changed."""

    new_events: frozenset[str]
    changed: int


@dataclass(frozen=True, slots=True)
class AttentionEntry:
    """One line of the list that a person sees.

    Attributes:
        id: what retry and dismiss take: ``pi_…``, ``re_…``, ``dp_…``, or what couldn't be read.
        kind: payment, refunded, disputed or unreadable.
        amount: in the smallest unit.
        next_try, since: Unix seconds.
        rows: Halo's numbers of the payment's rows, as last seen.
        invoices: the invoices that those rows pay.
        customers: the names of the customers in Halo.
        intent_id: the payment, also of a refund or dispute; None where it isn't known.
        dismissed: whether a person has taken the entry off the list.
        dismissed_at: when, Unix seconds; None where that is not known.
        note: what the person noted.
    """

    id: str
    kind: str
    condition: str
    code: str | None
    reason: str
    state: str | None
    amount: int | None
    currency: str | None
    attempts: int
    next_try: float | None
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
        amount: what arrived of a payment that succeeded, else what was asked for; smallest unit.
        made: Unix seconds at which it was made; where that isn't known, when Stripe spoke of it.
        next_look: Unix seconds; None where it isn't looked for any more.
    """

    id: str
    state: str | None
    amount: int | None
    currency: str | None
    made: int
    next_look: float | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the push lease."""

    owner: str
    what: str
    host: str
    boot: str
    pid: int

    @property
    def described(self) -> str:
        """The holder in words: ``backfill (process 4711 on host)``."""
        return f"{self.what} (process {self.pid} on {self.host})"
