"""Whatever either side answers over real HTTP, the adapter returns a result or raises a known error."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.clients.halo import sink as halo_sink
from syncd.clients.stripe.parse import SeenEvent, Unreadable
from syncd.clients.stripe.source import Page
from syncd.core.errors import Failure, LinkFailure, Side, SignInRefused
from syncd.core.rows import RowChange
from syncd.sandbox.http import Reply, Request, json_reply
from tests.hostile.strategies import (
    EVENT,
    HALO_SECRET,
    HALO_TOKEN,
    INTENT,
    ROW,
    SECRETS,
    authinfos,
    events,
    garbage,
    halo_errors,
    headers,
    hostile,
    intents,
    on_the_wire,
    row_pages,
    rows,
    statuses,
    stripe_errors,
    stripe_lists,
    tokens,
)
from tests.hostile.wire import Adapters, Server, assert_fit_to_be_shown
from tests.writes import Allow, new_row

SIGN_IN = {"access_token": HALO_TOKEN, "token_type": "Bearer", "expires_in": 3600}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def both(server: Server) -> Iterator[Adapters]:
    with Adapters(server.url, server.url) as both:
        yield both


def assert_understood(failure: Failure, kind: type[Failure] = Failure) -> None:
    """Check that the error's text can be shown and contains no secret."""
    assert isinstance(failure, kind)
    assert_fit_to_be_shown(str(failure))
    assert str(failure)
    assert failure.__cause__ is None
    if isinstance(failure, LinkFailure) and failure.retry_after_seconds is not None:
        assert 0 <= failure.retry_after_seconds <= 86_400


def halo_answers(
    at: str, status: int, body: bytes, more: dict[str, str], method: str = "GET"
) -> Any:
    """A Halo with a normal sign-in and the given answer at one path."""

    def answer(request: Request) -> Reply:
        if at in request.path and (method == request.method or at != "InvoicePayment"):
            return Reply(status, body, more)
        if "authinfo" in request.path:
            host = request.headers["host"]
            return json_reply({"auth_url": f"http://{host}/auth", "tenant_id": "t"})
        if "token" in request.path:
            return json_reply(SIGN_IN)
        return json_reply([])

    return answer


@hostile(100)
@given(
    statuses,
    headers,
    garbage | on_the_wire(stripe_lists(events)) | on_the_wire(stripe_errors),
)
def test_stripes_lists_of_events(
    server: Server, both: Adapters, status: int, more: dict[str, str], body: bytes
) -> None:
    """A page of events gives every event as read or unreadable, or the whole page fails."""
    server.answer = lambda _: Reply(status, body, more)
    try:
        page: Page = both.do(both.stripe.events(1))
    except Failure as failure:
        assert_understood(failure)
        return
    assert all(isinstance(event, SeenEvent) for event in page.events)
    assert all(isinstance(odd, Unreadable) for odd in page.unreadable)
    assert len(page.events) + len(page.unreadable) <= 100


@hostile(100)
@given(
    statuses,
    headers,
    st.booleans(),
    garbage
    | on_the_wire(stripe_lists(intents))
    | on_the_wire(intents)
    | on_the_wire(stripe_errors),
)
def test_stripes_payment_intents(
    server: Server, both: Adapters, status: int, more: dict[str, str], listed: bool, body: bytes
) -> None:
    """A payment intent is read, is unreadable or raises; another intent than the requested is refused."""
    server.answer = lambda _: Reply(status, body, more)
    try:
        if listed:
            both.do(both.stripe.intents(1))
            return
        read = both.do(both.stripe.intent(INTENT["id"]))
    except Failure as failure:
        assert_understood(failure)
        return
    assert isinstance(read, Unreadable) or read.intent_id == INTENT["id"]


