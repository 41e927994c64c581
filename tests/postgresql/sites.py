"""Three hosts with two services and one database, between the two sides of a sandbox."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

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


@dataclass
class Site:
    """The three hosts, and what runs on them.

    Attributes:
        rig: what the tests pay and read with; the database is on a host of its own.
        running: the services by their host.
        proxies: what carries a host's requests to Stripe and Halo, of all hosts.
    """

    hosts: Hosts
    server: Server
    rig: Rig
    folder: Path
    running: dict[str, Daemon] = field(default_factory=dict)
    proxies: list[Proxy] = field(default_factory=list)

    def rig_of(self, host: str) -> Rig:
        """A host's own folder, with the same database and sides."""
        folder = self.folder / host
        folder.mkdir()
        return Rig(
            self.rig.box,
            self.rig.clock,
            folder,
            self.rig.settings,
            database=self.rig.url,
            password=PASSWORD,
        )

    def start(self, stack: ExitStack, host: str, **extra: str) -> None:
        """Start a service on a host, and wait for its role."""
        settings = {
            "SYNCD_STATE__TAKEOVER_AFTER": f"{TAKEOVER_SECONDS:.0f}s",
            "HOST_OF_TEST": host,  # a forked process would be on the host of the one that forks
            **extra,
        }
        with self.hosts.on(host):
            running = stack.enter_context(daemon(self.rig_of(host), **settings))
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


@contextmanager
def made(folder: Path, clock: HandClock | None = None) -> Iterator[Site]:
    """The hosts, a database and both sides; no service runs yet. Skips where that is not possible.

    Args:
        folder: where the services' folders are made.
        clock: the clock of both sides and the engine; None for the real one.
    """
    if (reason := namespaces.missing() or no_server()) is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        hosts, proxies = Hosts(), list[Proxy]()
        stack.callback(hosts.close)
        hosts.start()
        server = Server(address("db", "database"))
        stack.callback(server.close)
        with hosts.on("db"):
            server.start()
        with hosts.on("hub"):
            box = stack.enter_context(Sandbox() if clock is None else Sandbox(clock=clock))
        for name, url in (("stripe", box.stripe.url), ("halo", box.halo.url)):
            port = urlsplit(url).port
            assert port is not None
            hub = address("hub", name)
            with hosts.on("hub"):
                stack.callback(Proxy(port, listen=hub, port=port).close)
            for host in ("first", "second"):
                with hosts.on(host):
                    proxies.append(Proxy(port, host=hub, port=port))
                stack.callback(proxies[-1].close)
        rig = Rig(
            box,
            clock or HandClock(),
            folder,
            {"SYNCD_PUSH__CREATE_MISSING": "true"},
            database=server.url(server.database()),
            password=PASSWORD,
        )
        with hosts.on("first"):
            rig.once()
        yield Site(hosts, server, rig, folder, proxies=proxies)
