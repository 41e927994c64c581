"""The oracle's checks of every request and every answer, against what really happened.

Written from what is known of Stripe and Halo and from the decision table. It shares no code with the
program's own reading, settling and deciding. Each check is one sentence: see CHECKS.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from syncd.sandbox.http import Reply, Request
from tests.simulation.story import HOUR, STATES
from tests.simulation.universe import KEPT, is_same

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.theatre import Theatre
    from tests.simulation.universe import Truth, World

CHECKS = {
    "lost": "Every row of a payment carries, at the end, the number of the last state Stripe gave it.",
    "late": "What Stripe shows within the overlap reaches Halo by polls alone, without a sweep.",
    "doubled": "No row is inserted while Halo has a row of that payment which syncd could have seen.",
    "unlooked": "Before a row is inserted, the last question about Halo's payments was for its rows.",
    "unasked": "No row is inserted unless create_missing is set and the metadata names an invoice.",
    "wrong row": "A new row carries the invoice, amount and status that Stripe's words give it.",
    "blind": "No row is written that this process has not read before, or that it read as equal.",
    "outdated": "No row is written on a reading from before another process's write of that row.",
    "remade": "No row is inserted in place of one that was deleted, unless a person asked for it.",
    "final left": "No row that was read as succeeded is set to anything else.",
    "never true": "No row is set to a state in which Stripe's payment has not been by then.",
    "older": "No row is set to a state older than one that Halo has acknowledged to syncd.",
    "told": "No process sets a state older than the newest that Stripe has told this very process.",
    "unconfigured": "No status is written whose number the operator has not set.",
    "amounts": "No success is written over amounts that don't add up to what arrived (unless told to).",
    "fields": "An update sets the status and the webhook's trace; other columns go as they were read.",
    "two_before_proof": "No second payment's rows are written before the first were read back as right.",
    "harmed": "No row loses a column, but those of at most one list, which the attention list names.",
    "unsaid": "Where Halo doesn't store the status, the attention list says so.",
    "untried": "Where writes are stopped and a payment waits for one, Halo gets another try within a day of calm.",
    "trace": "The trace left in a row is of that very payment and says the state that was set.",
    "two lead": "On two hosts over one server, no two services lead at the same time.",
    "unfenced": "No service sends Halo a write after the server knows that another service leads.",
    "unlisted": "What needs a person stands on the attention list.",
    "false alarm": "What needs no person doesn't stand on the attention list.",
    "budget": "No rolling window holds more requests than its limit.",
    "secret": "No secret stands in the log, the store, the metrics, the list or what Halo is sent.",
    "reading only": "Stripe is only read; Halo's payments and invoices are read, and payments posted.",
    "elsewhere": "No request goes anywhere but to Stripe and Halo.",
    "fault": "No step of the daemon fails in a way that the program doesn't understand.",
    "unusable": "A busy, full or failing disk is never taken for a damaged database.",
}
"""What is checked, each as a sentence."""

UNWRITTEN_SECONDS = 900.0
"""A payment that cannot be written for this long goes on the attention list, whatever the cause."""

LOOK_SECONDS = 31.0
"""How old a lookup may be when the new row leaves syncd; delays of the network do not count."""

READ_ALONE = ("/api/InvoicePayment/", "/api/Invoice/", "/api/InvoiceChange")
"""Paths of single rows, single invoices, and an invoice's changes in Halo."""

UNKNOWN_INTENT_ID = "pi_nobodys"
"""An id that no payment has, used to test Halo's filter."""

TRACE_FIELDS = {"id", "status", "webhook_payload", "webhook_received_date"}


@dataclass(frozen=True, slots=True)
class Complaint:
    """A broken promise.

    Attributes:
        check: one of CHECKS.
        at: seconds since the beginning.
        text: the details.
    """

    check: str
    at: float
    text: str


