"""Faults planted into the program on purpose, as a proof that the simulator notices them.

Each fault changes one place of the running program, never the files. If no story catches a fault within
SEEDS_MAX seeds, that is a gap in the simulator, not a success of the program.
"""

from __future__ import annotations

import contextlib
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from syncd.clients import webhook_payload as traces
from syncd.clients.halo import parse as halo_reading
from syncd.clients.halo import sink as halo_sink
from syncd.core import money, payments
from syncd.core.rules import blame as troubles
from syncd.core.rules import decisions
from syncd.core.rules import proof as proving
from syncd.service import leadership
from syncd.store import coordination as coordination_store
from syncd.store import store
from syncd.store import transitions as payment_transitions
from syncd.store.db import leases
from syncd.sync import engine, lease
from syncd.sync.pull import listing, poll
from syncd.sync.push import guard
from syncd.sync.push import insert as inserting
from syncd.sync.push import update as updating
from syncd.sync.push.proof import new_row, prover, reading, tenant, verify
from tests.simulation.story import (
    COVERED_FROM,
    LONG_FAILURES_FROM,
    PAGES_FROM,
    PROOFS_FROM,
    SERVERS_FROM,
    SHOWINGS_FROM,
    draw,
)
from tests.simulation.theatre import play

SEEDS_MAX = 1_000

FRESH_FROM = 11 * 10**10
"""Stories of all kinds but the newest: the first seed for faults that older stories do not show."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One fault.

    Attributes:
        name: for the table.
        where: the function that is changed; for a method, its class's attribute.
        old, new: a piece of its source, and its replacement.
        more: further changes, if another safeguard would make up for the first.
        first: the first seed to try: stories from `PROOFS_FROM` on are made for first writes.
    """

    name: str
    where: Callable[[], Any]
    old: str
    new: str
    more: tuple[Change, ...] = ()
    first: int = 0


Change = tuple[Callable[[], Any], str, str]
"""A function, a piece of its source, and its replacement."""


def _in(owner: Any, name: str) -> Callable[[], Any]:
    return lambda: inspect.getattr_static(owner, name)


_NO_LEASE: tuple[Change, ...] = (
    (_in(lease.Lease, "take"), "        taken = ", "        return\n        taken = "),
    (
        _in(lease.Lease, "renew"),
        "        if not self.store",
        "        return\n        if not self.store",
    ),
)
"""A process without the lease is stopped when it renews the lease: both functions must be changed."""

