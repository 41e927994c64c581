"""The command line: parses the arguments and runs a command; exit codes are in `cli.shared.EXITS`."""

import os
import sys
from typing import Annotated

import typer

from syncd import __version__
from syncd import failpoints as crashpoints
from syncd.cli.commands.table import Commands
from syncd.cli.output import OutputFailed, finish, install, report
from syncd.cli.shared import (
    EXIT_INTERRUPTED,
    EXIT_OUTPUT,
    ConfigOption,
    JsonOption,
    failures_said,
    load_config,
    stop_signals,
)

app = typer.Typer(
    name="syncd",
    cls=Commands,
    add_completion=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    crashpoints.arm(os.environ)
    install(os.environ)
    try:
        code = _run()
        finish()
    except OutputFailed as failed:
        report(failed)
        code = EXIT_OUTPUT
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code if stop_signals.exit_code is None else stop_signals.exit_code)


def _run() -> int | str | None:
    """Run the command. Returns the exit code, as `sys.exit` accepts it."""
    try:
        app(prog_name="syncd")
    except SystemExit as ended:
        return ended.code
    return 0


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="One poll and push, then exit.")] = False,
    backfill: Annotated[
        str | None,
        typer.Option(
            "--backfill",
            metavar="SINCE",
            help='Read and push payments created since a date, a time (UTC by default) or a span ("90d").',
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="With --once or --backfill: print the planned writes; write nothing."
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Keep the invoice payments of a Halo tenant in step with Stripe.

    Without a command: run in the foreground, as systemd does.

    Example: syncd --backfill 90d --dry-run
    """
    context.obj = config
    if version:
        typer.echo(f"syncd {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        if once or backfill or dry_run:
            raise typer.BadParameter(
                "--once, --backfill and --dry-run cannot be combined with a command"
            )
        return
    if once and backfill is not None:
        raise typer.BadParameter("use either --once or --backfill, not both")
    if dry_run and not once and backfill is None:
        raise typer.BadParameter("--dry-run needs --once or --backfill")
    if as_json and not dry_run:
        raise typer.BadParameter("--json needs --dry-run here")
    # Only a run needs these modules, and loading them takes longer than most commands.
    from syncd.cli.commands.operate.run import run_command, run_daemon, since_of
    from syncd.config.advice import advice_for
    from syncd.monitor.telemetry import Telemetry, stderr_log

    since = None if backfill is None else since_of(backfill)
    stderr_log()
    with failures_said():
        loaded = load_config(config)
        for advice in advice_for(loaded):
            text = f"{advice.text}. {advice.remedy}"
            Telemetry().log("warning", "unusual_setting", key=advice.key, text=text)
        if once or since is not None:
            raise typer.Exit(run_command(loaded, since, backfill or "", dry_run, as_json))
        run_daemon(loaded, config)