@dataclass(slots=True)
class View:
    """What one process has seen so far.

    Attributes:
        unanswered: the status of each row that the process has sent, and that no answer has shown since.
        rows: the status of each row as last shown to the process.
        read_at: when the process sent the request that showed each row.
        shown_at: when each row was shown alone.
        empty: payments that were shown without rows, and when the process asked.
        told: the steps of each payment that Stripe reported to the process, each with the time.
        asked: the payment whose rows the process requested last; None after another request.
    """

    rows: dict[int, Any] = field(default_factory=dict)
    read_at: dict[int, float] = field(default_factory=dict)
    shown_at: dict[int, float] = field(default_factory=dict)
    empty: dict[str, float] = field(default_factory=dict)
    told: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    asked: str | None = None
    unanswered: dict[int, Any] = field(default_factory=dict)


@dataclass(slots=True)
class First:
    """The first write of a kind in a tenant, until it is read back.

    Attributes:
        intent_id: the payment whose rows were sent.
        at: when they were sent last, Unix seconds.
        carried_out: when Halo carried it out last, Unix seconds; None if Halo has not.
        answered: whether the answer to the last write that Halo read has shown the rows as they were sent.
        answered_before: the same for the write before.
        seen: whether one of its rows was read alone, or in its payment's whole list, and shown
            undamaged, after Halo carried it out.
        before: when they were sent the time before.
    """

    intent_id: str
    at: float
    carried_out: float | None = None
    answered: bool = False
    answered_before: bool = False
    seen: bool = False
    before: float = -1.0


@dataclass(slots=True)
class Insert:
    """A row that syncd asked Halo to insert."""

    intent_id: str
    sent_at: float
    asked_at: float


