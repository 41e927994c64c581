"""Allows one service per database: a second service reports the first one and ends.

Two services with one database would not harm payments, because one process pushes at a time. But
both would use requests, and one of them runs by mistake. The claim is a lease in the database.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from syncd.config.model import ConfigurationError
from syncd.core.errors import LeaseHeld, StoreUnusable
from syncd.core.records import Holder
from syncd.monitor.report import Report
from syncd.store.store import Store
from syncd.sync.lease import Lease, this_process

CLAIM = "service"
CLAIM_SECONDS = 75.0
"""How long a claim counts without renewal, in seconds, if its process cannot be seen from here."""

LOOK_SECONDS = 1.0


@dataclass(slots=True)
class Instance:
    """This service's claim on its database.

    Attributes:
        url: the database.
        now: Unix seconds.
        sleep: waits for some seconds; raises Stopping when the process is asked to stop.
    """

    store: Store
    url: str
    report: Report
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    _lease: Lease = field(init=False)
    _claimed: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._lease = Lease(
            self.store, this_process("the service"), self.now, name=CLAIM, seconds=CLAIM_SECONDS
        )

    async def claim(self) -> None:
        """Claim the database; wait for a claim whose service may have died on another host.

        Raises:
            ConfigurationError: another service uses the database.
            Stopping: the process is asked to stop while it waits.
        """
        first: float | None = None
        while True:
            try:
                self._lease.take()
            except LeaseHeld:
                held = self.store.coordination.holder(CLAIM)
            else:
                self._claimed = True
                return
            if held is None:
                continue
            holder, until = held
            if self._is_visible(holder) or (first is not None and until > first):
                message = (
                    f"state.url: another syncd service, {holder.described}, uses this database "
                    f"({self.url}). Stop that service, or give this one a database of its own"
                )
                raise ConfigurationError([message])
            if first is None:
                first = until
                self.report.log("info", "waiting_for_other", holder=holder.described)
            await self.sleep(LOOK_SECONDS)

    def renew(self) -> None:
        """Renew the claim.

        Raises:
            StoreUnusable: another service has taken the database over.
            StoreUnavailable: the database is locked, or its disk is full.
        """
        if not self._claimed:
            return
        try:
            self._lease.renew()
        except LeaseHeld:
            self._claimed = False
            held = self.store.coordination.holder(CLAIM)
            if held is None:
                self._lease.take()
                self._claimed = True
                return
            message = (
                f"Another syncd service, {held[0].described}, has taken over the database "
                f"{self.url} while this one did not run. Stop one of them."
            )
            raise StoreUnusable(message) from None

    def release(self) -> None:
        """Let another service claim the database at once."""
        if self._claimed:
            self._claimed = False
            self._lease.give_back()

    def _is_visible(self, holder: Holder) -> bool:
        """Whether the holder runs on this machine, so that syncd can see whether it is alive."""
        me = self._lease.me
        return (holder.host, holder.boot) == (me.host, me.boot)
