"""The real process: commands, exit codes, signals, and the messages to systemd."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from syncd import __version__
from syncd.sandbox import Fault
from tests import processes
from tests.conftest import ROOT, Rig

FAST = {"SYNCD_POLL__INTERVAL": "1s", "SYNCD_WEB__STALE_AFTER": "3s"}


def until(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until the condition is true; fail after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it didn't come true in time")


class Daemon:
    """A running syncd, its log, and its messages to the service manager."""

    def __init__(
        self,
        process: "processes.Process | subprocess.Popen[bytes]",
        log: Path,
        manager: socket.socket,
    ) -> None:
        self.process = process
        self._log = log
        self._manager = manager
        self.told: list[str] = []

    def log(self) -> list[dict[str, Any]]:
        self.messages()  # the socket holds ten messages; more are lost while it is full
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == name]

    def messages(self) -> list[str]:
        while True:
            try:
                self.told += self._manager.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.told

    @property
    def url(self) -> str:
        started = until(lambda: self.events("started"))
        return f"http://{started[0]['listen']}"

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(12)


@contextmanager
def daemon(rig: Rig, *arguments: str, **extra: str) -> Iterator[Daemon]:
    """Start the daemon over the sandbox, with a service manager that receives messages."""
    address = rig.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(str(address))
        environment = {
            **os.environ,
            **rig.environment(),
            **FAST,
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(address),
            **extra,
        }
        log = rig.folder / "log"
        with log.open("wb") as stderr:
            process = processes.start(
                *arguments, environment=environment, folder=rig.folder, stderr=stderr
            )
        try:
            yield Daemon(process, log, manager)
        finally:
            process.kill()
            process.wait()
            address.unlink()


def test_the_planner_decides_when_to_poll(live: Rig) -> None:
    """With poll.interval = "auto" the service polls every few seconds while a payment is under way.

    The service is ready, although polls may be many minutes apart.
    """
    live.box.stripe.announces = True
    payment = live.pay(None)
    with daemon(live, SYNCD_POLL__INTERVAL="auto", SYNCD_WEB__STALE_AFTER="1s") as running:
        until(lambda: "READY=1" in running.messages())

        def polls() -> list[float]:
            return [r.at for r in live.box.stripe.requests if r.path == "/v1/events"]

        until(lambda: len(polls()) >= 3, 30)
        assert min(b - a for a, b in pairwise(polls())) >= 2.5
        live.box.stripe.advance(payment, "succeeded")
        until(lambda: live.statuses(payment) == [3], 10)
        assert running.get("/readyz")[0] == 200
        assert "while a payment is under way" in running.get("/")[1]


def test_health_checks_do_not_wait_for_the_database(live: Rig) -> None:
    """While another process locks the database for two seconds, /livez and /readyz answer at once.

    The page and the metrics wait for the database and then answer.
    """
    with daemon(live, SYNCD_WEB__STALE_AFTER="1m") as running:
        until(lambda: "READY=1" in running.messages())
        live.pay("succeeded")
        until(lambda: running.get("/readyz")[0] == 200)
        lock = sqlite3.connect(live.folder / "syncd.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        end, waits = time.monotonic() + 2.0, []
        with ThreadPoolExecutor(2) as pages:
            slow = [pages.submit(running.get, path) for path in ("/", "/metrics")]
            while time.monotonic() < end:
                for path in ("/livez", "/readyz"):
                    began = time.monotonic()
                    assert running.get(path)[0] == 200
                    waits.append(time.monotonic() - began)
            assert not any(one.done() for one in slow)
            lock.rollback()
            assert [one.result()[0] for one in slow] == [200, 200]
        lock.close()
        assert len(waits) >= 20
        assert max(waits) < 0.5, max(waits)  # 50 ms on an idle machine
        assert running.stop() == 0


def test_the_daemon(live: Rig) -> None:
    """The daemon polls, pushes, is healthy, notifies systemd, and exits with 0 on SIGTERM."""
    with daemon(live) as running:
        until(lambda: "READY=1" in running.messages())
        payment = live.pay("processing")
        until(lambda: live.statuses(payment) == [5])
        time.sleep(1.1)  # Stripe's events have whole seconds; the next event must be newer
        live.box.stripe.advance(payment, "succeeded")
        until(lambda: live.statuses(payment) == [3])
        assert running.get("/livez")[0] == 200
        code, body = running.get("/readyz")
        assert (code, json.loads(body)["status"]) == (200, "ok")
        assert running.get("/healthz")[0] == 200
        assert running.get("/nowhere")[0] == 404
        # Halo answers a moment before syncd has recorded the answer.
        until(lambda: 'syncd_payments{condition="in_step"} 1.0' in running.get("/metrics")[1])
        metrics = running.get("/metrics")[1]
        assert 'syncd_pushes_total{outcome="updated"} 2.0' in metrics
        assert "syncd_lag_seconds_count 2.0" in metrics
        assert f'syncd_build_info{{version="{__version__}"}} 1.0' in metrics
        assert 'syncd_last_success_timestamp_seconds{step="poll"}' in metrics
        assert 'syncd_budget_remaining_requests{side="halo"}' in metrics
        until(
            lambda: any(
                "1 payment known; nothing needs attention." in m for m in running.messages()
            )
        )
        until(lambda: "WATCHDOG=1" in running.messages())
        assert running.stop() == 0
        assert "STOPPING=1" in running.messages()
        assert [line["event"] for line in running.log()][-1] == "stopped"


def test_not_ready_while_halo_is_down(live: Rig) -> None:
    """If no push has worked for too long, /readyz fails and shows which side failed and why."""
    live.box.halo.faults.append(Fault("html", times=None))
    live.pay("succeeded")
    with daemon(live) as running:

        def failing() -> dict[str, Any] | None:
            code, body = running.get("/readyz")
            checks: dict[str, Any] = json.loads(body)["checks"]
            return checks if code == 503 and "instead of JSON" in checks["halo"]["text"] else None

        checks = until(failing)
        assert (checks["stripe"]["ok"], checks["halo"]["ok"]) == (True, False)
        read = json.loads(live.command("status", "--json").stdout)["checks"]
        assert {side: read[side]["ok"] for side in read} == {"stripe": True, "halo": False}
        assert read["halo"]["text"] == checks["halo"]["text"]
        assert running.get("/livez")[0] == 200


def test_readiness_names_a_refused_cursor(live: Rig) -> None:
    """If Stripe refuses the second page of events, syncd pauses Stripe; /readyz shows Stripe's message."""
    live.once()
    for _ in range(120):
        live.pay("processing", rows=())
    words = b'{"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such event"}}'
    live.box.stripe.faults.append(
        Fault(
            "400",
            times=None,
            path="/v1/events",
            body=words,
            match=lambda request: "starting_after" in request.params(),
        )
    )
    with daemon(live) as running:

        def failing() -> dict[str, Any] | None:
            checks: dict[str, Any] = json.loads(running.get("/readyz")[1])["checks"]
            named = "No such event" in checks["stripe"]["text"]
            return checks if named and checks["halo"]["ok"] else None

        until(failing)
        until(lambda: running.get("/readyz")[0] == 503)
        assert running.events("poll_failed")[0]["side"] == "stripe"
        assert running.stop() == 0


