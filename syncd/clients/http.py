"""The HTTP client for both sides, safe against hostile answers.

- TLS is always verified, against the certificates of httpx, or of `SSL_CERT_FILE` or `SSL_CERT_DIR`.
- Redirects are not followed and cookies are not kept, so that a key or token is sent only to the
  configured address.
- An answer is read only up to a size, counted after decompression.
- Proxies from the environment (`HTTPS_PROXY`, `NO_PROXY`) are used for https only: they see only the
  host's name. Plain http is only for loopback, and uses no proxy.
"""

import socket
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from syncd.clients.proxy import EnvironmentTransport
from syncd.text.sanitize import plain

CONNECT_SECONDS_MAX = 15.0

ANSWER_SECONDS_MAX = 300.0
"""The longest time for a whole request, however slowly the answer arrives."""

_ENCODINGS = ("", "identity", "gzip", "deflate")

_VALUE_BYTES_MIN = 8
"""Real answers have more bytes per JSON value on average."""

_DENSE_BYTES_MIN = 1024 * 1024
"""The number of values is not limited in a body smaller than this."""


class AnswerRefused(httpx.HTTPError):
    """An answer is too large, or compressed in an unsupported way."""


def client(
    url: str, timeout_seconds: float, bytes_max: int, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    """Make the client for one side.

    Args:
        url: the side's address.
        timeout_seconds: the longest time without data from the side.
        bytes_max: the largest answer that is read.
        transport: replaces the network in tests; None for the network.
    """

    async def bound(response: httpx.Response) -> None:
        response._content = await _read_bounded(response, bytes_max)  # noqa: SLF001  # it has none

    if transport is None and url.startswith("https://"):
        transport = EnvironmentTransport()
    return httpx.AsyncClient(
        timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS_MAX),
        follow_redirects=False,
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        event_hooks={"response": [bound]},
        trust_env=False,
        transport=transport,
        # httpx handles only plain http here. Loading all certificates for it would take most of a
        # command's start time.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )


def words_of(error: BaseException, key: str) -> str:
    """The network error as text for people; `key` is the setting that has the address.

    An answer that is not HTTP is not quoted: the error repeats its bytes, and an escape sequence in
    the middle of a secret would hide the secret from the filter that removes secrets.
    """
    if isinstance(error, httpx.RemoteProtocolError):
        return "RemoteProtocolError: the answer is not HTTP, or is incomplete"
    causes = [error] if isinstance(error, httpx.TimeoutException) else _causes(error)
    known = next(filter(None, (_known_words(one, key) for one in causes)), None)
    return known or plain(f"{type(error).__name__} {error}", 200)


def _causes(error: BaseException) -> list[BaseException]:
    """The errors behind an error, the first cause first."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found[::-1]


def _known_words(error: BaseException, key: str) -> str | None:
    """What a common network error means, and what to check; None for any other error."""
    if isinstance(error, socket.gaierror):
        return f"host not found; check {key} and the DNS of this machine"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at the address (connection refused); check {key}"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = plain(error.verify_message, 100)
        return f"the TLS certificate is not valid ({why}); see SSL_CERT_FILE for an authority of your own"
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection in {CONNECT_SECONDS_MAX:.0f} s; check {key}, the firewall and HTTPS_PROXY"
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return f"no answer in time ({type(error).__name__})"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was closed before the answer"
    return None


async def _read_bounded(response: httpx.Response, bytes_max: int) -> bytes:
    """Read a body; raise AnswerRefused if it becomes too large, or too costly to parse.

    A compressed body is decompressed piece by piece, one layer only: 64 KiB from the network become
    at most 64 MiB before they are counted.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise AnswerRefused("it is compressed in a way that syncd does not support")
    body, values = bytearray(), 0
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > bytes_max:
            raise AnswerRefused(f"it is larger than {bytes_max} bytes")
        # Millions of empty lists need thirty times their size in memory after parsing.
        values += chunk.count(b",") + chunk.count(b"[") + chunk.count(b"{")
        if values * _VALUE_BYTES_MIN > max(len(body), _DENSE_BYTES_MIN):
            raise AnswerRefused("it has more values than an answer of this size can have")
    return bytes(body)
