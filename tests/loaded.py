"""Loads everything that ``syncd`` needs, for the processes that fork it (see `processes`)."""

import gc
import importlib

from syncd.cli.commands.table import ENTRIES

BY_SYNCD = ("syncd.cli.main", "syncd.service.daemon")

LATER = (
    "alembic.command", "alembic.config", "anyio._backends._asyncio", "apscheduler.executors.asyncio",
    "encodings.ascii", "httpcore", "jinja2", "sqlalchemy.dialects.sqlite", "stripe", "typer._adapters",
    "uvicorn.lifespan.off", "uvicorn.protocols.http.h11_impl", "uvicorn.protocols.websockets.auto",
)  # fmt: skip
"""Modules that libraries load only on first use; with them loaded, a forked syncd loads nothing."""


def load() -> None:
    """Load all modules, and keep the garbage collector from copying them into each forked process."""
    commands = [f"syncd.cli.commands.{entry.module}" for entry in ENTRIES.values()]
    for name in (*BY_SYNCD, *commands, *LATER):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
