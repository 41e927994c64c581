"""How Halo's adapter signs in: the address, the form, how often, and where it never sends the secret."""

from contextlib import suppress
from typing import Any

import pytest

from syncd.clients.halo.sink import HaloSink
from syncd.core.errors import BadAnswer, LinkFailure, PermissionMissing, RowsRefused, SignInRefused
from syncd.core.rows import RowChange
from syncd.sandbox import Fault, Request, Sandbox
from tests.contract.conftest import Bench
from tests.writes import Allow, new_row


def _tokens(bench: Bench) -> list[Any]:
    return [r for r in bench.box.halo.requests if r.path == "/auth/token"]


def test_sign_in_form(bench: Bench) -> None:
    """The sign-in address and the tenant come from authinfo; the form has the fields that Halo documents."""
    forms: list[bytes] = []

    def look(request: Request) -> bool:
        forms.append(request.body)
        return False

    bench.box.halo.faults.append(Fault("500", path="/auth/token", match=look))
    bench.read("halo")
    assert [r.path for r in bench.box.halo.requests] == [
        "/api/authinfo",
        "/auth/token",
        "/api/InvoicePayment",
    ]
    assert forms == [
        b"grant_type=client_credentials&client_id=sandbox-client&client_secret=sandbox-client-secret"
        b"&scope=read%3Ainvoices+edit%3Ainvoices&tenant=sandbox"
    ]


@pytest.mark.parametrize("kind", ["absent", "html", "garbage", "empty", "403"])
def test_without_authinfo(bench: Bench, kind: str) -> None:
    """Without a usable authinfo the adapter signs in at the default path."""
    halo = bench.box.halo
    halo.has_authinfo = False
    if kind != "absent":
        halo.faults.append(Fault(kind, path="authinfo"))
    bench.read("halo")
    assert [r.path for r in halo.requests][:2] == ["/api/authinfo", "/auth/token"]


@pytest.mark.parametrize("path", ["authinfo", "token"])
@pytest.mark.parametrize("kind", ["500", "503", "reset", "429"])
def test_sign_in_that_passes_a_fault(bench: Bench, path: str, kind: str) -> None:
    """A temporary fault during the sign-in is retried; it does not count as a refused sign-in."""
    bench.box.halo.faults.append(Fault(kind, path=path, retry_after=2))
    bench.read("halo")
    assert len(bench.waited) == 1


def test_token_is_kept_until_it_ends(bench: Bench) -> None:
    """A token is reused until 30 seconds before it expires; then the adapter gets a new one."""

    async def work(sink: HaloSink) -> None:
        for step in (0, 3_569, 1):
            bench.clock.seconds += step
            await sink.rows_of("pi_1")

    bench.halo(work)
    assert len(_tokens(bench)) == 2
    assert [r.path for r in bench.box.halo.requests].count("/api/authinfo") == 1
    assert [r.status for r in bench.listings("halo")] == [200, 200, 200]


def test_token_that_lives_shortly(bench: Bench) -> None:
    """A token that is valid for 20 seconds is used for half of that time, not for one request only."""
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
        ({"client_id": "nobody"}, "invalid_client."),
        ({"scope": "all:things"}, "invalid_scope."),
    ],
)
def test_sign_in_that_is_refused(bench: Bench, given: dict[str, Any], words: str) -> None:
    """A refused sign-in is not retried; the error names the client ID and Halo's reason, not the secret."""
    with pytest.raises(SignInRefused) as caught:
        bench.halo(lambda sink: sink.rows_of("pi_1"), **given)
    said = str(caught.value)
    assert words in said
    assert repr(given.get("client_id", "sandbox-client")) in said
    assert "secret" not in said.replace("client secret", "")
    assert (len(_tokens(bench)), bench.waited) == (1, [])


def test_tenant_that_halo_wants(bench: Bench) -> None:
    """The adapter sends authinfo's tenant; if Halo expects another tenant, the sign-in is refused."""
    bench.box.halo.tenant = ""
    bench.read("halo")  # Halo has no tenant, so none is needed
    bench.box.halo.faults.append(
        Fault(
            "200",
            path="authinfo",
            body=b'{"auth_url": "%s/auth", "tenant_id": "another"}' % bench.box.halo.url.encode(),
        )
    )
    bench.box.halo.tenant = "sandbox"
    with pytest.raises(SignInRefused, match="The tenant is unknown"):
        bench.read("halo")


