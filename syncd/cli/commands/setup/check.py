"""``syncd check``: all checks that are possible before the first push."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from syncd.cli.shared import ConfigOption, JsonOption, counting, failures_said, load_config
from syncd.clients.throttle import halo_window, stripe_window
from syncd.config.load import find_file
from syncd.config.model import Config, ConfigurationError
from syncd.core.errors import LinkFailure, Side
from syncd.monitor.polls import read_limit
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.preflight.check import Area, Level, Line, exit_code
from syncd.preflight.local import advice_lines, database_lines, file_line, port_line, secret_lines
from syncd.preflight.messages import message_lines
from syncd.preflight.remote import Sides
from syncd.store.store import Store
from syncd.sync.build import Runtime, assemble
from syncd.text.sanitize import inert

_COLOURS = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def check(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    test_message: Annotated[
        bool,
        typer.Option(
            "--test-message", help="Also send a test message to each address, and one heartbeat."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check everything that can be known before the first push; write nothing to Stripe or Halo.

    Each line passes, warns or fails, with the remedy. Exit code: 0 nothing fails; 78 the configuration
    fails (the file, the secrets, the database, the port, a status number); 69 Stripe or Halo; 1 others.

    Example: syncd check --test-message
    """
    stderr_log()
    lines: list[Line] = []

    def tell(line: Line) -> None:
        lines.append(line)
        if not as_json:
            _print(line)

    loaded = None
    with failures_said(afresh=True):
        loaded = look(config or context.obj, tell)
        if test_message and loaded is not None:
            typer.echo("sending the test message", err=True)
            for line in asyncio.run(message_lines(loaded)):
                tell(line)
    code = exit_code(lines)
    if as_json:
        typer.echo(json.dumps(_as_json(lines, code), indent=2))
    else:
        counts = Counter(line.level for line in lines)
        typer.echo(", ".join(f"{counts[level]} {level}" for level in Level))
        if counts[Level.FAIL]:
            beside = "" if loaded is not None else " Stripe and Halo were not asked."
            typer.echo(f"Correct what failed, then run syncd check again.{beside}")
    raise typer.Exit(code)


def look(file: Path | None, tell: Callable[[Line], None]) -> Config | None:
    """Run all checks except messages. Returns the configuration; None if it is unusable."""
    for line in secret_lines(os.environ, find_file(file, os.environ, [])):
        tell(line)
    try:
        loaded = load_config(file)
    except ConfigurationError as error:
        what = "the configuration" if error.file is None else f"the configuration {error.file}"
        for problem in error.problems:
            tell(Line(Level.FAIL, Area.CONFIGURATION, what, problem))
        return None
    for line in [file_line(loaded.file), *advice_lines(loaded)]:
        tell(line)
    database = database_lines(loaded.state.url, loaded.database_password)
    for line in [*database, port_line(loaded)]:
        tell(line)
    usable = all(line.level is Level.PASS for line in database if line.what == "the database")
    with counting(loaded, usable=usable) as store:
        asyncio.run(_look_at_sides(loaded, store, tell, remembers=usable))
    return loaded


async def _look_at_sides(
    config: Config, store: Store, tell: Callable[[Line], None], *, remembers: bool
) -> None:
    windows = {
        Side.STRIPE: stripe_window(read_limit(config, store, time.time())),
        Side.HALO: halo_window(config.halo.rate_limit),
    }

    def left(side: Side) -> int:
        return windows[side].left(store.coordination.counts(side), time.time())

    parts = assemble(
        config, store, Telemetry(), Runtime(waiting=_say_waiting, retrying=_say_retrying), "check"
    )
    try:
        await Sides(config, parts.source, parts.sink, store, left, tell, remembers).look()
    finally:
        await parts.close()


def _say_waiting(side: Side, seconds: float) -> None:
    typer.echo(f"waiting {seconds:.0f} s for {side}'s limit", err=True)


def _say_retrying(error: LinkFailure, seconds: float) -> None:
    if sys.stderr.isatty():
        typer.echo(
            f"{error.side.capitalize()} does not answer; next try in {seconds:.0f} s", err=True
        )


def _print(line: Line) -> None:
    mark = typer.style(f"{line.level:<5}", fg=_COLOURS[line.level])
    typer.echo(f"{mark} {line.what}: {inert(line.text)}")
    if line.remedy is not None:
        typer.echo(f"      → {inert(line.remedy)}")


def _as_json(lines: list[Line], code: int) -> dict[str, Any]:
    return {"exit": code, "lines": [asdict(line) for line in lines]}
