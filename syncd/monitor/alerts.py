"""What is worth telling people, and when: decided from what was known and what is read now.

Pure: no clock, no network. A matter is told once, and again only when it has grown or come back;
about each matter at most one message goes out in `Rules.every_seconds`, and what happened meanwhile
stands in it. All that is to be told at one moment goes into one message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from syncd.text.timestamps import duration
from syncd.text.wording import check_name, counted, needing, sentence

LISTED_MAX = 10
"""So many payments are named in a message; the rest is counted."""

HALO_LOW_SECONDS = 3_600
"""Halo's window is full for minutes at every backfill; only a long time of it is news."""


class Health(StrEnum):
    """How it stands, at a glance; the worst that applies."""

    STARTING = "starting"
    WELL = "well"
    ATTENTION = "attention"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class FailingCheck:
    """A check that fails.

    Attributes:
        text: why, for people.
        worked_at: Unix seconds when it last worked; None where that isn't known.
        starting: whether the process is so young that this says nothing yet.
        busy: whether nothing is known to have failed; then `text` says for how long nothing worked.
    """

    text: str
    worked_at: float | None = None
    starting: bool = False
    busy: bool = False


@dataclass(frozen=True, slots=True)
class HealthReading:
    """How everything is at one moment.

    Attributes:
        at: Unix seconds.
        failing: the checks that fail, by name.
        attention: the newest lines of the attention list: id to what is said of it.
        attention_counts: how many lines it has in all, by kind.
        gap: of the gap that was filled last: when (Unix seconds), and what to say of it.
        budgets: requests left and allowed, by side.
    """

    at: float
    failing: Mapping[str, FailingCheck] = field(default_factory=dict)
    attention: Mapping[str, str] = field(default_factory=dict)
    attention_counts: Mapping[str, int] = field(default_factory=dict)
    gap: tuple[int, str] | None = None
    budgets: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def attention_count(self) -> int:
        """How many lines the attention list has in all."""
        return sum(self.attention_counts.values())


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator wants to hear, and how often.

    Attributes:
        stale_seconds: a check that has failed for so long is news.
        every_seconds: the least time between two messages about one matter.
        budget_low: the share of a budget below which it is low.
    """

    stale_seconds: float
    every_seconds: float
    budget_low: float


@dataclass(frozen=True, slots=True)
class HealthState:
    """How it stands, and since when (Unix seconds).

    Attributes:
        level: how.
        since: since when.
        failing: since when each check has been failing.
        low: since when each budget has been low.
    """

    level: Health = Health.STARTING
    since: float = 0.0
    failing: Mapping[str, float] = field(default_factory=dict)
    low: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notified:
    """What people have been told.

    Attributes:
        attention: ids on the attention list.
        failing: checks.
        low: budgets.
        gap: when the gap was filled that was told last, Unix seconds.
        last: when each matter was told last, Unix seconds.
    """

    attention: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    low: frozenset[str] = frozenset()
    gap: int = 0
    last: Mapping[str, float] = field(default_factory=dict)


class Tone(StrEnum):
    """What kind of news a message brings."""

    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message."""

    title: str
    body: str
    tone: Tone


def assess(before: HealthState, reading: HealthReading, rules: Rules) -> HealthState:
    """How it stands now; `since` moves only when the level changes."""
    # A time ahead of now was written down before the clock was set back.
    failing = {name: min(before.failing.get(name, reading.at), reading.at)
               for name in reading.failing}  # fmt: skip
    low = {side: min(before.low.get(side, reading.at), reading.at)
           for side, (left, limit) in reading.budgets.items() if left < rules.budget_low * limit}  # fmt: skip
    level = level_of(reading.failing, reading.attention_count)
    since = min(before.since, reading.at) if level is before.level else reading.at
    return HealthState(level, since, failing, low)


def level_of(failing: Mapping[str, FailingCheck], attention_count: int) -> Health:
    """The worst that applies."""
    if any(not check.starting for check in failing.values()):
        return Health.FAILING
    if failing:
        return Health.STARTING
    return Health.ATTENTION if attention_count else Health.WELL


