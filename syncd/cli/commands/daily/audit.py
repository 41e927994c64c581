"""``syncd audit``: compares Stripe and Halo."""

import asyncio
import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from syncd.audit.auditor import Auditor
from syncd.audit.invoices import Invoices
from syncd.audit.report.export import Links, as_json, write_csv
from syncd.audit.report.html import as_html
from syncd.audit.report.text import lines
from syncd.audit.summary import Audit, first_paragraph
from syncd.cli.commands.operate.run import since_of
from syncd.cli.shared import (
    EXIT_ATTENTION,
    ConfigOption,
    JsonOption,
    failures_said,
    is_absent,
    load_config,
    open_store,
    stop_signals,
)
from syncd.cli.terminal import Show, shown
from syncd.config.mode import Mode
from syncd.config.model import Config
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.store.store import Store
from syncd.sync.build import Runtime, assemble_readers
from syncd.text.database_url import url_of
from syncd.text.sanitize import inert, plain
from syncd.text.timestamps import TimeUnreadable, interval

SINCE_OTHERWISE = "90d"
"""How far back the audit looks by default: most invoices are paid within that time."""

WIDTH_OTHERWISE = 100
"""The line length if the output is not a terminal, in characters."""


STDOUT = Path("-")
"""Means standard output instead of a file."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of an audit.

    Attributes:
        since: Unix seconds at which the period begins.
        until: Unix seconds at which it ends (exclusive); None for now.
        fix: whether to make payments due that a push could correct.
        everything: whether to list payments without a difference as well.
        invoices: how many invoices may be read one at a time; None for no limit.
    """

    since: int
    until: int | None
    fix: bool
    everything: bool
    invoices: int | None


