"""Refunds and disputes: where the money is, which observation is newer, what is counted, and the messages."""

from dataclasses import replace
from itertools import pairwise

import pytest

from syncd.core.holds import command_for
from syncd.core.money import Money
from syncd.core.reversals import (
    Reversal,
    ReversalKind,
    ReversalStatus,
    counted,
    describe,
    is_news,
    message_of,
    newer,
    remedy,
)

REFUND = Reversal(
    "re_1", ReversalKind.REFUNDED, "pi_1", 1099, "usd", "succeeded", "duplicate", 1, 9, read=False
)
DISPUTE = replace(REFUND, id="dp_1", kind=ReversalKind.DISPUTED, status="needs_response")
TOTAL = replace(REFUND, id="ch_1", amount=1500, total=True, status="refunded", reason=None)


@pytest.mark.parametrize(
    ("status", "refund", "dispute"),
    [
        ("succeeded", ReversalStatus.GONE, ReversalStatus.OPEN),
        ("failed", ReversalStatus.BACK, ReversalStatus.OPEN),
        ("canceled", ReversalStatus.BACK, ReversalStatus.OPEN),
        ("won", ReversalStatus.GONE, ReversalStatus.BACK),
        ("warning_closed", ReversalStatus.GONE, ReversalStatus.BACK),
        (b"lost".decode(), ReversalStatus.GONE, ReversalStatus.GONE),
        ("a_new_word", ReversalStatus.GONE, ReversalStatus.OPEN),
        ("prevented", ReversalStatus.GONE, ReversalStatus.OPEN),
    ],
)
def test_where_the_money_is(status: str, refund: ReversalStatus, dispute: ReversalStatus) -> None:
    """A refund is gone unless it failed; a dispute is open while its status is undecided or unknown."""
    assert replace(REFUND, status=status).money_status is refund
    assert replace(DISPUTE, status=status).money_status is dispute


def test_what_is_acknowledged() -> None:
    """A dismissal records the place of the money and the amount, so that a change of either is noticed."""
    assert REFUND.acknowledged_as == "gone:1099"
    assert replace(DISPUTE, amount=None).acknowledged_as == "open:None"


def test_money() -> None:
    """The amount is known only together with its currency."""
    assert REFUND.money == Money(1099, "usd")
    assert replace(REFUND, amount=None).money is None
    assert replace(REFUND, currency=None).money is None
    assert replace(REFUND, amount=0).money == Money(0, "usd")


def test_the_newest_word_wins() -> None:
    """Each observation is newer than the one before it in the list, in either order of the arguments."""
    lost, won = replace(DISPUTE, status="lost"), replace(DISPUTE, status="won")
    ranked = [
        DISPUTE,
        replace(DISPUTE, amount=1100),
        replace(lost, amount=None),
        replace(lost, amount=1),
        lost,
        replace(won, amount=1),
        won,
        replace(DISPUTE, read=True, amount=1),
        replace(DISPUTE, at=10, amount=1),
    ]
    for older, fresh in pairwise(ranked):
        assert newer(older, fresh) is newer(fresh, older) is fresh
    assert newer(None, DISPUTE) is DISPUTE


def test_no_amount_is_as_little_as_nothing() -> None:
    """An unreadable amount ranks like zero: the rest of the observation decides the order."""
    unread = replace(DISPUTE, amount=None)
    none = replace(DISPUTE, amount=0)
    assert newer(unread, none) is newer(none, unread) is max(unread, none, key=repr)
    assert newer(unread, replace(none, amount=1)).amount == 1


def test_the_sum_and_its_parts() -> None:
    """The refund total of a charge counts only if it exceeds the sum of the known refunds."""
    parts = [replace(REFUND, id="re_1", amount=1000), replace(REFUND, id="re_2", amount=500)]
    assert counted([TOTAL]) == [TOTAL]
    assert counted([TOTAL, parts[0]]) == [TOTAL, parts[0]]
    assert counted([TOTAL, *parts]) == parts
    assert counted([*parts, replace(TOTAL, amount=1501)]) == [*parts, replace(TOTAL, amount=1501)]
    assert counted([*parts, replace(TOTAL, amount=1499)]) == parts
    # Large amounts are compared by value, not by identity.
    big = replace(parts[0], amount=int("1500000"))
    assert counted([big, replace(TOTAL, amount=1_500_000)]) == [big]


