"""Health and metrics over HTTP, for machines and for the person who reads the body.

Read-only. Beyond loopback it answers only to the bearer of the web token.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from syncd import __version__
from syncd.failures import Failure
from syncd.records import Condition
from syncd.store import Store
from syncd.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be well.

    Attributes:
        ok: whether it is.
        text: what is the matter, or that nothing is.
        last_success: Unix seconds when it last worked; None where it never did.
    """

    ok: bool
    text: str
    last_success: float | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    """Where the answers come from.

    Attributes:
        live: whether the loop turns.
        ready: the checks by name.
        budgets: requests left, by side.
        token: what a caller must bear; None where nobody has to.
    """

    store: Store
    telemetry: Telemetry
    live: Callable[[], Check]
    ready: Callable[[], dict[str, Check]]
    budgets: Callable[[], dict[str, int]]
    token: Callable[[], str | None]


def application(readings: Readings) -> Starlette:
    """Make the web application."""

    async def livez(_request: Request) -> Response:
        return _answer({"loop": readings.live()})

    async def readyz(_request: Request) -> Response:
        return _answer(readings.ready())

    async def metrics(_request: Request) -> Response:
        try:
            page = readings.telemetry.page(
                readings.store.conditions(),
                readings.store.attention_count(),
                readings.budgets(),
            )
        except Failure as error:
            return PlainTextResponse(f"{error}\n", 503)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def front(_request: Request) -> Response:
        checks = readings.ready()
        lines = [f"syncd {__version__}", ""]
        lines += [f"{name}: {'ok' if c.ok else 'FAILING'}: {c.text}" for name, c in checks.items()]
        lines += ["", "payments:"]
        conditions = readings.store.conditions()
        lines += [f"  {condition}: {conditions[condition]}" for condition in Condition]
        lines += ["", "/livez  /readyz  /healthz  /metrics", ""]
        return PlainTextResponse("\n".join(lines))

    def guarded(endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            token = readings.token()
            given = request.headers.get("authorization", "")
            if token is not None and not hmac.compare_digest(
                given.encode(), f"Bearer {token}".encode()
            ):
                headers = {"WWW-Authenticate": "Bearer"}
                return PlainTextResponse("The web token is needed.\n", 401, headers)
            response: Response = await endpoint(request)
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
