"""``syncd status``: where it stands; and which payments aren't Halo's."""

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from syncd import __version__
from syncd.cli.shared import (
    EXIT_ATTENTION,
    EXIT_UNAVAILABLE,
    ConfigOption,
    JsonOption,
    existing,
    failures_said,
    mode_of,
    offline,
)
from syncd.cli.terminal import aligned, table, width_of_terminal
from syncd.clients.throttle import halo_window, stripe_window
from syncd.config.model import Config
from syncd.core.errors import Side
from syncd.core.money import Money
from syncd.core.records import Condition, Elsewhere
from syncd.monitor.health import worked
from syncd.store.store import Store
from syncd.sync.lease import describe
from syncd.text.timestamps import day, iso, iso_or_none
from syncd.text.wording import STANDS, counted, needing

STEPS = {Side.STRIPE: "poll", Side.HALO: "push"}
"""Which step shows that a side works."""

LISTED_MAX = 10_000
"""So many payments that aren't Halo's are listed, the newest; the rest is counted."""


def status(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    unmatched: Annotated[
        bool,
        typer.Option("--unmatched", help="List the payments that Halo has no row for, instead."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Where it stands: the last poll, what waits, what needs attention, what is left of both limits.

    Example: syncd status --json
    """
    with failures_said():
        loaded = offline(config or context.obj)
        with existing(loaded) as store:
            if unmatched:
                _list_unmatched(store, as_json=as_json)
                return
            read = _status(loaded, store)
    if as_json:
        typer.echo(json.dumps(read, indent=2))
    else:
        _print_status(read)
    raise typer.Exit(_exit_code(read))


def _exit_code(read: dict[str, Any]) -> int:
    """By what is shown: a side that fails, then what needs a person, a service that stands still included."""
    if any(link is not None for link in read["links"].values()):
        return EXIT_UNAVAILABLE
    stale = any(_begun(read, side) and not read["checks"][side]["ok"] for side in STEPS)
    return EXIT_ATTENTION if read["attention"] or stale else 0


def _status(config: Config, store: Store) -> dict[str, Any]:
    now, notes = time.time(), store.notes()
    holder = store.coordination.holder("push")
    halo, stripe = halo_window(config.halo.rate_limit), stripe_window(config.stripe.read_budget)
    backfill = json.loads(notes["backfill"]) if "backfill" in notes else None
    attention = store.people.attention_counts()
    links = {side: json.loads(notes.get(f"link {side}", "null")) for side in Side}
    return {
        "version": __version__,
        "stripe_mode": mode_of(config, store),
        "halo_url": config.halo.url,
        "watermark": iso_or_none(notes.get("watermark")),
        "last_poll": iso_or_none(notes.get("last_poll")),
        "last_push": iso_or_none(notes.get("last_push")),
        "last_sweep": iso_or_none(notes.get("last_sweep")),
        "payments": {str(name): number for name, number in store.people.conditions().items()},
        "due": store.due_count(now),
        "attention": sum(attention.values()),
        "attention_by_kind": attention,
        "refunds_and_disputes": store.reversals.counts(),
        "links": {str(side): link for side, link in links.items()},
        "checks": {
            str(side): _check(STEPS[side], links[side], notes, now, config.stale_seconds)
            for side in Side
        },
        "requests_left": {
            "stripe": stripe.left(store.coordination.counts(Side.STRIPE), now),
            "halo": halo.left(store.coordination.counts(Side.HALO), now),
        },
        "pushing": describe(holder[0]) if holder and holder[1] > now else None,
        "gap": json.loads(notes["gap"]) if "gap" in notes else None,
        "unfinished_backfill": backfill["asked"] if backfill else None,
    }


def _check(
    step: str, link: dict[str, Any] | None, notes: dict[str, str], now: float, stale_seconds: float
) -> dict[str, Any]:
    """The same judgement as `/readyz`, by what the service has noted."""
    last = notes.get(f"last_{step}")
    reason = link["reason"] if link else None
    check = worked(step, float(last) if last else None, reason, now, stale_seconds)
    return {"ok": check.ok, "text": check.text}


def _print_status(read: dict[str, Any]) -> None:
    mode = f"{read['stripe_mode']} mode" if read["stripe_mode"] else "mode not known yet"
    rows: list[tuple[str, object]] = [
        ("Stripe", f"{mode}, {_side(read, 'stripe')}"),
        ("Halo", f"{read['halo_url']}, {_side(read, 'halo')}"),
        ("Last poll", read["last_poll"] or "not yet"),
        ("Stripe's events read up to", read["watermark"] or "nothing yet"),
        ("Last push that worked", read["last_push"] or "not yet"),
        ("Last sweep", read["last_sweep"] or "not yet"),
        ("Pushing now", read["pushing"] or "nobody"),
        (
            "Requests left",
            "Stripe {stripe:,} (30 days), Halo {halo:,} (5 minutes)".format(
                **read["requests_left"]
            ),
        ),
    ]
    if read["gap"]:
        rows.append(("Gap filled", f"{iso(read['gap']['from'])} to {iso(read['gap']['to'])}"))
    if read["unfinished_backfill"]:
        rows.append(("Unfinished", f"syncd --backfill {read['unfinished_backfill']}"))
    rows += [
        (f"Payments {STANDS[name]}", f"{number:,}")
        for name, number in read["payments"].items()
        if number
    ]
    reversals = read["refunds_and_disputes"]
    if any(reversals.values()):
        told = "{of_halos:,} of Halo's payments, {of_others:,} of others".format(**reversals)
        rows.append(("Refunds and disputes", told))
    needs = needing(read["attention_by_kind"])
    rows.append(("Attention", f"{needs}: syncd attention" if needs else "nothing needs attention"))
    table(f"syncd {read['version']}", ("", ""), rows)


def _side(read: dict[str, Any], side: str) -> str:
    link, check = read["links"][side], read["checks"][side]
    if link is not None:
        return f"FAILING since {iso(link['since'])}: {link['reason']}"
    if check["ok"]:
        return "ok"
    return f"FAILING: {check['text']}" if _begun(read, side) else str(check["text"])


def _begun(read: dict[str, Any], side: str) -> bool:
    """Whether its step has ever worked."""
    return read[f"last_{STEPS[Side(side)]}"] is not None


def _list_unmatched(store: Store, *, as_json: bool) -> None:
    """The payments that aren't Halo's, or not yet: nothing about them needs anybody."""
    found, counts = store.people.not_halos(LISTED_MAX), store.people.conditions()
    total = counts[Condition.UNMATCHED] + counts[Condition.NOT_HALOS]
    if as_json:
        typer.echo(json.dumps([_elsewhere(one) for one in found], indent=2))
    elif not found:
        typer.echo("Halo has a row for every payment that is known.")
    else:
        typer.echo(f"Halo has no row for {counted(total, 'payment')}\n")
        for line in aligned([_cells(one) for one in found], width_of_terminal()):
            typer.echo(line)
    if total > len(found):
        typer.echo(f"And {total - len(found):,} older ones: syncd export has them all.", err=True)


def _cells(one: Elsewhere) -> tuple[str, ...]:
    again = "given up" if one.next_look is None else "looked for"
    money = "" if one.amount is None or not one.currency else str(Money(one.amount, one.currency))
    return one.id, (one.state or "").replace("_", " "), money, day(one.made), again


def _elsewhere(one: Elsewhere) -> dict[str, Any]:
    return asdict(one) | {"made": iso(one.made), "next_look": iso_or_none(one.next_look)}
