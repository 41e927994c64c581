"""A server with any answer that a test chooses, and both adapters that use it."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from syncd.clients.halo.sink import HaloSink
from syncd.clients.retry import Calling
from syncd.clients.stripe.source import StripeSource
from syncd.sandbox.http import Reply, Request, serve
from tests.hostile.strategies import API_KEY, HALO_SECRET, MARK

NOW = 1_795_500_000.0

T = TypeVar("T")


class Server:
    """A real HTTP server on loopback: `answer` gives the answers, `requests` lists the requests."""

    def __init__(
        self,
        answer: Callable[[Request], Reply] = lambda _: Reply(200),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(serve("127.0.0.1", 0, self._handle, lambda: NOW, self._tls))
        port = self._server.sockets[0].getsockname()[1]
        self.port = port
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _handle(self, request: Request) -> Reply:
        self.requests.append(request)
        return self.answer(request)

    async def _end(self) -> None:
        self._server.close()
        ours = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not ours]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


def calling() -> Calling:
    """Requests without a throttle, without waits and without retries."""

    async def at_once(*_: object) -> None:
        return None

    return Calling(
        take=at_once,
        note=lambda _: None,
        sleep=at_once,
        now=lambda: NOW,
        patience_seconds=0.0,
        timeout_seconds=5.0,
    )


class Adapters:
    """Both adapters in an event loop of their own, for thousands of calls."""

    def __init__(self, stripe_url: str, halo_url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.stripe = StripeSource(API_KEY, stripe_url, calling(), "halo_invoice_id")
        self.halo = HaloSink(halo_url, "client", HALO_SECRET, "read:invoices", calling())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self.stripe.close())
        self.do(self.halo.close())
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one call."""
        return self._loop.run_until_complete(work)

    def forget_sign_in(self) -> None:
        """Drop the token, as if a new process began."""
        self.halo.sign_in.forget()


def assert_fit_to_be_shown(text: str) -> None:
    """Check that the text is one short line of printable characters without a secret."""
    assert text.isprintable(), repr(text)
    assert MARK not in text
    assert len(text) < 2_000


def assert_fit_to_be_kept(text: str | None) -> None:
    """Check that a database and Halo accept the text: no surrogates, no secret."""
    if text is not None:
        text.encode("utf-8")
        assert MARK not in text
