"""How to push, as the configuration says, and which holds a changed configuration releases."""

import hashlib
from dataclasses import dataclass

from syncd.config.model import Config
from syncd.core.holds import LiftedBy, lifted_by
from syncd.core.records import DuePayment
from syncd.core.rows import NewRow, RowChange, Trace
from syncd.core.rules.decisions import Create, Policy, Update
from syncd.store.coordination import CONFIG, STRIPE_MODE
from syncd.store.store import Store


@dataclass(frozen=True, slots=True)
class PushSettings:
    """How to push.

    Attributes:
        policy: the configured status numbers and rules.
        batch: rows in one request.
        trace: whether to leave in the row what a webhook would have left.
    """

    policy: Policy
    batch: int
    trace: bool

    def changed_rows(self, due: DuePayment, update: Update, now: float) -> list[RowChange]:
        """A payment's rows with their new status, written at `now` (Unix seconds)."""
        trace = self.trace_of(due, now)
        return [RowChange(row, update.status, trace) for row in update.rows]

    def new_row(self, due: DuePayment, create: Create, now: float) -> NewRow:
        """The payment's missing row, written at `now` (Unix seconds)."""
        current = due.payment.current
        return NewRow(
            intent_id=current.intent_id,
            invoice_id=create.invoice_id,
            amount=create.amount,
            status=create.status,
            at=current.at,
            created=current.created,
            trace=self.trace_of(due, now),
        )

    def trace_of(self, due: DuePayment, now: float) -> Trace | None:
        """What to leave in a payment's rows, written at `now` (Unix seconds); None for nothing."""
        payload = due.payment.current.trace
        return None if payload is None or not self.trace else Trace(payload, now)


def write_settings(config: Config) -> str:
    """What the configuration says of writing, in short: a change is a reason to try a write again."""
    halo = config.halo
    text = repr(
        (halo.url, halo.client_id, halo.scope, halo.status, halo.new_row, config.push.trace)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def push_settings(config: Config) -> PushSettings:
    """What the configuration says of pushing."""
    return PushSettings(
        policy=Policy(
            numbers=config.halo.status.numbers,
            create_missing=config.push.create_missing,
            push_on_mismatch=config.push.on_amount_mismatch == "push",
        ),
        batch=config.push.batch,
        trace=config.push.trace,
    )


def release_holds(config: Config, store: Store, now: float, *, reloaded: bool = False) -> int:
    """Decide again what was held under another configuration. Returns how many payments.

    Args:
        config: what holds now.
        store: has the holds, and the configuration by which they were decided.
        now: Unix seconds.
        reloaded: decide again all holds that a configuration can lift: a push by the old one may have
            been under way while another process took the new one for dealt with.
    """
    settings = push_settings(config)
    current = {
        LiftedBy.STATUS_NUMBERS: repr(
            sorted((str(k), v) for k, v in settings.policy.numbers.items())
        ),
        LiftedBy.ON_AMOUNT_MISMATCH: repr(settings.policy.push_on_mismatch),
        LiftedBy.CREATE_MISSING: repr(settings.policy.create_missing),
    }
    if store.read(STRIPE_MODE) != config.mode:
        store.write(STRIPE_MODE, config.mode)  # for commands, which have no key
    changed = [
        key for key, value in current.items() if reloaded or store.read(CONFIG[key]) != value
    ]
    if not changed:
        return 0
    released = store.people.release(lifted_by(*changed), now)
    store.write_notes({CONFIG[key].name: value for key, value in current.items()})
    return released
