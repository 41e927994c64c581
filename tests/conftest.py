"""Shared fixtures: a sandbox, and an engine that uses it with a fake clock.

Time in these tests advances only when something waits. The sandbox uses the same clock, so no test
really sleeps, and an hour takes no time.
"""

import tests.isolation  # noqa: F401  # before anything else reads the environment

# isort: split

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import core, settings

from syncd.config.load import load
from syncd.config.model import Config
from syncd.core.errors import Stopping
from syncd.core.records import AttentionEntry, Condition
from syncd.core.rules.proof import Proof, WriteKind
from syncd.core.rules.proof_notes import PROOFS, TROUBLES
from syncd.monitor.telemetry import Telemetry
from syncd.sandbox import Sandbox, SandboxHalo
from syncd.store.store import Store
from syncd.sync.build import Parts, Runtime, assemble
from syncd.sync.policy import release_holds
from tests import freshness, processes, statements
from tests.alone import without_the_machine
from tests.documents import Machine
from tests.durations import durations
from tests.spread import spread, unit_of

ROOT = Path(__file__).parents[1]
DAY = 86_400
NOW = 1_795_500_000.0

# The duration of an example depends on the load of the machine, so there is no deadline. In CI
# Hypothesis would draw the same examples each time; here each commit draws others.
settings.register_profile("syncd", deadline=None, derandomize=False)
settings.load_profile("syncd")

without_the_machine()
statements.share()


def pytest_configure(config: pytest.Config) -> None:
    """Give Hypothesis the seed of this commit, unless --hypothesis-seed names another one."""
    if config.getoption("--hypothesis-seed", default=None) is None:
        core.global_force_seed = freshness.SEED  # type: ignore[assignment]  # typed as None


def pytest_report_header() -> str:
    """Print the seed, so that a failure can be replayed."""
    return freshness.REPLAY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the slowest groups, and the seed again, because a quiet run prints no header."""
    reports = [one for some in terminalreporter.stats.values() for one in some]
    for line in durations(one for one in reports if isinstance(one, pytest.TestReport)):
        terminalreporter.write_line(line)
    terminalreporter.write_line(freshness.REPLAY)


class HandClock:
    """A fake clock that advances only when a test or a wait advances it."""

    def __init__(self) -> None:
        self.seconds = NOW

    def __call__(self) -> float:
        return self.seconds


@dataclass(slots=True)
class HandWorld(Runtime):
    """A runtime whose waits advance the fake clock."""

    clock: HandClock = field(default_factory=HandClock)
    waited: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        if self.stop.is_set():
            raise Stopping
        self.waited.append(seconds)
        self.clock.seconds += seconds
        await asyncio.sleep(0)


class Notified(Telemetry):
    """Telemetry that records the log entries."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def log(self, level: str, event: str, **fields: Any) -> None:
        self.lines.append({"level": level, "event": event, **fields})

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == name]


def prove_writes(store: Store, halo: SandboxHalo, now: float) -> None:
    """Record both kinds of writes as proven for this tenant, unless their proof or failure is known."""
    tenant = f"{halo.url} {halo.client_id}"
    for kind in WriteKind:
        if store.note(PROOFS[kind].name) is None and store.note(TROUBLES[kind].name) is None:
            proof = Proof(kind, now, "pi_before", 1, 1)
            store.write_notes({PROOFS[kind].name: PROOFS[kind].encode(proof, tenant)})


