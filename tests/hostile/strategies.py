"""Strategies for answers of hostile, broken or newer APIs: modified shapes of both APIs, and garbage.

The shapes are written by hand from the API descriptions. `FUZZ_EXAMPLES=20000` draws that many
examples of each, otherwise a few hundred. Each commit draws others: see `tests/freshness.py`.
"""

import json
import os
import re
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def hostile(examples: int) -> settings:
    """Settings for the given number of examples, or for as many as `make fuzz` requests."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=False,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
            HealthCheck.large_base_example,
        ],
    )


# --- secrets -----------------------------------------------------------------------------------------

MARK = "DETNALP"[::-1]  # reversed: Hypothesis uses literals that it finds in the code
API_KEY = f"rk_live_{MARK}0123456789abcdef"
HALO_SECRET = f"{MARK}-halo-secret/+=&?0123"
HALO_TOKEN = f"{MARK}.halo.token.0123456789"
SECRETS = (
    API_KEY,
    HALO_SECRET,
    HALO_TOKEN,
    f"sk_test_{MARK}0123456789abcdef",
    f"pi_3Nabc_secret_{MARK}0123456789",
    f"whsec_{MARK}0123456789",
    f"Bearer {MARK}0123456789abcdef0123456789",
    f"eyJ{MARK}0123456789.eyJabc.def-123",
    f"client_secret={MARK}&grant_type=client_credentials",
)
"""Each secret contains MARK, so that a test finds any part that leaks."""

UNSEEN = "\x00\x1b\x7f\u200b\u200e\u202e\u2066\ufeff\ud800\udfff"
"""NUL, escape, invisible marks, marks that change the text direction, and surrogates."""


@st.composite
def secrets(draw: st.DrawFn) -> str:
    """A secret, whole or with an invisible character in the middle."""
    secret = draw(st.sampled_from(SECRETS))
    if draw(st.booleans()):
        return secret
    at = draw(st.integers(1, len(secret) - 1))
    return secret[:at] + draw(st.sampled_from(UNSEEN)) + secret[at:]


characters = st.characters(exclude_categories=()) | st.sampled_from(UNSEEN + "<>&\"'{}\r\n\t")


def around(secret: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Text that contains a secret."""
    padding = st.text(characters, max_size=12) | st.sampled_from(["x" * 493, "\x1b[31m", "<b>"])
    return st.tuples(padding, secret, padding).map(" ".join)


texts = st.text(characters, max_size=40) | around(secrets())
whole_texts = st.text(characters, max_size=40) | around(st.sampled_from(SECRETS))
"""The same with whole secrets only: data that is passed on is searched for whole secrets."""


# --- JSON --------------------------------------------------------------------------------------------

numbers = st.sampled_from(
    [0, -1, 1, True, False, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**15, 10**15 + 1, 10**400,
     0.1, -0.0, 1e300, float("inf"), float("-inf"), float("nan"), 253402300800, 1795500000.5]
) | st.integers() | st.floats()  # fmt: skip


def deep(depth: int) -> Any:
    """Lists in dictionaries in lists, with this many levels."""
    value: Any = "bottom"
    for level in range(depth):
        value = [value] if level % 2 else {"deeper": value}
    return value


def anything(text: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Any]:
    """Any JSON value, including values that only a lenient parser accepts."""
    leaves = st.none() | numbers | text
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=8,
    ) | st.sampled_from([30, 60, 300]).map(deep)


@st.composite
def bent(
    draw: st.DrawFn, shape: dict[str, Any], text: st.SearchStrategy[str] = texts
) -> dict[str, Any]:
    """The shape with some fields replaced, removed or added, at any level."""
    bent_shape = dict(shape)
    names = draw(st.lists(st.sampled_from(sorted(shape)), max_size=3, unique=True))
    for name in names:
        match draw(st.integers(0, 3)):
            case 0:
                del bent_shape[name]
            case 1 if isinstance(shape[name], dict) and shape[name]:
                bent_shape[name] = draw(bent(shape[name], text))
            case _:
                bent_shape[name] = draw(anything(text))
    if draw(st.booleans()):
        bent_shape |= draw(st.dictionaries(text, anything(text), max_size=2))
    return bent_shape


# 1e999 is JSON, and infinity to most parsers; only lenient parsers read the others as numbers.
_HUGE = (
    "1e999",
    "-1e999",
    "1e9999999",
    "1e-9999999",
    "0e9999999",
    "1e99999999999999999999",
    "9" * 5_000,
)


_MARKED = re.compile(r"(?:\\u[0-9a-f]{4})?".join(MARK).encode())


@st.composite
def on_the_wire(draw: st.DrawFn, value: st.SearchStrategy[Any]) -> bytes:
    """The value as bytes, sometimes with a number too large for any parser, truncated or damaged."""
    body = json.dumps(draw(value)).encode()
    harmless = _MARKED.sub(b"cut", body)  # the rest of a cut secret may not look like a secret
    match draw(st.integers(0, 9)):
        case 0:
            return harmless[: draw(st.integers(0, len(harmless)))]
        case 1:
            body = harmless
            at = draw(st.integers(0, len(body)))
            return body[:at] + draw(st.binary(min_size=1, max_size=4)) + body[at:]
        case 2 | 3:
            digits = b"1795500000" if b"1795500000" in body else b"1099"
            return body.replace(digits, draw(st.sampled_from(_HUGE)).encode(), 1)
    return body


