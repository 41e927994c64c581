"""``syncd copy``: copies the whole database into another one, SQLite or PostgreSQL."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import ValidationError

from syncd.cli.shared import ConfigOption, existing, failures_said, offline
from syncd.config.model import Config, State
from syncd.config.secrets import find_secret
from syncd.core.errors import LeaseHeld, StoreUnusable
from syncd.store.store import Store
from syncd.sync.lease import Lease, this_process


def copy(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="The URL of the empty database, written like state.url."
        ),
    ],
    config: ConfigOption = None,
) -> None:
    """Copy everything in the database to another, empty database, while the service is stopped.

    Example: syncd copy postgresql://syncd@db.example.com/syncd
    """
    try:
        State(url=url)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise typer.BadParameter(problem.removeprefix("Value error, ")) from None
    with failures_said():
        loaded = offline(config or context.obj)
        with existing(loaded) as source:
            _refuse_while_used(source, loaded)
            password = find_secret("database_password", os.environ, loaded.file).value
            target = Store.open(url, password=password)
            try:
                with _no_push(source):
                    rows = source.housekeeping.move_to(target.housekeeping)
            finally:
                target.close()
    typer.echo(
        f"Copied {rows:,} rows. Next: set state.url to the new database, then start the service."
    )


@contextmanager
def _no_push(source: Store) -> Iterator[None]:
    """Keep every process from pushing: the copy would lack a new row that is sent meanwhile.

    Raises:
        StoreUnusable: another process pushes.
    """
    lease = Lease(source, this_process("a copy"), time.time)
    try:
        lease.take()
        yield
        lease.renew()
    except LeaseHeld as error:
        message = (
            f"{error.holder} pushes to Halo, so the copy is not complete. Wait until it has ended, then "
            "copy to an empty database again."
        )
        raise StoreUnusable(message) from None
    finally:
        lease.give_back()


def _refuse_while_used(source: Store, config: Config) -> None:
    """Refuse while a service runs: its later writes would be missing in the copy.

    Raises:
        StoreUnusable: a service runs.
    """
    held = source.coordination.holder("service")
    runs = held is not None and held[1] > time.time()
    if config.state.is_server:
        leading = source.coordination.leading()
        runs = leading is not None and (leading.holds or bool(leading.standbys))
    if runs:
        message = (
            "The service uses the database. Stop the service on every machine (systemctl stop syncd), "
            "then run this command again. Nothing was copied."
        )
        raise StoreUnusable(message)
