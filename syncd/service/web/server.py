"""Health checks and metrics over HTTP, and the web page. Read-only.

With a web token, every request must send it: programs as a bearer token, browsers as the password of
HTTP Basic authentication. Without a token the server listens on loopback only, and answers only to
an address, not to a host name: this protects against DNS rebinding by foreign web pages.
"""

import asyncio
import base64
import binascii
import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from syncd import __version__
from syncd.config.model import Config
from syncd.core.errors import Failure, StoreUnavailable
from syncd.core.records import first_entries
from syncd.monitor.alerts import HealthState, level_of
from syncd.monitor.health import Check
from syncd.monitor.status import gather, writes_known
from syncd.monitor.telemetry import Telemetry
from syncd.service.readiness import may_be_silent, silence
from syncd.service.web.chart import HOURS
from syncd.service.web.page import ATTENTION_MAX, Snapshot, headers, render
from syncd.store.store import Store

T = TypeVar("T")

LOOK_SECONDS = 0.25
"""How often an answer that waits for the database checks whether the database still answers."""


@dataclass(frozen=True, slots=True)
class WebSources:
    """The sources of the answers.

    Attributes:
        live: the check that no step hangs.
        ready: the checks by name.
        budgets: requests left, by side.
        config: the present configuration, with the web token.
        health: the overall status after the last step, and since when.
        now: Unix seconds.
        role: whether this service leads or stands by; None if only one service can run.
    """

    store: Store
    telemetry: Telemetry
    live: Callable[[], Check]
    ready: Callable[[], dict[str, Check]]
    budgets: Callable[[], dict[str, int]]
    config: Callable[[], Config]
    health: Callable[[], HealthState]
    now: Callable[[], float]
    role: Callable[[], str | None] = lambda: None


def application(sources: WebSources) -> Starlette:
    """Build the web application. It reads the database in a thread, for one answer at a time."""
    one_answer = asyncio.Semaphore(1)

    async def unless_silent(task: "asyncio.Future[T]") -> T:
        while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
            if (text := await _silence(sources.store)) is not None:
                raise StoreUnavailable(text)
        return task.result()

    async def read(work: Callable[[WebSources], T]) -> T:
        """Read the database in a thread; if the database does not answer, only the thread waits on.

        Raises:
            StoreUnavailable: the database does not answer.
        """
        turn = asyncio.ensure_future(one_answer.acquire())
        try:
            await unless_silent(turn)
        except BaseException:
            if not turn.cancel():
                one_answer.release()
            raise
        reading = asyncio.ensure_future(run_in_threadpool(work, sources))
        reading.add_done_callback(lambda _: one_answer.release())
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await unless_silent(reading)

    async def livez(_request: Request) -> Response:
        return _answer({"loop": sources.live()}, sources.role())

    async def readyz(_request: Request) -> Response:
        return _answer(await _ready(sources), sources.role())

    async def metrics(_request: Request) -> Response:
        try:
            page = await read(_metrics)
        except Failure as error:
            return PlainTextResponse(f"{error}\n", 503)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def front(_request: Request) -> Response:
        try:
            page = await read(_page)
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
        "/": front,
        "/livez": livez,
        "/readyz": readyz,
        "/healthz": readyz,
        "/metrics": metrics,
    }
    return Starlette(
        routes=[Route(path, guarded(page), methods=["GET"]) for path, page in pages.items()]
    )


async def _silence(store: Store) -> str | None:
    """The same as `silence`, which may ask the database: then in a thread."""
    return await run_in_threadpool(silence, store) if may_be_silent(store) else None


async def _ready(sources: WebSources) -> dict[str, Check]:
    """The checks of `/readyz`, which may ask the database: then in a thread."""
    if may_be_silent(sources.store):
        return await run_in_threadpool(sources.ready)
    return sources.ready()


def _answer(checks: dict[str, Check], role: str | None) -> JSONResponse:
    """200 or 503 for programs; the body has each check's text, for people."""
    well = all(check.ok for check in checks.values())
    body: dict[str, Any] = {
        "status": "ok" if well else "failing",
        "version": __version__,
        "checks": {
            name: {"ok": check.ok, "text": check.text, "last_success": check.last_success}
            for name, check in checks.items()
        },
    }
    if role is not None:
        body["role"] = role
    return JSONResponse(body, 200 if well else 503)


def _refusal(request: Request, token: str | None) -> Response | None:
    """The answer to a request that is refused; None if the request is allowed."""
    if token is not None:
        if _bears(request.headers.get("authorization", ""), token):
            return None
        refused = PlainTextResponse(
            "The web token is needed. Send it as a bearer token, or enter any user name and the token "
            "as the password.\n",
            401,
        )
        # A browser uses the first scheme that it knows, Basic; the token is the password.
        refused.headers.append("WWW-Authenticate", 'Basic realm="syncd", charset="UTF-8"')
        refused.headers.append("WWW-Authenticate", 'Bearer realm="syncd"')
        return refused
    if _is_address(request.headers.get("host", "")):
        return None
    text = (
        "Without a web token syncd answers only to an address (127.0.0.1, localhost), not to a host "
        "name. To use a host name, give syncd the secret web_token.\n"
    )
    return PlainTextResponse(text, 421)


def _bears(header: str, token: str) -> bool:
    """Whether an Authorization header contains the token; compares in constant time."""
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


def _metrics(sources: WebSources) -> bytes:
    """Read all metrics."""
    return sources.telemetry.page(
        sources.store.people.conditions(),
        sources.store.people.attention_count(),
        sources.budgets(),
        writes_known(sources.store.notes()),
    )


def _page(sources: WebSources) -> str:
    """Read everything that the page shows, and render the page."""
    return render(_snapshot(sources))


def _snapshot(sources: WebSources) -> Snapshot:
    """Read everything that the page shows."""
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
        attention=first_entries(
            store.people.attention(ATTENTION_MAX) if status.attention_count else [], ATTENTION_MAX
        ),
        changes=store.people.reported_states(since),
        pushes=store.people.pushes(since),
    )


def _mark(check: Check) -> str:
    """The level of a check on the page; a recent failure may not make the check fail yet."""
    if not check.ok:
        return "starting" if check.starting else "failing"
    return "well" if check.reason is None else "attention"