garbage = (
    st.binary(max_size=200)
    | st.sampled_from([
        b"", b"null", b"[]", b"{}", b'"', b"NaN", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe[\x00]\x00",
        b"<!DOCTYPE html><title>Sign in</title>", b'{"data": {}, "has_more": true}',
        b'{"object":"list","data":[],"has_more":true}', b'{"payments": null}', b'{"error": []}',
        b'{"error": {"message": {"a": 1}, "type": [], "code": {}}}', b'{"error": "x"}', b"9" * 5_000,
        b'{"Message": "\x1b[2J"}',
    ])
)  # fmt: skip


# --- Stripe ------------------------------------------------------------------------------------------

INTENT: dict[str, Any] = {
    "id": "pi_3Nabcdefghijklmnopqrstuv", "object": "payment_intent", "amount": 1099,
    "amount_capturable": 0, "amount_details": {"tip": {}}, "amount_received": 1099,
    "application": None, "canceled_at": None, "capture_method": "automatic",
    "client_secret": f"pi_3Nabc_secret_{MARK}xyz", "created": 1795500000, "currency": "usd",
    "customer": "cus_1", "description": "Invoice 1001", "last_payment_error": None,
    "livemode": False, "metadata": {"halo_invoice_id": "1001", "note": "as agreed"},
    "next_action": {"redirect_to_url": {
        "url": f"https://hooks.stripe.com/3ds?payment_intent_client_secret=pi_3N_secret_{MARK}"}},
    "payment_method_types": ["card"], "status": "succeeded",
}  # fmt: skip
EVENT: dict[str, Any] = {
    "id": "evt_3Nabcdefghijklmnopqrstuv",
    "object": "event",
    "api_version": "2026-06-30",
    "created": 1795500000,
    "data": {"object": INTENT},
    "livemode": False,
    "pending_webhooks": 1,
    "request": {"id": None, "idempotency_key": None},
    "type": "payment_intent.succeeded",
}

intents = bent(INTENT, whole_texts) | anything(whole_texts)
events = bent(EVENT, whole_texts) | anything(whole_texts)


def stripe_lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A page of a Stripe listing, possibly modified."""
    shape = st.fixed_dictionaries(
        {"object": st.just("list"), "data": st.lists(items, max_size=4), "has_more": st.booleans()}
    )
    return shape | shape.flatmap(bent)


stripe_errors = st.fixed_dictionaries(
    {"error": bent({"message": "No such event", "type": "invalid_request_error", "code": "x"})}
) | bent({"error": {"message": "m"}})


# --- Halo --------------------------------------------------------------------------------------------

ROW: dict[str, Any] = {
    "id": 7, "invoice_id": 1001, "date": "2026-11-24T00:00:00", "amount": 10.99, "method": 3,
    "status": 1, "module_id": 2, "intent_id": "pi_3Nabcdefghijklmnopqrstuv", "client_id": 5,
    "intent_date": "2026-11-24T00:00:00Z", "webhook_payload": "{}", "client_name": "A client",
}  # fmt: skip
rows = bent(ROW) | anything()
row_pages = (
    st.lists(rows, max_size=4)
    | st.fixed_dictionaries({"payments": st.lists(rows, max_size=4), "record_count": numbers})
    | bent({"payments": [ROW], "record_count": 1})
)
halo_errors = (
    bent({"resultCode": 400, "errorMessage": "Record not found"})
    | bent({"ClassName": "System.Exception", "Message": "Something went wrong"})
    | bent({"error": "invalid_client", "error_description": "The client is unknown"})
    | st.dictionaries(texts, st.lists(texts, max_size=3), max_size=3)
    | texts
)
tokens = bent({"access_token": HALO_TOKEN, "token_type": "Bearer", "expires_in": 3600}) | anything()
authinfos = bent({"auth_url": "http://127.0.0.1:9/auth", "tenant_id": "tenant"}) | anything()


# --- headers -----------------------------------------------------------------------------------------

header_values = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40
) | st.sampled_from([
    "1", "0", "-5", "1.5", "1e9", "nan", "inf", "9" * 400, "", "Wed, 25 Nov 2026 09:00:00 GMT",
    "Wed, 25 Nov 0001 09:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "31 Dec 9999 23:59:59 -9999",
    "1 1 1 1 1", ",", "0 Jan 2026 99:99:99", "Thu, 01 Jan 1970 00:00:00", "http://[::1", "//evil.example/x",
    "https://evil.example/?a=" + HALO_SECRET, "gzip", "identity", "text/html", "application/json; charset=x",
])  # fmt: skip
headers = st.dictionaries(
    st.sampled_from([
        "Retry-After", "Date", "Location", "Content-Type", "Content-Encoding", "Set-Cookie",
        "Stripe-Rate-Limited-Reason", "Request-Id", "Stripe-Should-Retry", "WWW-Authenticate",
    ]),
    header_values, max_size=4,
)  # fmt: skip
statuses = st.sampled_from(
    [200, 200, 200, 200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503,
     504, 599]
)  # fmt: skip
