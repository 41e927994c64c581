"""The protocol of sd_notify, over a real socket."""

import socket
import time
from pathlib import Path

from syncd.service.systemd import SEND_SECONDS_MAX, Notifier


def test_a_manager_that_does_not_read(tmp_path: Path) -> None:
    """Messages to a service manager that stops reading are dropped, and the service continues."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        notifier = Notifier(address)
        deadline = time.monotonic() + 60
        dropped = 0
        while dropped < 1 and time.monotonic() < deadline:  # the kernel's queue has space at first
            began = time.monotonic()
            notifier.alive()
            dropped += time.monotonic() - began >= SEND_SECONDS_MAX
        assert dropped == 1
        assert manager.recv(100) == b"WATCHDOG=1"
