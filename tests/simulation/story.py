"""What happens in one run: drawn from the seed alone, before the run.

A story is a setting and a list of actions, each with its time. Any part of the list is valid without the
others; impossible actions are skipped. So a failing story can be shortened to the shortest one that still
fails.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from typing import Any

MINUTE, HOUR, DAY = 60, 3_600, 86_400

STATES = ("succeeded", "payment_failed", "processing", "canceled", "requires_action")
NEXT = {
    None: ("processing", "requires_action", "succeeded", "payment_failed", "canceled"),
    "requires_action": ("processing", "succeeded", "payment_failed", "canceled"),
    "processing": ("succeeded", "payment_failed"),
    "payment_failed": ("requires_action", "processing", "succeeded", "payment_failed", "canceled"),
    "succeeded": (),
    "canceled": (),
}
"""The states that a payment intent may change to, from each state (source: Stripe's documentation)."""

DECIMALS = {"usd": 2, "eur": 2, "jpy": 0, "kwd": 3, "isk": 2, "ugx": 2, "zzz": None}
"""One currency of each kind, and one unknown currency."""


FAULTS = (
    "429", "lock_429", "500", "502", "503", "504", "500_after", "504_after", "reset", "reset_after",
    "hang", "hang_after", "applied_late", "html", "html_500", "truncated", "cut_json", "empty",
    "garbage", "401", "403", "400", "redirect", "huge", "200", "connect",
)  # fmt: skip

DOUBTFUL = (
    "500_after", "504", "504_after", "reset", "reset_after", "hang", "hang_after", "applied_late",
    "html", "truncated", "cut_json", "empty", "garbage", "200", "400",
)  # fmt: skip
"""Faults that leave open whether a write was carried out, or report it wrongly."""

HUNTED_FROM = 10**9
"""From this seed on, stories have an adversary for the hosts' clocks; older seeds keep their stories."""

STEERED_FROM = 10**10
"""From this seed on, stories are steered to pairs of fault, request and state; older ones stay the same."""

PROOFS_FROM = 3 * 10**10
"""From this seed on, some stories are made for a tenant's first writes; older seeds keep their stories."""

SERVERS_FROM = 10**13
"""From this seed on, some stories have two hosts and one database server; older seeds keep their stories."""

LONG_FAILURES_FROM = 6 * 10**10
"""From this seed on, a first write can fail until its push ends; older seeds keep their stories."""

SHOWINGS_FROM = 12 * 10**10
"""From this seed on, some tenants hide columns in lists or leave out nulls; older seeds keep their stories."""

PAGES_FROM = 13 * 10**10
"""From this seed on, Stripe's later pages can fail for longer than the overlap; older seeds keep their stories."""

COVERED_FROM = 3 * 10**16
"""From this seed on, some stories lead to faults that other safeguards cover; older seeds keep their stories."""

WORDS_FROM = 65 * 10**9
"""From this seed on, some amounts of rows are words; older seeds keep their stories."""

JUMPS = (1.0, 5.0, 40.0, 300.0, HOUR, DAY, 40.0 * DAY)
"""How far a clock jumps, in seconds, in either direction."""

POINTS = ("send", "answered", "sleep", "begin", "commit", "committed", "post", "posted")
"""Where a clock may jump: at every request, wait and transaction."""

STRUCK = (
    ("stripe", None, None),
    ("stripe", None, "events"),
    ("stripe", None, "payment_intents"),
    ("stripe", None, "next page"),
    ("halo", None, None),
    ("halo", "GET", "InvoicePayment"),
    ("halo", "GET", "next page"),
    ("halo", "POST", "InvoicePayment"),
    ("halo", "POST", "InvoicePayment"),
    ("halo", "POST", "InvoicePayment"),
    ("halo", None, "token"),
)
"""The requests that fail: side, method, and a part of the path."""

HUNTED: dict[str, tuple[str, str | None, str]] = {
    "events": ("stripe", "GET", "/events"),
    "intents": ("stripe", "GET", "/payment_intents"),
    "refunds": ("stripe", "GET", "/refunds"),
    "disputes": ("stripe", "GET", "/disputes"),
    "rows": ("halo", "GET", "/InvoicePayment"),
    "write": ("halo", "POST", "/InvoicePayment"),
    "invoice": ("halo", "GET", "/Invoice/"),
    "changes": ("halo", "GET", "/InvoiceChange"),
    "token": ("halo", "POST", "token"),
}
"""The requests of a payment's path: side, method and a part of the path."""

NAMES_PAYMENT = ("rows", "write")
"""The requests that name a payment, so that each state of the payment makes its own pair."""

NEVER_SENT = ("changes",)
"""Requests that only ``syncd prove`` sends, which stories do not play."""

TENANTS = {
    "merge": 60,
    "refuse": 10,
    "empty": 10,
    "drop status": 6,
    "drop trace": 6,
    "empties later": 8,
}
"""How Halo handles rows with only some columns, and how often a story has such a tenant."""

MODES: dict[str, list[Any]] = {
    "answer_shape": ["empty", "no_json", "error_in_200", "other_rows", "bare_object"],
    "paging": ["ignored", "same_page"],
    "filter_ignored": [True],
    "rate_limit": [5, 20],
    "latency": [10.0, 40.0],
}
"""How Halo may behave for a while."""


@dataclass(frozen=True, slots=True)
class Action:
    """One action.

    Attributes:
        at: seconds since the beginning.
        kind: the name of a method of `World` (people, Stripe, Halo) or of `Theatre` (processes).
        args: its arguments.
    """

    at: float
    kind: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """As one line of a history."""
        told = " ".join(f"{key}={value}" for key, value in self.args.items())
        return f"{clock(self.at)} {self.kind} {told}".rstrip()


@dataclass(frozen=True, slots=True)
class Story:
    """A run to be played.

    Attributes:
        seed: its seed; also decides delays and jitter in the run.
        days: how long it lasts before the disturbances end.
        setting: how the two sides behave in general, and how syncd is configured.
        actions: what happens, in order.
    """

    seed: int
    days: float
    setting: dict[str, Any]
    actions: tuple[Action, ...]

    def with_actions(self, actions: list[Action]) -> Story:
        """The same story with other actions."""
        return Story(self.seed, self.days, self.setting, tuple(actions))

    def as_json(self) -> str:
        """The story as text for a file."""
        return json.dumps(asdict(self))


def from_json(text: str) -> Story:
    """Read the text of `as_json`."""
    raw = json.loads(text)
    actions = tuple(Action(**action) for action in raw["actions"])
    return Story(raw["seed"], raw["days"], raw["setting"], actions)


def clock(seconds: float) -> str:
    """Show seconds as a day and a time."""
    day, rest = divmod(seconds, DAY)
    hour, rest = divmod(rest, HOUR)
    minute, second = divmod(rest, MINUTE)
    return f"d{int(day):02} {int(hour):02}:{int(minute):02}:{second:06.3f}"


def draw(seed: int, *, hunting: bool = True) -> Story:
    """The story of a seed."""
    return _Author(seed).write(hunting=hunting)


class _Author:
    """Writes one story."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.r = random.Random(f"story {seed}")  # noqa: S311  # it must be replayable
        self.actions: list[Action] = []
        interval = self.r.choice([60, 300, 300, 900, 1_800, HOUR, HOUR, 2 * HOUR, 4 * HOUR])
        polls = self.r.randint(4, 12)
        self.length = float(min(interval * polls, 9 * DAY))
        self.interval = interval

    def chance(self, share: float) -> bool:
        return self.r.random() < share

    def when(self, after: float = 0.0) -> float:
        return self.r.uniform(after, max(self.length, after + 1))

    def add(self, at: float, kind: str, /, **args: Any) -> None:
        self.actions.append(Action(round(at, 3), kind, args))

    # --- the whole ---------------------------------------------------------------------------------

    def write(self, *, hunting: bool = True) -> Story:
        """Write the story; without hunting, no fault is steered to a pair (for a comparison)."""
        r = self.r
        setting = self.setting()
        for number in range(r.choice([1, 2, 3, 4, 5, 6, 8, 12])):
            self.payment(f"p{number}", setting)
        calm = self.chance(0.15)
        if not calm:
            for act in (
                self.faults, self.faults, self.outages, self.kills, self.store_faults, self.people,
                self.clocks, self.commands, self.modes, self.sluggish, self.configuration, self.garbage,
            ):  # fmt: skip
                if self.chance(0.45):
                    act(setting)
        if self.chance(0.06):
            self.long_stop()
        if not calm and self.chance(0.15):
            self.cut_off_insert(setting)
        if not calm and self.chance(0.1):
            self.crowd(setting)
        for act in (self.deletion, self.many_rows, self.silent_end, self.unshown, self.slow_lists):
            if not calm and self.chance(0.08):
                act(setting)
        # Drawn separately, so that the rest of a seed's story does not change.
        tenant = random.Random(f"tenant {self.seed}")  # noqa: S311  # it must be replayable
        setting["tenant"] = tenant.choices(list(TENANTS), list(TENANTS.values()))[0]
        if setting["tenant"] == "empties later":
            self.add(tenant.uniform(0.2, 0.9) * self.length, "begin_to_empty")
        if self.seed >= SHOWINGS_FROM:
            showing = random.Random(f"showing {self.seed}")  # noqa: S311  # it must be replayable
            setting["lists_hide"] = ["intent_id"] if showing.random() < 0.2 else []
            setting["nulls_left_out"] = showing.random() < 0.2
            if setting["lists_hide"] and showing.random() < 0.5:
                begins = showing.uniform(0.3, 0.8) * self.length
                self.add(begins, "mode", key="filter_ignored", value=True, seconds=6 * HOUR)
        if self.seed >= PAGES_FROM:
            self.broken_pages(setting)
        if self.seed >= HUNTED_FROM:
            self.clock_adversary(setting)
            if self.seed < STEERED_FROM:
                self.hunt()
            elif hunting:
                self.steer(setting)
            if self.seed >= PROOFS_FROM:
                self.first_writes(setting)
        if self.seed >= SERVERS_FROM:
            self.server(setting)
        if self.seed >= COVERED_FROM:
            self.covered(setting)
        actions = tuple(sorted(self.actions, key=lambda action: action.at))
        return Story(self.seed, round(self.length / DAY, 3), setting, actions)

    def setting(self) -> dict[str, Any]:
        """The general setting."""
        r = self.r
        unset = [state for state in STATES if self.chance(0.04)]
        small = self.chance(0.4)
        bare = self.chance(0.2)
        tight = self.chance(0.12)
        return {
            "interval": self.interval,
            "overlap": r.choice([600, 600, 600, 120, HOUR]),
            "sweep": r.choice([DAY, DAY, self.length / 3 + 60, 10 * DAY, 30 * DAY]),
            "look_back": r.choice([DAY, DAY, HOUR]),
            "batch": r.choice([50, 50, 10, 3, 1]),
            "create_missing": self.chance(0.5),
            "on_amount_mismatch": "push" if self.chance(0.15) else "hold",
            "trace": not self.chance(0.1),
            "unset": unset,
            "same_number": self.chance(0.05),
            "rate_limit": r.choice([15, 25]) if tight else r.choice([300, 300, 60]),
            "halo_limit": r.choice([None, 300, 300, 40]),
            "reversals": self.chance(0.6),
            "read_budget": 10_000 if self.chance(0.97) else r.choice([60, 150]),
            # Pages of a few rows, so that a few payments fill several pages.
            "small_pages": small,
            "list_shape": "bare" if bare else "payments",
            "paging": "ignored" if self.chance(0.1) else "honoured",
            "filter_ignored": self.chance(0.06),
            "answer_shape": r.choice(["rows"] * 9 + ["empty", "no_json", "bare_object"]),
            "authinfo": not self.chance(0.1),
            "token_lifetime": r.choice([3_600.0, 3_600.0, 400.0, 86_400.0]),
            "latency": r.choice([0.02, 0.2, 0.2, 2.0]),
            "second_daemon": r.choice(["", "", "", "", "", "same_host", "other_host"]),
            "person_retries": self.chance(0.5),
        }

    # --- payments ----------------------------------------------------------------------------------

    def payment(self, label: str, setting: dict[str, Any]) -> None:
        """One payment's life."""
        r = self.r
        born = self.when() * r.choice([0.2, 0.6, 1.0])
        if self.chance(0.1):
            born = -r.uniform(0, 5 * DAY)  # created before syncd started
        currency = r.choice(["usd"] * 6 + ["eur", "jpy", "kwd", "isk", "ugx", "zzz"])
        amount = self.amount(currency)
        # none: not Halo's. named: only the metadata names an invoice.
        kind = r.choice(["one", "one", "one", "one", "three", "none", "named", "named", "both"])
        metadata = "good" if kind in ("named", "both") else None
        if metadata and self.chance(0.15):
            metadata = r.choice(["words", "unknown", "negative"])
        rows = {"one": 1, "three": 3, "both": 1}.get(kind, 0)
        fit = r.choice(["right"] * 8 + ["wrong", "text", "none"])
        if fit == "text" and self.seed >= WORDS_FROM and self.seed % 2:
            fit = "words"
        row_delay = r.choice([0.0] * 7 + [900.0, 5 * HOUR, 20 * HOUR, 60 * HOUR])
        self.add(
            born,
            "intent",
            label=label,
            amount=amount,
            currency=currency,
            metadata=metadata,
            rows=rows,
            fit=fit,
            row_delay=row_delay,
        )
        self.life(label, max(born, 0.0) + r.uniform(0.1, 900), amount, setting)

    def amount(self, currency: str) -> int:
        if currency == "kwd":
            return self.r.randrange(10, 90_000, 10)
        if currency in ("isk", "ugx"):
            return self.r.randrange(100, 900_000, 100)
        return self.r.choice([self.r.randint(1, 99_999), 30, 2_997])

    def life(self, label: str, at: float, amount: int, setting: dict[str, Any]) -> None:
        r = self.r
        state: str | None = None
        for _ in range(r.choice([1, 1, 2, 2, 3, 4])):
            choices = NEXT[state]
            if not choices:
                break
            state = r.choice(choices)
            if state == "succeeded" or not NEXT[state]:
                received = r.choice([amount] * 6 + [max(1, amount // 2)])
            else:
                received = 0
            late = r.uniform(0, setting["overlap"] - 3) if self.chance(0.25) else 0.0
            emit = not self.chance(0.03)
            if self.chance(0.02):
                late = setting["overlap"] + r.uniform(0, HOUR)
            self.add(
                at,
                "advance",
                label=label,
                state=state,
                received=received,
                late=round(late, 1),
                emit=emit,
                twice=self.chance(0.05),
            )
            if self.chance(0.2):
                self.add(
                    at + r.choice([0.5, 5, 400]), "native", label=label, which=r.choice([0, 0, 1])
                )
            if self.chance(0.05):
                self.add(at + r.uniform(1, 600), "touch", label=label)
            if state == "succeeded" and self.chance(0.15):
                after = r.choice([30, HOUR, 2 * DAY])
                if self.seed >= STEERED_FROM:  # a poll a minute for two days shows nothing new
                    after = min(after, 100 * self.interval)
                self.add(
                    at + after,
                    "reverse",
                    label=label,
                    dispute=self.chance(0.4),
                    part=r.choice([1.0, 0.5]),
                )
            # In the same second, soon, or after the days that a bank debit takes.
            at += r.choice([0.0, 0.2, 20, 400, HOUR, self.interval, r.choice([HOUR, 6 * DAY])])
            if at > self.length:
                return

    def made(self, at: float, label: str, amount: int, *, metadata: str | None, rows: int) -> None:
        """A payment in dollars is created, with rows that fit."""
        self.add(
            at,
            "intent",
            label=label,
            amount=amount,
            currency="usd",
            metadata=metadata,
            rows=rows,
            fit="right",
            row_delay=0.0,
        )

    def moves(
        self, at: float, label: str, state: str, amount: int = 0, *, emit: bool = True
    ) -> None:
        """A payment changes its state, and its event, if there is one, is visible at once."""
        self.add(
            at,
            "advance",
            label=label,
            state=state,
            received=amount if state == "succeeded" else 0,
            late=0.0,
            emit=emit,
            twice=False,
        )

    # --- disturbances ------------------------------------------------------------------------------

    def faults(self, _setting: dict[str, Any]) -> None:
        r = self.r
        for _ in range(r.randint(1, 8)):
            kind = r.choice(FAULTS)
            side, method, path = r.choice(STRUCK)
            if method == "POST" and self.chance(0.5):
                kind = r.choice(DOUBTFUL)
            if kind == "applied_late":
                seconds = r.choice([20.0, 70.0, 100.0])
            else:
                seconds = r.choice([3_600.0, 70.0, 40.0])
            self.add(
                self.when(),
                "fault",
                side=side,
                fault=kind,
                times=r.choice([1, 1, 1, 2, 9]),
                method=method,
                path=path,
                retry_after=r.choice([None, None, 1, 30, 90]),
                seconds=seconds,
                skip=r.choice([0, 0, 0, 1, 2]),
            )

    def sluggish(self, setting: dict[str, Any]) -> None:
        """Halo takes a minute for some answers, while payments change and another process runs."""
        if not setting["second_daemon"]:
            setting["second_daemon"] = self.r.choice(["same_host", "other_host"])
        at = self.when()
        self.add(
            at, "fault", side="halo", fault="hang_after", times=self.r.choice([2, 3, 4]), method="GET",
            path="InvoicePayment", retry_after=None, seconds=60.0, skip=0,
        )  # fmt: skip
        for number in range(4):
            state = self.r.choice(["processing", "payment_failed"])
            for after, to in ((-30, state), (self.interval + 20, "succeeded")):
                self.moves(at + after + number, f"p{number}", to)

    def cut_off_insert(self, setting: dict[str, Any]) -> None:
        """Halo carries out a new row while the process dies and restarts; or Halo accepts no new row."""
        r = self.r
        setting["create_missing"] = True
        at = self.when()
        self.made(at - HOUR, "cut", self.amount("usd"), metadata="good", rows=0)
        self.moves(at, "cut", r.choice(["succeeded", "processing"]))
        if self.chance(0.3):
            self.add(
                at, "fault", side="halo", fault="connect", times=40, method="POST",
                path="InvoicePayment", retry_after=None, seconds=0.0, skip=0,
            )  # fmt: skip
            return
        self.add(
            at, "fault", side="halo", fault="applied_late", times=1, method="POST",
            path="InvoicePayment", retry_after=None, seconds=r.choice([20.0, 70.0, 100.0]), skip=0,
        )  # fmt: skip
        self.add(at, "kill", point="posted", count=1, down=r.choice([1.0, 5.0, 30.0]))

    def crowd(self, setting: dict[str, Any]) -> None:
        """Two processes have the same rows to insert, Halo is slow, and few requests are left."""
        r = self.r
        setting["create_missing"] = True
        setting["second_daemon"] = setting["second_daemon"] or r.choice(["same_host", "other_host"])
        setting["rate_limit"] = r.choice([4, 300, 300])
        at = self.when()
        for seconds, times, skip in ((60.0, [2, 3], [0]), (25.0, [1, 2], [0, 1, 2, 3])):
            self.add(
                at, "fault", side="halo", fault="hang_after", times=r.choice(times), method="GET",
                path="InvoicePayment", retry_after=None, seconds=seconds, skip=r.choice(skip),
            )  # fmt: skip
        for number in range(r.choice([2, 3])):
            label = f"c{number}"
            self.made(at - HOUR, label, self.amount("usd"), metadata="good", rows=0)
            self.moves(at, label, "succeeded")

    def broken_pages(self, setting: dict[str, Any]) -> None:
        """Several payments change at once, and Stripe fails on later pages for longer than the overlap."""
        r = random.Random(f"pages {self.seed}")  # noqa: S311  # it must be replayable
        if r.random() >= 0.1:
            return
        setting["small_pages"] = True
        at = r.uniform(0.1, 0.5) * self.length
        lasts = setting["overlap"] + r.choice([2, 4]) * self.interval
        self.add(
            at, "fault", side="stripe", fault=r.choice(["500", "503", "hang", "html"]), times=999,
            method=None, path="next page", retry_after=None, seconds=lasts, skip=0,
        )  # fmt: skip
        for number in range(r.choice([4, 5, 7])):
            label = f"b{number}"
            self.made(at, label, 2_997, metadata=None, rows=1)
            self.moves(at + 1 + number, label, "processing")

    def deletion(self, _setting: dict[str, Any]) -> None:
        """A person deletes the row of a pushed payment; Stripe may report more of it later."""
        r, label = self.r, "deleted"
        at = self.when() * 0.5
        amount = self.amount("usd")
        self.made(at, label, amount, metadata=r.choice([None, "good"]), rows=1)
        states = r.choice([["succeeded"], ["processing"], ["processing", "succeeded"]])
        for number, state in enumerate(states):
            self.moves(at + 1 + number * 4 * self.interval, label, state, amount)
        self.add(at + r.choice([2.5, 3.5]) * self.interval, "row_delete", label=label, which=0)

    def many_rows(self, setting: dict[str, Any]) -> None:
        """A payment has more rows than a page of Halo, while Halo ignores the page number."""
        r, label = self.r, "many"
        setting["small_pages"] = True
        at = self.when() * 0.8
        amount = self.amount("usd")
        self.made(at, label, amount, metadata=None, rows=r.choice([4, 5]))
        self.add(
            at + 1,
            "mode",
            key="paging",
            value=r.choice(MODES["paging"]),
            seconds=r.choice([HOUR, 6 * HOUR, DAY]),
        )
        state = r.choice(["succeeded", "processing", "payment_failed"])
        self.moves(at + 2, label, state, amount)

    def silent_end(self, _setting: dict[str, Any]) -> None:
        """An old payment reaches its final state without a visible event."""
        r, label = self.r, "silent"
        amount = self.amount("usd")
        self.made(-r.uniform(4, 30) * DAY, label, amount, metadata=None, rows=1)
        self.moves(r.uniform(1, self.interval), label, "processing")
        state = r.choice(["succeeded", "payment_failed"])
        self.moves(self.when(1.5 * self.interval), label, state, amount, emit=False)

    def unshown(self, _setting: dict[str, Any]) -> None:
        """Two events of one second contradict each other, and Stripe cannot show that payment for long."""
        r, label = self.r, "unshown"
        at = float(int(self.when() * 0.7) + 2)
        amount = self.amount("usd")
        self.made(at - 1, label, amount, metadata=None, rows=1)
        self.add(at - 1, "unshow", label=label, seconds=r.choice([HOUR, 6 * HOUR, 3 * DAY]))
        for after, state in ((0.1, "processing"), (0.2, r.choice(["succeeded", "payment_failed"]))):
            self.moves(at + after, label, state, amount)

    def slow_lists(self, setting: dict[str, Any]) -> None:
        """Halo answers a new row with a failure or nothing, and shows the row only seconds later."""
        r, label = self.r, "slow"
        setting["create_missing"] = True
        at = self.when() * 0.8
        self.made(at - HOUR, label, self.amount("usd"), metadata="good", rows=0)
        self.moves(at, label, "succeeded")
        how = r.choice(["500_late", "500_after", "empty", "other_rows"])
        if how == "500_late":
            self.add(
                at, "fault", side="halo", fault=how, times=1, method="POST", path="InvoicePayment",
                retry_after=None, seconds=r.choice([3.0, 20.0]), skip=0,
            )  # fmt: skip
            return
        length = 3 * self.interval
        self.add(
            at, "mode", key="list_lag_seconds", value=r.choice([3.0, 10.0, 25.0]), seconds=length
        )
        if how == "500_after":
            self.add(
                at, "fault", side="halo", fault=how, times=r.choice([1, 2]), method="POST",
                path="InvoicePayment", retry_after=None, seconds=0.0, skip=0,
            )  # fmt: skip
        else:
            self.add(at, "mode", key="answer_shape", value=how, seconds=length)

    def outages(self, _setting: dict[str, Any]) -> None:
        for _ in range(self.r.randint(1, 2)):
            self.add(
                self.when(),
                "outage",
                side=self.r.choice(["stripe", "halo"]),
                seconds=self.r.choice([60.0, 600.0, 1_800.0]),
                how=self.r.choice(["connect", "503", "html", "403"]),
            )

    def kills(self, _setting: dict[str, Any]) -> None:
        r = self.r
        for _ in range(r.randint(1, 5)):
            self.add(
                self.when(), "kill",
                point=r.choice(
                    ["now", "send", "answered", "sleep", "begin", "commit", "committed", "post",
                     "posted", "posted"]
                ),
                count=r.choice([1, 1, 1, 2, 3, 5, 8, 13]), down=r.choice([1.0, 5.0, 5.0, 600.0, 2 * HOUR]),
            )  # fmt: skip
        if self.chance(0.4):
            self.add(self.when(), "stop", down=r.choice([1.0, 60.0, HOUR]))

    def store_faults(self, _setting: dict[str, Any]) -> None:
        for _ in range(self.r.randint(1, 4)):
            self.add(
                self.when(),
                "store_fault",
                words=self.r.choice(
                    ["database or disk is full", "database is locked", "disk I/O error"]
                ),
                point=self.r.choice(["begin", "commit"]),
                after=self.r.choice([0, 1, 2, 4, 7]),
                times=self.r.choice([1, 1, 3, 10]),
            )

    def people(self, _setting: dict[str, Any]) -> None:
        r = self.r
        for _ in range(r.randint(1, 5)):
            label = f"p{r.randint(0, 5)}"
            at = self.when()
            match r.choice(
                [
                    "status",
                    "status",
                    "delete",
                    "amount",
                    "add",
                    "poison",
                    "retry",
                    "dismiss",
                    "expire",
                ]
            ):
                case "status":
                    self.add(
                        at,
                        "row_status",
                        label=label,
                        which=r.randint(0, 2),
                        to=r.choice(["new", "succeeded", "payment_failed", "canceled"]),
                    )
                case "delete":
                    self.add(at, "row_delete", label=label, which=r.choice([0, 0, 1]))
                case "amount":
                    self.add(at, "row_amount", label=label, right=self.chance(0.7))
                case "add":
                    self.add(at, "row_add", label=label)
                case "poison":
                    self.add(at, "poison", label=label)
                    if self.chance(0.7):
                        self.add(self.when(at), "unpoison", label=label)
                case "retry":
                    self.add(at, "retry", label=r.choice([None, label]))
                case "dismiss":
                    self.add(at, "dismiss", label=label)
                case "expire":
                    self.add(at, "expire_tokens")

    def clocks(self, _setting: dict[str, Any]) -> None:
        for _ in range(self.r.randint(1, 2)):
            size = self.r.choice([2.0, 40.0, 300.0, HOUR, 6 * HOUR])
            self.add(
                self.when(),
                "clock",
                seconds=size * self.r.choice([-1, 1]),
                host=self.r.choice(["a", "a", "b"]),
            )

    def clock_adversary(self, setting: dict[str, Any]) -> None:
        """Clocks jump at some points or at every point, drift or differ; a process is suspended."""
        r = random.Random(f"clocks {self.seed}")  # noqa: S311  # it must be replayable
        if r.random() >= 0.3:
            return

        def when() -> float:
            return r.uniform(0, self.length)

        second = "second" if setting["second_daemon"] else "daemon"

        def jump() -> float:
            return r.choice(JUMPS) * r.choice([-1, 1])

        for kind in r.sample(["point", "storm", "slew", "apart", "suspend"], r.choice([1, 1, 2])):
            host = r.choice(["a", "a", "b"])
            if setting["second_daemon"] != "other_host":
                host = "a"
            match kind:
                case "point":
                    for _ in range(r.randint(1, 4)):
                        self.add(
                            when(),
                            "clock_at",
                            seconds=jump(),
                            host=host,
                            point=r.choice(POINTS),
                            count=r.choice([1, 1, 2, 3, 8]),
                        )
                case "storm":
                    self.add(
                        when(),
                        "clock_storm",
                        size=abs(jump()),
                        host=host,
                        seconds=r.choice([600.0, HOUR, 6.0 * HOUR]),
                    )
                case "slew":
                    self.add(
                        when(),
                        "slew",
                        rate=r.choice([-1, 1]) * r.choice([5e-4, 1e-2, 8e-2]),
                        host=host,
                        seconds=r.choice([HOUR, DAY]),
                    )
                case "apart":
                    setting["second_daemon"] = "other_host"
                    self.add(
                        0.0, "clock", seconds=r.choice([-1, 1]) * r.uniform(60, 1_200), host="b"
                    )
                case _:
                    for _ in range(r.randint(1, 3)):
                        self.add(
                            when(),
                            "suspend",
                            role=r.choice(["daemon", second]),
                            seconds=r.choice([20.0, 150.0, 700.0, HOUR, 9.0 * HOUR]),
                        )

    def server(self, setting: dict[str, Any]) -> None:
        """Two hosts and one server: one host leads. Links break, processes are suspended, clocks differ."""
        r = random.Random(f"server {self.seed}")  # noqa: S311  # it must be replayable
        if r.random() >= 0.2:
            return
        setting["server"], setting["second_daemon"] = True, "other_host"
        setting["takeover"] = takeover = r.choice([60.0, 300.0])
        if r.random() < 0.7:
            apart = r.choice([-1, 1]) * r.choice([r.uniform(60, 1_200), DAY])
            self.add(0.0, "clock", seconds=apart, host="b")

        def when() -> float:
            return r.uniform(0, self.length)

        def near_a_payment() -> float:
            moves = [action.at for action in self.actions if action.kind == "advance"]
            return max(0.0, r.choice(moves or [when()]) + r.uniform(-5, self.interval))

        for kind in r.choices(
            ["cut", "away", "suspend", "pause", "kill", "server clock", "stop"],
            [3, 2, 3, 4, 3, 1, 1],
            k=r.randint(1, 6),
        ):
            at = r.choice([when, near_a_payment])()
            seconds = r.choice([5.0, takeover, 3 * takeover, HOUR])
            match kind:
                case "cut" | "away":
                    host = r.choice(["a", "b"]) if kind == "cut" else None
                    self.add(at, "cut", host=host, seconds=seconds, after_commit=r.random() < 0.4)
                case "suspend":
                    self.add(at, "suspend", role=r.choice(["daemon", "second"]), seconds=seconds)
                case "pause":
                    self.add(at, "pause", count=r.choice([1, 1, 2, 4]), seconds=seconds)
                case "kill":
                    self.add(
                        at,
                        "kill",
                        point=r.choice(["now", *POINTS]),
                        count=r.choice([1, 2, 5]),
                        down=r.choice([5.0, 2 * takeover]),
                    )
                case "server clock":
                    self.add(
                        at,
                        "clock",
                        seconds=r.choice([-1, 1]) * r.choice([1.0, 40.0, HOUR]),
                        host="server",
                    )
                case _:
                    self.add(at, "stop", down=r.choice([5.0, HOUR]))

    def hunt(self) -> None:
        """A fault of any kind, at any request, when a payment in a random state is processed.

        Each pair is as likely as any other; `faults` plays some of them often and others never.
        """
        r = random.Random(f"hunt {self.seed}")  # noqa: S311  # it must be replayable
        moves = [action for action in self.actions if action.kind == "advance"]
        if not moves or r.random() >= 0.4:
            return
        states = sorted({str(move.args["state"]) for move in moves})
        for _ in range(r.choice([1, 1, 2])):
            state = r.choice(states)
            move = r.choice([move for move in moves if move.args["state"] == state])
            side, method, path = HUNTED[r.choice(sorted(HUNTED))]
            self.add(
                max(0.0, move.at), "fault", side=side, fault=r.choice(FAULTS), times=r.choice([1, 2]),
                method=method, path=path, retry_after=None, seconds=r.choice([40.0, 70.0]), skip=0,
            )  # fmt: skip

    def steer(self, setting: dict[str, Any]) -> None:
        """Faults that wait for their own pair of request and payment's state; all pairs are equally likely.

        The story is made such that the request is sent: a sweep soon, payments in that state, rows missing in
        Halo.
        """
        r = random.Random(f"steer {self.seed}")  # noqa: S311  # it must be replayable
        if r.random() < 0.2:
            return  # stories without such faults remain
        plain = [(p, "") for p in HUNTED if p not in NAMES_PAYMENT and p not in NEVER_SENT]
        stated = [(point, state) for point in NAMES_PAYMENT for state in STATES]
        for number in range(r.choice([1, 2, 2, 3])):
            point, state = r.choice(plain + stated)
            if point in ("refunds", "disputes"):
                setting["sweep"] = min(setting["sweep"], self.length / 3 + 60)
            if state:
                self._moves_to(r, f"h{number}", state)
            self.add(
                r.uniform(0.0, 0.3) * self.length,
                "hunted",
                point=point,
                state=state,
                fault=r.choice(FAULTS),
                times=r.choice([1, 1, 2, 4]),
                seconds=r.choice([40.0, 70.0]),
            )

    def first_writes(self, setting: dict[str, Any]) -> None:
        """A tenant's first writes meet disturbances of the proof, before anything else is written."""
        r = random.Random(f"proof {self.seed}")  # noqa: S311  # it must be replayable
        if r.random() >= 0.25:
            return
        kind = r.choice(["late", "unanswered", "edited", "cut"])
        at = r.uniform(0.0, 0.3) * self.length
        setting |= {"unset": [], "answer_shape": "rows", "paging": "honoured"}
        tenants = {
            "late": "empty",
            "edited": "empty",
            "unanswered": "empties later",
            "cut": "merge",
        }
        setting["tenant"] = tenants[kind]
        self.actions = [action for action in self.actions if action.kind != "begin_to_empty"]
        new = kind == "cut"
        setting["create_missing"] = setting["create_missing"] or new
        for number in range(3):
            label = f"f{number}"
            self.made(at, label, 2_997, metadata="good" if new else None, rows=0 if new else 1)
            self.moves(at + 1, label, "processing")
            self.moves(at + 1 + 3 * self.interval, label, "payment_failed")
        fault: dict[str, Any] = {
            "side": "halo",
            "times": 1,
            "method": "POST",
            "path": "InvoicePayment",
            "retry_after": None,
            "seconds": r.choice([70.0, 100.0]),
            "skip": 0,
        }
        match kind:
            case "late":
                self.add(at, "fault", fault="applied_late", **fault)
            case "unanswered":
                again = at + 2 + 2 * self.interval
                self.add(again, "begin_to_empty")
                if self.seed >= LONG_FAILURES_FROM and r.random() < 0.7:
                    # No retry of the push is answered, and each list has one payment.
                    fault["times"], setting["batch"] = r.choice([6, 12]), 1
                self.add(again, "fault", fault=r.choice(["500_after", "reset_after"]), **fault)
            case "edited":
                self.add(at + 1 + 2 * self.interval, "row_amount", label="f0", right=False)
                self.add(at + 1 + 2 * self.interval, "row_amount", label="f1", right=False)
            case _:
                self.add(at, "kill", point="posted", count=1, down=r.choice([1.0, 5.0]))

    def covered(self, setting: dict[str, Any]) -> None:
        """What only a rare row of events shows: one of three, in a tenant whose writes are proven before."""
        r = random.Random(f"covered {self.seed}")  # noqa: S311  # it must be replayable
        if r.random() >= 0.25:
            return
        setting |= {"unset": [], "answer_shape": "rows", "tenant": "merge", "lists_hide": []}
        self.actions = [action for action in self.actions if action.kind != "begin_to_empty"]
        polls = int((self.length - 1) // self.interval)
        match r.choice(["refused list", "lost new row", "lost lease"]):
            case "refused list":
                # Several payments in the last list of the story, one of which Halo refuses.
                setting["batch"] = 50
                at = max(1.0, polls * self.interval - 60)
                bad = r.randrange(6)
                for number in range(6):
                    label = f"l{number}"
                    self.made(at - 30, label, 2_997, metadata=None, rows=1)
                    if number == bad:
                        self.add(at - 20, "poison", label=label)
                    self.moves(at + number, label, "processing")
            case "lost new row":
                # Halo answers a new row and doesn't make it, until a person has to look; then it does.
                setting |= {"create_missing": True, "person_retries": True}
                for label, share, state in (("n0", 0.1, "processing"), ("n1", 0.3, "canceled")):
                    at = share * self.length
                    self.made(at, label, 2_997, metadata="good", rows=0)
                    self.moves(at + 1, label, state)
                self.add(
                    0.3 * self.length, "hunted", point="write", state="canceled", fault="200",
                    times=20, seconds=70.0,
                )  # fmt: skip
            case _:
                # A process stands still between its look and its write; another one pushes meanwhile.
                self.actions = []
                setting |= {"second_daemon": "other_host", "rate_limit": 300, "halo_limit": 300}
                setting |= {"batch": 50, "filter_ignored": False, "token_lifetime": 86_400.0}
                at = max(2, r.randint(2, max(2, polls))) * self.interval
                self.made(0.1 * self.interval, "first", 2_997, metadata=None, rows=1)
                self.moves(0.2 * self.interval, "first", "processing")
                self.add(at - 30, "mode", key="latency", value=10.0, seconds=900.0)
                for number in range(2):
                    label = f"s{number}"
                    self.made(at - 60, label, 2_997, metadata=None, rows=1)
                    self.moves(at - 20 - number, label, "processing")
                begins = at + r.uniform(5, 45)
                self.add(begins, "suspend", role="daemon", seconds=r.choice([300.0, 400.0, 600.0]))

    def _moves_to(self, r: random.Random, label: str, state: str) -> None:
        """A payment with one row reaches a state, through others or at once."""
        at, amount = r.uniform(0.1, 0.8) * self.length, 30
        self.made(at, label, amount, metadata=r.choice([None, "good"]), rows=1)
        before = [other for other in STATES if state in NEXT[other]]
        if r.random() < 0.5:
            self.moves(at + 1, label, r.choice(before), 0)
            at += r.choice([20.0, self.interval])
        self.moves(at + 2, label, state, amount)

    def commands(self, _setting: dict[str, Any]) -> None:
        r = self.r
        for _ in range(r.randint(1, 3)):
            what = r.choice(["once", "backfill", "resync"])
            self.add(
                self.when(),
                "command",
                what=what,
                label=f"p{r.randint(0, 5)}",
                days=r.choice([1, 6, 40]),
                host=r.choice(["a", "a", "b"]),
            )

    def modes(self, _setting: dict[str, Any]) -> None:
        for _ in range(self.r.randint(1, 2)):
            key = self.r.choice(sorted(MODES))
            self.add(
                self.when(),
                "mode",
                key=key,
                value=self.r.choice(MODES[key]),
                seconds=self.r.choice([HOUR, 6 * HOUR, DAY]),
            )

    def configuration(self, setting: dict[str, Any]) -> None:
        changes: dict[str, Any] = {}
        if setting["unset"] and self.chance(0.8):
            changes["unset"] = []
        if self.chance(0.3):
            changes["on_amount_mismatch"] = self.r.choice(["push", "hold"])
        if self.chance(0.3):
            changes["create_missing"] = self.chance(0.7)
        if self.chance(0.3):
            changes["batch"] = self.r.choice([1, 2, 50])
        if changes:
            self.add(self.when(), "configure", changes=changes, restart=self.chance(0.4))

    def garbage(self, _setting: dict[str, Any]) -> None:
        for _ in range(self.r.randint(1, 2)):
            self.add(
                self.when(),
                "garbage",
                shape=self.r.choice(
                    ["no_type", "no_object", "no_intent", "text", "other_type", "no_time"]
                ),
            )

    def long_stop(self) -> None:
        """A stop that is longer than Stripe keeps events."""
        at = self.when() * 0.7
        days = self.r.choice([31, 33, 45])
        kept = []
        for action in self.actions:  # later actions happen during the stop or after it
            late = action.at > at and self.chance(0.6)
            moved = action.at + days * DAY if late else action.at
            kept.append(Action(moved, action.kind, action.args))
        self.actions = kept
        self.add(at, "stop", down=days * DAY - 60)
        self.length += days * DAY
