"""How both sides are spoken to: one HTTP client, made for answers that nobody vouches for.

- TLS is always verified, against the certificates that httpx brings or, as usual, those that
  `SSL_CERT_FILE` or `SSL_CERT_DIR` name.
- Redirects are not followed and cookies not kept: a key or token goes where it was configured to
  go, and nowhere else.
- An answer is read only up to a size, unpacked: a few bytes can't become gigabytes.
- Proxies that the environment names (`HTTPS_PROXY`, `NO_PROXY`) are used for https alone: they see
  no more than the host's name. Plain http goes to this machine itself, without a proxy.
"""

from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from syncd.clients.proxy import EnvironmentTransport
from syncd.text.sanitize import plain

CONNECT_SECONDS_MAX = 15.0

ANSWER_SECONDS_MAX = 300.0
"""A whole request takes no longer, however small the pieces that an answer comes in."""

_ENCODINGS = ("", "identity", "gzip", "deflate")

_VALUE_BYTES_MIN = 8
"""Names and numbers of a real answer take more bytes a value, on the average."""

_DENSE_BYTES_MIN = 1024 * 1024
"""A smaller body may be as dense as it likes."""


class AnswerRefused(httpx.HTTPError):
    """An answer is too large, or packed in a way that isn't read."""


def client(
    url: str, timeout_seconds: float, bytes_max: int, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    """Make the client for one side.

    Args:
        url: where the side is.
        timeout_seconds: how long it may be silent.
        bytes_max: the largest answer that is read.
        transport: carries the requests in place of a real network; None for the real one.
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
    )


def words_of(error: BaseException) -> str:
    """What the network said, for people.

    What isn't HTTP is named and not quoted: the client's own words repeat the bytes that came in, and
    an escape in the middle of a secret hides it from who would remove it.
    """
    if isinstance(error, httpx.RemoteProtocolError):
        return "RemoteProtocolError: what came back isn't HTTP, or broke off"
    return plain(f"{type(error).__name__} {error}", 200)


async def _read_bounded(response: httpx.Response, bytes_max: int) -> bytes:
    """Read a body; what grows too large, or too costly to parse, ends in AnswerRefused.

    A body that is compressed all the same is unpacked as it comes, one layer of it: a piece of the
    wire's 64 KiB becomes 64 MiB at most before it is counted.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise AnswerRefused("it is compressed in a way that isn't read")
    body, values = bytearray(), 0
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > bytes_max:
            raise AnswerRefused(f"it is larger than {bytes_max} bytes")
        # Empty lists by the million take thirty times their bytes of memory once parsed.
        values += chunk.count(b",") + chunk.count(b"[") + chunk.count(b"{")
        if values * _VALUE_BYTES_MIN > max(len(body), _DENSE_BYTES_MIN):
            raise AnswerRefused("it holds more values than a real answer of its size")
    return bytes(body)
