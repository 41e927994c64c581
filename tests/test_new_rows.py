"""New rows that Halo shows late, under other ids, or never: syncd makes one row, or lists the payment."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from syncd.core.errors import LinkFailure
from syncd.core.records import Condition
from syncd.sandbox import Fault, Request
from tests.conftest import Rig

PATH = "/api/InvoicePayment"


def _create(rig: Rig) -> str:
    """A payment whose row is missing."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    invoice = rig.box.halo.add_invoice()
    return rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})


def _after_each_post(rig: Rig, change: Callable[[dict[str, Any]], None]) -> None:
    """Halo changes each inserted row before it answers the next request."""
    changed: set[int] = set()

    def strike(_request: Request) -> bool:
        for number, _, inserted in rig.box.halo.writes:
            if inserted and number not in changed:
                changed.add(number)
                change(rig.box.halo.rows[number])
        return False

    rig.box.halo.faults.append(Fault("500", times=None, match=strike))


def _days(rig: Rig, number: int) -> None:
    for _ in range(number * 4):
        rig.clock.seconds += 21_700
        rig.cycle()


@pytest.mark.parametrize("shape", ["empty", "no_json", "error_in_200", "other_rows"])
def test_halos_lists_lag_behind(rig: Rig, shape: str) -> None:
    """If Halo's answer proves nothing and its list shows the row seconds later, syncd waits for the list."""
    payment = _create(rig)
    rig.box.halo.answer_shape, rig.box.halo.list_lag_seconds = shape, 12.0
    rig.once()
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 1)
    assert (rig.condition(payment), rig.attention()) == (Condition.IN_STEP, [])


def test_a_sweep_right_after_an_insert(rig: Rig) -> None:
    """Halo's lists do not show a new row yet when a sweep reads them: the row does not count as deleted."""
    payment = _create(rig)
    rig.box.halo.list_lag_seconds = 25.0
    rig.once()
    rig.sweep()
    rig.once()
    assert rig.attention() == []
    rig.clock.seconds += 600
    rig.sweep()
    assert rig.condition(payment) is Condition.IN_STEP
    rig.box.halo.rows.clear()
    rig.sweep()
    rig.once()
    assert [entry.code for entry in rig.attention()] == ["row_deleted"]


def test_a_plain_500_before_the_row(rig: Rig) -> None:
    """If Halo answers 500 and shows the row a little later, the service waits and sends no second row."""
    payment = _create(rig)
    rig.box.halo.faults.append(Fault("500_after", method="POST", path=PATH))
    rig.box.halo.list_lag_seconds = 12.0
    for _ in range(6):
        rig.cycle()
        rig.clock.seconds += 5
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 1)
    assert rig.condition(payment) is Condition.IN_STEP


@pytest.mark.parametrize("kind", ["500", "empty_unapplied"])
def test_a_row_that_never_came_is_sent_again(rig: Rig, kind: str) -> None:
    """If Halo does not show the new row for 30 s, the same single run sends the row again."""
    payment = _create(rig)
    fault = Fault("500", method="POST", path=PATH)
    if kind != "500":
        fault = Fault("200", method="POST", path=PATH, body=b"{}")
    rig.box.halo.faults.append(fault)
    started = rig.clock()
    rig.once()
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 2)
    assert 30 <= rig.clock() - started < 40


@pytest.mark.parametrize(
    "name",
    [lambda name: name[:20], lambda name: f"pi_{name}", lambda _name: None, lambda name: name],
    ids=["cut off", "another", "none", "its own"],
)
def test_halo_renames_the_new_row(rig: Rig, name: Callable[[str], str | None]) -> None:
    """Halo changes a new row's `intent_id`: syncd creates no second row and lists the payment.

    The same if only the invoice shows the row, under its own id.
    """
    _create(rig)

    def rename(row: dict[str, Any]) -> None:
        rig.box.halo._by_intent[row["intent_id"]].remove(row["id"])
        row["intent_id"] = name(row["intent_id"])

    _after_each_post(rig, rename)
    rig.box.halo.answer_shape = "empty"
    rig.once()
    _days(rig, 3)
    (entry,) = rig.attention()
    assert (entry.code, len(rig.posts())) == ("insert_unproven", 1)


