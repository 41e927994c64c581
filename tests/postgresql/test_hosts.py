"""Two services and a database on three hosts, whose links are cut: one row for one payment, always."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from syncd.failpoints import VARIABLE, Point
from syncd.sandbox.server import Sandbox
from syncd.sync.push.outcomes import INSERT_DOUBT_SECONDS
from tests.conftest import HandClock, Rig
from tests.postgresql import namespaces
from tests.postgresql.namespaces import Hosts, address
from tests.postgresql.proxy import Proxy
from tests.postgresql.server import PASSWORD, Server
from tests.postgresql.server import missing as no_server
from tests.test_process import Daemon, daemon, until

TAKEOVER_SECONDS = 6.0
pytestmark = pytest.mark.slow


@dataclass
class Site:
    """The three hosts, and what runs on them.

    Attributes:
        rig: what the tests pay and read with; the database is on a host of its own.
        running: the services by their host.
    """

    hosts: Hosts
    server: Server
    rig: Rig
    folder: Path
    running: dict[str, Daemon] = field(default_factory=dict)

    def start(self, stack: ExitStack, host: str, **extra: str) -> None:
        """Start a service on a host, and wait for its role."""
        folder = self.folder / host
        folder.mkdir()
        own = Rig(self.rig.box, self.rig.clock, folder, self.rig.settings,
                  database=self.rig.url, password=PASSWORD)  # fmt: skip
        settings = {
            "SYNCD_STATE__TAKEOVER_AFTER": f"{TAKEOVER_SECONDS:.0f}s",
            "HOST_OF_TEST": host,  # a forked process would be on the host of the one that forks
            **extra,
        }
        with self.hosts.on(host):
            running = stack.enter_context(daemon(own, **settings))
        self.running[host] = running
        until(lambda: running.events("leading") or running.events("standing_by"))

    def ready(self, host: str) -> tuple[int, dict[str, Any]]:
        """The answer of /readyz on a host."""
        with self.hosts.on(host):
            code, body = self.running[host].get("/readyz")
        return code, json.loads(body)

    def leads(self, host: str) -> bool:
        found: bool = self.ready(host)[1]["role"] == "leading"
        return found

    def pay(self) -> str:
        """A payment that needs a new row."""
        stripe = self.rig.box.stripe
        number = self.rig.box.halo.add_invoice(total=10.99)
        paid = stripe.create_intent(amount=1099, metadata={"halo_invoice_id": str(number)})
        stripe.advance(paid, "succeeded")
        return paid

    def is_paid(self, payment: str) -> bool:
        """Whether Halo shows the payment as paid."""
        return self.rig.statuses(payment) == [3]

    def is_uncertain(self, payment: str) -> bool:
        """Whether an insert for the payment has no answer: Halo may carry it out for five minutes."""
        with self.hosts.on("db"):
            row = self.rig.stored(lambda store: store.payment(payment))
        return row is not None and row["doubt_until"] is not None

    def five_minutes_later(self) -> None:
        """Poll and push, on the first host, by a clock that moves by the time of an uncertain insert.

        The service on the second host may push at the same time, and then nobody else does.
        """
        self.rig.clock.seconds += INSERT_DOUBT_SECONDS + 1
        with self.hosts.on("first"):
            self.rig.cycle()

    def settled(self, payment: str, seconds: float = 60) -> None:
        """Wait until Halo shows the payment, by one row."""
        try:
            until(lambda: self.rig.statuses(payment) == [3], seconds)
        except AssertionError as error:
            logs = {name: one.log()[-60:] for name, one in self.running.items()}
            raise AssertionError(
                f"{payment} is not paid in Halo after {seconds} s: {logs}"
            ) from error
        assert len(self.rig.box.halo.rows_of(payment)) == 1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The hosts, a database and both sides; no service runs yet."""
    if (reason := namespaces.missing() or no_server()) is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        hosts = Hosts()
        stack.callback(hosts.close)
        hosts.start()
        server = Server(address("db", "database"))
        stack.callback(server.close)
        with hosts.on("db"):
            server.start()
        with hosts.on("hub"):
            box = stack.enter_context(Sandbox())
        for name, url in (("stripe", box.stripe.url), ("halo", box.halo.url)):
            port = urlsplit(url).port
            assert port is not None
            hub = address("hub", name)
            with hosts.on("hub"):
                stack.callback(Proxy(port, listen=hub, port=port).close)
            for host in ("first", "second"):
                with hosts.on(host):
                    stack.callback(Proxy(port, host=hub, port=port).close)
        rig = Rig(box, HandClock(), tmp_path, {"SYNCD_PUSH__CREATE_MISSING": "true"},
                  database=server.url(server.database()), password=PASSWORD)  # fmt: skip
        with hosts.on("first"):
            rig.once()
        yield Site(hosts, server, rig, tmp_path)


