"""Counts what stories play: pairs of fault, request and payment's state; decisions; causes of transitions.

Prints what was never played. `story.hunt` draws pairs evenly, so that rare pairs are played as well.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any
from unittest import mock

from syncd.core.holds import HoldCode
from syncd.core.records import Condition
from syncd.core.rules.decisions import Hold, decide
from syncd.core.rules.transitions import Cause, transition
from syncd.store import transitions
from syncd.sync.push import lookup
from tests.simulation.story import FAULTS, HUNTED, NAMES_PAYMENT, NEVER_SENT, STATES

if TYPE_CHECKING:
    from syncd.sandbox.http import Request
    from tests.simulation.universe import World

ANY = "-"
"""The state of a request that names no payment."""

HOLDS = (
    HoldCode.ROW_UNREADABLE,
    HoldCode.ROW_DELETED,
    HoldCode.INVOICE_UNREADABLE,
    HoldCode.AMOUNT_UNREADABLE,
    HoldCode.AMOUNT_MISMATCH,
    HoldCode.HALO_SAYS_SUCCEEDED,
    HoldCode.STATUS_NOT_CONFIGURED,
    HoldCode.CURRENCY_UNKNOWN,
    HoldCode.STRIPE_CONTRADICTS_ITSELF,
)
"""The holds of the decision table."""


_LONGEST = sorted(HUNTED, key=lambda name: -len(HUNTED[name][2]))


def point_of(side: str, request: Request) -> str | None:
    """The point of a payment's path that this request is; None for another request."""
    for name in _LONGEST:
        where, method, path = HUNTED[name]
        if where == side and method in (None, request.method) and path in request.path:
            return name
    return None


def states_at(world: World, point: str, request: Request) -> set[str]:
    """The states of the payments that a request at this point names."""
    if point not in NAMES_PAYMENT:
        return {ANY}
    intents = set(filter(None, [request.params().get("intent_id")]))
    if point == "write":
        posted = json.loads(request.body)
        rows = posted if isinstance(posted, list) else [posted]
        intents = {str(row.get("intent_id") or world.owner(row.get("id"))) for row in rows}
    truths = [world.by_intent[name] for name in intents if name in world.by_intent]
    return {truth.state or "none" for truth in truths} or {ANY}


def played(world: World, side: str, request: Request, fault: str) -> list[str]:
    """The pairs that a fault at this request plays: ``fault request state``."""
    point = point_of(side, request)
    if point is None:
        return []
    return [f"{fault} {point} {state}" for state in sorted(states_at(world, point, request))]


def waits_for(world: World, point: str, state: str) -> Callable[[Request], bool]:
    """A test of requests: whether a request is at this point, for a payment in this state."""
    side = HUNTED[point][0]

    def matches(request: Request) -> bool:
        if point_of(side, request) != point:
            return False
        return not state or state in states_at(world, point, request)

    return matches


def pairs() -> set[str]:
    """Every pair that can be played."""
    alone = [p for p in HUNTED if p not in NAMES_PAYMENT and p not in NEVER_SENT]
    plain = {f"{f} {p} {ANY}" for f, p in product(FAULTS, alone)}
    return plain | {f"{f} {p} {s}" for f, p, s in product(FAULTS, NAMES_PAYMENT, STATES)}


@contextlib.contextmanager
def counted(figures: Counter[str]) -> Iterator[None]:
    """Count the program's decisions and the causes that change a payment's condition."""
    real_carry_out = transitions._carry_out

    def deciding(*given: Any, **named: Any) -> Any:
        decision = decide(*given, **named)
        code = f" {decision.code}" if isinstance(decision, Hold) else ""
        state = given[0].current.state
        figures[f"decision {type(decision).__name__}{code} of {state}"] += 1
        return decision

    def changing(source: Condition | None, cause: Cause) -> Any:
        change = transition(source, cause)
        if change is not None:
            figures[f"transition {cause.name}"] += 1
        return change

    def carry_out(connection: Any, cause: Cause, *given: Any, **named: Any) -> int:
        number = real_carry_out(connection, cause, *given, **named)
        figures[f"transition {cause.name}"] += number
        return number

    with (
        mock.patch.object(lookup, "decide", deciding),
        mock.patch.object(transitions, "transition", changing),
        mock.patch.object(transitions, "_carry_out", carry_out),
    ):
        yield


def decisions() -> set[str]:
    """Each kind of decision and each hold of the decision table, without the states."""
    return {"Update", "InStep", "Create", "AskStripe", "Unmatched", *(f"Hold {c}" for c in HOLDS)}


def kinds() -> tuple[tuple[str, str, set[str]], ...]:
    """What is counted: its name for people, the prefix of its figures, and the set of all."""
    return (
        ("pairs of fault, request and state", "pair ", pairs()),
        ("decisions", "decision ", decisions()),
        ("causes of transitions", "transition ", {cause.name for cause in Cause}),
    )


def never_played(figures: Counter[str], kind: str, whole: set[str]) -> list[str]:
    """The members of `whole` that were never played."""
    seen = {
        key.removeprefix(kind).split(" of ")[0]
        for key, number in figures.items()
        if key.startswith(kind) and number
    }
    return sorted(whole - seen)


def missing_text(figures: Counter[str]) -> str:
    """How much was played, and what was not, for people."""
    lines = []
    for name, kind, whole in kinds():
        never = never_played(figures, kind, whole)
        lines.append(f"{name}: {len(whole) - len(never)} of {len(whole)} played")
        if never:
            lines.append("  never: " + ", ".join(never))
    rare = [(n, key[5:]) for key, n in figures.items() if key.startswith("pair ")]
    lines.append("rarest pairs: " + ", ".join(f"{key} {n}" for n, key in sorted(rare)[:10]))
    return "\n".join(lines)


def never_table(figures: Counter[str]) -> str:
    """The pairs that were never played, as a Markdown table: one line for each request and state."""
    rows: dict[tuple[str, str], list[str]] = {}
    for pair in never_played(figures, "pair ", pairs()):
        fault, point, state = pair.split()
        rows.setdefault((point, state), []).append(fault)
    if not rows:
        return "Every pair was played."
    lines = ["| request | state of the payment | faults never played |", "|---|---|---|"]
    for (point, state), faults in sorted(rows.items()):
        _, method, path = HUNTED[point]
        lines.append(f"| {method} …{path} | {state} | {', '.join(faults)} |")
    return "\n".join(lines)
