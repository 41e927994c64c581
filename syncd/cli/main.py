"""The command line. Each command says how it ended by its exit code: `EXITS` in `commands.shared`."""

import difflib
import os
import sys
from typing import Annotated, Any

import typer

from syncd import __version__
from syncd import failpoints as crashpoints
from syncd.cli.commands.daily.attention import attention_app
from syncd.cli.commands.daily.audit import audit
from syncd.cli.commands.daily.status import status
from syncd.cli.commands.operate.resync import resync
from syncd.cli.commands.operate.run import run_command, run_daemon, since_of
from syncd.cli.commands.setup.calibrate import calibrate
from syncd.cli.commands.setup.check import check
from syncd.cli.commands.setup.config import config_app
from syncd.cli.commands.setup.init import init
from syncd.cli.commands.setup.prove import prove
from syncd.cli.commands.support.bugreport import bugreport
from syncd.cli.commands.support.copy import copy
from syncd.cli.commands.support.export import export
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
from syncd.config.advice import advice_for
from syncd.monitor.telemetry import Telemetry, stderr_log


class Commands(typer.core.TyperGroup):
    """The commands, by name; for one that isn't there, an option of nearly that name is meant.

    Typer itself says which command may have been meant.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the first argument names."""
        options = {
            option.lstrip("-"): option
            for parameter in self.params
            if parameter.param_type_name == "option"
            for option in parameter.opts
        }
        if args and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0].strip("-"), options, n=1, cutoff=0.75)
            if near and not difflib.get_close_matches(args[0], self.commands):
                ctx.fail(f"No such command {args[0]!r}. Did you mean {options[near[0]]}?")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="syncd",
    cls=Commands,
    add_completion=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the list of commands a long first sentence would be cut.
app.add_typer(attention_app, name="attention")
app.command(short_help="Set up: ask, try each answer, write the file and the secrets.")(init)
app.command(short_help="Check everything that can be known before the first push.")(check)
app.command(short_help="Learn the tenant's status numbers from its own rows.")(calibrate)
app.add_typer(config_app, name="config", short_help="Show, check and describe the configuration.")
app.command(short_help="Write one row, read it back, and show what changed.")(prove)
app.command(short_help="Status: last poll, payments due, requests left.")(status)
app.command()(resync)
app.command(short_help="Does Halo agree with Stripe? Since a date; read-only.")(audit)
app.command(short_help="Write one file that describes a problem, without secrets or names.")(
    bugreport
)
app.command(short_help="Write everything that syncd remembers to stdout, as JSON.")(export)
app.command(short_help="Copy the database to another one: SQLite or PostgreSQL.")(copy)


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
    """Run the command. Returns what the process ends with: see `sys.exit`."""
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
        raise typer.BadParameter("--once and --backfill exclude each other")
    if dry_run and not once and backfill is None:
        raise typer.BadParameter("--dry-run goes with --once or --backfill")
    if as_json and not dry_run:
        raise typer.BadParameter("--json goes with --dry-run here")
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


@app.command(short_help="See it work between a Stripe and a Halo of its own.")
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """A Stripe and a Halo of its own on loopback, and syncd between them: no account needed.

    Example: syncd demo --keep
    """
    from syncd.cli.demo import play  # the sandbox: only the demo needs it

    raise typer.Exit(play(keep=keep))