@contextmanager
def two(site: Site) -> Iterator[None]:
    """Both services; the first leads, and a first payment has got its row."""
    with ExitStack() as stack:
        for host in ("first", "second"):
            site.start(stack, host)
        site.settled(site.pay())
        yield


@pytest.mark.parametrize("also", [(), ("halo",)], ids=["database", "database-and-halo"])
def test_the_leader_is_cut_off_from_the_database(site: Site, also: tuple[str, ...]) -> None:
    """The standby leads some takeover times later at most; the former leader stands by when it is back."""
    with two(site):
        before = site.pay()
        site.hosts.cut("first", "database", *also)
        until(lambda: site.running["second"].events("leading"), 5 * TAKEOVER_SECONDS)
        paid = site.pay()
        site.settled(paid)
        site.settled(before, 120)  # a row that the former leader sent last may be in doubt
        site.hosts.mend("first", "database", *also)
        until(lambda: site.running["first"].events("lead_lost"), 60)
        until(lambda: site.ready("first")[0] == 200 and not site.leads("first"), 90)
        assert site.leads("second")
        assert paid not in str(site.running["first"].events("pushed"))
        site.settled(site.pay())


def test_the_leader_is_cut_off_from_halo(site: Site) -> None:
    """The leader keeps the lead and reports it; the payment gets one row when the link works again."""
    with two(site):
        site.hosts.cut("first", "halo")
        paid = site.pay()
        until(lambda: site.ready("first")[0] == 503, 90)
        code, said = site.ready("first")
        assert (code, said["role"]) == (503, "leading")
        assert site.rig.statuses(paid) == []
        assert not site.running["second"].events("leading")
        assert site.ready("second")[0] == 200
        site.hosts.mend("first", "halo")
        site.settled(paid, 120)
        until(lambda: site.ready("first")[0] == 200, 60)
        assert site.leads("first")
        assert not site.running["second"].events("leading")


def test_the_database_is_killed_on_its_host(site: Site) -> None:
    """The database dies by SIGKILL and starts again: nobody ends, and one row for one payment."""
    with two(site):
        paid = site.pay()
        site.server.stop(signal.SIGKILL)
        until(lambda: all(site.ready(host)[0] == 503 for host in ("first", "second")), 60)
        with site.hosts.on("db"):
            site.server.start()
        site.settled(paid, 120)
        site.settled(site.pay())
        assert [one.process.poll() for one in site.running.values()] == [None, None]


@pytest.mark.parametrize("point", [Point.BEFORE_REQUEST, Point.AFTER_ANSWER, Point.AFTER_COMMIT])
@pytest.mark.parametrize("fault", ["halo", "database", "killed"])
def test_the_leader_dies_and_a_fault_follows(site: Site, point: Point, fault: str) -> None:
    """The leader dies at a point of its work, and the other host has a fault: one row, in the end."""
    with ExitStack() as stack:
        site.start(stack, "first", **{VARIABLE: f"{point}:25"})
        site.start(stack, "second")
        payments = []
        first = site.running["first"].process

        def has_died() -> bool:
            payments.append(site.pay())
            time.sleep(1)
            return first.poll() is not None

        until(has_died, 60)
        if fault == "killed":
            site.server.stop(signal.SIGKILL)
            with site.hosts.on("db"):
                site.server.start()
        else:
            site.hosts.cut("second", fault)
            time.sleep(TAKEOVER_SECONDS / 2)
            site.hosts.mend("second", fault)
        until(lambda: all(site.is_paid(one) or site.is_uncertain(one) for one in payments), 120)
        site.rig.clock.seconds = time.time()

        def are_paid() -> bool:
            site.five_minutes_later()
            return all(site.is_paid(one) for one in payments)

        until(are_paid, 60)
        for payment in payments:
            site.settled(payment)