@hostile(100)
@given(statuses, headers, garbage | on_the_wire(row_pages) | on_the_wire(halo_errors))
def test_halos_rows(
    server: Server, both: Adapters, status: int, more: dict[str, str], body: bytes
) -> None:
    """rows_of() returns only rows of the payment, or raises LinkFailure."""
    both.forget_sign_in()  # no example depends on an earlier one
    server.answer = halo_answers("InvoicePayment", status, body, more)
    try:
        found = both.do(both.halo.rows_of(ROW["intent_id"]))
    except Failure as failure:
        assert_understood(failure, LinkFailure)
        return
    assert all(row.intent_id == ROW["intent_id"] for row in found)


@hostile(100)
@given(
    statuses,
    headers,
    st.booleans(),
    garbage | on_the_wire(rows) | on_the_wire(row_pages) | on_the_wire(halo_errors),
)
def test_halos_answers_to_a_write(
    server: Server, both: Adapters, status: int, more: dict[str, str], new: bool, body: bytes
) -> None:
    """The answer to a write gives rows with IDs, acknowledges nothing, or raises an error."""
    both.forget_sign_in()
    server.answer = halo_answers("InvoicePayment", status, body, more, "POST")
    write = (
        both.halo.insert(new_row(1), Allow())
        if new
        else both.halo.update([RowChange(7, 3)], Allow())
    )
    try:
        answer = both.do(write)
    except Failure as failure:
        assert_understood(failure)
        return
    assert 200 <= status < 300
    assert answer is not None
    assert_fit_to_be_shown(answer.complaint or "")
    assert all(row.id is not None for row in answer.rows)


@hostile(100)
@given(
    st.sampled_from(["authinfo", "token"]),
    statuses,
    headers,
    garbage | on_the_wire(tokens) | on_the_wire(authinfos) | on_the_wire(halo_errors),
)
def test_halos_sign_in(
    server: Server, both: Adapters, at: str, status: int, more: dict[str, str], body: bytes
) -> None:
    """The sign-in works or fails; the secret goes only to the token endpoint, and no token goes there."""
    server.answer = halo_answers(at, status, body, more)
    server.requests.clear()
    both.forget_sign_in()
    try:
        both.do(both.halo.rows_of("pi_nobody"))
    except Failure as failure:
        assert_understood(failure)
    assert all(request.path.endswith("/token") for request in server.requests if request.body)
    assert not [r for r in server.requests if r.authorization and "/token" in r.path]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("where", ["error", "rows", "token", "authinfo", "location"])
def test_a_side_that_sends_our_secrets_back(
    server: Server, both: Adapters, secret: str, where: str
) -> None:
    """If an answer repeats a secret, in whatever shape, the error does not contain the secret."""
    both.forget_sign_in()
    if where == "error":
        body = {"error": {"message": f"bad key {secret}.", "type": "invalid_request_error"}}
        server.answer = lambda _: json_reply(body, 403)
        with pytest.raises(Failure) as failed:
            both.do(both.stripe.events(1))
    else:
        path, status = {
            "rows": ("InvoicePayment", 400),
            "token": ("token", 400),
            "authinfo": ("authinfo", 500),
            "location": ("InvoicePayment", 302),
        }[where]
        reply = json_reply({"[0].x": [secret, f"x{secret}"], "y": secret}, status)
        reply.headers["Location"] = f"https://{secret}.example/{secret}?{secret}"
        server.answer = halo_answers(path, status, reply.body, reply.headers)
        with pytest.raises(Failure) as failed:
            both.do(both.halo.rows_of("pi_nobody"))
    assert_understood(failed.value)


@pytest.mark.parametrize(
    "token", ["a\nb", "a b", "tökén", "", "\ud800", 5, ["a"], "x" * 20_000, None]
)
def test_tokens_that_are_none(server: Server, both: Adapters, token: object) -> None:
    """A token that cannot be sent in a header is refused, and the adapter does not send it."""
    both.forget_sign_in()
    server.requests.clear()
    body = json_reply({**SIGN_IN, "access_token": token}).body
    server.answer = halo_answers("token", 200, body, {})
    with pytest.raises(SignInRefused, match="contains no token"):
        both.do(both.halo.rows_of("pi_nobody"))
    assert [request.path for request in server.requests] == ["/api/authinfo", "/auth/token"]


