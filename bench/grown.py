"""What a burst and a backfill cost where Halo holds many other rows, and an idle service that knows much."""

import sqlite3
import struct
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from bench.measure import Box, Results, run
from syncd.sandbox.server import Sandbox

WITHOUT_ROW = 20
"""One payment in so many has no row in Halo."""

OVERHEAD = 10
"""Requests of a run, however many payments there are: signing in, proving the first update, the last page."""


def beside(rows: int, payments: int, burst: int, results: Results, console: Console) -> None:
    """A backfill and a burst beside other rows of Halo; then a backfill of payments without rows."""
    with Sandbox() as box, tempfile.TemporaryDirectory() as folder:
        box.stripe.rate_limit_per_second = box.halo.rate_limit = None
        invoice = box.halo.add_invoice(total=1e9)
        for number in range(rows):
            box.halo.add_row(f"pi_other{number}", invoice, 5.0, 3)
        environment = environment_of(box, Path(folder))
        box.seed(payments)
        _command(f"backfill of {payments:,} beside {rows:,} rows", environment, "--backfill", "90d",
                 box=box, payments=payments, limit=max(0.03, 1 / 60 + 0.01 + OVERHEAD / payments), results=results, console=console)  # fmt: skip
        commits = _commits(Path(folder) / "syncd.db")
        results.add(
            f"backfill of {payments:,}: commits a payment",
            commits / payments,
            "",
            0.095,
            counts=True,
        )
        for _ in range(burst):
            intent = box.stripe.create_intent(amount=1_000)
            box.halo.add_row(intent, invoice, 10.0)
            box.stripe.advance(intent, "succeeded")
        _command(f"burst of {burst:,} beside {rows:,} rows", environment, "--once",
                 box=box, payments=burst, limit=1.3 * 0.03 + OVERHEAD / burst, results=results, console=console)  # fmt: skip
        for number in range(payments // WITHOUT_ROW):
            made = int(time.time()) - 86_400 * 20 - number
            box.stripe.advance(
                box.stripe.create_intent(amount=1_000, created=made), "succeeded", emit=False
            )
        box.halo.requests.clear()
        run(
            {**environment, "SYNCD_STATE__URL": f"sqlite:///{folder}/other.db"},
            "-m",
            "syncd",
            "--backfill",
            "91d",
        )
        run(
            {**environment, "SYNCD_STATE__URL": f"sqlite:///{folder}/other.db"},
            "-m",
            "syncd",
            "--once",
        )
        more = len(box.halo.requests) / (payments // WITHOUT_ROW)
        results.add(
            f"old payments without a row beside {rows:,}: Halo requests for each in all",
            more,
            "",
            3,
            counts=True,
        )


def _command(
    what: str,
    environment: dict[str, str],
    *command: str,
    box: Sandbox,
    payments: int,
    limit: float,
    results: Results,
    console: Console,
) -> None:
    """Run a command that pushes so many payments, and count its requests to Halo."""
    box.halo.requests.clear()
    written = len(box.halo.writes)
    with console.status(what):
        run(environment, "-m", "syncd", *command)
    assert len(box.halo.writes) - written == payments, f"{what}: {len(box.halo.writes) - written}"
    results.add(
        f"{what}: Halo requests a payment",
        len(box.halo.requests) / payments,
        "",
        limit,
        counts=True,
    )


def environment_of(box: Sandbox, folder: Path) -> dict[str, str]:
    """What a syncd over this sandbox needs."""
    where: dict[str, Any] = {
        "stripe": {"url": box.stripe.url, "api_key": box.stripe.api_key},
        "halo": {
            "url": box.halo.url,
            "client_id": box.halo.client_id,
            "client_secret": box.halo.client_secret,
            "status": box.halo.status,
        },
    }
    return Box.environment(SimpleNamespace(where=where), folder)  # type: ignore[arg-type]


def _commits(database: Path) -> int:
    """How many transactions have written to the database: SQLite's file change counter."""
    with database.open("rb") as file:
        file.seek(24)
        return int(struct.unpack(">I", file.read(4))[0])


def fill(database: Path, payments: int) -> None:
    """Add payments of the last half year, in step, to a database."""
    now = int(time.time())
    with sqlite3.connect(database) as plain:
        plain.execute(
            """
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :payments)
            INSERT INTO payments (intent_id, state, said_at, read, heard, final, condition, dismissed,
                attempts, looks, changed_at, created, amount, amount_received, currency, acked_state)
            SELECT 'pi_bench' || i, 'succeeded', :now - i * 30, 0, 'event:succeeded:1', 1, 'in_step', 0,
                0, 0, :now - i * 30, :now - i * 30, 1099, 1099, 'usd', 'succeeded' FROM n""",
            {"payments": payments, "now": now},
        )
    plain.close()
