"""A minimal HTTP/1.1 server that can misbehave on purpose.

A proper server library sends complete answers and ends connections cleanly. The faults of this
sandbox (resets, cut bodies, silence) need the bare socket.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(slots=True)
class Request:
    """One request as it came in.

    Attributes:
        query: (name, value) pairs in their order.
        headers: names in lower case; `authorization` is kept apart so that no test prints it.
        status: the status of the answer; 0 before the answer, or if the connection was cut instead.
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    at: float
    authorization: str = field(repr=False, default="")
    status: int = 0

    def params(self) -> dict[str, str]:
        """The query with one value per name."""
        return dict(self.query)

    def json(self) -> Any:
        """The body as JSON; raises ValueError if it is not JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Reply:
    """One answer, and its fault.

    Attributes:
        delay_seconds: silence before it.
        cut: send only so many bytes of the body, then close.
        reset: send nothing; reset the connection.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    cut: int | None = None
    reset: bool = False


def json_reply(value: object, status: int = 200, **headers: str) -> Reply:
    """An answer in JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, body, {"Content-Type": "application/json; charset=utf-8", **named})


Handler = Callable[[Request], Awaitable[Reply]]


async def serve(
    host: str,
    port: int,
    handler: Handler,
    now: Callable[[], float],
    tls: ssl.SSLContext | None = None,
) -> asyncio.Server:
    """Listen, with or without TLS, and answer each request with the handler's reply."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, OSError):
                while (request := await _read(reader, now)) is not None:
                    reply = await handler(request)
                    if reply.delay_seconds:
                        await asyncio.sleep(reply.delay_seconds)
                    if not await _write(writer, request, reply):
                        break
        finally:
            writer.close()

    return await asyncio.start_server(connection, host, port, limit=2**26, ssl=tls)


async def _read(reader: asyncio.StreamReader, now: Callable[[], float]) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    body = await reader.readexactly(length) if length else b""
    parts = urlsplit(target)
    query = parse_qsl(parts.query, keep_blank_values=True)
    secret = headers.pop("authorization", "")
    return Request(method, parts.path, query, headers, body, now(), secret)


async def _write(writer: asyncio.StreamWriter, request: Request, reply: Reply) -> bool:
    """Send a reply; return whether the connection may be used again."""
    if reply.reset:
        sock = writer.get_extra_info("socket")
        # Closing with a linger of zero sends RST instead of FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False
    request.status = reply.status
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    headers = {"Content-Length": str(len(reply.body)), **reply.headers}
    head = f"HTTP/1.1 {reply.status} {phrase}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in headers.items()
    )
    body = reply.body if reply.cut is None else reply.body[: reply.cut]
    writer.write(head.encode("latin-1") + b"\r\n" + body)
    await writer.drain()
    return reply.cut is None and request.headers.get("connection", "").lower() != "close"