def test_an_idle_service_stays_ready_by_real_answers(live: Rig) -> None:
    """If nothing is due for longer than web.stale_after, syncd stays ready only while Halo answers."""
    with daemon(live) as running:
        until(lambda: running.get("/readyz")[0] == 200)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert running.get("/readyz")[0] == 200
            time.sleep(0.2)
        live.box.halo.faults.append(Fault("503", times=None))
        until(lambda: running.get("/readyz")[0] == 503)
        until(lambda: "503" in json.loads(running.get("/readyz")[1])["checks"]["halo"]["text"], 40)
        assert running.stop() == 0


def polls(live: Rig) -> int:
    return sum(request.path == "/v1/events" for request in live.box.stripe.requests)


def test_a_long_push_holds_up_no_poll(live: Rig) -> None:
    """While Halo delays a push, polls continue, Stripe is not blamed, and no skipped job is logged."""
    live.pay("succeeded")
    live.box.halo.faults.append(Fault("hang", path="InvoicePayment", seconds=6))
    with daemon(live) as running:

        def halo_is_stale() -> dict[str, Any] | None:
            checks: dict[str, Any] = json.loads(running.get("/readyz")[1])["checks"]
            return checks if checks["halo"]["text"] == "no push has worked yet" else None

        until(lambda: live.box.halo.faults[0].struck)
        before = polls(live)
        checks = until(halo_is_stale)  # so a poll that waited for the push would be stale too
        assert checks["stripe"]["ok"]
        assert polls(live) >= before + 2
        found = live.pay("processing")
        until(lambda: live.statuses(found) == [5])
        assert running.stop() == 0
        assert running.events("library") == []


