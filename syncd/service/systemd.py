"""Reports the service's state to systemd (source: sd_notify(3)): one datagram per message."""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

SEND_SECONDS_MAX = 0.2
"""How long to wait for a service manager whose queue is full; a longer wait would block syncd."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends messages to the service manager; a no-op without one.

    Attributes:
        address: of the socket, from ``NOTIFY_SOCKET``.
    """

    address: str | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Notifier":
        """Read the variable that the service manager sets."""
        return cls(environment.get("NOTIFY_SOCKET") or None)

    def send(self, *lines: str) -> None:
        """Send one message; a service manager that does not answer is ignored."""
        if self.address is None:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(SEND_SECONDS_MAX)
            try:
                sock.connect(address)
                sock.sendall("\n".join(lines).encode())
            except OSError:
                return

    def ready(self, status: str) -> None:
        """Report that the service has started."""
        self.send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Report that the configuration is being reloaded (systemd 253 and newer need the time)."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self.send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def status(self, text: str) -> None:
        """Set the text that `systemctl status` shows."""
        self.send(f"STATUS={text}")

    def alive(self) -> None:
        """Notify the watchdog."""
        self.send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the service stops."""
        self.send("STOPPING=1", "STATUS=Stopping.")
