"""``--once`` and ``--backfill``, real or dry, and the service itself."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from syncd.cli.commands.operate.progress import ONE_PAYMENT, retrying, summary, waits_until, watch
from syncd.cli.shared import EXIT_ATTENTION, EXIT_INTERRUPTED, open_store, stop_signals
from syncd.cli.terminal import Show, aligned, indented, shown, width_of_terminal
from syncd.config.load import load
from syncd.config.model import Config, ConfigurationError, address
from syncd.core.errors import Failure, LeaseHeld
from syncd.core.money import money_text
from syncd.core.payments import PaymentState
from syncd.core.records import Condition, DuePayment
from syncd.core.rules.decisions import Create, Decision, Hold, Unmatched, Update
from syncd.monitor.telemetry import Telemetry
from syncd.preflight.local import is_syncd
from syncd.service.systemd import Notifier
from syncd.store.payments import shown_rows
from syncd.store.store import Store
from syncd.sync.build import Runtime, assemble
from syncd.sync.policy import push_settings, release_holds
from syncd.text.database_url import url_of
from syncd.text.sanitize import plain
from syncd.text.timestamps import TimeUnreadable, interval
from syncd.text.wording import needing, sentence

DRY_RUN_HALO_SHARE = 0.5
"""A dry run records nothing, so other processes cannot see its requests: it uses half the window."""


CLOCK_DIFFERENCE_SECONDS_MAX = 60
"""A start up to this many seconds ahead of the local clock counts as now."""


def run_daemon(config: Config, file: Path | None) -> None:
    """Run the service until SIGTERM; a reload reads `file` again."""
    from syncd.service.daemon import (
        Daemon,  # the scheduler and the web server: only the service needs them
    )

    store = open_store(config)
    daemon = Daemon(
        config, store, Telemetry(), Notifier.of(os.environ), lambda: load(file, os.environ)
    )
    try:
        asyncio.run(daemon.run())
    except ConfigurationError as error:
        host, port = address(config.web.listen)
        if error.problems[0].startswith("web.listen:") and is_syncd(host, port, config.web_token):
            message = (
                f"web.listen: another syncd is already running at {config.web.listen}. Stop it "
                "(systemctl stop syncd), or give this one an address and a database of its own"
            )
            raise ConfigurationError([message], config.file) from None
        raise ConfigurationError(error.problems, config.file) from None
    finally:
        store.close()
    if daemon.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def run_command(config: Config, since: int | None, asked: str, dry_run: bool, as_json: bool) -> int:
    """One poll or one backfill, real or dry; returns the exit code."""
    planned: list[dict[str, Any]] = []
    telemetry, started = Telemetry(), time.monotonic()
    with store_for(config, dry_run=dry_run) as store, shown() as show:
        failure = asyncio.run(
            _command(config, store, telemetry, since, asked, show, planned, dry_run)
        )
        attention = store.people.attention_counts()
        conditions = store.people.conditions()
        next_try = waits_until(store, time.time())
        for entry in planned:
            _add_customers(entry, store)
    if dry_run:
        _print_plan(planned, conditions, as_json=as_json, whole=failure is None)
    else:
        pushing = failure if isinstance(failure, LeaseHeld) else None
        took = time.monotonic() - started
        typer.echo(summary(telemetry, conditions, took, pushing, next_try), err=True)
    if isinstance(failure, LeaseHeld):
        failure = None  # the other process does the remaining work
    if failure is not None:
        raise failure
    if attention and not dry_run:
        typer.echo(f"{needing(attention)}: see syncd attention", err=True)
    return EXIT_ATTENTION if attention else 0


async def _command(
    config: Config,
    store: Store,
    telemetry: Telemetry,
    since: int | None,
    asked: str,
    show: Show,
    planned: list[dict[str, Any]],
    dry_run: bool,
) -> Failure | None:
    """Run; return a failure instead of raising it, so that the result is still shown."""
    runtime = Runtime(waiting=show.waiting, retrying=retrying(show, telemetry))
    if show.on_terminal and config.log.level != "debug":
        telemetry.hidden = ONE_PAYMENT  # the bars and the summary count them
    stop_signals.watch(runtime.stop)

    def plan(due: DuePayment, decision: Decision, text: str) -> None:
        planned.append(_planned(due, decision, text, numbers))

    numbers = push_settings(config).policy.numbers
    what = "a single run" if since is None else "a backfill"
    parts = assemble(
        config,
        store,
        telemetry,
        runtime,
        what,
        plan=plan if dry_run else None,
        beside_polls=since is not None,
        halo_share=DRY_RUN_HALO_SHARE if dry_run else 1.0,
    )
    watch(parts, store, show)
    try:
        release_holds(config, store, runtime.now())
        if since is None:
            await parts.run.once()
        else:
            return await parts.run.backfill(since, asked, show)
    except LeaseHeld as error:
        telemetry.log("info", "push_left_to_other", holder=error.holder)
        return error
    except Failure as error:
        return error
    finally:
        await parts.close()
    return None


@contextmanager
def store_for(config: Config, *, dry_run: bool) -> Iterator[Store]:
    """The store; for a dry run, a temporary copy of it."""
    if not dry_run:
        store = open_store(config)
        try:
            yield store
        finally:
            store.close()
        return
    with tempfile.TemporaryDirectory(prefix="syncd-dry-run-") as folder:
        copy = Store.open(url_of(Path(folder, "copy.db")))
        path = config.state.file
        if path is None or path.exists():
            real = open_store(config)
            real.housekeeping.copy_to(copy.housekeeping)
            real.close()
        try:
            yield copy
        finally:
            copy.close()


def since_of(text: str, now: Callable[[], float] = time.time, *, option: str = "--backfill") -> int:
    """Parse a date, a month, a time or a span back into the Unix seconds at which it begins.

    Raises:
        typer.BadParameter: the text is none of these, is ambiguous, or lies in the future.
    """
    try:
        at = interval(text, now()).start
    except TimeUnreadable as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    if at > now() + CLOCK_DIFFERENCE_SECONDS_MAX:
        message = f"{plain(text, 80)!r} lies in the future"
        raise typer.BadParameter(message, param_hint=option)
    return at


def _planned(
    due: DuePayment, decision: Decision, text: str, numbers: Mapping[PaymentState, int]
) -> dict[str, Any]:
    current = due.payment.current
    money = current.received if current.state is PaymentState.SUCCEEDED else current.due
    names = {Update: "update", Create: "create", Hold: "hold", Unmatched: "unmatched"}
    was = list(decision.was) if isinstance(decision, Update) else []
    currency = money.currency if money is not None else ""
    shown = _shown_now(decision, numbers, currency)
    return {
        "intent": current.intent_id,
        "state": str(current.state),
        "action": names.get(type(decision), "in_step"),
        "rows": list(getattr(decision, "rows", ())),
        "status": getattr(decision, "status", None),
        "money": "" if money is None else str(money),
        "halo_shows": was,
        "customers": [],
        "text": f"{shown}{sentence(text)}" if shown else text,
    }


def _shown_now(decision: Decision, numbers: Mapping[PaymentState, int], currency: str) -> str:
    """What Halo shows now of the rows that would be written, as text.

    Halo does not say an amount's currency: `currency`, Stripe's, decides only about the decimals.
    """
    if isinstance(decision, Create):
        return "Halo shows no row. "
    if not isinstance(decision, Update):
        return ""
    names = {number: f"{number} ({state})" for state, number in numbers.items()}
    amounts = {row.id: row.amount for row in decision.before}
    parts = []
    for row, status in zip(decision.rows, decision.was, strict=True):
        amount = amounts.get(row)
        paid = "" if amount is None else f", {money_text(amount, currency).split()[0]}"
        known = "no status" if status is None else f"status {names.get(status, status)}"
        parts.append(f"row {row}: {known}{paid}")
    return f"Halo shows {'; '.join(parts)}. "


def _add_customers(entry: dict[str, Any], store: Store) -> None:
    """Add the customers in Halo's rows, as the dry run has read them."""
    payment = store.payment(entry["intent"])
    if payment is not None:
        customers = shown_rows(payment["seen_rows"], payment["rows"])["customers"]
        entry["customers"] = list(customers)
        if customers:
            entry["text"] = f"Customer: {', '.join(customers)}. {entry['text']}"


