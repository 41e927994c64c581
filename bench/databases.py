"""The same backfill on SQLite and on PostgreSQL, side by side: CPU of syncd and of the server, and requests to both sides.

``python -m bench.databases`` measures this alone. The benchmark leaves it out where PostgreSQL is not
installed.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measure import Results, Used, run, sandbox
from tests.postgresql.server import PASSWORD, Server, missing

TIMES_MAX = 2.0
"""The maximum CPU of a backfill on PostgreSQL, as a multiple of the CPU on SQLite."""


def _backfill(payments: int, **settings: str) -> tuple[Used, tuple[int, int, int]]:
    """Backfill payments that are out of step; returns what syncd used, and the requests."""
    with tempfile.TemporaryDirectory() as folder, sandbox(payments) as box:
        used = run(box.environment(Path(folder), **settings), "-m", "syncd", "--backfill", "90d")
        requests = box.requests()
    assert requests[2] == payments, f"{requests[2]} rows written for {payments} payments"
    return used, requests


def databases(payments: int, results: Results, console: Console) -> None:
    """Measure both kinds of database."""
    if (reason := missing()) is not None:
        console.print(f"PostgreSQL is left out: {reason}")
        return
    server = Server()
    try:
        server.start()
        with console.status(f"a backfill of {payments:,} payments on SQLite and PostgreSQL"):
            sqlite, asked = _backfill(payments)
            before = server.cpu_seconds()
            postgresql, asked_there = _backfill(
                payments,
                SYNCD_STATE__URL=server.url(server.database()),
                SYNCD_DATABASE_PASSWORD=PASSWORD,
            )
            servers = server.cpu_seconds() - before
    finally:
        server.close()
    of = f"backfill of {payments:,} on PostgreSQL"
    cpu = postgresql.cpu_seconds / payments * 1e3
    results.add(f"{of}: CPU a payment", cpu, "ms")
    times = postgresql.cpu_seconds / sqlite.cpu_seconds
    results.add(f"{of}: CPU, as a multiple of SQLite's", times, "", TIMES_MAX)
    # SQLite works inside syncd's process, a server in its own: so the server's time counts as well.
    results.add(f"{of}: CPU of the server a payment", servers / payments * 1e3, "ms")
    times = (postgresql.cpu_seconds + servers) / sqlite.cpu_seconds
    results.add(f"{of}: CPU with the server's, as a multiple of SQLite's", times, "", TIMES_MAX)
    more = abs(sum(asked_there) - sum(asked))
    results.add(f"{of}: requests more or less than on SQLite", more, "", 0, counts=True)


def main() -> None:
    """Measure this alone, with so many payments as the first argument says (10,000)."""
    console, results = Console(stderr=True), Results()
    databases(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, results, console)
    table = Table("", "measured", "at most", "")
    for row in results.rows:
        table.add_row(*row)
    Console(width=100).print(table)
    sys.exit(1 if results.over else 0)


if __name__ == "__main__":
    main()