@pytest.mark.parametrize("answer", [b'{"access_token": ""}', b'{"access_token": 7}', b"[]", b'"x"'])
def test_sign_in_without_a_token(bench: Bench, answer: bytes) -> None:
    """A 200 without a token counts as a refused sign-in."""
    bench.box.halo.faults.append(Fault("200", path="/auth/token", body=answer))
    with pytest.raises(SignInRefused, match=r"refuses the sign-in \(HTTP 200\)"):
        bench.read("halo")


def test_sign_in_at_a_portal(bench: Bench) -> None:
    """HTML instead of a token raises BadAnswer, not a refused sign-in; the next request signs in again."""
    bench.box.halo.faults += [Fault("html", path="authinfo"), Fault("html", path="/auth/token")]

    async def twice(sink: HaloSink) -> None:
        with pytest.raises(BadAnswer, match="instead of JSON"):
            await sink.rows_of("pi_1")
        await sink.rows_of("pi_1")  # the portal is gone, so the adapter reads authinfo again

    bench.halo(twice)


def test_auth_at_another_host(bench: Bench) -> None:
    """If authinfo names another host, only the sign-in goes to that host; the token is not sent there."""
    with Sandbox(clock=bench.clock) as elsewhere:
        bench.box.halo.auth_url = f"{elsewhere.halo.url}/auth"
        with pytest.raises(SignInRefused):  # this Halo does not know the other Halo's token
            bench.read("halo")
        there = [(r.path, r.authorization) for r in elsewhere.halo.requests]
        assert there == [("/auth/token", "")] * 2
    assert {r.path for r in bench.box.halo.requests} == {"/api/authinfo", "/api/InvoicePayment"}


@pytest.mark.parametrize(
    "url",
    [
        "http://halo.example/auth",
        "ftp://halo.example/auth",
        "//halo.example/auth",
        "auth",
        "http://127.0.0.1.example/auth",
        "https:///auth",
    ],
)
def test_secret_goes_nowhere_in_the_clear(bench: Bench, url: str) -> None:
    """If authinfo names an address without https, the adapter does not send the secret and raises."""
    bench.box.halo.auth_url = url
    with pytest.raises(SignInRefused, match="not a plain https:// address"):
        bench.read("halo")
    assert [r.path for r in bench.box.halo.requests] == ["/api/authinfo"]


def test_permission_to_edit(bench: Bench) -> None:
    """If Halo allows reading but not writing, the error names the permission to edit invoices."""
    bench.box.halo.permissions = {"read:invoices"}
    bench.read("halo")
    with pytest.raises(PermissionMissing, match="permission to edit invoices"):
        bench.halo(lambda sink: sink.update([RowChange(1, 3)], Allow()))
    assert (len(bench.posts()), bench.waited) == (1, [])


# --- tokens that Halo no longer accepts -----------------------------------------------------------

FORGOTTEN = [
    (400, {"error_description": "Token not found"}),
    (400, {"error": "invalid_token"}),
    (400, "Token not found"),
    (400, {"Message": "The access token has expired."}),
    (403, {"error_description": "Token not found"}),
    (403, {"Message": "Forbidden"}),
    (404, {"error_description": "Token not found"}),
    (401, {"error": "invalid_token"}),
    (400, {"errors": [{"message": "The token is not valid"}]}),
    (419, {}),
    (498, {"x": 1}),
    (400, {"error": {"code": 7, "message": "The session has expired"}}),
    (401, "<html>"),
]


@pytest.mark.parametrize("refusal", FORGOTTEN)
@pytest.mark.parametrize("method", ["GET", "update", "insert"])
def test_a_token_that_halo_forgets_early(
    bench: Bench, refusal: tuple[int, object], method: str
) -> None:
    """Whatever answer Halo gives to an unknown token, the adapter signs in again and resends the request."""
    halo = bench.box.halo
    invoice = halo.add_invoice()
    row = halo.add_row("pi_1", invoice, 1.0)
    halo.token_refusal = refusal

    async def work(sink: HaloSink) -> None:
        await sink.rows_of("pi_1")
        for _ in range(2):
            halo.expire_tokens()
            if method == "GET":
                await sink.rows_of("pi_1")
            elif method == "update":
                await sink.update([RowChange(row, 3)], Allow())
            else:
                await sink.insert(new_row(invoice), Allow())

    bench.halo(work)
    assert (len(_tokens(bench)), bench.waited) == (3, [])
    assert len(halo.writes) == (0 if method == "GET" else 2)


