"""The crash points of a write on PostgreSQL: a kill there loses nothing and doubles nothing."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.failpoints import VARIABLE, Point
from syncd.sandbox.server import Sandbox
from tests.conftest import HandClock, Rig
from tests.postgresql.server import PASSWORD, Server

TURNS_MAX = 60
"""More than the occurrences of one point in a run."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [Point.BEFORE_COMMIT, Point.AFTER_COMMIT, Point.BEFORE_REQUEST, Point.AFTER_ANSWER],
)
def test_killed_at_a_point(live: Rig, point: Point) -> None:
    """After a kill at every third occurrence of a point, updates are complete and no insert is doubled."""
    killed_at(live, point, 3, lambda: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [Point.BEFORE_COMMIT, Point.AFTER_COMMIT, Point.BEFORE_REQUEST, Point.AFTER_ANSWER],
)
def test_the_server_dies_as_well(server: Server, tmp_path: Path, point: Point) -> None:
    """The same, where the server is killed with the process: as where the machine of both fails."""
    with Sandbox() as box:
        url = server.url(server.database())
        live = Rig(box, HandClock(), tmp_path, {}, database=url, password=PASSWORD)
        killed_at(live, point, 5, lambda: server.restart(signal.SIGKILL))


def killed_at(live: Rig, point: Point, step: int, then: Callable[[], None]) -> None:
    """Kill a run at every so many occurrences of a point; what is called `then` happens to the server."""
    live.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    live.pay("succeeded")
    live.once()
    live.once()
    updated, created = [], []
    for turn in range(1, TURNS_MAX, step):
        updated.append(live.pay("succeeded"))
        number = live.box.halo.add_invoice(total=10.99)
        created.append(
            live.box.stripe.create_intent(amount=1099, metadata={"halo_invoice_id": str(number)})
        )
        live.box.stripe.advance(created[-1], "succeeded")
        killed = live.command("--once", extra={VARIABLE: f"{point}:{turn}"})
        then()
        live.command("--once")
        for payment in updated:
            assert live.statuses(payment) == [3], (turn, killed.stderr)
        for payment in created:
            assert len(live.box.halo.rows_of(payment)) <= 1, (turn, killed.stderr)
        if killed.returncode != -signal.SIGKILL:
            break
    assert turn > 1

    def is_acknowledged(payment: str) -> bool:
        return bool(live.stored(lambda store: store.payment(payment))["acked_state"])

    acknowledged = [payment for payment in created if is_acknowledged(payment)]
    assert acknowledged
    for payment in acknowledged:
        assert live.statuses(payment) == [3]
