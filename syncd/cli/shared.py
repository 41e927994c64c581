"""What the commands share: options, exit codes, stop signals, and error messages."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.core.errors import Failure, Stopping, StoreUnusable
from syncd.text.database_url import url_of
from syncd.text.sanitize import inert
from syncd.text.wording import counted

if TYPE_CHECKING:  # each function imports what it needs, so that simple commands start fast
    from syncd.config.model import Config
    from syncd.store.store import Store

EXIT_ATTENTION = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_OUTPUT = 74
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

EXITS = {
    0: "success; payments that do not belong to Halo are no error",
    EXIT_ATTENTION: (
        "the command ended, but a payment needs attention, or the audit found a difference"
    ),
    EXIT_USAGE: "wrong usage",
    EXIT_UNAVAILABLE: "Stripe or Halo is unreachable or refuses, the database is busy, or a payment is left for the next run",
    EXIT_OUTPUT: "standard output could not be written",
    EXIT_CONFIG: "the configuration is wrong, or the database cannot be used",
    EXIT_INTERRUPTED: "interrupted (Ctrl-C)",
    EXIT_TERMINATED: "a command was stopped by SIGTERM (the service itself ends with 0)",
}
"""The meaning of each exit code. 74 and 78 are from sysexits.h; 128 + n is a shell's code for signal n."""


STOP_SECONDS = 5.0
"""How long the current request may take after Ctrl-C or SIGTERM, in seconds; then the command ends."""


@dataclass(slots=True)
class StopSignals:
    """Stops a running command at the first SIGINT or SIGTERM; a second one ends it at once.

    Attributes:
        received: the number of the signal; None before a signal.
    """

    received: int | None = None

    def watch(self, stop: asyncio.Event) -> None:
        """Set the event when a signal arrives. Call this in the task that must stop.

        A signal that arrives between two loops, or while the command asks a question, ends the
        command.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop_the_task() -> None:
            stop.set()
            # What is due is in the database, so an interrupted request is repeated later.
            if task is not None:
                loop.call_later(STOP_SECONDS, task.cancel)

        def on_signal(number: int, _frame: object) -> None:
            # `loop.add_signal_handler` is not used, because a loop that is about to end would lose
            # the signal.
            self.received = number
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if loop.is_closed():
                raise KeyboardInterrupt
            loop.call_soon_threadsafe(stop_the_task)

        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, on_signal)

    def end_if_received(self) -> None:
        """End the command if a signal arrived too late for its loop to notice.

        Raises:
            KeyboardInterrupt: a signal arrived.
        """
        if self.received is not None:
            raise KeyboardInterrupt

    @property
    def exit_code(self) -> int | None:
        """The exit code of a stopped command; None without a signal."""
        return None if self.received is None else 128 + self.received


stop_signals = StopSignals()
"""The stop signals of this process."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="By default $SYNCD_CONFIG, /etc/syncd/config.toml, ./config.toml.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; without a terminal, continue without asking.

    Raises:
        typer.Exit: the answer is no.
        KeyboardInterrupt: Ctrl-C instead of an answer, or while the command was reading before.
    """
    stop_signals.end_if_received()
    if yes or sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    sys.stderr.write(f"{inert(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(EXIT_ATTENTION)


@contextmanager
def failures_said(*, afresh: bool = False) -> Iterator[None]:
    """Print a failure on stderr, and end with its exit code.

    Args:
        afresh: whether the command only reads, so that its next run starts from the beginning.
    """
    from syncd.config.model import ConfigurationError

    try:
        yield
    except ConfigurationError as error:
        from syncd.service.systemd import Notifier

        Notifier.of(os.environ).status(f"Configuration: {error.problems[0]}")
        where = "" if error.file is None else f" {error.file}"
        number = counted(len(error.problems), "problem")
        typer.echo(f"syncd: {number} in the configuration{where}:", err=True)
        for problem in error.problems:
            typer.echo(f"  {problem}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except StoreUnusable as error:
        typer.echo(f"syncd: {error}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except (Stopping, asyncio.CancelledError):
        again = "start again" if afresh else "continue from here"
        typer.echo(f"syncd: stopped. Run the same command again to {again}.", err=True)
        raise typer.Exit(stop_signals.exit_code or EXIT_INTERRUPTED) from None
    except Failure as error:
        goes_on = "" if afresh else " Nothing is lost: the next run continues from here."
        typer.echo(f"syncd: {error}{goes_on}", err=True)
        raise typer.Exit(EXIT_UNAVAILABLE) from None


def load_config(file: Path | None) -> "Config":
    """Load the complete configuration, and set up the log accordingly.

    Raises:
        ConfigurationError: with all problems.
    """
    from syncd.config.load import load
    from syncd.monitor.telemetry import stderr_log

    config = load(file, os.environ)
    stderr_log(config.log)
    return config


def offline(file: Path | None) -> "Config":
    """The configuration without secrets, for commands that use only the database."""
    from syncd.config.load import load

    return load(file, os.environ, signing_in=False)


def open_store(config: "Config", *, create: bool = True) -> "Store":
    """The configured database; `create` the tables in an empty database of a server."""
    from syncd.store.store import Store

    return Store.open(config.state.url, password=config.database_password, create=create)


@contextmanager
def existing(config: "Config") -> Iterator["Store"]:
    """The store, for commands that must not create one."""
    path = config.state.file
    if path is not None and is_absent(path) and path.parent.is_dir():
        by = "" if config.file is None else f" {config.file}"
        message = (
            f"There is no database {path} yet: syncd has not run with this configuration{by}. "
            "Name another file with --config FILE."
        )
        raise StoreUnusable(message)
    store = open_store(config, create=path is not None)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def counting(config: "Config", *, usable: bool = True) -> Iterator["Store"]:
    """The store in which a command that only reads both sides counts its requests.

    If there is none yet, or it is unusable, a temporary one is used: a read-only command must not
    leave a database behind that belongs to the wrong account.
    """
    from syncd.store.store import Store

    path = config.state.file
    with tempfile.TemporaryDirectory(prefix="syncd-") as folder:
        if not usable or (path is not None and is_absent(path)):
            store = Store.open(url_of(Path(folder, "counts.db")))
        else:
            store = open_store(config)
        try:
            yield store
        finally:
            store.close()


def is_absent(path: Path) -> bool:
    """Whether the file certainly does not exist; if this account cannot tell, the store decides."""
    try:
        return not path.exists()
    except OSError:
        return False


SYSTEM = Path("/etc/syncd")
"""The folder of the service's configuration; an instance (syncd@NAME) has a folder NAME in it."""


def unit_of(file: Path | None) -> str | None:
    """The systemd unit that reads a configuration file; None for a file in another place."""
    folder = None if file is None else file.absolute().parent
    if folder == SYSTEM:
        return "syncd"
    return f"syncd@{folder.name}" if folder is not None and folder.parent == SYSTEM else None