def test_another_payment_of_the_same_amount(rig: Rig) -> None:
    """A row of another known payment on the invoice does not count: syncd creates the missing row."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    invoice = str(rig.box.halo.add_invoice(total=21.98))
    first = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": invoice})
    rig.once()
    second = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": invoice})
    rig.box.halo.faults.append(Fault("500", method="POST", path=PATH))
    rig.once()
    assert [rig.statuses(first), rig.statuses(second)] == [[3], [3]]


def test_a_row_that_halo_never_shows_is_tried_once_a_day(rig: Rig) -> None:
    """Halo accepts a new row and never shows it: the payment is listed, and retried once a day."""
    _create(rig)
    lost = Fault("200", times=None, method="POST", path=PATH, body=b"{}")
    rig.box.halo.faults.append(lost)
    rig.once()
    assert ([entry.code for entry in rig.attention()], len(rig.posts())) == (["halo_refuses"], 3)
    _days(rig, 1)
    before = len(rig.posts())
    _days(rig, 4)
    assert 3 <= len(rig.posts()) - before <= 4


@pytest.mark.parametrize("create", ["true", "false"])
@pytest.mark.parametrize(
    "name", [lambda _name: None, str.upper, lambda name: f" {name}"], ids=["none", "case", "blank"]
)
def test_a_row_under_another_name(rig: Rig, name: Callable[[str], str | None], create: str) -> None:
    """If Halo answers a payment's lookup with a row of another id, the payment goes on the attention list."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = create
    invoice = rig.box.halo.add_invoice()
    payment = rig.pay("succeeded", metadata={"halo_invoice_id": str(invoice)})
    (row,) = rig.box.halo.rows_of(payment)
    row["intent_id"] = name(payment)
    rig.once()
    (entry,) = rig.attention()
    assert (entry.id, entry.code, rig.posts()) == (payment, "row_unreadable", [])
    row["intent_id"] = payment
    rig.stored(lambda store: store.people.retry([payment], rig.clock()))
    rig.once()
    assert (rig.statuses(payment), rig.attention()) == ([3], [])


def test_rows_of_nobodys_where_the_filter_is_ignored(rig: Rig) -> None:
    """If Halo ignores the filter and lists rows without a payment, syncd still creates the missing row."""
    for _ in range(3):
        rig.box.halo.add_row(None, rig.box.halo.add_invoice(), 10.99, 3)
    rig.box.halo.filter_ignored = True
    payment = _create(rig)
    rig.once()
    assert (rig.statuses(payment), rig.attention()) == ([3], [])
    other = rig.pay("succeeded", rows=())
    rig.once()
    assert rig.condition(other) is Condition.UNMATCHED


def test_a_late_process_leaves_anothers_doubt_alone(rig: Rig) -> None:
    """A process that was delayed for minutes creates no second row after another process took over."""
    payment = _create(rig)
    halo = rig.box.halo
    held_up: list[Request] = []

    def take_over(request: Request) -> bool:
        if request.method == "POST" and request.path == PATH and not held_up:
            held_up.append(request)
            rig.clock.seconds += 400
            with closing(rig.open()) as store:
                due = store.due_payment(payment, rig.clock())
                assert due is not None
                until = rig.clock() + 300.0
                assert store.intend_insert(due, due.doubt_until, rig.clock(), until)
            # The other process's insert is not answered, and is carried out a minute later.
            row = halo.add_row(payment, max(halo.invoices), 10.99, 3)
            halo._posted_at[row] = rig.clock() + 60
        return False

    halo.faults.append(Fault("500", times=None, match=take_over))
    halo.faults.append(Fault("200", method="POST", path=PATH, body=b"{}"))
    for _ in range(30):
        rig.cycle()
        rig.clock.seconds += 10
    assert (rig.statuses(payment), rig.condition(payment)) == ([3], Condition.IN_STEP)


