"""A long run: the real daemon against the sandbox, with payments flowing and faults at random.

``python -m bench.soak --minutes 30`` (or ``make soak MINUTES=30``). It samples what the kernel says of
the daemon's process, what its database takes, and how long a change at Stripe takes to stand in Halo.
It ends with 1 where something grows beyond its tolerance, or where the two sides don't agree once the
faults have stopped. What is printed is a page that can be kept as it is; ``--write`` keeps it in
docs/soak.md. The sandbox lives in this process, the daemon in one of its own.
"""

import argparse
import json
import os
import platform
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from syncd.sandbox import Fault, Sandbox

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "soak.md"

STRIPE_FAULTS = (
    "429", "lock_429", "500", "502", "503", "504", "reset", "hang", "html", "html_500", "truncated",
    "cut_json", "empty", "garbage", "401", "403", "redirect", "huge",
)  # fmt: skip
HALO_FAULTS = (
    *STRIPE_FAULTS,
    "500_after",
    "504_after",
    "reset_after",
    "hang_after",
    "applied_late",
    "400",
)
FAULT_EVERY_SECONDS, FAULT_SECONDS = 12.0, 4.0
LATE_SECONDS = 20.0
DRAIN_SECONDS = 400.0
"""A side that failed many times in a row is left alone for up to five minutes."""

RESIDENT_GROWTH_MIB = 12.0
FILES_GROWTH = 6
"""Connections come and go with the faults; a leak of one a fault would be far beyond it."""
THREADS_GROWTH = 1
BYTES_A_PAYMENT = 3_000
"""What is remembered of a payment: it stays for half a year, so the database grows by this much."""
BEHIND_SECONDS, BEHIND_SHARE = 300.0, 0.02
"""What Halo refused is tried again after ten minutes: some are always behind while faults go on."""
LAG_FACTOR, LAG_SLACK_SECONDS = 2.0, 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment; lags are of the changes that reached Halo since the last."""

    minute: float
    resident_mib: float
    files: int
    threads: int
    database_kib: float
    payments: int
    faults: int
    lags: list[float]

    def line(self) -> str:
        """The sample as a line of the table."""
        median = f"{statistics.median(self.lags):.1f}" if self.lags else "-"
        worst = f"{max(self.lags):.1f}" if self.lags else "-"
        return (
            f"| {self.minute:.1f} | {self.payments} | {self.faults} | {self.resident_mib:.1f} | "
            f"{self.files} | {self.threads} | {self.database_kib:.0f} | {median} | {worst} |"
        )


HEAD = (
    "| minute | payments | faults | memory MiB | open files | threads | database KiB "
    "| lag s, median | lag s, worst |\n|---|---|---|---|---|---|---|---|---|"
)


@dataclass(slots=True)
class Expected:
    """What Halo must show of a payment, and since when it should."""

    rows: int
    state: str | None = None
    since: float = 0.0
    waiting: bool = False


@dataclass(slots=True)
class Traffic:
    """Customers, Halo's own integration, and bad luck; all from one seed.

    Attributes:
        later: what is still to happen, by the time it is due.
    """

    box: Sandbox
    dice: random.Random
    expected: dict[str, Expected] = field(default_factory=dict)
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    lags: list[float] = field(default_factory=list)

    def pay(self) -> None:
        """A customer pays an invoice, one way or another."""
        amount, way = self.dice.randrange(100, 100_000), self.dice.random()
        invoice = self.box.halo.add_invoice(total=amount / 100)
        create, foreign, two = way < 0.10, 0.10 <= way < 0.13, 0.13 <= way < 0.18
        metadata = {"halo_invoice_id": str(invoice)} if create else {}
        name = self.box.stripe.create_intent(amount=amount, metadata=metadata)
        if two:
            self.box.halo.add_row(name, invoice, 0.5)
            self.box.halo.add_row(name, invoice, round(amount / 100 - 0.5, 2))
        elif not create and not foreign:
            self.box.halo.add_row(name, invoice, amount / 100)
        self.expected[name] = Expected(0 if foreign else 2 if two else 1)
        first = self.dice.choices(
            ("succeeded", "processing", "payment_failed", "requires_action", "canceled"),
            (55, 18, 12, 8, 7),
        )[0]
        self._become(name, first)
        if first not in ("succeeded", "canceled"):
            again = time.time() + self.dice.uniform(0.5, 60)
            self.later.append((again, lambda: self._become(name, "succeeded")))

    def _become(self, name: str, state: str) -> None:
        late = self.dice.uniform(1, LATE_SECONDS) if self.dice.random() < 0.1 else 0.0
        event = self.box.stripe.advance(name, state, visible_after=late)
        expected = self.expected[name]
        expected.state, expected.since = state, time.time() + late
        expected.waiting = expected.rows > 0
        if self.dice.random() < 0.1:
            found = next(e for e in reversed(self.box.stripe.events) if e["id"] == event)
            self.box.halo.native_webhook(found)
            expected.waiting = False  # not syncd's doing, so not measured

    def misbehave(self) -> None:
        """One of the two sides fails in one of its ways, for some requests."""
        side, kinds = self.dice.choice(
            ((self.box.stripe, STRIPE_FAULTS), (self.box.halo, HALO_FAULTS))
        )
        kind = self.dice.choice(kinds)
        # One at a time, and not for long: or they pile up while syncd leaves a side alone.
        self.later.append((time.time() + FAULT_SECONDS, side.faults.clear))
        side.faults.clear()
        side.faults.append(
            Fault(
                kind,
                times=self.dice.randint(1, 3),
                seconds=self.dice.uniform(0.5, 5),
                size=2_000_000,
            )
        )
        self.faults[f"{'Stripe' if side is self.box.stripe else 'Halo'} {kind}"] += 1

    def happen(self) -> None:
        """What has become due happens; what has reached Halo is measured."""
        now = time.time()
        due = [what for at, what in self.later if at <= now]
        self.later = [(at, what) for at, what in self.later if at > now]
        for what in due:
            what()
        for name, expected in self.expected.items():
            if expected.waiting and self._is_right(name, expected):
                expected.waiting = False
                self.lags.append(max(0.0, now - expected.since))

    def _is_right(self, name: str, expected: Expected) -> bool:
        rows = self.box.halo.rows_of(name)
        wanted = self.box.halo.status.get(expected.state or "")
        return len(rows) == expected.rows and all(row["status"] == wanted for row in rows)

    def wrong(self) -> list[str]:
        """The payments on which the two sides don't agree."""
        return [
            f"{name}: {expected.rows} row(s) {expected.state} expected, Halo has "
            f"{[row['status'] for row in self.box.halo.rows_of(name)]}"
            for name, expected in self.expected.items()
            if expected.rows != len(self.box.halo.rows_of(name))
            or (expected.rows and not self._is_right(name, expected))
        ]


