"""All faults of the sandbox, on either side, and the sandbox as a separate process."""

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any

import pytest

from syncd.sandbox import Fault, Request, Sandbox
from syncd.sandbox.faults import KINDS
from syncd.sandbox.http import Reply
from tests.conftest import ROOT, Rig

WELL = b'{"object":"list"'
SEEN = {
    "429": 429, "lock_429": 429, "500": 500, "502": 502, "503": 503, "504": 504, "500_after": 500,
    "504_after": 504, "reset": "reset", "reset_after": "reset", "hang": "silence",
    "hang_after": "silence", "applied_late": 504, "html": 200, "html_500": 500, "truncated": "cut",
    "cut_json": 200, "empty": 200, "garbage": 200, "401": 401, "403": 403, "400": 400, "200": 200,
    "redirect": 302, "huge": 200,
}  # fmt: skip


def get(url: str, key: str) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of one request; a broken connection raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=0.5)
    try:
        connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(rig: Rig, kind: str) -> None:
    """Each fault looks to the client as expected, and the next request gets a normal answer."""
    stripe = rig.box.stripe
    fault = Fault(kind, retry_after=3, seconds=30, size=1_000)
    stripe.faults.append(fault)
    seen: Any
    try:
        status, body, headers = get(stripe.url, stripe.api_key)
        seen = status
    except http.client.IncompleteRead:
        seen = "cut"
    except TimeoutError:
        seen = "silence"
    except (ConnectionError, http.client.HTTPException):
        seen = "reset"
    assert seen == SEEN[kind]
    if kind in ("429", "lock_429"):
        assert headers["Retry-After"] == "3"
        assert ("Stripe-Rate-Limited-Reason" in headers) is (kind == "429")
    if kind.startswith("html"):
        assert body.startswith(b"<!DOCTYPE html>")
    if kind == "empty":
        assert body == b""
    if kind == "huge":
        assert len(body) == 1_004
    if kind == "cut_json":
        with pytest.raises(ValueError, match=r"char|Unterminated"):
            json.loads(body)
    if kind == "redirect":
        assert headers["Location"] == "https://elsewhere.example/api"
    status, body, _ = get(stripe.url, stripe.api_key)
    assert (status, body[: len(WELL)], fault.struck) == (200, WELL, 1)


@pytest.mark.parametrize(
    ("kind", "applied"),
    [
        ("500", False), ("502", False), ("504", False), ("reset", False), ("hang", False),
        ("html", False), ("429", False), ("401", False), ("500_after", True), ("504_after", True),
        ("reset_after", True), ("hang_after", True), ("truncated", True), ("empty", True),
        ("garbage", True), ("cut_json", True),
    ],
)  # fmt: skip
def test_before_and_after_applying(rig: Rig, kind: str, applied: bool) -> None:
    """Some faults occur before the request is carried out, some after it."""
    rig.box.stripe.faults.append(Fault(kind, seconds=30))
    carried_out: list[object] = []
    real = rig.box.stripe.answer

    def answer(request: Request) -> Reply:
        carried_out.append(request)
        return real(request)

    rig.box.stripe.answer = answer  # type: ignore[method-assign]
    with contextlib.suppress(OSError, http.client.HTTPException):
        get(rig.box.stripe.url, rig.box.stripe.api_key)
    assert bool(carried_out) is applied


def test_applied_late(rig: Rig) -> None:
    """After "applied_late" the client gets a 504 first, and the request is carried out later."""
    rig.box.stripe.faults.append(Fault("applied_late", seconds=0.2))
    carried_out: list[object] = []
    rig.box.stripe.answer = carried_out.append  # type: ignore[assignment,method-assign]
    assert get(rig.box.stripe.url, rig.box.stripe.api_key)[0] == 504
    assert carried_out == []
    end = time.monotonic() + 5
    while not carried_out and time.monotonic() < end:
        time.sleep(0.02)
    assert len(carried_out) == 1


def test_which_requests_are_struck(rig: Rig) -> None:
    """A fault can be limited by method, path, a match function, requests to skip and a maximum count."""
    stripe = rig.box.stripe
    fault = Fault("500", times=2, after=1, path="events", method="GET")
    stripe.faults = [Fault("500", method="POST"), Fault("500", path="intents"), fault]
    asked = [get(stripe.url, stripe.api_key)[0] for _ in range(5)]
    assert asked == [200, 500, 500, 200, 200]
    stripe.faults = [Fault("500", times=None, match=lambda request: request.path == "/v1/other")]
    assert get(stripe.url, stripe.api_key)[0] == 200
    stripe.faults = [Fault("400", body=b'{"Message": "No"}', status=422)]
    status, body, _ = get(stripe.url, stripe.api_key)
    assert (status, body) == (422, b'{"Message": "No"}')
    with pytest.raises(ValueError, match="sabotage is not a fault"):
        Fault("sabotage")


def _call(url: str, name: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{url}/_sandbox/{name}", json.dumps(body).encode() if body else None
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def test_as_a_process() -> None:
    """The sandbox prints its addresses, executes calls over HTTP, counts requests and ends on SIGTERM."""
    command = [sys.executable, "-m", "syncd.sandbox", "--no-limits", "--seed-intents", "3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        url = where["stripe"]["url"]
        get(url, where["stripe"]["api_key"])
        made = _call(url, "call", method="create_intent", args={"amount": 500})["result"]
        _call(url, "call", method="advance", args={"intent_id": made, "state": "canceled"})
        row = _call(
            where["halo"]["url"],
            "call",
            method="add_row",
            args={"intent_id": made, "invoice_id": 1, "amount": 5},
        )["result"]
        state = _call(url, "state")
        assert len(state["intents"]) == 4
        assert state["intents"][made] == {"status": "canceled", "amount": 500, "currency": "usd"}
        assert [r["id"] for r in state["rows"] if r["intent_id"] == made] == [row]
        assert _call(url, "counts")["stripe"] == {"GET /v1/events": 1}
        assert _call(url, "seed", intents=2) == {"seeded": 2}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            _call(url, "call", method="answer")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_the_two_sides_end_with_their_context() -> None:
    """After the sandbox has ended, no port is open, even if a request was still hanging."""
    with Sandbox() as box:
        url, key = box.stripe.url, box.stripe.api_key
        box.stripe.faults.append(Fault("hang", seconds=60))
        with pytest.raises(TimeoutError):
            get(url, key)
    with pytest.raises(ConnectionError):
        get(url, key)
