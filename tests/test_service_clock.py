"""The service when the host's clock is set back."""

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from apscheduler.schedulers import base

from syncd.sandbox.faults import Fault
from syncd.service import daemon as service
from syncd.service import readiness
from syncd.service.clock import Ages, ClockWatch
from syncd.service.systemd import Notifier
from syncd.sync.build import Runtime
from tests.conftest import Notified, Rig

DAY = 86_400


class SetBack:
    """The host's clock: the true time, minus the seconds it was set back."""

    def __init__(self) -> None:
        self.back = 0.0

    def __call__(self) -> float:
        return time.time() - self.back


async def _until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.02)


def test_polls_go_on_after_the_clock_was_set_back(
    live: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set back by a day: polls continue at once, and /readyz still fails when Stripe fails."""
    clock = SetBack()

    class Now(dt.datetime):
        """The scheduler's time."""

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return dt.datetime.fromtimestamp(clock(), tz)

    monkeypatch.setattr(base, "datetime", Now)
    monkeypatch.setattr(service, "CLOCK_LOOK_SECONDS", 0.05)
    live.settings |= {"SYNCD_POLL__INTERVAL": "1s", "SYNCD_WEB__STALE_AFTER": "2s"}
    store, told, runtime = live.open(), Notified(), Runtime(now=clock)
    running = service.Daemon(
        live.config(), store, told, Notifier(None), live.config, runtime=runtime
    )

    def polls() -> int:
        return sum(r.path == "/v1/events" for r in live.box.stripe.requests)

    async def play() -> None:
        serving = asyncio.ensure_future(running.run())
        await _until(lambda: told.events("started"))
        await _until(lambda: "poll" in running._engine.last)
        before = polls()
        clock.back = DAY
        await _until(lambda: polls() >= before + 2)
        assert told.events("clock_set_back") == [
            {"level": "warning", "event": "clock_set_back", "seconds": DAY}
        ]
        assert running._ready()["stripe"].ok
        live.box.stripe.faults.append(Fault("500", times=None))
        clock.back = 2 * DAY
        await _until(lambda: not running._ready()["stripe"].ok)
        runtime.stop.set()
        await serving

    try:
        asyncio.run(play())
    finally:
        store.close()


def test_a_clock_that_was_set_back_is_noticed_once() -> None:
    """A clock that was set back is reported once; small differences and a forward step are not reported."""
    clock, steady = [1_000.0], [0.0]
    watch = ClockWatch(lambda: clock[0], lambda: steady[0])
    found = []
    for wall, passed in ((5, 5), (3, 5), (-3_595, 5), (5, 5), (3_605, 5), (5, 5)):
        clock[0] += wall
        steady[0] += passed
        found.append(watch.seconds_back())
    assert found == [0, 0, 3_600, 0, 0, 0]


def test_ages_do_not_follow_the_clock() -> None:
    """An age grows by the monotonic clock only, and starts again when the step has succeeded again."""
    steady = [0.0]
    ages = Ages(lambda: steady[0])
    assert ages.seconds("poll", 1_000.0) == 0
    steady[0] = 40.0
    assert ages.seconds("poll", 1_000.0) == 40
    assert ages.seconds("push", 5.0) == 0
    assert ages.seconds("poll", 900.0) == 0


def test_a_blocked_service_is_not_alive(live: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the service's loop is blocked, HTTP still answers, and /livez fails."""
    monkeypatch.setattr(service, "HANG_SECONDS", 1.0)
    monkeypatch.setattr(readiness, "HANG_SECONDS", 1.0)
    monkeypatch.setattr(service, "CLOCK_LOOK_SECONDS", 0.05)
    store, told, runtime = live.open(), Notified(), Runtime()
    running = service.Daemon(
        live.config(), store, told, Notifier(None), live.config, runtime=runtime
    )
    codes: list[int] = []
    asked = threading.Event()

    def ask(url: str) -> None:
        while not asked.is_set():
            codes.append(httpx.get(url, trust_env=False).status_code)
            if codes[-1] != httpx.codes.OK:
                asked.set()

    async def play() -> None:
        serving = asyncio.ensure_future(running.run())
        await _until(lambda: told.events("started"))
        url = "http://" + told.events("started")[0]["listen"] + "/livez"
        thread = threading.Thread(target=ask, args=(url,))
        thread.start()
        await _until(lambda: "push" in running._engine.last)
        await _until(lambda: codes and running._steps.idle_seconds() == 0)
        assert asked.wait(20)  # blocks the loop
        thread.join()
        runtime.stop.set()
        await serving

    try:
        asyncio.run(play())
    finally:
        store.close()
    assert codes[0] == httpx.codes.OK
    assert codes[-1] == httpx.codes.SERVICE_UNAVAILABLE
