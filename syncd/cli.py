"""The commands. Each puts the parts together, runs them, and says how it ended by its exit code.

0 all well; 1 done, but something needs attention; 2 wrong usage; 69 Stripe or Halo unreachable or
refusing (or the database busy); 78 configuration (or a database that can't be used).
"""

import asyncio
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from syncd import __version__
from syncd.config import Config, ConfigurationError, load, span_seconds
from syncd.database import sqlite_path
from syncd.decisions import Create, Decision, Hold, Unmatched, Update
from syncd.failures import (
    Failure,
    IntentUnknown,
    LeaseHeld,
    LinkFailure,
    Side,
    Stopping,
    StoreTrouble,
    StoreUnusable,
)
from syncd.gate import halo_window, stripe_window
from syncd.lease import describe
from syncd.notify import Notifier
from syncd.parts import Parts, World, assemble, release_holds
from syncd.payments import Money
from syncd.progress import Show, shown, table
from syncd.records import ATTENTION, Attention, Condition, Work
from syncd.store import Store
from syncd.telemetry import Telemetry, stderr_log

EXIT_ATTENTION = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CONFIG = 78

app = typer.Typer(
    name="syncd",
    add_completion=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
attention_app = typer.Typer(rich_markup_mode=None, help="What needs a person, and why.")
app.add_typer(attention_app, name="attention")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE",
        help="Else $SYNCD_CONFIG, ./config.toml, /etc/syncd/config.toml.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """The entry of the command ``syncd``."""
    app(prog_name="syncd")


# --- running -------------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="One poll and push, then exit.")] = False,
    backfill: Annotated[
        str | None,
        typer.Option(
            "--backfill", metavar="SINCE",
            help='Payments made since a date, a time (UTC unless it says so), or a span ("90d").',
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="With either: print what would be pushed; write nothing."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:  # fmt: skip
    """Keep the invoice payments of a Halo tenant in step with Stripe.

    Without a command: run in the foreground, as systemd does.
    """
    context.obj = config
    if version:
        typer.echo(f"syncd {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        if once or backfill or dry_run:
            raise typer.BadParameter("--once, --backfill and --dry-run stand alone")
        return
    if once and backfill is not None:
        raise typer.BadParameter("--once and --backfill exclude each other")
    if dry_run and not once and backfill is None:
        raise typer.BadParameter("--dry-run goes with --once or --backfill")
    if as_json and not dry_run:
        raise typer.BadParameter("--json goes with --dry-run here")
    since = None if backfill is None else _since(backfill)
    stderr_log()
    with _failures_said():
        loaded = load(config, os.environ)
        if once or since is not None:
            raise typer.Exit(_run_command(loaded, since, backfill or "", dry_run, as_json))
        _run_daemon(loaded, config)


def _run_daemon(config: Config, file: Path | None) -> None:
    from syncd.daemon import Daemon  # the scheduler and the web server: only the service needs them

    store = Store.open(config.state.url)
    daemon = Daemon(
        config, store, Telemetry(), Notifier.of(os.environ), lambda: load(file, os.environ)
    )
    try:
        asyncio.run(daemon.run())
    finally:
        store.close()


def _run_command(
    config: Config, since: int | None, asked: str, dry_run: bool, as_json: bool
) -> int:
    """One poll or one backfill, in earnest or dry; returns the exit code."""
    planned: list[dict[str, Any]] = []
    with _store_for(config, dry_run=dry_run) as store, shown() as show:
        failure = asyncio.run(_command(config, store, since, asked, show, planned, dry_run))
        attention = store.attention_count()
    if dry_run:
        _print_plan(planned, as_json)
    if failure is not None:
        raise failure
    if attention and not dry_run:
        typer.echo(f"{attention} need attention: see syncd attention", err=True)
    held = any(entry["action"] == "hold" for entry in planned)
    return EXIT_ATTENTION if (held if dry_run else attention) else 0


async def _command(
    config: Config, store: Store, since: int | None, asked: str, show: Show,
    planned: list[dict[str, Any]], dry_run: bool,
) -> Failure | None:  # fmt: skip
    """Run; returns what failed instead of raising it, so that what was done is still shown."""
    telemetry = Telemetry()
    world = World(waiting=show.waiting)
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, world.stop.set)

    def plan(work: Work, decision: Decision, text: str) -> None:
        planned.append(_planned(work, decision, text))

    what = "a single run" if since is None else "a backfill"
    parts = assemble(config, store, telemetry, world, what, plan=plan if dry_run else None)
    parts.engine.observer.progress = show.listing
    parts.engine.pusher.progress = show.pushing
    try:
        release_holds(config, store, world.now())
        if since is None:
            await parts.engine.once()
        else:
            listed = await parts.engine.backfill(since, asked)
            telemetry.log("info", "backfill_listed", payments=listed)
            await _push_all(parts, store, world, show)
            telemetry.log("info", "backfill_done", payments=listed)
    except LeaseHeld as error:
        telemetry.log("info", "push_left_to_other", holder=error.holder)
    except Failure as error:
        return error
    finally:
        await parts.close()
    return None


async def _push_all(parts: Parts, store: Store, world: World, show: Show) -> None:
    """Push until nothing is due; wait for another process that pushes."""
    told = ""
    while store.due_count(world.now()):
        try:
            if await parts.engine.pusher.push() == 0:
                return
        except LeaseHeld as error:
            if error.holder != told:
                told = error.holder
                parts.engine.report.log("info", "waiting_for_other", holder=error.holder)
            show.note(f"{error.holder} is pushing; waiting")
            await world.sleep(1.0)
        except LinkFailure as error:
            wait = error.retry_after_seconds
            if wait is None or wait > 400:
                raise
            parts.engine.report.log(
                "info", "waiting", side=str(error.side), seconds=wait, reason=str(error)
            )
            show.waiting(error.side, wait)
            await world.sleep(wait + world.random())


@contextmanager
def _store_for(config: Config, *, dry_run: bool) -> Iterator[Store]:
    """The store; for a dry run a copy of it that is thrown away."""
    if not dry_run:
        store = Store.open(config.state.url)
        try:
            yield store
        finally:
            store.close()
        return
    with tempfile.TemporaryDirectory(prefix="syncd-dry-run-") as folder:
        copy = Store.open(f"sqlite:///{folder}/copy.db")
        path = sqlite_path(config.state.url)
        if path is not None and path.exists():
            real = Store.open(config.state.url)
            real.copy_to(copy)
            real.close()
        try:
            yield copy
        finally:
            copy.close()


# --- reading -------------------------------------------------------------------------------------


@app.command()
def status(
    context: typer.Context, config: ConfigOption = None, *, as_json: JsonOption = False
) -> None:
    """Where it stands: the last poll, what waits, what needs attention, what is left of both limits.

    Example: syncd status --json
    """
    with _failures_said():
        loaded = _offline(config or context.obj)
        with _existing(loaded) as store:
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
        "watermark": _iso(notes.get("watermark")),
        "last_poll": _iso(notes.get("last_poll")),
        "last_push": _iso(notes.get("last_push")),
        "last_sweep": _iso(notes.get("last_sweep")),
        "payments": {str(name): number for name, number in store.conditions().items()},
        "due": store.due_count(now),
        "attention": store.attention_count(),
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
        rows.append(("gap filled", f"{_iso(read['gap']['from'])} to {_iso(read['gap']['to'])}"))
    if read["unfinished_backfill"]:
        rows.append(("unfinished", f"syncd --backfill {read['unfinished_backfill']}"))
    rows += [(f"payments {name}", number) for name, number in read["payments"].items() if number]
    rows.append(("need attention", read["attention"]))
    table("syncd", ("", ""), rows)


def _link(link: dict[str, Any] | None) -> str:
    return "ok" if link is None else f"FAILING since {_iso(link['since'])}: {link['reason']}"


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
    with _failures_said(), _existing(_offline(context.obj)) as store:
        entries = store.attention()
    if as_json:
        typer.echo(json.dumps([_entry(entry) for entry in entries], indent=2))
    elif entries:
        table(
            f"{len(entries)} need attention",
            ("id", "state", "amount", "since", "reason"),
            ((e.id, e.state or e.kind, _amount(e), _iso(e.since), e.reason) for e in entries),
        )
        typer.echo("Put it right, then: syncd attention retry ID… | retry --all | dismiss ID…")
    else:
        typer.echo("Nothing needs attention.")
    raise typer.Exit(EXIT_ATTENTION if entries else 0)


@attention_app.command("retry")
def retry(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that stand on the list.")] = False,
    config: ConfigOption = None,
) -> None:
    """Try payments again at the next push.

    Example: syncd attention retry pi_123
    """
    if bool(ids) == every:
        raise typer.BadParameter("name payments, or say --all")
    with _failures_said(), _existing(_offline(config or context.obj)) as store:
        done = store.retry(None if every else ids, time.time())
    _say_done("will be tried again at the next push", done, ids or [])


@attention_app.command("dismiss")
def dismiss(
    context: typer.Context, ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """Take payments off the list until Stripe says something new of them.

    Example: syncd attention dismiss pi_123
    """
    with _failures_said(), _existing(_offline(config or context.obj)) as store:
        done = store.dismiss(ids, time.time())
    _say_done("dismissed", done, ids)


@app.command()
def resync(
    context: typer.Context, intent_id: Annotated[str, typer.Argument(metavar="pi_…")],
    config: ConfigOption = None,
) -> None:  # fmt: skip
    """Read one payment intent again and push it.

    Example: syncd resync pi_123
    """
    stderr_log()
    with _failures_said():
        loaded = load(config or context.obj, os.environ)
        with _store_for(loaded, dry_run=False) as store:
            try:
                said, attention = asyncio.run(_resync(loaded, store, intent_id))
            except IntentUnknown as error:
                typer.echo(f"syncd: {error}", err=True)
                raise typer.Exit(EXIT_ATTENTION) from None
    typer.echo(f"{intent_id}: {said}")
    raise typer.Exit(EXIT_ATTENTION if attention else 0)


async def _resync(config: Config, store: Store, intent_id: str) -> tuple[str, bool]:
    """Returns what came of it, and whether it needs attention."""
    parts = assemble(config, store, Telemetry(), World(), "a resync")
    try:
        read = await parts.engine.observer.resync(intent_id)
        try:
            await parts.engine.pusher.push()
        except LeaseHeld as error:
            said = f"Stripe says {read.state}; {error.holder} is pushing and takes it along"
            return said, False
    finally:
        await parts.close()
    row = store.payment(intent_id)
    condition = row["condition"] if row else Condition.NO_STATE
    said = f"Stripe says {read.state or 'nothing yet'}"
    if row and condition in ATTENTION:
        return f"{said}; it needs attention: {row['reason']}", True
    return f"{said}; now {str(condition).replace('_', ' ')}", False


@app.command()
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """A Stripe and a Halo of its own on loopback, and syncd between them: no account needed."""
    from syncd.demo import play  # the sandbox: only the demo needs it

    raise typer.Exit(play(keep=keep))


# --- details -------------------------------------------------------------------------------------


@contextmanager
def _failures_said() -> Iterator[None]:
    """Say what failed on stderr, and end with its exit code."""
    try:
        yield
    except ConfigurationError as error:
        Notifier.of(os.environ).status(f"Configuration: {error.problems[0]}")
        typer.echo(f"syncd: {len(error.problems)} problem(s) in the configuration:", err=True)
        for problem in error.problems:
            typer.echo(f"  {problem}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except StoreUnusable as error:
        typer.echo(f"syncd: {error}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except (LinkFailure, StoreTrouble) as error:
        typer.echo(f"syncd: {error} Nothing is lost: the next run goes on from here.", err=True)
        raise typer.Exit(EXIT_UNAVAILABLE) from None
    except Stopping:
        typer.echo("syncd: stopped. The same command goes on from here.", err=True)
        raise typer.Exit(EXIT_ATTENTION) from None


def _offline(file: Path | None) -> Config:
    """The configuration without the secrets, for what only reads or marks what is known."""
    return load(file, os.environ, signing_in=False)


@contextmanager
def _existing(config: Config) -> Iterator[Store]:
    """The store, for commands that must not make one."""
    path = sqlite_path(config.state.url)
    if path is not None and path.parent.is_dir() and not path.exists():
        message = f"There is no database {path} yet: syncd has not run with this configuration."
        raise StoreUnusable(message)
    store = Store.open(config.state.url)
    try:
        yield store
    finally:
        store.close()


def _since(text: str, now: Callable[[], float] = time.time) -> int:
    """Read a date, a time or a span back as Unix seconds."""
    if re.fullmatch(r"\s*(\d+\s*[smhd]\s*)+", text):
        return int(now()) - int(str(span_seconds(text)))
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        message = f"{text!r} is no date (2026-10-01), time (2026-10-01T08:00Z) or span back (90d)"
        raise typer.BadParameter(message, param_hint="--backfill") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    if found.timestamp() > now() + timedelta(minutes=1).total_seconds():
        raise typer.BadParameter(f"{text} lies ahead", param_hint="--backfill")
    return max(0, int(found.timestamp()))


def _planned(work: Work, decision: Decision, text: str) -> dict[str, Any]:
    said = work.payment.said
    names = {Update: "update", Create: "create", Hold: "hold", Unmatched: "unmatched"}
    return {
        "intent": said.intent_id,
        "state": str(said.state),
        "action": names.get(type(decision), "in_step"),
        "rows": list(getattr(decision, "rows", ())),
        "status": getattr(decision, "status", None),
        "text": text,
    }


def _print_plan(planned: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(planned, indent=2))
        return
    columns = ("intent", "state", "action", "text")
    table("What would be done (dry run)", columns, ([p[c] for c in columns] for p in planned))


def _entry(entry: Attention) -> dict[str, Any]:
    return asdict(entry) | {"since": _iso(entry.since), "next_try": _iso(entry.next_try)}


def _amount(entry: Attention) -> str:
    if entry.amount is None or entry.currency is None:
        return ""
    return str(Money(entry.amount, entry.currency))


def _iso(seconds: str | float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _say_done(what: str, done: list[str], asked: list[str]) -> None:
    for name in done:
        typer.echo(f"{name}: {what}")
    missing = [name for name in asked if name not in done]
    for name in missing:
        typer.echo(f"{name}: is not on the list", err=True)
    raise typer.Exit(EXIT_ATTENTION if missing else 0)
