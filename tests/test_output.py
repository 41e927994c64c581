"""Output to terminals, pipes, full disks and closed files."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from syncd.core.records import Holder
from syncd.sandbox.faults import Fault
from syncd.service.instance import CLAIM
from syncd.sync.lease import this_process
from tests.conftest import ROOT, Rig
from tests.terminals import INTERRUPTED, Shown, on_terminal
from tests.test_process import daemon, until

ESCAPE = "\x1b"


def in_a_shell(rig: Rig, line: str, **extra: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a line of bash in which `syncd` is the real command."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SYNCD_")}
    program = rig.folder / "syncd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.alone "$@"\n')
    program.chmod(0o755)
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env={**clean, **rig.environment(), "PYTHONPATH": str(ROOT), **extra,
             "PATH": f"{rig.folder}:{clean['PATH']}"},
        cwd=rig.folder, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("to", [">/dev/full", ">&-"])
@pytest.mark.parametrize(
    "arguments", ["status", "status --json", "attention", "--once --dry-run", "export", "check", "--help",
     "audit --since 1d", "audit --since 1d --csv -", "calibrate", "status --unmatched", "config show"]
)  # fmt: skip
def test_output_that_can_not_be_written(live: Rig, arguments: str, to: str) -> None:
    """If stdout is full or closed, the command reports it in one line and exits with 74, never with 1."""
    live.pay("succeeded", rows=(5.0,))
    live.command("--once")
    done = in_a_shell(live, f"syncd {arguments} {to}")
    said = done.stderr.decode()
    assert done.returncode == 74, said
    assert "syncd: standard output could not be written: " in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_a_reader_that_leaves(live: Rig) -> None:
    """If the reader of a pipe closes it, the command ends without an error message."""
    for _ in range(30):
        live.pay("succeeded", rows=(5.0,))
    live.command("--once")
    done = in_a_shell(live, "syncd export | read; syncd attention --json | true")
    assert done.stderr == b""
    assert done.returncode in (74, 1)  # the whole output may have fitted into the pipe before


def test_messages_that_can_not_be_written(live: Rig) -> None:
    """If stderr cannot be written, syncd still pushes and exits with 0."""
    payment = live.pay("succeeded")
    assert in_a_shell(live, "syncd --once 2>/dev/full").returncode == 0
    assert live.statuses(payment) == [3]
    assert in_a_shell(live, "syncd --once 2>&- >&- <&-").returncode == 0


def test_ascii(live: Rig) -> None:
    """If the encoding lacks a character, syncd writes a similar one; ids are complete."""
    held = live.pay("succeeded", rows=(5.0,))
    live.command("--once")
    for command in ("attention", "status", "check", "--once --dry-run", "calibrate --help"):
        done = in_a_shell(live, f"syncd {command}", PYTHONIOENCODING="ascii")
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.stdout.isascii()
    assert held.encode() in in_a_shell(live, "syncd attention", PYTHONIOENCODING="ascii").stdout


@pytest.mark.slow
def test_the_demo_in_ascii(live: Rig) -> None:
    """The demo runs to its end if the encoding is ASCII and the terminal is dumb."""
    done = in_a_shell(live, "syncd demo | cat", PYTHONIOENCODING="ascii", TERM="dumb")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"9 payments, 11 invoices" in done.stdout
    assert b"all agree; 0 rows doubled" in done.stdout
    assert ESCAPE.encode() not in done.stdout


@pytest.mark.parametrize("arguments", [("check",), ("--once",), ("status",), ("calibrate",)])
@pytest.mark.parametrize("how", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour(live: Rig, arguments: tuple[str, ...], how: dict[str, str]) -> None:
    """With NO_COLOR or TERM=dumb a terminal gets no colour; a dumb terminal gets no escape sequence."""
    live.pay("succeeded")
    shown = on_terminal(
        live.environment() | how, live.folder, *arguments, term=how.get("TERM", "xterm")
    )
    assert re.findall(r"\x1b\[[0-9;]*m", shown.text) == []
    if "TERM" in how:
        assert ESCAPE not in shown.text


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize(
    "arguments", [("status",), ("attention",), ("audit", "--since", "1d"), ("calibrate",)]
)
def test_fifty_columns(live: Rig, arguments: tuple[str, ...], term: str) -> None:
    """At 50 columns no table is wider than the terminal, and no id is broken."""
    held = live.pay("succeeded", rows=(5.0,))
    live.pay("succeeded")
    live.once()
    shown = on_terminal(live.environment(), live.folder, *arguments, columns=50, term=term)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.text)
    drawn = [line for line in re.split(r"[\r\n]+", text) if re.search("[│─┌└]", line)]
    assert [line for line in drawn if len(line) > 50] == []
    ids = {word for word in re.findall(r"pi_[A-Za-z0-9]+", text) if held.startswith(word)}
    assert ids <= {held}
    assert "Traceback" not in text


@pytest.mark.parametrize("arguments", [("--once",), ("--backfill", "1d"), ()])
def test_ctrl_c(live: Rig, arguments: tuple[str, ...]) -> None:
    """Ctrl-C ends a single run, a backfill and the service with 130 and without a traceback."""
    live.pay("succeeded")
    live.box.stripe.faults.append(Fault("hang", times=None))
    asked = live.box.stripe.requests
    shown = on_terminal(live.environment(), live.folder, *arguments, when=lambda: len(asked) > 0)
    assert shown.code == INTERRUPTED, shown.text
    assert "Traceback" not in shown.text


def test_terminated(live: Rig) -> None:
    """SIGTERM ends a single run with 143 and a hint how to continue."""
    live.pay("succeeded")
    live.box.stripe.faults.append(Fault("hang", times=None))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.alone", "--once"],
        cwd=live.folder,
        stderr=subprocess.PIPE,
        env={**os.environ, **live.environment(), "PYTHONPATH": str(ROOT)},
    )
    until(lambda: len(live.box.stripe.requests) > 0)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert b"Run the same command again to continue from here." in said


def test_a_run_ends_with_a_summary(live: Rig) -> None:
    """A single run and a backfill end with a summary of what was done and what is due."""
    live.pay("succeeded")
    live.pay("succeeded", rows=(5.0,))
    done = live.command("--once")
    assert re.search(r"Finished in .*: 1 updated in Halo, 1 held; nothing is due\.", done.stderr)
    live.pay("processing")
    shown = on_terminal(live.environment(), live.folder, "--backfill", "1d")
    assert re.search(r"Finished in .*: .*1 updated in Halo.*; nothing is due\.", shown.text)
    for line in re.split(r"\r\n|\n", shown.text):
        assert not ("Pushing to Halo" in line and "pushed " in line.split("\r")[-1]), line


def test_a_single_run_beside_another_push(live: Rig) -> None:
    """If another process is pushing, a single run names it and what remains due, and exits with 0."""
    live.pay("succeeded")
    holder = this_process("the daemon")
    live.stored(
        lambda s: s.coordination.take_lease("push", holder, time.time(), 120, free=lambda *_: True)
    )
    done = live.command("--once")
    assert done.returncode == 0
    end = re.search(r"Finished in .*: nothing was pushed; 1 payment still due; (.*)", done.stderr)
    assert end is not None, done.stderr
    assert end[1].startswith("the daemon (process ")
    assert end[1].endswith(" is already pushing and will include what is due.")
    assert live.box.halo.writes == []


def test_a_second_service_is_named(live: Rig) -> None:
    """If another syncd uses the address, the error message says so."""
    with daemon(live) as running:
        until(lambda: running.events("started"))
        listen = running.events("started")[0]["listen"]
        done = live.command(extra={"SYNCD_WEB__LISTEN": listen})
    assert done.returncode == 78
    assert f"another syncd is already running at {listen}" in done.stderr


def test_a_second_service_over_one_database_ends(live: Rig) -> None:
    """A second service over the same database reports the first one and exits; single runs still work."""
    with daemon(live) as running:
        until(lambda: running.events("started"))
        done = live.command()
        assert done.returncode == 78
        assert "another syncd service" in done.stderr
        assert f"process {running.process.pid} on " in done.stderr
        assert f"uses this database ({live.url})" in done.stderr
        assert live.command("--once").returncode == 0
        assert running.stop() == 0
    with daemon(live) as running:  # a service that has stopped leaves no claim
        until(lambda: running.events("started"), 10)
        running.process.kill()
        running.process.wait()
    with daemon(live) as running:  # nor does a killed service
        until(lambda: running.events("started"), 10)
        assert running.stop() == 0


def test_a_service_of_another_host_that_died_is_waited_for(live: Rig) -> None:
    """A service waits for another host's claim to expire; if the claim is renewed, the service exits."""
    other = Holder("x" * 32, "the service", "elsewhere", "boot", 1)

    def claim(seconds: float) -> None:
        live.stored(
            lambda store: store.coordination.take_lease(
                CLAIM, other, time.time(), seconds, free=lambda *_: True
            )
        )

    claim(4)
    with daemon(live) as running:
        until(lambda: running.events("waiting_for_other"))
        assert not running.events("started")
        until(lambda: running.events("started"))
        assert running.stop() == 0
    claim(8)
    with daemon(live) as running:
        until(lambda: running.events("waiting_for_other"))
        claim(60)
        assert running.process.wait(12) == 78


