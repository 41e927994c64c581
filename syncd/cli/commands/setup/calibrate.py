"""``syncd calibrate``: the tenant's status numbers, learnt from its own rows."""

import asyncio
import json
import os
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import typer

from syncd.cli.shared import (
    EXIT_ATTENTION,
    EXIT_UNAVAILABLE,
    ConfigOption,
    JsonOption,
    counting,
    failures_said,
)
from syncd.cli.terminal import bar, table
from syncd.clients.webhook_payload import Author
from syncd.config.edit import write_numbers
from syncd.config.load import load
from syncd.config.model import Config, ConfigurationError
from syncd.core.errors import StoreUnusable
from syncd.core.payments import PaymentState
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.preflight.calibration import (
    HOW_TO_MAKE,
    Change,
    Example,
    Finding,
    Seen,
    Shown,
    Verdict,
    change_of,
    learn,
)
from syncd.preflight.survey import Survey, ask_stripe, read_rows
from syncd.store.store import Store
from syncd.sync.build import World, assemble
from syncd.text.sanitize import inert

ROWS_DEFAULT = 20_000
"""200 requests: they fit into Halo's window with room left for the service."""


def calibrate(
    context: typer.Context,
    *,
    write: Annotated[
        bool, typer.Option("--write", help="Put the numbers into the configuration file.")
    ] = False,
    accept: Annotated[
        list[PaymentState] | None,
        typer.Option(
            "--accept", metavar="STATE", help="Take the hint for this state (again for another)."
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, metavar="N", help="Read the newest N rows of Halo.")
    ] = ROWS_DEFAULT,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn the tenant's status numbers from its own rows, and show the evidence.

    Reads Halo's rows and, for those without a trace, Stripe; changes nothing in either. A number is
    proposed where Halo's own webhook wrote it and nothing speaks against it.

    Example: syncd calibrate --write
    """
    stderr_log()
    with failures_said(afresh=True):
        loaded = load(config or context.obj, os.environ)
        if write and loaded.file is None:
            problem = "--write needs a configuration file; this configuration is in the environment"
            raise ConfigurationError([problem])
        survey = _read(loaded, rows)
        findings = learn(survey.tally)
        change = change_of(findings, loaded.halo.status.numbers, accept or ())
        if as_json:
            typer.echo(json.dumps(_as_json(survey, findings, change), indent=2))
        else:
            _print(loaded, survey, findings, change)
        refused = _not_accepted(findings, accept or (), survey)
        for line in [*refused, *_trouble(survey)]:
            typer.echo(inert(line), err=True)
        if write and survey.trouble is None:
            _write(loaded, change)
        elif write:
            typer.echo("Nothing was written. Calibrate again when Stripe answers.", err=True)
    if survey.trouble is not None:
        raise typer.Exit(EXIT_UNAVAILABLE)
    open_ends = refused or _open_ends(findings, change) or (change.new and not write)
    raise typer.Exit(EXIT_ATTENTION if open_ends else 0)


def _read(config: Config, rows: int) -> Survey:
    """Read the evidence.

    Raises:
        StoreUnusable: the database; without it no row is surely evidence.
        LinkFailure: Halo can't be read.
    """
    try:
        with counting(config) as store:
            return asyncio.run(_survey(config, store, rows))
    except StoreUnusable as error:
        message = (
            f"{error} Until then nobody can tell which rows syncd wrote itself, so no row was taken "
            "for evidence."
        )
        raise StoreUnusable(message) from None


async def _survey(config: Config, store: Store, rows: int) -> Survey:
    with bar() as shown:
        parts = assemble(config, store, Telemetry(), World(waiting=shown.waiting), "calibrate")
        try:
            shown.begin("Reading Halo's rows")
            survey = await read_rows(parts.sink, store, rows, shown.at)
            shown.begin("Reading Stripe")
            await ask_stripe(parts.source, survey, shown.at)
        finally:
            await parts.close()
    return survey


def _open_ends(findings: tuple[Finding, ...], change: Change) -> bool:
    """Whether something is left that a person must see to."""
    unclear = any(one.verdict in (Verdict.CONTRADICTED, Verdict.SHARED) for one in findings)
    return bool(unclear or change.differing or change.sharing or change.missing)


def _write(config: Config, change: Change) -> None:
    """All that can be proposed, or nothing: never over another number.

    Raises:
        ConfigurationError: a number differs from what is configured, or the file can't be written.
    """
    problems = [
        f"halo.status.{state} is {old}, but the rows show {new}. Look at them; if they are right, "
        "take the old number out (of the file, or of the environment), then write again"
        for state, (old, new) in change.differing.items()
    ] + [
        f"halo.status.{state}: its number would be the same as succeeded's"
        for state in change.sharing
    ]
    if problems:
        raise ConfigurationError([*problems, "nothing was written"])
    if change.new and config.file is not None:
        write_numbers(config.file, change.new)
        words = ", ".join(f"{state} = {number}" for state, number in change.new.items())
        typer.echo(f"{config.file}: {words}. If the service runs: systemctl reload syncd", err=True)
    else:
        typer.echo("Nothing to write.", err=True)


# --- showing it ------------------------------------------------------------------------------------


def _print(config: Config, survey: Survey, findings: tuple[Finding, ...], change: Change) -> None:
    configured = config.halo.status.numbers
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
                _why(one, configured.get(one.state)),
            )
            for one in findings
        ),
    )
    for one in findings:
        for shown in one.shown:
            typer.echo(inert(f"{one.state} = {shown.number}: {_shown(shown)}"))
    for line in [*_remarks(survey), *_to_do(findings, change, configured)]:
        typer.echo(inert(line))


_WHY = {
    Verdict.PROVEN: "Halo's own webhook wrote it so, each time",
    Verdict.HINTED: "a hint: only rows without a trace show a number",
    Verdict.CONTRADICTED: "rows contradict each other: not decided",
    Verdict.SHARED: "it would be succeeded's number too: not decided",
    Verdict.TOO_LITTLE: "only rows without a trace, which may never have been told",
    Verdict.NONE: "no evidence",
}


def _why(one: Finding, configured: int | None) -> str:
    others = configured is not None and one.support and not one.speaking_for(configured)
    return (
        f"{_WHY[one.verdict]}; none for the configured {configured}"
        if others
        else _WHY[one.verdict]
    )


def _shown(shown: Shown) -> str:
    kinds = (
        (shown.webhook, "by Halo's webhook"),
        (shown.bare, "without a trace"),
        (shown.explained, "without a trace, out of date: they say nothing"),
    )
    return "; ".join(f"{_rows(seen)} {words}" for seen, words in kinds if seen.rows)


def _rows(seen: Seen) -> str:
    examples = ", ".join(f"row {one.row} ({one.intent_id})" for one in seen.examples)
    return f"{_counted(seen.rows)} (such as {examples})"


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"


def _remarks(survey: Survey) -> list[str]:
    lines = []
    if not survey.whole and survey.total is not None and survey.rows < survey.total:
        lines.append(f"Older rows were not read: --rows {survey.total} reads all.")
    if survey.authors[Author.SYNCD]:
        left_out = _counted(survey.authors[Author.SYNCD])
        lines.append(f"Left out: {left_out} of payments for which syncd has sent something itself.")
    for (state, number), seen in sorted(survey.doubtful.items(), key=repr):
        lines.append(
            f"Left out: {_rows(seen)} with an event ({state or 'none of the five'}) and status "
            f"{number}. Without its client_secret it may be one that syncd left."
        )
    if survey.unknown:
        whose = "row's payment isn't" if survey.unknown == 1 else "rows' payments aren't"
        lines.append(f"{survey.unknown:,} {whose} known to Stripe under this key.")
    if survey.unasked:
        which = "rows" if survey.trouble else "older rows"
        lines.append(
            f"Not compared with Stripe: {survey.unasked} {which} without a trace. They may speak "
            "against what is shown."
        )
    for (method, module), number in survey.new_row.most_common():
        lines.append(
            f"For halo.new_row: {number} of Stripe's rows have method = {_or_none(method)}, "
            f"module_id = {_or_none(module)}"
        )
    return lines


def _or_none(number: int | None) -> str:
    return "(none)" if number is None else str(number)


_BEGINNINGS = "open an invoice's payment page in Halo, pay nothing, and calibrate again"


def _trouble(survey: Survey) -> list[str]:
    if survey.trouble is None:
        return []
    return [f"syncd: {survey.trouble} Only rows that Halo's own webhook wrote are shown."]


def _not_accepted(
    findings: tuple[Finding, ...], accepted: Collection[PaymentState], survey: Survey
) -> list[str]:
    """Why there is nothing to accept, for each state that was named without a hint."""
    why = {
        Verdict.TOO_LITTLE: f"first show which number rows begin with ({_BEGINNINGS})",
        Verdict.NONE: "no row speaks for a number",
        Verdict.CONTRADICTED: "rows contradict each other. Look at the rows named",
        Verdict.SHARED: "its number would be succeeded's too. Look at the rows named",
    }
    if survey.trouble is not None:
        why[Verdict.NONE] = "rows without a trace were not compared with Stripe"
    return [
        f"{one.state}: no hint to accept: {why[one.verdict]}."
        for one in findings
        if one.state in accepted and one.verdict in why
    ]


def _to_do(
    findings: tuple[Finding, ...], change: Change, configured: Mapping[PaymentState, int]
) -> list[str]:
    lines = []
    for state, (old, new) in change.differing.items():
        lines.append(f"{state}: configured is {old}, the rows show {new}. Look at the rows named.")
    by_state = {one.state: one for one in findings}
    for state in change.missing:
        one = by_state[state]
        make = _make(state)
        if one.verdict is Verdict.HINTED:
            lines.append(
                f"{state}: look at the rows named. If {one.hint} is right: "
                f"syncd calibrate --write --accept {state}. {make}"
            )
        elif one.verdict in (Verdict.NONE, Verdict.TOO_LITTLE):
            lines.append(f"{state}: no number yet, so its payments are held. {make}")
        else:
            lines.append(f"{state}: look at the rows named, and set halo.status.{state} by hand.")
    for one in findings:
        if one.state in change.missing or one.state not in configured:
            continue
        if one.verdict in (Verdict.CONTRADICTED, Verdict.SHARED):
            lines.append(f"{one.state}: a number is configured, but look at the rows named.")
        elif one.verdict is not Verdict.PROVEN:
            lines.append(
                f"{one.state}: no row proves the configured {configured[one.state]}. "
                f"{_make(one.state)}"
            )
    if any(_untold(one) for one in findings):
        lines.append(
            "Rows without a trace may never have been told. To see which number rows begin with: "
            f"{_BEGINNINGS}."
        )
    return lines


def _make(state: PaymentState) -> str:
    return f"To make evidence, with Halo's own webhook on: {HOW_TO_MAKE[state]}."


def _untold(one: Finding) -> bool:
    """Whether it would help to know with which number rows begin."""
    if one.verdict is Verdict.CONTRADICTED:
        return sum(1 for shown in one.shown if shown.webhook.rows) == 1
    return one.verdict is Verdict.TOO_LITTLE


# --- as JSON ---------------------------------------------------------------------------------------


def _as_json(survey: Survey, findings: tuple[Finding, ...], change: Change) -> dict[str, Any]:
    return {
        "rows_read": survey.rows,
        "rows_total": survey.total,
        "whole": survey.whole,
        "stripe_trouble": survey.trouble,
        "states": {
            str(one.state): {
                "number": one.number,
                "hint": one.hint,
                "verdict": str(one.verdict),
                "for_number": one.most,
                "for": one.support,
                "against": one.against,
                "shown": [_shown_json(shown) for shown in one.shown],
                "how_to_make_evidence": HOW_TO_MAKE[one.state],
            }
            for one in findings
        },
        "left_out": {
            "syncd": survey.authors[Author.SYNCD],
            "doubtful": [
                {"state": state and str(state), "number": number, **_seen_json(seen)}
                for (state, number), seen in sorted(survey.doubtful.items(), key=repr)
            ],
            "other": survey.authors[Author.OTHER],
            "unknown_to_stripe": survey.unknown,
            "not_asked": survey.unasked,
        },
        "new_row": [
            {"method": method, "module_id": module, "rows": number}
            for (method, module), number in survey.new_row.most_common()
        ],
        "configuration": {
            "new": _by_name(change.new),
            "differing": {
                str(state): {"configured": old, "shown": new}
                for state, (old, new) in change.differing.items()
            },
            "sharing": list(map(str, change.sharing)),
            "missing": list(map(str, change.missing)),
        },
    }


def _by_name(numbers: Mapping[PaymentState, int]) -> dict[str, int]:
    return {str(state): number for state, number in numbers.items()}


def _shown_json(shown: Shown) -> dict[str, Any]:
    kinds = {"webhook": shown.webhook, "bare": shown.bare, "explained": shown.explained}
    return {
        "number": shown.number,
        **{kind: _seen_json(seen) for kind, seen in kinds.items() if seen.rows},
    }


def _seen_json(seen: Seen) -> dict[str, Any]:
    return {"rows": seen.rows, "examples": [_example_json(one) for one in seen.examples]}


def _example_json(example: Example) -> dict[str, Any]:
    return {"row": example.row, "intent_id": example.intent_id}
