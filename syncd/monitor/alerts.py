"""Decides which notifications to send, from the notifications sent before and the present status.

Pure: no clock, no network. syncd notifies once about a matter, and again only if the matter has
grown or come back. About each matter at most one notification is sent in `Rules.every_seconds`; the
next one contains what happened in the meantime. Everything that is new at one moment is one
notification.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from syncd.text.timestamps import duration
from syncd.text.wording import check_name, counted, needing, sentence

LISTED_MAX = 10
"""How many entries of the attention list a notification names; further entries are only counted."""

HALO_LOW_SECONDS = 3_600
"""How long Halo's rate limit must be used up before syncd notifies: backfills do so for minutes."""


class Health(StrEnum):
    """The overall status; the worst level that applies."""

    STARTING = "starting"
    WELL = "well"
    ATTENTION = "attention"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class FailingCheck:
    """A check that fails.

    Attributes:
        text: the reason, for people.
        worked_at: Unix seconds when it last worked; None if unknown.
        starting: whether the process has just started, so that a failure is no problem yet.
        busy: whether no failure is known; then `text` has the time since the last success.
    """

    text: str
    worked_at: float | None = None
    starting: bool = False
    busy: bool = False


@dataclass(frozen=True, slots=True)
class HealthReading:
    """The status at one moment, with the values that notifications need.

    Attributes:
        at: Unix seconds.
        failing: the checks that fail, by name.
        attention: the newest entries of the attention list: id to text.
        attention_counts: how many entries the attention list has, by kind.
        gap: when the last gap was filled (Unix seconds), and the text about it.
        takeover: the text about a takeover without a notification yet.
        budgets: requests left and allowed, by side.
    """

    at: float
    failing: Mapping[str, FailingCheck] = field(default_factory=dict)
    attention: Mapping[str, str] = field(default_factory=dict)
    attention_counts: Mapping[str, int] = field(default_factory=dict)
    gap: tuple[int, str] | None = None
    takeover: str | None = None
    budgets: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def attention_count(self) -> int:
        """How many entries the attention list has."""
        return sum(self.attention_counts.values())


@dataclass(frozen=True, slots=True)
class Rules:
    """When to notify, and how often.

    Attributes:
        stale_seconds: how long a check must fail before syncd notifies.
        every_seconds: the shortest time between two notifications about one matter.
        budget_low: the share of a request budget below which the budget is low.
    """

    stale_seconds: float
    every_seconds: float
    budget_low: float


@dataclass(frozen=True, slots=True)
class HealthState:
    """The overall status and since when (Unix seconds).

    Attributes:
        level: the overall status.
        since: since when `level` is the same.
        failing: since when each check has been failing.
        low: since when each budget has been low.
    """

    level: Health = Health.STARTING
    since: float = 0.0
    failing: Mapping[str, float] = field(default_factory=dict)
    low: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notified:
    """What notifications were sent about.

    Attributes:
        attention: ids of entries of the attention list.
        failing: failing checks.
        low: low budgets.
        gap: when the gap of the last notification was filled, Unix seconds.
        last: when the last notification about each matter was sent, Unix seconds.
    """

    attention: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    low: frozenset[str] = frozenset()
    gap: int = 0
    last: Mapping[str, float] = field(default_factory=dict)


