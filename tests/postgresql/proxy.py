"""A link to a server that can be cut: a proxy that stops forwarding data."""

import contextlib
import socket
import threading
import time


class Proxy:
    """Forwards connections to a port.

    Args:
        target: the port to connect to.
        host: the address to connect to.
        listen: the address to listen on.
        port: the port to listen on; 0 for any.

    Attributes:
        port: the port on which the proxy listens.
        cut: while set, no data is forwarded and no connection is closed, as if packets were dropped.
    """

    def __init__(
        self, target: int, host: str = "127.0.0.1", listen: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.cut = threading.Event()
        self._target = (host, target)
        self._left: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((listen, port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def left(self) -> int:
        """Connections on which something that was sent may not have arrived yet.

        Either the proxy still connects, or the client is gone and the server has not closed.
        """
        return len(self._left)

    def close(self) -> None:
        """Stop accepting connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        """Connect on behalf of a client; other clients do not wait for it."""
        self._left.add(client)
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        finally:
            self._left.discard(client)
        for work in (self._there, self._back):
            threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _there(self, client: socket.socket, server: socket.socket) -> None:
        """Carry what the client sends, to its end: the server gets it also if the client is gone."""
        self._carry(client, server)
        with self._lock:
            if server.fileno() != -1:
                self._left.add(server)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        client.close()

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        """Carry what the server answers; at its end, the client has nothing more to send."""
        self._carry(server, client)
        for end in (server, client):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            server.close()
            self._left.discard(server)

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                while self.cut.is_set():
                    time.sleep(0.05)
                other.sendall(data)
