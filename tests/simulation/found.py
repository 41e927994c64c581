"""Faults of the program that the simulator found: the shortest story of each, and what went wrong.

Each story failed before the fault was corrected, and is played as it is here, whatever seeds draw now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.simulation.story import DAY, HOUR, Action, Story

SETTING: dict[str, Any] = {
    "interval": HOUR, "overlap": 600, "sweep": 10 * DAY, "look_back": DAY, "batch": 50,
    "create_missing": False, "on_amount_mismatch": "hold", "trace": True, "unset": [],
    "same_number": False, "rate_limit": 300, "halo_limit": 300, "read_budget": 10_000, "reversals": False,
    "small_pages": False, "list_shape": "payments", "paging": "honoured", "filter_ignored": False,
    "answer_shape": "rows", "authinfo": True, "token_lifetime": 3_600.0, "latency": 0.02,
    "second_daemon": "", "person_retries": False,
}  # fmt: skip
"""A world without oddities."""


@dataclass(frozen=True, slots=True)
class Found:
    """One fault of the program that is corrected.

    Attributes:
        name: for the test's id.
        wrong: what went wrong.
        check: the promise that was broken.
        hours: how long the story lasts.
        setting: the oddities of its world.
        actions: what happens.
    """

    name: str
    wrong: str
    check: str
    hours: float
    setting: dict[str, Any]
    actions: tuple[Action, ...]

    def story(self) -> Story:
        """The story to play."""
        actions = tuple(sorted(self.actions, key=lambda action: action.at))
        return Story(1, self.hours / 24, {**SETTING, **self.setting}, actions)


def _intent(at: float, label: str, **other: Any) -> Action:
    made = {
        "label": label,
        "amount": 1_000,
        "currency": "usd",
        "metadata": None,
        "rows": 1,
        "fit": "right",
        "row_delay": 0.0,
    }
    return Action(at, "intent", made | other)


def _advance(at: float, label: str, state: str) -> Action:
    moved = {
        "label": label,
        "state": state,
        "received": 0,
        "late": 0.0,
        "emit": True,
        "twice": False,
    }
    return Action(at, "advance", moved)


def _fault(at: float, side: str, fault: str, **other: Any) -> Action:
    made = {
        "side": side,
        "fault": fault,
        "times": 1,
        "method": None,
        "path": None,
        "retry_after": None,
        "seconds": 3_600.0,
        "skip": 0,
    }
    return Action(at, "fault", made | other)


FOUND = (
    Found(
        "a lease that ran out",
        "A process whose reading of Halo took longer than its lease went on with what it had decided "
        "before, although another process had pushed newer states meanwhile and given the lease "
        "back: paid bills were set to processing, and no sweep noticed.",
        "older", 0.5, {"interval": 60, "second_daemon": "same_host"},
        (
            *(_intent(10 + n, f"p{n}") for n in range(4)),
            *(_advance(100 + n, f"p{n}", "processing") for n in range(4)),
            _fault(110, "halo", "hang_after", times=3, method="GET", path="InvoicePayment", seconds=60.0),
            *(_advance(125 + n, f"p{n}", "succeeded") for n in range(4)),
        ),
    ),
    Found(
        "a limit that spent attempts",
        "An insert that Halo limited (429) counted as an attempt of the payment, and after three "
        "of them the row was never inserted, though the list said it was tried again.",
        "false alarm", 5, {"create_missing": True},
        (
            _intent(60, "p0", metadata="good", rows=0),
            _advance(120, "p0", "payment_failed"),
            _fault(130, "halo", "429", times=3, method="POST", path="InvoicePayment"),
        ),
    ),
    Found(
        "a disk that fails behind a step",
        "Where the store failed while a step's success was written down, the error left the step, "
        "and the daemon took it for a fault of its own and didn't push.",
        "fault", 5, {},
        (
            Action(3_000, "store_fault", {
                "words": "database or disk is full", "point": "commit", "after": 0, "times": 9}),
            _intent(60, "p0"),
            _advance(120, "p0", "succeeded"),
        ),
    ),
    Found(
        "a payment that couldn't be read once",
        "A payment intent that Stripe refused to show once was held for good, though the next "
        "sweep read it.",
        "false alarm", 5, {},
        (
            _intent(60, "p0"),
            _advance(120.2, "p0", "payment_failed"),
            _advance(120.4, "p0", "processing"),
            _fault(130, "stripe", "400", path="payment_intents"),
        ),
    ),
    Found(
        "a configuration that one process didn't know yet",
        "A process with the old configuration held again what one with the new had just released; "
        "since the change counted as dealt with, its own reload released nothing.",
        "false alarm", 12, {"unset": ["canceled"], "second_daemon": "same_host"},
        (
            _intent(60, "p0"),
            _advance(120, "p0", "canceled"),
            # The first process is waiting for Halo when it gets the reload; the second is not.
            _fault(7_100, "halo", "hang_after", times=2, method="GET", path="InvoicePayment",
                   seconds=60.0),
            _intent(7_000, "p1"),
            _advance(7_050, "p1", "canceled"),
            Action(7_230, "configure", {"changes": {"unset": []}, "restart": False}),
        ),
    ),
    Found(
        "a hold that the configuration had outlived",
        "With create_missing turned off, a row that couldn't be made for its currency was still held.",
        "false alarm", 6, {"create_missing": True},
        (
            _intent(60, "p0", currency="zzz", metadata="good", rows=0),
            _advance(120, "p0", "canceled"),
            Action(4_000, "configure", {"changes": {"create_missing": False}, "restart": False}),
        ),
    ),
    Found(
        "rows that came to a hold",
        "Where a row couldn't be made, and Halo made one itself later, the sweep didn't look.",
        "false alarm", 6, {"create_missing": True},
        (
            _intent(60, "p0", metadata="words", row_delay=5.0 * HOUR),
            _advance(120, "p0", "processing"),
        ),
    ),
    Found(
        "a reload while the disk fails",
        "A reload that couldn't write broke off half way: what the new configuration frees stayed "
        "held, and systemd was never told that the reload had ended.",
        "fault", 6, {"unset": ["canceled"]},
        (
            _intent(60, "p0"),
            _advance(120, "p0", "canceled"),
            Action(4_000, "store_fault", {
                "words": "database is locked", "point": "begin", "after": 0, "times": 1}),
            Action(4_001, "configure", {"changes": {"unset": []}, "restart": False}),
        ),
    ),
    Found(
        "polled while a push waited",
        "Polls run beside pushes. One that waited for room in Halo's window then wrote what Stripe "
        "had said before the wait, though a poll had heard of the payment meanwhile.",
        "told", 1, {"interval": 60, "rate_limit": 8},
        (
            *(_intent(40 + n, f"p{n}") for n in range(6)),
            *(_advance(50 + n / 10, f"p{n}", "payment_failed") for n in range(6)),
            *(_advance(130 + n, f"p{n}", "succeeded") for n in range(6)),
        ),
    ),
    Found(
        "a doubt that another process wiped out",
        "A process that had looked long ago wrote down that the payment was due, and with that, that no "
        "insert was in doubt, while another's was: Halo carried that one out late, beside a second row.",
        "doubled", 1, {
            "interval": 300, "overlap": 120, "create_missing": True, "second_daemon": "same_host"},
        (
            _intent(-3_000, "p0", metadata="good", rows=0),
            _fault(179, "halo", "hang_after", times=2, method="GET", path="InvoicePayment", seconds=60.0),
            _advance(220, "p0", "succeeded"),
            _fault(221, "halo", "applied_late", method="POST", path="InvoicePayment", seconds=70.0),
            _fault(318, "halo", "hang_after", times=3, method="GET", path="InvoicePayment", seconds=60.0),
        ),
    ),
    Found(
        "an answer that was no payment",
        "One answer of Stripe's that wasn't the payment it was asked for put a payment in doubt on the "
        "attention list until the next sweep, though the next answer would have been right.",
        "false alarm", 4, {},
        (
            _intent(300, "p0"),
            _advance(360.1, "p0", "processing"),
            _advance(360.2, "p0", "payment_failed"),
            _fault(361, "stripe", "200", path="payment_intents/"),
        ),
    ),
    Found(
        "a new row whose invoice couldn't be read",
        "Halo took a new row, answered nothing about it, and failed on the next question: the payment came "
        "before a person, though the row was there and the next look would have shown it.",
        "false alarm", 4, {"create_missing": True, "answer_shape": "empty"},
        (
            _intent(300, "p0", metadata="good", rows=0),
            _advance(360, "p0", "succeeded"),
            _fault(361, "halo", "503", times=6, method="GET", path="InvoicePayment", skip=2),
        ),
    ),
)  # fmt: skip