def audit(
    context: typer.Context,
    *,
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="DATE",
            help="Compare payments made since a day (2026-10-01), a month (2026-10), a time (in "
            "UTC unless it names a zone) or yesterday. An age works too (90d, 12w).",
        ),
    ] = SINCE_OTHERWISE,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="DATE",
            help="Compare payments made up to the end of a day or month, or up to a time. "
            "Default: now.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List payments without a difference as well.")
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the differences as CSV; - is stdout."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page to mail or print; - is stdout."),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write the differences to Halo that syncd can correct.")
    ] = False,
    invoices: Annotated[
        int | None,
        typer.Option(
            "--invoices",
            metavar="NUMBER",
            min=0,
            help="The maximum number of invoices to read one at a time, if Halo's list of invoices "
            "does not show enough. 0 reads no invoices. By default no limit.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json_: JsonOption = False,
) -> None:
    """Compare every payment of a period at Stripe and in Halo; change nothing.

    Example: syncd audit --since 2026-10 --until 2026-10 --html october.html
    """
    asked = Asked(*_period(since, until), fix, everything, invoices)
    _check_outputs(csv, html, as_json=as_json_)
    files = [None if file == STDOUT else file for file in (csv, html)]
    with _files(*files) as (csv_part, html_part), failures_said(afresh=True):
        stderr_log()
        loaded = load_config(config or context.obj)
        with _stores(loaded, fix=fix) as (own, memory), shown() as show:
            found = asyncio.run(_audit(loaded, own, memory, asked, show))
        places = Links(loaded.halo.url, loaded.mode == Mode.TEST, loaded.stripe.account)
        if csv_part:
            # With a byte order mark, spreadsheets read names with accents correctly.
            with csv_part.open("w", encoding="utf-8-sig", newline="") as to:
                write_csv(found, places, to, everything=everything)
        if html_part:
            html_part.write_text(as_html(found, places, everything=everything), "utf-8")
    shape = "csv" if csv == STDOUT else "html" if html == STDOUT else "json" if as_json_ else "text"
    _print(found, places, asked, shape)
    raise typer.Exit(EXIT_ATTENTION if found.open else 0)


def _check_outputs(csv: Path | None, html: Path | None, *, as_json: bool) -> None:
    """Refuse two reports in one place.

    Raises:
        typer.BadParameter: two options write to the same file, or to standard output.
    """
    if [csv, html].count(STDOUT) + as_json > 1:
        options = {"--json": as_json, "'--csv -'": csv == STDOUT, "'--html -'": html == STDOUT}
        both = " and ".join(option for option, given in options.items() if given)
        name, hint = ("audit.csv", "--csv") if csv == STDOUT else ("audit.html", "--html")
        message = f"{both} both write to standard output; name a file: {hint} {name}"
        raise typer.BadParameter(message, param_hint=hint)
    if csv is not None and html is not None and csv.resolve() == html.resolve() != STDOUT.resolve():
        raise typer.BadParameter(f"--csv and --html both name {html}", param_hint="--html")


def _print(found: Audit, places: Links, asked: Asked, shape: str) -> None:
    """Print the report on standard output as "csv", "html", "json" or "text"."""
    if shape == "csv":
        to = io.StringIO(newline="")
        write_csv(found, places, to, everything=asked.everything)
        typer.echo(to.getvalue(), nl=False)
        typer.echo(inert(first_paragraph(found)), err=True)
    elif shape == "html":
        typer.echo(as_html(found, places, everything=asked.everything), nl=False)
        typer.echo(inert(first_paragraph(found)), err=True)
    elif shape == "json":
        typer.echo(as_json(found, places))
    else:
        width = shutil.get_terminal_size((WIDTH_OTHERWISE, 24)).columns
        for line in lines(found, places, width, lambda text: typer.style(text, bold=True)):
            typer.echo(line)


def _period(since: str, until: str | None) -> tuple[int, int | None]:
    """The requested period, in Unix seconds; it ends with the given day or month.

    Raises:
        typer.BadParameter: a text is unreadable, or the period is empty.
    """
    start = since_of(since, option="--since")
    if until is None:
        return start, None
    try:
        end = interval(until, time.time()).end
    except TimeUnreadable as error:
        raise typer.BadParameter(str(error), param_hint="--until") from None
    if end <= start:
        message = f"{plain(until, 80)!r} is not after --since ({plain(since, 80)})"
        raise typer.BadParameter(message, param_hint="--until")
    return start, end


async def _audit(
    config: Config, own: Store, memory: Store | None, asked: Asked, show: Show
) -> Audit:
    runtime = Runtime(waiting=show.waiting, retrying=show.retrying)
    stop_signals.watch(runtime.stop)
    parts = assemble_readers(
        config,
        own,
        Telemetry(),
        runtime,
        counted_in=memory,
    )
    parts.all_rows.progress = show.rows
    invoices = Invoices(
        parts.sink, own, parts.policy, asked.invoices, asked.everything, show.invoices
    )
    auditor = Auditor(
        parts.all_rows,
        parts.policy,
        parts.reversal_sweeper,
        own,
        memory,
        invoices,
        runtime.now,
        asked.fix,
        asked.everything,
        show.listing,
    )
    try:
        return await auditor.run(asked.since, asked.until)
    finally:
        await parts.close()


@contextmanager
def _stores(config: Config, *, fix: bool) -> Iterator[tuple[Store, Store | None]]:
    """A temporary store for both sides, and the service's store, if there is one."""
    path = config.state.file
    there = fix or path is None or not is_absent(path)
    memory = open_store(config) if there else None
    try:
        with tempfile.TemporaryDirectory(prefix="syncd-audit-") as folder:
            own = Store.open(url_of(Path(folder, "audit.db")), durable=False)
            try:
                yield own, memory
            finally:
                own.close()
    finally:
        if memory is not None:
            memory.close()


@contextmanager
def _files(*files: Path | None) -> Iterator[list[Path | None]]:
    """The files to write; before anything is read, syncd checks that it can write them.

    Each report is complete or missing: the files get their names only after all were written.
    """
    parts: list[Path | None] = []
    try:
        for file in files:
            parts.append(None if file is None else _beside(file))
        yield parts
        for file, part in zip(files, parts, strict=True):
            if file is not None and part is not None:
                part.replace(file.resolve())
    finally:
        for part in parts:
            if part is not None:
                part.unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    """Create a temporary file in the folder of the final file."""
    try:
        if not file.name or file.is_dir():
            raise typer.BadParameter(f"{file} is a folder")
        if file.exists() and not file.is_file():
            # A device file would be replaced by a regular file, for all users of this machine.
            message = f"{file} is not a regular file; - writes to standard output"
            raise typer.BadParameter(message)
        file = file.resolve()  # a link stays a link
        part = file.with_name(f".{file.name}.part")
        part.touch()
    except OSError as error:
        message = f"{plain(str(file), 200)} cannot be written: {error.strerror}"
        raise typer.BadParameter(message) from None
    return part
