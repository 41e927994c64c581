"""The demo: a simulated Stripe and Halo on loopback, customers who pay, and the real daemon.

Only the two sides are simulated: the daemon is the same process that a service manager would start,
with its own configuration in a temporary folder.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from syncd.core.money import Money
from syncd.sandbox import Fault, Sandbox
from syncd.text.database_url import url_of

SECONDS_MAX = 60.0
INTERVAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Story:
    """One customer's payment: the steps, and the number of invoices."""

    customer: str
    steps: tuple[str, ...]
    amount: int = 1_099
    currency: str = "usd"
    invoices: int = 1


STORIES = (
    Story("Alder Dental", ("succeeded",), 12_000),
    Story("Birch & Sons", ("payment_failed", "succeeded"), 4_950),
    Story("Cedar Logistics", ("processing", "succeeded"), 250_000, "eur"),
    Story("Dogwood Legal", ("requires_action", "succeeded"), 8_999),
    Story("Elm Architects", ("canceled",), 7_000),
    Story("Fir Bakery", ("payment_failed",), 3_100),
    Story("Ginkgo Labs", ("succeeded",), 90_000, "jpy", 3),
    Story("Hazel Clinic", ("requires_action",), 2_000, "gbp"),
    Story("Ivy Print", ("processing",), 64_000),
)


@dataclass(slots=True)
class Paying:
    """A payment in progress."""

    story: Story
    intent_id: str
    told: int = 0


def play(*, keep: bool) -> int:
    """Run the demo; returns 0 if all payments agree at the end, else 1."""
    console = Console()
    # SIGTERM ends it as cleanly as Ctrl-C, also if a script's shell ignores Ctrl-C.
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="syncd-demo-") as folder, Sandbox() as box:
        payments = [_begin(box, story) for story in STORIES]
        elsewhere = box.stripe.create_intent(amount=500)  # a payment that is not Halo's
        box.stripe.advance(elsewhere, "succeeded")
        _make_trouble(box)
        started = time.monotonic()
        with _daemon(box, Path(folder), keep=keep) as daemon:
            _watch(console, box, payments, daemon, started)
            seconds = time.monotonic() - started
            if keep and daemon.poll() is None:
                payments.append(_begin_held(box))
                text = _invitation(box, Path(folder), payments[-1].intent_id)
                console.print(text, highlight=False, soft_wrap=True)
                with suppress(KeyboardInterrupt):
                    daemon.wait()
        return _summary(console, box, payments, seconds)


def _begin_held(box: Sandbox) -> Paying:
    """Create a payment that syncd holds: Stripe received 10.99, and Halo's row says 5.00."""
    story = Story("Juniper Cafe", ("succeeded",))
    intent_id = box.stripe.create_intent(amount=story.amount)
    box.halo.add_row(intent_id, box.halo.add_invoice(total=5.0), 5.0)
    box.stripe.advance(intent_id, "succeeded")
    return Paying(story, intent_id, told=1)


def _invitation(box: Sandbox, folder: Path, intent_id: str) -> str:
    """Explain how the reader can deal with the payment that syncd holds."""
    row = {"intent_id": intent_id, "invoice_id": box.halo.add_invoice(total=5.99), "amount": 5.99}
    book = json.dumps({"method": "add_row", "args": row})
    here = Path(sys.executable).with_name("syncd")
    syncd = str(here) if here.exists() else "syncd"
    return f"""
syncd keeps running, with a page at http://{_listen_of(folder)}/
One more customer has paid 10.99 USD, but Halo's row for this payment says 5.00, so syncd holds the payment.
In another terminal:

  export SYNCD_CONFIG={folder}/config.toml CREDENTIALS_DIRECTORY={folder}
  {syncd} status
  {syncd} attention

The remaining 5.99 USD were for a second invoice. Add that row in Halo, retry the payment, and check again:

  curl {box.halo.url}/_sandbox/call -d '{book}'
  {syncd} attention retry {intent_id}
  {syncd} attention

Running until Ctrl-C."""


def _begin(box: Sandbox, story: Story) -> Paying:
    """Create a row for a started payment, as Halo does."""
    intent_id = box.stripe.create_intent(amount=story.amount, currency=story.currency)
    decimals = 0 if story.currency == "jpy" else 2
    for _ in range(story.invoices):
        part = story.amount / 10**decimals / story.invoices
        box.halo.add_row(intent_id, box.halo.add_invoice(total=part), part)
    return Paying(story, intent_id)


def _make_trouble(box: Sandbox) -> None:
    """Let both sides fail as often as in reality; the very first write succeeds.

    A first write that fails may still arrive late, and syncd waits minutes before it writes more.
    """
    box.halo.faults += [
        Fault("500", method="POST", path="InvoicePayment", after=2),
        Fault("reset_after", method="POST", path="InvoicePayment", after=3),
        Fault("429", method="GET", path="InvoicePayment", after=6, retry_after=1),
    ]
    box.stripe.faults += [
        Fault("503", after=1),
        Fault("truncated", after=1),
        Fault("reset", after=1),
    ]


