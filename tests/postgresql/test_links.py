"""The link to the database is cut at a point of a write: each payment still gets one correct row."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from syncd import failpoints
from syncd.failpoints import Point
from syncd.store.db import postgresql
from tests.conftest import Rig
from tests.postgresql.proxy import Proxy
from tests.postgresql.server import Server

TURNS_MAX = 60
"""More than the occurrences of one point in a cycle."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [Point.BEFORE_COMMIT, Point.AFTER_COMMIT, Point.BEFORE_REQUEST, Point.AFTER_ANSWER],
)
def test_cut_off_from_the_database_at_a_point(
    rig: Rig, shared_server: Server, monkeypatch: pytest.MonkeyPatch, point: Point
) -> None:
    """At every fourth occurrence of a point, the link is cut until the step has failed.

    What syncd had sent to the database arrives when the link works again, after syncd has given up.
    """
    proxy = Proxy(shared_server.port)
    rig.database = rig.database.replace(f":{shared_server.port}/", f":{proxy.port}/")
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    rig.pay("succeeded")
    rig.once()
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 0.2)
    cut = SimpleNamespace(kill=lambda *_: proxy.cut.set(), getpid=os.getpid)
    monkeypatch.setattr(failpoints, "os", cut)
    monkeypatch.setattr(
        failpoints, "faulthandler", SimpleNamespace(dump_traceback=lambda *_, **__: None)
    )
    armed = failpoints._Armed()
    monkeypatch.setattr(failpoints, "_armed", armed)
    updated, created, turns = [], [], 0

    async def work(parts: Any) -> None:
        nonlocal turns
        for turn in range(1, TURNS_MAX, 4):
            updated.append(rig.pay("succeeded"))
            invoice = {"halo_invoice_id": str(rig.box.halo.add_invoice(total=10.99))}
            created.append(rig.box.stripe.create_intent(amount=1099, metadata=invoice))
            rig.box.stripe.advance(created[-1], "succeeded")
            armed.point, armed.left = point, turn
            await parts.engine.poll()
            await parts.engine.push()
            reached, armed.point = proxy.cut.is_set(), None
            proxy.cut.clear()
            for connector in postgresql._CONNECTORS.values():
                connector._blocked_until = 0.0
            for _ in range(6):
                rig.clock.seconds += 400
                await parts.engine.poll()
                await parts.engine.push()
            turns += reached
            for payment in (*updated, *created):
                assert rig.statuses(payment) == [3], (turn, payment)
            if not reached:
                break

    try:
        rig.run(work)
    finally:
        proxy.cut.clear()
        proxy.close()
    assert turns > 1
