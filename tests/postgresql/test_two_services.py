"""Two services with one database: one leads, the other takes over; always one row for one payment."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest

from syncd.sandbox.faults import Fault
from syncd.sandbox.server import Sandbox
from syncd.store.db import postgresql
from tests.conftest import HandClock, Receiver, Rig
from tests.postgresql.proxy import Proxy
from tests.postgresql.server import PASSWORD, Server
from tests.test_process import Daemon, daemon, until

TAKEOVER_SECONDS = 6.0
CREATES = {"SYNCD_PUSH__CREATE_MISSING": "true"}


@dataclass
class Pair:
    """Two services, as on two hosts: folders of their own, one database, one Stripe and one Halo.

    Attributes:
        rig: creates payments and reads Halo for the tests.
        first, second: the services; the first leads.
    """

    rig: Rig
    first: Daemon
    second: Daemon

    def by_role(self) -> dict[str, list[Daemon]]:
        found: dict[str, list[Daemon]] = {"leading": [], "standby": []}
        for one in (self.first, self.second):
            if one.process.poll() is None:
                found[json.loads(one.get("/readyz")[1])["role"]].append(one)
        return found

    def leads(self, one: Daemon) -> Any:
        return json.loads(one.get("/readyz")[1])["role"] == "leading"


@contextmanager
def pair(rig: Rig, takeover: float = 60.0, second: dict[str, str] | None = None) -> Iterator[Pair]:
    """Start both; the first leads. `takeover` is long where a busy machine must not take over."""
    folders = [rig.folder / name for name in ("first", "second")]
    settings = {"SYNCD_STATE__TAKEOVER_AFTER": f"{takeover:.0f}s"}
    with ExitStack() as stack:
        started: list[Daemon] = []
        for folder in folders:
            folder.mkdir()
            own = Rig(rig.box, rig.clock, folder, rig.settings, database=rig.url, password=PASSWORD)
            running = stack.enter_context(
                daemon(own, **settings, **(second or {} if started else {}))
            )
            started.append(running)
            until(lambda: started[-1].events("leading") or started[-1].events("standing_by"))
        both = Pair(rig, *started)
        try:
            yield both
        finally:
            for one in started:
                if one.process.poll() is None:
                    os.kill(one.process.pid, signal.SIGCONT)


def settled(rig: Rig, payment: str, status: int = 3) -> None:
    """Wait until Halo shows the payment with this status; there is one row for the payment."""
    until(lambda: rig.statuses(payment) == [status], 40)
    assert len(rig.box.halo.rows_of(payment)) == 1


def test_one_leads_the_other_stands_by(live: Rig) -> None:
    """Only the leader pushes; both services answer 200 with their role; status and metrics show both."""
    live.once()
    with pair(live) as both:
        paid = live.pay("succeeded")
        settled(live, paid)
        until(lambda: both.first.get("/readyz")[0] == 200)
        for one, role in ((both.first, "leading"), (both.second, "standby")):
            for path in ("/livez", "/readyz"):
                code, body = one.get(path)
                assert (code, json.loads(body)["role"]) == (200, role)
        assert "stands by; the service (process" in both.second.get("/readyz")[1]
        assert "\nsyncd_leading 1.0" in both.first.get("/metrics")[1]
        assert "\nsyncd_leading 0.0" in both.second.get("/metrics")[1]
        status = json.loads(until(lambda: _with_standby(live)))
        assert str(both.first.process.pid) in status["leader"]["service"]
        assert [str(both.second.process.pid) in one for one in status["standbys"]] == [True]
        assert f"process {both.second.process.pid}" in both.first.get("/")[1]
        shown = live.command("status").stdout
        assert "Leads" in shown
        assert "Stands by" in shown
        assert not both.second.events("pushed")
        assert both.second.stop() == 0
        assert both.first.stop() == 0


def _is_not_ready(one: Daemon) -> bool:
    return one.get("/readyz")[0] == 503


def _with_standby(live: Rig) -> str:
    told = live.command("status", "--json").stdout
    return told if json.loads(told)["standbys"] else ""


def test_a_stopped_leader_hands_over_at_once(live: Rig) -> None:
    """After a planned stop of the leader, the standby leads within 2.5 seconds, and logs this once."""
    live.once()
    with pair(live) as both:
        settled(live, live.pay("succeeded"))
        assert both.first.stop() == 0
        begun = time.monotonic()
        until(lambda: both.leads(both.second))
        assert time.monotonic() - begun < 2.5
        settled(live, live.pay("succeeded"))
        (line,) = both.second.events("leading")
        assert "the former leader was stopped" in line["reason"]
        assert "\nsyncd_takeovers_total 1.0" in both.second.get("/metrics")[1]


def test_a_takeover_is_notified(live: Rig, receiver: Receiver) -> None:
    """A takeover sends one notification; the start of the first service sends none."""
    live.settings["SYNCD_NOTIFY_URLS"] = receiver.notify_url
    live.once()
    with pair(live) as both:
        settled(live, live.pay("succeeded"))
        assert not receiver.messages
        assert both.first.stop() == 0
        (message,) = until(lambda: list(receiver.messages))
        assert "Another service leads" in message["title"]
        assert f"process {both.second.process.pid}" in message["message"]
        assert "the former leader was stopped" in message["message"]
        settled(live, live.pay("succeeded"))
        assert len(receiver.messages) == 1


@pytest.mark.slow
def test_a_leader_that_was_suspended(live: Rig) -> None:
    """A leader that was suspended during a push is replaced; afterwards it writes nothing and stands by."""
    live.once()
    with pair(live, TAKEOVER_SECONDS) as both:
        settled(live, live.pay("succeeded"))
        halo = live.box.halo
        paid = live.pay("succeeded")
        halo.faults.append(Fault("hang", method="GET", path="InvoicePayment", seconds=7))
        seen = len(halo.requests)
        until(lambda: any(r.path.endswith("InvoicePayment") for r in halo.requests[seen:]))
        os.kill(both.first.process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        until(lambda: both.second.events("leading"), 15)
        assert time.monotonic() - begun <= TAKEOVER_SECONDS + 1.5
        settled(live, paid)
        posts = len(live.posts())
        os.kill(both.first.process.pid, signal.SIGCONT)
        until(lambda: both.first.events("lead_lost"))
        until(lambda: not both.leads(both.first))
        settled(live, live.pay("succeeded"))
        assert len(live.posts()) == posts + 1
        assert paid not in str(both.first.events("pushed"))
        assert both.first.get("/readyz")[0] == 200
        os.kill(both.second.process.pid, signal.SIGKILL)
        until(lambda: both.leads(both.first), 15)
        settled(live, live.pay("succeeded"))


@pytest.mark.slow
def test_a_leader_that_was_suspended_within_a_create(live: Rig) -> None:
    """A leader is suspended while Halo answers a new row, and goes on later: there is no second row."""
    live.settings.update(CREATES)
    live.once()
    with pair(live, TAKEOVER_SECONDS) as both:
        number = live.box.halo.add_invoice(total=10.99)
        halo = live.box.halo
        halo.faults.append(Fault("hang_after", method="POST", path="InvoicePayment", seconds=1))
        paid = live.box.stripe.create_intent(amount=1099, metadata={"halo_invoice_id": str(number)})
        live.box.stripe.advance(paid, "succeeded")
        until(live.posts)
        os.kill(both.first.process.pid, signal.SIGSTOP)
        until(lambda: both.second.events("leading"), 20)
        settled(live, paid)
        os.kill(both.first.process.pid, signal.SIGCONT)
        until(lambda: both.first.events("lead_lost"))
        until(lambda: both.first.get("/readyz")[0] == 200 and not both.leads(both.first))
        settled(live, live.pay("succeeded"))
        assert len(halo.rows_of(paid)) == 1


@pytest.mark.slow
def test_a_leader_that_is_stopped_within_a_push(live: Rig) -> None:
    """A leader that is stopped finishes its request and records it; then the standby leads."""
    live.once()
    with pair(live) as both:
        fault = Fault("hang_after", method="POST", path="InvoicePayment", seconds=2)
        live.box.halo.faults.append(fault)
        paid = live.pay("succeeded")
        until(live.posts)
        assert both.first.stop() == 0
        assert live.stored(lambda store: store.payment(paid))["acked_state"] == "succeeded"
        until(lambda: both.leads(both.second), 15)
        settled(live, live.pay("succeeded"))
        assert len(live.posts()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang", "hang_after"])
def test_a_leader_that_dies_within_a_create(live: Rig, fault: str) -> None:
    """If the leader is killed while Halo answers an insert, the standby inserts no second row."""
    live.settings.update(CREATES)
    live.once()
    with pair(live) as both:
        number = live.box.halo.add_invoice(total=10.99)
        live.box.halo.faults.append(Fault(fault, method="POST", path="InvoicePayment", seconds=5))
        paid = live.box.stripe.create_intent(amount=1099, metadata={"halo_invoice_id": str(number)})
        live.box.stripe.advance(paid, "succeeded")
        until(live.posts)
        both.first.process.kill()
        until(lambda: both.leads(both.second), 15)
        if fault == "hang_after":
            settled(live, paid)
        else:
            until(lambda: live.stored(lambda store: store.payment(paid))["doubt_until"])
        time.sleep(3)
        assert len(live.box.halo.rows_of(paid)) <= 1
        assert len(live.posts()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_database_is_killed_and_restarted(server: Server, tmp_path: Any, number: int) -> None:
    """Without the database, both services keep running and are not ready; after its restart both work."""
    with Sandbox() as box:
        name = server.database()
        live = Rig(box, HandClock(), tmp_path, {}, database=server.url(name), password=PASSWORD)
        live.once()
        with pair(live, TAKEOVER_SECONDS) as both:
            settled(live, live.pay("succeeded"))
            server.stop(number)
            paid = live.pay("succeeded")
            for one in (both.first, both.second):
                until(partial(_is_not_ready, one))
                assert "cannot be used at the moment" in one.get("/readyz")[1]
                assert one.get("/livez")[0] == 200
            time.sleep(TAKEOVER_SECONDS)
            assert live.statuses(paid) == [1]
            server.start()
            settled(live, paid)
            until(lambda: sorted(map(len, both.by_role().values())) == [1, 1])
            until(lambda: all(one.get("/readyz")[0] == 200 for one in (both.first, both.second)))
            assert (both.first.process.poll(), both.second.process.poll()) == (None, None)


@pytest.mark.slow
def test_the_database_hangs(server: Server, tmp_path: Any) -> None:
    """If the database hangs for eight seconds, both services work again afterwards, with one row."""
    with Sandbox() as box:
        name = server.database()
        live = Rig(box, HandClock(), tmp_path, {}, database=server.url(name), password=PASSWORD)
        live.once()
        with pair(live, TAKEOVER_SECONDS) as both:
            settled(live, live.pay("succeeded"))
            server.signal_all(signal.SIGSTOP)
            paid = live.pay("succeeded")
            time.sleep(8)
            server.signal_all(signal.SIGCONT)
            settled(live, paid)
            until(lambda: sorted(map(len, both.by_role().values())) == [1, 1], 40)
            assert len(live.box.halo.rows_of(paid)) == 1


def test_commands_work_beside_the_leader(live: Rig) -> None:
    """--once, --backfill and resync work while a service leads, and the service keeps the lead."""
    live.once()
    with pair(live) as both:
        paid = live.pay("succeeded")
        retry = ("attention", "retry", "--all")
        for arguments in (
            ("--once",),
            ("--backfill", "2d"),
            ("resync", paid),
            ("attention",),
            retry,
        ):
            done = live.command(*arguments)
            assert done.returncode in (0, 1), done.stderr
        settled(live, paid)
        assert both.leads(both.first)


def _answers_of(one: Daemon) -> dict[str, tuple[int, str]]:
    """The answer of a service on each path, each within three seconds."""
    found = {}
    for path in ("/livez", "/readyz", "/", "/metrics"):
        began = time.monotonic()
        found[path] = one.get(path)
        assert time.monotonic() - began < 3.0, (path, found[path])
    return found


def _answers_without_a_database(one: Daemon) -> None:
    """Check that all paths of a service without its database answer quickly, and do so repeatedly."""
    until(partial(_is_not_ready, one), 15)
    for _ in range(4):
        found = _answers_of(one)
        assert found["/livez"][0] == 200
        for path in ("/readyz", "/", "/metrics"):
            assert found[path][0] == 503, path
            assert re.search(r"Check that (the server|PostgreSQL) runs", found[path][1]), path
        time.sleep(1.5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "dropped"])
def test_http_while_the_database_hangs(server: Server, tmp_path: Any, how: str) -> None:
    """If the database hangs or its packets are dropped, HTTP still answers, and says what to check."""
    proxy = Proxy(server.port)
    url = server.url(server.database())
    with Sandbox() as box:
        live = Rig(box, HandClock(), tmp_path, {}, database=url, password=PASSWORD)
        live.once()
        live.settings["SYNCD_STATE__URL"] = url.replace(f":{server.port}/", f":{proxy.port}/")
        with daemon(live, SYNCD_STATE__TAKEOVER_AFTER="10s") as running:
            until(lambda: running.get("/readyz")[0] == 200)
            if how == "stopped":
                server.signal_all(signal.SIGSTOP)
            else:
                proxy.cut.set()
            try:
                _answers_without_a_database(running)
            finally:
                proxy.cut.clear()
                server.signal_all(signal.SIGCONT)
            paid = live.pay("succeeded")
            settled(live, paid)
            until(lambda: {code for code, _ in _answers_of(running).values()} == {200}, 40)
    proxy.close()


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["LOCK TABLE notes", "a writer's lock"])
def test_a_lock_is_no_silence(live: Rig, shared_server: Server, lock: str) -> None:
    """While another session holds a lock, the database works: no answer says that it does not answer.

    The page waits for a locked table. A writer's lock that lasts too long is reported as a lock.
    """
    live.once()
    statement = lock if "TABLE" in lock else f"SELECT pg_advisory_xact_lock({postgresql._LOCK})"
    name = live.url.rpartition("/")[2]
    with (
        daemon(live, SYNCD_WEB__STALE_AFTER="1m") as running,
        psycopg.connect(shared_server.url_with_password(name)) as other,
        ThreadPoolExecutor(1) as pages,
    ):
        until(lambda: running.get("/readyz")[0] == 200)
        other.execute(statement)
        page = pages.submit(running.get, "/")
        end, codes, texts = time.monotonic() + 4.5, set(), ""
        while time.monotonic() < end:
            code, text = running.get("/readyz")
            codes.add(code)
            texts += text
            time.sleep(0.1)
        (held,) = shared_server.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = 'syncd'",
            "postgres", name,
        )  # fmt: skip
        other.rollback()
        assert "has not answered" not in texts
        assert codes == {200}
        assert page.result()[0] == 200
        assert held <= (postgresql.CONNECTIONS_MAX,)
        paid = live.pay("succeeded")
        settled(live, paid)


@pytest.mark.slow
def test_the_leaders_link_to_the_database_is_cut(live: Rig, shared_server: Server) -> None:
    """A leader that loses the database is replaced and writes nothing; later it stands by."""
    live.once()
    proxy = Proxy(shared_server.port)
    direct = live.database
    live.settings["SYNCD_STATE__URL"] = direct.replace(f":{shared_server.port}/", f":{proxy.port}/")
    try:
        with pair(live, TAKEOVER_SECONDS, second={"SYNCD_STATE__URL": direct}) as both:
            settled(live, live.pay("succeeded"))
            proxy.cut.set()
            until(lambda: both.second.events("leading"), 20)
            paid = live.pay("succeeded")
            settled(live, paid)
            until(lambda: both.first.events("lead_lost"), 60)
            until(partial(_is_not_ready, both.first), 40)
            proxy.cut.clear()
            until(lambda: both.first.get("/readyz")[0] == 200, 60)
            assert not both.leads(both.first)
            assert paid not in str(both.first.events("pushed"))
            settled(live, live.pay("succeeded"))
    finally:
        proxy.close()
