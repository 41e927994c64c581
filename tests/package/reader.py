"""Runs as root inside a booted, bare Debian: follows docs/install.md word for word, as a reader would.

This script checks nothing; test_install_md.py does. The reader's answers are scripted: the address, the
application, the key, and yes. The sandbox runs in this process, on the container's loopback.
"""

import json
import os
import pty
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from syncd.sandbox import Sandbox

OUT = Path("/out")
CLONE = Path("/root/syncd")
SECONDS_MAX = 500

Facts = dict[str, Any]


def on_terminal(statement: str, answers: list[tuple[str, str]], **variables: str) -> Facts:
    """Run a command that asks questions; each answer is typed once its question is shown."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(CLONE)
        os.execve(  # noqa: S606
            "/bin/bash",
            ["bash", "-c", statement],
            {**os.environ, "TERM": "xterm", "COLUMNS": "100", **variables},
        )
    shown, read_to, left = "", 0, list(answers)
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        if left and left[0][0] in shown[read_to:]:
            read_to = shown.index(left[0][0], read_to) + len(left[0][0])
            os.write(terminal, left.pop(0)[1].encode())
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                more = os.read(terminal, 65_536)
            except OSError:
                break
            if not more:
                break
            shown += more.decode(errors="replace")
    else:
        os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "said": shown[-4_000:]}


def run(statement: str) -> Facts:
    """Run a command that asks no question."""
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", statement],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        stdin=subprocess.DEVNULL,
        cwd=CLONE,
    )
    return {"code": done.returncode, "said": (done.stdout + done.stderr)[-4_000:]}


def free_port() -> int:
    """A port on which no process listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def tenant(box: Sandbox) -> tuple[str, str]:
    """Rows that `calibrate` learns from, a payment that `prove` finds, and a payment for the backfill."""
    unpaid = box.stripe.create_intent()
    box.halo.add_row(unpaid, box.halo.add_invoice(), 10.99)
    for state in box.halo.status:
        intent = box.stripe.create_intent()
        box.halo.add_row(intent, box.halo.add_invoice(), 10.99)
        box.stripe.advance(intent, state)
        box.halo.native_webhook(box.stripe.events[-1])
    found = []
    for days in (0, 20):
        intent = box.stripe.create_intent(created=int(time.time()) - days * 86_400)
        box.halo.add_row(intent, box.halo.add_invoice(), 10.99)
        box.stripe.advance(intent, "succeeded", emit=days == 0)
        found.append(intent)
    return found[0], found[1]


def follow(statements: list[str], box: Sandbox) -> None:
    """Run each command, and record the state after it."""
    new, old = tenant(box)
    answers = [
        ("Halo's address", f"{box.halo.url}\n"),
        ("Its client id", f"{box.halo.client_id}\n"),
        ("Its client secret", f"{box.halo.client_secret}\n"),
        ("Stripe's key", f"{box.stripe.api_key}\n"),
        ("Write ", "y\n"),
    ]
    port = free_port()  # on the machine's network the usual port may be in use
    ready = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/readyz')"
    seen: list[Facts] = []
    for statement in statements:
        begun = time.monotonic()
        try:
            if statement == "syncd init":
                done = on_terminal(
                    statement,
                    answers,
                    SYNCD_STRIPE__API_BASE=box.stripe.url,
                    SYNCD_WEB__LISTEN=f"127.0.0.1:{port}",
                )
            elif statement == "syncd prove":
                done = on_terminal(statement, [("Write this to Halo", "y\n")])
            else:
                done = run(statement)
        except Exception as error:  # noqa: BLE001  # the other commands are run all the same
            done = {"code": -1, "said": f"{type(error).__name__}: {error}"}
        if statement.startswith("systemctl enable"):
            paid = box.stripe.create_intent()
            box.halo.add_row(paid, box.halo.add_invoice(), 10.99)
            box.stripe.advance(paid, "succeeded")
            end = time.monotonic() + 60
            while time.monotonic() < end and run(f'python3 -c "{ready}"')["code"]:
                time.sleep(0.5)
        seen.append({
            "statement": statement, "seconds": round(time.monotonic() - begun, 1), **done,
            "statuses": [box.halo.rows_of(one)[0]["status"] for one in (new, old)],
            "writes": len(box.halo.writes),
            "active": run("systemctl is-active syncd")["said"].strip(),
            "there": [one for one in ("/etc/syncd", "/opt/syncd", "/usr/lib/syncd", "/var/lib/private/syncd")
                      if os.path.lexists(one)],
            "secrets": [oct(one.stat().st_mode & 0o777) for one in Path("/etc/syncd").glob("*_*")],
        })  # fmt: skip
        (OUT / "seen.json").write_text(json.dumps(seen, indent=1), "utf-8")


if __name__ == "__main__":
    with Sandbox() as sandbox:
        sandbox.halo.rate_limit = None
        follow(json.loads((OUT / "statements.json").read_text("utf-8")), sandbox)