@dataclass
class Rig:
    """Runs syncd's engine between the two sides of a sandbox.

    Attributes:
        proven: whether the tenant's writes were proven before the test begins.
        database: the `state.url`; empty for SQLite in `folder`.
        password: the database's password, if it needs one.
    """

    box: Sandbox
    clock: HandClock
    folder: Path
    settings: dict[str, str]
    told: Notified = field(default_factory=Notified)
    proven: bool = True
    database: str = ""
    password: str | None = None
    world: HandWorld = field(init=False)
    waits: dict[str, tuple[float, float]] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = HandWorld(
            now=self.clock, monotonic=self.clock, random=lambda: 0.5, clock=self.clock
        )

    @property
    def url(self) -> str:
        return self.database or f"sqlite:///{self.folder}/syncd.db"

    def open(self) -> Store:
        """Open the store behind `url`; the fake clock counts, not the clock of a database server."""
        opened = Store.open(self.url, password=self.password)
        opened.coordination.use_server_time(None)
        return opened

    def environment(self) -> dict[str, str]:
        """Return the environment variables that connect syncd to the sandbox."""
        status = {
            f"SYNCD_HALO__STATUS__{state.upper()}": str(number)
            for state, number in self.box.halo.status.items()
        }
        return {
            "SYNCD_STRIPE_API_KEY": self.box.stripe.api_key,
            "SYNCD_HALO_CLIENT_SECRET": self.box.halo.client_secret,
            "SYNCD_STRIPE__API_BASE": self.box.stripe.url,
            "SYNCD_HALO__URL": self.box.halo.url,
            "SYNCD_HALO__CLIENT_ID": self.box.halo.client_id,
            "SYNCD_STATE__URL": self.url,
            "SYNCD_WEB__LISTEN": "127.0.0.1:0",
            "SYNCD_HALO__NEW_ROW__METHOD": "12",
            "SYNCD_HALO__NEW_ROW__MODULE_ID": "231",
            **({} if self.password is None else {"SYNCD_DATABASE_PASSWORD": self.password}),
            **status,
            **self.settings,
        }

    def config(self) -> Config:
        chosen = {k: v for k, v in self.environment().items() if v != ""}
        saved = dict(os.environ)
        try:
            os.environ.update(chosen)
            return load(None, os.environ)
        finally:
            os.environ.clear()
            os.environ.update(saved)

    def run(self, work: Callable[[Parts], Any]) -> Any:
        """Open everything, do the work and close everything, like a process that starts and ends."""
        store = self.open()
        if self.proven:
            prove_writes(store, self.box.halo, self.clock())

        async def go() -> Any:
            parts = assemble(self.config(), store, self.told, self.world, "a test")
            try:
                release_holds(parts.config, store, self.clock())
                return await work(parts)
            finally:
                await parts.close()

        try:
            return asyncio.run(go())
        finally:
            store.close()

    def once(self) -> None:
        """Run one poll and one push."""
        self.run(lambda parts: parts.run.once())

    def cycle(self) -> None:
        """Run one poll and one push as the daemon does: a failure is recorded, not raised."""

        async def work(parts: Parts) -> None:
            parts.engine.pusher.waits._known = self.waits  # the daemon keeps it between cycles
            parts.engine.last = self.last
            await parts.engine.poll()
            await parts.engine.push()

        self.run(work)

    def sweep(self) -> None:
        """Run one sweep and one push."""

        async def work(parts: Parts) -> None:
            await parts.engine.sweep()
            await parts.engine.push()

        self.run(work)

    def backfill(self, days: int = 90) -> int:
        async def work(parts: Parts) -> int:
            listed = await parts.run.list_since(int(self.clock()) - days * 86_400, f"{days}d")
            await parts.engine.pusher.push()
            return listed

        return int(self.run(work))

    def stored(self, read: Callable[[Store], Any]) -> Any:
        store = self.open()
        try:
            return read(store)
        finally:
            store.close()

    def attention(self) -> list[AttentionEntry]:
        found: list[AttentionEntry] = self.stored(lambda store: store.people.attention())
        return found

    def condition(self, intent_id: str) -> Condition:
        return Condition(self.stored(lambda store: store.payment(intent_id))["condition"])

    def pay(
        self,
        state: str | None,
        amount: int = 1099,
        rows: tuple[float, ...] = (10.99,),
        **intent: Any,
    ) -> str:
        """Create a payment with its rows in Halo, and move it to a state at Stripe."""
        name = self.box.stripe.create_intent(amount=amount, **intent)
        for part in rows:
            self.box.halo.add_row(name, self.box.halo.add_invoice(total=part), part)
        if state is not None:
            self.box.stripe.advance(name, state)
        return name

    def statuses(self, intent_id: str) -> list[int]:
        return [row["status"] for row in self.box.halo.rows_of(intent_id)]

    def posts(self) -> list[Any]:
        return [
            r
            for r in self.box.halo.requests
            if r.method == "POST" and r.path == "/api/InvoicePayment"
        ]

    def command(
        self,
        *arguments: str,
        extra: dict[str, str] | None = None,
        timeout: float = 60,
        before: tuple[str, ...] = (),
    ) -> "subprocess.CompletedProcess[str]":
        """Run the real command; `before` is an optional program that starts it."""
        chosen = {k: v for k, v in {**self.environment(), **(extra or {})}.items() if v != ""}
        environment = {**os.environ, **chosen, "PYTHONPATH": str(ROOT)}
        if not before:
            return processes.run(
                *arguments,
                environment=environment,
                folder=self.folder,
                timeout=timeout,
            )
        return subprocess.run(
            [*before, sys.executable, "-m", "tests.alone", *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest tests first, so that no worker runs one of them alone at the end."""
    units: dict[str, list[pytest.Item]] = {}
    rest: list[pytest.Item] = []
    for item in items:
        unit = unit_of(item.nodeid, slow=item.get_closest_marker("slow") is not None)
        (rest if unit is None else units.setdefault(unit, [])).append(item)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = spread(list(units.values()), rest, workers)


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the tests a home folder, so that they neither read nor write the user's own."""
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    processes.STARTER.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def rig(clock: HandClock, tmp_path: Path) -> Iterator[Rig]:
    """An engine and a sandbox with a fake clock."""
    with Sandbox(clock=clock) as box:
        yield Rig(box, clock, tmp_path, {})


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Rig]:
    """An engine and a sandbox with the real clock, for real processes."""
    with Sandbox() as box:
        yield Rig(box, HandClock(), tmp_path, {})


@dataclass
class Receiver:
    """An HTTP service that receives messages and heartbeats, and can refuse them."""

    url: str = ""
    refuses: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    pings: list[str] = field(default_factory=list)

    @property
    def notify_url(self) -> str:
        return f"json://{self.url}/a-secret-token"

    def titles(self) -> list[str]:
        return [message["title"].partition("): ")[2] for message in self.messages]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on the loopback address."""
    known = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if known.refuses:
                known.refused += 1
            else:
                known.messages.append(body)
            self._answer()

        def do_GET(self) -> None:
            known.pings.append(self.path)
            self._answer()

        def _answer(self) -> None:
            self.send_response(known.refuses or 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        known.url = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield known
        server.shutdown()
        thread.join()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine without an installed syncd, between the two sides of a sandbox."""
    with Sandbox() as box:
        found = Machine(tmp_path / "m", box)
        yield found
        found.close()
