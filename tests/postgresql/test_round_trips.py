"""How many round trips to the server a poll takes, because each costs network time."""

from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.conftest import Rig

AT_REST = 5


def test_a_poll_at_rest(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll and a push with nothing new take at most five round trips to the server."""
    rig.pay("succeeded")
    rig.once()
    trips = 0
    wait, commit = psycopg.Connection.wait, psycopg.Connection.commit

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal trips
        trips += 1
        return wait(self, *given, **named)

    def committed(self: Any) -> None:
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            commit(self)

    def returned(self: Any) -> None:
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            rollback(self)

    rollback = psycopg.Connection.rollback
    monkeypatch.setattr(psycopg.Connection, "wait", counted)
    monkeypatch.setattr(psycopg.Connection, "commit", committed)
    monkeypatch.setattr(psycopg.Connection, "rollback", returned)
    found: list[int] = []

    async def work(parts: Any) -> None:
        nonlocal trips
        for _ in range(2):
            trips = 0
            await parts.engine.poll()
            await parts.engine.push()
            found.append(trips)
            rig.clock.seconds += 60

    rig.run(work)
    assert found[-1] <= AT_REST, found
