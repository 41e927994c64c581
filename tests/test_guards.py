"""The final checks right before a request that writes."""

from typing import Any

from syncd.core.errors import LeaseHeld
from syncd.core.records import Holder
from syncd.sync.lease import Lease
from syncd.sync.push.guard import UpdateGuard
from tests.conftest import Rig


def test_a_lost_lease_counts_also_if_the_payment_has_changed(rig: Rig) -> None:
    """Another process took the lease and Stripe reports another state: the guard reports the lost lease."""
    name = rig.pay("processing")

    async def work(parts: Any) -> None:
        await parts.engine.poller.poll()
        store = parts.engine.store
        due = store.due_payment(name, rig.clock())
        first, second = (
            Lease(store, Holder(one, one, f"host-{one}", "boot", 1), rig.clock) for one in "ab"
        )
        first.take()
        rig.clock.seconds += 3_600
        second.take()
        rig.box.stripe.advance(name, "succeeded")
        await parts.engine.poller.poll()
        guard = UpdateGuard(store, first, [due], rig.clock)
        assert not guard.allows_sending()
        assert isinstance(guard.lost, LeaseHeld)

    rig.run(work)
