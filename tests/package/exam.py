"""Runs as root inside a booted Debian: installs, upgrades, removes and purges the package.

This script checks nothing; test_debian.py does. The sandbox runs in this process, on the container's
loopback. All changes are in the container's overlay, and are lost with the container.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syncd.sandbox import Sandbox

OUT = Path("/out")
CONFIG = Path("/etc/syncd/config.toml")
KEPT = (
    "/etc/syncd/config.toml",
    "/etc/syncd/stripe_api_key",
    "/etc/syncd/halo_client_secret",
    "/var/lib/private/syncd/syncd.db",
)
PLACES = (
    *KEPT,
    "/usr/bin/syncd",
    "/usr/lib/syncd",
    "/etc/syncd",
    "/var/lib/syncd",
    "/var/lib/private/syncd",
    "/lib/systemd/system/syncd.service",
    "/usr/share/man/man8/syncd.8.gz",
    "/usr/share/bash-completion/completions/syncd",
    "/usr/share/zsh/vendor-completions/_syncd",
    "/usr/share/fish/vendor_completions.d/syncd.fish",
    "/etc/systemd/system/multi-user.target.wants/syncd.service",
)

Facts = dict[str, Any]


def run(*command: str, **variables: str) -> Facts:
    """Run a command; returns its exit code and its output."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", **variables},
    )
    return {"code": done.returncode, "said": (done.stdout + done.stderr)[-3_000:]}


def state() -> Facts:
    """The state of the machine at this moment."""
    show = run("systemctl", "show", "syncd", "--property=ActiveState,MainPID,UnitFileState")["said"]
    return {
        **dict(line.split("=", 1) for line in show.splitlines() if "=" in line),
        "there": [place for place in PLACES if os.path.lexists(place)],
        "modes": {p: oct(Path(p).stat().st_mode & 0o777) for p in KEPT if Path(p).exists()},
        "owners": sorted({Path(p).owner() for p in KEPT[:3] if Path(p).exists()}),
    }


def until(true: Callable[[], Any], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return False


def pay(box: Sandbox) -> str:
    name = box.stripe.create_intent()
    box.halo.add_row(name, box.halo.add_invoice(), 10.99)
    box.stripe.advance(name, "succeeded")
    return name


def pushed(box: Sandbox) -> bool:
    """Whether a new payment is pushed to Halo."""
    name = pay(box)
    return until(lambda: box.halo.rows_of(name)[0]["status"] == box.halo.status["succeeded"])


# --- the steps ----------------------------------------------------------------------------------------


def install(_box: Sandbox) -> Facts:
    """Install the package, as a new user does: not enabled, not started."""
    done = run("dpkg", "--install", "/debs/first.deb")
    return {
        "dpkg": done,
        **state(),
        "version": run("syncd", "--version"),
        "driver": run(
            "/usr/lib/syncd/bin/python3", "-I", "-c", "import psycopg; print(psycopg.pq.__impl__)"
        ),
        "validate": run("syncd", "config", "validate"),
        "listed": run("dpkg", "--verify", "syncd"),
    }


def set_up(box: Sandbox) -> Facts:
    """Run the commands of the README, in order."""
    for number in box.halo.status:
        intent = box.stripe.create_intent()
        box.halo.add_row(intent, box.halo.add_invoice(), 10.99)
        box.stripe.advance(intent, number)
        box.halo.native_webhook(box.stripe.events[-1])
    answers = {
        "SYNCD_HALO__URL": box.halo.url,
        "SYNCD_HALO__CLIENT_ID": box.halo.client_id,
        "SYNCD_HALO_CLIENT_SECRET": box.halo.client_secret,
        "SYNCD_POLL__INTERVAL": "1s",
        "SYNCD_STRIPE_API_KEY": box.stripe.api_key,
        "SYNCD_STRIPE__API_BASE": box.stripe.url,
    }
    init = run("syncd", "init", "--defaults", **answers)
    due = pay(box)
    once = run("syncd", "--once", "--dry-run")
    prove = run("syncd", "prove", due, "--yes")
    enable = run("systemctl", "enable", "--now", "syncd")
    return {
        "init": init,
        "once": once,
        "prove": prove,
        "enable": enable,
        "pushed": pushed(box),
        **state(),
    }


def upgrade(box: Sandbox) -> Facts:
    """Upgrade to a newer version while the service runs."""
    before = CONFIG.read_text()
    done = run("dpkg", "--install", "/debs/second.deb")
    active = until(lambda: state()["ActiveState"] == "active")
    return {
        "dpkg": done,
        "active": active,
        "kept": CONFIG.read_text() == before,
        "pushed": pushed(box),
        "reload": run("systemctl", "reload", "syncd"),
        **state(),
    }


def remove(_box: Sandbox) -> Facts:
    """Remove the package: the program is deleted, the configuration and the database stay."""
    return {"dpkg": run("dpkg", "--remove", "syncd"), **state()}


def purge(_box: Sandbox) -> Facts:
    """Purge the package without a question, after it was installed and started once more."""
    again = run("dpkg", "--install", "/debs/second.deb")
    started = run("systemctl", "start", "syncd")
    done = run("dpkg", "--purge", "syncd")
    left = run(
        "sh",
        "-c",
        "find / -xdev -path /proc -prune -o -name '*syncd*' -print | grep -vE '^/(opt|out|debs|proc|sys)|exam'",
    )
    return {
        "again": again,
        "started": started,
        "dpkg": done,
        "left": left["said"].split(),
        **state(),
    }


def main() -> None:
    """Take all steps; record an exception as a result."""
    seen: Facts = {}
    with Sandbox() as box:
        box.halo.rate_limit = None
        for step in (install, set_up, upgrade, remove, purge):
            try:
                seen[step.__name__] = step(box)
            except Exception as error:  # noqa: BLE001  # the other steps are taken all the same
                seen[step.__name__] = {"error": f"{type(error).__name__}: {error}"}
            (OUT / "seen.json").write_text(json.dumps(seen, indent=1), "utf-8")
    journal = run("journalctl", "--unit", "syncd", "--no-pager", "--output=cat")
    (OUT / "journal").write_text(journal["said"], "utf-8")


if __name__ == "__main__":
    main()
