"""``syncd export``: writes everything in the database as JSON."""

import json
import sys
import time
from collections.abc import Mapping

import typer

from syncd import __version__
from syncd.cli.shared import ConfigOption, existing, failures_said, offline
from syncd.store.db.schema import REVISION
from syncd.text.timestamps import iso


def export(context: typer.Context, config: ConfigOption = None) -> None:
    """Write everything that syncd remembers to stdout, one JSON object per line, each with its kind.

    Example: syncd export > syncd.jsonl
    """
    with failures_said(), existing(offline(config or context.obj)) as store:
        head = {"version": __version__, "schema": REVISION, "at": iso(time.time())}
        _line("export", head)
        for kind, columns in store.housekeeping.export():
            _line(kind, columns)
    sys.stdout.flush()


def _line(kind: str, columns: Mapping[str, object]) -> None:
    """Write one line. A refund's own `kind` is written as `type`."""
    named = {"type" if name == "kind" else name: value for name, value in columns.items()}
    sys.stdout.write(json.dumps({"kind": kind, **named}) + "\n")
