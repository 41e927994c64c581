"""The log: what it tells of a fault, and what it never tells."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from syncd.monitor.telemetry import Telemetry, set_up_log


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as the service writes it, kept in memory."""
    stream = io.StringIO()
    set_up_log(stream, readable=False)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def _fail(words: str) -> None:
    raise ValueError(words)


def test_a_traceback_holds_no_secret(log: io.StringIO) -> None:
    """A fault is logged with where it happened, and without the secret in its words."""
    try:
        _fail("rk_live_abcdef123 was refused")
    except ValueError as error:
        Telemetry().log("error", "fault", text=str(error), exc_info=True)
    entry = json.loads(log.getvalue())
    assert entry["text"] == "[removed] was refused"
    assert "test_log.py" in entry["exception"]
    assert "rk_live" not in log.getvalue()


def test_what_a_library_fails_with(log: io.StringIO) -> None:
    """A library that logs a fault has its traceback in the log: without it nobody could tell why."""
    try:
        _fail("pi_1_secret_abc")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in an application")
    entry = json.loads(log.getvalue())
    assert (entry["event"], entry["logger"]) == ("library", "uvicorn.error")
    assert "test_log.py" in entry["exception"]
    assert "secret" not in log.getvalue()
