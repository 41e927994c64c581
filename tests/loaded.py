"""Loads everything that ``syncd`` needs, for the processes that fork it (see `processes`)."""

import asyncio
import gc
import importlib
import logging
import os
import tempfile
from typing import Any

from syncd.cli.commands.table import ENTRIES
from syncd.monitor.telemetry import Telemetry
from tests import statements

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
    statements.share()
    log = logging.getLogger("asyncio")
    log.disabled = True  # the sandbox ends before the connections to it
    _run_once()
    log.disabled = False
    gc.collect()
    gc.freeze()


class Silent(Telemetry):
    """Telemetry that logs nothing."""

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Log nothing."""


def _run_once() -> None:
    """Poll, push and sweep once: what libraries prepare at their first use, a forked syncd finds prepared."""
    from syncd.config.load import load as load_config
    from syncd.sandbox import Sandbox
    from syncd.store.store import Store
    from syncd.sync.build import Runtime, assemble

    with Sandbox() as box, tempfile.TemporaryDirectory() as folder:
        name = box.stripe.create_intent()
        box.halo.add_row(name, box.halo.add_invoice(), 10.99)
        box.stripe.advance(name, "succeeded")
        chosen = {
            "SYNCD_STRIPE_API_KEY": box.stripe.api_key,
            "SYNCD_HALO_CLIENT_SECRET": box.halo.client_secret,
            "SYNCD_STRIPE__API_BASE": box.stripe.url,
            "SYNCD_HALO__URL": box.halo.url,
            "SYNCD_HALO__CLIENT_ID": box.halo.client_id,
            "SYNCD_STATE__URL": f"sqlite:///{folder}/syncd.db",
            **{
                f"SYNCD_HALO__STATUS__{state.upper()}": str(number)
                for state, number in box.halo.status.items()
            },
        }
        os.environ.update(chosen)
        try:
            config = load_config(None, os.environ)
        finally:
            for key in chosen:
                del os.environ[key]
        store = Store.open(config.state.url)

        async def run() -> None:
            parts = assemble(config, store, Silent(), Runtime(), "a warm-up")
            try:
                await parts.run.once()
                await parts.engine.sweep()
            finally:
                await parts.close()

        try:
            asyncio.run(run())
        finally:
            store.close()