class Watch:
    """Checks the requests and answers of all processes."""

    def __init__(self, world: World, theatre: Theatre) -> None:
        self.world = world
        self.theatre = theatre
        self.complaints: list[Complaint] = []
        self.views: dict[str, View] = {}
        self.acked: dict[str, int] = {}
        self.proven: set[str] = set()
        self.first: dict[bool, First] = {}
        self.read_back: set[bool] = set()
        self.came_late: dict[bool, set[str]] = {False: set(), True: set()}
        self.postponed: dict[int, set[str]] = {}
        self.carried_out_at: dict[int, float] = {}
        self.asked_alone_at: dict[int, float] = {}
        self.unstored = False
        self.left_at: dict[int, float] = {}
        self.last_sent: dict[int, Any] = {}
        self.updates: dict[int, list[tuple[float, str]]] = {}
        self.sends: dict[int, list[tuple[dict[str, Any], int]]] = {}
        self.inserts: dict[int, Insert] = {}
        self.inserted: dict[str, list[int]] = {}
        self.retried_at: dict[str, float] = {}
        self.renewed_at: dict[str, float] = {}
        self.hurt: set[int] = set()
        self.hurt_at = 0.0
        self.update_proven_at = -1.0
        self.dismissed_at: dict[str, float] = {}
        self.jumps: list[float] = []
        self.configured_at = 0.0
        self.said: list[str] = []
        self.answered: set[str] = set()
        self.unread: dict[str, set[str]] = {}
        self.unturned: set[str] = set()
        self.unwritten_since: dict[str, float] = {}
        self.rows_changed: dict[str, list[tuple[float, Any]]] = {}

    def complain(self, check: str, text: str) -> None:
        """Note a broken promise."""
        assert check in CHECKS, check
        if any(c.check == check and c.text == text for c in self.complaints):
            return
        self.complaints.append(Complaint(check, self.world.loop.time(), text))
        self.world.tell(f"!!! {check}: {text}")

    # --- requests and answers ------------------------------------------------------------------------

    def view(self, process: Process) -> View:
        """What a process has seen."""
        return self.views.setdefault(process.name, View())

    def forgot(self, process: Process) -> None:
        """The process may have lost its last events, because its store failed."""
        self.view(process).told.clear()

    def clock_jumped(self, seconds: float) -> None:
        """A host's clock was set."""
        self.jumps.append(seconds)

    def retried(self, done: Sequence[str], deleted: set[str]) -> None:
        """A person retried entries.

        Args:
            done: the entries.
            deleted: the entries about deleted rows: only their payments are treated as new.
        """
        self.renewed(done, deleted)
        for intent_id in done:
            self.retried_at[intent_id] = self.world.now()
            self.dismissed_at.pop(intent_id, None)

    def renewed(self, done: Sequence[str], deleted: set[str]) -> None:
        """A person retries or resyncs payments: those listed because their row was deleted are new again."""
        for intent_id in set(done) & deleted:
            self.renewed_at[intent_id] = self.world.now()

    def dismissed(self, done: Sequence[str]) -> None:
        """A person dismissed these payments."""
        for intent_id in done:
            self.dismissed_at[intent_id] = self.world.now()

    def heard(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """A line of the log."""
        self.said.append(f"{level} {event} {fields}")
        if event == "write_proven" and fields.get("kind") == "update":
            self.update_proven_at = self.world.now()
        intent_id = str(fields.get("intent", ""))
        tried = self.world.now() - self.unwritten_since.get(intent_id, self.world.now())
        alive = {process.name for process in self.theatre.running}
        told = (
            intent_id in self.answered | self.unturned
            or self.unread.get(intent_id, set()) & alive
            or tried + sum(map(abs, self.jumps)) >= UNWRITTEN_SECONDS
        )
        if event == "push_failed" and intent_id and not told:
            # A short outage is not a payment's fault.
            label = self.world.by_intent[intent_id].label
            self.complain("false alarm", f"{label} failed, and Halo has never said a word about it")

    def sent(self, process: Process, side: str, request: Request, left_at: float) -> None:
        """A request of a process arrives at a side; `left_at` is when it left the process."""
        path = request.path
        self.left_at[id(request)] = left_at
        if side == "stripe":
            if request.method != "GET":
                self.complain("reading only", f"{request.method} {path} to Stripe")
            return
        if (request.method, path) in (("GET", "/api/authinfo"), ("POST", "/auth/token")):
            return
        hides = "intent_id" in self.world.halo.shows.lists_hide
        if request.method == "GET" and path.startswith("/api/InvoicePayment/"):
            if not hides:  # else a lookup of a payment's rows also reads rows by their ids
                self.view(process).asked = None
            self.asked_alone_at[int(path.rpartition("/")[2])] = self.world.now()
        if request.method == "GET" and path.startswith(READ_ALONE):
            return  # a write is read back from its row and its invoice
        if path != "/api/InvoicePayment" or request.method not in ("GET", "POST"):
            self.complain("reading only", f"{request.method} {path} to Halo")
            return
        if request.method == "POST":
            self._posted(process, request)
        wanted = request.params().get("intent_id") if request.method == "GET" else None
        if wanted is not None and "page_no" not in request.params():
            # If a row cannot be read by its id, syncd reads the whole list of its payment.
            for row in self.world.halo.rows_of(wanted):
                self.asked_alone_at[row["id"]] = self.world.now()
        if not (hides and wanted == UNKNOWN_INTENT_ID):  # such a lookup also tests the filter
            self.view(process).asked = wanted
        if wanted is not None:
            self.unread.setdefault(wanted, set()).add(process.name)

    def refused(self, process: Process, request: Request) -> None:
        """A side refuses a request unread: the process's last lookup is still valid."""
        insert = self.inserts.pop(id(request), None)
        if insert is not None:
            self.view(process).asked = insert.intent_id
        first = self.first.get(False)
        owners = {self.world.owner(row.get("id")) for row, _ in self.sends.get(id(request), [])}
        if (
            first is not None and first.intent_id in owners
        ):  # its answer before this request is also still valid
            first.answered = first.answered or first.answered_before

    def _posted(self, process: Process, request: Request) -> None:
        posted = [row for row in json.loads(request.body) if isinstance(row, dict)]
        self._check_first(posted)
        notes: list[tuple[dict[str, Any], int]] = []
        for row in posted:
            if "id" in row:
                step = self._update_sent(process, row, self.left_at[id(request)])
                self._check_reading(process, row["id"], self.left_at[id(request)])
            else:
                step = self._insert_sent(process, row, self.left_at[id(request)])
                intent_id = str(row.get("intent_id"))
                asked_at = self.view(process).empty.get(intent_id, 0.0)
                self.inserts[id(request)] = Insert(intent_id, self.world.now(), asked_at)
            notes.append((row, step))
            name = self.world.owner(row["id"]) if "id" in row else str(row.get("intent_id"))
            self.unwritten_since.setdefault(name, self.world.now())
        self.sends[id(request)] = notes

    def _states(self, process: Process, number: object) -> set[str]:
        """The configured states that a number stands for."""
        unset = process.theatre.setting["unset"]
        return {s for s in STATES if self.world.halo.status[s] == number and s not in unset}

    def _reasons(
        self, process: Process, truth: Truth, number: object, what: str, left_at: float
    ) -> int:
        """Whether Stripe ever reported a state with this status; returns the step.

        `left_at`: when the request left the process, which cannot withdraw it.
        """
        label, now = truth.label, self.world.now()
        states = self._states(process, number)
        if not states:
            self.complain("unconfigured", f"{what} of {label} set to {number}")
            return -1
        step = truth.latest(states, now)
        if step < 0:
            self.complain("never true", f"{what} of {label} set to {'/'.join(states)}")
        elif step < self.acked.get(truth.intent_id, -1):
            newer = truth.steps[self.acked[truth.intent_id]].state
            self.complain(
                "older",
                f"{what} of {label} set to {truth.steps[step].state} after Halo took {newer}",
            )
        else:
            told = self.view(process).told.get(truth.intent_id, ())
            newest = max((seen for at, seen in told if at <= left_at), default=-1)
            if step < newest:
                self.complain(
                    "told",
                    f"{what} of {label} set to {truth.steps[step].state}, "
                    f"Stripe had said {truth.steps[newest].state}",
                )
        return step

    def _update_sent(self, process: Process, row: dict[str, Any], left_at: float) -> int:
        number, status = row["id"], row.get("status")
        view = self.view(process)
        stored = self.world.halo.rows.get(number)
        known = stored or {}
        truth = self.world.by_intent.get(self.world.owner(number))
        self._check_columns(process, row, left_at)
        if known.get("status") == status and not set(row) <= TRACE_FIELDS:
            return -1  # this undoes a change of an earlier write
        if number not in view.rows:
            self.complain("blind", f"row {number} was not read by {process.name}")
        elif view.rows[number] == status and view.unanswered.get(number) != status:
            self.complain("blind", f"row {number} was read as {status} and is set to {status}")
        paid = self.world.halo.status["succeeded"]
        if view.rows.get(number) == paid and status != paid:
            self.complain("final left", f"row {number} is set from succeeded to {status}")
        if truth is None:
            if stored is not None:
                self.complain("never true", f"row {number} belongs to no payment of Stripe")
            return -1
        view.unanswered[number] = status
        step = self._reasons(process, truth, status, f"row {number}", left_at)
        self._check_trace(process, truth, row, status)
        # An update that was carried out but not answered is sent again, although it has emptied the row.
        again = self.last_sent.get(number) == status and number in self.world.harmed()
        if status == paid and process.theatre.setting["on_amount_mismatch"] == "hold" and not again:
            self._check_amounts(truth)
        return step

    def _check_first(self, posted: list[dict[str, Any]]) -> None:
        """Until one payment's rows were read back, no other payment's rows may be written."""
        for new in (False, True):
            owners = {
                str(row.get("intent_id")) if new else self.world.owner(row["id"])
                for row in posted
                if ("id" not in row) is new
            }
            if new in self.read_back or not owners:
                continue
            if len(owners) > 1:
                self.complain("two_before_proof", f"rows of {len(owners)} payments in one list")
            first = self.first.get(new)
            if first is not None and first.intent_id in owners:
                first.before, first.at = first.at, self.world.now()
                first.answered_before, first.answered = first.answered, False
                continue
            if first is not None and not self._is_over(first):
                self.complain(
                    "two_before_proof",
                    f"{first.intent_id} was not read back before {sorted(owners)}",
                )
            self.first[new] = First(min(owners), self.world.now())

    def _is_over(self, first: First) -> bool:
        """Whether a first write is finished, so that another payment may be tried.

        What counts is what Halo really did and will do, not what syncd can know of it.
        """
        let = max(
            *self.retried_at.values(), self.configured_at, self.disturbed_at(first.intent_id), -1.0
        )
        if let >= first.at:
            return True
        if any(first.intent_id in owners for owners in self.postponed.values()):
            return False  # a gateway still passes it on
        if first.carried_out is None:
            return True
        # A stop lasts a day from the write that Halo carried out; later refusals do not extend it.
        if self.world.now() - first.carried_out > 20 * HOUR - sum(map(abs, self.jumps)):
            return True
        # If the answer shows the row as sent, but the row differs, that row is sent again. If Halo
        # then fails on that row, it must not delay other payments, because it was read undamaged.
        return first.seen and not first.answered

    def disturbed_at(self, intent_id: str | None) -> float:
        """When others last wrote a payment's rows."""
        truth = self.world.by_intent.get(str(intent_id))
        return -1.0 if truth is None else truth.disturbed_at

    def postpone(self, request: Request) -> None:
        """A gateway delays a request, and passes it on to Halo later."""
        self.postponed[id(request)] = {
            self.world.owner(row["id"]) if "id" in row else str(row.get("intent_id"))
            for row, _ in self.sends.get(id(request), [])
        }

    def _note_first(self, intent_id: str, *, inserted: bool) -> None:
        """Halo carries out a write of the payment that is written first."""
        first = self.first.get(inserted)
        if first is not None and first.intent_id == intent_id:
            first.carried_out, first.seen = self.world.now(), False

    def _note_read_back(self, row: dict[str, Any], at: float) -> None:
        """Check a row, as read at a time, against what the first write of its kind should have stored."""
        number = row.get("id")
        stored = self.world.halo.rows.get(number) if isinstance(number, int) else None
        if stored is None or number not in self.world.originals:
            return
        original = self.world.originals[number]
        right = all(
            is_same(row.get(key), original[key])
            for key in KEPT
            if key in row and original[key] is not None
        )
        if not right or self.asked_alone_at.get(number, -1.0) < self.carried_out_at.get(
            number, 0.0
        ):
            return  # a first write is read back by its own request, not by another one
        owner = self.world.owner(number)
        is_stored = self.last_sent.get(number) == row.get("status")
        for new, late in self.came_late.items():
            first = self.first.get(new)
            mine = first is not None and first.intent_id == owner
            if first is not None and mine and at > (first.carried_out or 0.0):
                first.seen = True
            # A first write that Halo carried out late proves as much as an answered write.
            if is_stored and (mine or owner in late):
                self.read_back.add(new)

    def _check_columns(self, process: Process, row: dict[str, Any], left_at: float) -> None:
        """An update's other columns must have the values that the row has.

        What a person changes while the read or the update is on its way is overwritten: Halo has no
        conditional write. But no process keeps a read row for long.
        """
        number = row["id"]
        original = self.world.originals.get(number)
        read_at = self.view(process).read_at.get(number, 0.0)
        if original is None:
            return
        if self.world.changed_at[number] >= read_at:
            kept = left_at - self.view(process).shown_at.get(number, left_at)
            if kept <= LOOK_SECONDS:
                self.world.undone |= {(number, key): row[key] for key in set(row) & set(KEPT)}
            return
        for key in sorted(set(row) & set(KEPT)):
            undone = self.world.undone.get((number, key), original[key])
            if original[key] is not None and not (
                is_same(row[key], original[key]) or is_same(row[key], undone)
            ):
                self.complain("fields", f"row {number}: {key} {original[key]} is set to {row[key]}")
        foreign = set(row) - set(KEPT) - TRACE_FIELDS - set(self.world.halo.rows.get(number, row))
        if foreign:
            self.complain("fields", f"row {number} sets {sorted(set(row) - TRACE_FIELDS)}")

    def _check_reading(self, process: Process, number: int, left_at: float) -> None:
        """Between a process's read and its write of a row, no other process has written the row."""
        read_at = self.view(process).read_at.get(number, left_at)
        for at, writer in self.updates.setdefault(number, []):
            if writer != process.name and read_at < at < left_at:
                self.complain(
                    "outdated", f"row {number}: {process.name} read it, {writer} wrote it meanwhile"
                )
        self.updates[number].append((left_at, process.name))

    def _check_amounts(self, truth: Truth) -> None:
        """The sum of the rows must match the received amount."""
        received = self.world.stripe.intents[truth.intent_id]["amount_received"]
        sums = [self.world.sum_of_rows(truth)]
        if self.world.now() - truth.disturbed_at < HOUR:
            return  # somebody is changing these rows: it is unknown which sum syncd read
        if truth.decimals is None or not any(fits(s, received, truth.decimals) for s in sums):
            self.complain("amounts", f"{truth.label} received {received}, rows have {sums}")

    def _check_trace(
        self, process: Process, truth: Truth, row: dict[str, Any], status: object
    ) -> None:
        if "webhook_payload" not in row:
            if process.theatre.setting["trace"] and "webhook_received_date" in row:
                self.complain("trace", f"{truth.label}: a date without a payload")
            return
        kept = self.world.halo.rows.get(row.get("id", -1), {}).get("webhook_payload")
        if "invoice_id" in row and row["webhook_payload"] == kept:
            return  # a whole row contains the row's own payload unchanged; this is no trace of syncd
        payload = json.loads(row["webhook_payload"])
        intent = payload.get("data", {}).get("object", {}) if "data" in payload else payload
        if intent.get("id") != truth.intent_id:
            self.complain("trace", f"{truth.label}: a trace of {intent.get('id')}")
        kind = str(payload.get("type", ""))
        if kind:
            state = kind.removeprefix("payment_intent.")
            if self.world.halo.status.get(state) != status:
                self.complain("trace", f"{truth.label}: set to {status}, the trace says {state}")

    def _insert_sent(self, process: Process, row: dict[str, Any], left_at: float) -> int:
        truth = self.world.by_intent.get(str(row.get("intent_id")))
        if truth is None:
            self.complain("wrong row", f"a row for {row.get('intent_id')}, no payment of Stripe")
            return -1
        setting = process.theatre.setting
        just_changed = self.world.now() - self.configured_at < HOUR
        if truth.invoice is None or not (setting["create_missing"] or just_changed):
            self.complain("unasked", f"a row for {truth.label}")
        again = self.renewed_at.get(truth.intent_id, -1.0) > truth.disturbed_at
        if truth.deleted and truth.intent_id in self.proven and not again:
            self.complain("remade", f"a row for {truth.label}, whose row was deleted")
        if truth.intent_id not in self.view(process).empty:
            self.complain("doubled", f"{truth.label}: a row is inserted without having looked")
        elif self.view(process).asked != truth.intent_id:
            self.complain("unlooked", f"{truth.label}: a row is inserted without looking again")
        elif (age := left_at - self.view(process).empty[truth.intent_id]) > LOOK_SECONDS:
            self.complain("unlooked", f"{truth.label}: a row is inserted {age:.0f} s after looking")
        step = self._reasons(process, truth, row.get("status"), "a new row", left_at)
        if step >= 0:
            succeeded = truth.steps[step].state == "succeeded"
            money = self.world.stripe.intents[truth.intent_id]
            minor = money["amount_received"] if succeeded else money["amount"]
            amount = row.get("amount")
            if str(row.get("invoice_id")) != truth.invoice:
                self.complain("wrong row", f"{truth.label}: on invoice {row.get('invoice_id')}")
            if truth.decimals is None or not fits(amount, minor, truth.decimals):
                self.complain("wrong row", f"{truth.label}: {amount} for {minor}")
        self._check_trace(process, truth, row, row.get("status"))
        return step

    def applied(
        self,
        process: Process,
        request: Request,
        writes: list[tuple[int, dict[str, Any], bool]],
        *,
        late: bool,
    ) -> None:
        """Halo carries out a POST."""
        if late:
            self.postponed.pop(id(request), None)
        if not writes:  # refused: there is nothing to read back
            for first in self.first.values():
                if first.at == request.at and first.before >= 0:
                    first.at = first.before
        for number, posted, inserted in writes:
            self.world.tell(
                f"  {process.name} writes row {number} {'new ' if inserted else ''}"
                f"status={posted.get('status')}{' (late)' if late else ''}"
            )
            self.theatre.figures["rows inserted" if inserted else "rows updated"] += 1
            if inserted:
                self.world.remember(number)
            intent_id = self.world.owner(number)
            if number in self.world.harmed():
                self.hurt.add(number)
                self.hurt_at = self.world.now()
            self.last_sent[number] = posted.get("status")
            if late:
                self.came_late[inserted].add(intent_id)
            self.carried_out_at[number] = self.world.now()
            self._note_first(intent_id, inserted=inserted)
            if self.world.halo.rows[number].get("status") != posted.get("status"):
                self.unstored = True
            truth = self.world.by_intent.get(intent_id)
            if late and truth is not None:
                truth.disturbed_at = self.world.now()
            if inserted:
                self._inserted(request, number, intent_id)

    def _inserted(self, request: Request, number: int, intent_id: str) -> None:
        insert = self.inserts.get(id(request))
        others = [
            row
            for row in self.world.halo.rows_of(intent_id)
            if row["id"] != number and row["id"] in self.inserted.get(intent_id, [])
        ]
        label = self.world.by_intent[intent_id].label if intent_id in self.world.by_intent else "?"
        if others:
            self.complain("doubled", f"{label}: rows {[row['id'] for row in others]} and {number}")
        older = [
            row["id"]
            for row in self.world.halo.rows_of(intent_id)
            if row["id"] != number and insert and self.born.get(row["id"], 0.0) < insert.asked_at
        ]
        if older:
            self.complain("doubled", f"{label}: row {number} beside {older}, there when it looked")
        self.inserted.setdefault(intent_id, []).append(number)

    @property
    def born(self) -> dict[int, float]:
        """When each row that syncd did not make was made."""
        return self.world.born

    def delivered(self, process: Process, side: str, request: Request, reply: Reply) -> None:
        """A complete answer reaches the process."""
        self.answered |= {
            self.world.owner(row["id"]) if "id" in row else str(row.get("intent_id"))
            for row, _ in self.sends.get(id(request), [])
        }
        if reply.status >= 300:
            return
        try:
            body = json.loads(reply.body)
        except ValueError:
            return
        if side == "stripe":
            if request.params().get("limit") != "1":  # else it only tests whether Stripe answers
                self._told(process, body)
        elif request.path == "/api/InvoicePayment":
            if request.method == "GET":
                self._shown(process, request, body)
            else:
                self._acknowledged(process, request, body)
        elif request.path.startswith("/api/InvoicePayment/") and isinstance(body, dict):
            number = body.get("id")
            if isinstance(number, int) and "status" in body:
                view = self.view(process)
                view.rows[number] = body["status"]
                view.read_at[number] = self.left_at[id(request)]
                view.shown_at[number] = self.world.now()
                self._note_read_back(body, request.at)

    def _told(self, process: Process, body: Any) -> None:
        if not isinstance(body, dict):
            return
        told, now = self.view(process).told, self.world.now()
        objects = body["data"] if isinstance(body.get("data"), list) else [body]
        for thing in objects:
            if not isinstance(thing, dict):
                continue
            step = self.world.event_step.get(str(thing.get("id")))
            if step is not None:
                told.setdefault(step[0], []).append((now, step[1]))
            truth = self.world.by_intent.get(str(thing.get("id")))
            if truth is not None and truth.steps and thing["status"] != "requires_payment_method":
                latest = truth.latest({thing["status"]}, now)
                told.setdefault(truth.intent_id, []).append((now, latest))

    def _shown(self, process: Process, request: Request, body: Any) -> None:
        rows = body.get("payments") if isinstance(body, dict) else body
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return  # no list of rows: nothing was read, whatever the answer's status
        self.unread.get(request.params().get("intent_id", ""), set()).discard(process.name)
        view = self.view(process)
        wanted = request.params().get("intent_id")
        turned = self.world.halo.paging == "honoured" or request.params().get("page_no") == "1"
        if wanted is not None and not turned:  # Halo shows the same rows again on the next page
            self.unturned.add(wanted)
        for row in rows:
            if wanted is None or self._names(row) == wanted:
                view.rows[row["id"]] = row["status"]
                view.read_at[row["id"]] = self.left_at[id(request)]
                self._note_read_back(row, request.at)
        if wanted is not None and request.params().get("page_no") == "1":
            if any(self._names(row) == wanted for row in rows):
                view.empty.pop(wanted, None)
            else:
                view.empty[wanted] = request.at

    def _names(self, row: dict[str, Any]) -> object:
        """The payment of a row in a list; if lists hide it, the payment of the row itself."""
        if "intent_id" in self.world.halo.shows.lists_hide:
            return self.world.halo.rows.get(row["id"], {}).get("intent_id")
        return row.get("intent_id")

    def _acknowledged(self, process: Process, request: Request, body: Any) -> None:
        rows = body if isinstance(body, list) else [body]
        shown = {
            row["id"]: row.get("status") for row in rows if isinstance(row, dict) and "id" in row
        }
        statuses = {
            row.get("intent_id"): row.get("status") for row in rows if isinstance(row, dict)
        }
        for posted, step in self.sends.get(id(request), []):
            if "id" in posted:
                proven = shown.get(posted["id"]) == posted.get("status")
                if posted["id"] in shown:
                    self.view(process).unanswered.pop(posted["id"], None)
                intent_id: Any = self.world.owner(posted["id"])
                first = self.first.get(False)
                if proven and first is not None and first.intent_id == intent_id:
                    first.answered = True
                proven &= self.world.halo.rows.get(posted["id"], {}).get("status") == posted.get(
                    "status"
                )
            else:
                intent_id = posted.get("intent_id")
                proven = statuses.get(intent_id) == posted.get("status")
            if isinstance(intent_id, str):
                self.unwritten_since.pop(intent_id, None)
            if proven and isinstance(intent_id, str):
                self.acked[intent_id] = max(self.acked.get(intent_id, -1), step)
                self.proven.add(intent_id)


def fits(amount: object, minor: int, decimals: int) -> bool:
    """Whether an amount in major units equals this many minor units."""
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        return False
    exact = Decimal(minor).scaleb(-decimals)
    return abs(Decimal(repr(amount)) - exact) < Decimal(1).scaleb(-decimals - 3)


def busiest(times: list[float], period: float) -> int:
    """The most requests in any window of this length."""
    window: deque[float] = deque()
    most = 0
    for at in sorted(times):
        window.append(at)
        while window[0] <= at - period:
            window.popleft()
        most = max(most, len(window))
    return most
