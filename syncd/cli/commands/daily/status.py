"""``syncd status``: shows the status, or the payments without a row in Halo."""

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
    offline,
)
from syncd.cli.terminal import aligned, table, width_of_terminal
from syncd.config.model import Config
from syncd.core.errors import Side
from syncd.core.money import Money
from syncd.core.records import Condition, UnmatchedPayment
from syncd.monitor.status import STEPS, gather
from syncd.store.coordination import GAP, LINKS
from syncd.store.db.leases import Leading
from syncd.store.store import Store
from syncd.text.timestamps import day, iso, iso_or_none
from syncd.text.wording import CONDITION_TEXT, counted, needing

LISTED_MAX = 10_000
"""How many payments that are not Halo's are listed, newest first; the others are counted."""


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
    """Show the status: the last poll, payments due, the attention list, and the requests left.

    Example: syncd status --json
    """
    with failures_said():
        loaded = offline(config or context.obj)
        with existing(loaded) as store:
            if unmatched:
                _list_unmatched(store, as_json=as_json)
                return
            read = status_of(loaded, store)
    if as_json:
        typer.echo(json.dumps(read, indent=2))
    else:
        _print_status(read)
    raise typer.Exit(_exit_code(read))


def _exit_code(read: dict[str, Any]) -> int:
    """The exit code: failing sides before attention, even if the service does not run."""
    if any(link is not None for link in read["links"].values()):
        return EXIT_UNAVAILABLE
    stale = any(_begun(read, side) and not read["checks"][side]["ok"] for side in STEPS)
    return EXIT_ATTENTION if read["attention"] or stale else 0


def status_of(config: Config, store: Store) -> dict[str, Any]:
    """The status, as `--json` prints it."""
    status = gather(config, store, time.time())
    return {
        "version": __version__,
        "stripe_mode": status.mode,
        "halo_url": config.halo.url,
        "watermark": iso_or_none(status.watermark),
        "last_poll": iso_or_none(status.last["poll"]),
        "last_push": iso_or_none(status.last["push"]),
        "last_sweep": iso_or_none(status.last["sweep"]),
        "payments": {str(name): number for name, number in status.conditions.items()},
        "due": status.due,
        "attention": status.attention_count,
        "attention_by_kind": status.attention_counts,
        "refunds_and_disputes": store.reversals.counts(),
        "links": {
            str(side): None if link is None else LINKS[side].type.dump_python(link)
            for side, link in status.links.items()
        },
        "checks": {
            name: {"ok": check.ok, "text": check.text} for name, check in status.checks.items()
        },
        "requests_left": {side: left for side, (left, _) in status.budgets.items()},
        "pushing": status.pushing,
        "leader": _leader_of(status.leading),
        "standbys": []
        if status.leading is None
        else [one.described for one in status.leading.standbys],
        "gap": None if status.gap is None else GAP.type.dump_python(status.gap, by_alias=True),
        "unfinished_backfill": status.backfill,
        "writes": dict(status.writes),
        "polls": None
        if status.polls is None
        else {
            "text": status.polls.text,
            "planned_reads": status.polls.planned,
            "allowed_reads": status.polls.allowed,
        },
    }


def _leader_of(leading: Leading | None) -> dict[str, Any] | None:
    """The leader for `--json`; None if only one service can run, or none has led yet."""
    if leading is None:
        return None
    since = iso(leading.since)
    return {"service": leading.holder.described, "since": since, "holds": leading.holds}


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
    if read["polls"]:
        rows.append(("Polls", read["polls"]["text"]))
    if read["leader"]:
        holds = "" if read["leader"]["holds"] else ", which does not answer any more"
        rows.append(
            ("Leads", f"{read['leader']['service']} since {read['leader']['since']}{holds}")
        )
        rows.append(("Stands by", ", ".join(read["standbys"]) or "nobody"))
    rows.append(("Updates of rows", read["writes"]["update"]))
    if "not proven" not in read["writes"]["insert"]:
        rows.append(("New rows", read["writes"]["insert"]))
    if read["gap"]:
        rows.append(("Gap filled", f"{iso(read['gap']['from'])} to {iso(read['gap']['to'])}"))
    if read["unfinished_backfill"]:
        rows.append(("Unfinished", f"syncd --backfill {read['unfinished_backfill']}"))
    rows += [
        (f"Payments {CONDITION_TEXT[name]}", f"{number:,}")
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
    """Whether the side's step has ever worked."""
    return read[f"last_{STEPS[Side(side)]}"] is not None


def _list_unmatched(store: Store, *, as_json: bool) -> None:
    """List the payments that are not Halo's, or not yet; nobody needs to act on them."""
    found, counts = store.people.not_halos(LISTED_MAX), store.people.conditions()
    total = counts[Condition.UNMATCHED] + counts[Condition.NOT_HALOS]
    if as_json:
        typer.echo(json.dumps([_elsewhere(one) for one in found], indent=2))
    elif not found:
        typer.echo("Halo has a row for every payment that syncd knows.")
    else:
        typer.echo(f"Halo has no row for {counted(total, 'payment')}\n")
        for line in aligned([_cells(one) for one in found], width_of_terminal()):
            typer.echo(line)
    if total > len(found):
        typer.echo(f"And {total - len(found):,} older ones: syncd export has them all.", err=True)


def _cells(one: UnmatchedPayment) -> tuple[str, ...]:
    again = "given up" if one.next_look is None else "looked for"
    money = "" if one.amount is None or not one.currency else str(Money(one.amount, one.currency))
    return one.id, (one.state or "").replace("_", " "), money, day(one.made), again


def _elsewhere(one: UnmatchedPayment) -> dict[str, Any]:
    return asdict(one) | {"made": iso(one.made), "next_look": iso_or_none(one.next_look)}