def test_what_accounts_for_no_sum() -> None:
    """Refunds of other payments, disputes and other totals do not reduce a refund total."""
    others = [replace(REFUND, intent_id="pi_2", amount=1500), replace(DISPUTE, amount=1500)]
    assert counted([TOTAL, *others]) == [TOTAL, *others]
    again = replace(TOTAL, id="ch_2")
    assert counted([TOTAL, again]) == [TOTAL, again]
    unread = replace(TOTAL, amount=None)
    assert counted([unread, *others]) == [unread, *others]


def test_sums_and_parts_that_cannot_be_read() -> None:
    """An unreadable total counts only if no refund is known; an unreadable refund adds nothing."""
    unread, part = replace(TOTAL, amount=None), replace(REFUND, amount=None)
    assert counted([unread]) == [unread]
    assert counted([unread, part]) == [part]
    assert counted([replace(TOTAL, amount=1), part]) == [replace(TOTAL, amount=1), part]
    assert counted([replace(TOTAL, amount=0), part]) == [part]
    assert counted([replace(TOTAL, amount=0)]) == []
    one = replace(REFUND, id="re_2", amount=1)
    assert counted([replace(TOTAL, amount=1), part, one]) == [part, one]
    assert counted([replace(TOTAL, amount=2), part, one]) == [replace(TOTAL, amount=2), part, one]


BOOK, LOST = "Book the refund in Halo.", "Book the loss in Halo."
UNDO = "If you booked the refund or the loss in Halo, reverse that booking."
ANSWER = "Answer the dispute in Stripe's dashboard."


@pytest.mark.parametrize(
    ("seen", "said", "then"),
    [
        (REFUND, "Stripe refunded 10.99 USD of pi_1 (status succeeded, reason duplicate).", BOOK),
        (
            TOTAL,
            "Stripe refunded 15.00 USD of pi_1 (in all, status refunded, no reason given).",
            BOOK,
        ),
        (
            replace(REFUND, status="failed", amount=None, intent_id=None),
            "The refund of an unreadable amount of no payment intent failed: you keep the money.",
            UNDO,
        ),
        (
            DISPUTE,
            "The customer disputes 10.99 USD of pi_1 (status needs_response, reason duplicate).",
            ANSWER,
        ),
        (
            replace(DISPUTE, status="lost", reason=None),
            "The dispute about 10.99 USD of pi_1 was lost (no reason given).",
            LOST,
        ),
        (
            replace(DISPUTE, status="warning_needs_response"),
            "The customer's bank asks about 10.99 USD of pi_1 (an inquiry, status "
            "warning_needs_response, reason duplicate). No money has moved yet.",
            ANSWER,
        ),
        (
            replace(DISPUTE, status="won"),
            "The dispute about 10.99 USD of pi_1 ended as won: you keep the money.",
            UNDO,
        ),
    ],
)
def test_what_a_person_reads(seen: Reversal, said: str, then: str) -> None:
    """The text says what happened, to which payment, and what the user can do."""
    assert (describe(seen), remedy(seen)) == (said, then)


def test_single_unless_said() -> None:
    """A refund is a single refund by default, not a total."""
    assert REFUND.total is False


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        (DISPUTE, DISPUTE, False),
        (DISPUTE, replace(DISPUTE, amount=500), True),
        (DISPUTE, replace(DISPUTE, status="lost"), True),
        (DISPUTE, replace(DISPUTE, moved_at=5), True),
        (replace(DISPUTE, moved_at=5), replace(DISPUTE, moved_at=5), False),
        (replace(DISPUTE, moved_at=5), replace(DISPUTE, moved_at=None), False),
        (replace(DISPUTE, status="under_review"), DISPUTE, True),
        (DISPUTE, replace(DISPUTE, status="under_review"), False),
        (REFUND, replace(REFUND, status="needs_response"), False),
    ],
)
def test_what_a_person_must_see_again(before: Reversal, after: Reversal, *, news: bool) -> None:
    """News are another amount or place of the money, a move of the money, and a new deadline."""
    assert is_news(before, after) is news


def test_the_whole_message() -> None:
    """The message says what happened, how much of the payment it is, and the command that dismisses it."""
    text = message_of(DISPUTE, "It is the whole payment.")
    assert text.startswith(f"{describe(DISPUTE)} It is the whole payment. ")
    assert remedy(DISPUTE) in text
    assert text.endswith(f"Then run: {command_for(DISPUTE.kind, DISPUTE.id)}")
    assert message_of(DISPUTE).startswith(f"{describe(DISPUTE)} ")
