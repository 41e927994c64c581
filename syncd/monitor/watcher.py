"""Updates the overall status after each step, and sends notifications and the heartbeat.

`alerts` decides; this module reads the status, stores what was sent, and sends in the background. Polls
and pushes never wait for it, and a failure here never reaches them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from syncd.config.model import Config
from syncd.core.errors import Side, StoreUnavailable
from syncd.core.records import AttentionEntry
from syncd.core.windows import NOTIFY_AGAIN
from syncd.monitor.alerts import (
    HealthReading,
    HealthState,
    Notice,
    Notified,
    Rules,
    assess,
    judge,
)
from syncd.monitor.delivery import ping, send
from syncd.monitor.health import Check
from syncd.monitor.report import Report
from syncd.monitor.status import Status, gather
from syncd.store.coordination import GapNote
from syncd.store.db.notes import Note
from syncd.store.store import Store
from syncd.text.sanitize import without_secrets
from syncd.text.timestamps import minute

HEALTH = Note("standing", TypeAdapter(HealthState))
"""The overall status, and since when."""

NOTIFIED = Note("told", TypeAdapter(Notified))
"""What was sent before."""

ATTENTION_MAX = 500
"""How many entries of the attention list are watched one by one, newest first."""

END_SECONDS = 1.0
"""How many seconds the service waits at its end for a notification that is being sent."""


@dataclass(slots=True)
class Watch:
    """Watches one service.

    Attributes:
        config: the present configuration.
        checks: the checks of `/readyz`.
        budgets: requests left, by side.
        polled_at: Unix seconds of the last poll that worked; None if no poll has worked yet.
        now: Unix seconds.
        transport: sends the heartbeat in tests.
    """

    store: Store
    report: Report
    config: Callable[[], Config]
    checks: Callable[[], Mapping[str, Check]]
    budgets: Callable[[], Mapping[str, int]]
    polled_at: Callable[[], float | None]
    now: Callable[[], float]
    transport: Any = None
    health: HealthState = field(init=False, default=HealthState())
    _notified: Notified = field(init=False, default=Notified())
    _remembered: bool = field(init=False, default=False)
    _tasks: dict[str, asyncio.Task[Any]] = field(init=False, default_factory=dict)
    _pinged: float | None = field(init=False, default=None)
    _failures: int = field(init=False, default=0)
    _wait_until: float = field(init=False, default=0.0)
    _closed: bool = field(init=False, default=False)
    _takeover: str | None = field(init=False, default=None)

    def update(self) -> None:
        """Read the status, store the overall status, and start to send due notifications."""
        if self._closed:
            return
        with suppress(StoreUnavailable):  # a check reports the failure; the former status stays
            self._remember()
            reading, rules = self._reading(), rules_of(self.config())
            health = assess(self.health, reading, rules)
            if health != self.health:
                self.health = health
                self.store.write(HEALTH, health)
            self._tell(reading, rules)
        self._beat()

    def took_over(self, how: str) -> None:
        """Notify at the next update that this service has taken over from another one (`how`)."""
        self._takeover, self._remembered = how, False  # the former leader has notified

    async def close(self) -> None:
        """Wait a moment for notifications that are being sent, then cancel them."""
        self._closed = True
        tasks = set(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=END_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # --- reading -------------------------------------------------------------------------------

    def _reading(self) -> HealthReading:
        status = gather(
            self.config(), self.store, self.now(), checks=self.checks(), left=self.budgets()
        )
        lines = self.store.people.attention(ATTENTION_MAX) if status.attention_counts else []
        return HealthReading(
            at=status.now,
            failing={name: check.failing for name, check in status.checks.items() if not check.ok},
            attention={line.id: _line(line) for line in lines[:ATTENTION_MAX]},
            attention_counts=status.attention_counts,
            gap=_gap_of(status.gap),
            takeover=self._takeover,
            budgets=_budgets_to_judge(status),
        )

    def _remember(self) -> None:
        """Read once what was stored before a restart."""
        if self._remembered:
            return
        self.health = self.store.read(HEALTH) or self.health
        self._notified = self.store.read(NOTIFIED) or self._notified
        self._remembered = True

    # --- sending -------------------------------------------------------------------------------

    def _tell(self, reading: HealthReading, rules: Rules) -> None:
        urls = self.config().notify_urls
        # A clock that was set back does not make the wait longer.
        waiting = 0 < self._wait_until - reading.at <= NOTIFY_AGAIN.waits_seconds[-1]
        if not urls or waiting or self._busy("telling"):
            return
        notified, notice = judge(self._notified, self.health, reading, rules)
        if notice is not None:
            self._begin("telling", self._deliver(notice, urls, notified))
        elif notified != self._notified:
            self._keep(notified)

    async def _deliver(self, notice: Notice, urls: tuple[str, ...], notified: Notified) -> None:
        config = self.config()
        ours = (config.stripe_api_key, config.halo_client_secret, config.web_token)
        safe = replace(
            notice,
            title=f"syncd ({config.halo.url.partition('://')[2]}): {notice.title}",
            body=without_secrets(notice.body, ours),
        )
        takeover = self._takeover
        if await send(safe, urls, self.report):
            if self._takeover is takeover:
                self._takeover = None
            self._failures, self._wait_until = 0, 0.0
            with suppress(StoreUnavailable):
                self._keep(notified)
            return
        # No service accepted the notification, so it stays due; retry with backoff.
        pause = NOTIFY_AGAIN.wait_seconds(self._failures)
        self._failures += 1
        self._wait_until = self.now() + pause

    def _keep(self, notified: Notified) -> None:
        self._notified = notified
        self.store.write(NOTIFIED, notified)

    def _beat(self) -> None:
        url, polled = self.config().heartbeat_url, self.polled_at()
        if url and polled is not None and polled != self._pinged and not self._busy("heartbeat"):
            self._pinged = polled
            self._begin("heartbeat", ping(url, self.report, self.transport))

    def _busy(self, name: str) -> bool:
        return name in self._tasks

    def _begin(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))

    def _ended(self, name: str, task: asyncio.Task[Any]) -> None:
        del self._tasks[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report.log("error", "fault", text=f"{name}: {type(error).__name__}")


def rules_of(config: Config) -> Rules:
    """The rules for notifications, from the configuration."""
    return Rules(config.stale_seconds, config.notify.every, config.notify.budget_low)


def _line(line: AttentionEntry) -> str:
    """The text about an entry: the invoice's number first, because people search for it."""
    names = ", ".join(invoice.name for invoice in line.invoices)
    return f"{names}. {line.reason}" if names else line.reason


PLANNER_LEAVES = 0.01
"""The share of Stripe's budget that syncd always keeps if poll.interval is "auto"."""


def _budgets_to_judge(status: Status) -> dict[str, tuple[int, int]]:
    """The budgets; Stripe's counts as full while the planner that uses it is on schedule."""
    budgets = dict(status.budgets)
    left, allowed = budgets[Side.STRIPE]
    if status.polls is not None and not status.polls.scarce and left > PLANNER_LEAVES * allowed:
        budgets[Side.STRIPE] = allowed, allowed
    return budgets


def _gap_of(gap: GapNote | None) -> tuple[int, str] | None:
    if gap is None:
        return None
    first, last = minute(gap.start), minute(gap.end)
    return gap.filled_at, (
        f"syncd did not poll Stripe from {first} to {last}, longer than Stripe keeps events. syncd "
        f"read {gap.intents} payment intents instead. They do not show every change: compare Stripe "
        f"and Halo with: syncd audit --since {first[:10]}"
    )
