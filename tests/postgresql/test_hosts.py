"""Two services and a database on three hosts with cut links: always one row for one payment."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from syncd.failpoints import VARIABLE, Point
from tests.postgresql.sites import TAKEOVER_SECONDS, Site, made
from tests.test_process import until

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The hosts, a database and both sides; no service runs yet."""
    with made(tmp_path) as found:
        yield found


@contextmanager
def two(site: Site) -> Iterator[None]:
    """Both services; the first leads, and a first payment has its row."""
    with ExitStack() as stack:
        for host in ("first", "second"):
            site.start(stack, host)
        site.settled(site.pay())
        yield


@pytest.mark.parametrize("also", [(), ("halo",)], ids=["database", "database-and-halo"])
def test_the_leader_is_cut_off_from_the_database(site: Site, also: tuple[str, ...]) -> None:
    """If the leader loses the database, the standby takes over; later the former leader stands by."""
    with two(site):
        before = site.pay()
        site.hosts.cut("first", "database", *also)
        until(lambda: site.running["second"].events("leading"), 5 * TAKEOVER_SECONDS)
        paid = site.pay()
        site.settled(paid)
        site.settled(before, 120)  # the former leader's last insert may be uncertain
        site.hosts.mend("first", "database", *also)
        until(lambda: site.running["first"].events("lead_lost"), 60)
        until(lambda: site.ready("first")[0] == 200 and not site.leads("first"), 90)
        assert site.leads("second")
        assert paid not in str(site.running["first"].events("pushed"))
        site.settled(site.pay())


def test_the_leader_is_cut_off_from_halo(site: Site) -> None:
    """If the leader loses Halo, it keeps the lead and is not ready; later the payment gets one row."""
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
    """After a SIGKILL and a restart of the database, both services work, with one row for each payment."""
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
    """If the leader dies and the other host or the database has a fault, each payment still gets one row."""
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
