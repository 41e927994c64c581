"""Stripe's payment events that a webhook endpoint did not accept: number, age, meaning.

Pure. Stripe reports that an event was not delivered to at least one endpoint, but not to which one
(source: Stripe's documentation of `GET /v1/events`). Does not belong here: reading the events
(`sync.pull`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from syncd.text.timestamps import day, minute
from syncd.text.wording import counted

FRESH_SECONDS = 3_600
"""Events younger than this many seconds may still be delivered: Stripe retries for days."""

EVENTS_DAYS = 30
"""How long Stripe keeps events, in seconds (source: Stripe's documentation)."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Payment events of the last 30 days that at least one webhook endpoint has not accepted.

    Attributes:
        read_at: when Stripe was asked, Unix seconds.
        number: how many events; a lower bound if not all were read.
        fresh: how many of them are younger than FRESH_SECONDS.
        complete: whether all were read.
        oldest_at: when the oldest event that was read was created, Unix seconds; None without
            events.
        oldest_type: the event type of the oldest event.
        oldest_intent: the payment of the oldest event; None if the event does not name one.
    """

    read_at: int
    number: int = 0
    fresh: int = 0
    complete: bool = True
    oldest_at: int | None = None
    oldest_type: str | None = None
    oldest_intent: str | None = None

    @property
    def found(self) -> str:
        """How many events there are, and the oldest one, for people."""
        if not self.number:
            return f"no payment event of the last {EVENTS_DAYS} days waits for a webhook endpoint"
        least = "" if self.complete else "at least "
        verb = "was" if self.number == 1 else "were"
        text = (
            f"{least}{counted(self.number, 'payment event')} of the last {EVENTS_DAYS} days {verb} not "
            "delivered to at least one webhook endpoint"
        )
        if self.oldest_at is not None:
            named = f" of {self.oldest_intent}" if self.oldest_intent else ""
            which = "the oldest" if self.complete else "the oldest that syncd read"
            text += f"; {which}: {self.oldest_type}{named}, {minute(self.oldest_at)}"
        if self.fresh:
            text += f"; {self.fresh:,} in the last hour, which Stripe may still be delivering"
        return text

    @property
    def meaning(self) -> str:
        """What the undelivered events mean for Halo, for people; empty if nothing is missing."""
        if not self.number:
            return ""
        since = self.oldest_at if self.complete else self.read_at - EVENTS_DAYS * 86_400
        return (
            "Stripe does not say whose endpoint it is. If it is Halo's, Halo's own webhook did not update "
            "these payments; syncd does, from its first poll on. To compare the payments before that: "
            f"syncd audit --since {day(since)}"
        )


def add(known: Undelivered, events: Iterable[tuple[int, str, str | None]]) -> Undelivered:
    """Count more events, each with its time (Unix seconds), type and payment."""
    found = list(events)
    if not found:
        return known
    at, kind, intent_id = min(found, key=lambda one: one[0])
    number = known.number + len(found)
    fresh = known.fresh + sum(known.read_at - when < FRESH_SECONDS for when, _, _ in found)
    if known.oldest_at is not None and known.oldest_at <= at:
        at, kind, intent_id = known.oldest_at, known.oldest_type or kind, known.oldest_intent
    return Undelivered(known.read_at, number, fresh, known.complete, at, kind, intent_id)
