"""``syncd calibrate``: finds the tenant's status numbers in its own rows."""

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated

import typer

from syncd.cli.shared import (
    EXIT_ATTENTION,
    EXIT_UNAVAILABLE,
    ConfigOption,
    JsonOption,
    counting,
    failures_said,
    load_config,
)
from syncd.cli.terminal import bar, table
from syncd.config.edit import refuse_shipped, write_numbers
from syncd.config.model import Config, ConfigurationError
from syncd.core.errors import StoreUnusable
from syncd.core.payments import PaymentState
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.preflight.calibration import (
    Change,
    Finding,
    Verdict,
    change_of,
    learn,
)
from syncd.preflight.calibration_report import (
    evidence,
    not_accepted,
    remarks,
    report_json,
    to_do,
    trouble,
    why,
)
from syncd.preflight.remote import note_proven
from syncd.preflight.survey import Survey, ask_stripe, read_deliveries, read_names, read_rows
from syncd.store.store import Store
from syncd.sync.build import Runtime, assemble
from syncd.text.sanitize import inert

ROWS_DEFAULT = 20_000
"""The default number of requests: it fits into Halo's rate limit and leaves some for the service."""


def calibrate(
    context: typer.Context,
    *,
    write: Annotated[
        bool,
        typer.Option("--write", help="Write the proven status numbers to the configuration file."),
    ] = False,
    accept: Annotated[
        list[PaymentState] | None,
        typer.Option(
            "--accept",
            metavar="STATE",
            help=(
                "For this state, accept a status number that the rows only hint at. May be given "
                "several times."
            ),
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, metavar="N", help="Read the newest N rows of Halo.")
    ] = ROWS_DEFAULT,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the tenant's status numbers in its own rows, and show the evidence.

    Reads Halo's rows and, for those without a trace, Stripe; changes nothing in either. Proposes
    a number if Halo's own webhook wrote it and no row contradicts it.

    Example: syncd calibrate --write
    """
    stderr_log()
    with failures_said(afresh=True):
        loaded = load_config(config or context.obj)
        if write and loaded.file is None:
            problem = "--write needs a configuration file; this configuration is in the environment"
            raise ConfigurationError([problem])
        if write and loaded.file is not None:
            refuse_shipped(loaded.file)
        survey = read_survey(loaded, rows)
        findings = learn(survey.tally)
        configured = dict(loaded.halo.status.numbers)
        change = change_of(findings, configured, accept or ())
        problems = _problems(change) if write else []
        written = bool(write and not problems and survey.trouble is None and change.new)
        if written and loaded.file is not None:
            write_numbers(loaded.file, change.new)
            configured |= change.new
        if as_json:
            typer.echo(json.dumps(report_json(survey, findings, change), indent=2))
        else:
            print_findings(configured, survey, findings, change)
        refused = not_accepted(findings, accept or (), survey)
        for line in [*refused, *trouble(survey)]:
            typer.echo(inert(line), err=True)
        if problems:
            raise ConfigurationError([*problems, "nothing was written"], loaded.file)
        if write:
            typer.echo(_what_was_written(loaded, survey, change if written else None), err=True)
    if survey.trouble is not None:
        raise typer.Exit(EXIT_UNAVAILABLE)
    open_ends = refused or _open_ends(findings, change) or (change.new and not write)
    raise typer.Exit(EXIT_ATTENTION if open_ends else 0)


def read_survey(config: Config, rows: int) -> Survey:
    """Read the evidence.

    Raises:
        StoreUnusable: the database is unusable; without it no row is certain evidence.
        LinkFailure: the request failed.
    """
    try:
        with counting(config) as store:
            return asyncio.run(_survey(config, store, rows))
    except StoreUnusable as error:
        message = (
            f"{error} Until then syncd cannot tell which rows it wrote itself, so it used no row as "
            "evidence."
        )
        raise StoreUnusable(message) from None


async def _survey(config: Config, store: Store, rows: int) -> Survey:
    with bar() as shown:
        parts = assemble(
            config,
            store,
            Telemetry(),
            Runtime(waiting=shown.waiting, retrying=shown.retrying),
            "calibrate",
        )
        try:
            shown.begin("Reading Halo's rows")
            survey = await read_rows(parts.sink, store, rows, shown.at)
            await read_names(parts.sink, survey)
            shown.begin("Reading Stripe")
            await ask_stripe(parts.source, survey, shown.at)
            await read_deliveries(parts.source, store, survey)
        finally:
            await parts.close()
    found = learn(survey.tally)
    proven = {one.state: one.number for one in found if one.verdict is Verdict.PROVEN}
    note_proven(store, {state: number for state, number in proven.items() if number is not None})
    return survey


def _open_ends(findings: tuple[Finding, ...], change: Change) -> bool:
    """Whether a person must still do something."""
    unclear = any(one.verdict in (Verdict.CONTRADICTED, Verdict.SHARED) for one in findings)
    return bool(unclear or change.differing or change.sharing or change.missing)


def _problems(change: Change) -> list[str]:
    """Why nothing is written: all numbers are written or none, and no other number is replaced."""
    return [
        f"halo.status.{state} is {old}, but the rows show {new}. Look at the rows; if they are right, "
        "remove the old number from the file (or the environment), then run calibrate --write again"
        for state, (old, new) in change.differing.items()
    ] + [
        f"halo.status.{state}: the number would be the same as the number of succeeded"
        for state in change.sharing
    ]


def _what_was_written(config: Config, survey: Survey, written: Change | None) -> str:
    if survey.trouble is not None:
        return "Nothing was written. Run calibrate again when Stripe answers."
    if written is None:
        return "Nothing to write."
    words = ", ".join(f"{state} = {number}" for state, number in written.new.items())
    return f"Written to {config.file}: {words}. If the service runs: systemctl reload syncd"


# --- output ---------------------------------------------------------------------------------------


def print_findings(
    configured: Mapping[PaymentState, int],
    survey: Survey,
    findings: tuple[Finding, ...],
    change: Change,
) -> None:
    """Print the findings with their evidence, and what a person can do."""
    table(
        f"Read {survey.rows} of {survey.total or survey.rows} rows",
        ("state", "rows show", "for it", "against it", "configured", "why"),
        (
            (
                one.state,
                "" if one.most is None else one.most,
                one.support,
                one.against,
                configured.get(one.state, "not set"),
                why(one, configured.get(one.state)),
            )
            for one in findings
        ),
    )
    for one in findings:
        for shown in one.shown:
            typer.echo(inert(f"{one.state} = {shown.number}: {evidence(shown)}"))
    for line in [*remarks(survey), *to_do(findings, change, configured)]:
        typer.echo(inert(line))
