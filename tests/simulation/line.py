"""The network between one process and the two sides: carries requests, or fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import httpx

from syncd.sandbox.faults import LOGIN_PAGE, Fault
from syncd.sandbox.halo import SandboxHalo
from syncd.sandbox.http import Reply, Request, json_reply
from syncd.sandbox.stripe import SandboxStripe
from tests.simulation.coverage import played
from tests.simulation.universe import HALO_HOST, STRIPE_HOST, Outage, World

if TYPE_CHECKING:
    from tests.simulation.process import Process


class _Cut(httpx.AsyncByteStream):
    """A response body that is cut off."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The first part, then the end of the connection."""
        yield self.body
        message = "peer closed connection without sending complete message body"
        raise httpx.RemoteProtocolError(message)


class Line(httpx.AsyncBaseTransport):
    """One process's network: carries its requests to the two sides, or fails."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry one request."""
        world, process = self.world, self.process
        sides: dict[str, SandboxStripe | SandboxHalo] = {
            STRIPE_HOST: world.stripe,
            HALO_HOST: world.halo,
        }
        side = sides.get(request.url.host)
        if side is None:
            world.oracle.complain("elsewhere", f"a request went to {request.url.host}")
            raise httpx.ConnectError("no such host")
        name = "stripe" if side is world.stripe else "halo"
        posts = name == "halo" and request.method == "POST" and request.url.path.endswith("Payment")
        if posts:
            await process.theatre.link.pause(process)
            if trace := request.extensions.get("trace"):
                await trace("http11.send_request_headers.started", {})
            process.theatre.link.writes(process)
        process.point("send")
        outage = world.outages.get(name)
        if outage is not None and world.now() >= outage.until:
            outage = None
        left_at = world.now()
        delay = world.random.expovariate(1 / world.latency)
        await asyncio.sleep(delay / 2)
        if outage is not None and outage.kind == "connect":
            world.figures["outage connect"] += 1
            raise httpx.ConnectError("connection refused")
        asked = self._asked(request)
        fault = next((f for f in side.faults if f.strikes(asked)), None)
        if fault is not None:
            refused = any(fault is known for known in world.refusing)
            kind = "connect" if refused else fault.kind
            world.figures[f"fault {kind}"] += 1
            for pair in played(world, name, asked, kind):
                world.figures[f"pair {pair}"] += 1
            world.tell(f"{process.name} meets {name}'s fault {kind}: {asked.method} {asked.path}")
            if refused:
                raise httpx.ConnectError("connection refused")
        world.figures["checks"] += 1
        world.oracle.sent(process, name, asked, left_at)
        if posts:
            process.point("post")
        side.requests.append(asked)
        world.left_at[name].append(left_at)
        reply = self._reply(name, side, asked, fault, outage)
        if reply.status in (401, 403, 429):
            world.oracle.refused(process, asked)
        if posts:
            process.point("posted")
        process.point("answered")
        delay = delay / 2 + reply.delay_seconds
        patience = float(request.extensions["timeout"]["read"])
        if delay > patience:
            await asyncio.sleep(patience)
            raise httpx.ReadTimeout("no answer")
        await asyncio.sleep(delay)
        if reply.reset:
            raise httpx.ReadError("connection reset by peer")
        asked.status = reply.status
        if reply.cut is not None:
            return httpx.Response(
                reply.status, headers=reply.headers, stream=_Cut(reply.body[: reply.cut])
            )
        world.figures["checks"] += 1
        await process.thaw()
        world.oracle.delivered(process, name, asked, reply)
        return httpx.Response(reply.status, headers=reply.headers, content=reply.body)

    def _asked(self, request: httpx.Request) -> Request:
        headers = {key.lower(): value for key, value in request.headers.items()}
        secret = headers.pop("authorization", "")
        query = parse_qsl(request.url.query.decode(), keep_blank_values=True)
        return Request(
            request.method,
            request.url.path,
            query,
            headers,
            request.content,
            self.world.now(),
            secret,
        )

    def _reply(
        self,
        name: str,
        side: SandboxStripe | SandboxHalo,
        asked: Request,
        fault: Fault | None,
        outage: Outage | None,
    ) -> Reply:
        world = self.world
        if outage is not None:
            world.figures[f"outage {outage.kind}"] += 1
            match outage.kind:
                case "html":
                    return Reply(200, LOGIN_PAGE, {"Content-Type": "text/html"})
                case kind:
                    return json_reply({"Message": "Not now"}, int(kind))
        if fault is None:
            return self._apply(name, side, asked)
        if fault.kind == "applied_late":
            world.oracle.postpone(asked)
            world.loop.call_later(fault.seconds, self._apply, name, side, asked, True)
            return fault.reply(None)
        return fault.reply(self._apply(name, side, asked) if fault.applies else None)

    def _apply(
        self, name: str, side: SandboxStripe | SandboxHalo, asked: Request, late: bool = False
    ) -> Reply:
        world = self.world
        before = len(world.halo.writes)
        reply = side.answer(asked)
        if name == "halo" and asked.method == "POST":
            world.figures["checks"] += 1
            world.oracle.applied(self.process, asked, world.halo.writes[before:], late=late)
        return reply
