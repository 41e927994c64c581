"""The final check right before rows are written; a sink asks it before each request.

Polls continue while a push waits for the rate limit, and another process may take the push lease.
So the check runs at the last moment, and records that a request will be sent. A guard keeps the
reason of a refusal; the caller reads the reason after the sink has returned None.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from syncd.core.errors import LeaseHeld
from syncd.core.records import DuePayment
from syncd.store.store import Store
from syncd.sync.lease import Lease
from syncd.sync.push.outcomes import INSERT_DOUBT_SECONDS


@dataclass(slots=True)
class InsertWaits:
    """How long this process waits before it sends a new row again.

    Measured by a clock that cannot be set. The stored time only identifies the uncertain insert: a
    host's clock may have been set since it was written. So for an insert of another process, the
    whole wait begins when this process first sees the insert.

    Attributes:
        monotonic: seconds of a clock that only goes forward.
    """

    monotonic: Callable[[], float]
    _known: dict[str, tuple[float, float]] = field(init=False, default_factory=dict)

    def begin(self, intent_id: str, doubt_until: float, seconds: float) -> None:
        """Wait for some seconds from now; `doubt_until` is the stored time (Unix seconds)."""
        self._known[intent_id] = (doubt_until, self.monotonic() + seconds)

    def seconds_left(
        self, intent_id: str, doubt_until: float | None, seconds: float = INSERT_DOUBT_SECONDS
    ) -> float:
        """How many seconds are left; 0 if no insert of the payment is uncertain.

        Args:
            intent_id: the payment, or another name of what is waited for.
            doubt_until: identifies the insert: the stored time (Unix seconds).
            seconds: how long to wait for an insert that this process did not send.
        """
        if doubt_until is None:
            self._known.pop(intent_id, None)
            return 0.0
        if self._known.get(intent_id, (None, 0.0))[0] != doubt_until:
            self.begin(intent_id, doubt_until, seconds)
        return max(0.0, self._known[intent_id][1] - self.monotonic())

    def overdue(self, now: float) -> dict[str, float]:
        """Seconds left of each wait that is over by the wall clock (Unix seconds), by payment."""
        left = {name: end - self.monotonic() for name, (_, end) in self._known.items()}
        return {name: s for name, s in left.items() if s > 0 and self._known[name][0] <= now}


LOOK_SECONDS_MAX = 30.0
"""What syncd read in Halo proves nothing for a write after this time, in seconds: whether a row is missing,
and what the columns of a row contain."""


PAUSE_SECONDS_MAX = 5.0
"""A check that took longer is repeated: the process may have been suspended and lost its lease."""

_CHECKS_MAX = 3


def _without_pause(now: Callable[[], float], check: Callable[[], bool]) -> bool:
    """Repeat a check until the process was not suspended during it.

    The host's clock shows a suspension, because it continues while a process or its machine is
    suspended.

    Raises:
        LeaseHeld: another process may have taken the lease, because each check took too long.
    """
    for _ in range(_CHECKS_MAX):
        begun = now()
        if not check():
            return False
        if abs(now() - begun) <= PAUSE_SECONDS_MAX:
            return True
    raise LeaseHeld("another process, which may have taken over because this one is too slow,")


@dataclass(slots=True)
class UpdateGuard:
    """Guards an update of some payments' rows.

    Attributes:
        lease: the push lease; None in a dry run.
        due_payments: the payments.
        notes: other notes to write before the request, by name.
        was: the present status number of each row that is sent, by payment.
        outdated: whether what would be sent was read too long ago.
        asked: whether the guard has allowed a request.
        lost: the failure if the push lease was lost; None while this process holds it.
        overtaken: payments whose state changed at Stripe since the decision.
    """

    store: Store
    lease: Lease | None
    due_payments: Sequence[DuePayment]
    now: Callable[[], float]
    notes: Mapping[str, str | None] = field(default_factory=dict)
    was: Mapping[str, Sequence[int | None]] = field(default_factory=dict)
    outdated: Callable[[], bool] = field(default=lambda: False)
    asked: bool = field(init=False, default=False)
    lost: LeaseHeld | None = field(init=False, default=None)
    overtaken: frozenset[str] = field(init=False, default=frozenset())

    def allows_sending(self) -> bool:
        """Whether this process still holds the lease, and the decision is still valid."""
        try:
            return _without_pause(self.now, self._allows_now)
        except LeaseHeld as error:
            self.lost = error
            return False

    def _allows_now(self) -> bool:
        if self.outdated():
            return False
        self.overtaken = self.store.overtaken(self.due_payments)
        if self.overtaken:
            if self.lease is not None:
                self.lease.renew()  # a process that has lost the lease must not go on as its holder
            return False
        was = {due.intent_id: self.was.get(due.intent_id, ()) for due in self.due_payments}
        fence = None if self.lease is None else self.lease.renewing
        self.store.intend_update(was, self.now(), self.notes, fence)
        if self.lease is not None:
            self.lease.renewed()
        self.asked = True
        return True


@dataclass(slots=True)
class InsertGuard:
    """Guards the insertion of a payment's row.

    Attributes:
        lease: the push lease; None in a dry run.
        due_payment: the payment.
        looked_at: when Halo was asked for the payment's rows, by `now` and by the clock of `waits`:
            the first may be set, and the second may stand still while the machine is suspended.
        waits: how long this process waits for uncertain inserts.
        notes: other notes to write before the request, by name.
        doubt_until: until when an insert of this payment is uncertain, as the store has it now.
        sent: whether the guard has allowed a request: a second one means that the first was
            refused.
        lost: another process pushes, or has just inserted the row.
        overtaken: whether the payment's state changed at Stripe since the decision.
    """

    store: Store
    lease: Lease | None
    due_payment: DuePayment
    looked_at: tuple[float, float]
    waits: InsertWaits
    now: Callable[[], float]
    notes: Mapping[str, str] = field(default_factory=dict)
    doubt_until: float | None = field(init=False)
    sent: bool = field(init=False, default=False)
    lost: LeaseHeld | None = field(init=False, default=None)
    overtaken: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.doubt_until = self.due_payment.doubt_until

    def allows_sending(self) -> bool:
        """Whether the row is still missing, as far as this process can know.

        The intent to insert is recorded first: another process that sees the record waits.
        """
        try:
            return _without_pause(self.now, self._allows_now)
        except LeaseHeld as error:
            self.lost = error
            return False

    def _allows_now(self) -> bool:
        set_clock, steady_clock = self.looked_at
        ages = abs(self.now() - set_clock), self.waits.monotonic() - steady_clock
        if max(ages) > LOOK_SECONDS_MAX:
            return False
        self.overtaken = bool(self.store.overtaken([self.due_payment]))
        if self.overtaken:
            if self.lease is not None:
                self.lease.renew()  # a process that has lost the lease must not go on as its holder
            return False
        now = self.now()
        until = now + INSERT_DOUBT_SECONDS
        fence = None if self.lease is None else self.lease.renewing
        intended = self.store.intend_insert(
            self.due_payment, self.doubt_until, now, until, self.notes, fence
        )
        if self.lease is not None:
            self.lease.renewed()
        if not intended:
            self.lost = LeaseHeld(
                "another process, which has just made a row for the same payment,"
            )
            return False
        self.waits.begin(self.due_payment.intent_id, until, INSERT_DOUBT_SECONDS)
        self.doubt_until, self.sent = until, True
        return True
