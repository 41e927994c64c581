"""A process that is suspended at the worst moment, while another process pushes the same payment."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from syncd import failpoints
from syncd.clients.halo import connection
from syncd.core.errors import LeaseHeld
from syncd.core.records import Condition, Holder
from syncd.core.rules.proof import Trial, UpdateMode
from syncd.core.rules.proof_notes import TRIAL
from syncd.failpoints import Point
from syncd.sandbox import Fault
from syncd.store.store import Store
from syncd.sync.lease import Lease, this_process
from syncd.sync.push import guard
from syncd.sync.push.proof.tenant import TenantWrites
from tests.conftest import Rig


def _create(rig: Rig) -> tuple[str, int]:
    """A payment without a row, whose metadata names an invoice."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    invoice = rig.box.halo.add_invoice(total=10.99)
    return rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)}), invoice


def _another(rig: Rig, store: Store) -> Lease:
    """The lease of another living process of this machine."""
    me = this_process("the service")
    return Lease(store, Holder("another", "the service", me.host, me.boot, 1), rig.clock)


def _apart(work: Callable[[], Any]) -> None:
    """Do the work of another process while this process is suspended."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _suspend(
    monkeypatch: pytest.MonkeyPatch,
    point: Point,
    noted: Callable[[], bool],
    meanwhile: Callable[[], Any],
) -> None:
    """Suspend once at this point of a request, if the guard has noted a write."""
    real, done = failpoints.crash_point, list[int]()

    def reached(here: Point) -> None:
        real(here)
        if here is point and not done and noted():
            done.append(1)
            meanwhile()

    monkeypatch.setattr(connection, "crash_point", reached)


def test_suspended_before_a_new_row_is_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process created the row meanwhile, the suspended process sends nothing."""
    rig.once()
    payment, _ = _create(rig)

    def meanwhile() -> None:
        for _ in range(4):
            rig.clock.seconds += 130
            _apart(rig.cycle)

    def noted() -> bool:
        row = rig.stored(lambda store: store.payment(payment))
        return row is not None and row["doubt_until"] is not None

    _suspend(monkeypatch, Point.BEFORE_REQUEST, noted, meanwhile)
    with pytest.raises(LeaseHeld):
        rig.once()
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 1)


def test_suspended_before_an_update_is_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process wrote a newer state, the suspended process does not overwrite it."""
    rig.once()
    payment = rig.pay("processing")

    def meanwhile() -> None:
        rig.clock.seconds += 200
        rig.box.stripe.advance(payment, "succeeded")
        _apart(rig.once)

    _suspend(
        monkeypatch,
        Point.BEFORE_REQUEST,
        lambda: bool(rig.stored(lambda store: store.sent([payment])).intents),
        meanwhile,
    )
    with pytest.raises(LeaseHeld):
        rig.once()
    assert rig.statuses(payment) == [3]
    assert rig.condition(payment) is Condition.IN_STEP


def test_a_write_that_came_late_is_due_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Halo carries out the older state's request last, the newer state is written again."""
    rig.once()
    payment = rig.pay("processing")

    def meanwhile() -> None:
        rig.clock.seconds += 200
        rig.box.stripe.advance(payment, "succeeded")
        _apart(rig.once)
        for row in rig.box.halo.rows_of(payment):
            row["status"] = rig.box.halo.status["processing"]

    _suspend(
        monkeypatch,
        Point.AFTER_ANSWER,
        lambda: len(rig.posts()) == 1,
        meanwhile,
    )
    rig.cycle()
    assert rig.condition(payment) is Condition.DUE
    rig.clock.seconds += 60
    rig.cycle()
    assert rig.statuses(payment) == [3]
    assert rig.condition(payment) is Condition.IN_STEP


def test_the_machine_slept_after_the_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the machine slept after the check before an insert, syncd notices it, and creates no second row."""
    rig.once()
    payment, invoice = _create(rig)
    steady, slept = rig.clock.seconds, list[int]()
    rig.world.monotonic = lambda: steady
    real = guard.InsertGuard.allows_sending

    def sleeps(self: guard.InsertGuard) -> bool:
        if not slept:
            slept.append(1)
            rig.clock.seconds += 900
            rig.box.halo.add_row(payment, invoice, 10.99)
        return real(self)

    monkeypatch.setattr(guard.InsertGuard, "allows_sending", sleeps)
    rig.once()
    assert len(rig.statuses(payment)) == 1


def test_slow_lookups_keep_the_lease(rig: Rig) -> None:
    """If Halo takes 20 s for each lookup, no other process can take the lease meanwhile."""
    rig.once()
    payments = [rig.pay("succeeded") for _ in range(8)]
    other = _another(rig, rig.open())
    taken: list[float] = []

    def slow(request: Any) -> bool:
        if request.method == "GET" and request.path == "/api/InvoicePayment":
            rig.clock.seconds += 20
            try:
                other.take()
                taken.append(rig.clock.seconds)
            except LeaseHeld:
                pass
        return False

    rig.box.halo.faults.append(Fault("500", times=None, match=slow))
    rig.once()
    assert taken == []
    assert {rig.condition(one) for one in payments} == {Condition.IN_STEP}


def test_the_trial_of_another_process_is_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lost its lease during the first write leaves the other process's trial unchanged."""
    rig.proven = False
    rig.once()
    rig.pay("succeeded")
    store = rig.open()
    other = _another(rig, store)
    tenant = TenantWrites(
        store,
        rig.told,
        rig.clock,
        tenant=f"{rig.box.halo.url} {rig.box.halo.client_id}",
        settings="x",
    )
    real, noted = guard.UpdateGuard.allows_sending, list[str | None]()

    def late(self: guard.UpdateGuard) -> bool:
        if not noted:
            rig.clock.seconds += 200
            other.take()
            trial = Trial(rig.clock(), "pi_other", 3, UpdateMode.CHANGES, {77: {"id": 77}})
            store.write_notes(tenant.trial_notes(trial))
            noted.append(store.note(TRIAL.name))
        return real(self)

    monkeypatch.setattr(guard.UpdateGuard, "allows_sending", late)
    with pytest.raises(LeaseHeld):
        rig.once()
    assert noted
    assert store.note(TRIAL.name) == noted[0]
    assert rig.posts() == []


def test_a_small_step_of_the_clock_frees_no_lease(rig: Rig) -> None:
    """If the clock steps back by a second, another host's lease still counts; after an hour it does not."""
    store = rig.open()
    theirs = Lease(store, Holder("a", "the service", "elsewhere", "boot", 1), rig.clock)
    ours = Lease(store, this_process("a single run"), rig.clock)
    theirs.take()
    rig.clock.seconds -= 1
    with pytest.raises(LeaseHeld):
        ours.take()
    rig.clock.seconds -= 3_600
    ours.take()


def test_machines_without_an_id_are_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process cannot read its machine's id, no other process counts as on the same machine."""
    assert this_process("a").boot == this_process("b").boot

    def hidden(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.read_text", hidden)
    assert this_process("a").boot != this_process("b").boot