@pytest.mark.parametrize(
    "lifetime", [b"1e999", b"1e9999999", b"-5", b"true", b'"x"', b"null", b"9" * 400, b"0", b"NaN"]
)
def test_odd_lifetimes_of_a_token(server: Server, both: Adapters, lifetime: bytes) -> None:
    """Whatever lifetime a token names, the adapter uses the token and renews it within a day."""
    both.forget_sign_in()
    body = b'{"access_token": "abc", "expires_in": ' + lifetime + b"}"
    server.answer = halo_answers("token", 200, body, {})
    if lifetime == b"NaN":  # not valid JSON
        with pytest.raises(Failure):
            both.do(both.halo.rows_of("pi_nobody"))
        return
    assert both.do(both.halo.rows_of("pi_nobody")) == []
    assert both.halo.sign_in._token_until <= both.halo.calling.now() + 86_400


@pytest.mark.parametrize(
    "auth_url",
    ["http://evil.example/auth", "https://user:password@evil.example", "https://[::1", "https://a:99999/x",
     "https://a..b/auth", f"https://{'a' * 64}.example", "ftp://evil.example", "https:///auth",
     "https://evil.example/a\nb", "https://e\x1b[31mvil.example", "https://evil.example/?x=", "//evil.example",
     "https://evil.example\\@good.example", "https://\ud800.example"],
)  # fmt: skip
def test_places_to_sign_in_at_that_are_none(server: Server, both: Adapters, auth_url: str) -> None:
    """The client secret is sent only to a valid https address; otherwise the adapter raises."""
    both.forget_sign_in()
    server.requests.clear()
    server.answer = halo_answers("authinfo", 200, json_reply({"auth_url": auth_url}).body, {})
    with pytest.raises(LinkFailure) as failed:
        both.do(both.halo.rows_of("pi_nobody"))
    assert_understood(failed.value)
    assert failed.value.side is Side.HALO
    assert [request.path for request in server.requests] == ["/api/authinfo"]
    assert HALO_SECRET not in repr(both.halo)


# --- inconsistent pages --------------------------------------------------------------------------------


def page_of(number: int, *, has_more: bool = False) -> Reply:
    data = [{**EVENT, "id": f"evt_{index}"} for index in range(number)]
    return json_reply({"object": "list", "data": data, "has_more": has_more})


def test_a_page_longer_than_was_asked_for(server: Server, both: Adapters) -> None:
    """A page with 100 events is accepted, a page with 101 events is an error."""
    server.answer = lambda _: page_of(100)
    assert len(both.do(both.stripe.events(1)).events) == 100
    server.answer = lambda _: page_of(101)
    with pytest.raises(LinkFailure, match="more entries than the 100 that syncd asked for"):
        both.do(both.stripe.events(1))


@pytest.mark.parametrize("items", [[], [None], [{"id": 5}], [{"id": "evt_here"}]])
def test_more_without_a_place_to_go_on(server: Server, both: Adapters, items: list[Any]) -> None:
    """If Stripe announces more events but gives no ID to continue from, the listing fails."""
    server.answer = lambda _: json_reply({"data": items, "has_more": True})
    with pytest.raises(LinkFailure, match="an id to continue from"):
        both.do(both.stripe.events(1, "evt_here"))


def test_rows_without_end(server: Server, both: Adapters, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Halo shows new rows on every page, the adapter stops after a limited number of pages."""
    monkeypatch.setattr(halo_sink, "PAGES_OF_ONE_INTENT_MAX", 20)

    def answer(request: Request) -> Reply:
        first = int(request.params().get("page_no", 0)) * 100
        return json_reply([{"id": first + n, "intent_id": "pi_else"} for n in range(100)])

    signed_in = halo_answers("nowhere", 200, b"", {})
    server.answer = lambda r: answer(r) if r.path == "/api/InvoicePayment" else signed_in(r)
    both.forget_sign_in()
    server.requests.clear()
    with pytest.raises(LinkFailure, match="does not end"):
        both.do(both.halo.rows_of("pi_here"))
    assert len(server.requests) == 22
