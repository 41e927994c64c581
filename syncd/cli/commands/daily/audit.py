"""``syncd audit``: does Halo agree with Stripe?"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from syncd.audit.auditor import Auditor
from syncd.audit.findings import Audit
from syncd.audit.html import as_html
from syncd.audit.invoices import INVOICES_MAX, Invoices
from syncd.audit.report import Places, as_json, write_csv
from syncd.audit.text import lines
from syncd.cli.commands.operate.run import BACKFILL_STRIPE_SHARE, since_of
from syncd.cli.shared import (
    EXIT_ATTENTION,
    ConfigOption,
    JsonOption,
    failures_said,
    is_absent,
    stop_signals,
)
from syncd.cli.terminal import Show, shown
from syncd.config.load import load
from syncd.config.model import Config
from syncd.monitor.telemetry import Telemetry, stderr_log
from syncd.store.db.connection import sqlite_path
from syncd.store.store import Store
from syncd.sync.build import World, assemble

WIDTH_OTHERWISE = 100
"""Of what isn't a terminal, in characters."""


def audit(
    context: typer.Context,
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="DATE",
            help='Payments made since a date, a time (UTC unless it says so), or a span ("90d").',
        ),
    ],
    *,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the differences as CSV.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page to be mailed.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Let the next push put right what syncd can.")
    ] = False,
    invoices: Annotated[
        int,
        typer.Option(
            "--invoices", metavar="NUMBER", min=0,
            help="Invoices to read at most, newest first, to see whether paid ones are still due: "
            "one request to Halo each; 0 reads none.",
        ),
    ] = INVOICES_MAX,
    config: ConfigOption = None,
    as_json_: JsonOption = False,
) -> None:  # fmt: skip
    """Does Halo agree with Stripe? Compares every payment since a date; read-only.

    Example: syncd audit --since 2026-10-01 --html october.html
    """
    start = since_of(since, option="--since")
    with _files(csv, html) as (csv_part, html_part), failures_said(afresh=True):
        stderr_log()
        loaded = load(config or context.obj, os.environ)
        with _stores(loaded, fix=fix) as (own, memory), shown() as show:
            found = asyncio.run(
                _audit(loaded, own, memory, start, show, fix=fix, invoices_max=invoices)
            )
        test = "_test_" in loaded.stripe_api_key
        places = Places(loaded.halo.url, test, loaded.stripe.account)
        if csv_part:
            with csv_part.open("w", encoding="utf-8", newline="") as to:
                write_csv(found, places, to)
        if html_part:
            html_part.write_text(as_html(found, places), "utf-8")
    if as_json_:
        typer.echo(as_json(found, places))
    else:
        width = shutil.get_terminal_size((WIDTH_OTHERWISE, 24)).columns
        for line in lines(found, width, lambda text: typer.style(text, bold=True)):
            typer.echo(line)
    raise typer.Exit(EXIT_ATTENTION if found.open else 0)


async def _audit(
    config: Config, own: Store, memory: Store | None, since: int, show: Show,
    *, fix: bool, invoices_max: int,
) -> Audit:  # fmt: skip
    world = World(waiting=show.waiting)
    stop_signals.watch(world.stop)
    parts = assemble(
        config, own, Telemetry(), world, "an audit",
        plan=lambda _work, _decision, _text: None,
        stripe_share=BACKFILL_STRIPE_SHARE,
        counted_in=memory,
    )  # fmt: skip
    pusher = parts.engine.pusher
    pusher.all_rows.progress = show.rows
    invoices = Invoices(parts.sink, own, pusher.settings.policy, invoices_max, show.invoices)
    auditor = Auditor(
        pusher, parts.engine.reversing, own, memory, invoices, world.now, fix, show.listing
    )
    try:
        return await auditor.run(since)
    finally:
        await parts.close()


@contextmanager
def _stores(config: Config, *, fix: bool) -> Iterator[tuple[Store, Store | None]]:
    """A store for both sides, thrown away afterwards; and the service's, if there is one."""
    path = sqlite_path(config.state.url)
    there = fix or path is None or not is_absent(path)
    memory = Store.open(config.state.url) if there else None
    try:
        with tempfile.TemporaryDirectory(prefix="syncd-audit-") as folder:
            own = Store.open(f"sqlite:///{folder}/audit.db")
            try:
                yield own, memory
            finally:
                own.close()
    finally:
        if memory is not None:
            memory.close()


@contextmanager
def _files(*files: Path | None) -> Iterator[list[Path | None]]:
    """Places to write to, found out to be writable before anything is read.

    Each report is whole or not there: it takes its name only when all were written.
    """
    parts: list[Path | None] = []
    try:
        for file in files:
            parts.append(None if file is None else _beside(file))
        yield parts
        for file, part in zip(files, parts, strict=True):
            if file is not None and part is not None:
                part.replace(file)
    finally:
        for part in parts:
            if part is not None:
                part.unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    """Make the file that is written first, in the folder of the one it will become."""
    if not file.name or file.is_dir():
        raise typer.BadParameter(f"{file} is a folder")
    part = file.with_name(f".{file.name}.part")
    try:
        part.touch()
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}") from None
    return part