@contextmanager
def _daemon(box: Sandbox, folder: Path, *, keep: bool) -> Iterator["subprocess.Popen[bytes]"]:
    """The real daemon, which polls and pushes every second."""
    numbers = "\n".join(f"{state} = {number}" for state, number in box.halo.status.items())
    (folder / "config.toml").write_text(
        f"""[stripe]
api_base = "{box.stripe.url}"
mode = "test"
[halo]
url = "{box.halo.url}"
client_id = "{box.halo.client_id}"
[halo.status]
{numbers}
[poll]
interval = "{INTERVAL_SECONDS:.0f}s"
overlap = "30s"
[state]
url = "{url_of(Path(folder, "syncd.db"))}"
[web]
listen = "127.0.0.1:{_port() if keep else 0}"
""",
        "utf-8",
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith("SYNCD_")}
    for name, secret in (
        ("stripe_api_key", box.stripe.api_key),
        ("halo_client_secret", box.halo.client_secret),
    ):
        (folder / name).touch(0o600)
        (folder / name).write_text(secret, "utf-8")
    environment["CREDENTIALS_DIRECTORY"] = str(folder)
    environment.pop("NOTIFY_SOCKET", None)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # ourselves
            [sys.executable, "-m", "syncd", "--config", str(folder / "config.toml")],
            env=environment,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(15)


def _port() -> int:
    """The usual port, unless it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 9464))
        except OSError:
            return 0
    return 9464


def _listen_of(folder: Path) -> str:
    for line in (folder / "log").read_text("utf-8").splitlines():
        entry = json.loads(line)
        if entry.get("event") == "started":
            return str(entry["listen"])
    return "127.0.0.1"


def _watch(
    console: Console,
    box: Sandbox,
    payments: list[Paying],
    daemon: "subprocess.Popen[bytes]",
    started: float,
) -> None:
    """Advance the payments step by step, and show both sides until they agree."""
    next_step = started
    with Live(_table(box, payments), console=console, refresh_per_second=8) as live:
        while time.monotonic() - started < SECONDS_MAX:
            if daemon.poll() is not None:
                return
            if time.monotonic() >= next_step:
                next_step += INTERVAL_SECONDS
                for paying in payments:
                    _tell(box, paying)
            live.update(_table(box, payments))
            told = all(paying.told == len(paying.story.steps) for paying in payments)
            if told and all(_agrees(box, paying) for paying in payments):
                return
            time.sleep(0.1)


def _tell(box: Sandbox, paying: Paying) -> None:
    """Do the next step after Halo shows the previous one, so that each step is visible."""
    if paying.told and not _agrees(box, paying):
        return
    if paying.told < len(paying.story.steps):
        box.stripe.advance(paying.intent_id, paying.story.steps[paying.told])
        paying.told += 1


def _said(paying: Paying) -> str:
    return paying.story.steps[paying.told - 1] if paying.told else "created"


def _shown(box: Sandbox, paying: Paying) -> str:
    names = {number: state for state, number in box.halo.status.items()}
    states = {names.get(row["status"], "new") for row in box.halo.rows_of(paying.intent_id)}
    return " / ".join(sorted(states))


def _agrees(box: Sandbox, paying: Paying) -> bool:
    return paying.told > 0 and _shown(box, paying) == _said(paying)


def _table(box: Sandbox, payments: list[Paying]) -> Table:
    table = Table(
        title="syncd between a simulated Stripe and a simulated Halo", title_justify="left"
    )
    for column in ("customer", "invoices", "amount", "Stripe says", "Halo says", ""):
        table.add_column(column, no_wrap=column.endswith("says"))
    for paying in payments:
        agrees = _agrees(box, paying)
        mark = "[green]agree[/]" if agrees else "[yellow]on its way[/]" if paying.told else ""
        table.add_row(
            paying.story.customer,
            str(paying.story.invoices),
            str(Money(paying.story.amount, paying.story.currency)),
            _said(paying),
            _shown(box, paying),
            mark,
        )
    return table


def _summary(console: Console, box: Sandbox, payments: list[Paying], seconds: float) -> int:
    """Print the result. Returns 0 if every payment agrees and no row is doubled, else 1."""
    open_ends = [paying.intent_id for paying in payments if not _agrees(box, paying)]
    faults = sum(fault.struck for fault in [*box.stripe.faults, *box.halo.faults])
    rows = [box.halo.rows_of(paying.intent_id) for paying in payments]
    doubled = sum(len(of_one) - len({row["invoice_id"] for row in of_one}) for of_one in rows)
    agree = "all agree"
    if open_ends:
        agree = (
            f"{len(payments) - len(open_ends)} agree, {len(open_ends)} not: {', '.join(open_ends)}"
        )
    if not console.is_terminal or console.is_dumb_terminal:
        console.print()  # the table ends without a line break there
    console.print(
        f"{len(payments)} payments, {sum(map(len, rows))} invoices, {seconds:.0f} s: {agree}; "
        f"{doubled} rows doubled; {faults} simulated faults; "
        f"{len(box.stripe.requests)} requests to Stripe, {len(box.halo.requests)} to Halo.",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if open_ends or doubled else 0
