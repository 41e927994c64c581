"""The network layer: size and time limits, TLS, redirects, cookies and proxies."""

import asyncio
import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from syncd.clients import http as network
from syncd.clients.halo import connection as halo_connection
from syncd.clients.stripe import source as stripe_source
from syncd.config.problems import environment_problems
from syncd.core.errors import BadAnswer, Failure, LinkFailure, Unreachable
from syncd.sandbox.http import Reply, Request, json_reply
from syncd.text.no_proxy import no_proxy_problems, parse_exemption
from tests.conftest import Rig
from tests.hostile.strategies import API_KEY, HALO_SECRET, HALO_TOKEN, MARK
from tests.hostile.wire import Adapters, Server
from tests.ports import free_port
from tests.writes import Allow, new_row

KIB = 1024
EMPTY = b'{"object":"list","data":[],"has_more":false}'


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def both(server: Server) -> Iterator[Adapters]:
    with Adapters(server.url, server.url) as both:
        yield both


def sign_in(request: Request) -> Reply | None:
    """A normal sign-in of Halo; None for any other request."""
    if "authinfo" in request.path:
        return json_reply({}, 404)
    if request.path == "/auth/token":
        return json_reply({"access_token": HALO_TOKEN, "expires_in": 3600})
    return None


def read(both: Adapters, side: str) -> None:
    """Make one read from this side."""
    if side == "stripe":
        both.do(both.stripe.events(1))
    else:
        both.do(both.halo.rows_of("pi_nobody"))


SIDES = ("stripe", "halo")


# --- size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'["' + b"x" * (300 * KIB) + b'"]', "larger than 262144 bytes"),
        (b" " * (300 * KIB), "larger than 262144 bytes"),
        (b"[" + b"[]," * (80 * KIB) + b"[]]", "more values than an answer"),
        (b"[" + b"{}," * (80 * KIB) + b"{}]", "more values than an answer"),
        (b"[" + b"0," * (120 * KIB) + b"0]", "more values than an answer"),
    ],
)
def test_a_body_beyond_the_limit(
    server: Server, monkeypatch: pytest.MonkeyPatch, side: str, body: bytes, why: str
) -> None:
    """An answer with too many bytes or too many values is refused while it is read."""
    monkeypatch.setattr(stripe_source, "BODY_BYTES_MAX", 256 * KIB)
    monkeypatch.setattr(halo_connection, "BODY_BYTES_MAX", 256 * KIB)
    monkeypatch.setattr(network, "_DENSE_BYTES_MIN", 16 * KIB)
    server.answer = lambda request: sign_in(request) or Reply(200, body)
    with Adapters(server.url, server.url) as both, pytest.raises(BadAnswer, match=why) as failed:
        read(both, side)
    assert failed.value.__cause__ is None


def test_the_largest_real_answers_are_taken(server: Server, both: Adapters) -> None:
    """If Halo ignores paging and sends 30,000 rows at once, the adapter reads them."""
    row = {"id": 0, "invoice_id": 1, "amount": 1.5, "status": 3, "intent_id": None, "method": 1}
    rows = json_reply([{**row, "id": number} for number in range(30_000)])
    server.answer = lambda request: sign_in(request) or rows
    assert both.do(both.halo.rows_of("pi_nobody")) == []


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "x"])
def test_an_answer_packed_otherwise(
    server: Server, both: Adapters, side: str, encoding: str
) -> None:
    """The adapter requests no compression, and does not decompress layered or unknown encodings."""
    bomb = gzip.compress(gzip.compress(b"0" * 10_000_000))
    server.answer = lambda request: (
        sign_in(request) or Reply(200, bomb, {"Content-Encoding": encoding})
    )
    with pytest.raises(BadAnswer, match="compressed"):
        read(both, side)
    assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compression_bomb(
    server: Server, monkeypatch: pytest.MonkeyPatch, side: str, encoding: str
) -> None:
    """An answer that decompresses beyond the size limit is refused while it is decompressed."""
    monkeypatch.setattr(stripe_source, "BODY_BYTES_MAX", 256 * KIB)
    monkeypatch.setattr(halo_connection, "BODY_BYTES_MAX", 256 * KIB)
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    body = pack(b" " * 50_000_000)
    server.answer = lambda request: (
        sign_in(request) or Reply(200, body, {"Content-Encoding": encoding})
    )
    with Adapters(server.url, server.url) as both, pytest.raises(BadAnswer, match="larger than"):
        read(both, side)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP"])
