"""Several services with one PostgreSQL database: one leads, the others are on standby.

The right to lead is a lease in the database. Its times come from the server's clock, so that hosts
with different clocks agree. A service that cannot renew its lease stops before the lease ends;
another service takes over after the end. A service that was suspended in the meantime notices at
its next write: a write needs the push lease, which cannot be taken or renewed after another service
has taken over.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from syncd.core.errors import StoreUnavailable
from syncd.core.records import Fence, Holder
from syncd.monitor.health import Check
from syncd.monitor.report import Report
from syncd.store.db.leases import LEADER, Leading
from syncd.store.store import Store
from syncd.sync.lease import is_alive, this_process
from syncd.text.timestamps import iso

LEASE_SHARE, LOOK_SHARE = 2 / 3, 1 / 6
"""Shares of the takeover time: how long the lease lasts, and how often it is renewed."""

LEASE_SECONDS_MAX = 900.0
"""The longest lease, in seconds, because `state.takeover_after` is limited."""

LOOK_SECONDS_MAX = 1.0
"""The longest time between two checks of a standby: a service that stops hands over within it."""


class Role(StrEnum):
    """The role of a service."""

    LEADING = "leading"
    STANDBY = "standby"


@dataclass(slots=True)
class Leadership:
    """The role of this service among several.

    Attributes:
        takeover_seconds: how soon a standby must lead after the leader has died.
        now: Unix seconds by this host's clock; used only if the database has no clock.
        monotonic: seconds of a clock that is never set.
        prepare: called before this service leads; if it fails, the service does not lead.
        on_lead: called when this service starts to lead, with the reason (None: it waited for
            nobody).
        on_loss: called when this service no longer leads.
        alive: whether a process of this machine is still running.
        role: the present role of this service.
        trouble: why the database cannot be used; None while it works.
        leading: who leads and since when, as last read.
    """

    store: Store
    takeover_seconds: float
    report: Report
    now: Callable[[], float]
    monotonic: Callable[[], float]
    prepare: Callable[[], Awaitable[None]]
    on_lead: Callable[[str | None], None]
    on_loss: Callable[[], None]
    me: Holder = field(default_factory=lambda: this_process("the service"))
    alive: Callable[[int], bool] = is_alive
    role: Role = field(init=False, default=Role.STANDBY)
    trouble: str | None = field(init=False, default=None)
    leading: Leading | None = field(init=False, default=None)
    fence: Fence = field(init=False)
    _confirmed: float = field(init=False, default=0.0)
    _noted: float | None = field(init=False, default=None)
    _stood_by: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        # Before it has led, and after another has led, a service has no valid lease.
        self.fence = Fence(LEADER, self.me.owner, 0)

    @property
    def leads(self) -> bool:
        """Whether this service may start a step now: its lease has certainly not ended."""
        held = self.monotonic() - self._confirmed < self._lease_seconds
        return self.role is Role.LEADING and held

    @property
    def _lease_seconds(self) -> float:
        return self.takeover_seconds * LEASE_SHARE

    @property
    def _renew_seconds(self) -> float:
        return self.takeover_seconds * LOOK_SHARE

    @property
    def look_seconds(self) -> float:
        """How long to wait between two calls of `look`, in seconds."""
        return min(LOOK_SECONDS_MAX, self._renew_seconds)

    async def look(self) -> None:
        """Renew the lease, or take it if nobody leads; record a database that does not answer.

        Raises:
            StoreUnusable: the database is damaged.
        """
        try:
            if self.role is Role.LEADING:
                self._renew()
            else:
                await self._try()
        except StoreUnavailable as error:
            if self.trouble is None:
                self.report.log("error", "store_busy", reason=str(error))
            self.trouble = str(error)
            if self.role is Role.LEADING and not self.leads:
                self._lose("the service could not reach the database for too long")

    def _renew(self) -> None:
        begun = self.monotonic()
        if self.trouble is None and begun - self._confirmed < self._renew_seconds:
            return
        if not self.store.coordination.renew_lease(
            LEADER, self.me, self.now(), self._lease_seconds
        ):
            self._lose("another service has taken over")
            return
        self._confirmed, self.trouble = begun, None

    async def _try(self) -> None:
        begun = self.monotonic()
        found = self.store.coordination.leading()
        self.trouble, self.leading = None, found
        if found is not None and not self._is_free(found.holder, found.until, found.at):
            self._stood_by = True
            self._note_standby(begun)
            return
        former = None if found is None or found.until == 0 else found.holder
        taken = self.store.coordination.take_lease(
            LEADER, self.me, self.now(), self._lease_seconds, free=self._is_free, evict=True
        )
        if isinstance(taken, Holder):
            return
        self.fence, self._confirmed = taken, begun
        self.leading = self.store.coordination.leading()
        await self.prepare()
        self.role = Role.LEADING
        how = None
        if self._stood_by:
            gone = (
                "the former leader was stopped"
                if former is None
                else f"{former.described} no longer answers"
            )
            how = f"{self.me.described} has led since {iso(self._since)}: {gone}"
        self._stood_by = False
        self.report.log("warning" if how else "info", "leading", number=taken.number, reason=how)
        self.on_lead(how)

    def _note_standby(self, begun: float) -> None:
        if self._noted is None:
            self.report.log("info", "standing_by", leader=self._leader)
        if self._noted is None or begun - self._noted >= self._renew_seconds:
            seconds = self.takeover_seconds
            self.store.coordination.note_standby(self.me, self.now(), seconds)
            self._noted = begun

    def _lose(self, reason: str) -> None:
        self.role, self._noted = Role.STANDBY, None
        self.report.log("warning", "lead_lost", reason=reason)
        self.on_loss()

    def release(self) -> None:
        """Hand over: a standby may lead at once."""
        self.role = Role.STANDBY
        self.store.coordination.hand_over(self.me)

    @property
    def _leader(self) -> str:
        return "nobody" if self.leading is None else self.leading.holder.described

    @property
    def _since(self) -> float:
        return self.now() if self.leading is None else self.leading.since

    def check(self) -> Check:
        """The role, for `/readyz` and the page."""
        if self.leads:
            return Check(True, f"has led since {iso(self._since)}")
        if self.leading is None or self.role is Role.LEADING:
            return Check(True, "is a standby, and no service is known to lead")
        return Check(True, f"stands by; {self._leader} has led since {iso(self._since)}")

    def _is_free(self, holder: Holder, until: float, at: float) -> bool:
        """Whether a lease has ended, or was written before the database's clock was set back."""
        if until > at + LEASE_SECONDS_MAX:
            return True
        if (holder.host, holder.boot) == (self.me.host, self.me.boot) and until:
            return until <= at or holder.pid == self.me.pid or not self.alive(holder.pid)
        return until <= at
