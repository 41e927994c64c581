"""The status of syncd at one moment, gathered once for the page, notifications and `syncd status`.

`/readyz` uses the same checks. Does not belong here: how the status is displayed (`service.web`,
`cli`), and which changes cause a notification (`monitor.alerts`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from syncd.clients.throttle import halo_window, stripe_window
from syncd.config.mode import Mode, mode_of
from syncd.config.model import Config
from syncd.core.errors import Side
from syncd.core.holds import HOLDS
from syncd.core.records import Condition
from syncd.core.rules.deliveries import Undelivered
from syncd.core.rules.proof import UpdateMode, WriteKind, WriteTrouble
from syncd.core.rules.proof_notes import PROOFS, TROUBLES
from syncd.core.windows import Window
from syncd.monitor.health import Check, judge_step
from syncd.monitor.polls import PollsStatus, polls_status, read_limit
from syncd.store.coordination import (
    BACKFILL,
    GAP,
    LAST,
    LINKS,
    STRIPE_MODE,
    UNDELIVERED,
    WATERMARK,
    GapNote,
    LinkNote,
)
from syncd.store.db.leases import Leading
from syncd.store.store import Store
from syncd.text.timestamps import iso

STEPS = {Side.STRIPE: "poll", Side.HALO: "push"}
"""The step that shows whether a side works."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status of syncd at one moment.

    Attributes:
        now: Unix seconds.
        mode: Stripe's mode; None if unknown.
        checks: whether each side works, by its name.
        conditions: how many payments are in each condition.
        due: how many payments are due now.
        attention_counts: how many entries the attention list has, by kind.
        budgets: requests left and allowed, by side.
        watermark: up to when Stripe's events were read, Unix seconds; None before the first poll.
        links: the failure of each side that the service has recorded; None for a side that works.
        last: when each step last worked, Unix seconds; None if it never did.
        pushing: the holder of the push lease; None if it is free.
        leading: which of several services leads, and which are on standby; None if only one can
            run.
        gap: the last gap that was filled.
        backfill: the argument of a backfill that was started and not finished.
        undelivered: Stripe's payment events that a webhook endpoint has not accepted, as last read;
            None before the first read.
        writes: by kind of write, whether it is proven in this tenant, as text.
        polls: how often syncd polls; None if poll.interval is a fixed time.
    """

    now: float
    mode: Mode | None
    checks: Mapping[str, Check]
    conditions: Mapping[Condition, int]
    due: int
    attention_counts: Mapping[str, int]
    budgets: Mapping[str, tuple[int, int]]
    watermark: int | None
    links: Mapping[Side, LinkNote | None]
    last: Mapping[str, int | None]
    pushing: str | None
    leading: Leading | None
    gap: GapNote | None
    backfill: str | None
    undelivered: Undelivered | None
    writes: Mapping[str, str]
    polls: PollsStatus | None = None

    @property
    def attention_count(self) -> int:
        """The number of all entries on the attention list."""
        return sum(self.attention_counts.values())


def gather(
    config: Config,
    store: Store,
    now: float,
    *,
    checks: Mapping[str, Check] | None = None,
    left: Mapping[str, int] | None = None,
) -> Status:
    """Gather the status.

    Args:
        config: the configuration, with or without its secrets.
        store: has the service's notes.
        now: Unix seconds.
        checks: the checks of the service in this process; None to use the service's notes.
        left: requests left by the service's own count; None to count in the store.

    Raises:
        StoreUnavailable: the database cannot be read.
    """
    notes, polls = store.notes(), polls_status(config, store, now)
    stale = config.stale_seconds_at(polls.longest_seconds) if polls else config.stale_seconds
    holder, backfill = store.coordination.holder("push"), BACKFILL.decode(notes.get(BACKFILL.name))
    return Status(
        now=now,
        mode=mode_of(
            config.stripe_api_key,
            config.stripe.mode,
            STRIPE_MODE.decode(notes.get(STRIPE_MODE.name)),
        ),
        checks={
            **(checks_of(notes, now, stale) if checks is None else checks),
            **writes_check(notes),
        },
        conditions=store.people.conditions(),
        due=store.due_count(now),
        attention_counts=store.people.attention_counts(),
        budgets=budgets_of(
            config,
            requests_left(config, store, now) if left is None else left,
            read_limit(config, store, now),
        ),
        watermark=WATERMARK.decode(notes.get(WATERMARK.name)),
        links=links_of(notes),
        last={step: note.decode(notes.get(note.name)) for step, note in LAST.items()},
        pushing=holder[0].described if holder and holder[1] > now else None,
        leading=store.coordination.leading() if config.state.is_server else None,
        gap=GAP.decode(notes.get(GAP.name)),
        backfill=None if backfill is None else backfill.asked,
        undelivered=UNDELIVERED.decode(notes.get(UNDELIVERED.name)),
        writes=writes_of(notes),
        polls=polls,
    )


def writes_check(notes: Mapping[str, str]) -> dict[str, Check]:
    """The check that fails while nothing may be written in this tenant; empty otherwise."""
    return stopped_check(note.of(notes) for note in TROUBLES.values())


def stopped_check(troubles: Iterable[WriteTrouble | None]) -> dict[str, Check]:
    """As `writes_check`, from the troubles themselves."""
    for trouble in troubles:
        if trouble is not None:
            text = f"{HOLDS[trouble.code].title} ({trouble.code}): {trouble.reason}"
            return {"writes": Check(False, text, reason=text)}
    return {}


def writes_known(notes: Mapping[str, str]) -> dict[str, int]:
    """The knowledge about each kind of write: 1 proven, 0 not yet, -1 stopped."""
    return {
        str(kind): -1
        if TROUBLES[kind].of(notes) is not None
        else int(PROOFS[kind].of(notes) is not None)
        for kind in WriteKind
    }


_SENT_AS = {
    UpdateMode.CHANGES: "updates contain only the new status",
    UpdateMode.REQUIRED: "updates also contain the columns that Halo demands",
    UpdateMode.EVERYTHING: "updates contain the whole row, because Halo empties columns that are left out",
}


def writes_of(notes: Mapping[str, str]) -> dict[str, str]:
    """Whether each kind of write is proven in this tenant, as text."""
    found = {}
    for kind in WriteKind:
        proof, trouble = PROOFS[kind].of(notes), TROUBLES[kind].of(notes)
        if trouble is not None:
            found[str(kind)] = f"stopped since {iso(trouble.at)}: {trouble.code}"
        elif proof is None:
            found[str(kind)] = (
                "not proven yet: syncd sends the first one, reads it back, and only then sends "
                "others"
            )
        else:
            mode = f"; {_SENT_AS[proof.mode]}" if kind is WriteKind.UPDATE else ""
            trace = "" if proof.trace else "; Halo does not store the trace"
            found[str(kind)] = (
                f"proven on {iso(proof.at)} with row {proof.row_id} of {proof.intent_id}{mode}{trace}"
            )
    return found


def links_of(notes: Mapping[str, str]) -> dict[Side, LinkNote | None]:
    """The failure of each side that the service has recorded; None for a side that works."""
    return {side: LINKS[side].decode(notes.get(LINKS[side].name)) for side in Side}


def checks_of(notes: Mapping[str, str], now: float, stale_seconds: float) -> dict[str, Check]:
    """Judge each side by the service's notes, with the same rules as `/readyz`."""
    checks = {}
    for side, link in links_of(notes).items():
        last = LAST[STEPS[side]]
        at = last.decode(notes.get(last.name))
        reason = None if link is None else link.reason
        checks[str(side)] = judge_step(STEPS[side], at, reason, now, stale_seconds)
    return checks


def budgets_of(config: Config, left: Mapping[str, int], allowed: int) -> dict[str, tuple[int, int]]:
    """Requests left and allowed, by side; `allowed` reads of Stripe."""
    return {
        "stripe": (left["stripe"], allowed),
        "halo": (left["halo"], config.halo.rate_limit),
    }


def requests_left(config: Config, store: Store, now: float) -> dict[str, int]:
    """Requests left by side, from the counts of all processes in the store."""
    windows = {
        Side.STRIPE: stripe_window(read_limit(config, store, now)),
        Side.HALO: halo_window(config.halo.rate_limit),
    }
    return left_in(windows, store, now)


def left_in(windows: Mapping[Side, Window], store: Store, now: float) -> dict[str, int]:
    """Requests left by side in these windows, from the counts of all processes in the store."""
    return {
        str(side): window.left(store.coordination.counts(side), now)
        for side, window in windows.items()
    }
