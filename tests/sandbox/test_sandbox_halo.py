"""What the sandbox's Halo refuses, and which faults it can show on demand."""

import http.client
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from syncd.sandbox import Sandbox
from syncd.sandbox.halo.tenant import LIST_KEYS_SEEN, REQUIRED
from tests.conftest import Rig

SIGN_IN = {
    "grant_type": "client_credentials",
    "client_id": "sandbox-client",
    "client_secret": "sandbox-client-secret",
    "scope": "read:invoices edit:invoices",
    "tenant": "sandbox",
}
FORM = "application/x-www-form-urlencoded"


def ask(
    box: Sandbox,
    method: str,
    path: str,
    body: object = None,
    token: str | None = None,
    content_type: str = "application/json",
) -> tuple[int, Any]:
    """Send one request to the sandbox's Halo; return the status and the JSON, or bytes for other content."""
    connection = http.client.HTTPConnection(box.halo.url.removeprefix("http://"), timeout=5)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if body is not None:
        headers["Content-Type"] = content_type
    try:
        connection.request(method, path, None if body is None else content, headers)
        answer = connection.getresponse()
        raw = answer.read()
        kind = answer.getheader("Content-Type") or ""
        return answer.status, json.loads(raw) if "json" in kind and raw else raw
    finally:
        connection.close()


def sign_in(box: Sandbox, **other: str) -> str:
    form = urlencode({k: v for k, v in (SIGN_IN | other).items() if v}).encode()
    status, body = ask(box, "POST", "/auth/token", form, content_type=FORM)
    assert status == 200, body
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    return str(body["access_token"])


# --- signing in ------------------------------------------------------------------------------------


def test_authinfo(rig: Rig) -> None:
    """Authinfo shows the sign-in address and the tenant without a token; a Halo can also lack authinfo."""
    assert ask(rig.box, "GET", "/api/authinfo") == (
        200,
        {"auth_url": f"{rig.box.halo.url}/auth", "tenant_id": "sandbox"},
    )
    rig.box.halo.has_authinfo = False
    assert ask(rig.box, "GET", "/api/authinfo")[0] == 404
    sign_in(rig.box, tenant="")


@pytest.mark.parametrize(
    ("other", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_id": "x"}, 401, "invalid_client"),
        ({"client_secret": "x"}, 401, "invalid_client"),
        ({"tenant": ""}, 400, "invalid_request"),
        ({"tenant": "x"}, 400, "invalid_request"),
        ({"scope": ""}, 400, "invalid_scope"),
        ({"scope": "edit:tickets"}, 400, "invalid_scope"),
    ],
)
def test_sign_ins_that_are_refused(
    rig: Rig, other: dict[str, str], status: int, error: str
) -> None:
    """A sign-in with a wrong grant type, client, secret, tenant or scope is refused."""
    form = urlencode({k: v for k, v in (SIGN_IN | other).items() if v}).encode()
    got, body = ask(rig.box, "POST", "/auth/token", form, content_type=FORM)
    assert (got, body["error"]) == (status, error)


def test_sign_in_takes_a_form_alone(rig: Rig) -> None:
    """A sign-in as JSON is refused; the recorded request of a form sign-in does not contain the secret."""
    assert ask(rig.box, "POST", "/auth/token", SIGN_IN)[0] == 400
    sign_in(rig.box)
    assert rig.box.halo.requests[-1].body == b""


def test_tokens(rig: Rig) -> None:
    """A missing, invented or expired token gets a 401; a token without the scope gets a 403."""
    path = "/api/InvoicePayment"
    assert ask(rig.box, "GET", path)[0] == 401
    assert ask(rig.box, "GET", path, token="invented")[0] == 401
    reader = sign_in(rig.box, scope="read:invoices")
    assert ask(rig.box, "GET", path, token=reader)[0] == 200
    assert ask(rig.box, "POST", path, [], reader)[0] == 403
    assert ask(rig.box, "POST", path, [], sign_in(rig.box, scope="all"))[0] == 201
    rig.clock.seconds += 3_600
    assert ask(rig.box, "GET", path, token=reader)[0] == 401
    token = sign_in(rig.box)
    rig.box.halo.expire_tokens()
    assert ask(rig.box, "GET", path, token=token)[0] == 401
    rig.box.halo.permissions = {"read:invoices"}
    assert ask(rig.box, "POST", path, [], sign_in(rig.box))[0] == 403