class Tone(StrEnum):
    """The tone of a notification."""

    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification."""

    title: str
    body: str
    tone: Tone


def assess(before: HealthState, reading: HealthReading, rules: Rules) -> HealthState:
    """The overall status now; `since` changes only when the level changes."""
    # A time in the future was stored before the clock was set back.
    failing = {
        name: min(before.failing.get(name, reading.at), reading.at) for name in reading.failing
    }
    low = {
        side: min(before.low.get(side, reading.at), reading.at)
        for side, (left, limit) in reading.budgets.items()
        if left < rules.budget_low * limit
    }
    level = level_of(reading.failing, reading.attention_count)
    since = min(before.since, reading.at) if level is before.level else reading.at
    return HealthState(level, since, failing, low)


def level_of(failing: Mapping[str, FailingCheck], attention_count: int) -> Health:
    """The worst level that applies."""
    if any(not check.starting for check in failing.values()):
        return Health.FAILING
    if failing:
        return Health.STARTING
    return Health.ATTENTION if attention_count else Health.WELL


def judge(
    notified: Notified, health: HealthState, reading: HealthReading, rules: Rules
) -> tuple[Notified, Notice | None]:
    """Decide which notification to send now.

    Args:
        notified: the notifications sent so far.
        health: the overall status at the moment of the reading.
        reading: the present status.
        rules: when to notify, and how often.

    Returns:
        The new value of `notified` after the notification was delivered, and the notification; None
        without one.
    """
    draft = _Draft(notified, reading.at, rules.every_seconds)
    for name, check in reading.failing.items():
        since = health.failing[name] if check.worked_at is None else check.worked_at
        stuck = reading.at - since >= rules.stale_seconds
        if stuck and name not in notified.failing and draft.may(f"failing {name}"):
            long = "" if check.busy else f"nothing has worked for {duration(reading.at - since)}. "
            draft.add(
                Tone.FAILURE,
                f"{check_name(name)} does not work",
                f"{check_name(name)}: {long}{sentence(check.text) if long else f'{check.text}.'} "
                "syncd retries automatically, and nothing is lost. For details, run: syncd status",
            )
            draft.notified = replace(draft.notified, failing=draft.notified.failing | {name})
    for name in sorted(notified.failing - reading.failing.keys()):
        again = f"{check_name(name)} works again"
        draft.add(Tone.SUCCESS, again, f"{again}.")
        draft.notified = replace(draft.notified, failing=draft.notified.failing - {name})
    _judge_attention(draft, reading)
    if reading.gap is not None and reading.gap[0] != notified.gap and draft.may("gap"):
        draft.add(Tone.WARNING, "a gap between polls was filled", reading.gap[1])
        draft.notified = replace(draft.notified, gap=reading.gap[0])
    if reading.takeover is not None:
        draft.add(Tone.WARNING, "another service leads", reading.takeover)
    _judge_budgets(draft, health, reading, rules)
    return draft.notified, draft.notice()


def _judge_attention(draft: "_Draft", reading: HealthReading) -> None:
    here = frozenset(reading.attention)
    new = [name for name in reading.attention if name not in draft.notified.attention]
    if not new or not draft.may("attention"):
        # An entry that has left the list counts as new if it comes back.
        draft.notified = replace(draft.notified, attention=draft.notified.attention & here)
        return
    lines = [f"- {name}: {reading.attention[name]}" for name in new[:LISTED_MAX]]
    if len(new) > LISTED_MAX:
        lines.append(f"- and {len(new) - LISTED_MAX} more")
    entries = counted(len(new), "new entry", "new entries")
    heading = f"{entries} on the attention list, {reading.attention_count} in all"
    ending = "For the reasons and what to do, run: syncd attention"
    draft.add(
        Tone.WARNING,
        needing(reading.attention_counts),
        "\n".join([f"{heading}:", *lines, ending]),
    )
    draft.notified = replace(draft.notified, attention=here)


def _judge_budgets(
    draft: "_Draft", health: HealthState, reading: HealthReading, rules: Rules
) -> None:
    for side, (left, limit) in reading.budgets.items():
        if side in health.low:
            lasting = side != "halo" or reading.at - health.low[side] >= HALO_LOW_SECONDS
            if lasting and side not in draft.notified.low and draft.may(f"low {side}"):
                draft.add(
                    Tone.WARNING,
                    f"few requests to {check_name(side)} are left",
                    _LOW[side].format(left=left, limit=limit),
                )
                draft.notified = replace(draft.notified, low=draft.notified.low | {side})
        elif (
            left >= 2 * rules.budget_low * limit
        ):  # a value that moves around the limit causes one notification
            draft.notified = replace(draft.notified, low=draft.notified.low - {side})


_LOW = {
    "stripe": "{left:,} of the {limit:,} Stripe API reads that stripe.read_budget allows in 30 days are "
    "left. syncd polls less often, so that the rest lasts. Set a longer poll.interval. Raise "
    "stripe.read_budget only if Stripe allows you more reads.",
    "halo": "For an hour, syncd has sent as many requests to Halo as halo.rate_limit allows: "
    "{left:,} of {limit:,} in 5 minutes are left. Pushes wait, and nothing is lost. "
    "A running backfill or audit is a normal cause. Otherwise run syncd status, and "
    "raise halo.rate_limit only if Halo allows you more.",
}


@dataclass(slots=True)
class _Draft:
    """A notification that is being built."""

    notified: Notified
    at: float
    every_seconds: float
    parts: list[tuple[Tone, str, str]] = field(default_factory=list)

    def may(self, matter: str) -> bool:
        """Whether to notify about a matter now; if so, record the time."""
        last = self.notified.last.get(matter)
        if last is not None and 0 <= self.at - last < self.every_seconds:
            return False
        kept = {
            m: at for m, at in self.notified.last.items() if 0 <= self.at - at < self.every_seconds
        }
        self.notified = replace(self.notified, last={**kept, matter: self.at})
        return True

    def add(self, tone: Tone, title: str, body: str) -> None:
        self.parts.append((tone, title, body))

    def notice(self) -> Notice | None:
        if not self.parts:
            return None
        tones = {tone for tone, _, _ in self.parts}
        worst = next(tone for tone in Tone if tone in tones)
        title = "; ".join(title for _, title, _ in self.parts)
        title = title[0].upper() + title[1:]
        return Notice(title, "\n\n".join(body for _, _, body in self.parts), worst)
