"""Notifications, over real HTTP: which reach a receiver, when, and what no message contains."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from syncd.config.model import Log
from syncd.monitor.alerts import Health
from syncd.monitor.health import Check
from syncd.monitor.telemetry import set_up_log
from syncd.monitor.watcher import Watch
from syncd.sandbox import Fault
from syncd.sync.build import Parts
from syncd.sync.engine import Engine
from tests.conftest import HandClock, Receiver, Rig
from tests.test_process import daemon, until

WELL = {"stripe": Check(True, "worked"), "halo": Check(True, "worked"), "store": Check(True, "ok")}


@dataclass
class Watched:
    """A watch over a rig's store, with checks that the test sets."""

    rig: Rig
    checks: dict[str, Check] = field(default_factory=lambda: dict(WELL))
    left: dict[str, int] = field(default_factory=lambda: {"stripe": 9_000, "halo": 300})
    engine: Engine = field(init=False)

    def looks(self, *steps: Callable[[Watch], Any]) -> Watch:
        """One run of the service: after each step, the watch updates and its messages are sent."""

        async def work(parts: Parts) -> Watch:
            clock: HandClock = self.rig.clock
            self.engine = parts.engine
            watch = Watch(
                parts.engine.store,
                self.rig.told,
                self.rig.config,
                lambda: self.checks,
                lambda: self.left,
                lambda: parts.engine.last.get("poll"),
                clock,
            )
            for step in steps:
                done = step(watch)
                if asyncio.iscoroutine(done):
                    await done
                watch.update()
                await asyncio.gather(*watch._tasks.values())
            return watch

        found: Watch = self.rig.run(work)
        return found


@pytest.fixture
def watched(rig: Rig, receiver: Receiver) -> Watched:
    rig.settings["SYNCD_NOTIFY_URLS"] = receiver.notify_url
    return Watched(rig)


def nothing(_watch: Watch) -> None:
    """A step without a change."""


def test_the_service_tells(live: Rig, receiver: Receiver) -> None:
    """The service sends one message for several payments, none after a restart, and a heartbeat per poll."""
    payments = [live.pay("succeeded", rows=(5.0,)) for _ in range(3)]
    live.settings |= {
        "SYNCD_NOTIFY_URLS": f"{receiver.notify_url}\njson://127.0.0.1:9/a-dead-token",
        "SYNCD_HEARTBEAT_URL": f"http://{receiver.url}/ping/a-secret-uuid",
    }
    with daemon(live) as running:
        until(lambda: receiver.messages)
        until(lambda: len(receiver.pings) > 2)
        until(lambda: running.events("notification_failed"))
        assert running.stop() == 0
        log = running._log.read_text()
    assert set(receiver.pings) == {"/ping/a-secret-uuid"}
    (message,) = receiver.messages
    host = live.box.halo.url.removeprefix("http://")
    assert (message["title"], message["type"]) == (
        f"syncd ({host}): 3 payments need attention",
        "warning",
    )
    for payment in payments:
        [row] = live.box.halo.rows_of(payment)
        told = f"- {payment}: INV-{row['invoice_id']}. Stripe received 10.99 USD"
        assert told in message["message"]
    (failed,) = (json.loads(line) for line in log.splitlines() if "notification_failed" in line)
    assert (failed["service"], failed["number"]) == ("json", 2)
    with daemon(live) as running:
        until(lambda: len(running.events("started")) == 1)
        pings = len(receiver.pings)
        until(lambda: len(receiver.pings) > pings + 1)
        log += running._log.read_text()
    assert len(receiver.messages) == 1
    for secret in ("a-secret-token", "a-dead-token", "a-secret-uuid", live.box.stripe.api_key):
        assert secret not in log + json.dumps(receiver.messages)


def test_the_service_tells_that_writes_have_stopped(live: Rig, receiver: Receiver) -> None:
    """If writes are stopped, the service sends a message with the cause and the payment."""
    live.proven = False
    live.box.halo.keeps.drops = frozenset({"status"})
    payment = live.pay("succeeded")
    live.settings["SYNCD_NOTIFY_URLS"] = receiver.notify_url
    with daemon(live) as running:
        message = until(
            lambda: next(
                (m for m in receiver.messages if "writes_not_stored" in m["message"]), None
            )
        )
        assert running.stop() == 0
    (row,) = live.box.halo.rows_of(payment)
    assert f"- writes_not_stored: INV-{row['invoice_id']}. " in message["message"]
    assert payment in message["message"]


def test_no_heartbeat_without_a_poll(watched: Watched, receiver: Receiver) -> None:
    """If a poll fails, syncd sends no heartbeat, so the monitoring service raises an alarm."""
    rig = watched.rig
    rig.settings["SYNCD_HEARTBEAT_URL"] = f"http://{receiver.url}/ping"
    rig.box.stripe.faults.append(Fault("401"))

    def poll(_watch: Watch) -> Coroutine[Any, Any, None]:
        rig.clock.seconds += 600
        return watched.engine.poll()

    watched.looks(poll)
    assert receiver.pings == []
    watched.looks(poll, nothing, poll, nothing)
    assert receiver.pings == ["/ping"] * 2
    receiver.refuses = 503
    watched.looks(poll)
    assert [line["text"] for line in rig.told.events("heartbeat_failed")] == [
        "The heartbeat address did not accept the request: HTTP 503. syncd sends the next one after the "
        "next poll. Check the secret heartbeat_url."
    ]


