"""Decides whether a failed request is the payment's fault or the whole side's. Pure.

A payment on which Halo fails must not block the others and must go on the attention list; a Halo that
fails on everything must put no payment there. The rule: a payment is at fault if the same kind of
request worked for something else *afterwards*.

`RequestFailures` applies the rule to a push. `ReadFailures` applies it to items that are read one at
a time: payment intents at Stripe, invoices in Halo.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from syncd.core.errors import LinkFailure, Side
from syncd.core.records import DuePayment

BLAMED_MAX = 2
"""How often a payment may fail where others work, before it goes on the attention list."""

IN_A_ROW_MAX = 3
"""After so many failures in a row of one kind, another request must work before syncd goes on."""

READS_IN_A_ROW_MAX = 2 * IN_A_ROW_MAX
"""After so many failed reads of single items in a row the side is at fault, whatever else works."""

FEW_BESIDE_WRITES = 6
"""So many payments that can't be written, while others can, are an outage that comes and goes."""

LISTED_AFTER_SECONDS = 900.0
"""A payment that can't be written for so long goes on the attention list, whatever the cause."""

FORGOTTEN_AFTER_SECONDS = 3_600.0
"""Failures further apart than this are counted as separate."""

Item = TypeVar("Item")


@dataclass(slots=True)
class RequestFailure:
    """One payment's own request that failed.

    Attributes:
        due_payment: the payment.
        error: how it failed.
        others_work: whether the same kind of request worked for something else afterwards: then the payment is
            at fault.
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


@dataclass(slots=True)
class RequestFailures:
    """The failed requests of single payments in one push, and what worked meanwhile.

    Attributes:
        found: the failed requests, in order.
        read: whether a read from Halo worked in this push.
        wrote: whether a write to Halo worked in this push.
    """

    found: list[RequestFailure] = field(default_factory=list)
    read: bool = False
    wrote: bool = False

    def clear(self) -> None:
        """Start another push."""
        self.found, self.read, self.wrote = [], False, False

    def add(self, due: DuePayment, error: LinkFailure) -> bool:
        """Note a failure. Returns whether too many of its kind failed in a row to go on."""
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
        """Note that a read worked: the payments whose reads failed before are at fault."""
        self.read = True
        for failure in self.found:
            failure.others_work = failure.others_work or failure.reading

    def has_written(self) -> None:
        """Note that a write worked: the payments whose writes failed before are at fault."""
        self.wrote = True
        for failure in self.found:
            failure.others_work = failure.others_work or failure.writing

    def unclear_reads(self) -> bool:
        """Whether a read failed and no read has worked since."""
        return any(failure.reading and not failure.others_work for failure in self.found)

    def raise_found(self) -> None:
        """Raise a failure where there is one: Halo's first, whose pause ends the tries at every tick.

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
        """The few payments that could not be written for long, where no other could be either.

        Whose fault that is remains unknown. But Halo answers reads, so a person must see a payment
        that is not written.

        Args:
            since: when the trouble of each payment that failed lately began, Unix seconds.
            now: Unix seconds.
        """
        if len(since) >= (FEW_BESIDE_WRITES if self.wrote else IN_A_ROW_MAX):
            return []  # an outage: some payments met it now, others before
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
        """Note a failed read. Returns whether another request must work before the next read.

        Raises:
            LinkFailure: `error`, after READS_IN_A_ROW_MAX failures in a row: the side is at fault.
        """
        self.unclear.append((item, error))
        self.in_a_row += 1
        if self.in_a_row >= READS_IN_A_ROW_MAX:
            raise error
        return len(self.unclear) >= IN_A_ROW_MAX

    def has_read(self) -> list[tuple[Item, LinkFailure]]:
        """Note that the read of an item worked. Returns the items that are at fault."""
        self.in_a_row = 0
        return self.other_worked()

    def other_worked(self) -> list[tuple[Item, LinkFailure]]:
        """Note that another request worked. Returns the items that are at fault."""
        at_fault, self.unclear = self.unclear, []
        return at_fault


def failing_since(
    before: Mapping[str, tuple[float, float]], failures: list[RequestFailure], now: float
) -> dict[str, tuple[float, float]]:
    """When each payment began to fail, and failed last (Unix seconds), this push included."""
    kept = {
        name: (since, last)
        for name, (since, last) in before.items()
        if 0 <= now - last <= FORGOTTEN_AFTER_SECONDS
    }
    for failure in failures:
        name = failure.due_payment.intent_id
        kept[name] = (kept.get(name, (now, now))[0], now)
    return kept