def _print_plan(
    planned: list[dict[str, Any]],
    conditions: Mapping[Condition, int],
    *,
    as_json: bool,
    whole: bool,
) -> None:
    """Print the planned actions, and how many payments are in which other condition.

    Args:
        planned: the decisions, payment by payment.
        conditions: how many payments are in each condition in the dry run's own store, at its end.
        as_json: only the list goes to stdout; the sentence goes to stderr.
        whole: whether nothing failed; otherwise the outcome of the remaining payments is unknown.
    """
    if as_json:
        typer.echo(json.dumps(planned, indent=2))
    doing = [entry for entry in planned if entry["action"] in ("update", "create", "hold")]
    if doing and not as_json:
        typer.echo("What would be done (dry run)\n")
        width = width_of_terminal()
        heads = aligned([(p["intent"], p["state"], p["money"], p["action"]) for p in doing], width)
        for entry, head in zip(doing, heads, strict=True):
            typer.echo(head)
            typer.echo(indented(entry["text"], width))
        typer.echo("")
    others = _others(doing, conditions)
    if doing and others:
        typer.echo(f"Beside these: {others}.", err=as_json)
    elif whole and not doing:
        typer.echo(f"Nothing would be pushed{': ' if others else ''}{others}.", err=as_json)


def _others(doing: list[dict[str, Any]], conditions: Mapping[Condition, int]) -> str:
    """How many payments that would not change are in which condition; zeros are left out."""
    # In its own store, a dry run has already recorded the planned payments as in step, or as held.
    held = sum(entry["action"] == "hold" for entry in doing)
    left = {
        "in step": conditions[Condition.IN_STEP] - (len(doing) - held),
        "held (syncd attention)": conditions[Condition.HELD] - held,
        "failed (syncd attention)": conditions[Condition.FAILED],
        "without a row": conditions[Condition.UNMATCHED] + conditions[Condition.NOT_HALOS],
        "still due": conditions[Condition.DUE],
        "to be read again at Stripe": conditions[Condition.IN_DOUBT],
    }
    return ", ".join(f"{number} {words}" for words, number in left.items() if number > 0)