class Service:
    """The daemon, and what the kernel says of it."""

    def __init__(self, box: Sandbox, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "syncd.db"
        clean = {name: text for name, text in os.environ.items() if not name.startswith("SYNCD_")}
        self.environment = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "SYNCD_CONFIG": os.devnull,  # not the configuration of an installed syncd
            "SYNCD_STRIPE_API_KEY": box.stripe.api_key,
            "SYNCD_HALO_CLIENT_SECRET": box.halo.client_secret,
            "SYNCD_STRIPE__API_BASE": box.stripe.url,
            "SYNCD_STRIPE__READ_BUDGET": "100000000",
            "SYNCD_HALO__URL": box.halo.url,
            "SYNCD_HALO__CLIENT_ID": box.halo.client_id,
            "SYNCD_HALO__RATE_LIMIT": "100000000",
            **{f"SYNCD_HALO__STATUS__{s.upper()}": str(n) for s, n in box.halo.status.items()},
            "SYNCD_POLL__INTERVAL": "1s",
            "SYNCD_POLL__OVERLAP": "1m",
            "SYNCD_POLL__SWEEP": "1m",
            "SYNCD_PUSH__CREATE_MISSING": "true",
            "SYNCD_STATE__URL": f"sqlite:///{self.database}",
            "SYNCD_WEB__LISTEN": "127.0.0.1:0",
            "SYNCD_HALO__NEW_ROW__METHOD": "12",
            "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
        }
        self.log = folder / "log"
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "syncd"], env=self.environment, cwd=folder, stderr=stderr
            )
        while not (started := self.events("started")):
            if self.process.poll() is not None:
                raise SystemExit(f"it didn't start:\n{self.log.read_text('utf-8')}")
            time.sleep(0.1)
        self.url = f"http://{started[0]['listen']}"

    def events(self, name: str) -> list[dict[str, object]]:
        """The entries of the log of one kind."""
        mark = f'"event": "{name}"'
        with self.log.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if mark in line]

    def sample(self, began: float, traffic: Traffic) -> Sample:
        """Measure now; its pages are asked for too, as a monitor would."""
        for page in ("metrics", "livez"):
            with urllib.request.urlopen(f"{self.url}/{page}", timeout=30) as answer:  # noqa: S310  # ours
                answer.read()
        proc = Path(f"/proc/{self.process.pid}")
        said = dict(
            line.split(":", 1) for line in (proc / "status").read_text("utf-8").splitlines()
        )
        lags, traffic.lags = traffic.lags, []
        return Sample(
            (time.time() - began) / 60,
            int(said["VmRSS"].split()[0]) / 1024,
            len(list((proc / "fd").iterdir())),
            int(said["Threads"]),
            self.database.stat().st_size / 1024,
            len(traffic.expected),
            sum(traffic.faults.values()),
            lags,
        )

    def retry_all(self) -> None:
        """What a person does when a fault made a payment fail and the fault is mended."""
        subprocess.run(
            [sys.executable, "-m", "syncd", "attention", "retry", "--all"],
            env=self.environment,
            cwd=self.folder,
            check=False,
            capture_output=True,
            timeout=60,
        )

    def stop(self) -> int:
        """End it as systemd does."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@dataclass(slots=True)
class Verdicts:
    """What must hold at the end, as a table."""

    lines: list[str] = field(default_factory=list)
    broken: bool = False

    def add(self, what: str, found: float, limit: float) -> None:
        """A figure and the most it may be."""
        kept = found <= limit
        self.broken |= not kept
        self.lines.append(f"| {what} | {found:.4g} | {limit:g} | {'kept' if kept else 'OVER'} |")


def run(minutes: float, rate: float, seed: int, say: Callable[[str], None]) -> bool:
    """Run, say what was seen; returns whether all held."""
    dice = random.Random(seed)  # noqa: S311  # not for secrets
    with Sandbox(seed=seed) as box, tempfile.TemporaryDirectory(prefix="syncd-soak-") as folder:
        box.halo.rate_limit = None
        traffic, service = Traffic(box, dice), Service(box, Path(folder))
        say(
            f"{minutes:g} minutes, {rate:g} payments a second, a fault every "
            f"{FAULT_EVERY_SECONDS:g} s, a reload with each line; seed {seed}. Polls every second, "
            f"sweeps every minute. {time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores.\n\n{HEAD}"
        )
        try:
            samples = _flow(minutes * 60, rate, traffic, service, say)
            behind = sum(
                expected.waiting and time.time() - expected.since > BEHIND_SECONDS
                for expected in traffic.expected.values()
            )
            drained = _drain(traffic, service)
            last = service.sample(time.time() - minutes * 60, traffic)
        finally:
            code = service.stop()
        say(f"\nFaults: {', '.join(f'{k} {n}' for k, n in sorted(traffic.faults.items()))}.\n")
        verdicts = _judged(samples, last, traffic, service, code)
        verdicts.add(
            "payments behind by more than 5 minutes when the faults ended",
            behind,
            round(BEHIND_SHARE * len(traffic.expected)),
        )
        verdicts.add("seconds until all agreed, once the faults ended", drained, DRAIN_SECONDS)
        say("| | found | at most | |\n|---|---|---|---|\n" + "\n".join(verdicts.lines))
        for line in traffic.wrong()[:20]:
            say(f"- {line}")
        for fault in service.events("fault")[:5]:
            say(f"- {fault}")
        return not verdicts.broken


def _flow(
    seconds: float, rate: float, traffic: Traffic, service: Service, say: Callable[[str], None]
) -> list[Sample]:
    began = time.time()
    every = max(10.0, seconds / 20)
    next_pay = next_fault = began
    next_sample = began + min(10.0, every)
    samples: list[Sample] = []
    while (now := time.time()) < began + seconds:
        if service.process.poll() is not None:
            raise SystemExit(f"the daemon ended: {service.log.read_text('utf-8')[-3_000:]}")
        if now >= next_pay:
            traffic.pay()
            next_pay = now + traffic.dice.expovariate(rate)
        if now >= next_fault:
            traffic.misbehave()
            next_fault = now + traffic.dice.expovariate(1 / FAULT_EVERY_SECONDS)
        traffic.happen()
        if now >= next_sample:
            samples.append(service.sample(began, traffic))
            say(samples[-1].line())
            service.process.send_signal(signal.SIGHUP)
            traffic.box.stripe.requests.clear()
            traffic.box.halo.requests.clear()
            next_sample = max(began + every * len(samples), now + every / 2)
        time.sleep(0.05)
    return samples


def _drain(traffic: Traffic, service: Service) -> float:
    """The faults end; all that was begun comes to its end. Returns after how many seconds."""
    traffic.box.stripe.faults.clear()
    traffic.box.halo.faults.clear()
    began, retried = time.time(), 0.0
    while time.time() < began + DRAIN_SECONDS:
        traffic.happen()
        if not traffic.later and not traffic.wrong():
            break
        if time.time() > retried + 30:
            service.retry_all()
            retried = time.time()
        time.sleep(0.2)
    return time.time() - began


def _judged(
    samples: list[Sample], last: Sample, traffic: Traffic, service: Service, code: int
) -> Verdicts:
    """Compare the end with the time after warming up, a sixth of the run."""
    verdicts = Verdicts()
    first = samples[min(len(samples) - 1, len(samples) // 6)]
    verdicts.add(
        f"memory beyond minute {first.minute:.0f}, MiB",
        last.resident_mib - first.resident_mib,
        RESIDENT_GROWTH_MIB,
    )
    verdicts.add("open files beyond that", last.files - first.files, FILES_GROWTH)
    verdicts.add("threads beyond that", last.threads - first.threads, THREADS_GROWTH)
    more = max(1, last.payments - first.payments)
    grown = (last.database_kib - first.database_kib) * 1024 / more
    verdicts.add("database, bytes a new payment", grown, BYTES_A_PAYMENT)
    quarter = max(1, len(samples) // 4)
    early, late = (
        statistics.median([lag for sample in some for lag in sample.lags] or [0.0])
        for some in (samples[:quarter], samples[-quarter:])
    )
    verdicts.add(
        f"lag in the last quarter, s (first: {early:.1f})",
        late,
        round(LAG_FACTOR * early + LAG_SLACK_SECONDS, 1),
    )
    verdicts.add(f"payments of {last.payments} that don't agree", len(traffic.wrong()), 0)
    verdicts.add("steps that failed by a fault of the program", len(service.events("fault")), 0)
    verdicts.add("exit code on SIGTERM", code, 0)
    connection = sqlite3.connect(service.database)
    sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    verdicts.add("damage in the database", int(not sound), 0)
    told = service.log.read_text("utf-8")
    secrets = (service.environment["SYNCD_HALO_CLIENT_SECRET"], "_secret_", "rk_test_")
    verdicts.add("secrets in the log", sum(secret in told for secret in secrets), 0)
    return verdicts


def main() -> None:
    """Run for the minutes asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=1.0, help="payments a second")
    parser.add_argument("--seed", type=int, default=None, help="the same payments and faults again")
    parser.add_argument("--write", action="store_true", help="keep what is printed in docs/soak.md")
    asked = parser.parse_args()
    seed = random.randrange(2**32) if asked.seed is None else asked.seed  # noqa: S311
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        print(text, flush=True)

    well = run(asked.minutes, asked.rate, seed, say)
    if asked.write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(f"# A long run\n\n{INTRODUCTION}\n\n" + "\n".join(said) + "\n", "utf-8")
    sys.exit(0 if well else 1)


INTRODUCTION = (
    "`make soak MINUTES=30 SOAK_ARGS=--write` wrote this page: the real daemon against the sandbox, "
    "with payments flowing and both sides failing at random. *Lag* is the time from a change at "
    "Stripe to its row in Halo, pauses after faults included. The database grows, by what it "
    "remembers of each payment for half a year; nothing else may."
)


if __name__ == "__main__":
    main()