# --- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"id": 1, "status": 3}, "application/json", 400),
        (b"{", "application/json", 415),
        (b"id=1", FORM, 415),
        (3, "application/json", 400),
        (["x"], "application/json", 400),
        ([{"id": 1, "status": "3"}], "application/json", 400),
        ([{"id": 1, "status": True}], "application/json", 400),
        ([{"id": 1, "status": 3.5}], "application/json", 400),
        ([{"id": None, "status": 3}], "application/json", 400),
        ([{"id": 1, "amount": "10.99"}], "application/json", 400),
        ([{"id": 1, "webhook_payload": {"a": 1}}], "application/json", 400),
        ([{"id": 1, "webhook_received_date": "today"}], "application/json", 400),
        ([{"id": 99, "status": 3}], "application/json", 400),
        ([{"amount": 1}], "application/json", 400),
        ([{"invoice_id": 1}], "application/json", 400),
        ([{"invoice_id": 1001}], "application/json", 400),
    ],
)
def test_posts_that_are_refused(rig: Rig, body: object, kind: str, status: int) -> None:
    """A bare object, invalid JSON, a wrong type or an unknown ID is refused, and no row changes."""
    rig.box.halo.add_row("pi_1", rig.box.halo.add_invoice(), 10.99)
    before = json.dumps(rig.box.halo.rows)
    assert ask(rig.box, "POST", "/api/InvoicePayment", body, sign_in(rig.box), kind)[0] == status
    assert (json.dumps(rig.box.halo.rows), rig.box.halo.writes) == (before, [])


def test_one_bad_row_fails_all(rig: Rig) -> None:
    """One invalid row makes Halo refuse the whole list; the error names the row's position."""
    row = rig.box.halo.add_row("pi_1", rig.box.halo.add_invoice(), 10.99)
    token, path = sign_in(rig.box), "/api/InvoicePayment"
    rows = [{"id": row, "status": 3}, {"id": row, "invoice_id": "INV-1001"}]
    assert ask(rig.box, "POST", path, rows, token) == (
        400,
        {"[1].invoice_id": ["Could not convert str to integer."]},
    )
    rig.box.halo.poison(row, "No.")
    assert ask(rig.box, "POST", path, rows[:1], token) == (400, {"[0].status": ["No."]})
    rig.box.halo.unpoison(row)
    assert ask(rig.box, "POST", path, [{"id": 99, "status": 3}], token) == (
        400,
        {"ClassName": "System.Exception", "Message": "Record not found"},
    )
    assert rig.box.halo.rows[row]["status"] == 1


def test_merged_or_inserted_twice(rig: Rig) -> None:
    """A row with an ID is merged into its row; a row without an ID is inserted once for each post."""
    halo = rig.box.halo
    invoice = halo.add_invoice()
    row = halo.add_row("pi_1", invoice, 10.99)
    token, path = sign_in(rig.box), "/api/InvoicePayment"
    status, (answer,) = ask(rig.box, "POST", path, [{"id": row, "status": 3}], token)
    assert (status, answer["amount"], answer["status"]) == (201, 10.99, 3)
    new = {"invoice_id": invoice, "amount": 0.1, "intent_id": "pi_2", "more": "kept"}
    for _ in range(2):
        assert ask(rig.box, "POST", path, [new], token)[0] == 201
    assert [(r["amount"], r["more"]) for r in halo.rows_of("pi_2")] == [(0.1, "kept")] * 2
    assert [inserted for _, _, inserted in halo.writes] == [False, True, True]