def test_a_sweep_that_waits_for_halo_holds_up_no_poll(live: Rig) -> None:
    """While Halo delays the sweep, polls continue; the sweep completes when Halo answers."""
    live.pay("succeeded")
    live.once()
    live.stored(lambda store: store.write_notes({"last_sweep": "1"}))
    live.box.halo.faults.append(Fault("hang", path="InvoicePayment", seconds=3))
    with daemon(live) as running:
        until(lambda: live.box.halo.faults[0].struck)
        before = polls(live)
        until(lambda: polls(live) >= before + 2)
        assert live.stored(lambda store: store.note("last_sweep")) == "1"
        until(lambda: 'syncd_sweeps_total{outcome="ok"} 1.0' in running.get("/metrics")[1])
        assert live.stored(lambda store: store.note("last_sweep")) != "1"
        assert running.stop() == 0


def test_a_reload_waits_for_a_long_push(live: Rig) -> None:
    """After SIGHUP during a push, syncd records the push's outcome before it reloads; polls continue."""
    live.pay("succeeded")
    live.box.halo.faults.append(
        Fault("hang_after", method="POST", path="InvoicePayment", seconds=4)
    )
    with daemon(live) as running:
        until(live.posts)
        before = polls(live)
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "RELOADING=1" in running.messages())
        until(lambda: polls(live) >= before + 2)
        assert (running.events("pushed"), running.events("reloaded")) == ([], [])
        until(lambda: running.events("reloaded"))
        told = [line["event"] for line in running.log()]
        assert told.index("pushed") < told.index("reloaded")
        again = live.pay("canceled")
        until(lambda: live.statuses(again) == [6])
        assert running.stop() == 0


def test_stop_finishes_the_request_under_way(live: Rig) -> None:
    """After SIGTERM during a push, syncd waits for Halo's answer and records it."""
    live.once()  # notes that writes are proven: the first write would be read back before it counts
    payment = live.pay("succeeded")
    live.box.halo.faults.append(
        Fault("hang_after", method="POST", path="InvoicePayment", seconds=2)
    )
    with daemon(live) as running:
        until(live.posts)
        assert running.stop() == 0
        (pushed,) = running.events("pushed")
        assert pushed["intent"] == payment


def test_stop_while_halo_hangs(live: Rig) -> None:
    """If a request never ends, syncd still stops within ten seconds."""
    live.pay("succeeded")
    live.box.halo.faults.append(Fault("hang", method="POST", path="InvoicePayment"))
    with daemon(live) as running:
        until(live.posts)
        began = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began < 10.5


def test_stop_before_it_began(live: Rig) -> None:
    """If SIGTERM arrives during the first poll, syncd stops."""
    live.box.stripe.faults.append(Fault("hang", times=1, seconds=1))
    with daemon(live) as running:
        until(lambda: live.box.stripe.requests)
        assert running.stop() == 0