PLANTED = (
    Planted("an old event wins", _in(payments, "_rank"), "        seen.at,", "        -seen.at,"),
    Planted(
        "the watermark moves before the last page", _in(poll.Poller, "poll"),
        "newest = 0",
        "newest = 0\n        self.store.write(WATERMARK, clock)",
        first=PAGES_FROM,
    ),
    Planted(
        "the watermark follows our own clock", _in(poll.Poller, "poll"),
        "reached = _reached(clock, newest, started)", "reached = started",
    ),
    Planted(
        "the overlap is dropped", _in(poll.Poller, "poll"),
        "(mark - self.reach.overlap_seconds)", "mark",
    ),
    Planted(
        "only the first page of events is read", _in(poll.Poller, "poll"),
        "lambda page: page.cursor,", "lambda page: None,",
    ),
    Planted(
        "event ids are marked as seen before their words are settled", _in(store.Store, "take_in"),
        "            words = [", "        with writing(self._engine) as connection:\n            words = [",
    ),
    Planted(
        "a doubt after events of one second is ignored", _in(payments.Payment, "_doubt_at"),
        "seen.at >= current.at", "seen.at > current.at",
    ),
    Planted(
        "a gap isn't filled", _in(poll.Poller, "_fill_gap"),
        "        listed = await", "        return\n        listed = await",
    ),
    Planted(
        "the acknowledgement is recorded before the POST", _in(updating.Updater, "_send"),
        "        try:\n            answer",
        "        self.store.record([Outcome(w.intent_id, state_of(w), Condition.IN_STEP,"
        " acked=True, rows=u.rows) for w, u in batch], self.now())\n        try:\n            answer",
    ),
    Planted(
        "a 200 with an error counts as an acknowledgement", _in(updating.Updater, "_updated"),
        "        if proven:", "        if True:",
    ),
    Planted(
        "an insert is retried blindly", _in(halo_sink.HaloSink, "insert"),
        "repeatable=False", "repeatable=True",
    ),
    Planted(
        "an insert doesn't look again first", _in(inserting.Inserter, "_is_missing"),
        "rows = await self.sink.rows_of(due.intent_id)", "rows: list[Row] = []",
    ),
    Planted(
        "an insert goes out on an old look", _in(guard.InsertGuard, "_allows_now"),
        "if max(ages) > LOOK_SECONDS_MAX:", "if False:",
    ),
    Planted(
        "an insert in doubt isn't waited for", _in(inserting.Inserter, "insert"),
        "if left > 0:", "if False:",
    ),
    Planted(
        "a new row that was answered but isn't shown is sent again at once",
        _in(inserting.Inserter, "_lagging"),
        "seconds = INSERT_DOUBT_SECONDS if named else LAG_SECONDS", "seconds = 0.0",
    ),
    Planted(
        "neither the lease nor the store's fence keeps two processes from one insert",
        _in(store.Store, "intend_insert"), "return intended", "return True",
        more=_NO_LEASE,
    ),
    Planted(
        "a process wipes out another's doubt about an insert", _in(payment_transitions, "_update_by_id"),
        "for column in kept", "for column in ()",
    ),
    Planted(
        "the link's trouble spends a payment's attempts", _in(inserting.Inserter, "_insert_failed"),
        "self.store.record([due_again(due, now)], now)",
        "self.store.record([due_again(due, now, attempts=1)], now)",
    ),
    Planted(
        "whatever Halo fails on is the payment's fault", _in(troubles.RequestFailures, "blamed"),
        "blamed = [failure for failure in self.found if failure.others_work]",
        "blamed = list(self.found)",
    ),
    Planted(
        "a new row that didn't show is never tried again", _in(inserting.Inserter, "_is_missing"),
        " and due.condition is not Condition.FAILED", "", first=COVERED_FROM,
    ),
    Planted(
        "halving takes the good half for done", _in(updating.Updater, "_send_parts"),
        "            await self.send(batch[middle:])\n",
        "            self.store.record(as_planned([w for w, _ in batch[middle:]]), self.now())\n",
        first=COVERED_FROM,
    ),
    Planted(
        "a row that Halo refuses counts as done", _in(updating.Updater, "_send_parts"),
        "self.store.record([self.outcomes.failed(batch[0][0], str(error))], self.now())",
        "self.store.record(as_planned([batch[0][0]]), self.now())",
        first=FRESH_FROM,
    ),
    Planted(
        "the lease isn't taken", _in(lease.Lease, "take"), "        taken = ",
        "        return\n        taken = ", more=_NO_LEASE[1:],
        first=FRESH_FROM,
    ),
    Planted(
        "a lease that was lost is silently taken again", _in(lease.Lease, "renew"),
        "if not self.store.coordination.renew_lease(self.name, self.me, self.now(), self.seconds):",
        "self.take()\n        if False:", first=COVERED_FROM,
    ),
    Planted(
        "a state without a number is guessed", _in(decisions, "decide"),
        "        return _not_configured(current, current.state, current.state)\n    if any",
        "        number = max(policy.numbers.values(), default=0) + 1\n    if any",
    ),
    Planted(
        "a final state is left", _in(decisions, "_held_for_success"),
        "if all(row.status != paid for row in rows):", "if True:",
    ),
    Planted(
        "amounts aren't compared", _in(decisions, "_held_for_amount"),
        "if policy.push_on_mismatch:", "if True:",
    ),
    Planted(
        "what was asked for is compared, not what arrived", _in(payments.Observation, "received"),
        "Money(self.amount_received, self.currency)", "Money(self.amount or 0, self.currency)",
    ),
    Planted(
        "every currency has cents", _in(money.Money, "decimals"),
        "        if code in _NO_DECIMALS:\n            return 0\n", "        return 2\n",
    ),
    Planted(
        "a row that was deleted is forgotten", _in(decisions, "_decide_without_rows"),
        "if acknowledged:", "if False:",
    ),
    Planted(
        "rows of other payments are taken along", _in(halo_sink.HaloSink, "rows_of"),
        "        if row.intent_id == intent_id:\n                    found[row.id] = row\n                elif",
        "        if True:\n                    found[row.id] = row\n                elif",
    ),
    Planted(
        "a part of Halo's rows passes for all", _in(halo_reading, "is_whole"),
        "    if page.total", "    return True\n    if page.total",
    ),
    Planted(
        "the sweep doesn't read Halo's rows back", _in(engine.Engine, "read_back"),
        "        conditions =", "        return 0\n        conditions =",
    ),
    Planted(
        "the sweep doesn't ask for old payments", _in(listing.IntentListing, "list_and_reread"),
        "        if older:", "        older = []\n        if older:",
    ),
    Planted(
        "a new state of a held payment isn't due", _in(payment_transitions, "_reports_the_same"),
        'row["state"] == payment.current.state',
        '(row["state"] == payment.current.state or row["condition"] == "held")',
    ),
    Planted(
        "the window of requests is forgotten at a restart",
        _in(coordination_store.CoordinationStore, "take_slots"),
        "counts = _rebased_counts(connection, side, window, at)",
        "counts = {b: n for b, n in _rebased_counts(connection, side, window, at).items() if b >= "
        "self.__dict__.setdefault('_since', at) - 5}",
        first=FRESH_FROM,
    ),
    Planted(
        "the client_secret stays in the trace", _in(traces, "trace_of"),
        "text = _as_json(pruned)", "text = json.dumps(raw)",
    ),
    Planted(
        "a link inside the trace keeps the secret", _in(traces, "_as_json"),
        'without_secrets(json.dumps(value, separators=(",", ":")))', "json.dumps(value)",
    ),
    Planted(
        "the proof is skipped", _in(prover.Prover, "prove_first"),
        "if not updates or self.tenant.proof(WriteKind.UPDATE):", "if True:",
    ),
    Planted(
        "a side effect is ignored", _in(proving.Comparison, "is_right"),
        "return not self.not_stored and not self.changed", "return not self.not_stored",
    ),
    Planted(
        "whole rows come from a stale reading", _in(reading.RowReader, "of_payment"),
        "before = await self.sink.whole_row(due.intent_id, row)",
        "known = globals().setdefault('_stale', {})\n            key = (due.intent_id, row)\n"
        "            before = known.get(key) or await self.sink.whole_row(*key)\n"
        "            known[key] = before", first=PROOFS_FROM,
    ),
    Planted(
        "the trial isn't kept before it is sent", _in(prover.Prover, "_sent"),
        "self.tenant.trial_notes(", "(lambda _trial: {})(",
        first=PROOFS_FROM,
    ),
    Planted(
        "a stop is forgotten", _in(tenant.TenantWrites, "stop"),
        "**self._noted(TROUBLES[kind], trouble),", "TROUBLES[kind].name: None,",
    ),
    Planted(
        "a write that Halo does not store counts as proven", _in(proving.Comparison, "is_right"),
        "return not self.not_stored and not self.changed", "return not self.changed",
    ),
    Planted(
        "later answers aren't compared", _in(verify.Verifier, "odd_rows"),
        "        shown = {row.id: row for row in answer.rows}",
        "        return {}\n        shown = {row.id: row for row in answer.rows}",
    ),
    Planted(
        "an update without an answer isn't compared", _in(verify.Verifier, "check_unanswered"),
        "        rows = self.tenant.unchecked()", "        rows = ()", first=LONG_FAILURES_FROM,
    ),
    Planted(
        "a first update that may come late is forgotten", _in(prover.Prover, "resume"),
        "and self.waiting_seconds() > 0:", "and False:", first=PROOFS_FROM,
    ),
    Planted(
        "the second new row goes before the first is proven",
        _in(new_row.NewRowProver, "is_unproven"),
        "return self.tenant.proof(WriteKind.INSERT) is None", "return False",
    ),
    Planted(
        "the first new row isn't noted before it is sent", _in(inserting.Inserter, "_first_notes"),
        "if not self.prover.is_unproven():", "if True:", first=PROOFS_FROM,
    ),
    Planted(
        "the fence isn't checked", lambda: leases.check_fence,
        "if fence is None:", "if True:", first=SERVERS_FROM,
        # Renewing a lease also shows the loss.
        more=((_in(lease.Lease, "renew"), "        if not self.store", "        if None is self.store"),),
    ),
    Planted(
        "leases go by the host's own clock", _in(coordination_store.CoordinationStore, "take_lease"),
        "at = self.clock(connection, now)", "at = now", first=SERVERS_FROM,
    ),
    Planted(
        "a standby takes over without waiting", _in(leadership.Leadership, "_is_free"),
        "if until > at + LEASE_SECONDS_MAX:", "if True:", first=SERVERS_FROM,
    ),
    Planted(
        "the filter isn't proven where lists hide payments", _in(halo_sink.HaloSink, "_filters"),
        "if again or not self._filter_works:", "self._filter_works = True\n        if False:",
        first=SHOWINGS_FROM,
    ),
    Planted(
        "a harmed row is forgotten", _in(tenant.TenantWrites, "_harm"),
        "        trouble = self.trouble(kind)", "        return {}\n        trouble = None",
    ),
)  # fmt: skip