# --- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["InvoicePayment", "Invoice"])
def test_single_objects(rig: Rig, kind: str) -> None:
    """A row or an invoice is read by its ID; an unknown ID gets a 400, another method a 405."""
    halo, token = rig.box.halo, sign_in(rig.box)
    invoice = halo.add_invoice(total=30.0)
    row = halo.add_row("pi_1", invoice, 10.0)
    name = row if kind == "InvoicePayment" else invoice
    status, body = ask(rig.box, "GET", f"/api/{kind}/{name}", token=token)
    assert (status, body["id"]) == (200, name)
    unknown = ask(rig.box, "GET", f"/api/{kind}/-5", token=token)
    assert unknown == (400, {"ClassName": "System.Exception", "Message": "Record not found"})
    assert ask(rig.box, "GET", f"/api/{kind}/pi_1", token=token)[0] == 400
    assert ask(rig.box, "PUT", f"/api/{kind}/{name}", {}, token)[0] == 405
    assert ask(rig.box, "PUT", "/api/InvoicePayment", [], token)[0] == 405
    assert ask(rig.box, "GET", "/api/Nothing/1", token=token)[0] == 404
    assert ask(rig.box, "GET", "/api/Nothing", token=token)[0] == 404


def test_delete(rig: Rig) -> None:
    """A row is deleted by its ID; a second deletion fails, and the payment has no row."""
    halo, token = rig.box.halo, sign_in(rig.box)
    row = halo.add_row("pi_1", halo.add_invoice(), 10.0)
    assert ask(rig.box, "DELETE", f"/api/InvoicePayment/{row}", token=token)[0] == 200
    assert ask(rig.box, "DELETE", f"/api/InvoicePayment/{row}", token=token)[0] == 400
    assert halo.rows_of("pi_1") == []


def test_invoice_follows_its_rows(rig: Rig) -> None:
    """The paid and due amounts of an invoice follow the status of its rows."""
    halo, token = rig.box.halo, sign_in(rig.box)
    invoice = halo.add_invoice(total=30.0)
    halo.add_row("pi_1", invoice, 10.0, 3)
    open_row = halo.add_row("pi_2", invoice, 20.0)
    names = ("amountpaid", "amountdue", "paymentstatus", "datepaid")
    body = ask(rig.box, "GET", f"/api/Invoice/{invoice}", token=token)[1]
    assert [body[name] for name in names] == [10.0, 20.0, 0, "1900-01-01T00:00:00"]
    halo.rows[open_row]["status"] = 3
    body = ask(rig.box, "GET", f"/api/Invoice/{invoice}", token=token)[1]
    assert [body[name] for name in names] == [30.0, 0.0, 2, "2026-11-24T06:00:00Z"]
    assert [row["intent_id"] for row in body["payments"]] == ["pi_1", "pi_2"]


def test_invoices_are_listed_in_pages(rig: Rig) -> None:
    """Invoices are listed in pages without their payments; page_size works only together with page_no."""
    halo, token = rig.box.halo, sign_in(rig.box)
    made = [halo.add_invoice(total=1.0) for _ in range(120)]
    paging = "/api/Invoice?pageinate=true&order=id&orderdesc=true"

    def listed(query: str) -> tuple[list[int], int | None]:
        body = ask(rig.box, "GET", f"{paging}{query}", token=token)[1]
        assert all("payments" not in one for one in body["invoices"])
        return [one["id"] for one in body["invoices"]], body.get("record_count")

    assert listed("&page_no=2&page_size=100") == (made[19::-1], 120)
    assert listed("&page_size=100") == (made[:69:-1], 120)
    assert listed("&page_no=3&page_size=100") == ([], 120)
    halo.invoice_list.page_cap = 20
    assert listed("&page_no=1&page_size=100")[0] == made[:99:-1]
    halo.invoice_list.paging = "same_page"
    assert listed("&page_no=2&page_size=100")[0] == made[:99:-1]
    halo.invoice_list.paging = "ignored"
    assert listed("&page_no=2&page_size=100")[0] == made[::-1]
    halo.invoice_list.keys = LIST_KEYS_SEEN
    body = ask(rig.box, "GET", f"{paging}&page_no=1", token=token)[1]
    assert body["invoices"][0].keys() == LIST_KEYS_SEEN
    halo.invoice_list.paging = "absent"
    assert ask(rig.box, "GET", "/api/Invoice", token=token)[0] == 404


def rows(rig: Rig, query: str) -> list[int]:
    status, body = ask(rig.box, "GET", f"/api/InvoicePayment?{query}", token=sign_in(rig.box))
    assert status == 200, body
    return [row["id"] for row in body["payments"]]


