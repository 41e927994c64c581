"""Compare the sandbox's answers and the adapters' requests with the two API descriptions.

The descriptions are in ``../shared/api``, outside the repository.
"""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jsonschema
import pytest

from syncd.clients.halo.sink import HaloSink
from syncd.clients.stripe.parse import SeenEvent, read_event, read_intent
from syncd.clients.stripe.source import StripeSource
from syncd.core.payments import PaymentState
from syncd.sandbox import Request
from tests.conftest import ROOT, Rig
from tests.contract.conftest import Bench

API = ROOT.parent / "shared" / "api"
pytestmark = pytest.mark.skipif(
    not API.is_dir(), reason=f"the API descriptions aren't here ({API})"
)

STATES = tuple(PaymentState)


class Description:
    """One OpenAPI 3.0 description, converted to JSON Schema."""

    def __init__(self, file: str, base: str = "") -> None:
        self.base = base
        self.all = _plain_schema(json.loads((API / file).read_text()))

    def operation(self, method: str, path: str) -> dict[str, Any]:
        """Return the description of a request; fail if it is not described."""
        wanted = path.removeprefix(self.base)
        for template, operations in self.all["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), wanted):
                found: dict[str, Any] = operations[method.lower()]
                return found
        raise AssertionError(f"{method} {path} is not described")

    def check(self, value: object, schema: dict[str, Any]) -> None:
        """Validate a value against a schema."""
        whole = {**schema, "components": self.all["components"]}
        jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker()).validate(
            value
        )

    def named(self, name: str) -> dict[str, Any]:
        return {"$ref": f"#/components/schemas/{name}"}

    def answer(self, method: str, path: str, status: str = "200") -> dict[str, Any]:
        """Return the schema of an answer; it is empty if none is documented."""
        content = self.operation(method, path)["responses"][status].get("content", {})
        schema: dict[str, Any] = content.get("application/json", {}).get("schema", {})
        return schema

    def check_request(self, request: Request) -> None:
        """Check that every parameter of the request is described and has its type."""
        described = self.operation(request.method, request.path).get("parameters", [])
        known = {p["name"]: p["schema"] for p in described if p["in"] == "query"}
        for key, text in request.query:
            name, _, part = key.partition("[")
            assert name in known, f"{request.method} {request.path} has no {name}"
            schema = known[name]
            if part:
                inner = [schema, *schema.get("anyOf", [])]
                field = part.rstrip("]")
                arrays = [s["items"] for s in inner if "items" in s and field.isdigit()]
                fields = [s["properties"][field] for s in inner if field in s.get("properties", {})]
                (schema,) = arrays + fields
            self.check(_typed(text, schema), schema)


