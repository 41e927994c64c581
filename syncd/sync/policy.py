"""The settings of pushes, and the holds that a changed configuration releases."""

import hashlib
from dataclasses import dataclass

from syncd.config.model import Config
from syncd.core.holds import LiftedBy, lifted_by
from syncd.core.records import DuePayment
from syncd.core.rows import NewRow, RowChange, Trace
from syncd.core.rules.decisions import Create, Policy, Update
from syncd.store.coordination import CONFIG, STRIPE_MODE
from syncd.store.store import Store

RELEASING_KEYS = frozenset(str(key) for key in LiftedBy)
"""The configuration keys whose change releases holds."""


@dataclass(frozen=True, slots=True)
class PushSettings:
    """The settings of pushes.

    Attributes:
        policy: the configured status numbers and rules.
        batch: rows in one request.
        trace: whether to leave the event in the row, as Halo's webhook would.
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
        """The trace for a payment's rows, written at `now` (Unix seconds); None for no trace."""
        payload = due.payment.current.trace
        return None if payload is None or not self.trace else Trace(payload, now)


def write_settings(config: Config) -> str:
    """A short form of the settings that concern writes: syncd retries a write if they change."""
    halo = config.halo
    text = repr(
        (halo.url, halo.client_id, halo.scope, halo.status, halo.new_row, config.push.trace)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def push_settings(config: Config) -> PushSettings:
    """The settings of pushes in the configuration."""
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
    """Decide again about payments held under another configuration. Returns how many payments.

    Args:
        config: the present configuration.
        store: has the holds, and the configuration under which they were decided.
        now: Unix seconds.
        reloaded: decide again about all holds that a configuration can lift: a push with the old
            configuration may still have run when another process recorded the new one as applied.
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
