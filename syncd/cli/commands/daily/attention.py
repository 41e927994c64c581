"""``syncd attention``: shows the attention list and carries out decisions about its entries."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer

from syncd.cli.shared import (
    EXIT_ATTENTION,
    ConfigOption,
    JsonOption,
    YesOption,
    confirm,
    existing,
    failures_said,
    offline,
)
from syncd.cli.terminal import aligned, indented, labelled, width_of_terminal
from syncd.config.mode import Mode, mode_of
from syncd.config.model import Config, ConfigurationError
from syncd.core.errors import Failure
from syncd.core.holds import LiftedBy, entry_of, lifted_by
from syncd.core.money import Money
from syncd.core.payments import INTENT_ID
from syncd.core.records import AttentionEntry, first_entries
from syncd.store.coordination import STRIPE_MODE
from syncd.store.store import Store
from syncd.text.links import halo_invoice, stripe_link
from syncd.text.sanitize import plain
from syncd.text.timestamps import iso, iso_or_none
from syncd.text.wording import KINDS, counted, needing

NOTE_CHARACTERS_MAX = 500

OVERRIDABLE = lifted_by(LiftedBy.ON_AMOUNT_MISMATCH)
"""The holds that a person can override for one payment."""

LISTED_MAX = 50
"""How many entries are listed by default; a terminal shows no more at once."""

ENTRIES_MAX = 1_000_000
"""How many entries of each kind a list of all entries has at most."""

IDS_MAX = 10_000
"""The maximum number of ids in one call; `retry --all` has no limit."""

attention_app = typer.Typer(rich_markup_mode=None)


def _on_the_list(context: typer.Context, incomplete: str) -> list[str]:
    """Complete an id of the attention list; shell completion never shows an error."""
    with (
        suppress(ConfigurationError, Failure),
        existing(offline(context.params.get("config"))) as s,
    ):
        return [entry.id for entry in s.people.attention() if entry.id.startswith(incomplete)]
    return []


@attention_app.callback(invoke_without_command=True)
def attention(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    dismissed: Annotated[
        bool, typer.Option("--dismissed", help="List what was dismissed, with when and why.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help=f"List all entries, not only the first {LISTED_MAX}.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List what needs your action, and why.

    Example: syncd attention --json
    """
    context.obj = config or context.obj
    if context.invoked_subcommand is not None:
        return
    with failures_said():
        loaded = offline(context.obj)
        with existing(loaded) as store:
            most = ENTRIES_MAX if every or as_json or dismissed else LISTED_MAX
            entries = store.people.dismissed(most) if dismissed else store.people.attention(most)
            counts = store.people.attention_counts()
            test = _is_test(loaded, store)
    if as_json:
        found = [_entry(entry, loaded, test=test) for entry in entries]
        typer.echo(json.dumps(found, indent=2))
    elif entries and dismissed:
        total = len(entries)
        entries = entries if every else entries[:LISTED_MAX]
        _print(entries, f"{counted(total, 'dismissed entry', 'dismissed entries')}")
        _print_left_out(len(entries), total, "syncd attention --dismissed --all")
        typer.echo(f"To bring an entry back: syncd attention retry {entries[0].id}")
    elif entries:
        entries = entries if every else first_entries(entries, LISTED_MAX)
        _print(entries, needing(counts))
        _print_left_out(len(entries), sum(counts.values()), "syncd attention --all")
        typer.echo("To retry all held and failed payments: syncd attention retry --all")
    else:
        typer.echo("Nothing was dismissed." if dismissed else "Nothing needs attention.")
    raise typer.Exit(EXIT_ATTENTION if entries and not dismissed else 0)


def _print_left_out(listed: int, total: int, command: str) -> None:
    """Explain how to list the remaining entries, if the list is incomplete."""
    if listed < total:
        typer.echo(f"Listed {listed:,} of {total:,} entries. To list all: {command}")