def test_an_invoice_whose_rows_cannot_be_listed(rig: Rig) -> None:
    """If Halo cannot list the invoice's rows after an insert, the payment is listed and others are pushed."""
    payment = _create(rig)
    invoice = str(max(rig.box.halo.invoices))
    rig.box.halo.faults.append(
        Fault(
            "500", times=None, method="GET", match=lambda r: r.params().get("invoice_id") == invoice
        )
    )
    rig.box.halo.faults.append(
        Fault(
            "200",
            times=None,
            method="POST",
            path=PATH,
            body=b"{}",
            match=lambda r: b'"intent_id"' in r.body,
        )
    )
    for _ in range(60):
        rig.cycle()
        rig.clock.seconds += 60
    other = rig.pay("succeeded")
    rig.cycle()
    assert [entry.id for entry in rig.attention()] == [payment]
    assert len(rig.told.events("push_failed")) <= 3
    assert rig.statuses(other) == [3]


@pytest.mark.parametrize("how", ["500", "lag"])
def test_an_older_payment_of_the_same_amount(rig: Rig, how: str) -> None:
    """An older row of the same amount on the invoice does not count as the new row."""
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    halo = rig.box.halo
    invoice = halo.add_invoice(total=21.98)
    old = halo.rows[halo.add_row("pi_paid_months_ago", invoice, 10.99, 3)]
    old["date"] = old["intent_date"] = "2026-08-01T00:00:00Z"
    payment = rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    if how == "500":
        halo.faults.append(Fault("500", method="POST", path=PATH))
    else:
        halo.answer_shape, halo.list_lag_seconds = "empty", 3.0
    rig.once()
    assert (rig.statuses(payment), rig.attention()) == ([3], [])


def test_a_single_run_says_what_it_leaves_open(rig: Rig) -> None:
    """If Halo does not show a new row for minutes, a single run fails and names the payment."""
    payment = _create(rig)
    rig.box.halo.faults.append(Fault("504_after", method="POST", path=PATH))
    rig.box.halo.list_lag_seconds = 100.0
    with pytest.raises(LinkFailure):
        rig.once()
    with pytest.raises(LinkFailure, match=f"a new row for {payment}"):
        rig.once()
    rig.clock.seconds += 120
    rig.once()
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 1)


def test_looks_that_always_come_too_late(rig: Rig) -> None:
    """If Halo's list takes over 30 s, syncd postpones the insert, without a list entry or extra requests."""
    payment = _create(rig)

    def slow(request: Request) -> bool:
        if request.method == "GET" and request.path == PATH:
            rig.clock.seconds += 40
        return False

    rig.box.halo.faults.append(Fault("500", times=None, match=slow))
    for _ in range(12):
        rig.cycle()
        rig.clock.seconds += 300
    assert (rig.attention(), rig.posts()) == ([], [])
    (line, *_) = rig.told.events("insert_postponed")
    assert line["intent"] == payment
    assert "longer than 30 s" in line["reason"]
    rig.cycle()
    asked = len(rig.box.halo.requests)
    rig.cycle()
    assert len(rig.box.halo.requests) == asked
    rig.box.halo.faults.clear()
    rig.clock.seconds += 300
    rig.cycle()
    assert rig.statuses(payment) == [3]


def _doubtful_insert(rig: Rig) -> str:
    """A payment whose insert was not answered."""
    payment = _create(rig)
    rig.box.halo.faults.append(Fault("504", method="POST", path=PATH))
    with pytest.raises(LinkFailure):
        rig.once()
    assert len(rig.posts()) == 1
    return payment


def test_a_clock_set_forward_ends_no_wait(rig: Rig) -> None:
    """The host's clock jumps forward by an hour after an unanswered insert: syncd does not send it again."""
    _doubtful_insert(rig)
    steady = rig.clock.seconds
    rig.world.monotonic = lambda: steady
    rig.clock.seconds += 3_600
    rig.cycle()
    assert len(rig.posts()) == 1


def test_an_earlier_insert_is_waited_for_by_the_next_process(rig: Rig) -> None:
    """A new process waits for an uncertain insert as if it had just been sent, then sends it again."""
    payment = _doubtful_insert(rig)
    rig.clock.seconds += 40 * 86_400
    sent_at = rig.clock.seconds
    rig.once()
    assert rig.clock.seconds >= sent_at + 300
    assert (rig.statuses(payment), len(rig.posts())) == ([3], 2)
