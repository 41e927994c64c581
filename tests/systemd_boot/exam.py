"""Runs as root inside a booted container: drives the shipped unit, and records the results.

This script checks nothing; test_systemd.py does. The sandbox runs in this process, on the container's
loopback. All changes are in the container's overlay, and are lost with the container.
"""

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from syncd.sandbox import Fault, Sandbox

OUT = Path("/out")
UNIT = "syncd.service"
CONFIG = Path("/etc/syncd/config.toml")
DROPIN = Path("/run/systemd/system/syncd.service.d/exam.conf")
DATABASE = Path("/var/lib/private/syncd/syncd.db")
SHOWN = "ActiveState,SubState,MainPID,NRestarts,Result,ExecMainStatus,ExecMainCode,StatusText"

Facts = dict[str, Any]


def systemctl(*arguments: str) -> int:
    return subprocess.run(["systemctl", *arguments], check=False, timeout=60).returncode


def show() -> dict[str, str]:
    done = subprocess.run(
        ["systemctl", "show", UNIT, f"--property={SHOWN}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def journal(*options: str) -> str:
    done = subprocess.run(
        ["journalctl", "--unit", UNIT, "--no-pager", "--output=cat", *options],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout


def until(true: Callable[[], Any], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


def drop_in(text: str) -> None:
    DROPIN.parent.mkdir(parents=True, exist_ok=True)
    DROPIN.write_text(text)
    systemctl("daemon-reload")


def configure(box: Sandbox, *left_out: str, more: str = "") -> None:
    numbers = "\n".join(f"{k} = {v}" for k, v in box.halo.status.items() if k not in left_out)
    CONFIG.write_text(
        f'[stripe]\napi_base = "{box.stripe.url}"\n[halo]\nurl = "{box.halo.url}"\n'
        f'client_id = "{box.halo.client_id}"\n[halo.status]\n{numbers}\n'
        f'[poll]\ninterval = "1s"\n{more}'
    )


def pay(box: Sandbox, state: str) -> str:
    name = box.stripe.create_intent()
    box.halo.add_row(name, box.halo.add_invoice(), 10.99)
    box.stripe.advance(name, state)
    return name


def status_of(box: Sandbox, name: str) -> int:
    return int(box.halo.rows_of(name)[0]["status"])


# --- the steps ----------------------------------------------------------------------------------------


def wrong_configuration(box: Sandbox) -> Facts:
    """Start with a wrong configuration."""
    configure(box, more="[nonsense]\nword = 1\n")
    code = systemctl("start", UNIT)
    time.sleep(1.5)  # with RestartSec=1s, a restart would have begun
    seen = {"start": code, **show()}
    systemctl("reset-failed", UNIT)
    return seen


def first_start(box: Sandbox) -> Facts:
    """The database is locked at first: the start takes until the database can be opened."""
    configure(box, "processing")
    systemctl("start", UNIT)
    systemctl("stop", UNIT)
    before = journal().count('"started"')
    with closing(sqlite3.connect(DATABASE, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        systemctl("start", "--no-block", UNIT)
        until(lambda: show()["MainPID"] != "0")
        time.sleep(1.5)
        while_locked = {**show(), "started": journal().count('"started"') - before}
    active = until(lambda: show()["ActiveState"] == "active")
    return {
        "while_locked": while_locked,
        "active": active,
        "then": show(),
        "started": journal().count('"started"') - before,
    }


def credentials(box: Sandbox) -> Facts:
    """The variables of the service's environment, and whether it can push."""
    payment = pay(box, "succeeded")
    pushed = until(lambda: status_of(box, payment) == 3)
    process = Path("/proc") / show()["MainPID"]
    environment = (process / "environ").read_bytes().decode()
    folder = Path("/run/credentials") / UNIT
    return {
        "pushed": pushed,
        "environment": sorted(v.partition("=")[0] for v in environment.split("\0") if v),
        "secrets_in_environment": [
            s for s in (box.stripe.api_key, box.halo.client_secret) if s in environment
        ],
        "secrets_in_journal": [
            s for s in (box.stripe.api_key, box.halo.client_secret) if s in journal()
        ],
        "credentials": sorted(path.name for path in folder.iterdir()),
        "user": process.stat().st_uid,
    }


def where_it_may_write(_box: Sandbox) -> Facts:
    """Run probe.py before the service, with the same restrictions."""
    probe = "/opt/syncd/bin/probe"
    drop_in(f"[Service]\nExecStartPre={probe}\nRestartSec=1s\n")
    code = systemctl("restart", UNIT)
    found = json.loads((DATABASE.parent / "probe.json").read_text("utf-8"))
    file, folder = DATABASE.stat(), DATABASE.parent.stat()
    drop_in("[Service]\nRestartSec=1s\n")
    return {
        "start": code,
        **found,
        "database_mode": oct(file.st_mode & 0o777),
        "folder_mode": oct(folder.st_mode & 0o777),
    }


def reload(box: Sandbox) -> Facts:
    """Reload a missing number, then a configuration that is refused."""
    payment = pay(box, "processing")
    held = until(lambda: f'"intent": "{payment}"' in journal() and '"held"' in journal())
    urgent = journal("--priority=warning")
    before = show()
    configure(box)
    code = systemctl("reload", UNIT)
    pushed = until(lambda: status_of(box, payment) == 5)
    after = show()
    configure(box, more="[nonsense]\nword = 1\n")
    bad = systemctl("reload", UNIT)
    named = until(lambda: "nonsense: is not a key of syncd" in journal())
    unasked = "reload_refused" not in journal()
    subprocess.run(["systemctl", "kill", "--kill-who=main", "--signal=HUP", UNIT], check=True)
    refused = until(lambda: "reload_refused" in journal())
    kept = show()
    configure(box)
    return {
        "held": held,
        "reload": code,
        "pushed": pushed,
        "refused": refused,
        "bad": bad,
        "named": named,
        "unasked": unasked,
        "urgent": [name for name in ("held", "started") if f'"{name}"' in urgent],
        "before": before,
        "after": after,
        "kept": kept,
    }


def hang(box: Sandbox) -> Facts:
    """Stop the process with SIGSTOP, so that it hangs for systemd."""
    drop_in("[Service]\nRestartSec=1s\nWatchdogSec=5s\nTimeoutAbortSec=3s\n")
    systemctl("restart", UNIT)
    before = show()
    time.sleep(7)
    fed = show()
    subprocess.run(["kill", "-STOP", before["MainPID"]], check=True)
    again = until(
        lambda: show()["NRestarts"] != fed["NRestarts"] and show()["ActiveState"] == "active", 40
    )
    after = show()
    payment = pay(box, "canceled")
    pushed = until(lambda: status_of(box, payment) == 6)
    watched = subprocess.run(
        ["journalctl", "--no-pager", "--output=cat", "_PID=1"],
        check=False,
        capture_output=True,
        text=True,
    )
    drop_in("[Service]\nRestartSec=1s\n")
    return {
        "before": before,
        "fed": fed,
        "again": again,
        "after": after,
        "pushed": pushed,
        "journal": [line for line in watched.stdout.splitlines() if "atchdog" in line],
    }


def killed(box: Sandbox) -> Facts:
    """Kill the process with SIGKILL, as the kernel does when memory is short."""
    before = show()
    subprocess.run(["kill", "-KILL", before["MainPID"]], check=True)
    again = until(
        lambda: show()["NRestarts"] != before["NRestarts"] and show()["ActiveState"] == "active"
    )
    payment = pay(box, "succeeded")
    return {"again": again, "pushed": until(lambda: status_of(box, payment) == 3)}


def drain(box: Sandbox) -> Facts:
    """Stop the service during a push."""
    box.halo.faults.append(Fault("hang_after", method="POST", path="InvoicePayment", seconds=2))
    posts = len(box.halo.writes)
    payment = pay(box, "succeeded")
    under_way = until(lambda: len(box.halo.writes) > posts)
    began = time.monotonic()
    code = systemctl("stop", UNIT)
    seconds = time.monotonic() - began
    with closing(sqlite3.connect(DATABASE)) as connection:
        condition = connection.execute(
            "SELECT condition FROM payments WHERE intent_id = ?", [payment]
        ).fetchone()
    return {
        "under_way": under_way,
        "stop": code,
        "seconds": seconds,
        "condition": condition,
        "status": status_of(box, payment),
        **show(),
    }


def encrypted(box: Sandbox) -> Facts:
    """Set up again with encrypted secrets, with `syncd init --encrypt`; then start."""
    answers = {
        "SYNCD_HALO__URL": box.halo.url,
        "SYNCD_HALO__CLIENT_ID": box.halo.client_id,
        "SYNCD_HALO_CLIENT_SECRET": box.halo.client_secret,
        "SYNCD_STRIPE_API_KEY": box.stripe.api_key,
        "SYNCD_STRIPE__API_BASE": box.stripe.url,
    }
    configure(box)
    init = subprocess.run(
        ["/opt/syncd/bin/syncd", "init", "--defaults", "--encrypt"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **answers},
        timeout=120,
    )
    code = systemctl("start", UNIT)
    payment = pay(box, "succeeded")
    pushed = until(lambda: status_of(box, payment) == 3)
    folder = Path("/run/credentials") / UNIT
    check = subprocess.run(
        ["/opt/syncd/bin/syncd", "check"], check=False, capture_output=True, text=True, timeout=120
    )
    return {
        "init": [init.returncode, (init.stdout + init.stderr)[-2_000:]],
        "start": code,
        "pushed": pushed,
        "files": sorted(one.name for one in CONFIG.parent.iterdir()),
        "in_the_clear": [
            one.name
            for one in CONFIG.parent.iterdir()
            if any(s in one.read_text() for s in (box.stripe.api_key, box.halo.client_secret))
        ],
        "credentials": sorted(one.name for one in folder.iterdir()) if folder.exists() else [],
        "check": [check.returncode, check.stdout[-2_000:]],
        **show(),
    }


def main() -> None:
    """Take all steps; record an exception as a result."""
    seen: Facts = {}
    questions = (
        wrong_configuration,
        first_start,
        credentials,
        where_it_may_write,
        reload,
        hang,
        killed,
        drain,
        encrypted,
    )
    drop_in("[Service]\nRestartSec=1s\n")
    with Sandbox() as box:
        box.halo.rate_limit = None
        for secret, text in (
            ("stripe_api_key", box.stripe.api_key),
            ("halo_client_secret", box.halo.client_secret),
        ):
            (CONFIG.parent / secret).write_text(text)
            (CONFIG.parent / secret).chmod(0o600)
        for question in questions:
            try:
                seen[question.__name__] = question(box)
            except Exception as error:  # noqa: BLE001  # the other steps are taken all the same
                seen[question.__name__] = {"error": f"{type(error).__name__}: {error}"}
            (OUT / "journal").write_text(journal(), "utf-8")
            (OUT / "seen.json").write_text(json.dumps(seen, indent=1), "utf-8")
            if question is first_start and not seen["first_start"].get("active"):
                break  # the later steps would not work


if __name__ == "__main__":
    main()
