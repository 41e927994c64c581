"""How a payment's condition changes, as data: from which condition, by which cause, to which.

Pure. `store.transitions` carries the table out, and no other module writes these columns. A test
walks the table against the database. `docs/works.md` shows it as a diagram, built from this table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from syncd.core.records import Condition


class Cause(StrEnum):
    """Why a condition changes; the text appears in the diagram."""

    STATE_REPORTED = "Stripe reports another state"
    NOTHING_REPORTED = "Stripe reports no state yet"
    CONTRADICTED = "Stripe's events contradict each other"
    EVENTS_LOST = "syncd missed events, and cannot read the payment intent"
    READ_FAILED = "a read of the payment intent failed"
    READ_POSTPONED = "the next read is postponed"
    UNREADABLE = "the payment intent cannot be read"
    PUSH_POSTPONED = "syncd must repeat the push later"
    PUSH_NEEDS_READ = "the payment intent must be read before the push"
    PUSH_DONE = "Halo's rows show the state"
    PUSH_HELD = "a rule holds the payment"
    PUSH_FAILED = "Halo refuses the row"
    PUSH_WITHOUT_ROW = "Halo has no row yet"
    PUSH_ABANDONED = "for a day, Halo had no row for the payment"
    ROWS_DIFFER = "Halo's rows differ"
    AUDIT_DIFFERS = "an audit with --fix finds a difference"
    CONFIG_CHANGED = "the configuration key behind the hold has changed"
    RETRIED = "attention retry"
    RETRIED_ROW_DELETED = "attention retry after the row was deleted"
    RETRIED_UNREADABLE = "attention retry of an unreadable payment intent"
    DISMISSED = "attention dismiss"


class Value(StrEnum):
    """What a transition writes into a column."""

    NULL = "null"
    NOW = "now"
    ZERO = "zero"
    TRUE = "true"
    FALSE = "false"
    PLUS_ONE = "plus_one"
    GIVEN = "given"  # the caller's value, see `store.transitions`
    GIVEN_OR_KEPT = "given_or_kept"  # the caller's value; None keeps the old one
    IF_FUTURE = "if_future"  # the old value while it is later than now, else null


START_OVER: Mapping[str, Value] = {
    "code": Value.NULL,
    "reason": Value.NULL,
    "dismissed": Value.FALSE,
    "attempts": Value.ZERO,
    "looks": Value.ZERO,
    "next_try": Value.NULL,
    "changed_at": Value.NOW,
}
"""Forgets why the payment was held, and how often syncd tried it."""

MAKE_DUE: Mapping[str, Value] = {**START_OVER, "next_try": Value.NOW}
"""The only way in which a payment becomes due again, besides a push that is postponed."""

DECIDE_AGAIN: Mapping[str, Value] = {
    name: value for name, value in MAKE_DUE.items() if name not in ("code", "reason", "changed_at")
}
"""As MAKE_DUE; a payment that is held again for the same reason keeps its first time."""

PUSHED: Mapping[str, Value] = {
    "code": Value.GIVEN,
    "reason": Value.GIVEN,
    "next_try": Value.GIVEN,
    "attempts": Value.GIVEN,
    "looks": Value.GIVEN,
    # Another process may have sent an insert: only Halo's acknowledgement ends the uncertainty.
    "doubt_until": Value.GIVEN_OR_KEPT,
    "changed_at": Value.NOW,
}
"""What a push writes; the caller gives the next try. A dismissed payment stays dismissed."""

FORGET_ROWS: Mapping[str, Value] = {
    "acked_state": Value.NULL,
    "rows": Value.NULL,
    "seen_rows": Value.NULL,
}
"""After a row was deleted in Halo: the payment counts as never acknowledged."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a payment's condition.

    Attributes:
        cause: why.
        sources: the conditions that it leaves; None for a payment that is not in the database yet.
        target: the condition afterwards.
        changes: the columns that it writes; all others are kept.
    """

    cause: Cause
    sources: frozenset[Condition | None]
    target: Condition
    changes: Mapping[str, Value]


def _from(*sources: Condition | None) -> frozenset[Condition | None]:
    return frozenset(sources)


_EVERY = frozenset[Condition | None]([None, *Condition])
_PUSHED_FROM = _EVERY - {None, Condition.NO_STATE, Condition.IN_DOUBT}
_LISTED = _from(Condition.HELD, Condition.FAILED)
_UNLISTED = _from(Condition.IN_STEP, Condition.UNMATCHED, Condition.NOT_HALOS)
"""The conditions that only people end: held, failed, dismissed."""

_RETRY = {**MAKE_DUE, "doubt_until": Value.IF_FUTURE}
"""A retry forgets an insert that can no longer appear in Halo, and waits for one that can."""

_RETRY_READ = {
    # The hold stays: the payment remains on the attention list with its original time.
    "next_try": Value.NOW,
    "attempts": Value.ZERO,
    "looks": Value.ZERO,
    "dismissed": Value.FALSE,
    "doubt_until": Value.IF_FUTURE,
}
_UNREADABLE = {"code": Value.GIVEN, "reason": Value.GIVEN, "next_try": Value.GIVEN}

_C = Condition
TRANSITIONS: tuple[Transition, ...] = (
    Transition(Cause.STATE_REPORTED, _EVERY, _C.DUE, MAKE_DUE),
    Transition(Cause.NOTHING_REPORTED, _EVERY - {_C.NO_STATE}, _C.NO_STATE, START_OVER),
    Transition(Cause.CONTRADICTED, _EVERY - {_C.IN_DOUBT}, _C.IN_DOUBT, START_OVER),
    Transition(Cause.EVENTS_LOST, _from(_C.IN_STEP, _C.NO_STATE), _C.IN_DOUBT, START_OVER),
    Transition(
        Cause.READ_FAILED, _from(_C.IN_DOUBT), _C.IN_DOUBT, {"attempts": Value.PLUS_ONE}
    ),
    Transition(Cause.READ_FAILED, _from(_C.HELD), _C.HELD, {"attempts": Value.PLUS_ONE}),
    Transition(
        Cause.READ_POSTPONED, _from(_C.IN_DOUBT), _C.IN_DOUBT, {"next_try": Value.GIVEN}
    ),
    Transition(Cause.READ_POSTPONED, _from(_C.HELD), _C.HELD, {"next_try": Value.GIVEN}),
    # Payments that are held already come first, so that no payment is changed twice.
    Transition(Cause.UNREADABLE, _from(_C.HELD), _C.HELD, _UNREADABLE),
    Transition(
        Cause.UNREADABLE, _from(_C.IN_DOUBT), _C.HELD, {**_UNREADABLE, "changed_at": Value.NOW}
    ),
    Transition(Cause.PUSH_POSTPONED, _PUSHED_FROM, _C.DUE, PUSHED),
    Transition(Cause.PUSH_NEEDS_READ, _PUSHED_FROM, _C.IN_DOUBT, PUSHED),
    Transition(Cause.PUSH_DONE, _PUSHED_FROM, _C.IN_STEP, PUSHED),
    Transition(Cause.PUSH_HELD, _PUSHED_FROM, _C.HELD, PUSHED),
    Transition(Cause.PUSH_FAILED, _PUSHED_FROM, _C.FAILED, PUSHED),
    Transition(Cause.PUSH_WITHOUT_ROW, _PUSHED_FROM, _C.UNMATCHED, PUSHED),
    Transition(Cause.PUSH_ABANDONED, _PUSHED_FROM, _C.NOT_HALOS, PUSHED),
    Transition(Cause.ROWS_DIFFER, _UNLISTED | {_C.HELD}, _C.DUE, MAKE_DUE),
    Transition(Cause.AUDIT_DIFFERS, _UNLISTED, _C.DUE, MAKE_DUE),
    Transition(Cause.CONFIG_CHANGED, _from(_C.HELD), _C.DUE, DECIDE_AGAIN),
    Transition(Cause.RETRIED, _LISTED, _C.DUE, _RETRY),
    Transition(Cause.RETRIED_ROW_DELETED, _LISTED, _C.DUE, {**_RETRY, **FORGET_ROWS}),
    Transition(Cause.RETRIED_UNREADABLE, _LISTED, _C.HELD, _RETRY_READ),
    Transition(
        Cause.DISMISSED, _LISTED, _C.HELD,
        {"dismissed": Value.TRUE, "next_try": Value.NULL, "changed_at": Value.NOW},
    ),
)  # fmt: skip
"""All changes, by cause. A condition that a cause does not name stays unchanged."""

PUSH_CAUSES: Mapping[Condition, Cause] = {
    one.target: one.cause for one in TRANSITIONS if one.changes is PUSHED
}
"""The cause of a push's outcome, by the condition it leads to."""