def test_filters_and_order(rig: Rig) -> None:
    """The documented filters, the order and the count limit work on the listing of rows."""
    halo = rig.box.halo
    one, two, three = (
        halo.add_row(f"pi_{n}", 1000 + n, amount, client_id=n)
        for n, amount in ((1, 5), (2, 9), (3, 7))
    )
    assert rows(rig, "") == [one, two, three]
    assert rows(rig, "intent_id=pi_2") == [two]
    assert rows(rig, "invoice_id=1003") == rows(rig, "client_id=3") == [three]
    assert rows(rig, "search=PI_1") == [one]
    assert rows(rig, "count=2") == [one, two]
    assert rows(rig, "order=id&orderdesc=true") == [three, two, one]
    assert rows(rig, "order=amount") == [one, three, two]
    assert rows(rig, "pageinate=true&page_no=2&page_size=2") == [three]


@pytest.mark.parametrize(
    "query", ["since=1", "status=3", "updated_after=1", "page_size=all", "pageinate=1", "count=",
              "orderdesc=down", "client_id=x"],
)  # fmt: skip
def test_filters_that_do_not_exist(rig: Rig, query: str) -> None:
    """A filter by date, status or change gets a 400, and so does a value of the wrong type."""
    assert ask(rig.box, "GET", f"/api/InvoicePayment?{query}", token=sign_in(rig.box))[0] == 400


def test_paging_as_it_is_met(rig: Rig) -> None:
    """Pages are capped at 100 rows.

    Halo can also ignore paging or filters, repeat a page or send bare lists.
    """
    halo, query = rig.box.halo, "/api/InvoicePayment?pageinate=true&page_size=500&page_no="
    token = sign_in(rig.box)
    for n in range(150):
        halo.add_row(f"pi_{n}", 1, n)

    def page(number: int) -> tuple[int, int, int]:
        body = ask(rig.box, "GET", f"{query}{number}", token=token)[1]
        shown = body["payments"] if isinstance(body, dict) else body
        return len(shown), shown[0]["id"] if shown else 0, len(body)

    assert [page(1), page(2), page(3)] == [(100, 1, 2), (50, 101, 2), (0, 0, 2)]
    halo.paging = "same_page"
    assert [page(1), page(2)] == [(100, 1, 2), (100, 1, 2)]
    halo.paging = "ignored"
    assert page(2) == (150, 1, 2)
    halo.paging, halo.list_shape = "honoured", "bare"
    assert [page(1), page(2)] == [(100, 1, 100), (50, 101, 50)]
    halo.filter_ignored = True
    shown = ask(rig.box, "GET", "/api/InvoicePayment?intent_id=pi_1", token=token)[1]
    assert len(shown) == 150


def test_rate(rig: Rig) -> None:
    """Halo allows 300 requests per 5 minutes, authinfo included; the next one gets a 429 in plain text."""
    for _ in range(300):
        rig.box.halo._recent.append(rig.clock())
    status, body = ask(rig.box, "GET", "/api/authinfo")
    assert (status, body) == (
        429,
        b"Rate Limit Reached - 300 Requests per rolling 5 minute window",
    )
    rig.clock.seconds += 299.9
    assert ask(rig.box, "GET", "/api/authinfo")[0] == 429
    rig.clock.seconds += 0.1
    assert ask(rig.box, "GET", "/api/authinfo")[0] == 200


def test_native_webhook(rig: Rig) -> None:
    """Halo's own webhook writes the event, its status number and the time into every row of the payment."""
    halo, stripe = rig.box.halo, rig.box.stripe
    payment = stripe.create_intent()
    made = [halo.add_row(payment, 1, 5), halo.add_row(payment, 2, 6)]
    stripe.advance(payment, "processing")
    halo.native_webhook(stripe.events[-1])
    for name in made:
        row = halo.rows[name]
        assert (row["status"], row["webhook_received_date"]) == (5, "2026-11-24T06:00:00Z")
        assert json.loads(row["webhook_payload"]) == stripe.events[-1]


# --- tenants that differ in undocumented behaviour ---------------------------------------------------