@attention_app.command("show", short_help="Show everything about one entry or payment.")
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", autocompletion=_on_the_list)],
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show everything that syncd knows about one entry of the list, or about one payment.

    Example: syncd attention show pi_123
    """
    with failures_said():
        loaded = offline(config or context.obj)
        with existing(loaded) as store:
            entry = store.people.entry(name) if _possible([name]) else None
            payment = store.payment(name) if _possible([name]) else None
            test = _is_test(loaded, store)
    if entry is None and payment is None:
        typer.echo(f"{plain(name, 80)}: syncd does not know this id", err=True)
        raise typer.Exit(EXIT_ATTENTION)
    known = _known(entry, payment, loaded, test=test)
    if as_json:
        typer.echo(json.dumps(known, indent=2))
        return
    width = width_of_terminal()
    raw = ("amount", "currency") if "money" in known else ()  # in the smallest unit, for programs
    for key, value in known.items():
        label = "amount" if key == "money" else key.replace("_", " ")
        for text in _shown(value) if key not in raw else ():
            typer.echo(labelled(label, text, width))


@attention_app.command("retry", short_help="Retry payments, or bring dismissed entries back.")
def retry(
    context: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", autocompletion=_on_the_list)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every payment on the list.")] = False,
    config: ConfigOption = None,
) -> None:
    """Retry payments at the next push; bring dismissed refunds and disputes back to the list.

    Example: syncd attention retry pi_123
    """
    if bool(ids) == every:
        raise typer.BadParameter("name payments, or use --all")
    with failures_said(), existing(offline(config or context.obj)) as store:
        named = _possible(ids or [])
        done = store.people.retry(None if every else named, time.time())
        back = [] if every else store.people.restore(named)
        others = {e.id: e.kind for e in store.people.attention(IDS_MAX) if e.kind != "payment"}
    for name in back:
        typer.echo(f"{plain(name, 255)}: is on the attention list again")
    _report(
        "syncd will retry at its next push", done, [i for i in ids or [] if i not in back], others
    )


@attention_app.command("push", short_help="Push one payment although its amounts differ.")
def push(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", autocompletion=_on_the_list)],
    *,
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Push one payment at the next push although its amounts differ.

    This applies to this payment and to the amounts that its entry names. If the amount in Stripe or
    in Halo changes before the push, syncd holds the payment again. To push all such payments, set
    push.on_amount_mismatch.

    Example: syncd attention push pi_123
    """
    with failures_said(), existing(offline(config or context.obj)) as store:
        entry = store.people.entry(name) if _possible([name]) else None
        if entry is None or entry.code not in OVERRIDABLE:
            why = (
                "is not on the list"
                if entry is None
                else f"is held for another reason: {entry.reason}"
            )
            typer.echo(f"{plain(name, 80)}: {why}", err=True)
            typer.echo("attention push is only for payments whose amounts differ.", err=True)
            raise typer.Exit(EXIT_ATTENTION)
        confirm(f"{entry.reason}\nPush {name} anyway?", yes=yes)
        done = store.people.accept(name, OVERRIDABLE, time.time())
    if done is None:
        typer.echo(f"{plain(name, 80)}: is not held any more; nothing was changed", err=True)
        raise typer.Exit(EXIT_ATTENTION)
    typer.echo(f"{name}: will be pushed at the next push although its amounts differ")


@attention_app.command(
    "dismiss",
    short_help="Hide entries until Stripe reports a change.",
)
def dismiss(
    context: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", autocompletion=_on_the_list)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every entry on the list.")] = False,
    note: Annotated[
        str | None,
        typer.Option("--note", metavar="TEXT", help="Why; attention --dismissed shows it."),
    ] = None,
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Take payments, refunds or disputes off the list until Stripe reports something new about them.

    Example: syncd attention dismiss pi_123 --note "booked by hand"
    """
    if bool(ids) == every:
        raise typer.BadParameter("name what to dismiss, or use --all")
    with failures_said(), existing(offline(config or context.obj)) as store:
        # Only the given ids are dismissed, not entries that appear in the meantime.
        named = [e.id for e in store.people.attention(IDS_MAX)] if every else _possible(ids or [])
        if every and named:
            question = f"Dismiss {counted(len(named), 'entry', 'entries')}?"
            confirm(f"{needing(store.people.attention_counts())}. {question}", yes=yes)
        text = None if note is None else plain(note, NOTE_CHARACTERS_MAX)
        done = store.people.dismiss(named, time.time(), text)
    _report("dismissed", done, ids or [])


def _is_test(config: Config, store: Store) -> bool:
    """Whether links lead to Stripe's test data."""
    noted = store.read(STRIPE_MODE)
    return mode_of(config.stripe_api_key, config.stripe.mode, noted) is Mode.TEST