def test_a_front_that_packs_all_the_same(server: Server, both: Adapters, encoding: str) -> None:
    """The adapter reads an answer that a proxy compressed without a request for compression."""
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    body = pack(b'{"payments": [{"id": 7, "intent_id": "pi_1"}], "record_count": 1}')
    server.answer = lambda request: (
        sign_in(request) or Reply(200, body, {"Content-Encoding": encoding})
    )
    assert [row.id for row in both.do(both.halo.rows_of("pi_1"))] == [7]


def test_a_write_answered_too_largely_may_have_been_applied(server: Server, both: Adapters) -> None:
    """If the answer to an insert cannot be read, the error says that the insert may have been applied."""
    server.answer = lambda request: sign_in(request) or Reply(200, b"x", {"Content-Encoding": "br"})
    with pytest.raises(BadAnswer) as failed:
        both.do(both.halo.insert(new_row(1), Allow()))
    assert failed.value.maybe_applied


@pytest.mark.parametrize("side", SIDES)
def test_a_body_where_none_may_be(server: Server, both: Adapters, side: str) -> None:
    """A body after a 304 is not shown in any error, because its escapes may hide a secret."""
    hidden = b'{"error": "whs\\ud800ec_PLANTED0123456789"}'
    server.answer = lambda request: sign_in(request) or Reply(304, hidden)
    for _ in range(3):
        with pytest.raises(LinkFailure) as failed:
            read(both, side)
        assert "PLANTED" not in str(failed.value)


# --- time --------------------------------------------------------------------------------------------


class Dripping:
    """A server that sends the head or the body of an answer piece by piece, and never ends."""

    def __init__(self, first: bytes, piece: bytes) -> None:
        self._first, self._piece = first, piece
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(self._first)
                    while not self._over.wait(0.02):
                        connection.sendall(self._piece)
            except OSError:
                continue

    def close(self) -> None:
        self._over.set()
        self._listener.close()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n[", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
)
def test_an_answer_that_drips(
    monkeypatch: pytest.MonkeyPatch, side: str, first: bytes, piece: bytes
) -> None:
    """The whole request has a time limit, even if the server never pauses for long."""
    for room in (stripe_source, halo_connection):
        monkeypatch.setattr(room, "ANSWER_SECONDS_MAX", 0.15)
    dripping = Dripping(first, piece)
    try:
        with Adapters(dripping.url, dripping.url) as both, pytest.raises(Unreachable):
            read(both, side)
    finally:
        dripping.close()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "answer",
    [b"", b"\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01\x00" * 50,
     b'{"error": "whs\\ud800ec_PLANTED0123456789"}\r\n\r\n', b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", b"HTTP/1.1 200 OK\r\n\x00: \xff\r\n\r\n[]"],
)  # fmt: skip
def test_what_is_no_http(side: str, answer: bytes) -> None:
    """A port with another protocol or with broken HTTP raises LinkFailure."""

    async def serve() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            with pytest.raises(LinkFailure) as failed:
                await asyncio.to_thread(ask, url)
            assert str(failed.value).isprintable()
            assert "PLANTED" not in str(failed.value)

    def ask(url: str) -> None:
        with Adapters(url, url) as both:
            read(both, side)

    asyncio.run(serve())


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.mark.parametrize("side", SIDES)
def test_a_certificate_that_nobody_vouches_for(authority: trustme.CA, side: str) -> None:
    """A server whose certificate is not trusted gets no request."""
    with Server(tls=tls(authority.issue_cert("127.0.0.1"))) as server:
        with (
            Adapters(server.url, server.url) as both,
            pytest.raises(Unreachable, match="TLS certificate is not valid"),
        ):
            read(both, side)
        assert server.requests == []


