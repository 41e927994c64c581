"""Decides whether a failed request is the payment's fault or the whole side's. Pure.

If Halo fails for one payment, that payment must not block the others and goes on the attention
list. If Halo fails for every payment, no payment goes there. The rule: a payment is at fault if the
same kind of request worked for something else *afterwards*.

`RequestFailures` applies the rule to a push. `ReadFailures` applies it to items that are read one
at a time: payment intents at Stripe, invoices in Halo.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from syncd.core.errors import LinkFailure, Side, Unreachable
from syncd.core.records import DuePayment

BLAMED_MAX = 2
"""After so many failures while others work, a payment goes on the attention list."""

IN_A_ROW_MAX = 3
"""After so many failures of one kind in a row, another request must work before syncd continues."""

READS_IN_A_ROW_MAX = 2 * IN_A_ROW_MAX
"""After so many failed reads of single items in a row, the side counts as failing."""

FEW_BESIDE_WRITES = 6
"""If so many payments fail while others work, syncd assumes an intermittent outage."""

LISTED_AFTER_SECONDS = 900.0
"""A payment that fails for this many seconds goes on the attention list, whatever the cause."""

FORGOTTEN_AFTER_SECONDS = 3_600.0
"""Failures of one payment further apart than this many seconds are counted separately."""

Item = TypeVar("Item")


@dataclass(slots=True)
class RequestFailure:
    """One payment's own request that failed.

    Attributes:
        due_payment: the payment.
        error: the failure.
        others_work: whether the same kind of request worked for something else afterwards: then the
            payment is at fault.
    """

    due_payment: DuePayment
    error: LinkFailure
    others_work: bool = False

    @property
    def writing(self) -> bool:
        """Whether the request was a write to Halo."""
        return self.error.side is Side.HALO and self.error.maybe_applied

    @property
    def reading(self) -> bool:
        """Whether the request was a read from Halo."""
        return self.error.side is Side.HALO and not self.error.maybe_applied

    @property
    def about_payment(self) -> bool:
        """Whether a payment can be at fault: not where no connection was made, so Halo never saw the request."""
        return (
            self.error.late or self.error.maybe_applied or not isinstance(self.error, Unreachable)
        )


@dataclass(slots=True)
class RequestFailures:
    """The failed requests of single payments in one push, and what worked in the meantime.

    Attributes:
        found: the failed requests, in order.
        read: whether a read from Halo worked in this push.
        wrote: whether a write to Halo worked in this push.
    """

    found: list[RequestFailure] = field(default_factory=list)
    read: bool = False
    wrote: bool = False

    def clear(self) -> None:
        """Forget everything, at the start of another push."""
        self.found, self.read, self.wrote = [], False, False

    def add(self, due: DuePayment, error: LinkFailure) -> bool:
        """Record a failure. Returns whether too many of its kind failed in a row to continue."""
        failure = RequestFailure(due, error)
        self.found.append(failure)
        if error.side is not Side.HALO:
            return False
        same = [
            one
            for one in self.found
            if not one.others_work
            and (one.reading, one.writing) == (failure.reading, failure.writing)
        ]
        return len(same) >= IN_A_ROW_MAX

    def has_read(self) -> None:
        """Record that a read worked: the payments whose reads failed earlier are at fault."""
        self.read = True
        for failure in self.found:
            at_fault = failure.reading and failure.about_payment
            failure.others_work = failure.others_work or at_fault

    def has_written(self) -> None:
        """Record that a write worked: the payments whose writes failed earlier are at fault."""
        self.wrote = True
        for failure in self.found:
            failure.others_work = failure.others_work or failure.writing

    def unclear_reads(self) -> bool:
        """Whether a read failed and no read has worked since."""
        return any(
            failure.reading and failure.about_payment and not failure.others_work
            for failure in self.found
        )

    def raise_found(self) -> None:
        """Raise a recorded failure, if any; a failure of Halo first, because it pauses the push.

        Raises:
            LinkFailure: a request of a payment failed.
        """
        errors = [one.error for one in self.found]
        halos = [error for error in errors if error.side is Side.HALO]
        for error in halos or errors:
            raise error

    def blamed(self) -> list[RequestFailure]:
        """Remove and return the failures that are the payment's own fault."""
        blamed = [failure for failure in self.found if failure.others_work]
        self.found = [failure for failure in self.found if not failure.others_work]
        return blamed

    def to_list(self, since: Mapping[str, float], now: float) -> list[RequestFailure]:
        """The payments that have failed for long while no other payment could be written either.

        syncd cannot tell whose fault that is. But Halo answers reads, so a person must see a
        payment that is not written.

        Args:
            since: when each recently failed payment began to fail, Unix seconds.
            now: Unix seconds.
        """
        if len(since) >= (FEW_BESIDE_WRITES if self.wrote else IN_A_ROW_MAX):
            return []  # an outage: some payments failed now, others before
        return [
            failure
            for failure in self.found
            if failure.writing
            and now - since[failure.due_payment.intent_id] >= LISTED_AFTER_SECONDS
        ]


@dataclass(slots=True)
class ReadFailures(Generic[Item]):
    """The failed reads of single items, and whether an item or the whole side is at fault.

    Attributes:
        unclear: the failed items whose fault is not known yet, with the failure.
        in_a_row: how many reads of single items failed since the last one that worked.
    """

    unclear: list[tuple[Item, LinkFailure]] = field(default_factory=list)
    in_a_row: int = 0

    def add(self, item: Item, error: LinkFailure) -> bool:
        """Record a failed read. Returns whether another request must work before the next read.

        Raises:
            LinkFailure: `error`, after READS_IN_A_ROW_MAX failures in a row: the side is at fault.
        """
        self.unclear.append((item, error))
        self.in_a_row += 1
        if self.in_a_row >= READS_IN_A_ROW_MAX:
            raise error
        return len(self.unclear) >= IN_A_ROW_MAX

    def has_read(self) -> list[tuple[Item, LinkFailure]]:
        """Record that the read of an item worked. Returns the items that are at fault."""
        self.in_a_row = 0
        return self.other_worked()

    def other_worked(self) -> list[tuple[Item, LinkFailure]]:
        """Record that another request worked. Returns the items that are at fault."""
        at_fault, self.unclear = self.unclear, []
        return at_fault


def failing_since(
    before: Mapping[str, tuple[float, float]], failures: list[RequestFailure], now: float
) -> dict[str, tuple[float, float]]:
    """When each payment began to fail and last failed (Unix seconds), including this push."""
    kept = {
        name: (since, last)
        for name, (since, last) in before.items()
        if 0 <= now - last <= FORGOTTEN_AFTER_SECONDS
    }
    for failure in failures:
        name = failure.due_payment.intent_id
        kept[name] = (kept.get(name, (now, now))[0], now)
    return kept
