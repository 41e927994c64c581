"""``syncd resync``: reads one payment again and pushes it."""

import asyncio
import re
import time
from typing import Annotated

import typer

from syncd.cli.commands.operate.progress import ONE_PAYMENT, retrying, summary, waits_until, watch
from syncd.cli.commands.operate.run import store_for
from syncd.cli.shared import EXIT_ATTENTION, ConfigOption, failures_said, load_config, stop_signals
from syncd.cli.terminal import shown
from syncd.config.model import Config
from syncd.core.errors import IntentUnknown
from syncd.core.records import ATTENTION, Condition
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.store.store import Store
from syncd.sync.build import Runtime, assemble
from syncd.text.sanitize import plain


def resync(
    context: typer.Context,
    intent_id: Annotated[str, typer.Argument(metavar="pi_…")],
    config: ConfigOption = None,
) -> None:
    """Read one payment intent again and push it.

    Example: syncd resync pi_123
    """
    stderr_log()
    if "_secret_" in intent_id:
        message = "this is a client_secret; the payment intent's id is the part before _secret_"
        raise typer.BadParameter(message, param_hint="pi_…")
    if not re.fullmatch(r"pi_[A-Za-z0-9_]+", intent_id):
        message = f"{plain(intent_id, 80)!r} is not the id of a payment intent (pi_…)"
        raise typer.BadParameter(message, param_hint="pi_…")
    with failures_said():
        loaded = load_config(config or context.obj)
        with store_for(loaded, dry_run=False) as store:
            try:
                said, attention = asyncio.run(_resync(loaded, store, intent_id))
            except IntentUnknown as error:
                typer.echo(f"syncd: {error}", err=True)
                raise typer.Exit(EXIT_ATTENTION) from None
    typer.echo(f"{intent_id}: {said}")
    raise typer.Exit(EXIT_ATTENTION if attention else 0)


async def _resync(config: Config, store: Store, intent_id: str) -> tuple[str, bool]:
    """Read the payment and push it. Returns the result as text, and whether it needs attention."""
    telemetry, started = Telemetry(), time.monotonic()
    with shown() as show:
        runtime = Runtime(waiting=show.waiting, retrying=retrying(show, telemetry))
        if show.on_terminal and config.log.level != "debug":
            telemetry.hidden = ONE_PAYMENT
        stop_signals.watch(runtime.stop)
        parts = assemble(config, store, telemetry, runtime, "a resync")
        watch(parts, store, show)
        try:
            read, pushing = await parts.run.resync(intent_id)
        finally:
            await parts.close()
    took, next_try = time.monotonic() - started, waits_until(store, time.time())
    text = summary(telemetry, store.people.conditions(), took, pushing, next_try)
    typer.echo(text, err=True)
    if pushing is not None:
        return (
            f"Stripe says {read.state}; {pushing.holder} is already pushing; it will include this "
            "payment"
        ), False
    row = store.payment(intent_id)
    condition = row["condition"] if row else Condition.NO_STATE
    said = f"Stripe says {read.state or 'nothing yet'}"
    if row and condition in ATTENTION:
        return f"{said}; it needs attention: {row['reason']}", True
    return f"{said}; now {str(condition).replace('_', ' ')}", False
