"""The log: what it shows of an exception, and what it never shows."""

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from syncd.config.model import Log
from syncd.monitor.telemetry import Telemetry, set_up_log, under_journal


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The service's log, kept in memory."""
    stream = io.StringIO()
    set_up_log(stream, Log())
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def _fail(words: str) -> None:
    raise ValueError(words)


def test_a_traceback_holds_no_secret(log: io.StringIO) -> None:
    """A logged exception shows where it happened and does not contain the secret of its message."""
    try:
        _fail("rk_live_abcdef123 was refused")
    except ValueError as error:
        Telemetry().log("error", "fault", text=str(error), exc_info=True)
    entry = json.loads(log.getvalue())
    assert entry["text"] == "[removed] was refused"
    assert "test_log.py" in entry["exception"]
    assert "rk_live" not in log.getvalue()


def test_what_a_library_fails_with(log: io.StringIO) -> None:
    """An exception that a library logs appears in the log with its traceback."""
    try:
        _fail("pi_1_secret_abc")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in an application")
    entry = json.loads(log.getvalue())
    assert (entry["event"], entry["logger"]) == ("library", "uvicorn.error")
    assert "test_log.py" in entry["exception"]
    assert "secret" not in log.getvalue()


def written(log: Log, *, priorities: bool = False) -> list[str]:
    """Return the log lines of four entries and a traceback, without their times."""
    stream = io.StringIO()
    set_up_log(stream, log, priorities=priorities)
    telemetry = Telemetry()
    try:
        for level in ("debug", "info", "warning"):
            telemetry.log(level, "held", intent="pi_1", rows=[1, 2], late=True, none=None)
        try:
            _fail("two words")
        except ValueError:
            telemetry.log("error", "fault", text='a "quoted" word', exc_info=True)
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
    return re.sub(r"\d{4}-[\d-]+T[\d:.]+Z", "NOW", stream.getvalue()).splitlines()


def test_the_formats() -> None:
    """The same entries can be written as JSON, logfmt or text; without a terminal, auto means JSON."""
    as_json = written(Log(format="json"))
    assert written(Log()) == as_json
    assert json.loads(as_json[0]) == {
        "intent": "pi_1",
        "rows": [1, 2],
        "late": True,
        "none": None,
        "event": "held",
        "level": "info",
        "timestamp": "NOW",
    }
    logfmt = written(Log(format="logfmt"))
    assert (
        logfmt[0] == 'timestamp=NOW level=info event=held intent=pi_1 rows="[1, 2]" late=true none='
    )
    assert len(logfmt) == 3
    assert r"a \"quoted\" word" in logfmt[2]
    text = written(Log(format="text"))
    assert text[0].split() == [
        "NOW", "[info", "]", "held", "intent=pi_1", "late=True", "none=None", "rows=[1,", "2]",
    ]  # fmt: skip
    assert "ValueError: two words" in text[-1]


@pytest.mark.parametrize(
    ("level", "events"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level(level: Any, events: int) -> None:
    """Entries below the level are left out."""
    assert len(written(Log(level=level, format="json"))) == events


def test_priorities() -> None:
    """Under the journal each line begins with its priority, including each line of a traceback."""
    marks = [line[:3] for line in written(Log(level="debug", format="json"), priorities=True)]
    assert marks == ["<7>", "<6>", "<4>", "<3>"]
    text = written(Log(level="error", format="text"), priorities=True)
    assert len(text) > 3
    assert {line[:3] for line in text} == {"<3>"}


def test_under_the_journal(tmp_path: Path) -> None:
    """The journal is detected by the device and inode of standard error."""
    with (tmp_path / "file").open("w") as file:
        found = os.fstat(file.fileno())
        its = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert under_journal(its, file.fileno())
        assert not under_journal({"JOURNAL_STREAM": "1:1"}, file.fileno())
        assert not under_journal({}, file.fileno())
    assert not under_journal(its, 999)
