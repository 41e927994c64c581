"""Syncd distinguishes a payment on which Halo fails from an outage of Halo, and lists only the payment."""

import json
from typing import Any

import pytest

from syncd.sandbox import Fault, Request
from tests.conftest import Rig

PATH = "/api/InvoicePayment"


def _updates(rig: Rig, number: int, state: str = "succeeded") -> list[str]:
    return sorted(rig.pay(state) for _ in range(number))


def _creates(rig: Rig, number: int) -> list[str]:
    rig.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    return sorted(
        rig.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(rig.box.halo.add_invoice())})
        for _ in range(number)
    )


def _fails_on(rig: Rig, payment: str, kind: str, **how: Any) -> None:
    """Halo fails on every write of this payment's rows."""
    rows = {row["id"] for row in rig.box.halo.rows_of(payment)}

    def about(request: Request) -> bool:
        return any(
            row.get("id") in rows or row.get("intent_id") == payment for row in request.json()
        )

    fault = Fault(kind, times=None, method="POST", path=PATH, match=about, **how)
    rig.box.halo.faults.append(fault)


def _forgets_intents(rig: Rig) -> None:
    """Before its next answer, Halo loses the payment ids of all rows."""
    halo = rig.box.halo

    def forget(_request: Request) -> bool:
        for row in halo.rows.values():
            row["intent_id"] = None
        halo._by_intent.clear()
        return False

    halo.faults.append(Fault("500", method="GET", match=forget))


def _cycles(rig: Rig, number: int) -> None:
    for _ in range(number):
        rig.cycle()
        rig.clock.seconds += 400


def _listed(rig: Rig) -> list[str]:
    return [entry.id for entry in rig.attention()]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("504", {}),
        ("reset", {}),
        ("403", {"body": b"<html>blocked</html>"}),
        ("400", {"body": b"<html>dangerous request</html>"}),
        ("400", {"body": b"{}", "status": 406}),
    ],
)
def test_whatever_fails_a_list_is_found_in_it(rig: Rig, kind: str, how: dict[str, Any]) -> None:
    """If a batch fails because of one row, syncd finds the row with smaller batches and lists its payment."""
    rig.settings["SYNCD_PUSH__BATCH"] = "3"
    payments = _updates(rig, 7)
    _fails_on(rig, payments[0], kind, **how)
    _cycles(rig, 9)
    assert [rig.statuses(payment) == [3] for payment in payments] == [False] + 6 * [True]
    assert _listed(rig) == payments[:1]


def test_two_that_cannot_be_written_are_listed(rig: Rig) -> None:
    """If Halo fails on both due payments, both go on the attention list after about 15 minutes."""
    payments = _updates(rig, 2)
    for payment in payments:
        _fails_on(rig, payment, "500")
    _cycles(rig, 2)
    assert _listed(rig) == []
    _cycles(rig, 2)
    assert sorted(_listed(rig)) == payments


@pytest.mark.parametrize("kind", ["500", "504"])
def test_a_new_row_that_cannot_be_made(rig: Rig, kind: str) -> None:
    """If one new row always fails, its payment goes on the attention list, and the other rows are created."""
    payments = _creates(rig, 4)
    _fails_on(rig, payments[0], kind)
    for _ in range(8):
        rig.cycle()
        rig.clock.seconds += 400
        _updates(rig, 1)
    assert [rig.statuses(payment) for payment in payments] == [[]] + 3 * [[3]]
    assert _listed(rig) == payments[:1]


@pytest.mark.parametrize("kind", ["503", "429"])
def test_what_is_listed_stays_listed(rig: Rig, kind: str) -> None:
    """A payment on the attention list stays there while Halo answers 503 or 429."""
    payment = _creates(rig, 1)[0]
    _fails_on(rig, payment, "400")
    rig.cycle()
    before = rig.attention()
    rig.box.halo.faults.clear()
    _fails_on(rig, payment, kind)
    rig.clock.seconds += 700
    rig.cycle()
    assert [(entry.id, entry.code) for entry in rig.attention()] == [
        (entry.id, entry.code) for entry in before
    ]
    rig.box.halo.faults.clear()
    rig.clock.seconds += 90_000
    rig.cycle()
    assert (rig.statuses(payment), _listed(rig)) == ([3], [])


