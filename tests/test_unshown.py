"""A payment that Stripe cannot show, although Stripe answers other requests, goes on the attention list."""

from typing import Any

import pytest

from syncd.core.errors import LinkFailure, Side
from syncd.sandbox import Fault
from syncd.sync.build import Parts
from tests.conftest import NOW, Rig


def _processing(rig: Rig, number: int) -> list[str]:
    return sorted(rig.pay("processing") for _ in range(number))


def _listed(rig: Rig) -> list[str]:
    return [entry.id for entry in rig.attention()]


def _cycles(rig: Rig, number: int, seconds: float = 400) -> None:
    """Run this many polls and pushes of one process, each followed by a pause."""

    async def work(parts: Parts) -> None:
        for _ in range(number):
            await parts.engine.poll()
            await parts.engine.push()
            rig.clock.seconds += seconds

    rig.run(work)


def _hide(rig: Rig, *payments: str, kind: str = "500") -> None:
    """Stripe cannot show these payment intents; other requests work."""
    rig.box.stripe.faults.append(
        Fault(kind, times=None, match=lambda r: r.path.rpartition("/")[2] in payments)
    )


def _doubtful(rig: Rig, number: int) -> list[str]:
    """Payments with two events in one second: only Stripe's payment intent shows which event is newer."""
    payments = _processing(rig, number)
    for payment in payments:
        rig.box.stripe.advance(payment, "payment_failed")
    return payments


def _contradicted(rig: Rig, number: int) -> list[str]:
    """Payments that are paid in Halo but not in Stripe: syncd reads them again from Stripe."""
    payments = _processing(rig, number)
    for payment in payments:
        rig.box.halo.rows_of(payment)[0]["status"] = 3
    return payments


def _asked(rig: Rig, payment: str) -> int:
    """The number of requests about this payment intent that Stripe received."""
    return sum(request.path.endswith(payment) for request in rig.box.stripe.requests)


@pytest.mark.parametrize(("made", "kind"), [(_doubtful, "500"), (_contradicted, "garbage")])
def test_a_payment_that_stripe_never_shows_is_listed(rig: Rig, made: Any, kind: str) -> None:
    """After an hour the payment is listed; syncd then reads it daily, and a success removes the entry."""
    shown, hidden = made(rig, 2)
    _hide(rig, hidden, kind=kind)
    _cycles(rig, 11, 300)
    assert hidden not in _listed(rig)
    _cycles(rig, 5, 300)
    (entry,) = [entry for entry in rig.attention() if entry.id == hidden]
    assert (entry.code, entry.condition) == ("stripe_unreadable", "held")
    assert 3_600 <= entry.since - NOW <= 4_800
    assert f"Stripe answers other requests, but fails on {hidden}: Stripe" in entry.reason
    since, asked = entry.since, _asked(rig, hidden)
    _cycles(rig, 16, 6 * 3_600)
    (entry,) = [entry for entry in rig.attention() if entry.id == hidden]
    assert (entry.since, entry.next_try is not None) == (since, True)
    assert 5 <= _asked(rig, hidden) - asked <= 6 * 8  # a try has at most eight requests
    rig.box.stripe.faults.clear()
    rig.clock.seconds += 86_400
    rig.cycle()
    assert [e for e in rig.attention() if e.code == "stripe_unreadable"] == []
    assert rig.statuses(hidden) == rig.statuses(shown)


def test_polls_work_beside_a_payment_that_stripe_cannot_show(rig: Rig) -> None:
    """One unreadable payment is not Stripe's failure: each poll succeeds, and Stripe is not paused."""
    (hidden,) = _doubtful(rig, 1)
    _hide(rig, hidden)

    async def poll(parts: Parts) -> tuple[float | None, int]:
        await parts.engine.poll()
        return parts.engine.last.get("poll"), parts.engine.links[Side.STRIPE].failures

    assert rig.run(poll) == (rig.clock(), 0)
    assert rig.condition(hidden) == "in_doubt"
    rig.clock.seconds += 300
    with pytest.raises(LinkFailure, match=hidden):  # but a single run reports the failure
        rig.once()


