"""The checks of `/readyz` and `/livez`.

Whether both sides and the database work, which role the service has, and whether a step hangs.
"""

from syncd.core.errors import Side
from syncd.monitor.health import Check, judge_step
from syncd.monitor.status import stopped_check
from syncd.service.clock import Ages
from syncd.service.leadership import Leadership, Role
from syncd.store.store import Store
from syncd.sync.engine import Engine

HANG_SECONDS = 240.0
"""After so many seconds without progress a step hangs; systemd's watchdog restarts syncd."""

SILENT_SECONDS = 2.0
"""After so many seconds without an answer, the database does not work, unless a query waits for a lock."""


def may_be_silent(store: Store) -> bool:
    """Whether a query has waited so long that `silence` asks the database, for 1.5 seconds at most."""
    return store.housekeeping.waiting_seconds() >= SILENT_SECONDS


def silence(store: Store) -> str | None:
    """What is wrong if the database answers nobody while a query waits; None if all is well."""
    seconds = store.housekeeping.silent_seconds(SILENT_SECONDS)
    if not seconds:
        return None
    return (
        f"The database has not answered for {seconds:.0f} s. syncd writes nothing to Halo until the "
        "database answers. Check that the server runs and that this host reaches it."
    )


def live_check(idle_seconds: float) -> Check:
    """Whether no step hangs; `idle_seconds` is the time without progress."""
    hangs = idle_seconds >= HANG_SECONDS
    text = f"a step has hung for {idle_seconds:.0f} s" if hangs else "no step hangs"
    return Check(not hangs, text)


def ready_checks(
    engine: Engine, lead: Leadership | None, started: float, ages: Ages, stale_seconds: float
) -> dict[str, Check]:
    """The checks by name; a service on standby asks neither Stripe nor Halo.

    Args:
        engine: the service's engine.
        lead: the service's role; None if only one service can run.
        started: since when the service works, Unix seconds.
        ages: how long ago each step last worked.
        stale_seconds: the longest time without success that is not a failure.
    """
    role, trouble = {}, engine.store_trouble
    if lead is not None:
        role = {"role": lead.check()}
        # A leader that waited for the database too long has not noticed yet that its lease has ended.
        trouble = lead.trouble or (trouble if lead.role is Role.LEADING else None)
    trouble = trouble or silence(engine.store)
    store = {"store": Check(trouble is None, trouble or "works", reason=trouble)}
    if lead is not None and not lead.leads:
        return role | store

    def worked(step: str, side: Side) -> Check:
        last, reason = engine.last.get(step), engine.links[side].reason
        since = started if last is None else last
        now = since + ages.seconds("start" if last is None else step, since)
        return judge_step(step, last, reason, now, stale_seconds, started=started)

    return {
        **role,
        "stripe": worked("poll", Side.STRIPE),
        "halo": worked("push", Side.HALO),
        **stopped_check(list(engine.pusher.tenant.known.values())),
        **store,
    }
