"""Whose fault is it: the payment's whose request failed, or the link's?

A payment on which Halo falls over must hold up no other and must come before a person; a Halo that
falls over on everything must put no payment on the attention list. Only what else worked meanwhile
tells the two apart. Pure.
"""

from dataclasses import dataclass, field

from syncd.failures import LinkFailure, Side
from syncd.records import Condition, Work

BLAMED_MAX = 2
"""How often a payment may fail where others work, before it counts as failed itself."""

COUNTED_APART_SECONDS = 300.0
"""A payment that fails alone is blamed at most so often: nothing else says whether Halo works."""

IN_A_ROW_MAX = 3
"""After so many payments in a row that can't be looked up, something else has to be asked for."""

WRITES_MAX = 2
"""After so many that can't be written, where none could, no more are tried."""


@dataclass(slots=True)
class Troubles:
    """What failed in one push for single payments, and what worked meanwhile.

    Attributes:
        read: whether Halo answered a question about something else.
        wrote: whether Halo took a row of another payment.
        found: the payments whose requests failed, each with its failure, until they are settled.
        in_a_row: how many that were looked up last failed.
    """

    read: bool = False
    wrote: bool = False
    found: list[tuple[Work, LinkFailure]] = field(default_factory=list)
    in_a_row: int = 0

    def add(self, work: Work, error: LinkFailure) -> None:
        """A payment's own request failed."""
        self.found.append((work, error))

    def looked_up(self) -> None:
        """A payment could be looked up."""
        self.read, self.in_a_row = True, 0

    def suspicious(self) -> bool:
        """Whether so many writes failed, and none worked, that trying on would be a nuisance."""
        writes = sum(error.maybe_applied for _, error in self.found)
        return writes >= WRITES_MAX and not self.wrote

    def unclear_reads(self) -> bool:
        """Whether a question to Halo failed and nothing yet says that others don't."""
        return not self.read and any(
            error.side is Side.HALO and not error.maybe_applied for _, error in self.found
        )

    def blamed(self) -> list[tuple[Work, LinkFailure]]:
        """Those payments that are at fault themselves; they are taken out of `found`."""
        blamed: list[tuple[Work, LinkFailure]] = []
        left: list[tuple[Work, LinkFailure]] = []
        for work, error in self.found:
            works = self.wrote if error.maybe_applied else self.read
            at_fault = error.side is Side.HALO and (works or work.condition is Condition.FAILED)
            (blamed if at_fault else left).append((work, error))
        self.found = left
        return blamed

    def alone(self, now: float) -> tuple[Work, LinkFailure] | None:
        """The one payment that can't be written, where no other was tried.

        That says little about whose fault it is. It counts all the same, slowly: Halo answers
        questions, and a person has to hear of a payment that isn't written for so long.
        """
        if len(self.found) != 1:
            return None
        work, error = self.found[0]
        waited = now - (work.next_try if work.next_try is not None else now)
        counts = error.side is Side.HALO and error.maybe_applied and waited >= COUNTED_APART_SECONDS
        return (work, error) if counts else None