def test_a_dry_run_has_amounts_and_whole_ids(live: Rig) -> None:
    """At 50 columns a dry run shows whole ids, with the amount and what Halo shows now."""
    payment = live.pay("succeeded")
    shown = on_terminal(live.environment(), live.folder, "--once", "--dry-run", columns=50)
    assert any(line.strip().endswith(payment) for line in shown.lines)
    assert "10.99 USD" in shown.text
    words = " ".join(shown.text.split())
    assert "Customer: A customer. Halo shows row 1: status 1, 10.99. Row 1 → status 3." in words
    [planned] = json.loads(live.command("--once", "--dry-run", "--json").stdout)
    assert (planned["money"], planned["halo_shows"], planned["status"]) == ("10.99 USD", [1], 3)


def bars_of(shown: Shown, name: str) -> list[str]:
    """Every state of one progress bar, without escape sequences."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.text)
    return [line.strip() for line in re.split(r"[\r\n]+", plain) if name in line]


def test_a_bar_is_never_full_with_payments_still_due(live: Rig) -> None:
    """While a payment that Halo fails on is still due, the progress bar of the push is not full.

    The summary says when syncd retries that payment.
    """
    payments = [live.pay("succeeded") for _ in range(4)]
    broken = payments[0]
    live.box.halo.faults.append(
        Fault(
            "500",
            times=None,
            path="/api/InvoicePayment",
            match=lambda request: broken in str(request.params()),
        )
    )
    shown = on_terminal(live.environment(), live.folder, "--backfill", "1d", columns=60)
    assert bars_of(shown, "Reading Stripe")[-1].split()[-2:-1] in (["payments"], ["done"])
    pushing = bars_of(shown, "Pushing to Halo")
    assert "1 still due" in pushing[-1]
    assert not any("0 still due" in line for line in pushing)
    assert re.search(r"1 payment still due \(next try at 20[0-9T:-]+Z\)", shown.text)
    assert shown.code == 69


def test_a_terminal_gets_the_summary_instead_of_a_line_for_each_payment(live: Rig) -> None:
    """On a terminal the summary replaces the log lines of single payments; piped, the lines are logged."""
    held = live.pay("succeeded", rows=(5.0,))
    live.pay("succeeded")
    shown = on_terminal(live.environment(), live.folder, "--once", columns=50)
    assert "pushed" not in shown.text
    assert not re.search(r"\bheld  ", shown.text)
    assert re.search(r"Finished in .*: 1 updated in Halo, 1 held; nothing is due\.", shown.text)
    live.stored(lambda store: store.people.retry([held], time.time()))
    piped = live.command("--once")
    assert '"event": "held"' in piped.stderr


def test_a_resync_ends_with_a_summary(live: Rig) -> None:
    """A resync ends with a summary on stderr; its result is on stdout."""
    payment = live.pay("succeeded")
    done = live.command("resync", payment)
    assert re.search(r"Finished in .*: 1 updated in Halo; nothing is due\.", done.stderr)
    assert done.stdout == f"{payment}: Stripe says succeeded; now in step\n"


@pytest.mark.parametrize("command", ["check", "calibrate", "audit"])
def test_a_reading_command_says_what_it_waits_for(live: Rig, command: str) -> None:
    """If a side is down, a command that only reads says so on a terminal, with the next try."""
    live.pay("succeeded")
    live.box.halo.faults.append(Fault("503", times=2))
    shown = on_terminal(live.environment(), live.folder, command, columns=100)
    assert "next try in 1 s" in shown.text
    assert "Halo does not answer" in shown.text or "Halo answered 503" in shown.text


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("command", ["--once", "resync"])
def test_a_run_says_what_it_waits_for(live: Rig, command: str, *, terminal: bool) -> None:
    """If Halo is down, a run shows or logs Halo's answer and when it tries again."""
    payment = live.pay("succeeded")
    live.box.halo.faults.append(Fault("503", times=2))
    arguments = (command, payment) if command == "resync" else (command,)
    if terminal:
        shown = on_terminal(live.environment(), live.folder, *arguments, columns=60)
        assert "Halo answered 503" in shown.text
        assert any("next try in 1 s" in line for line in bars_of(shown, "Pushing to Halo"))
    else:
        done = live.command(*arguments)
        waits = [line for line in done.stderr.splitlines() if '"event": "waiting"' in line]
        assert len(waits) == 2
        assert "Halo answered 503" in waits[0]
    assert live.statuses(payment) == [3]