@pytest.mark.parametrize("made", [_updates, _creates])
def test_an_outage_that_begins_in_mid_push_blames_nobody(rig: Rig, made: Any) -> None:
    """If Halo fails after one write in each push, no payment is listed, and a push sends up to 100 writes."""
    rig.settings["SYNCD_PUSH__BATCH"] = "2"
    made(rig, 20)
    for _ in range(4):
        rig.box.halo.faults[:] = [Fault("500", times=None, method="POST", path=PATH, after=1)]
        before = len(rig.posts())
        rig.cycle()
        assert len(rig.posts()) - before <= 100
        rig.clock.seconds += 400
    assert _listed(rig) == []
    rig.box.halo.faults.clear()
    _cycles(rig, 2)
    assert {row["status"] for row in rig.box.halo.rows.values()} == {3}
    assert len(rig.box.halo.rows) == 20


def test_questions_that_fail_in_mid_push_blame_nobody(rig: Rig) -> None:
    """If Halo answers only the first lookup of each push, no payment is listed."""
    _updates(rig, 8)
    for _ in range(5):
        rig.box.halo.faults[:] = [Fault("500", times=None, method="GET", path=PATH, after=1)]
        _cycles(rig, 1)
    assert _listed(rig) == []


def test_a_sign_in_that_fails_in_mid_push(rig: Rig) -> None:
    """If signing in to Halo fails during a push, syncd does not halve the batch and lists no payment."""
    _updates(rig, 8)

    def signed_out(request: Request) -> bool:
        if request.path == PATH and request.method == "POST":
            rig.box.halo.expire_tokens()
            rig.box.halo.faults.append(Fault("500", times=None, path="/auth/token"))
        return False

    rig.box.halo.faults.append(Fault("500", match=signed_out))
    _cycles(rig, 1)
    assert sum(request.path == "/auth/token" for request in rig.box.halo.requests) <= 10
    assert _listed(rig) == []


@pytest.mark.parametrize("kind", ["401", "lock_429"])
def test_stripe_that_refuses_to_say_more_holds_up_no_push(rig: Rig, kind: str) -> None:
    """If Stripe refuses to show the one payment that syncd must re-read, the other payments are pushed."""
    payments = _updates(rig, 4, "processing")
    rig.box.halo.rows_of(payments[0])[0]["status"] = 3
    rig.box.stripe.faults.append(
        Fault(kind, times=None, match=lambda request: request.path.endswith(payments[0]))
    )
    _cycles(rig, 2)
    assert [rig.statuses(payment) for payment in payments[1:]] == 3 * [[5]]


def test_three_neighbours_that_cannot_be_written_are_listed(rig: Rig) -> None:
    """Three neighbouring payments that always fail go on the attention list; the others are pushed."""
    payments = _updates(rig, 8)
    for payment in payments[2:5]:
        _fails_on(rig, payment, "500")
    for _ in range(8):
        _cycles(rig, 1)
        rig.pay("succeeded")
    assert sorted(_listed(rig)) == payments[2:5]
    assert [rig.statuses(payment) == [3] for payment in payments] == 2 * [True] + 3 * [False] + (
        3 * [True]
    )


def test_one_listing_that_is_broken(rig: Rig) -> None:
    """If Halo's list for one payment is incomplete, that payment is listed and the others are pushed."""
    payments = _updates(rig, 5)

    def hides_a_row(request: Request) -> bool:
        return request.params().get("intent_id") == payments[3]

    (row,) = rig.box.halo.rows_of(payments[3])
    body = json.dumps({"record_count": 7, "payments": [row]}).encode()
    rig.box.halo.faults.append(Fault("200", times=None, match=hides_a_row, body=body))
    _cycles(rig, 4)
    assert [rig.statuses(payment)[0] for payment in payments] == [3, 3, 3, 1, 3]
    assert _listed(rig) == [payments[3]]


def test_a_limit_makes_no_list_smaller(rig: Rig) -> None:
    """After a 429, syncd does not reduce the size of its batches."""
    _updates(rig, 30)
    rig.box.halo.faults.append(Fault("429", times=5, method="POST", path=PATH))
    _cycles(rig, 6)
    assert len(rig.posts()) == 6
    assert {row["status"] for row in rig.box.halo.rows.values()} == {3}


