"""``syncd attention``: what needs a person, and what the person says about it."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer

from syncd.cli.shared import (
    EXIT_ATTENTION,
    ConfigOption,
    JsonOption,
    existing,
    failures_said,
    offline,
)
from syncd.cli.terminal import aligned, indented, width_of_terminal
from syncd.config.mode import Mode, mode_of
from syncd.config.model import Config, ConfigurationError
from syncd.core.errors import Failure
from syncd.core.money import Money
from syncd.core.payments import INTENT_ID
from syncd.core.records import Attention
from syncd.text.links import halo_invoice, stripe_link
from syncd.text.sanitize import plain
from syncd.text.timestamps import iso, iso_or_none
from syncd.text.wording import KINDS, counted, needing

IDS_MAX = 10_000
"""More ids than this are not taken at once; `retry --all` has no limit."""

attention_app = typer.Typer(rich_markup_mode=None)


def _on_the_list(context: typer.Context, incomplete: str) -> list[str]:
    """Complete an id that stands on the list; a shell that asks for help gets no error."""
    with (
        suppress(ConfigurationError, Failure),
        existing(offline(context.params.get("config"))) as s,
    ):
        return [entry.id for entry in s.people.attention() if entry.id.startswith(incomplete)]
    return []


@attention_app.callback(invoke_without_command=True)
def attention(
    context: typer.Context, config: ConfigOption = None, *, as_json: JsonOption = False
) -> None:
    """What needs a person, and why.

    Example: syncd attention --json
    """
    context.obj = config or context.obj
    if context.invoked_subcommand is not None:
        return
    with failures_said():
        loaded = offline(context.obj)
        with existing(loaded) as store:
            entries, counts = store.people.attention(), store.people.attention_counts()
            mode = mode_of(loaded.stripe_api_key, loaded.stripe.mode, store.note("stripe_mode"))
            test = mode is Mode.TEST
    if as_json:
        found = [_entry(entry, loaded, test=test) for entry in entries]
        typer.echo(json.dumps(found, indent=2))
    elif entries:
        _print(entries, needing(counts))
    else:
        typer.echo("Nothing needs attention.")
    raise typer.Exit(EXIT_ATTENTION if entries else 0)


@attention_app.command("retry")
def retry(
    context: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", autocompletion=_on_the_list)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that stand on the list.")] = False,
    config: ConfigOption = None,
) -> None:
    """Try payments again at the next push.

    Example: syncd attention retry pi_123
    """
    if bool(ids) == every:
        raise typer.BadParameter("name payments, or say --all")
    with failures_said(), existing(offline(config or context.obj)) as store:
        done = store.people.retry(None if every else _possible(ids or []), time.time())
        others = {e.id: e.kind for e in store.people.attention(IDS_MAX) if e.kind != "payment"}
    _say_done("will be tried again at the next push", done, ids or [], others)


@attention_app.command("dismiss", short_help="Take payments off the list until Stripe says more.")
def dismiss(
    context: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", autocompletion=_on_the_list)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that stand on the list.")] = False,
    config: ConfigOption = None,
) -> None:
    """Take payments, refunds or disputes off the list until Stripe says something new of them.

    Example: syncd attention dismiss pi_123
    """
    if bool(ids) == every:
        raise typer.BadParameter("name what to dismiss, or say --all")
    with failures_said(), existing(offline(config or context.obj)) as store:
        # What comes onto the list meanwhile was not meant: only what is named here is dismissed.
        named = [e.id for e in store.people.attention(IDS_MAX)] if every else _possible(ids or [])
        done = store.people.dismiss(named, time.time())
    _say_done("dismissed", done, ids or [])


def _print(entries: Sequence[Attention], heading: str) -> None:
    """Each line with its sentence below it; ids, amounts and invoices are never broken."""
    width = width_of_terminal()
    typer.echo(f"{heading}\n")
    heads = aligned([(e.id, _state(e), _amount(e), _invoices(e)) for e in entries], width)
    for entry, head in zip(entries, heads, strict=True):
        typer.echo(head)
        typer.echo(indented(entry.reason, width))
        typer.echo(indented(_since(entry), width) + "\n")
    typer.echo("Put it right, then: syncd attention retry ID… | retry --all | dismiss ID…")


def _state(entry: Attention) -> str:
    return (entry.state or entry.kind).replace("_", " ")


def _invoices(entry: Attention) -> str:
    return ", ".join(invoice.name for invoice in entry.invoices)


def _since(entry: Attention) -> str:
    parts = [f"Since {iso(entry.since)}"]
    if entry.rows:
        noun = "row" if len(entry.rows) == 1 else "rows"
        parts.append(f"Halo's {noun} {', '.join(map(str, entry.rows))}")
    if entry.next_try is not None:
        tried = f"tried {counted(entry.attempts, 'time')}"
        parts.append(f"{tried}, again at {iso(entry.next_try)}")
    return "; ".join(parts) + "."


def _entry(entry: Attention, config: Config, *, test: bool) -> dict[str, Any]:
    """One line as JSON, with where people look it up."""
    links = {
        "stripe": stripe_link(entry.intent_id, test=test, account=config.stripe.account),
        "halo": [
            halo_invoice(config.halo.url, invoice.id)
            for invoice in entry.invoices
            if invoice.id is not None
        ],
    }
    times = {"since": iso(entry.since), "next_try": iso_or_none(entry.next_try)}
    return asdict(entry) | times | {"links": links}


def _amount(entry: Attention) -> str:
    if entry.amount is None or entry.currency is None:
        return ""
    return str(Money(entry.amount, entry.currency))


def _possible(ids: list[str]) -> list[str]:
    """Those that can be an id at all: a shell may pass what no database takes."""
    return [name for name in ids if INTENT_ID.fullmatch(name)][:IDS_MAX]


def _say_done(
    what: str, done: list[str], asked: list[str], others: dict[str, str] | None = None
) -> None:
    """Say what was done, and why the rest wasn't; `others` are on the list, with their kinds."""
    for name in done:
        typer.echo(f"{plain(name, 255)}: {what}")
    missing = [name for name in asked if name not in done]
    for name in missing:
        kind = KINDS.get((others or {}).get(name, ""))
        why = "is not on the list"
        if kind is not None:
            why = f"is no payment ({kind}): it can't be tried again, only dismissed"
        typer.echo(f"{plain(name, 80)}: {why}", err=True)
    raise typer.Exit(EXIT_ATTENTION if missing else 0)