def _plain_schema(value: Any) -> Any:
    """Convert OpenAPI 3.0's `nullable` to JSON Schema."""
    if isinstance(value, list):
        return [_plain_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {k: _plain_schema(v) for k, v in value.items() if k != "nullable"}
    if value.get("nullable") is True and "type" in plain:
        plain["type"] = [plain["type"], "null"]
    return plain


def _typed(text: str, schema: dict[str, Any]) -> object:
    """Convert a parameter's text to the type in its schema."""
    if schema.get("type") == "integer":
        return int(text)
    return {"true": True, "false": False}[text] if schema.get("type") == "boolean" else text


@pytest.fixture(scope="module")
def stripe() -> Description:
    return Description("stripe.openapi.json")


@pytest.fixture(scope="module")
def halo() -> Description:
    return Description("halo.openapi.json", base="/api")


def _get(url: str, token: str = "", method: str = "GET", **query: str) -> tuple[int, Any]:
    full = f"{url}?{urlencode(query)}" if query else url
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(full, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


# --- Stripe ----------------------------------------------------------------------------------------


def test_stripes_lists_and_objects(bench: Bench, stripe: Description) -> None:
    """Events and payment intents, listed or read alone, match Stripe's description in every state."""
    box = bench.box.stripe
    box.create_intent(description="made", customer="cus_1", metadata={"a": "b"})
    for state in STATES:
        box.advance(box.create_intent(), state)
    for kind, things in (("events", box.events), ("payment_intents", box.intents.values())):
        status, listed = _get(f"{box.url}/v1/{kind}", box.api_key)
        assert (status, len(listed["data"])) == (200, len(things))
        stripe.check(listed, stripe.answer("GET", f"/v1/{kind}"))
        for thing in things:
            status, one = _get(f"{box.url}/v1/{kind}/{thing['id']}", box.api_key)
            assert (status, one) == (200, thing)
            stripe.check(one, stripe.answer("GET", f"/v1/{kind}/{{id}}"))


@pytest.mark.parametrize(
    ("path", "key", "query", "status"),
    [
        ("events", "", {}, 401),
        ("events", "rk_test_other", {}, 401),
        ("events", "pk_test_x", {}, 403),
        ("events", None, {"limit": "101"}, 400),
        ("events", None, {"starting_after": "evt_x"}, 400),
        ("events", None, {"nonsense": "1"}, 400),
        ("payment_intents/pi_x", None, {}, 404),
        ("events/evt_x", None, {}, 404),
        ("nothing", None, {}, 404),
    ],
)
def test_stripes_errors(
    bench: Bench,
    stripe: Description,
    path: str,
    key: str | None,
    query: dict[str, str],
    status: int,
) -> None:
    """Errors of the sandbox's Stripe have the shape that Stripe describes."""
    box = bench.box.stripe
    got, body = _get(f"{box.url}/v1/{path}", box.api_key if key is None else key, **query)
    assert got == status
    stripe.check(body, stripe.named("error"))
    permissions, box.permissions = box.permissions, set()
    status, body = _get(f"{box.url}/v1/events", box.api_key)
    stripe.check(body, stripe.named("error"))
    box.permissions, box.rate_limit_per_second = permissions, 0
    status, body = _get(f"{box.url}/v1/events", box.api_key)
    assert status == 429
    stripe.check(body, stripe.named("error"))


def test_what_is_sent_to_stripe(bench: Bench, stripe: Description) -> None:
    """Stripe's description contains every request and every parameter that the adapter sends."""
    made = bench.box.stripe.create_intent()
    for n in range(101):
        bench.box.stripe.emit(made, "processing", bench.clock() - n)
        bench.box.stripe.create_intent(created=bench.clock() - n)

    async def everything(source: StripeSource) -> None:
        events = await source.events(0)
        await source.events(0, events.cursor)
        intents = await source.intents(0)
        await source.intents(0, intents.cursor, before=2_000_000_000)
        await source.intent(made)

    bench.stripe(everything)
    assert len(bench.box.stripe.requests) == 5
    for request in bench.box.stripe.requests:
        stripe.check_request(request)


@pytest.mark.parametrize("state", STATES)
def test_sample_events(stripe: Description, state: PaymentState) -> None:
    """The samples of real events match the description and are read with the right state and fields."""
    sample = json.loads((API / "samples" / f"payment_intent.{state}.json").read_text())
    stripe.check(sample, stripe.named("event"))
    read = read_event(sample, "halo_invoice_id")
    assert isinstance(read, SeenEvent)
    assert read.observation is not None
    inside = sample["data"]["object"]
    assert (
        read.id,
        read.at,
        read.kind,
        read.observation.state,
        read.observation.intent_id,
        read.observation.amount,
        read.observation.currency,
        read.observation.created,
        read.observation.complete,
    ) == (
        sample["id"],
        sample["created"],
        f"payment_intent.{state}",
        state,
        inside["id"],
        inside["amount"],
        inside["currency"],
        inside["created"],
        True,
    )
    assert "client_secret" not in str(read.observation.trace)
    assert inside["client_secret"] not in str(read.observation.trace)
    itself = read_intent(inside, "halo_invoice_id", 0)
    assert getattr(itself, "state", None) is state


def test_the_sandbox_draws_what_the_samples_draw(bench: Bench) -> None:
    """The sandbox's events have all fields of the real sample events."""
    for state in STATES:
        sample = json.loads((API / "samples" / f"payment_intent.{state}.json").read_text())
        bench.box.stripe.advance(bench.box.stripe.create_intent(), state)
        event = bench.box.stripe.events[-1]
        assert set(event) >= set(sample) - {"request"}
        assert set(event["data"]["object"]) >= set(sample["data"]["object"])


# --- Halo ------------------------------------------------------------------------------------------


def _token(bench: Bench) -> str:
    bench.read("halo")
    token: str = bench.listings("halo")[-1].authorization.removeprefix("Bearer ")
    return token


def test_halos_rows_and_invoices(bench: Bench, halo: Description) -> None:
    """Invoice payments, listed or read alone, and invoices match Halo's description."""
    box = bench.box.halo
    token = _token(bench)
    invoice = box.add_invoice(total=20.0)
    for intent in ("pi_1", None):
        box.add_row(intent, invoice, 10.0, 3)
    box.native_webhook({"type": "payment_intent.succeeded", "data": {"object": {"id": "pi_1"}}})
    status, listed = _get(f"{box.url}/api/InvoicePayment", token)
    assert (status, set(listed), listed["record_count"]) == (200, {"payments", "record_count"}, 2)
    for row in listed["payments"]:
        halo.check(row, halo.named("InvoicePayment_List"))
        assert _get(f"{box.url}/api/InvoicePayment/{row['id']}", token) == (200, row)
    status, read = _get(f"{box.url}/api/Invoice/{invoice}", token)
    assert (status, len(read["payments"])) == (200, 2)
    halo.check(read, halo.answer("GET", "/api/Invoice/1"))
    assert (read["amountpaid"], read["amountdue"], read["total"]) == (20.0, 0.0, 20.0)


def test_halo_reads_an_invoice_as_the_facts_have_it(bench: Bench) -> None:
    """An invoice shows its paid and due amounts; the date of payment is 1900 if it was never paid in full."""
    box = bench.box.halo
    token = _token(bench)
    invoice = box.add_invoice(total=20.0)
    box.add_row("pi_1", invoice, 5.0, 3)
    _, read = _get(f"{box.url}/api/Invoice/{invoice}", token)
    assert {k: read[k] for k in ("amountpaid", "amountdue", "datepaid", "invoicenumber")} == {
        "amountpaid": 5.0,
        "amountdue": 15.0,
        "datepaid": "1900-01-01T00:00:00",
        "invoicenumber": f"INV-{invoice}",
    }


def test_what_is_read_of_halo(bench: Bench, halo: Description) -> None:
    """Halo's description contains every parameter that the adapter sends, with its type."""
    for number in range(130):
        bench.box.halo.add_row("pi_1", 1, number)

    async def everything(sink: HaloSink) -> None:
        await sink.rows_of("pi_1")
        await sink.count_rows()

    bench.halo(everything)
    assert len(bench.listings("halo")) == 3
    for request in bench.listings("halo"):
        halo.check_request(request)
    sent = {name for request in bench.listings("halo") for name, _ in request.query}
    assert sent == {"intent_id", "order", "orderdesc", "pageinate", "page_no", "page_size"}


def test_what_is_posted_to_halo(rig: Rig, halo: Description) -> None:
    """The bodies of updates and of new rows match Halo's description, and so do the rows afterwards."""
    rig.settings |= {
        "SYNCD_PUSH__CREATE_MISSING": "true",
        "SYNCD_HALO__NEW_ROW__METHOD": "12",
        "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
    }
    invoice = rig.box.halo.add_invoice()
    for state in STATES:
        rig.pay(state)
        rig.pay(state, rows=(), metadata={"halo_invoice_id": str(invoice)})
    rig.once()
    bodies = [post.json() for post in rig.posts()]
    assert sorted(len(body) for body in bodies) == [1, 1, 1, 1, 1, 5]
    schema = halo.operation("POST", "/api/InvoicePayment")["requestBody"]["content"]
    for body in bodies:
        halo.check(body, schema["application/json"]["schema"])
    for row in rig.box.halo.rows.values():
        halo.check(row, halo.named("InvoicePayment_List"))


def test_every_path_is_described(halo: Description, stripe: Description) -> None:
    """Every path that the clients request is in the API descriptions, except for the sign-in."""
    for description, file in ((halo, "halo/sink.py"), (stripe, "stripe/source.py")):
        text = Path(ROOT / "syncd" / "clients" / file).read_text()
        # The description is incomplete: only Stripe's own pages describe these three.
        elsewhere = {"/v1/charges", "/v1/refunds", "/v1/disputes"}
        paths = set(re.findall(r'"(/(?:api|v1)/[\w/]+)"', text)) - elsewhere
        assert paths
        for path in paths:
            assert description.operation("GET", path)


def test_a_deviation_would_be_seen(bench: Bench, stripe: Description, halo: Description) -> None:
    """The comparison detects a wrong type, a missing field, an unknown parameter and an unknown path."""
    made = bench.box.stripe.create_intent()
    intent = bench.box.stripe.intents[made]
    for broken in ({**intent, "amount": "10"}, {k: v for k, v in intent.items() if k != "status"}):
        with pytest.raises(jsonschema.ValidationError):
            stripe.check(broken, stripe.named("payment_intent"))
    request = Request("GET", "/api/InvoicePayment", [("since", "1")], {}, b"", 0.0)
    with pytest.raises(AssertionError, match="has no since"):
        halo.check_request(request)
    with pytest.raises(AssertionError, match="is not described"):
        halo.operation("GET", "/api/Nothing")