def test_a_retry_after_a_refused_new_row_goes_at_once(rig: Rig) -> None:
    """After Halo refused a new row, a retry of the payment sends the row at once."""
    payment = _creates(rig, 1)[0]
    rig.box.halo.faults.append(Fault("400", method="POST", path=PATH))
    rig.cycle()
    assert _listed(rig) == [payment]
    rig.stored(lambda store: store.people.retry([payment], rig.clock()))
    rig.cycle()
    assert (rig.statuses(payment), _listed(rig)) == ([3], [])


def test_one_payment_that_stripe_cannot_show(rig: Rig) -> None:
    """If Stripe fails on one of three payments to re-read, the other two are re-read and held."""
    payments = _updates(rig, 3, "processing")
    for payment in payments:
        rig.box.halo.rows_of(payment)[0]["status"] = 3
    rig.box.stripe.faults.append(
        Fault("500", times=None, match=lambda request: request.path.endswith(payments[0]))
    )
    _cycles(rig, 2)
    assert sorted(_listed(rig)) == payments[1:]


def test_halo_asks_to_wait(rig: Rig) -> None:
    """After an answer with Retry-After, syncd sends no more lookups in that push, and blames no payment."""
    payments = _updates(rig, 3)
    halo = rig.box.halo
    halo.faults.append(Fault("503", times=1, method="GET", path=PATH, retry_after=120))
    rig.cycle()
    (asked,) = [request for request in halo.requests if request.path == PATH]
    rig.clock.seconds += 130
    _cycles(rig, 2)
    assert asked.method == "GET"
    assert [rig.statuses(payment) for payment in payments] == [[3], [3], [3]]
    assert _listed(rig) == []


def test_notes_of_another_version(rig: Rig) -> None:
    """Syncd ignores notes of an interrupted push that it cannot parse."""
    payments = _updates(rig, 2)
    rig.stored(
        lambda store: store.write_notes({"push_batch": "many", "push_failing": '{"pi_1": 3}'})
    )
    _fails_on(rig, payments[0], "500")
    _cycles(rig, 1)
    assert [rig.statuses(payment) for payment in payments] == [[1], [3]]


def test_a_new_row_that_is_not_shown_while_the_invoice_cannot_be_read(rig: Rig) -> None:
    """If Halo stored a new row but does not show it, syncd holds the payment and inserts no other row."""
    _creates(rig, 1)
    halo = rig.box.halo
    halo.answer_shape = "empty"
    _forgets_intents(rig)
    halo.faults.append(
        Fault("503", times=8, method="GET", path=PATH, match=lambda r: "invoice_id" in r.params())
    )
    _cycles(rig, 4)
    assert (len(halo.rows), len(rig.posts())) == (1, 1)
    assert [entry.code for entry in rig.attention()] == ["insert_unproven"]


@pytest.mark.parametrize("kind", ["reset_after", "504_after", "500_after"])
def test_a_doubtful_new_row_is_looked_for_on_its_invoice(rig: Rig, kind: str) -> None:
    """After an uncertain insert, syncd finds the row on its invoice although the row lost its payment's id.

    syncd holds the payment and inserts the row again only after `attention retry`.
    """
    _creates(rig, 1)
    halo = rig.box.halo
    halo.faults.append(Fault(kind, method="POST", path=PATH))
    _forgets_intents(rig)
    _cycles(rig, 4)
    assert (len(halo.rows), len(rig.posts())) == (1, 1)
    (entry,) = rig.attention()
    assert entry.code == "insert_unproven"
    rig.stored(lambda store: store.people.retry([entry.id], rig.clock()))
    halo.faults.clear()
    rig.cycle()
    assert (rig.statuses(entry.id), _listed(rig)) == ([3], [])


def test_a_backfill_says_that_it_left_one_out(live: Rig) -> None:
    """If Halo keeps asking to wait for one payment, a backfill exits with 69."""
    payment = _creates(live, 1)[0]
    _fails_on(live, payment, "503", retry_after=1)
    done = live.command("--backfill", "1d")
    assert (done.returncode, "syncd: Halo answered 503" in done.stderr) == (69, True), done.stderr
