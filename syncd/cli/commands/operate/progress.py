"""What a run shows while it works, and its summary: --once, --backfill and resync."""

from collections.abc import Callable, Mapping

from syncd.cli.terminal import Show
from syncd.core.errors import LeaseHeld, LinkFailure
from syncd.core.records import Condition
from syncd.monitor.telemetry import Telemetry
from syncd.store.store import Store
from syncd.sync.build import Parts
from syncd.text.timestamps import duration, iso
from syncd.text.wording import counted

ONE_PAYMENT = frozenset({"pushed", "held", "push_failed", "not_halos"})
"""Log events about single payments: a terminal shows the summary instead."""

_OUTCOMES = {
    "updated": "updated in Halo",
    "created": "created in Halo",
    "in_step": "in step",
    "held": "held",
    "failed": "failed",
    "unmatched": "without a row in Halo",
}


def watch(parts: Parts, store: Store, show: Show) -> None:
    """Show each step of a run, and how many payments are listed and still due."""
    engine = parts.engine

    def pushing(_done: int, _due: int) -> None:
        if show.on_terminal:  # the count reads the database
            show.pushing(store.people.conditions()[Condition.DUE])

    def step(name: str) -> None:
        show.step(name)
        if name == "push":
            pushing(0, 0)

    engine.sweeper.listing.progress = show.listing
    engine.pusher.progress = pushing
    parts.run.step = step


def retrying(show: Show, telemetry: Telemetry) -> Callable[[LinkFailure, float], None]:
    """Report that a request failed and is sent again: next to the bar, or in the log without one."""

    def say(error: LinkFailure, seconds: float) -> None:
        if show.on_terminal:
            show.retrying(error, seconds)
        else:
            telemetry.log(
                "info",
                "waiting",
                side=str(error.side),
                seconds=round(seconds, 1),
                reason=str(error),
            )

    return say


def waits_until(store: Store, now: float) -> float | None:
    """When syncd tries the next due payment, Unix seconds; None if one may be tried already, or none is due."""
    soonest = store.people.next_try()
    return None if soonest is None or soonest <= now else soonest


def summary(
    telemetry: Telemetry,
    conditions: Mapping[Condition, int],
    seconds: float,
    pushing: LeaseHeld | None = None,
    next_try: float | None = None,
) -> str:
    """One line: what a run did, how long it took, and what remains.

    Args:
        telemetry: counts what was pushed.
        conditions: how many payments are in each condition.
        seconds: how long the run took.
        pushing: which other process is already pushing, if any.
        next_try: when syncd tries the next due payment, Unix seconds; None if no payment waits.
    """
    parts = []
    for outcome, words in _OUTCOMES.items():
        number = telemetry.registry.get_sample_value("syncd_pushes_total", {"outcome": outcome})
        if number:
            parts.append(f"{int(number):,} {words}")
    due, doubtful = conditions[Condition.DUE], conditions[Condition.IN_DOUBT]
    left = f"{counted(due, 'payment')} still due" if due else "nothing is due"
    if due and next_try is not None:
        left += f" (next try at {iso(next_try)})"
    if doubtful:
        left += f", {counted(doubtful, 'payment')} to be read again at Stripe"
    if pushing is not None and due:
        left += f"; {pushing.holder} is already pushing and will include what is due"
    done = ", ".join(parts) or ("nothing was pushed" if due else "nothing to push")
    return f"Finished in {duration(seconds)}: {done}; {left}."
