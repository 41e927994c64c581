"""What passes between the poll that finds a payment and Halo's acknowledgement, in a service at rest."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console

from bench.grown import environment_of
from bench.measure import Results
from syncd.sandbox.server import Sandbox

WAIT_SECONDS_MAX = 30.0


def at_once(payments: int, results: Results, console: Console) -> None:
    """Payments one by one: how long until Halo has acknowledged each, without the wait for the poll."""
    with Sandbox() as box, tempfile.TemporaryDirectory() as folder:
        box.stripe.rate_limit_per_second = box.halo.rate_limit = None
        environment = environment_of(box, Path(folder)) | {"SYNCD_POLL__INTERVAL": "1s"}
        process = subprocess.Popen(
            [sys.executable, "-m", "syncd"], env=environment, stderr=subprocess.DEVNULL
        )
        looks: list[float] = []
        writes: list[float] = []
        ends: list[float] = []
        requests = 0
        try:
            with console.status(f"{payments} payments one by one"):
                for _ in range(3):
                    _pay(box)  # signs in, proves the first update, and compares the next with it
                for _ in range(payments):
                    before = len(box.halo.requests)
                    _pay(box)
                    mine = box.halo.requests[before:]
                    found = [one.at for one in box.stripe.requests if one.at <= mine[0].at][-1]
                    looks.append(mine[0].at - found)
                    writes.append(mine[-1].at - mine[0].at)
                    ends.append(mine[-1].at - found)
                    requests += len(mine)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    of = "one payment, from the poll that finds it"
    results.add(f"{of}: until syncd looks up its row", median(looks) * 1e3, "ms")
    results.add(f"{of}: from there until it is written", median(writes) * 1e3, "ms")
    results.add(f"{of}: in all, p50", median(ends) * 1e3, "ms", 1_000)
    results.add(f"{of}: in all, longest", max(ends) * 1e3, "ms")
    results.add("one payment: Halo requests", requests / payments, "", 2, counts=True)


def _pay(box: Sandbox) -> None:
    """One payment succeeds; wait until its row is written."""
    intent = box.stripe.create_intent(amount=1_000)
    box.halo.add_row(intent, box.halo.add_invoice(), 10.0)
    written = len(box.halo.writes)
    box.stripe.advance(intent, "succeeded")
    end = time.monotonic() + WAIT_SECONDS_MAX
    while len(box.halo.writes) == written:
        if time.monotonic() > end:
            sys.exit("the payment was not written")
        time.sleep(0.02)
