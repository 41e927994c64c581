"""The listening socket, and the HTTP server on it, which runs in a thread of its own."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn

from syncd.config.model import ConfigurationError, address
from syncd.service.web.server import WebSources, application

CALLERS_MAX = 100
"""How many HTTP connections are served at once, so that they cannot use up the open files."""


def server_config(sources: WebSources) -> uvicorn.Config:
    """How the web application is served."""
    return uvicorn.Config(
        application(sources),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        server_header=False,
        limit_concurrency=CALLERS_MAX,
    )


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers; the daemon handles signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the daemon."""
        yield


def serve(server: Server, listener: socket.socket) -> "asyncio.Future[None]":
    """Serve in a thread of its own: a slow database delays polls and pushes, but no HTTP answer.

    Returns a future of the caller's loop, which is done when the server has ended.
    """
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def note(error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            asyncio.run(server.serve(sockets=[listener]))
        except BaseException as found:  # noqa: BLE001  # the daemon ends with it
            error = found
        with contextlib.suppress(RuntimeError):  # the daemon has ended without waiting
            loop.call_soon_threadsafe(note, error)

    threading.Thread(target=run, name="http", daemon=True).start()
    return ended


def listen_on(listen: str) -> socket.socket:
    """Bind first, so that a port in use causes a clear error."""
    host, port = address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # from here on, connections wait instead of being refused
    except OSError as error:
        listener.close()
        message = (
            f"web.listen: cannot listen on {listen}: {error.strerror or error}. Stop the program that "
            "uses the port, or set another address"
        )
        raise ConfigurationError([message]) from error
    listener.setblocking(False)
    return listener