@pytest.mark.parametrize("side", SIDES)
def test_a_certificate_of_another_host(
    authority: trustme.CA, side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trusted certificate for another host name is refused, and no request is sent."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Server(tls=tls(authority.issue_cert("elsewhere.example"))) as server:
        with (
            Adapters(server.url, server.url) as both,
            pytest.raises(Unreachable, match="TLS certificate is not valid"),
        ):
            read(both, side)
        assert server.requests == []


@pytest.mark.parametrize("side", SIDES)
def test_a_certificate_of_ones_own_authority(
    authority: trustme.CA, side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A private certificate authority is accepted if SSL_CERT_FILE names it."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Server(tls=tls(authority.issue_cert("127.0.0.1"))) as server:
        server.answer = lambda request: (
            sign_in(request) or Reply(200, EMPTY if side == "stripe" else b"[]")
        )
        with Adapters(server.url, server.url) as both:
            read(both, side)
        assert server.requests


# --- other hosts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: Server, both: Adapters, side: str, status: int) -> None:
    """A redirect, to the same host or another one, raises LinkFailure and is not followed."""
    with Server() as elsewhere:
        for location in (f"{elsewhere.url}/v1/events", "/v1/elsewhere", "http://[::1"):
            server.requests.clear()
            server.answer = lambda request, to=location: (
                sign_in(request) or Reply(status, b"", {"Location": to})
            )  # type: ignore[misc]  # a default binds the loop's value
            with pytest.raises(LinkFailure):
                read(both, side)
            assert "/v1/elsewhere" not in [request.path for request in server.requests]
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [307, 308])
def test_a_sign_in_is_not_redirected(server: Server, both: Adapters, status: int) -> None:
    """The client secret is not sent to the target of a redirect."""
    with Server() as elsewhere:
        to = {"Location": f"{elsewhere.url}/auth/token"}
        server.answer = lambda _: Reply(status, b"", to)
        with pytest.raises(LinkFailure):
            read(both, "halo")
        assert elsewhere.requests == []


def test_what_goes_to_a_host_that_signs_in(server: Server, both: Adapters) -> None:
    """If authinfo names another host, the secret goes to that host and the token only to the tenant."""
    with Server() as signing:
        signing.answer = lambda _: json_reply({"access_token": HALO_TOKEN, "expires_in": 60})
        server.answer = lambda request: (
            json_reply({"auth_url": f"{signing.url}/auth/", "tenant_id": "t"})
            if "authinfo" in request.path
            else Reply(200, b"[]")
        )
        read(both, "halo")
    assert [request.path for request in signing.requests] == ["/auth/token"]
    assert [request.authorization for request in signing.requests] == [""]
    assert [(r.path, r.authorization, r.body) for r in server.requests] == [
        ("/api/authinfo", "", b""),
        ("/api/InvoicePayment", f"Bearer {HALO_TOKEN}", b""),
    ]


def test_loopback_is_no_place_to_sign_in_for_a_remote_tenant(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the tenant uses https, the secret is never sent over plain http, not even to this machine."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Server() as listening, Server(tls=tls(authority.issue_cert("127.0.0.1"))) as tenant:
        tenant.answer = lambda _: json_reply({"auth_url": f"{listening.url}/auth"})
        with (
            Adapters(tenant.url, tenant.url) as both,
            pytest.raises(Failure, match="is not a plain"),
        ):
            read(both, "halo")
        assert listening.requests == []


def test_cookies_are_not_kept(server: Server, both: Adapters) -> None:
    """The adapter ignores cookies and never sends one."""
    server.answer = lambda request: (
        sign_in(request) or Reply(200, EMPTY, {"Set-Cookie": "a=b; Path=/"})
    )
    read(both, "stripe")
    read(both, "stripe")
    assert [request.headers.get("cookie") for request in server.requests] == [None, None]


# --- proxies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_a_proxy_is_passed_by_on_loopback(
    server: Server, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain http to this machine does not use the proxy of the environment."""
    with Server() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        server.answer = lambda request: (
            sign_in(request) or Reply(200, EMPTY if side == "stripe" else b"[]")
        )
        with Adapters(server.url, server.url) as both:
            read(both, side)
        assert proxy.requests == []


@pytest.mark.parametrize("side", SIDES)
def test_a_proxy_sees_a_hosts_name_and_no_more(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For https the environment's proxy gets a CONNECT with the host name, and no secret."""
    with Server(lambda _: Reply(403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with (
            Adapters("https://stripe.example", "https://halo.example") as both,
            pytest.raises(Unreachable),
        ):
            read(both, side)
    (request,) = proxy.requests
    assert (request.method, request.body, request.authorization) == ("CONNECT", b"", "")
    assert MARK not in repr(request)
    assert (API_KEY, HALO_SECRET) != ("", "")


UNREADABLE_BY_HTTPX = ("fd00::/8", "::1/128", "[::1]", "localhost:abc", "b\u00fccher.example")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("entry", UNREADABLE_BY_HTTPX)
def test_an_entry_of_no_proxy_that_httpx_cannot_read(
    side: str, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry of NO_PROXY that httpx cannot parse does not affect requests to other hosts."""
    with Server(lambda _: Reply(403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", entry)
        with (
            Adapters("https://stripe.example", "https://halo.example") as both,
            pytest.raises(Unreachable),
        ):
            read(both, side)
    assert [request.method for request in proxy.requests] == ["CONNECT"]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("127.0.0.0/8", "127.0.0.1", True), ("10.0.0.0/8", "127.0.0.1", False),
        ("127.0.0.1/8", "127.0.0.1", True), ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1:1", "127.0.0.1", False), ("localhost:abc,127.0.0.1", "127.0.0.1", True),
        ("localhost:abc 127.0.0.1", "127.0.0.1", True),
        ("localhost", "127.0.0.1", False), ("*", "127.0.0.1", True),
        ("::1/128", "[::1]", True), ("[::1]", "[::1]", True), ("::1", "[::1]", True),
        ("[::1]/128", "[::1]", True), ("fd00::/8", "[::1]", False), ("[::1]:1", "[::1]", False),
        ("0:0::1", "[::1]", True), ("localhost", "localhost", True),
        ("LOCALHOST.", "localhost", True), (".localhost", "localhost", True),
        ("https://127.0.0.1", "127.0.0.1", True), ("http://127.0.0.1", "127.0.0.1", False),
        ("host", "localhost", False),
    ],
)  # fmt: skip
def test_hosts_that_no_proxy_names_are_reached_directly(
    side: str, no_proxy: str, host: str, *, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, addresses and networks (IPv4 and IPv6) in NO_PROXY are reached without the proxy."""
    with Server(lambda _: Reply(403)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", no_proxy)
        port = free_port()
        with (
            Adapters(f"https://{host}:{port}", f"https://{host}:{port}") as both,
            pytest.raises(Unreachable),
        ):
            read(both, side)
    assert [request.method for request in proxy.requests] == ([] if direct else ["CONNECT"])


def test_names_that_no_proxy_covers() -> None:
    """A name in NO_PROXY covers its subdomains and no other name; host names are not resolved."""

    def covers(entry: str, url: str) -> bool:
        exemption = parse_exemption(entry)
        assert exemption is not None
        asked = httpx.URL(url)
        return exemption.covers(asked.scheme, asked.raw_host.decode("ascii"), asked.port)

    assert covers("example.com", "https://a.example.com/x")
    assert covers("*.example.com", "https://example.com")
    assert covers("example.com:8443", "https://example.com:8443")
    assert not covers("example.com:8443", "https://example.com")
    assert covers("example.com:443", "https://example.com")
    assert not covers("example.com", "https://badexample.com")
    assert not covers("example.com", "https://example.com.evil.test")
    assert covers("b\u00fccher.example", "https://xn--bcher-kva.example")
    assert covers("xn--bcher-kva.example", "https://b\u00fccher.example")
    assert covers("10.0.0.0/8", "https://10.255.0.1:99")
    assert covers("10.0.0.0/8", "https://[::ffff:10.1.1.1]")
    assert not covers("fd00::/8", "https://10.0.0.1")


@pytest.mark.parametrize(
    "entry",
    ["localhost:abc", "localhost:0", "a:99999", "10.0.0.0/99", "fd00::/8/9", "[::1", "[x]", "/", ".",
     "**", "a b/c", "-", "ftp://host", "\udc80", "host/path", "\u202e", "x" * 300 + "\u00fc"],
)  # fmt: skip
def test_an_entry_of_no_proxy_that_nobody_can_use(entry: str) -> None:
    """An invalid entry of NO_PROXY is reported with the variable's name, in printable and short text."""
    for name in ("NO_PROXY", "no_proxy"):
        problems = no_proxy_problems({name: f"{entry},example.com"})
        assert problems
        assert all(problem.startswith(f"{name}: ") for problem in problems)
        assert all(problem.isprintable() and len(problem) < 400 for problem in problems)
    assert no_proxy_problems({"NO_PROXY": "*, .a.example,10.0.0.0/8 ::1,[fd00::]/8,b:1,"}) == []


@pytest.mark.slow  # a run retries an unreachable side for 30 seconds
@pytest.mark.parametrize("arguments", [("--once",), ("check",), ("resync", "pi_1")])
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_commands_with_an_odd_no_proxy(
    live: Rig, variable: str, arguments: tuple[str, ...]
) -> None:
    """With odd entries in NO_PROXY a command warns about them and reports that the sides are unreachable."""
    extra = {
        variable: ",".join(UNREADABLE_BY_HTTPX),
        "HTTPS_PROXY": f"http://127.0.0.1:{free_port()}",
        "SYNCD_HALO__URL": "https://halo.example",
        "SYNCD_STRIPE__API_BASE": "https://stripe.example",
    }
    done = live.command(*arguments, extra=extra)
    assert done.returncode == 69, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{variable}: syncd skips the entry 'localhost:abc'" in done.stderr
    assert "xn--bcher-kva.example" in done.stderr
    assert "fd00::/8" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "usable"),
    [
        ("HTTPS_PROXY", "http://proxy.example:3128", True),
        ("HTTPS_PROXY", "proxy.example:3128", True),
        ("HTTPS_PROXY", "http://user:secret-of-mine@proxy.example", True),
        ("HTTPS_PROXY", "", True),
        ("ALL_PROXY", "socks5://proxy.example", False),
        ("https_proxy", "http://proxy:notaport", False),
        ("HTTP_PROXY", "http://[::1", False),
        ("HTTPS_PROXY", "http://:secret-of-mine@", False),
        ("HTTPS_PROXY", "http://a b:1", False),
        ("HTTPS_PROXY", "http://a..b", False),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", False),
        ("SSL_CERT_FILE", "/etc/hostname", False),
        ("SSL_CERT_DIR", "/nowhere", False),
        ("SSL_CERT_DIR", "/etc", True),
        ("SSL_CERT_DIR", f"/{'a' * 5_000}", False),
    ],
)
def test_what_the_environment_says_of_the_network(name: str, value: str, *, usable: bool) -> None:
    """A variable that httpx cannot use is reported by name, without its value."""
    problems = environment_problems({name: value})
    assert bool(problems) is not usable
    assert all(problem.startswith(f"{name}: ") for problem in problems)
    assert "secret-of-mine" not in " ".join(problems)
