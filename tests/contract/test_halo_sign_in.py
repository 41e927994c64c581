"""How Halo's adapter signs in: where, with what, how often, and what never happens."""

from typing import Any

import pytest

from syncd.clients.halo.sink import HaloSink
from syncd.core.errors import BadAnswer, PermissionMissing, SignInRefused
from syncd.core.rows import RowChange
from syncd.sandbox import Fault, Request, Sandbox
from tests.contract.conftest import Bench
from tests.writes import Allow


def _tokens(bench: Bench) -> list[Any]:
    return [r for r in bench.box.halo.requests if r.path == "/auth/token"]


def test_sign_in_form(bench: Bench) -> None:
    """Where to sign in and the tenant's name come from authinfo; the form is what Halo documents."""
    forms: list[bytes] = []

    def look(request: Request) -> bool:
        forms.append(request.body)
        return False

    bench.box.halo.faults.append(Fault("500", path="/auth/token", match=look))
    bench.read("halo")
    assert [r.path for r in bench.box.halo.requests] == [
        "/api/authinfo", "/auth/token", "/api/InvoicePayment",
    ]  # fmt: skip
    assert forms == [
        b"grant_type=client_credentials&client_id=sandbox-client&client_secret=sandbox-client-secret"
        b"&scope=read%3Ainvoices+edit%3Ainvoices&tenant=sandbox"
    ]


@pytest.mark.parametrize("kind", ["absent", "html", "garbage", "empty", "403"])
def test_without_authinfo(bench: Bench, kind: str) -> None:
    """Without a usable authinfo the usual path is taken, and no tenant is named."""
    halo = bench.box.halo
    halo.has_authinfo = False
    if kind != "absent":
        halo.faults.append(Fault(kind, path="authinfo"))
    bench.read("halo")
    assert [r.path for r in halo.requests][:2] == ["/api/authinfo", "/auth/token"]


@pytest.mark.parametrize("path", ["authinfo", "token"])
@pytest.mark.parametrize("kind", ["500", "503", "reset", "429"])
def test_sign_in_that_passes_a_fault(bench: Bench, path: str, kind: str) -> None:
    """A passing fault while signing in is ridden out: it is no refusal."""
    bench.box.halo.faults.append(Fault(kind, path=path, retry_after=2))
    bench.read("halo")
    assert len(bench.waited) == 1


def test_token_is_kept_until_it_ends(bench: Bench) -> None:
    """One token serves until half a minute before its end; then a new one is asked for."""

    async def work(sink: HaloSink) -> None:
        for step in (0, 3_569, 1):
            bench.clock.seconds += step
            await sink.rows_of("pi_1")

    bench.halo(work)
    assert len(_tokens(bench)) == 2
    assert [r.path for r in bench.box.halo.requests].count("/api/authinfo") == 1
    assert [r.status for r in bench.listings("halo")] == [200, 200, 200]


def test_token_that_lives_shortly(bench: Bench) -> None:
    """A token that lives for seconds is used for half of them, not signed in for each request."""
    bench.box.halo.token_lifetime = 20.0

    async def work(sink: HaloSink) -> None:
        for _ in range(4):
            await sink.rows_of("pi_1")
            bench.clock.seconds += 4

    bench.halo(work)
    assert len(_tokens(bench)) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"client_secret": "wrong-but-secret"}, "invalid_client."),
        ({"client_id": "nobody"}, "invalid_client."), ({"scope": "all:things"}, "invalid_scope."),
    ],
)  # fmt: skip
def test_sign_in_that_is_refused(bench: Bench, given: dict[str, Any], words: str) -> None:
    """A refused sign-in is said once, with what was asked for, and without the secret."""
    with pytest.raises(SignInRefused) as caught:
        bench.halo(lambda sink: sink.rows_of("pi_1"), **given)
    said = str(caught.value)
    assert words in said
    assert repr(given.get("client_id", "sandbox-client")) in said
    assert "secret" not in said.replace("client secret", "")
    assert (len(_tokens(bench)), bench.waited) == (1, [])


def test_tenant_that_halo_wants(bench: Bench) -> None:
    """Authinfo's tenant goes along; a Halo that names another one than it wants is told apart."""
    bench.box.halo.tenant = ""
    bench.read("halo")  # no tenant there: none is sent, and none is needed
    bench.box.halo.faults.append(
        Fault("200", path="authinfo", body=b'{"auth_url": "%s/auth", "tenant_id": "another"}'
              % bench.box.halo.url.encode())
    )  # fmt: skip
    bench.box.halo.tenant = "sandbox"
    with pytest.raises(SignInRefused, match="The tenant is unknown"):
        bench.read("halo")


@pytest.mark.parametrize("answer", [b'{"access_token": ""}', b'{"access_token": 7}', b"[]", b'"x"'])
def test_sign_in_without_a_token(bench: Bench, answer: bytes) -> None:
    """A 200 without a token is no sign-in."""
    bench.box.halo.faults.append(Fault("200", path="/auth/token", body=answer))
    with pytest.raises(SignInRefused, match=r"refuses the sign-in \(HTTP 200\)"):
        bench.read("halo")


def test_sign_in_at_a_portal(bench: Bench) -> None:
    """A page of HTML where the token belongs is named as such, not as a wrong secret."""
    bench.box.halo.faults += [Fault("html", path="authinfo"), Fault("html", path="/auth/token")]

    async def twice(sink: HaloSink) -> None:
        with pytest.raises(BadAnswer, match="JSON belongs"):
            await sink.rows_of("pi_1")
        await sink.rows_of("pi_1")  # the portal has gone: where to sign in is asked again

    bench.halo(twice)


def test_auth_at_another_host(bench: Bench) -> None:
    """Where authinfo names another host, only the sign-in goes there, never the token."""
    with Sandbox(clock=bench.clock) as elsewhere:
        bench.box.halo.auth_url = f"{elsewhere.halo.url}/auth"
        with pytest.raises(SignInRefused):  # the other Halo's token means nothing here
            bench.read("halo")
        there = [(r.path, r.authorization) for r in elsewhere.halo.requests]
        assert there == [("/auth/token", "")] * 2
    assert {r.path for r in bench.box.halo.requests} == {"/api/authinfo", "/api/InvoicePayment"}


@pytest.mark.parametrize(
    "url", ["http://halo.example/auth", "ftp://halo.example/auth", "//halo.example/auth", "auth",
            "http://127.0.0.1.example/auth", "https:///auth"],
)  # fmt: skip
def test_secret_goes_nowhere_in_the_clear(bench: Bench, url: str) -> None:
    """An authinfo that names a place without encryption gets no secret: a person is told."""
    bench.box.halo.auth_url = url
    with pytest.raises(SignInRefused, match="isn't a plain https address"):
        bench.read("halo")
    assert [r.path for r in bench.box.halo.requests] == ["/api/authinfo"]


def test_permission_to_edit(bench: Bench) -> None:
    """Reading allowed, writing not: the 403 names the permission to edit."""
    bench.box.halo.permissions = {"read:invoices"}
    bench.read("halo")
    with pytest.raises(PermissionMissing, match="permission to edit invoices"):
        bench.halo(lambda sink: sink.update([RowChange(1, 3)], Allow()))
    assert (len(bench.posts()), bench.waited) == (1, [])


def test_address_with_a_slash(bench: Bench) -> None:
    """An address with a slash at its end asks the same paths."""
    bench.halo(lambda sink: sink.rows_of("pi_1"), url=bench.box.halo.url + "/")
    assert bench.listings("halo")[0].path == "/api/InvoicePayment"
