"""What the commands share: options, exit codes, and how what failed is said."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from syncd.config.load import load
from syncd.config.model import Config, ConfigurationError
from syncd.core.errors import Failure, Stopping, StoreUnusable
from syncd.service.systemd import Notifier
from syncd.store.db.connection import sqlite_path
from syncd.store.store import Store
from syncd.text.wording import counted

EXIT_ATTENTION = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CONFIG = 78

EXITS = {
    0: "all well; payments that aren't Halo's are well",
    EXIT_ATTENTION: "done, but something needs attention, or differs",
    EXIT_USAGE: "wrong usage",
    EXIT_UNAVAILABLE: "Stripe or Halo unreachable or refusing, the database busy, or a payment left for the next run",
    EXIT_CONFIG: "the configuration, or a database that can't be used",
}
"""What each exit code says."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE",
        help="Else $SYNCD_CONFIG, ./config.toml, /etc/syncd/config.toml.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@contextmanager
def failures_said(*, afresh: bool = False) -> Iterator[None]:
    """Say what failed on stderr, and end with its exit code.

    Args:
        afresh: whether the command only reads, so that it starts afresh the next time.
    """
    try:
        yield
    except ConfigurationError as error:
        Notifier.of(os.environ).status(f"Configuration: {error.problems[0]}")
        typer.echo(
            f"syncd: {counted(len(error.problems), 'problem')} in the configuration:", err=True
        )
        for problem in error.problems:
            typer.echo(f"  {problem}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except StoreUnusable as error:
        typer.echo(f"syncd: {error}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except Stopping:
        goes_on = "starts afresh" if afresh else "goes on from here"
        typer.echo(f"syncd: stopped. The same command {goes_on}.", err=True)
        raise typer.Exit(EXIT_ATTENTION) from None
    except Failure as error:
        goes_on = "" if afresh else " Nothing is lost: the next run goes on from here."
        typer.echo(f"syncd: {error}{goes_on}", err=True)
        raise typer.Exit(EXIT_UNAVAILABLE) from None


def offline(file: Path | None) -> Config:
    """The configuration without the secrets, for what only reads or marks what is known."""
    return load(file, os.environ, signing_in=False)


@contextmanager
def existing(config: Config) -> Iterator[Store]:
    """The store, for commands that must not make one."""
    path = sqlite_path(config.state.url)
    if path is not None and is_absent(path) and path.parent.is_dir():
        message = f"There is no database {path} yet: syncd has not run with this configuration."
        raise StoreUnusable(message)
    store = Store.open(config.state.url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def counting(config: Config, *, usable: bool = True) -> Iterator[Store]:
    """The store, for commands that only read both sides: it counts their requests.

    Where there is none yet, or it isn't usable, one that is thrown away: a command that reads must
    not leave a database behind that belongs to the wrong account.
    """
    path = sqlite_path(config.state.url)
    with tempfile.TemporaryDirectory(prefix="syncd-") as folder:
        url = config.state.url
        if not usable or (path is not None and is_absent(path)):
            url = f"sqlite:///{folder}/counts.db"
        store = Store.open(url)
        try:
            yield store
        finally:
            store.close()


def mode_of(config: Config, store: Store) -> str | None:
    """In which of Stripe's modes it is read; a command without the key goes by what was noted."""
    return config.mode or store.note("stripe_mode")


def is_absent(path: Path) -> bool:
    """Whether there is surely no such file; what this account can't see is left to the store."""
    try:
        return not path.exists()
    except OSError:
        return False
