"""Finds the tenant's status number of each state in its own rows.

Two kinds of rows show a number. A row that Halo's own webhook wrote contains the event and the
resulting
number: this pair is evidence. A row without a trace shows a number, and Stripe knows the *present*
state of its payment. That is only a hint, because Halo may never have received that state, and
people set such rows by hand.

The rules. Cases that they do not decide are shown and never guessed:

1. All webhook rows of a state must show the same number. Then the number is proposed.
2. Rows without a trace that show another number contradict it, unless the number is explained:
   webhook rows prove it for another state (the row is out of date), or new rows start with it (see
   `Tally.beginnings`).
3. Rows without a trace alone never lead to a proposal. If all of them show one number, and it is
   known with which numbers new rows start, the number is a hint, which a person may accept.
4. If `succeeded` would share its number with another state, neither gets a number.

Rows that syncd wrote, or may have written, do not count: they only repeat the configuration. A row
that syncd found in step, and for which it never sent anything, counts like any other. If syncd sent
a status without a trace (`push.trace` off, or a row corrected later), only its own records show
that.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from syncd.core.payments import PaymentState

EXAMPLES_MAX = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """One row that shows which number a state has.

    Attributes:
        row: Halo's number of the row.
        intent_id: its payment intent.
        state: the event's state, or the present state at Stripe; None for none of the five.
        number: the row's status.
        webhook: whether Halo's own webhook wrote the row; otherwise the row has no trace.
    """

    row: int
    intent_id: str
    state: PaymentState | None
    number: int
    webhook: bool


@dataclass(frozen=True, slots=True, order=True)
class Example:
    """A row that serves as an example."""

    row: int
    intent_id: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Rows that show the same.

    Attributes:
        rows: how many.
        examples: the newest of them, at most EXAMPLES_MAX, newest first.
    """

    rows: int = 0
    examples: tuple[Example, ...] = ()

    def with_one(self, example: Example) -> "Seen":
        """The same with one more row."""
        newest = heapq.nlargest(EXAMPLES_MAX, {*self.examples, example})
        return Seen(self.rows + 1, tuple(newest))


@dataclass(frozen=True, slots=True)
class Shown:
    """A number that rows show for a state.

    Attributes:
        number: the tenant's number.
        webhook: the rows that Halo's own webhook wrote.
        bare: the rows without a trace that support or contradict a number.
        explained: rows without a trace whose number means something else; they prove nothing.
    """

    number: int
    webhook: Seen
    bare: Seen
    explained: Seen

    @property
    def rows(self) -> int:
        """How many rows support this number."""
        return self.webhook.rows + self.bare.rows


class Verdict(StrEnum):
    """The conclusion from the evidence."""

    PROVEN = "proven"  # all webhook rows agree
    HINTED = "hinted"  # only rows without a trace; all of them agree
    CONTRADICTED = "contradicted"
    SHARED = "shared"  # succeeded and another state would have the same number
    TOO_LITTLE = "too_little"  # only rows without a trace, and new rows' number is unknown
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the rows show about one state.

    Attributes:
        state: the state.
        number: the proposed number; None without a proposal.
        hint: the number that a person may accept; None without one.
        verdict: the reason.
        shown: the numbers that rows show, the most supported first.
    """

    state: PaymentState
    number: int | None
    hint: int | None
    verdict: Verdict
    shown: tuple[Shown, ...]

    @property
    def most(self) -> int | None:
        """The number that most rows support; None without such rows."""
        return self.shown[0].number if self.support else None

    @property
    def support(self) -> int:
        """How many rows support that number."""
        return self.shown[0].rows if self.shown else 0

    @property
    def against(self) -> int:
        """How many rows support another number."""
        return sum(shown.rows for shown in self.shown[1:])

    def speaking_for(self, number: int) -> int:
        """How many rows support a given number."""
        return sum(shown.rows for shown in self.shown if shown.number == number)


@dataclass(slots=True)
class Tally:
    """Counts evidence; its size depends on the tenant's numbers, not on its rows."""

    webhook: dict[tuple[PaymentState | None, int], Seen] = field(default_factory=dict)
    bare: dict[tuple[PaymentState | None, int], Seen] = field(default_factory=dict)

    def add(self, evidence: Evidence) -> None:
        """Count one row."""
        kind = self.webhook if evidence.webhook else self.bare
        key = evidence.state, evidence.number
        kind[key] = kind.get(key, Seen()).with_one(Example(evidence.row, evidence.intent_id))

    def beginnings(self) -> frozenset[int]:
        """The numbers with which new rows start, as far as rows without a trace show them.

        A number on a row of a payment that has not started, or on rows of payments with different
        results, cannot be the number of any one state.
        """
        outcomes: dict[int, set[PaymentState | None]] = {}
        for state, number in self.bare:
            outcomes.setdefault(number, set()).add(state)
        return frozenset(
            number for number, states in outcomes.items() if None in states or len(states) > 1
        ) - {number for state, number in self.webhook if state is not None}


def learn(tally: Tally) -> tuple[Finding, ...]:
    """The findings for each of the five states, in their order."""
    beginnings = tally.beginnings()
    proven = _proven(tally.webhook)
    findings = [_finding(state, tally, beginnings, proven) for state in PaymentState]
    paid = {number for state, number in tally.webhook if state is PaymentState.SUCCEEDED}
    return tuple(_unshared(finding, findings, paid) for finding in findings)