def test_killed_in_the_middle(live: Rig) -> None:
    """After SIGKILL between the write and its record, the next start finds the row; no second write."""
    payment = live.pay("succeeded")
    live.box.halo.faults.append(
        Fault("hang_after", method="POST", path="InvoicePayment", seconds=5)
    )
    with daemon(live) as running:
        until(live.posts)
        running.process.kill()
        running.process.wait()
    with daemon(live) as running:
        until(lambda: json.loads(running.get("/readyz")[1])["status"] == "ok")
        assert live.statuses(payment) == [3]
        assert len(live.posts()) == 1
        assert running.stop() == 0


def _file(live: Rig, more: str = "") -> Path:
    file = live.folder / "live.toml"
    numbers = "\n".join(f"{k} = {v}" for k, v in live.box.halo.status.items() if k not in more)
    file.write_text(
        f'[stripe]\napi_base = "{live.box.stripe.url}"\n[halo]\nurl = "{live.box.halo.url}"\n'
        f'client_id = "{live.box.halo.client_id}"\n[halo.status]\n{numbers}\n{more}\n'
    )
    return file


def test_reload(live: Rig) -> None:
    """SIGHUP reloads the configuration: syncd applies what can change and refuses an invalid file."""
    file = _file(live)
    file.write_text(file.read_text().replace("processing = 5\n", ""))
    drop = {f"SYNCD_HALO__STATUS__{s.upper()}": "" for s in live.box.halo.status}
    live.settings |= drop
    environment = {k: v for k, v in live.environment().items() if v}
    live.environment = lambda: environment  # type: ignore[method-assign]
    payment = live.pay("processing")
    with daemon(live, "--config", str(file)) as running:
        until(lambda: running.events("held"))
        file.write_text("interval = nonsense")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.events("reload_refused"))
        _file(live, '[push]\nbatch = 7\n[web]\nlisten = "127.0.0.1:1"\n')
        running.process.send_signal(signal.SIGHUP)
        until(lambda: live.statuses(payment) == [5])
        (reloaded,) = running.events("reloaded")
        assert reloaded["changed"] == ["halo.status", "push.batch"]
        assert [m for m in running.messages() if m == "RELOADING=1"] == ["RELOADING=1"] * 2
        assert [m for m in running.messages() if m == "READY=1"] == ["READY=1"] * 3
        assert running.stop() == 0


def test_a_reload_that_frees_a_payment_pushes_at_once(live: Rig) -> None:
    """A reload that lifts a hold starts a push at once; a reload of another setting lifts no hold."""
    file = _file(live)
    drop = {f"SYNCD_HALO__STATUS__{s.upper()}": "" for s in live.box.halo.status}
    live.settings |= drop
    environment = {k: v for k, v in live.environment().items() if v}
    live.environment = lambda: environment  # type: ignore[method-assign]
    payment = live.pay("succeeded", rows=(5.0,))
    with daemon(live, "--config", str(file), SYNCD_POLL__INTERVAL="1h") as running:
        until(lambda: running.events("held"))
        [before] = until(live.attention)
        _file(live, "[push]\nbatch = 7")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.events("reloaded"))
        assert live.attention() == [before]
        _file(live, '[push]\non_amount_mismatch = "push"')
        running.process.send_signal(signal.SIGHUP)
        until(lambda: live.statuses(payment) == [3])
        assert [line["decided_again"] for line in running.events("reloaded")] == [0, 1]
        assert running.stop() == 0


def test_a_reload_that_changes_nothing_keeps_since_when_payments_are_held(live: Rig) -> None:
    """SIGHUP without a change: held payments keep their time, reason and place on the list."""
    file = _file(live)
    drop = {f"SYNCD_HALO__STATUS__{s.upper()}": "" for s in live.box.halo.status}
    live.settings |= drop
    environment = {k: v for k, v in live.environment().items() if v}
    live.environment = lambda: environment  # type: ignore[method-assign]
    live.pay("succeeded", rows=(5.0,))
    with daemon(live, "--config", str(file), SYNCD_POLL__INTERVAL="1h") as running:
        until(lambda: running.events("held"))
        [before] = until(live.attention)
        time.sleep(1.1)
        for number in (1, 2):
            running.process.send_signal(signal.SIGHUP)
            until(lambda: len(running.events("reloaded")) == number)  # noqa: B023
            # Not even for a moment: nobody is notified of the payment again.
            assert live.attention() == [before]
        assert [line["changed"] for line in running.events("reloaded")] == [[], []]
        assert [line["decided_again"] for line in running.events("reloaded")] == [0, 0]
        assert len(running.events("held")) == 1
        [after] = live.attention()
        assert (after.id, after.since, after.reason) == (before.id, before.since, before.reason)
        assert running.stop() == 0


