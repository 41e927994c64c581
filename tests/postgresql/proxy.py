"""A link to the server that can be cut: a proxy that stops to carry what it gets."""

import contextlib
import socket
import threading
import time


class Proxy:
    """Carries connections to a port.

    Args:
        target: the port to connect to.
        host: its address.
        listen: the address to listen on.
        port: the port to listen on; 0 for any.

    Attributes:
        port: where it listens.
        cut: while set, nothing is carried and nothing is closed, as where a network drops packets.
    """

    def __init__(
        self, target: int, host: str = "127.0.0.1", listen: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.cut = threading.Event()
        self._target = (host, target)
        self._listener = socket.create_server((listen, port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        """Connect on behalf of a client; other clients do not wait for it."""
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                while self.cut.is_set():
                    time.sleep(0.05)
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        one.close()  # each of the two threads closes its own