def transitions_by(cause: Cause) -> tuple[Transition, ...]:
    """The transitions of one cause, in the order in which they are carried out."""
    return tuple(one for one in TRANSITIONS if one.cause is cause)


def transition(source: Condition | None, cause: Cause) -> Transition | None:
    """What a cause does to a payment in a condition; None where it changes nothing."""
    return next((one for one in transitions_by(cause) if source in one.sources), None)


def diagram(transitions: Iterable[Transition] = TRANSITIONS) -> str:
    """The table as a Mermaid state diagram: one arrow for each pair of conditions, with its causes."""
    arrows: dict[tuple[str, str], list[Cause]] = {}
    anywhere: dict[Condition, list[Cause]] = {}
    for one in transitions:
        if one.sources >= _PUSHED_FROM and one.changes is not PUSHED:
            anywhere.setdefault(one.target, []).append(one.cause)
            continue
        sources = (_C.DUE,) if one.changes is PUSHED else sorted(map(str, one.sources - {None}))
        for source in sources:
            arrows.setdefault((source, one.target), []).append(one.cause)
    lines = ["stateDiagram-v2", *(f"    [*] --> {target}" for target in sorted(anywhere))]
    lines += [
        f"    {source} --> {target}: {'<br/>'.join(causes)}"
        for (source, target), causes in sorted(arrows.items())
    ]
    for target, causes in sorted(anywhere.items()):
        lines += [f"    note right of {target}", "        from every condition:"]
        lines += [f"        {cause}" for cause in causes] + ["    end note"]
    return "\n".join(lines) + "\n"
