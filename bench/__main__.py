"""What syncd costs: requests, CPU and memory per payment, over real HTTP to the sandbox.

``python -m bench`` takes some minutes, ``--quick`` less than one. Counts that are over their limit end
it with 1; CPU and memory hang on the machine and are only marked. Each process is measured by what
the kernel says of it when it has ended.
"""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread

from rich.console import Console
from rich.table import Table

from bench.at_once import at_once
from bench.databases import databases
from bench.grown import beside, fill
from bench.lag import lag
from bench.measure import Box, Results, Used, run, sandbox
from bench.year import YEAR, Figure, figures

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def backfill(payments: int, results: Results | None, console: Console) -> Used:
    """Backfill payments that are out of step; then once more."""
    with tempfile.TemporaryDirectory() as folder, sandbox(payments) as box:
        with console.status(f"a backfill of {payments:,} payments"):
            environment = box.environment(Path(folder))
            used = run(environment, "-m", "syncd", "--backfill", "90d")
        if results is None:
            return used
        stripe, halo, written = box.requests()
        assert written == payments, f"{written} rows written for {payments} payments"
        of = f"backfill of {payments:,}"
        results.add(f"{of}: Stripe requests a payment", stripe / payments, "", 0.011, counts=True)
        results.add(f"{of}: Halo requests a payment", halo / payments, "", 0.05, counts=True)
        results.add(f"{of}: CPU a payment", used.cpu_seconds / payments * 1e3, "ms", 1)
        box.forget()
        with console.status("the same backfill again"):
            run(environment, "-m", "syncd", "--backfill", "90d")
        again = box.requests()[2] - written
        results.add("the same again: rows written", again, "", 0, counts=True)
        return used


def hidden(payments: int, results: Results, console: Console) -> None:
    """Backfill a tenant whose lists do not show `intent_id`: each payment is looked up alone."""
    with tempfile.TemporaryDirectory() as folder, sandbox(payments) as box:
        box.control("hide_intents", {})
        with console.status(f"{payments:,} payments in a tenant whose lists hide their intents"):
            run(box.environment(Path(folder)), "-m", "syncd", "--backfill", "90d")
        stripe, halo, written = box.requests()
        assert written == payments, f"{written} rows written for {payments} payments"
        of = f"lists hide intents, backfill of {payments:,}"
        results.add(f"{of}: Stripe requests a payment", stripe / payments, "", 0.02, counts=True)
        results.add(f"{of}: Halo requests a payment", halo / payments, "", 1.1, counts=True)
        box.forget()
        run(box.environment(Path(folder)), "-m", "syncd", "--backfill", "90d")
        again = box.requests()[1]
        results.add(f"{of}: Halo requests when in step", again / payments, "", 0.05, counts=True)


def naive(payments: int, results: Results, console: Console) -> None:
    """What one would write instead."""
    with sandbox(payments) as box, console.status(f"the plain script with {payments:,} payments"):
        halo = box.where["halo"]
        used = run(
            {
                **os.environ,
                "STRIPE_URL": box.where["stripe"]["url"],
                "STRIPE_API_KEY": box.where["stripe"]["api_key"],
                "HALO_URL": halo["url"],
                "HALO_CLIENT_ID": halo["client_id"],
                "HALO_CLIENT_SECRET": halo["client_secret"],
                "HALO_TENANT": halo["tenant"],
                "STATUS_SUCCEEDED": str(halo["status"]["succeeded"]),
            },
            "-m",
            "bench.naive",
        )
        stripe, asked, written = box.requests()
    assert written == payments
    of = f"plain script with {payments:,}"
    results.add(f"{of}: Stripe requests a payment", stripe / payments, "")
    results.add(f"{of}: Halo requests a payment", asked / payments, "")
    results.add(f"{of}: CPU a payment", used.cpu_seconds / payments * 1e3, "ms")