@pytest.mark.parametrize("refusal", [one for one in FORGOTTEN if "Forbidden" not in str(one)][:5])
def test_a_token_that_halo_forgets_at_once(bench: Bench, refusal: tuple[int, object]) -> None:
    """Halo does not know the token that it has just issued, and says so: syncd signs in once more."""
    halo = bench.box.halo
    halo.add_row("pi_1", halo.add_invoice(), 1.0)
    halo.token_refusal = refusal
    asked: list[Request] = []

    def forget(request: Request) -> bool:
        if not asked:
            halo.expire_tokens()
        asked.append(request)
        return False

    halo.faults.append(Fault("500", times=None, path="InvoicePayment", match=forget))
    assert len(bench.halo(lambda sink: sink.rows_of("pi_1"))) == 1
    assert (len(_tokens(bench)), len(asked), bench.waited) == (2, 2, [])


@pytest.mark.parametrize(
    "body", [{"error": "Token not found"}, {"error": {"message": "no such token"}}]
)
def test_a_200_that_does_not_know_the_token(bench: Bench, body: object) -> None:
    """If a read gets a 200 with a token error, the adapter signs in again and repeats the read."""
    halo = bench.box.halo
    halo.add_row("pi_1", halo.add_invoice(), 1.0)

    async def work(sink: HaloSink) -> int:
        await sink.rows_of("pi_1")
        halo.token_refusal = (200, body)
        halo.expire_tokens()
        return len(await sink.rows_of("pi_1"))

    assert (bench.halo(work), len(_tokens(bench)), bench.waited) == (1, 2, [])


LOGIN_PAGES = [
    (200, "<html>Sign in</html>"),
    (302, "/auth/login?returnUrl=x"),
    (203, "<!DOCTYPE html>"),
    (307, "https://portal.example/Account/LogOn"),
]


@pytest.mark.parametrize("page", LOGIN_PAGES)
def test_a_login_page_in_place_of_a_refusal(bench: Bench, page: tuple[int, str]) -> None:
    """If a login page answers a read, the adapter repeats the read once with a new token."""
    halo = bench.box.halo
    halo.add_row("pi_1", halo.add_invoice(), 1.0)
    halo.token_refusal = page

    async def work(sink: HaloSink) -> int:
        await sink.rows_of("pi_1")
        halo.expire_tokens()
        return len(await sink.rows_of("pi_1"))

    assert (bench.halo(work), len(_tokens(bench)), bench.waited) == (1, 2, [])


@pytest.mark.parametrize("page", LOGIN_PAGES)
def test_a_login_page_after_a_write(bench: Bench, page: tuple[int, str]) -> None:
    """If a login page answers a write, the adapter does not resend it; the next request signs in first."""
    halo = bench.box.halo
    invoice = halo.add_invoice()
    halo.add_row("pi_1", invoice, 1.0)
    halo.token_refusal = page

    async def work(sink: HaloSink) -> int:
        await sink.rows_of("pi_1")
        halo.expire_tokens()
        with suppress(LinkFailure):
            await sink.insert(new_row(invoice), Allow())
        return len(await sink.rows_of("pi_1"))

    assert (bench.halo(work), len(_tokens(bench))) == (1, 2)
    assert (len(bench.posts()), halo.writes) == (1, [])


def test_an_address_that_shows_web_pages_only(bench: Bench) -> None:
    """If a new token does not help, the adapter stops requesting new tokens."""
    bench.box.halo.faults.append(Fault("html", times=None, method="GET", path="InvoicePayment"))

    async def work(sink: HaloSink) -> None:
        for _ in range(5):
            with pytest.raises(LinkFailure):
                await sink.rows_of("pi_1")

    bench.halo(work)
    assert len(_tokens(bench)) <= 2


def test_a_missing_permission_costs_one_sign_in(bench: Bench) -> None:
    """A 403 that persists with a new token causes no further sign-ins; reads continue to work."""
    halo = bench.box.halo
    row = halo.add_row("pi_1", halo.add_invoice(), 1.0)
    halo.permissions = {"read:invoices"}

    async def work(sink: HaloSink) -> None:
        await sink.rows_of("pi_1")
        for _ in range(5):
            with pytest.raises(PermissionMissing):
                await sink.update([RowChange(row, 3)], Allow())
            await sink.rows_of("pi_1")
        halo.permissions |= {"edit:invoices"}
        halo.token_refusal = (403, {"Message": "Forbidden"})
        halo.expire_tokens()
        await sink.rows_of("pi_1")
        await sink.update([RowChange(row, 3)], Allow())

    bench.halo(work)
    assert len(_tokens(bench)) == 3


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"Message": "Unexpected token u in JSON at position 1"}'),
        (400, b'{"[0].invoice_id": ["Could not convert string to integer"]}'),
        (400, b'{"ClassName": "System.Exception", "Message": "Record not found"}'),
    ],
)
def test_a_refusal_of_a_row_asks_for_no_token(bench: Bench, status: int, body: bytes) -> None:
    """A 400 about the posted row raises RowsRefused without a new sign-in."""
    bench.box.halo.faults.append(
        Fault("400", times=None, method="POST", path="InvoicePayment", body=body, status=status)
    )
    with pytest.raises(RowsRefused):
        bench.halo(lambda sink: sink.update([RowChange(1, 3)], Allow()))
    assert (len(_tokens(bench)), len(bench.posts())) == (1, 1)


