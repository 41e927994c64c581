"""``syncd audit``: does Halo agree with Stripe?"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from syncd.audit import Audit, Auditor
from syncd.audit_report import (
    Places,
    as_html,
    as_json,
    invoice_of,
    iso,
    sum_of,
    summary,
    write_csv,
)
from syncd.audit_store import AuditStore
from syncd.commands.run import BACKFILL_STRIPE_SHARE, since_of
from syncd.commands.shared import (
    EXIT_ATTENTION,
    ConfigOption,
    JsonOption,
    failures_said,
    is_absent,
)
from syncd.comparing import TITLES
from syncd.config import Config, load
from syncd.database import sqlite_path
from syncd.parts import World, assemble
from syncd.progress import Show, shown, table
from syncd.telemetry import Telemetry, stderr_log
from syncd.words import counted

TABLE_LINES_MAX = 500


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
    config: ConfigOption = None,
    as_json_: JsonOption = False,
) -> None:  # fmt: skip
    """Does Halo agree with Stripe? Compares every payment since a date; read-only.

    Example: syncd audit --since 2026-10-01 --html october.html
    """
    start = since_of(since, option="--since")
    with _files(csv, html) as (csv_part, html_part), failures_said():
        stderr_log()
        loaded = load(config or context.obj, os.environ)
        with _stores(loaded, fix=fix) as (own, memory), shown() as show:
            found = asyncio.run(_audit(loaded, own, memory, start, show, fix=fix))
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
        _print(found)
    raise typer.Exit(EXIT_ATTENTION if found.findings else 0)


async def _audit(
    config: Config, own: AuditStore, memory: AuditStore | None, since: int, show: Show, *, fix: bool
) -> Audit:
    world = World(waiting=show.waiting)
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, world.stop.set)
    parts = assemble(
        config, own, Telemetry(), world, "an audit",
        plan=lambda _work, _decision, _text: None,
        stripe_share=BACKFILL_STRIPE_SHARE,
        counted_in=memory,
    )  # fmt: skip
    parts.engine.pusher.all_rows.progress = show.rows
    auditor = Auditor(
        parts.engine.pusher, parts.engine.reversing, own, memory, world.now, fix, show.listing
    )
    try:
        return await auditor.run(since)
    finally:
        await parts.close()


@contextmanager
def _stores(config: Config, *, fix: bool) -> Iterator[tuple[AuditStore, AuditStore | None]]:
    """A store for both sides, thrown away afterwards; and the service's, if there is one."""
    path = sqlite_path(config.state.url)
    there = fix or path is None or not is_absent(path)
    memory = AuditStore.open(config.state.url) if there else None
    try:
        with tempfile.TemporaryDirectory(prefix="syncd-audit-") as folder:
            own = AuditStore.open(f"sqlite:///{folder}/audit.db")
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


def _print(found: Audit) -> None:
    typer.echo(summary(found))
    if found.sums:
        table(
            "In sum",
            ("difference", "number", "amount"),
            ((TITLES[one.kind], one.count, sum_of(one)) for one in found.sums),
        )
        table(
            "The differences",
            ("difference", "payment", "invoice", "made", "Stripe", "Halo", "amount", "what it is"),
            (
                (
                    TITLES[one.kind], one.intent_id or "", invoice_of(one), iso(one.made)[:10],
                    one.at_stripe, one.in_halo,
                    "" if one.amount is None else f"{one.amount:f} {one.currency or '?'}", one.text,
                )
                for one in found.findings[:TABLE_LINES_MAX]
            ),
        )  # fmt: skip
    left = len(found.findings) - TABLE_LINES_MAX
    if left > 0:
        typer.echo(f"{left} more: see --json, --csv or --html.")
    for note in found.notes:
        typer.echo(f"Not compared: {note}")
    if found.due:
        be, them = ("is", "it") if len(found.due) == 1 else ("are", "them")
        typer.echo(
            f"{counted(len(found.due), 'payment')} {be} due now; the next push takes {them}."
        )