def at_rest(polls: int, known: int, results: Results, console: Console) -> None:
    """The daemon while nothing happens, which knows so many payments."""
    with tempfile.TemporaryDirectory() as folder, sandbox(100) as box:
        environment = box.environment(Path(folder), SYNCD_POLL__INTERVAL="1s")
        run(environment, "-m", "syncd", "--backfill", "90d")
        fill(Path(folder) / "syncd.db", known)
        address = f"{folder}/notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(address)
            process = subprocess.Popen(
                [sys.executable, "-m", "syncd"],
                env={**environment, "NOTIFY_SOCKET": address},
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                while b"READY=1" not in manager.recv(4096):
                    pass
                ready_cpu_seconds = _cpu_seconds(process.pid)
                Thread(target=_listen_on, args=[manager], daemon=True).start()
                assert process.stderr is not None
                logged = map(json.loads, process.stderr)
                listen = next(line["listen"] for line in logged if "listen" in line)
                _polls_after(listen, 1)
                first, asked_before, halo_before = _between_polls(listen, box, 2)
                cpu_before = _cpu_seconds(process.pid)
                with console.status(f"{polls} polls at rest"):
                    time.sleep(polls)  # asking for metrics takes CPU as well
                    last, asked, halo = _between_polls(listen, box, first + polls)
                used = _cpu_seconds(process.pid) - cpu_before
                resident = _resident_bytes(process.pid)
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate()
    a_poll = (asked - asked_before) / (last - first)
    results.add("at rest: Stripe requests a poll", a_poll, "", 1, counts=True)
    results.add("at rest: Halo requests", halo - halo_before, "", 0, counts=True)
    of = f"at rest, {known:,} payments known: CPU a poll"
    results.add(of, used / (last - first) * 1e3, "ms", 60)
    results.add("start to ready: CPU", ready_cpu_seconds, "s", 1)
    results.add("at rest: resident memory", resident / 2**20, "MiB", 100)


def _listen_on(manager: socket.socket) -> None:
    """Take what the service tells its manager, as a manager does."""
    with suppress(OSError):
        while manager.recv(4096):
            pass


def _between_polls(listen: str, box: Box, wanted: int) -> tuple[int, int, int]:
    """Wait for so many polls; count polls and requests to either side while none is under way."""
    _polls_after(listen, wanted)
    before: tuple[int, int, int] | None = None
    while True:
        polls, (stripe, halo, _) = _polls_after(listen, wanted), box.requests()
        if before == (polls, stripe, halo):
            return before
        before = polls, stripe, halo
        time.sleep(0.2)


def _polls_after(listen: str, wanted: int) -> int:
    """Wait until so many polls have worked; returns how many have."""
    while True:
        with urllib.request.urlopen(f"http://{listen}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith('syncd_polls_total{outcome="ok"}'):
                    done = int(float(line.split()[-1]))
                    if done >= wanted:
                        return done
        time.sleep(0.05)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Measure, print the table; with ``--write``, keep it in bench/README.md."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer payments; the same counts")
    parser.add_argument("--write", action="store_true", help="keep the table in bench/README.md")
    asked = parser.parse_args()
    many, few, most, plain = (
        (2_000, 500, 2_000, 200) if asked.quick else (10_000, 1_000, 100_000, 2_000)
    )
    console, results = Console(stderr=True), Results()
    # The simulation only counts, so it may run beside what is measured, on the other core.
    pool = ProcessPoolExecutor(1)
    year = pool.submit(_simulated, whole=not asked.quick)
    for known in (100_000,) if asked.quick else (1_000, 10_000, 100_000, 500_000):
        at_rest(5 if asked.quick else 20, known, results, console)
    # A new process begins with the peak memory of its parent, so memory is measured while this process is small.
    first, small = backfill(many, results, console), backfill(few, None, console)
    large = first if most == many else backfill(most, None, console)
    grown = (large.peak_bytes - small.peak_bytes) / 2**20
    results.add(f"backfill: peak memory at {few:,}", small.peak_bytes / 2**20, "MiB")
    results.add(f"backfill: peak memory at {most:,}, beyond that", grown, "MiB", 10)
    at_once(5 if asked.quick else 30, results, console)
    for rows in (1_000,) if asked.quick else (1_000, 10_000, 100_000):
        beside(rows, *((1_000, 300) if asked.quick else (many, 5_000)), results, console)
    lag(*((1_000, 40) if asked.quick else (20_000, 60)), results, console)
    databases(few if asked.quick else many, results, console)
    hidden(few, results, console)
    naive(plain, results, console)
    with console.status("a year of payments"):
        a_year(year.result(), results, whole=not asked.quick)
    pool.shutdown()
    table = Table("", "measured", "at most", "")
    for row in results.rows:
        table.add_row(*row)
    Console(width=100).print(table)
    if asked.write:
        _write(results)
    sys.exit(1 if results.over else 0)


def _simulated(*, whole: bool) -> list[Figure]:
    """A year of payments, or two months of the smallest tenant."""
    return list(figures(*((YEAR, 5) if whole else (60, 1)), whole=whole))


def a_year(found: Iterable[Figure], results: Results, *, whole: bool) -> None:
    """How long payments wait for their poll in a simulated year: see `bench.year`."""
    for figure in found:
        waits, counts = figure.waits, figure.p50_max is not None and whole
        results.add(f"{figure.what}: p50", waits.share(0.5), "s", figure.p50_max, counts=counts)
        results.add(
            f"{figure.what}: p95", waits.share_expected(0.95), "s", figure.p95_max, counts=counts
        )
        if "fixed" not in figure.what:
            over = float(waits.over)
            results.add(f"{figure.what}: above the ration", over, "", 0, counts=True)


def _write(results: Results) -> None:
    lines = ["| | measured | at most | |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in results.rows]
    place = Path(__file__).with_name("README.md")
    head = place.read_text("utf-8").partition("<!-- result -->")[0]
    about = (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}."
    )
    place.write_text(f"{head}<!-- result -->\n\n{about}\n\n" + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
