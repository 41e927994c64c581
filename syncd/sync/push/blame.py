"""Whose fault is it: the payment's whose request failed, or the link's?

A payment on which Halo falls over must hold up no other and must come before a person; a Halo that
falls over on everything must put no payment on the attention list. What tells the two apart is
whether the same kind of request worked for something else *afterwards*. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.core.errors import LinkFailure, Side
from syncd.core.records import Work

BLAMED_MAX = 2
"""How often a payment may fail where others work, before it counts as failed itself."""

IN_A_ROW_MAX = 3
"""After so many failures in a row of one kind, something else has to work before going on."""

FEW_BESIDE_WRITES = 6
"""So many that can't be written, while Halo takes rows of others, are an outage that comes and goes."""

LISTED_AFTER_SECONDS = 900.0
"""A payment that can't be written for so long comes before a person, whosever fault it is."""

FORGOTTEN_AFTER_SECONDS = 3_600.0
"""Failures that lie further apart are not one trouble."""


@dataclass(slots=True)
class Trouble:
    """One payment's own request that failed.

    Attributes:
        work: the payment.
        error: how it failed.
        beside: whether the same kind of request worked for something else afterwards.
    """

    work: Work
    error: LinkFailure
    beside: bool = False

    @property
    def writing(self) -> bool:
        """Whether it was a write to Halo."""
        return self.error.side is Side.HALO and self.error.maybe_applied

    @property
    def reading(self) -> bool:
        """Whether it was a question to Halo."""
        return self.error.side is Side.HALO and not self.error.maybe_applied


@dataclass(slots=True)
class Troubles:
    """What failed in one push for single payments, and what worked meanwhile.

    Attributes:
        found: what failed, in order.
        read: whether Halo answered a question in this push.
        wrote: whether Halo took a row in this push.
    """

    found: list[Trouble] = field(default_factory=list)
    read: bool = False
    wrote: bool = False

    def clear(self) -> None:
        """Begin another push."""
        self.found, self.read, self.wrote = [], False, False

    def add(self, work: Work, error: LinkFailure) -> bool:
        """Take in a failure. Returns whether so many of its kind failed in a row as to stop."""
        trouble = Trouble(work, error)
        self.found.append(trouble)
        if error.side is not Side.HALO:
            return False
        same = [
            one
            for one in self.found
            if not one.beside and (one.reading, one.writing) == (trouble.reading, trouble.writing)
        ]
        return len(same) >= IN_A_ROW_MAX

    def has_read(self) -> None:
        """Take in that Halo answered a question: the questions that failed before are to blame."""
        self.read = True
        for trouble in self.found:
            trouble.beside = trouble.beside or trouble.reading

    def has_written(self) -> None:
        """Take in that Halo took a row: the writes that failed before are to blame."""
        self.wrote = True
        for trouble in self.found:
            trouble.beside = trouble.beside or trouble.writing

    def unclear_reads(self) -> bool:
        """Whether a question failed and nothing since says that others don't."""
        return any(trouble.reading and not trouble.beside for trouble in self.found)

    def blamed(self) -> list[Trouble]:
        """Take out those payments that are at fault themselves."""
        blamed = [trouble for trouble in self.found if trouble.beside]
        self.found = [trouble for trouble in self.found if not trouble.beside]
        return blamed

    def to_list(self, since: Mapping[str, float], now: float) -> list[Trouble]:
        """Those few that couldn't be written for long, where no other was written either.

        That says little about whose fault it is; but Halo answers questions, and a person has to
        hear of a payment that isn't written.

        Args:
            since: when the trouble of each payment that failed lately began, Unix seconds.
            now: Unix seconds.
        """
        if len(since) >= (FEW_BESIDE_WRITES if self.wrote else IN_A_ROW_MAX):
            return []  # an outage, met by some now and by others before
        return [
            trouble
            for trouble in self.found
            if trouble.writing
            and now - since[trouble.work.payment.said.intent_id] >= LISTED_AFTER_SECONDS
        ]


def failing_since(
    before: Mapping[str, tuple[float, float]], troubles: list[Trouble], now: float
) -> dict[str, tuple[float, float]]:
    """When each payment's trouble began and was last seen (Unix seconds), those of now included."""
    kept = {
        name: (since, last)
        for name, (since, last) in before.items()
        if 0 <= now - last <= FORGOTTEN_AFTER_SECONDS
    }
    for trouble in troubles:
        name = trouble.work.payment.said.intent_id
        kept[name] = (kept.get(name, (now, now))[0], now)
    return kept