def test_a_refusal_that_a_new_token_does_not_change(bench: Bench) -> None:
    """If Halo refuses a row again with a new token, the adapter raises RowsRefused after one new sign-in."""
    bench.box.halo.faults.append(
        Fault(
            "400",
            times=None,
            method="POST",
            path="InvoicePayment",
            body=b'{"Message": "The token of the accounting sync has expired"}',
        )
    )

    async def work(sink: HaloSink) -> None:
        await sink.rows_of("pi_1")
        for _ in range(4):
            with pytest.raises(RowsRefused):
                await sink.update([RowChange(1, 3)], Allow())

    bench.halo(work)
    assert (len(_tokens(bench)), len(bench.posts())) == (2, 5)


def test_a_firewalls_page_is_not_written_twice(bench: Bench) -> None:
    """A write that gets a web page with status 403 is not sent again, because it may have been applied."""
    bench.box.halo.faults.append(
        Fault("403", times=None, method="POST", path="InvoicePayment", body=b"<html>no</html>")
    )
    with pytest.raises(BadAnswer, match="in front of Halo"):
        bench.halo(lambda sink: sink.insert(new_row(1), Allow()))
    assert (len(_tokens(bench)), len(bench.posts())) == (1, 1)


# --- wrong addresses, and the tenant's name --------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/api/authinfo", "/auth/token", "/api/InvoicePayment"])
@pytest.mark.parametrize(
    ("to", "advice"),
    [
        (
            "https://new.halopsa.example{path}?a=secret",
            "set halo.url to its address, https://new.halopsa.example.",
        ),
        (
            "https://halo.example:8443/sub{path}",
            "set halo.url to its address, https://halo.example:8443/sub.",
        ),
        ("//other.example/", "set halo.url to its address, https://other.example."),
        ("/elsewhere", "Check halo.url."),
        ("", "Check halo.url."),
    ],
)
def test_a_redirect_names_where_it_points(
    bench: Bench, status: int, path: str, to: str, advice: str
) -> None:
    """The error for a redirect names the address to set in halo.url and does not mention the secret."""
    location = to.format(path=path)

    def answer(request: Request) -> bool:
        return request.path == path

    bench.box.halo.faults.append(Fault("redirect", times=None, match=answer, location=location))
    bench.box.halo.faults[0].status = status
    with pytest.raises(BadAnswer) as caught:
        bench.read("halo")
    said = str(caught.value)
    if to.startswith("//"):
        advice = advice.replace("https", "http")
    assert advice in said
    assert f"redirects {'POST' if 'token' in path else 'GET'} {path}" in said
    assert "secret of" not in said
    assert "a=secret" not in said
    assert "client secret" not in said


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>Not found</html>", b'{"Message": "No"}'])
def test_an_address_with_a_path(bench: Bench, body: bytes) -> None:
    """If the sign-in gets a 404, the error blames the path in halo.url and not the secret."""
    bench.box.halo.faults.append(Fault("400", times=None, path="/portal/", body=body, status=404))
    with pytest.raises(
        BadAnswer, match=r"not at http://127.*/portal/auth/token \(HTTP 404\)"
    ) as caught:
        bench.halo(lambda sink: sink.rows_of("pi_1"), url=f"{bench.box.halo.url}/portal")
    assert "halo.url has the path '/portal'; try halo.url without the path." in str(caught.value)


