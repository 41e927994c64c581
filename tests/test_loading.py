"""A command loads only the libraries that it needs, so that it starts fast."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

HEAVY = {
    "alembic",
    "apprise",
    "httpx",
    "jinja2",
    "rich",
    "sqlalchemy",
    "starlette",
    "stripe",
    "uvicorn",
}
"""Libraries that take long to load."""

SHOW = """
import atexit, sys
atexit.register(lambda: print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules})))
from syncd.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("typed", "also"),
    [
        (["--version"], {"structlog"}),
        (["--help"], {"pydantic", "structlog"}),
        (["--once", "--backfill", "90d"], {"structlog"}),
        (["config", "validate", "--config", "here.toml", "--without-secrets"], {"structlog"}),
        (["config", "schema"], {"structlog"}),
        (["statsu"], {"structlog"}),
    ],
)
def test_a_command_loads_what_it_needs(typed: list[str], also: set[str], tmp_path: Path) -> None:
    """The version, the help, wrong usage and `config validate` load no heavy library."""
    (tmp_path / "here.toml").write_text("[poll]\ninterval = '5m'\n")
    done = subprocess.run(
        [sys.executable, "-c", SHOW, *typed],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    loaded = set(done.stdout.partition("LOADED")[2].split())
    assert "syncd" in loaded, done.stderr
    assert loaded & {*HEAVY, *also} == set()