def test_a_day_in_messages(watched: Watched, receiver: Receiver) -> None:
    """A failure, a recovery, a filled gap and a low budget are each notified once, also after a restart."""
    watched.rig.settings["SYNCD_POLL__INTERVAL"] = "5m"
    rig = watched.rig

    def later(seconds: float, **checks: Check) -> Callable[[Watch], None]:
        def step(_watch: Watch) -> None:
            rig.clock.seconds += seconds
            watched.checks = WELL | checks

        return step

    down = Check(False, "Halo answered 503.", rig.clock(), reason="Halo answered 503.")
    busy = Check(False, "no poll has worked for 4000 s", rig.clock() - 4_000)
    watched.looks(later(60, stripe=busy), later(600, stripe=busy))
    assert receiver.titles() == []  # no failure: a long push is under way
    watched.looks(later(60), later(600, halo=down), later(600, halo=down))
    assert receiver.titles() == ["Halo does not work"]
    watched.looks(later(60, halo=down))  # a restart repeats no message
    assert len(receiver.messages) == 1
    watched.looks(later(60))
    gap = {"from": 1_790_000_000, "to": 1_795_000_000, "filled_at": 5, "intents": 7}
    watch = watched.looks(
        lambda watch: watch.store.write_notes({"gap": json.dumps(gap)}),
        later(60),
        lambda _: watched.left.update(stripe=400),
        later(60),
    )
    assert receiver.titles() == [
        "Halo does not work",
        "Halo works again",
        "A gap between polls was filled",
        "Few requests to Stripe are left",
    ]
    assert "2026-09-21 14:13 UTC" in receiver.messages[2]["message"]
    assert watch.health.level is Health.WELL


def test_a_receiver_that_refuses(watched: Watched, receiver: Receiver) -> None:
    """A message that the receiver refused is sent again with growing intervals, until it is accepted."""
    rig = watched.rig
    rig.pay("succeeded", rows=(5.0,))
    rig.cycle()
    receiver.refuses = 500

    def later(_watch: Watch) -> None:
        rig.clock.seconds += 30

    watched.looks(*[later] * 8)  # 30 to 240 s: at once, after 60 s, after 120 s more
    assert (receiver.refused, receiver.messages) == (3, [])
    assert [line["service"] for line in rig.told.events("notification_failed")] == ["json"] * 3
    receiver.refuses = 0
    watched.looks(*[later] * 10)
    assert receiver.titles() == ["1 payment needs attention"]


def test_reads_that_are_planned_are_no_alarm(watched: Watched, receiver: Receiver) -> None:
    """Planned polls use most of Stripe's budget: syncd notifies only when other reads run out."""
    watched.left["stripe"] = 250
    watched.looks(nothing)
    assert receiver.messages == []
    watched.left["stripe"] = 50
    watched.looks(nothing)
    assert receiver.titles() == ["Few requests to Stripe are left"]


@pytest.mark.parametrize("url", ["nonsense://x", "json://127.0.0.1:9/token-x", "json://"])
def test_addresses_that_take_nothing(watched: Watched, url: str) -> None:
    """An unusable address is logged by its number, without its token."""
    watched.rig.settings["SYNCD_NOTIFY_URLS"] = url if url != "json://" else "json://x:y:z/token-x"
    watched.left["stripe"] = 1
    watched.looks(nothing)
    (line,) = watched.rig.told.events("notification_failed")
    assert (line["number"], "token-x" in str(line)) == (1, False)


def test_what_the_library_logs(watched: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    """Apprise and its HTTP library log addresses; none of these lines reaches syncd's log."""
    import sys

    set_up_log(sys.stderr, Log(format="json"))
    try:
        watched.rig.settings["SYNCD_NOTIFY_URLS"] = "json://127.0.0.1:9/token-x\nnonsense://token-x"
        watched.left["stripe"] = 1
        watched.looks(nothing)
    finally:
        logging.getLogger().handlers.clear()
    assert "token-x" not in capfd.readouterr().err


def test_a_message_holds_no_secret(watched: Watched, receiver: Receiver) -> None:
    """A message contains no secret, whatever Stripe or Halo sent."""
    box = watched.rig.box
    secrets = (box.halo.client_secret, box.stripe.api_key, "pi_1_secret_abc")
    odd = [("evt_<b>", f"It holds {' and '.join(secrets)}.", None)]
    watched.looks(lambda watch: watch.store.take_in([], 0, unreadable=odd))
    (message,) = receiver.messages
    assert "- evt_<b>: It holds [removed] and [removed] and pi_1[removed]." in message["message"]


def test_a_slow_receiver_does_not_hold_up_the_end(live: Rig, tmp_path: Path) -> None:
    """A receiver that never answers delays neither the pushes nor the stop."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        live.settings |= {
            "SYNCD_NOTIFY_URLS": f"json://127.0.0.1:{silent.getsockname()[1]}/x",
            "SYNCD_HEARTBEAT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/x",
        }
        live.pay("succeeded", rows=(5.0,))
        with daemon(live) as running:
            until(lambda: running.events("held"))
            payment = live.pay("succeeded")
            until(lambda: live.statuses(payment) == [3])
            began = time.monotonic()
            assert running.stop() == 0
            assert time.monotonic() - began < 6
