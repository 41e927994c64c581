"""What the configuration says about pushing, and which holds a changed configuration releases."""

from collections.abc import Mapping

from syncd.config.model import Config
from syncd.core.decisions import Policy
from syncd.core.holds import RELEASED_BY
from syncd.store.store import Store
from syncd.sync.push.payload import Ways


def ways_of(config: Config) -> Ways:
    """What the configuration says of pushing."""
    new_row = config.halo.new_row
    fields: Mapping[str, int | None] = {"method": new_row.method, "module_id": new_row.module_id}
    return Ways(
        policy=Policy(
            numbers=config.halo.status.numbers,
            create_missing=config.push.create_missing,
            push_on_mismatch=config.push.on_amount_mismatch == "push",
        ),
        batch=config.push.batch,
        trace=config.push.trace,
        new_row={key: value for key, value in fields.items() if value is not None},
    )


def release_holds(config: Config, store: Store, now: float, *, reloaded: bool = False) -> int:
    """Decide again what was held under another configuration. Returns how many payments.

    Args:
        config: what holds now.
        store: where the holds stand, and the configuration they were decided under.
        now: Unix seconds.
        reloaded: decide again whatever a configuration can free: a push by the old one may have
            been under way while another process took the new one for dealt with.
    """
    ways = ways_of(config)
    current = {
        "halo.status": repr(sorted((str(k), v) for k, v in ways.policy.numbers.items())),
        "push.on_amount_mismatch": repr(ways.policy.push_on_mismatch),
        "push.create_missing": repr(ways.policy.create_missing),
    }
    noted = store.notes()
    if noted.get("stripe_mode") != config.mode:
        store.write_notes({"stripe_mode": config.mode})  # for commands, which have no key
    codes = [
        code
        for key, value in current.items()
        if reloaded or noted.get(f"config {key}") != value
        for code in RELEASED_BY[key]
    ]
    if not codes:
        return 0
    released = store.people.release(codes, now)
    store.write_notes({f"config {key}": value for key, value in current.items()})
    return released
