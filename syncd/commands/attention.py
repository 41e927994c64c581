"""``syncd attention``: what needs a person, and what the person says about it."""

import json
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer

from syncd.commands.shared import (
    EXIT_ATTENTION,
    ConfigOption,
    JsonOption,
    existing,
    failures_said,
    iso,
    offline,
)
from syncd.config import ConfigurationError
from syncd.failures import Failure
from syncd.foreign import plain
from syncd.payments import INTENT_ID, Money
from syncd.progress import table
from syncd.records import Attention

IDS_MAX = 10_000
"""More ids than this are not taken at once; `--all` has no limit."""

attention_app = typer.Typer(rich_markup_mode=None)


def _on_the_list(context: typer.Context, incomplete: str) -> list[str]:
    """Complete an id that stands on the list; a shell that asks for help gets no error."""
    with (
        suppress(ConfigurationError, Failure),
        existing(offline(context.params.get("config"))) as s,
    ):
        return [entry.id for entry in s.attention() if entry.id.startswith(incomplete)]
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
    with failures_said(), existing(offline(context.obj)) as store:
        entries = store.attention()
    if as_json:
        typer.echo(json.dumps([_entry(entry) for entry in entries], indent=2))
    elif entries:
        table(
            f"{len(entries)} need attention",
            ("id", "state", "amount", "since", "reason"),
            ((e.id, e.state or e.kind, _amount(e), iso(e.since), e.reason) for e in entries),
        )
        typer.echo("Put it right, then: syncd attention retry ID… | retry --all | dismiss ID…")
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
        done = store.retry(None if every else _possible(ids or []), time.time())
    _say_done(
        "will be tried again at the next push", done, ids or [],
        otherwise="is not on the list, or can only be dismissed",
    )  # fmt: skip


@attention_app.command("dismiss", short_help="Take payments off the list until Stripe says more.")
def dismiss(
    context: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", autocompletion=_on_the_list)],
    config: ConfigOption = None,
) -> None:
    """Take payments, refunds or disputes off the list until Stripe says something new of them.

    Example: syncd attention dismiss pi_123
    """
    with failures_said(), existing(offline(config or context.obj)) as store:
        done = store.dismiss(_possible(ids), time.time())
    _say_done("dismissed", done, ids)


def _entry(entry: Attention) -> dict[str, Any]:
    return asdict(entry) | {"since": iso(entry.since), "next_try": iso(entry.next_try)}


def _amount(entry: Attention) -> str:
    if entry.amount is None or entry.currency is None:
        return ""
    return str(Money(entry.amount, entry.currency))


def _possible(ids: list[str]) -> list[str]:
    """Those that can be an id at all: a shell may pass what no database takes."""
    return [name for name in ids if INTENT_ID.fullmatch(name)][:IDS_MAX]


def _say_done(
    what: str, done: list[str], asked: list[str], *, otherwise: str = "is not on the list"
) -> None:
    for name in done:
        typer.echo(f"{name}: {what}")
    missing = [name for name in asked if name not in done]
    for name in missing:
        typer.echo(f"{plain(name, 80)}: {otherwise}", err=True)
    raise typer.Exit(EXIT_ATTENTION if missing else 0)