def test_a_page_in_place_of_a_refusal(bench: Bench) -> None:
    """A web page with status 403 instead of the sign-in does not count as a refused secret."""
    bench.box.halo.faults.append(
        Fault("403", times=None, path="/auth/token", body=b"<html>Blocked</html>")
    )
    with pytest.raises(BadAnswer, match="sign-in is not at"):
        bench.read("halo")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b'{"error": "invalid_client", "error_description": "The application is not active"}',
            "The application is not active.",
        ),
        (b'{"error_description": "Token not found"}', "Token not found."),
        (b'{"error": "unauthorized_client"}', "unauthorized_client."),
        (b'{"Message": "Agent is disabled"}', "Agent is disabled."),
        (b'{"error": {"code": 3, "message": "Client disabled"}}', "Client disabled."),
        (b'[{"error_description": "Client disabled"}]', "Client disabled."),
        (b'{"error": {"access_token": "abc"}}', "its answer contains no token."),
        (
            b'{"access_token": "has a space", "refresh_token": "abcdef", "note": "abc"}',
            "its answer contains no token.",
        ),
    ],
)
def test_halos_words_in_a_200_without_a_token(bench: Bench, answer: bytes, words: str) -> None:
    """The error repeats what a 200 says instead of a token, except text that may be a token."""
    bench.box.halo.faults.append(Fault("200", path="/auth/token", body=answer))
    with pytest.raises(SignInRefused) as caught:
        bench.read("halo")
    assert (
        f"(HTTP 200) for client_id 'sandbox-client', scope 'read:invoices edit:invoices': {words}"
        in str(caught.value)
    )
    assert "has a space" not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("places", [{"form"}, {"query"}, {"form", "query"}])
@pytest.mark.parametrize("authinfo", ["whole", "tenant alone", "nothing", "number"])
def test_the_tenant_goes_in_form_and_query(bench: Bench, places: set[str], authinfo: str) -> None:
    """The tenant is sent in form and query; it comes from authinfo or, if authinfo has none, halo.tenant."""
    halo = bench.box.halo
    halo.tenant_wanted_in = places
    if authinfo == "tenant alone":
        halo.authinfo = {"tenant_id": halo.tenant}
    elif authinfo == "nothing":
        halo.authinfo = {}
    elif authinfo == "number":
        halo.tenant, halo.authinfo = "7", {"tenant_id": 7}
    configured = "another" if authinfo != "nothing" else "sandbox"
    bench.halo(lambda sink: sink.rows_of("pi_1"), tenant=configured)
    assert [r.params().get("tenant") for r in _tokens(bench)] == [halo.tenant]


@pytest.mark.parametrize(
    ("named", "ending"),
    [("/auth", "/auth/token"), ("/auth/", "/auth/token"), ("{url}/auth/token", "/auth/token")],
)
def test_how_authinfo_names_the_sign_in(bench: Bench, named: str, ending: str) -> None:
    """Authinfo may give the sign-in address as a path alone or with the endpoint included."""
    halo = bench.box.halo
    halo.authinfo = {"auth_url": named.replace("{url}", halo.url), "tenant_id": halo.tenant}
    bench.read("halo")
    assert [request.path for request in _tokens(bench)] == [ending]


def test_no_host_in_a_path(bench: Bench) -> None:
    """An address without a scheme that names a host is not treated as a path and gets no secret."""
    for named in ("//evil.example/auth", "/\\evil.example/auth"):
        bench.box.halo.authinfo = {"auth_url": named}
        with pytest.raises(SignInRefused, match="not send the client secret there"):
            bench.read("halo")
    assert _tokens(bench) == []


def test_a_refusal_without_a_tenant(bench: Bench) -> None:
    """The error of a refused sign-in mentions halo.tenant only if authinfo names no tenant."""
    bench.box.halo.authinfo = {}
    with pytest.raises(SignInRefused, match=r"names none\. Only if .*set halo\.tenant"):
        bench.read("halo")
    bench.box.halo.authinfo = {"tenant_id": "another"}
    with pytest.raises(SignInRefused) as caught:
        bench.read("halo")
    assert "halo.tenant" not in str(caught.value)


def test_a_tenant_without_authinfo(bench: Bench) -> None:
    """Without authinfo the adapter sends the tenant from halo.tenant."""
    bench.box.halo.has_authinfo = False
    bench.halo(lambda sink: sink.rows_of("pi_1"), tenant="a b&c")
    assert [r.params().get("tenant") for r in _tokens(bench)] == ["a b&c"]


def test_address_with_a_slash(bench: Bench) -> None:
    """A slash at the end of halo.url does not change the requested paths."""
    bench.halo(lambda sink: sink.rows_of("pi_1"), url=bench.box.halo.url + "/")
    assert bench.listings("halo")[0].path == "/api/InvoicePayment"