def _proven(webhook: Mapping[tuple[PaymentState | None, int], Seen]) -> dict[PaymentState, int]:
    """The number of each state for which all webhook rows agree."""
    numbers: dict[PaymentState, set[int]] = {}
    for state, number in webhook:
        if state is not None:
            numbers.setdefault(state, set()).add(number)
    return {state: min(found) for state, found in numbers.items() if len(found) == 1}


def _finding(
    state: PaymentState,
    tally: Tally,
    beginnings: frozenset[int],
    proven: Mapping[PaymentState, int],
) -> Finding:
    elsewhere = set(proven.values()) - {proven.get(state)}
    numbers = {
        number for kind in (tally.webhook, tally.bare) for other, number in kind if other is state
    }
    shown = [
        _shown(state, number, tally, explained=number in beginnings or number in elsewhere)
        for number in numbers
    ]
    shown.sort(key=lambda one: (-one.webhook.rows, -one.bare.rows, one.number))
    speaking = [one for one in shown if one.rows]
    verdict = _verdict(speaking, beginnings)
    return Finding(
        state,
        number=speaking[0].number if verdict is Verdict.PROVEN else None,
        hint=speaking[0].number if verdict is Verdict.HINTED else None,
        verdict=verdict,
        shown=tuple(shown),
    )


def _shown(state: PaymentState, number: int, tally: Tally, *, explained: bool) -> Shown:
    webhook = tally.webhook.get((state, number), Seen())
    bare = tally.bare.get((state, number), Seen())
    return (
        Shown(number, webhook, Seen(), bare) if explained else Shown(number, webhook, bare, Seen())
    )


def _verdict(speaking: list[Shown], beginnings: frozenset[int]) -> Verdict:
    if not speaking:
        return Verdict.NONE
    if len(speaking) > 1:
        return Verdict.CONTRADICTED
    (only,) = speaking
    if only.webhook.rows:
        return Verdict.PROVEN
    return Verdict.HINTED if beginnings else Verdict.TOO_LITTLE


def _unshared(finding: Finding, findings: list[Finding], paid: Collection[int]) -> Finding:
    """Remove the number from succeeded, and from the states that would share it.

    Args:
        finding: the finding of one state.
        findings: the findings of all states.
        paid: every number that Halo's webhook wrote for a succeeded payment, also if these numbers
            contradict each other: with such a number for another state, syncd could mark an
            invoice as paid.
    """
    if finding.state is PaymentState.SUCCEEDED:
        others = {one.number for one in findings if one.state is not finding.state}
        shares = finding.number is not None and finding.number in others
    else:
        shares = finding.number in paid or finding.hint in paid
    return Finding(finding.state, None, None, Verdict.SHARED, finding.shown) if shares else finding


@dataclass(frozen=True, slots=True)
class Change:
    """What the findings would change in the configuration.

    Attributes:
        new: numbers of states that have none yet.
        differing: states whose configured number differs from the rows: (configured, shown).
        sharing: states that would share succeeded's number, and succeeded if it would share.
        missing: states without a number and without a proposal.
    """

    new: Mapping[PaymentState, int]
    differing: Mapping[PaymentState, tuple[int, int]]
    sharing: tuple[PaymentState, ...]
    missing: tuple[PaymentState, ...]


def change_of(
    findings: Iterable[Finding],
    configured: Mapping[PaymentState, int],
    accepted: Collection[PaymentState] = (),
) -> Change:
    """Compare the findings with the configuration.

    Args:
        findings: what the rows show.
        configured: the numbers that are set.
        accepted: states whose hint a person accepts as their number.
    """
    found = {one.state: one.hint if one.state in accepted else one.number for one in findings}
    found |= {one.state: one.number for one in findings if one.number is not None}
    proposed = {state: number for state, number in found.items() if number is not None}
    new = {state: number for state, number in proposed.items() if state not in configured}
    merged = {**new, **configured}
    paid = merged.get(PaymentState.SUCCEEDED)
    shares = [state for state, number in merged.items() if number == paid]
    return Change(
        new=new,
        differing={
            state: (configured[state], number)
            for state, number in proposed.items()
            if configured.get(state, number) != number
        },
        sharing=tuple(s for s in shares if s in new) if len(shares) > 1 else (),
        missing=tuple(state for state in PaymentState if state not in merged),
    )


HOW_TO_MAKE = {
    PaymentState.SUCCEEDED: "pay an invoice through Halo's payment page",
    PaymentState.PAYMENT_FAILED: "try to pay an invoice with a card that is declined",
    PaymentState.PROCESSING: "pay an invoice by bank debit, which takes days to settle",
    PaymentState.CANCELED: "start to pay an invoice, then cancel that payment in Stripe's dashboard",
    PaymentState.REQUIRES_ACTION: "start to pay an invoice with a card that asks to be "
    "authenticated (3-D Secure), and leave it there",
}
"""How to create a row that shows a state, while Halo's own webhook is on."""


def how_to_make(state: PaymentState) -> str:
    """How a person can create a row that shows a state."""
    return HOW_TO_MAKE.get(state, f"bring a payment of an invoice into the state {state}")
