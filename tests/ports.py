"""Free ports for processes that must be told their port before they start.

The kernel gives ports from 32768 on to whoever asks for any port, and to outgoing connections: a port of
those may be taken before the process listens on it. So these are below, and each worker of the tests has
its own thousand.
"""

import itertools
import os
import random
import socket

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12
_FIRST = 20_000 + 1_000 * _WORKER
_numbers = itertools.count(random.SystemRandom().randrange(1_000))


def free_port() -> int:
    """A port of loopback that nobody listens on, and that no other test is given."""
    while True:
        port = _FIRST + next(_numbers) % 1_000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
