"""Free ports for processes that need to know their port before they start.

The kernel assigns ports from 32768 on to listeners without a port and to outgoing connections, so such
a port may be in use before the process listens on it. So the tests use lower ports, and each worker has
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
    """Return a free port of the loopback address that no other test gets."""
    while True:
        port = _FIRST + next(_numbers) % 1_000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