@contextlib.contextmanager
def planted(fault: Planted) -> Iterator[None]:
    """Change the program while the context lasts."""
    with contextlib.ExitStack() as stack:
        for change in ((fault.where, fault.old, fault.new), *fault.more):
            stack.enter_context(_changed(fault.name, *change))
        yield


@contextlib.contextmanager
def _changed(name: str, where: Callable[[], Any], old: str, new: str) -> Iterator[None]:
    found = where()
    plain: Any = found.fget if isinstance(found, property) else found
    function = inspect.unwrap(plain)
    assert isinstance(function, types.FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    # The pieces are written with the indentation of their file; remove the same amount here.
    indent = len(inspect.getsource(function)) and len(
        inspect.getsource(function).splitlines()[0]
    ) - len(source.splitlines()[0])
    old, new = _dedent(old, indent), _dedent(new, indent)
    if source.count(old) != 1:
        message = f"{name}: {old!r} stands {source.count(old)} times in {function.__name__}"
        raise LookupError(message)
    lines = source.replace(old, new).splitlines()
    while lines[0].startswith("@"):
        lines.pop(0)
    # `__class__` and the like are not used; postponed annotations are not evaluated.
    code = "from __future__ import annotations\n" + "\n".join(lines)
    names: dict[str, Any] = {}
    exec(compile(code, f"<planted: {name}>", "exec"), function.__globals__, names)  # noqa: S102  # our own text
    before = function.__code__
    # What a cached function has made before would hide the fault, and what it makes now would remain.
    forget = getattr(plain, "cache_clear", lambda: None)
    forget()
    function.__code__ = names[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = before
        forget()


def _dedent(text: str, indent: int) -> str:
    return (
        "\n".join(
            line[indent:] if number and line[:indent].isspace() else line
            for number, line in enumerate(("\n" + text).split("\n"))
        )[1:]
        if indent
        else text
    )


@dataclass(frozen=True, slots=True)
class Caught:
    """The story that caught a fault; None if none did."""

    seed: int | None
    checks: tuple[str, ...]
    text: str


def catch(index: int, seeds: int = SEEDS_MAX) -> Caught:
    """Find a seed that catches a planted fault."""
    first = PLANTED[index].first
    for seed in range(first, first + seeds):
        with planted(PLANTED[index]):
            found = play(draw(seed)).complaints
        if found:
            # Complaints about the unchanged program in this story do not count.
            known = {(complaint.check, complaint.text) for complaint in play(draw(seed)).complaints}
            new = [c for c in found if (c.check, c.text) not in known]
            if new:
                return Caught(seed, tuple(sorted({c.check for c in new})), new[0].text)
    return Caught(None, (), "")