def test_sweep_that_failed(live: Rig) -> None:
    """If a sweep fails, syncd retries it soon, not an interval later."""
    live.once()
    live.stored(lambda store: store.write_notes({"last_sweep": "1"}))
    live.box.stripe.faults.append(Fault("401", path="/v1/payment_intents"))
    with daemon(live, SYNCD_POLL__SWEEP="16s") as running:
        until(lambda: running.events("sweep_failed"))
        failed_at = time.monotonic()
        until(lambda: float(live.stored(lambda store: store.note("last_sweep"))) > 1)
        assert time.monotonic() - failed_at < 16


def test_manager_that_does_not_listen(live: Rig) -> None:
    """If the service manager's queue is full, polls continue."""
    live.settings["SYNCD_POLL__INTERVAL"] = "1s"
    address = live.folder / "deaf"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(address))
        with suppress(BlockingIOError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            filler.connect(str(address))
            while True:
                filler.send(b"STATUS=")
        with daemon(live, NOTIFY_SOCKET=str(address)):
            until(lambda: len(live.box.stripe.requests) >= 2)


def test_token_of_the_web(live: Rig) -> None:
    """If a token is set, each web request needs it; to listen beyond loopback, a token is required."""
    with daemon(live, SYNCD_WEB_TOKEN="a-token-of-ours") as running:
        assert running.get("/readyz")[0] == 401
        assert running.get("/metrics", Authorization="Bearer wrong")[0] == 401
        until(lambda: running.get("/readyz", Authorization="Bearer a-token-of-ours")[0] == 200)
    done = live.command(extra={"SYNCD_WEB__LISTEN": "0.0.0.0:9464"})
    assert done.returncode == 78
    assert "web.listen" in done.stderr


def test_port_that_is_taken(live: Rig) -> None:
    """If the port is in use, syncd says so and exits with 78."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = live.command(extra={"SYNCD_WEB__LISTEN": f"127.0.0.1:{port}"})
    assert done.returncode == 78
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


# --- commands --------------------------------------------------------------------------------------


def test_once_and_status(live: Rig) -> None:
    """`--once` polls and pushes once and exits with 0; `status` shows the result."""
    live.pay("succeeded")
    assert live.command("--once").returncode == 0
    done = live.command("status", "--json")
    read = json.loads(done.stdout)
    assert done.returncode == 0
    assert (read["payments"]["in_step"], read["due"], read["attention"]) == (1, 0, 0)
    assert read["requests_left"]["stripe"] == 9_999
    shown = live.command("status").stdout
    for line in (
        "Stripe │ test mode, ok",
        "Payments in step │ 1",
        "Attention │ nothing needs attention",
    ):
        assert line in " ".join(shown.split())


def test_attention_retry_dismiss(live: Rig) -> None:
    """`attention` exits with 1 and lists held payments; each can be retried once corrected, or dismissed."""
    held, other = live.pay("succeeded", rows=(5.0,)), live.pay("succeeded", rows=(6.0,))
    assert live.command("--once").returncode == 1
    done = live.command("attention", "--json")
    entries = {entry["id"]: entry for entry in json.loads(done.stdout)}
    assert (done.returncode, set(entries)) == (1, {held, other})
    assert entries[held]["code"] == "amount_mismatch"
    assert "10.99" in live.command("attention").stdout
    live.box.halo.rows_of(held)[0]["amount"] = 10.99
    assert live.command("attention", "retry", held).returncode == 0
    assert live.command("attention", "dismiss", other).returncode == 0
    assert live.command("--once").returncode == 0
    assert live.statuses(held) == [3]
    assert live.command("attention").returncode == 0
    assert live.command("attention", "retry", "pi_unknown").returncode == 1
    assert live.command("attention", "retry").returncode == 2


def test_retry_all(live: Rig) -> None:
    """`attention retry --all` retries every entry of the attention list."""
    payments = [live.pay("succeeded", rows=(5.0,)) for _ in range(3)]
    live.command("--once")
    for payment in payments:
        live.box.halo.rows_of(payment)[0]["amount"] = 10.99
    assert live.command("attention", "retry", "--all").returncode == 0
    assert live.command("--once").returncode == 0


def test_resync(live: Rig) -> None:
    """`resync` reads one payment intent again and pushes its state."""
    payment = live.pay(None, created=time.time() - 80 * 86_400)
    live.box.stripe.advance(payment, "canceled", emit=False)
    done = live.command("resync", payment)
    assert (done.returncode, live.statuses(payment)) == (0, [6])
    assert "Stripe says canceled" in done.stdout
    assert live.command("resync", "pi_doesnotexist").returncode == 1
    wrong = live.command("resync", "evt_1")
    assert (wrong.returncode, "is not the id of a payment intent" in wrong.stderr) == (2, True)


def test_backfill_and_dry_run(live: Rig) -> None:
    """A dry run prints the planned pushes and writes nothing; the same backfill then pushes them."""
    payment = live.pay(None, created=time.time() - 20 * 86_400)
    live.box.stripe.advance(payment, "succeeded", emit=False)
    done = live.command("--backfill", "90d", "--dry-run", "--json")
    (planned,) = json.loads(done.stdout)
    assert (planned["intent"], planned["action"], planned["status"]) == (payment, "update", 3)
    assert not (live.folder / "syncd.db").exists()
    assert live.posts() == []
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 30 * 86_400))
    assert live.command("--backfill", day).returncode == 0
    assert live.statuses(payment) == [3]


def test_dry_run_leaves_the_store_alone(live: Rig) -> None:
    """A dry run over an existing database changes no byte of it."""
    live.pay("succeeded")
    live.command("--once")
    live.pay("canceled")
    before = (live.folder / "syncd.db").read_bytes()
    done = live.command("--once", "--dry-run")
    assert "update" in done.stdout
    assert (live.folder / "syncd.db").read_bytes() == before


def test_dry_run_with_nothing_to_do(live: Rig) -> None:
    """With nothing to push, a dry run says so, with the number of payments in each condition."""
    nothing = live.command("--once", "--dry-run")
    assert (nothing.returncode, nothing.stdout) == (0, "Nothing would be pushed.\n")
    held = live.pay("succeeded", rows=(5.0,))
    live.pay("succeeded")
    live.pay("canceled")
    live.pay("succeeded", rows=())
    assert live.command("--once").returncode == 1
    said = "2 in step, 1 held (syncd attention), 1 without a row.\n"
    dry = live.command("--backfill", "90d", "--dry-run")
    assert (dry.returncode, dry.stdout) == (1, f"Nothing would be pushed: {said}")
    dry = live.command("--once", "--dry-run", "--json")
    assert (dry.returncode, json.loads(dry.stdout)) == (1, [])
    assert f"Nothing would be pushed: {said}" in dry.stderr
    # If there is something to push, the dry run lists it apart from the payments it leaves alone.
    new, doubtful = live.pay("processing"), live.pay("succeeded", rows=(6.0,))
    dry = live.command("--once", "--dry-run")
    assert f"Beside these: {said}" in dry.stdout
    assert [name in dry.stdout for name in (new, doubtful, held)] == [True, True, False]
    # After a failure syncd does not know what else it would push.
    live.box.stripe.faults.append(Fault("401", times=9))
    failed = live.command("--once", "--dry-run", extra={"SYNCD_STATE__URL": "sqlite:///other.db"})
    assert (failed.returncode, failed.stdout) == (69, "")


def test_backfill_beside_the_daemon(live: Rig) -> None:
    """A backfill beside the daemon: every payment is pushed, and none twice."""
    with daemon(live) as running:
        until(lambda: "READY=1" in running.messages())
        old = []
        for number in range(60):
            payment = live.pay(None, created=time.time() - 86_400 * 3 - number)
            live.box.stripe.advance(payment, "succeeded", emit=False)
            old.append(payment)
        new = live.pay("processing")
        done = live.command("--backfill", "30d")
        assert done.returncode == 0, done.stderr
        until(lambda: live.statuses(new) == [5])
        assert all(live.statuses(payment) == [3] for payment in old)
        written = [row for row, _, _ in live.box.halo.writes]
        assert len(written) == len(set(written)) == 61
        assert running.stop() == 0


def test_backfill_that_is_stopped(live: Rig) -> None:
    """SIGTERM ends a backfill between two requests; the same command continues it."""
    for number in range(250):
        live.box.stripe.create_intent(created=time.time() - 86_400 - number)
    live.box.stripe.faults.append(Fault("503", after=1, retry_after=15))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SYNCD_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.alone", "--backfill", "30d"],
        env={**clean, **live.environment(), "PYTHONPATH": str(ROOT)},
        cwd=live.folder,
        stderr=subprocess.PIPE,
    )
    until(lambda: len(live.box.stripe.requests) >= 2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 143
    assert b"Run the same command again to continue" in said
    live.box.stripe.requests.clear()
    assert live.command("--backfill", "30d").returncode == 0
    assert "starting_after" in live.box.stripe.requests[0].params()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--backfill", "someday"),
        ("--backfill", "2999-01-01"),
        ("--dry-run",),
        ("--nonsense",),
        ("--once", "--backfill", "1d"),
        ("nonsense",),
        ("attention", "dismiss"),
    ],
)
def test_wrong_usage(live: Rig, arguments: tuple[str, ...]) -> None:
    """Wrong usage exits with 2 and an error message."""
    done = live.command(*arguments)
    assert done.returncode == 2
    assert "Usage" in done.stderr or "Error" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("side", ["stripe", "halo"])
def test_side_that_refuses(live: Rig, side: str) -> None:
    """If a side refuses syncd, the command exits with 69, names the side, and shows no secret."""
    live.pay("succeeded")
    getattr(live.box, side).faults.append(Fault("401", times=None))
    done = live.command("--once")
    assert done.returncode == 69
    assert side in done.stderr.lower()
    for secret in (live.box.stripe.api_key, live.box.halo.client_secret):
        assert secret not in done.stderr + done.stdout


def test_version_and_help(live: Rig) -> None:
    """--version prints the version, and --help of these commands their usage."""
    assert live.command("--version").stdout == f"syncd {__version__}\n"
    for name in ("status", "attention", "resync", "demo"):
        done = live.command(name, "--help")
        assert done.returncode == 0
        assert "Usage: syncd" in done.stdout


def test_a_reload_changes_the_log(live: Rig) -> None:
    """A reload changes the format and the level of the log."""
    file = live.folder / "config.toml"
    file.write_text('[log]\nformat = "json"\n')
    with daemon(live, "--config", str(file)) as running:
        until(lambda: running.events("started"))
        file.write_text('[log]\nformat = "logfmt"\nlevel = "warning"\n')
        running.process.send_signal(signal.SIGHUP)
        until(lambda: any("Reloaded." in line for line in running.messages()))
        live.pay("succeeded", rows=(5.0,))
        until(lambda: "event=held" in running._log.read_text())
        lines = running._log.read_text().splitlines()
    held = next(line for line in lines if "event=held" in line)
    assert re.match(r"timestamp=\S+ level=warning event=held ", held)
    assert not any(line.startswith("{") for line in lines[lines.index(held) :])
    assert "level=info" not in "\n".join(lines)
