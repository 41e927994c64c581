"""Health and metrics over HTTP for machines, and the page for people.

Read-only. Where a web token is set it answers only to who gives it: machines as a bearer, browsers
as the password of their own dialogue. Where none is, it answers only to this machine, and only by
an address: a name could be one that somebody else has pointed here, in a page of theirs.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from syncd import __version__
from syncd.config.model import Config
from syncd.core.errors import Failure
from syncd.monitor.alerts import HealthState, level_of
from syncd.monitor.health import Check
from syncd.monitor.status import gather, writes_known
from syncd.monitor.telemetry import Telemetry
from syncd.service.web.chart import HOURS
from syncd.service.web.page import ATTENTION_MAX, Snapshot, headers, render
from syncd.store.store import Store


@dataclass(frozen=True, slots=True)
class WebSources:
    """Where the answers come from.

    Attributes:
        live: whether the loop turns.
        ready: the checks by name.
        budgets: requests left, by side.
        config: the configuration as it is now; its web token is what a caller must give.
        health: how it stood after the last step, and since when.
        now: Unix seconds.
    """

    store: Store
    telemetry: Telemetry
    live: Callable[[], Check]
    ready: Callable[[], dict[str, Check]]
    budgets: Callable[[], dict[str, int]]
    config: Callable[[], Config]
    health: Callable[[], HealthState]
    now: Callable[[], float]


def application(sources: WebSources) -> Starlette:
    """Make the web application."""

    async def livez(_request: Request) -> Response:
        return _answer({"loop": sources.live()})

    async def readyz(_request: Request) -> Response:
        return _answer(sources.ready())

    async def metrics(_request: Request) -> Response:
        try:
            page = sources.telemetry.page(
                sources.store.people.conditions(),
                sources.store.people.attention_count(),
                sources.budgets(),
                writes_known(sources.store.notes()),
            )
        except Failure as error:
            return PlainTextResponse(f"{error}\n", 503)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def front(_request: Request) -> Response:
        try:
            page = render(_snapshot(sources))
        except Failure as error:
            return PlainTextResponse(f"{error}\n", 503)
        return HTMLResponse(page, headers=headers())

    def guarded(endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            refusal = _refusal(request, sources.config().web_token)
            response: Response = refusal or await endpoint(request)
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        return answer

    pages = {
        "/": front, "/livez": livez, "/readyz": readyz, "/healthz": readyz, "/metrics": metrics,
    }  # fmt: skip
    return Starlette(
        routes=[Route(path, guarded(page), methods=["GET"]) for path, page in pages.items()]
    )


def _answer(checks: dict[str, Check]) -> JSONResponse:
    """Machines read the code, people the body: which check failed, and why."""
    well = all(check.ok for check in checks.values())
    body = {
        "status": "ok" if well else "failing",
        "version": __version__,
        "checks": {
            name: {"ok": check.ok, "text": check.text, "last_success": check.last_success}
            for name, check in checks.items()
        },
    }
    return JSONResponse(body, 200 if well else 503)


def _refusal(request: Request, token: str | None) -> Response | None:
    """Why a request isn't answered; None where it is."""
    if token is not None:
        if _bears(request.headers.get("authorization", ""), token):
            return None
        refused = PlainTextResponse("The web token is needed.\n", 401)
        # A browser asks for a name and a password by the first that it knows: the token is the password.
        refused.headers.append("WWW-Authenticate", 'Basic realm="syncd", charset="UTF-8"')
        refused.headers.append("WWW-Authenticate", 'Bearer realm="syncd"')
        return refused
    if _is_address(request.headers.get("host", "")):
        return None
    text = (
        "Without a web token syncd answers only by an address (127.0.0.1, localhost). To reach it by "
        "a name, give the secret web_token.\n"
    )
    return PlainTextResponse(text, 421)


def _bears(header: str, token: str) -> bool:
    """Whether the token is in an Authorization header; takes the same time however wrong it is."""
    scheme, _, value = header.partition(" ")
    given = b""
    if scheme.lower() == "bearer":
        given = value.strip().encode()
    elif scheme.lower() == "basic":
        try:
            given = base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            given = b""
    return hmac.compare_digest(given, token.encode())


def _is_address(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _snapshot(sources: WebSources) -> Snapshot:
    """All that the page shows, read now."""
    config, store = sources.config(), sources.store
    checks, live = sources.ready(), sources.live()
    if not live.ok:
        checks = {"loop": live} | checks
    status = gather(config, store, sources.now(), checks=checks, left=sources.budgets())
    failing = {name: check.failing for name, check in checks.items() if not check.ok}
    since = status.now - HOURS * 3_600
    return Snapshot(
        status=status,
        config=config,
        level=level_of(failing, status.attention_count),
        health=sources.health(),
        cards=[(name, _mark(check), check.text) for name, check in checks.items()],
        attention=store.people.attention(ATTENTION_MAX) if status.attention_count else [],
        changes=store.people.reported_states(since),
        pushes=store.people.pushes(since),
    )


def _mark(check: Check) -> str:
    """How a check is shown: something may have gone wrong that isn't a failure yet."""
    if not check.ok:
        return "starting" if check.starting else "failing"
    return "well" if check.reason is None else "attention"
