"""The world around syncd: Stripe, Halo, the people, and the network to each process.

Stripe and Halo are the sandbox's, which know nothing of syncd; here they answer in this process, at simulated
times. The world also stores the truth: what really happened to each payment, and when.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncd.sandbox.faults import Fault
from syncd.sandbox.halo import NEW_STATUS, SandboxHalo
from syncd.sandbox.halo.tenant import Showing
from syncd.sandbox.http import Request
from syncd.sandbox.stripe import SandboxStripe
from tests.simulation.coverage import waits_for
from tests.simulation.story import DAY, DECIMALS, HOUR, HUNTED, NEXT, Story

if TYPE_CHECKING:
    from tests.simulation.loop import VirtualLoop
    from tests.simulation.oracle import Oracle

KEPT = (
    "invoice_id",
    "date",
    "amount",
    "method",
    "module_id",
    "intent_id",
    "intent_date",
    "client_id",
)
"""The columns of a row that syncd must not change."""

EPOCH = 1_795_500_000
"""Unix seconds at which every story begins."""

STRIPE_HOST, HALO_HOST = "stripe.simulated.example", "halo.simulated.example"


@dataclass(slots=True)
class Step:
    """One state in a payment's true history.

    Attributes:
        at: Unix seconds of the true time.
        state: one of the five.
        shown: whether its event is visible to a poll that reads the overlap.
    """

    at: float
    state: str
    shown: bool


@dataclass(slots=True)
class Truth:
    """One payment as it really is.

    Attributes:
        decimals: of its currency; None if unknown.
        invoice: the invoice in its metadata; None if there is none.
        touched: whether a later update has cleared the last error.
        unawaited_at: when its rows appeared, if they appeared too late for lookups without a sweep.
        disturbed_at: when somebody other than syncd last wrote, made or deleted one of its rows.
    """

    label: str
    intent_id: str
    created: float
    amount: int
    decimals: int | None
    invoice: str | None
    steps: list[Step] = field(default_factory=list)
    touched: bool = False
    disturbed_at: float = 0.0
    unawaited_at: float = 0.0
    deleted: int = 0

    @property
    def state(self) -> str | None:
        """The last of the five states that the payment was in."""
        return self.steps[-1].state if self.steps else None

    @property
    def undecidable(self) -> bool:
        """Whether two events of one second contradict each other, and the deciding error is cleared."""
        if not self.touched or len(self.steps) < 2:
            return False
        return int(self.steps[-1].at) == int(self.steps[-2].at)

    def latest(self, states: set[str], at: float) -> int:
        """The newest step up to a time in one of these states; -1 if there is none."""
        for index in range(len(self.steps) - 1, -1, -1):
            if self.steps[index].at <= at and self.steps[index].state in states:
                return index
        return -1


@dataclass(slots=True)
class Outage:
    """A side that is unreachable."""

    kind: str
    until: float


class World:
    """Everything except syncd."""

    def __init__(self, story: Story, loop: VirtualLoop) -> None:
        self.story = story
        self.loop = loop
        self.random = random.Random(f"network {story.seed}")  # noqa: S311  # it must be replayable
        self.stripe = SandboxStripe(self.now, story.seed)
        self.halo = SandboxHalo(self.now)
        self.stripe.url, self.halo.url = f"https://{STRIPE_HOST}", f"https://{HALO_HOST}"
        self.truths: dict[str, Truth] = {}
        self.by_intent: dict[str, Truth] = {}
        self.event_step: dict[str, tuple[str, int]] = {}
        self.invoices: dict[str, int] = {}
        self.outages: dict[str, Outage] = {}
        self.stops: list[tuple[float, float]] = []
        self.odd: dict[str, tuple[str, float]] = {}
        self.reversals: dict[str, Truth] = {}
        self.refusing: list[Fault] = []
        self.left_at: dict[str, list[float]] = {"stripe": [], "halo": []}
        self.born: dict[int, float] = {}
        self.originals: dict[int, dict[str, Any]] = {}
        self.undone: dict[tuple[int, str], Any] = {}
        self.changed_at: dict[int, float] = {}
        self.history: list[tuple[float, str]] = []
        self.figures: Counter[str] = Counter()
        self.oracle: Oracle
        self.latency = float(story.setting["latency"])
        self._settle_in(story.setting)

    def _settle_in(self, setting: dict[str, Any]) -> None:
        halo = self.halo
        if setting["reversals"]:
            self.stripe.permissions |= {"charges", "refunds", "disputes"}
        if setting["same_number"]:
            halo.status["requires_action"] = halo.status["processing"]
        halo.rate_limit = setting["halo_limit"]
        halo.list_shape = setting["list_shape"]
        halo.paging = setting["paging"]
        halo.filter_ignored = setting["filter_ignored"]
        halo.answer_shape = setting["answer_shape"]
        halo.has_authinfo = setting["authinfo"]
        halo.token_lifetime = setting["token_lifetime"]
        self.tenant = str(setting.get("tenant", "merge"))
        if self.tenant in ("refuse", "empty"):
            halo.keeps.partial = self.tenant
        if self.tenant.startswith("drop"):
            dropped = {"drop status": "status", "drop trace": "webhook_payload"}[self.tenant]
            halo.keeps.drops = frozenset({dropped})
        hidden = frozenset(setting.get("lists_hide", ()))
        halo.shows = Showing(hidden, bool(setting.get("nulls_left_out")))
        # A tenant has rows that belong to no payment of this story.
        invoice = halo.add_invoice(total=5.0)
        halo.add_row(None, invoice, 5.0, 3)
        halo.add_row("", invoice, 1.0, 3)
        halo.add_row("pi_of_another_account", invoice, 7.0, NEW_STATUS)
        for number in halo.rows:
            self.remember(number)

    def remember(self, number: int) -> None:
        """Store a row's content as people and Halo have made it."""
        self.originals[number] = {key: self.halo.rows[number].get(key) for key in KEPT}
        self.changed_at[number] = self.now()

    def owner(self, number: object) -> str:
        """The payment of a row, also if the row has lost it."""
        row = self.originals.get(number) or self.halo.rows.get(number) or {}  # type: ignore[call-overload]
        return str(row.get("intent_id"))

    def begin_to_empty(self) -> None:
        """From now on Halo empties the columns that an update leaves out."""
        self.halo.keeps.partial = "empty"
        self.tell("Halo begins to empty what updates leave out")

    def harmed(self) -> dict[int, list[str]]:
        """The columns that are no longer as people and Halo made them, by row.

        A column without a value has lost none: Halo may fill it.
        """
        found = {
            number: [
                key
                for key in KEPT
                if self.originals[number][key] is not None
                and not is_same(row.get(key), self.originals[number][key])
                and not self._undone_on_the_way(number, key, row.get(key))
            ]
            for number, row in self.halo.rows.items()
            if number in self.originals
        }
        return {number: names for number, names in found.items() if names}

    def _undone_on_the_way(self, number: int, key: str, value: Any) -> bool:
        return (number, key) in self.undone and is_same(value, self.undone[number, key])

    def now(self) -> float:
        """The true time, Unix seconds; both sides' clocks show it."""
        return EPOCH + self.loop.time()

    def tell(self, text: str) -> None:
        """Add a line to the history."""
        self.history.append((self.loop.time(), text))

    # --- what Stripe's customers do ------------------------------------------------------------------

    def intent(
        self,
        *,
        label: str,
        amount: int,
        currency: str,
        metadata: str | None,
        rows: int,
        fit: str,
        row_delay: float,
        at: float,
    ) -> None:
        """A payment intent is created, and Halo makes its rows, at once or later."""
        decimals = DECIMALS[currency]
        invoice = self.halo.add_invoice()
        named = {
            None: None,
            "good": str(invoice),
            "words": "INV-7",
            "unknown": "987654",
            "negative": "-4",
        }[metadata]
        created = EPOCH + at
        intent_id = self.stripe.create_intent(
            amount=amount,
            currency=currency,
            created=created,
            metadata={} if named is None else {"halo_invoice_id": named},
        )
        truth = Truth(label, intent_id, int(created), amount, decimals, named)
        self.truths[label] = self.by_intent[intent_id] = truth
        self.invoices[label] = invoice
        parts = self._parts(amount, decimals, rows, fit)
        if row_delay:
            self.loop.call_later(row_delay, self._add_rows_late, truth, invoice, parts, row_delay)
        else:
            self._add_rows(truth, invoice, parts)

    def _parts(self, amount: int, decimals: int | None, rows: int, fit: str) -> list[Any]:
        places = 2 if decimals is None else decimals
        if not rows:
            return []
        share = amount // rows
        minor = [share] * (rows - 1) + [amount - share * (rows - 1)]
        if fit == "wrong":
            minor[0] += 1
        parts: list[Any] = [part / 10**places for part in minor]
        if fit == "text":
            parts[0] = str(parts[0])
        if fit == "words":
            parts[0] = f"about {parts[0]}"
        if fit == "none":
            parts[0] = None
        return parts

    def _add_rows(self, truth: Truth, invoice: int, parts: list[Any]) -> None:
        for part in parts:
            number = self.halo.add_row(truth.intent_id, invoice, part)
            self.born[number] = self.now()
            self.remember(number)
        if parts:
            self.tell(f"Halo makes {len(parts)} row(s) for {truth.label}")

    def _add_rows_late(self, truth: Truth, invoice: int, parts: list[Any], delay: float) -> None:
        """Rows that appear within a day of lookups are found without a sweep; other rows are not.

        A payment that was created more than a day ago may be looked up only once.
        """
        jumped = sum(map(abs, self.oracle.jumps)) > HOUR
        young = truth.created > self.now() - DAY
        awaited = delay < DAY and young and not jumped and truth.invoice is None
        if self.halo.rows_of(truth.intent_id):
            truth.disturbed_at = self.now()
        elif parts and not awaited:
            truth.unawaited_at = self.now()
        self._add_rows(truth, invoice, parts)

    def advance(
        self, *, label: str, state: str, received: int, late: float, emit: bool, twice: bool
    ) -> None:
        """A payment changes its state, if Stripe allows that."""
        truth = self.truths.get(label)
        if truth is None or state not in NEXT[truth.state]:
            return
        shown = emit and late <= self.story.setting["overlap"] - 2
        truth.steps.append(Step(self.now(), state, shown))
        truth.touched = False
        event = self.stripe.advance(
            truth.intent_id,
            state,
            emit=emit,
            visible_after=late,
            amount_received=received or None,
        )
        if event is None:
            return
        self.event_step[event] = (truth.intent_id, len(truth.steps) - 1)
        if twice:
            again = self.stripe.emit(truth.intent_id, state, visible_after=late / 2)
            self.event_step[again] = (truth.intent_id, len(truth.steps) - 1)

    def reverse(self, *, label: str, dispute: bool, part: float) -> None:
        """A reversal: a refund, or a dispute."""
        truth = self.truths.get(label)
        if truth is None or truth.state != "succeeded":
            return
        received = int(self.stripe.intents[truth.intent_id]["amount_received"])
        amount = max(1, int(received * part))
        with contextlib.suppress(ValueError):  # more than is left
            make = self.stripe.dispute if dispute else self.stripe.refund
            self.reversals[make(truth.intent_id, amount)] = truth

    def touch(self, *, label: str) -> None:
        """The payment is updated: its last error is cleared."""
        truth = self.truths.get(label)
        if truth is not None and truth.state == "payment_failed":
            truth.touched = True
            self.stripe.touch(truth.intent_id)

    def garbage(self, *, shape: str) -> None:
        """An event that cannot be read, or that reports none of the five states."""
        name = f"evt_odd{len(self.odd)}"
        event: dict[str, Any] = {
            "id": name,
            "object": "event",
            "api_version": "2019-01-01",
            "created": int(self.now()),
            "type": "payment_intent.succeeded",
            "data": {"object": {"id": "pi_odd", "amount": 5}},
        }
        match shape:
            case "no_type":
                del event["type"]
            case "no_object":
                event["data"] = {}
            case "no_intent":
                event["data"] = {"object": {"amount": 5}}
            case "text":
                event["data"] = "gone"
            case "no_time":
                event["created"] = None
            case "other_type":
                event["type"] = "payment_intent.invented"
        self.odd[name] = (shape, self.now())
        self.stripe.events.append(event)

    # --- what happens at Halo ------------------------------------------------------------------------

    def native(self, *, label: str, which: int) -> None:
        """Halo's own webhook writes an event, the newest or an earlier one."""
        truth = self.truths.get(label)
        events = [
            e
            for e in self.stripe.events
            if truth and self.event_step.get(str(e.get("id")), ("",))[0] == truth.intent_id
        ]
        if truth is None or not events or not self.halo.rows_of(truth.intent_id):
            return
        truth.disturbed_at = self.now()
        self.halo.native_webhook(events[max(0, len(events) - 1 - which)])

    def _row(self, label: str, which: int) -> tuple[Truth, dict[str, Any]] | None:
        truth = self.truths.get(label)
        rows = self.halo.rows_of(truth.intent_id) if truth else []
        if truth is None or not rows:
            return None
        truth.disturbed_at = self.now()
        return truth, rows[which % len(rows)]

    def row_status(self, *, label: str, which: int, to: str) -> None:
        """A person sets a row's status."""
        found = self._row(label, which)
        if found:
            found[1]["status"] = NEW_STATUS if to == "new" else self.halo.status[to]

    def row_amount(self, *, label: str, right: bool) -> None:
        """A person sets amounts: to what Stripe received (or expects), or to something else."""
        found = self._row(label, 0)
        if not found:
            return
        truth, _ = found
        rows = self.halo.rows_of(truth.intent_id)
        money = self.stripe.intents[truth.intent_id]
        minor = money["amount_received"] or money["amount"]
        parts = self._parts(minor + (0 if right else 7), truth.decimals, len(rows), "right")
        for row, part in zip(rows, parts, strict=True):
            row["amount"] = part
            if row["id"] in self.originals:
                self.originals[row["id"]]["amount"] = part
                self.changed_at[row["id"]] = self.now()

    def row_delete(self, *, label: str, which: int) -> None:
        """A person deletes a row."""
        found = self._row(label, which)
        if found:
            self.halo.delete_row(found[1]["id"])
            found[0].deleted += 1

    def row_add(self, *, label: str) -> None:
        """A person enters a payment by hand."""
        truth = self.truths.get(label)
        if truth is None:
            return
        truth.disturbed_at = self.now()
        minor = 1 if self.halo.rows_of(truth.intent_id) else truth.amount
        part = self._parts(minor, truth.decimals, 1, "right")[0]
        number = self.halo.add_row(truth.intent_id, self.invoices[label], part)
        self.born[number] = self.now()
        self.remember(number)

    def poison(self, *, label: str) -> None:
        """Halo starts to refuse a payment's rows."""
        truth = self.truths.get(label)
        if truth is not None:
            self.halo.poison(truth.intent_id)

    def unpoison(self, *, label: str) -> None:
        """Halo accepts the payment's rows again."""
        truth = self.truths.get(label)
        if truth is not None:
            self.halo.unpoison(truth.intent_id)

    def expire_tokens(self) -> None:
        """All tokens expire."""
        self.halo.expire_tokens()

    def mode(self, *, key: str, value: Any, seconds: float) -> None:
        """Halo behaves differently for a while."""
        before = self.story.setting.get("halo_limit" if key == "rate_limit" else key, 0.0)
        which = self if key == "latency" else self.halo
        setattr(which, key, value)
        self.loop.call_later(seconds, setattr, which, key, before)
        self.figures[f"mode {key}"] += 1

    # --- failures of requests --------------------------------------------------------------------------

    def fault(
        self,
        *,
        side: str,
        fault: str,
        times: int,
        method: str | None,
        path: str | None,
        retry_after: float | None,
        seconds: float,
        skip: int,
    ) -> None:
        """Some of the next requests fail."""
        match = _is_next_page if path == "next page" else None
        path = None if match else path
        self._strike(side, fault, times, method, path, match, retry_after, seconds, skip)

    def hunted(self, *, point: str, state: str, fault: str, times: int, seconds: float) -> None:
        """The next requests at a point of a payment's path fail, but only for payments in this state."""
        side, method, path = HUNTED[point]
        match = waits_for(self, point, state)
        self._strike(side, fault, times, method, path, match, None, seconds, 0)

    def _strike(
        self,
        side: str,
        fault: str,
        times: int,
        method: str | None,
        path: str | None,
        match: Callable[[Request], bool] | None,
        retry_after: float | None,
        seconds: float,
        skip: int,
    ) -> None:
        which = self.stripe if side == "stripe" else self.halo
        kind = {"connect": "reset", "500_late": "applied_late"}.get(fault, fault)
        made = Fault(
            kind, times, method, path, skip, match, retry_after,
            seconds, "https://elsewhere.example/api", 1_100_000,
            status={"500_late": 500, "hang": 504}.get(fault),
        )  # fmt: skip
        which.faults.append(made)
        if fault == "connect":
            self.refusing.append(made)

    def unshow(self, *, label: str, seconds: float) -> None:
        """Stripe fails on one payment intent for a while, but still lists it."""
        truth = self.truths.get(label)
        if truth is None:
            return
        fault = Fault("500", 10**9, "GET", f"/payment_intents/{truth.intent_id}")
        self.stripe.faults.append(fault)
        self.loop.call_later(seconds, setattr, fault, "times", 0)

    def outage(self, *, side: str, seconds: float, how: str) -> None:
        """A side is unreachable for a while."""
        self.outages[side] = Outage(how, self.now() + seconds)

    def calm_down(self) -> None:
        """From now on nothing fails any more."""
        self.outages.clear()
        for side in (self.stripe, self.halo):
            side.faults.clear()
        self.halo.paging, self.halo.answer_shape = "honoured", "rows"
        self.halo.list_shape, self.halo.filter_ignored = "payments", False
        self.halo.rate_limit, self.halo.list_lag_seconds = 300, 0.0
        self.latency = float(self.story.setting["latency"])

    def sum_of_rows(self, truth: Truth) -> float | None:
        """The sum of a payment's rows, including amounts that are text; None if one cannot be read."""
        try:
            return sum(_as_number(row["amount"]) for row in self.halo.rows_of(truth.intent_id))
        except (TypeError, ValueError):
            return None

    def has_numbers(self, truth: Truth) -> bool:
        """Whether the amount of each row of a payment is a number, or the text of a number."""
        return self.sum_of_rows(truth) is not None


def _as_number(amount: Any) -> float:
    """An amount, which may be a text.

    Raises:
        TypeError, ValueError: the amount cannot be read.
    """
    if isinstance(amount, bool):
        raise TypeError
    return float(amount)


def is_same(one: Any, other: Any) -> bool:
    """Whether two values of a row are equal; a number and its text are equal."""
    if isinstance(one, str) == isinstance(other, str):
        return bool(one == other)
    try:
        return _as_number(one) == _as_number(other)
    except (TypeError, ValueError):
        return False


def _is_next_page(request: Request) -> bool:
    """Whether the request asks for a later page of a listing."""
    asked = request.params()
    return "starting_after" in asked or asked.get("page_no", "1") != "1"
