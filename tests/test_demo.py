"""The demo runs to its end, and the commands that it suggests work."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from syncd.cli.demo import STORIES, _begin, _begin_held, _summary, _tell
from syncd.sandbox import Sandbox
from tests.conftest import ROOT
from tests.service_manager import stand_in
from tests.test_process import until

COMMAND = f"{sys.executable} -m syncd"


@pytest.mark.parametrize(
    ("held", "said"), [(True, "1 agree, 1 not: {held}; 0 rows"), (False, "all agree; 0 rows")]
)
def test_the_result_counts_a_payment_that_is_still_held(
    capsys: pytest.CaptureFixture[str], *, held: bool, said: str
) -> None:
    """A payment that is still held does not agree, and the demo exits with 1; otherwise with 0."""
    with Sandbox() as box:
        paid = _begin(box, STORIES[0])
        _tell(box, paid)
        box.halo.rows_of(paid.intent_id)[0]["status"] = box.halo.status["succeeded"]
        juniper = _begin_held(box)
        if not held:
            box.halo.rows_of(juniper.intent_id)[0]["status"] = box.halo.status["succeeded"]
        code = _summary(Console(width=200), box, [paid, juniper], 1.0)
    assert code == (1 if held else 0)
    assert said.format(held=juniper.intent_id) in capsys.readouterr().out


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    """With --keep, the demo leaves a held payment, and the commands that it shows correct this payment."""
    shown = tmp_path / "shown"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    if shutil.which("curl") is None:  # as in a minimal Debian
        stand_in(tmp_path / "curl")
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    with shown.open("wb") as to:
        demo = subprocess.Popen(
            [sys.executable, "-m", "syncd", "demo", "--keep"],
            stdout=to,
            stderr=to,
            cwd=ROOT,
            env=environment,
        )
    try:
        until(lambda: "until Ctrl-C" in shown.read_text(), 90)
        lines = re.findall(r"^  (\S.*)$", shown.read_text(), re.MULTILINE)
        exported, *commands = [re.sub(r"^\S*syncd(?= )", COMMAND, line) for line in lines]
        said: list[tuple[str, int, str]] = []

        def attention(code: int) -> bool:
            done = subprocess.run(
                ["bash", "-c", f"{exported}; {COMMAND} attention"],
                env=environment,
                check=False,
                capture_output=True,
            )
            return done.returncode == code

        until(lambda: attention(1))
        for command in commands[:-1]:
            done = subprocess.run(
                ["bash", "-c", f"{exported}; {command}"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            said.append((command.split()[-1], done.returncode, done.stdout))
        assert [code for _, code, _ in said] == [1, 1, 0, 0], said
        assert "adds up to 5" in re.sub(r"[^\w.]+", " ", said[1][2])
        until(lambda: attention(0))
        assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
        assert "all agree; 0 rows doubled" in shown.read_text()
    finally:
        demo.terminate()  # this ends the demo's daemon too
        demo.wait(30)