def judge(notified: Notified, health: HealthState, reading: HealthReading, rules: Rules) -> tuple[Notified, Notice | None]:  # fmt: skip
    """What to tell now, and what people have been told once that was delivered.

    Args:
        notified: what people have been told so far.
        health: how it stands at the moment of the reading.
        reading: how everything is.
        rules: what to tell, and how often.
    """
    draft = _Draft(notified, reading.at, rules.every_seconds)
    for name, check in reading.failing.items():
        since = health.failing[name] if check.worked_at is None else check.worked_at
        stuck = reading.at - since >= rules.stale_seconds
        if stuck and name not in notified.failing and draft.may(f"failing {name}"):
            long = "" if check.busy else f"nothing has worked for {duration(reading.at - since)}. "
            draft.add(
                Tone.FAILURE, f"{check_name(name)} doesn't work",
                f"{check_name(name)}: {long}{sentence(check.text) if long else f'{check.text}.'} "
                "syncd goes on trying, and nothing is lost; see syncd status.",
            )  # fmt: skip
            draft.notified = replace(draft.notified, failing=draft.notified.failing | {name})
    for name in sorted(notified.failing - reading.failing.keys()):
        again = f"{check_name(name)} works again"
        draft.add(Tone.SUCCESS, again, f"{again}.")
        draft.notified = replace(draft.notified, failing=draft.notified.failing - {name})
    _judge_attention(draft, reading)
    if reading.gap is not None and reading.gap[0] != notified.gap and draft.may("gap"):
        draft.add(Tone.WARNING, "a gap was filled", reading.gap[1])
        draft.notified = replace(draft.notified, gap=reading.gap[0])
    _judge_budgets(draft, health, reading, rules)
    return draft.notified, draft.notice()


def _judge_attention(draft: "_Draft", reading: HealthReading) -> None:
    here = frozenset(reading.attention)
    new = [name for name in reading.attention if name not in draft.notified.attention]
    if not new or not draft.may("attention"):
        # What has left the list is news again when it comes back.
        draft.notified = replace(draft.notified, attention=draft.notified.attention & here)
        return
    lines = [f"- {name}: {reading.attention[name]}" for name in new[:LISTED_MAX]]
    if len(new) > LISTED_MAX:
        lines.append(f"- and {len(new) - LISTED_MAX} more")
    heading = f"{counted(len(new), 'more line')} on the attention list, {reading.attention_count} in all"  # fmt: skip
    ending = "See them all with: syncd attention"
    draft.add(
        Tone.WARNING,
        needing(reading.attention_counts),
        "\n".join([f"{heading}:", *lines, ending]),
    )  # fmt: skip
    draft.notified = replace(draft.notified, attention=here)


def _judge_budgets(
    draft: "_Draft", health: HealthState, reading: HealthReading, rules: Rules
) -> None:
    for side, (left, limit) in reading.budgets.items():
        if side in health.low:
            lasting = side != "halo" or reading.at - health.low[side] >= HALO_LOW_SECONDS
            if lasting and side not in draft.notified.low and draft.may(f"low {side}"):
                draft.add(Tone.WARNING, f"few requests to {check_name(side)} are left", _LOW[side].format(left=left, limit=limit))  # fmt: skip
                draft.notified = replace(draft.notified, low=draft.notified.low | {side})
        elif left >= 2 * rules.budget_low * limit:  # well above: a level that wavers is told once
            draft.notified = replace(draft.notified, low=draft.notified.low - {side})


_LOW = {
    "stripe": "{left:,} of the {limit:,} reads of Stripe that stripe.read_budget allows in 30 days are "
    "left. Polls grow rare before they end. A longer poll.interval needs fewer; raise "
    "stripe.read_budget only where Stripe grants you more.",
    "halo": "{left:,} of the {limit:,} requests to Halo that halo.rate_limit allows in 5 minutes are "
    "left, and it has been so for an hour. Pushes wait for room; nothing is lost. A backfill that "
    "is under way explains it.",
}


@dataclass(slots=True)
class _Draft:
    """A message while it is put together."""

    notified: Notified
    at: float
    every_seconds: float
    parts: list[tuple[Tone, str, str]] = field(default_factory=list)

    def may(self, matter: str) -> bool:
        """Whether a matter may be told now; if so, note that it was."""
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


def notified_from_note(raw: Mapping[str, Any]) -> Notified:
    """What people have been told, out of what `notified_as_note` made of it."""
    return Notified(
        frozenset(raw["attention"]), frozenset(raw["failing"]), frozenset(raw["low"]), raw["gap"],
        dict(raw["last"]),
    )  # fmt: skip


def notified_as_note(notified: Notified) -> dict[str, Any]:
    """What people have been told, as plain lists and numbers."""
    return {
        "attention": sorted(notified.attention), "failing": sorted(notified.failing),
        "low": sorted(notified.low), "gap": notified.gap, "last": dict(notified.last),
    }  # fmt: skip


def health_from_note(raw: Mapping[str, Any]) -> HealthState:
    """How it stands, out of what `health_as_note` made of it."""
    return HealthState(Health(raw["level"]), raw["since"], dict(raw["failing"]), dict(raw["low"]))


def health_as_note(health: HealthState) -> dict[str, Any]:
    """How it stands, as plain words and numbers."""
    return {
        "level": str(health.level), "since": health.since, "failing": dict(health.failing),
        "low": dict(health.low),
    }  # fmt: skip
