"""Tell systemd how we are: the protocol of sd_notify, which is one datagram a message."""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

SEND_SECONDS_MAX = 0.2
"""A manager whose queue is full is waited for so long, lest the service stands still with it."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """Sends messages to the service manager; does nothing where there is none.

    Attributes:
        address: of the socket, from ``NOTIFY_SOCKET``.
        watchdog_seconds: how soon the manager expects a sign of life; None where it doesn't.
    """

    address: str | None
    watchdog_seconds: float | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Notifier":
        """Read what the manager told us."""
        usec = environment.get("WATCHDOG_USEC", "")
        for_us = environment.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        return cls(
            environment.get("NOTIFY_SOCKET") or None,
            int(usec) / 1_000_000 if usec.isdigit() and for_us else None,
        )

    def send(self, *lines: str) -> None:
        """Send one message. A manager that is gone, or doesn't listen, is no reason to fail."""
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
        """Say that the service does its work."""
        self.send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that the configuration is being read again (the time is needed from 253 on)."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self.send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def status(self, text: str) -> None:
        """Say what `systemctl status` shows."""
        self.send(f"STATUS={text}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self.send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that we end."""
        self.send("STOPPING=1", "STATUS=Stopping.")
