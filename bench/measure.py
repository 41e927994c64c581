"""What the benchmark's parts share: the sandbox, processes that are measured, and the table."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Used:
    """What a process used until it ended."""

    cpu_seconds: float
    peak_bytes: int


@dataclass(slots=True)
class Results:
    """The table."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    over: bool = False

    def add(
        self,
        what: str,
        found: float,
        unit: str,
        limit: float | None = None,
        *,
        counts: bool = False,
    ) -> None:
        """Add a figure; `counts` are the same on every machine, so they must be kept."""
        well = limit is None or found <= limit
        mark = "" if limit is None else "kept" if well else "OVER"
        self.over |= counts and not well
        shown = f"{found:.4g} {unit}".strip()
        self.rows.append((what, shown, "" if limit is None else f"{limit:g}", mark))


class Box:
    """The sandbox as a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        self.where = json.loads(process.stdout.readline())

    def control(self, name: str, body: dict[str, Any] | None = None) -> Any:
        """Ask for or change something."""
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.where['stripe']['url']}/_sandbox/{name}"
        with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:  # noqa: S310  # ours
            return json.load(answer)

    def requests(self) -> tuple[int, int, int]:
        """Requests to Stripe, requests to Halo, rows written; since the last `forget`."""
        counts = self.control("counts")
        return sum(counts["stripe"].values()), sum(counts["halo"].values()), counts["writes"]

    def forget(self) -> None:
        """Begin to count anew."""
        self.control("forget_requests", {})

    def environment(self, folder: Path, **more: str) -> dict[str, str]:
        """What a syncd over this sandbox needs."""
        halo, stripe = self.where["halo"], self.where["stripe"]
        clean = {name: text for name, text in os.environ.items() if not name.startswith("SYNCD_")}
        return {
            **clean,
            "SYNCD_CONFIG": os.devnull,  # not the configuration of an installed syncd
            "SYNCD_STRIPE_API_KEY": stripe["api_key"],
            "SYNCD_HALO_CLIENT_SECRET": halo["client_secret"],
            "SYNCD_STRIPE__API_BASE": stripe["url"],
            "SYNCD_STRIPE__READ_BUDGET": "100000000",
            "SYNCD_HALO__URL": halo["url"],
            "SYNCD_HALO__CLIENT_ID": halo["client_id"],
            "SYNCD_HALO__RATE_LIMIT": "100000000",
            "SYNCD_STATE__URL": f"sqlite:///{folder}/syncd.db",
            "SYNCD_WEB__LISTEN": "127.0.0.1:0",
            **{f"SYNCD_HALO__STATUS__{s.upper()}": str(n) for s, n in halo["status"].items()},
            **more,
        }


@contextmanager
def sandbox(payments: int) -> Iterator[Box]:
    """A sandbox without rate limits, with payments that are out of step."""
    process = subprocess.Popen(
        [sys.executable, "-m", "syncd.sandbox", "--no-limits", "--seed-intents", str(payments)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Box(process)
    finally:
        process.terminate()
        process.wait()


def run(environment: dict[str, str], *command: str) -> Used:
    """Run a command to its end."""
    process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command} ended with {process.returncode}:\n{said.decode()[-3_000:]}")
    return Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
