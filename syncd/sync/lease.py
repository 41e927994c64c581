"""The push lease: the lock that lets one process push at a time.

The lease is in the database, so that the service and a backfill see each other. It expires if it is not
renewed. A lease whose process has ended on this machine does not count, so that a service that crashed
continues as soon as it is restarted.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from syncd.core.errors import LeaseHeld
from syncd.core.records import Fence, Holder
from syncd.store.db.leases import PUSH
from syncd.store.store import Store

LEASE_SECONDS = 120.0
"""How long a lease lasts without renewal, in seconds; longer than any request may take."""

KEPT_SHARE = 1 / 6
"""A lease is renewed after this share of its time, because each renewal is a commit."""


def this_process(what: str) -> Holder:
    """Describe this process; `what` is the command that it runs."""
    return Holder(uuid4().hex, what, socket.gethostname(), _machine(), os.getpid())


def _machine() -> str:
    """The machine and the namespace of process ids: containers of one machine have several.

    systemd's ProcSubset=pid hides /proc/sys from the service, but not from a command in a shell, so
    the machine's id comes first. Without an id, no other process counts as a process of this
    machine.
    """
    for file in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        with suppress(OSError, UnicodeError):
            if name := Path(file).read_text("ascii").strip():
                return f"{name[:40]} {Path('/proc/self/ns/pid').readlink()}"
    return uuid4().hex


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is still running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(slots=True)
class Lease:
    """An exclusive right that lasts as long as it is renewed.

    Attributes:
        alive: whether a process of this machine is still running.
        name: the lease's name; by default the push lease.
        seconds: how long the lease lasts without renewal.
        requires: another lease that the process must hold to take this one.
        fence: what transactions check while the lease is held; None before it was taken.
    """

    store: Store
    me: Holder
    now: Callable[[], float]
    alive: Callable[[int], bool] = is_alive
    name: str = PUSH
    seconds: float = LEASE_SECONDS
    requires: Callable[[], Fence | None] = lambda: None
    fence: Fence | None = field(init=False, default=None)
    _held: bool = field(init=False, default=False)
    _renewed: float = field(init=False, default=0.0)

    def take(self) -> None:
        """Take the lease, or renew it.

        Raises:
            LeaseHeld: another process pushes, or leads.
        """
        taken = self.store.coordination.take_lease(
            self.name,
            self.me,
            self.now(),
            self.seconds,
            free=self._is_free,
            requires=self.requires(),
        )
        if isinstance(taken, Holder):
            raise LeaseHeld(taken.described)
        self.fence, self._held, self._renewed = taken, True, self.now()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the lease, and give it back at the end. Raises as `take`."""
        self.take()
        try:
            yield
        finally:
            self.give_back()

    def renew(self) -> None:
        """Renew the lease.

        An expired lease can be renewed as long as no other process has taken it. If another process
        has taken the lease, this process may have outdated data, even if the other process has
        ended. Then this push must start again.

        Raises:
            LeaseHeld: another process has taken the lease.
        """
        if not self.store.coordination.renew_lease(self.name, self.me, self.now(), self.seconds):
            raise LeaseHeld("another process, which took over because this one took too long,")
        self._renewed = self.now()

    @property
    def renewing(self) -> Fence | None:
        """The fence of a transaction that also renews the lease; `renewed` must follow."""
        return None if self.fence is None else replace(self.fence, renew_seconds=self.seconds)

    def renewed(self) -> None:
        """Record that a transaction has renewed the lease."""
        self._renewed = self.now()

    def keep(self) -> None:
        """Renew the lease when necessary, if this process holds it; called while it reads or waits.

        Right before a write, a transaction checks that the lease is still held (`fence`). Raises as
        `renew`.
        """
        if self._held and not 0 <= self.now() - self._renewed < self.seconds * KEPT_SHARE:
            self.renew()

    def give_back(self) -> None:
        """Release the lease, so that another process can push."""
        self._held = False
        self.store.coordination.give_lease(self.name, self.me)

    def _is_free(self, holder: Holder, until: float, now: float) -> bool:
        if holder.host == self.me.host and holder.boot == self.me.boot:
            # The local process id belongs to this process, or to a process that has ended.
            if holder.pid == self.me.pid or not self.alive(holder.pid):
                return True
        elif until > now + 2 * self.seconds:
            return True  # written before the clock was set back by more than a small step
        return until <= now
