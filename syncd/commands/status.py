"""``syncd status``: where it stands."""

import json
import time
from typing import Any

import typer

from syncd import __version__
from syncd.commands.shared import (
    EXIT_ATTENTION,
    ConfigOption,
    JsonOption,
    existing,
    failures_said,
    iso,
    offline,
)
from syncd.config import Config
from syncd.failures import Side
from syncd.gate import halo_window, stripe_window
from syncd.lease import describe
from syncd.progress import table
from syncd.store import Store


def status(
    context: typer.Context, config: ConfigOption = None, *, as_json: JsonOption = False
) -> None:
    """Where it stands: the last poll, what waits, what needs attention, what is left of both limits.

    Example: syncd status --json
    """
    with failures_said():
        loaded = offline(config or context.obj)
        with existing(loaded) as store:
            read = _status(loaded, store)
    if as_json:
        typer.echo(json.dumps(read, indent=2))
    else:
        _print_status(read)
    raise typer.Exit(EXIT_ATTENTION if read["attention"] else 0)


def _status(config: Config, store: Store) -> dict[str, Any]:
    now, notes = time.time(), store.notes()
    holder = store.holder("push")
    halo, stripe = halo_window(config.halo.rate_limit), stripe_window(config.stripe.read_budget)
    backfill = json.loads(notes["backfill"]) if "backfill" in notes else None
    return {
        "version": __version__,
        "stripe_mode": config.stripe.mode or None,
        "halo_url": config.halo.url,
        "watermark": iso(notes.get("watermark")),
        "last_poll": iso(notes.get("last_poll")),
        "last_push": iso(notes.get("last_push")),
        "last_sweep": iso(notes.get("last_sweep")),
        "payments": {str(name): number for name, number in store.conditions().items()},
        "due": store.due_count(now),
        "attention": store.attention_count(),
        "refunds_and_disputes": store.reversal_counts(),
        "links": {
            str(side): json.loads(notes[f"link {side}"]) if f"link {side}" in notes else None
            for side in Side
        },
        "requests_left": {
            "stripe": stripe.left(store.counts(Side.STRIPE), now),
            "halo": halo.left(store.counts(Side.HALO), now),
        },
        "pushing": describe(holder[0]) if holder and holder[1] > now else None,
        "gap": json.loads(notes["gap"]) if "gap" in notes else None,
        "unfinished_backfill": backfill["asked"] if backfill else None,
    }


def _print_status(read: dict[str, Any]) -> None:
    rows: list[tuple[str, object]] = [
        ("Stripe", f"{read['stripe_mode'] or 'any'} mode, {_link(read['links']['stripe'])}"),
        ("Halo", f"{read['halo_url']}, {_link(read['links']['halo'])}"),
        ("last poll", read["last_poll"] or "never"),
        ("read up to", read["watermark"] or "nothing yet"),
        ("last push", read["last_push"] or "never"),
        ("last sweep", read["last_sweep"] or "never"),
        ("pushing now", read["pushing"] or "nobody"),
        (
            "requests left",
            "Stripe {stripe} (30 days), Halo {halo} (5 minutes)".format(**read["requests_left"]),
        ),
    ]
    if read["gap"]:
        rows.append(("gap filled", f"{iso(read['gap']['from'])} to {iso(read['gap']['to'])}"))
    if read["unfinished_backfill"]:
        rows.append(("unfinished", f"syncd --backfill {read['unfinished_backfill']}"))
    rows += [(f"payments {name}", number) for name, number in read["payments"].items() if number]
    reversals = read["refunds_and_disputes"]
    if any(reversals.values()):
        told = "{of_halos} of Halo's payments, {of_others} of others".format(**reversals)
        rows.append(("refunds, disputes", told))
    rows.append(("need attention", read["attention"]))
    table("syncd", ("", ""), rows)


def _link(link: dict[str, Any] | None) -> str:
    return "ok" if link is None else f"FAILING since {iso(link['since'])}: {link['reason']}"
