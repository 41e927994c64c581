"""Both sides on loopback, in their own thread, and the controls for another process."""

import asyncio
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, Self

from syncd.sandbox.halo import SandboxHalo
from syncd.sandbox.http import Reply, Request, json_reply, serve
from syncd.sandbox.stripe import SandboxStripe

CONTROLS = (
    "create_intent",
    "advance",
    "touch",
    "refund",
    "dispute",
    "add_invoice",
    "add_row",
    "delete_row",
    "poison",
    "unpoison",
)


class Sandbox:
    """A Stripe and a Halo that listen while the context lasts."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        stripe_port: int = 0,
        halo_port: int = 0,
        seed: int = 0,
    ) -> None:
        self.clock = clock
        self.stripe = SandboxStripe(clock, seed)
        self.halo = SandboxHalo(clock)
        self._ports = (stripe_port, halo_port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        sides: tuple[SandboxStripe | SandboxHalo, ...] = (self.stripe, self.halo)
        for side, port in zip(sides, self._ports, strict=True):
            server = await serve("127.0.0.1", port, self._handler(side), self.clock)
            self._servers.append(server)
            side.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        ours = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not ours]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # let the transports close

    def _handler(self, side: SandboxStripe | SandboxHalo) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Reply:
            if request.path.startswith("/_sandbox/"):
                return self._control(request)
            side.requests.append(request)
            fault = next((f for f in side.faults if f.strikes(request)), None)
            if fault is None:
                return side.answer(request)
            if fault.kind == "applied_late":
                self._loop.call_later(fault.seconds, side.answer, request)
            reply = fault.reply(side.answer(request) if fault.applies else None)
            if side.clock_skew is not None:
                date = formatdate(side.clock() + side.clock_skew, usegmt=True)
                reply.headers.setdefault("Date", date)
            return reply

        return handle

    # --- controls for another process ------------------------------------------------------------

    def _control(self, request: Request) -> Reply:
        name = request.path.removeprefix("/_sandbox/")
        if name == "counts":
            return json_reply(
                {
                    "stripe": _counted(self.stripe.requests),
                    "halo": _counted(self.halo.requests),
                    "writes": len(self.halo.writes),
                }
            )
        if name == "state":
            return json_reply(
                {
                    "intents": {
                        i: {"status": p["status"], "amount": p["amount"], "currency": p["currency"]}
                        for i, p in self.stripe.intents.items()
                    },
                    "rows": list(self.halo.rows.values()),
                }
            )
        if request.method != "POST":
            return json_reply({"error": f"no control {name}"}, 404)
        body = request.json()
        if name == "seed":
            return json_reply({"seeded": self.seed(**body)})
        if name == "forget_requests":
            self.stripe.requests.clear()
            self.halo.requests.clear()
            return json_reply({})
        if name == "hide_intents":
            self.halo.shows.lists_hide = frozenset({"intent_id"})
            return json_reply({})
        if name == "call" and body.get("method") in CONTROLS:
            side = self.stripe if hasattr(self.stripe, body["method"]) else self.halo
            return json_reply({"result": getattr(side, body["method"])(**body.get("args", {}))})
        return json_reply({"error": f"no control {name}"}, 404)

    def seed(self, intents: int, *, over_seconds: int = 30 * 86_400, in_step: bool = False) -> int:
        """Create many succeeded payments, spread over the last days, each with one row in Halo."""
        now = int(self.clock())
        status = self.halo.status["succeeded"] if in_step else 1
        invoice = self.halo.add_invoice(total=1e9)
        for number in range(intents):
            made = now - 60 - over_seconds + over_seconds * number // max(intents, 1)
            intent = self.stripe.create_intent(amount=1_000 + number % 500, created=made)
            self.stripe.advance(intent, "succeeded", emit=False)
            self.halo.add_row(intent, invoice, (1_000 + number % 500) / 100, status)
        return intents


def _counted(requests: list[Request]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for request in requests:
        key = f"{request.method} {request.path if request.path.count('/') < 3 else request.path.rsplit('/', 1)[0] + '/…'}"
        counts[key] = counts.get(key, 0) + 1
    return counts