def stored(rig: Rig, posted: dict[str, Any]) -> tuple[int, Any, dict[str, Any]]:
    """Post a change of one row; return the status, the answer and the row as read afterwards."""
    halo = rig.box.halo
    name = halo.add_row("pi_1", halo.add_invoice(total=10.99), 10.99)
    token = sign_in(rig.box)
    status, body = ask(rig.box, "POST", "/api/InvoicePayment", [{"id": name, **posted}], token)
    _, row = ask(rig.box, "GET", f"/api/InvoicePayment/{name}", token=token)
    return status, body, row


def test_a_tenant_that_merges(rig: Rig) -> None:
    """By default a partial update keeps all other columns, and the change of the invoice is recorded."""
    status, _, row = stored(rig, {"status": 3})
    assert (status, row["status"], row["amount"], row["method"]) == (201, 3, 10.99, 12)
    token = sign_in(rig.box)
    path = f"/api/InvoiceChange?invoice_id={row['invoice_id']}"
    _, body = ask(rig.box, "GET", path, token=token)
    assert {(c["field_name"], c["old_value"], c["new_value"]) for c in body["changehistory"]} == {
        ("amountpaid", "0", "10.99"),
        ("amountdue", "10.99", "0.0"),
        ("paymentstatus", "0", "2"),
    }


def test_a_tenant_that_refuses(rig: Rig) -> None:
    """A tenant can refuse a partial update and name a missing column; it accepts the whole row."""
    rig.box.halo.keeps.partial = "refuse"
    status, body, row = stored(rig, {"status": 3})
    assert (status, row["status"]) == (400, 1)
    assert body["errorMessage"] == "invoice_id must be specified"
    whole = {key: row[key] for key in REQUIRED} | {"id": row["id"], "status": 3}
    token = sign_in(rig.box)
    assert ask(rig.box, "POST", "/api/InvoicePayment", [whole], token)[0] == 201
    assert rig.box.halo.rows[row["id"]]["status"] == 3


def test_a_tenant_that_drops(rig: Rig) -> None:
    """A tenant can answer with the sent status without storing it."""
    rig.box.halo.keeps.drops = frozenset({"status"})
    status, body, row = stored(rig, {"status": 3})
    assert (status, body[0]["status"], row["status"]) == (201, 3, 1)


def test_a_tenant_that_empties(rig: Rig) -> None:
    """A tenant can clear the columns that a partial update omits: the amount becomes 0, the intent None."""
    rig.box.halo.keeps.partial = "empty"
    status, _, row = stored(rig, {"status": 3})
    assert (status, row["status"], row["amount"], row["intent_id"]) == (201, 3, 0, None)
    assert row["invoice_id"] == 0


def test_a_tenant_whose_lists_hide(rig: Rig) -> None:
    """A tenant's lists can omit a field that the single row shows, and all answers can omit nulls."""
    halo = rig.box.halo
    halo.shows.lists_hide = frozenset({"intent_id"})
    halo.shows.nulls_left_out = True
    name = halo.add_row("pi_1", halo.add_invoice(), 10.99)
    token = sign_in(rig.box)
    _, listed = ask(rig.box, "GET", "/api/InvoicePayment?intent_id=pi_1", token=token)
    _, alone = ask(rig.box, "GET", f"/api/InvoicePayment/{name}", token=token)
    assert [row["id"] for row in listed["payments"]] == [name]
    assert "intent_id" not in listed["payments"][0]
    assert alone["intent_id"] == "pi_1"
    assert "webhook_payload" not in alone


def test_names_for_numbers(rig: Rig) -> None:
    """Halo lists its modules and lookups; a tenant can lack the page of lookups."""
    token = sign_in(rig.box)
    _, modules = ask(rig.box, "GET", "/api/Features", token=token)
    assert {"id", "module_name", "actual_name", "enabled"} == set(modules[0])
    _, lookups = ask(rig.box, "GET", "/api/Lookup", token=token)
    assert {"lookupid": 71, "id": 12, "name": "Stripe"} in lookups
    del rig.box.halo.tables["Lookup"]
    assert ask(rig.box, "GET", "/api/Lookup", token=token)[0] == 404