def _known(
    entry: AttentionEntry | None, payment: Mapping[str, Any] | None, config: Config, *, test: bool
) -> dict[str, Any]:
    """All known values of one id, by name; unknown values are left out."""
    known: dict[str, Any] = {}
    if entry is not None:
        known = _entry(entry, config, test=test)
        known["money"] = _amount(entry)
        known |= {"title": entry_of(entry.code).title, "meaning": entry_of(entry.code).meaning}
    elif payment is not None:
        link = stripe_link(str(payment["intent_id"]), test=test, account=config.stripe.account)
        known = {"id": payment["intent_id"], "kind": "payment", "links": {"stripe": link}}
    if payment is not None:
        times = {"said_at": "last_seen_at_stripe", "created": "created", "acked_at": "written_at"}
        known |= {new: iso(payment[old]) for old, new in times.items() if payment[old] is not None}
        known |= {key: payment[key] for key in ("state", "condition", "acked_state", "event_id")}
        known["override"] = payment["accepted"]
    return {
        key: value for key, value in known.items() if value not in (None, "", [], (), {}, False)
    }


def _shown(value: Any) -> list[str]:
    """A value as lines of text."""
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _shown(one)]
    if isinstance(value, list | tuple):
        return [", ".join(_shown(one)) for one in value]
    return [] if value is None else [str(value)]


def _print(entries: Sequence[AttentionEntry], heading: str) -> None:
    """Print each entry with its sentence below it; ids, amounts and invoices are never broken."""
    width = width_of_terminal()
    typer.echo(f"{heading}\n")
    heads = aligned([(e.id, _state(e), _amount(e), _invoices(e)) for e in entries], width)
    for entry, head in zip(entries, heads, strict=True):
        typer.echo(head)
        typer.echo(indented(entry.reason, width))
        typer.echo(indented(_since(entry), width) + "\n")


def _state(entry: AttentionEntry) -> str:
    return (entry.state or entry.kind).replace("_", " ")


def _invoices(entry: AttentionEntry) -> str:
    return ", ".join(invoice.name for invoice in entry.invoices)


def _since(entry: AttentionEntry) -> str:
    parts = [", ".join(entry.customers)] if entry.customers else []
    parts.append(f"since {iso(entry.since)}" if parts else f"Since {iso(entry.since)}")
    if entry.rows:
        noun = "row" if len(entry.rows) == 1 else "rows"
        parts.append(f"Halo's {noun} {', '.join(map(str, entry.rows))}")
    if entry.next_try is not None:
        tried = f"tried {counted(entry.attempts, 'time')}"
        parts.append(f"{tried}, again at {iso(entry.next_try)}")
    if entry.dismissed:
        at = "" if entry.dismissed_at is None else f" {iso(entry.dismissed_at)}"
        parts.append(f"Dismissed{at}" + (f": {entry.note}" if entry.note else ""))
    return "; ".join(parts) + "."


def _entry(entry: AttentionEntry, config: Config, *, test: bool) -> dict[str, Any]:
    """One entry as JSON, with links."""
    links = {
        "stripe": stripe_link(entry.intent_id, test=test, account=config.stripe.account),
        "halo": [
            halo_invoice(config.halo.url, invoice.id)
            for invoice in entry.invoices
            if invoice.id is not None
        ],
    }
    times = {
        "since": iso(entry.since),
        "next_try": iso_or_none(entry.next_try),
        "dismissed_at": iso_or_none(entry.dismissed_at),
    }
    return asdict(entry) | times | {"links": links}


def _amount(entry: AttentionEntry) -> str:
    if entry.amount is None or entry.currency is None:
        return ""
    return str(Money(entry.amount, entry.currency))


def _possible(ids: list[str]) -> list[str]:
    """The texts that can be an id; a shell may pass text that no database accepts."""
    return [name for name in ids if INTENT_ID.fullmatch(name)][:IDS_MAX]


def _report(
    what: str, done: list[str], asked: list[str], others: dict[str, str] | None = None
) -> None:
    """Print what was done, and why not for other ids; `others`: kinds of listed entries."""
    if not asked and len(done) > LISTED_MAX:
        typer.echo(f"{counted(len(done), 'entry', 'entries')}: {what}")
        return
    for name in done:
        typer.echo(f"{plain(name, 255)}: {what}")
    missing = [name for name in asked if name not in done]
    for name in missing:
        kind = KINDS.get((others or {}).get(name, ""))
        why = "is not on the list"
        if kind is not None:
            why = f"is a {kind}, not a payment; a {kind} cannot be retried, only dismissed"
        typer.echo(f"{plain(name, 80)}: {why}", err=True)
    raise typer.Exit(EXIT_ATTENTION if missing else 0)