@pytest.mark.parametrize("kind", ["503", "429"])
def test_a_stripe_that_shows_no_payment_lists_none(rig: Rig, kind: str) -> None:
    """If Stripe shows no payment intent for hours, no payment goes on the attention list for that."""
    payments = [*_doubtful(rig, 1), *_contradicted(rig, 1)]
    rig.box.stripe.faults.append(Fault(kind, times=None, path="/v1/payment_intents"))
    _cycles(rig, 8, 1_800)
    assert _listed(rig) == []
    rig.box.stripe.faults.clear()
    _cycles(rig, 3)
    assert [(entry.id, entry.code) for entry in rig.attention()] == [
        (payments[1], "halo_says_succeeded")
    ]
    assert rig.statuses(payments[0]) == [4]


def test_several_that_stripe_cannot_show(rig: Rig) -> None:
    """Payments that Stripe cannot show do not delay other payments, and each goes on the attention list."""
    *hidden, eighth, ninth = _doubtful(rig, 9)
    _hide(rig, *hidden)
    _cycles(rig, 4)
    assert (rig.statuses(eighth), rig.statuses(ninth)) == ([4], [4])
    _cycles(rig, 8, 900)
    assert sorted(_listed(rig)) == hidden
    rig.clock.seconds += 86_400  # all of them are due for another read
    fresh = rig.pay("processing", id="pi_zzz")
    rig.box.stripe.advance(fresh, "payment_failed")
    rig.cycle()
    assert rig.statuses(fresh) == [4]


def test_one_that_stripe_cannot_show_is_asked_for_by_hand(rig: Rig) -> None:
    """A retry reads the payment at the next poll; its entry stays until Stripe answers."""
    (hidden,) = _doubtful(rig, 1)
    _hide(rig, hidden)
    _cycles(rig, 12)
    assert _listed(rig) == [hidden]
    asked = _asked(rig, hidden)
    assert rig.stored(lambda store: store.people.retry([hidden], rig.clock())) == [hidden]
    rig.cycle()
    assert (_asked(rig, hidden) > asked, _listed(rig), rig.statuses(hidden)) == (
        True,
        [hidden],
        [1],
    )
    rig.box.stripe.faults.clear()
    rig.stored(lambda store: store.people.retry([hidden], rig.clock()))
    rig.cycle()
    assert (_listed(rig), rig.statuses(hidden)) == ([], [4])


def test_one_that_stripe_cannot_show_and_is_dismissed(rig: Rig) -> None:
    """A dismissed payment is not read again until Stripe reports something new about it."""
    (hidden,) = _doubtful(rig, 1)
    _hide(rig, hidden)
    _cycles(rig, 12)
    rig.stored(lambda store: store.people.dismiss([hidden], rig.clock()))
    asked = _asked(rig, hidden)
    rig.clock.seconds += 2 * 86_400
    _cycles(rig, 2)
    assert (_asked(rig, hidden), _listed(rig)) == (asked, [])
    rig.box.stripe.faults.clear()
    rig.box.stripe.advance(hidden, "succeeded")
    rig.cycle()
    assert rig.statuses(hidden) == [3]


def test_an_old_payment_that_stripe_cannot_show_stops_no_sweep(rig: Rig) -> None:
    """A payment that Stripe cannot show does not stop the sweep, and gets no entry for that."""
    (old,) = _processing(rig, 1)
    rig.cycle()
    rig.clock.seconds += 5 * 86_400
    young = rig.pay("processing")
    rig.cycle()
    rig.box.halo.rows_of(young)[0]["status"] = 4
    _hide(rig, old)
    rig.sweep()
    assert _asked(rig, old) > 0
    assert (rig.statuses(young), rig.condition(old), _listed(rig)) == ([5], "in_step", [])


def test_a_gap_with_a_payment_that_stripe_cannot_show(rig: Rig) -> None:
    """A gap is filled although Stripe cannot show one payment; that payment is read again and listed."""
    (old,) = _processing(rig, 1)
    _cycles(rig, 3, 20 * 86_400)
    young = rig.pay("succeeded")
    rig.clock.seconds += 15 * 86_400
    rig.box.stripe.advance(old, "succeeded", emit=False)
    _hide(rig, old)
    _cycles(rig, 14)
    assert (rig.statuses(young), rig.statuses(old)) == ([3], [5])
    assert [(e.id, e.code) for e in rig.attention()] == [(old, "stripe_unreadable")]
    rig.box.stripe.faults.clear()
    rig.clock.seconds += 86_400
    rig.cycle()
    assert (rig.statuses(old), _listed(rig)) == ([3], [])
