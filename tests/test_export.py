"""Leaving and moving: the export, and a database that is rebuilt as docs/moving.md shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from syncd.core.records import Condition
from syncd.core.rows import Row
from syncd.store.db import schema
from syncd.store.db.dump import EXPORTED
from tests.conftest import ROOT, Rig

GUIDE = ROOT / "docs" / "moving.md"


def blocks() -> dict[str, str]:
    """The commands of the guide by heading."""
    parts = re.split(r"^## (.+)$", GUIDE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {
        head: "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL))
        for head, text in zip(parts[::2], parts[1::2], strict=True)
    }


def run_guide(rig: Rig, heading: str) -> "subprocess.CompletedProcess[str]":
    """Run a block of the guide as written, in a folder instead of the machine's root."""
    root = rig.folder
    for folder in ("bin", "root", "etc/syncd", "var/lib/syncd"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "bin/syncd").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.alone "$@"\n')
    (root / "bin/systemctl").write_text(f'#!/bin/sh\necho "$*" >> "{root}/systemctl"\n')
    for name in ("syncd", "systemctl"):
        (root / "bin" / name).chmod(0o755)
    (root / "etc/syncd/stripe_api_key").write_text(rig.box.stripe.api_key)
    (root / "etc/syncd/halo_client_secret").write_text(rig.box.halo.client_secret)
    commands = re.sub(r"(?<=[\s=])/(?=(?:var|root|etc)/)", f"{root}/", blocks()[heading])
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SYNCD_")}
    ours = {k: v for k, v in rig.environment().items() if v}
    return subprocess.run(
        ["/bin/sh", "-eux", "-c", commands],
        env={**clean, **ours, "PYTHONPATH": str(ROOT), "PATH": f"{root}/bin:{os.environ['PATH']}"},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def at_home(rig: Rig) -> Path:
    """Place the database where the guide says."""
    home = rig.folder / "var/lib/syncd"
    home.mkdir(parents=True)
    rig.settings["SYNCD_STATE__URL"] = f"sqlite:///{home}/syncd.db"
    return home / "syncd.db"


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_export_holds_everything(rig: Rig) -> None:
    """The export has every payment, refund and note once, each as a JSON object with its kind."""
    rig.box.stripe.permissions |= {"refunds", "disputes"}
    payments = {rig.pay("succeeded") for _ in range(3)} | {rig.pay("succeeded", rows=(1.0,))}
    rig.once()
    refund = rig.box.stripe.refund(min(payments))
    rig.sweep()
    ran = rig.command("export")
    assert (ran.returncode, ran.stderr) == (0, "")
    head, *lines = lines_of(ran.stdout)
    assert (head["kind"], head["schema"]) == ("export", schema.REVISION)
    assert {line["kind"] for line in lines} <= EXPORTED.keys()
    assert {line["intent_id"] for line in lines if line["kind"] == "payment"} == payments
    assert sum(line["kind"] == "payment" for line in lines) == 4
    [back] = [line for line in lines if line["kind"] == "reversal" and not line["total"]]
    assert (back["id"], back["type"], back["amount"]) == (refund, "refunded", 1099)
    assert "watermark" in {line["name"] for line in lines if line["kind"] == "note"}


def test_export_holds_no_secret(rig: Rig) -> None:
    """The export contains no key and no client secret, also not in traces."""
    rig.pay("succeeded", rows=(1.0,))  # held, so its trace is still stored
    rig.pay("requires_action", rows=())
    rig.once()
    told = rig.command("export").stdout
    assert "trace" in told
    assert "payment_intent.succeeded" in told
    secrets = [rig.box.stripe.api_key, rig.box.halo.client_secret]
    secrets += [intent["client_secret"] for intent in rig.box.stripe.intents.values()]
    assert not [secret for secret in secrets if secret in told]
    assert "_secret_" not in told


def test_export_in_pages_is_the_same(rig: Rig) -> None:
    """The export has the same lines in the same order, whatever the page size."""
    for _ in range(5):
        rig.pay("succeeded")
    rig.once()
    rig.clock.seconds += 400
    rig.sweep()
    rows = [Row(number, f"pi_of_{number}", 1025, None, 99) for number in range(1, 4)]
    rig.stored(lambda store: store.rows.add(rows))  # an interrupted push leaves such rows
    whole = rig.stored(lambda store: list(store.housekeeping.export()))
    assert rig.stored(lambda store: list(store.housekeeping.export(page=1))) == whole
    assert rig.stored(lambda store: list(store.housekeeping.export(page=2))) == whole
    assert {kind for kind, _ in whole} >= {"payment", "event", "halo_row", "note", "requests"}


def test_export_without_a_database(rig: Rig) -> None:
    """Without a database, the export exits with 78 and creates no database."""
    ran = rig.command("export")
    assert (ran.returncode, ran.stdout) == (78, "")
    assert not (rig.folder / "syncd.db").exists()


def test_a_damaged_database_is_rebuilt(live: Rig) -> None:
    """After the guide's steps for a damaged database, no row has changed and conditions are the same."""
    database = at_home(live)
    live.settings["SYNCD_PUSH__CREATE_MISSING"] = "true"
    paid, failed = live.pay("succeeded"), live.pay("payment_failed")
    parts = live.pay("succeeded", amount=300, rows=(1.0, 2.0))
    held = live.pay("succeeded", rows=(5.0,))
    invoice = live.box.halo.add_invoice()
    made = live.pay("succeeded", rows=(), metadata={"halo_invoice_id": str(invoice)})
    other = live.pay("succeeded", rows=())
    assert live.command("--once").returncode == 1
    rows = json.dumps(list(live.box.halo.rows.values()))
    writes = len(live.box.halo.writes)
    assert len(live.box.halo.rows_of(made)) == 1
    healthy = database.read_bytes()
    database.write_bytes(healthy[:4096] + b"\x00rot" * 4096 + healthy[5 * 4096 :])
    refused = live.command("status")
    assert (refused.returncode, "syncd --backfill 90d" in refused.stderr) == (78, True)
    ran = run_guide(live, "The database is lost or damaged")
    # `syncd status` exits with 1, because the payment is held again
    assert ran.returncode == 1, ran.stderr
    assert (database.parent / "damaged/syncd.db").exists()
    assert json.dumps(list(live.box.halo.rows.values())) == rows
    assert len(live.box.halo.writes) == writes
    again = {
        line["intent_id"]: line["condition"]
        for line in lines_of(live.command("export").stdout)
        if line["kind"] == "payment"
    }
    assert again == {
        paid: Condition.IN_STEP,
        failed: Condition.IN_STEP,
        parts: Condition.IN_STEP,
        held: Condition.HELD,
        made: Condition.IN_STEP,
        other: Condition.UNMATCHED,
    }


def test_the_other_commands_of_the_guide(live: Rig) -> None:
    """The guide's commands for moving and for leaving work."""
    database = at_home(live)
    payment = live.pay("succeeded")
    assert live.command("--once").returncode == 0
    ran = run_guide(live, "To another machine")
    assert ran.returncode == 0, ran.stderr
    assert (live.folder / "root/syncd.db").read_bytes() == database.read_bytes()
    ran = run_guide(live, "Leaving")
    assert ran.returncode == 0, ran.stderr
    left = lines_of((live.folder / "root/syncd.jsonl").read_text())
    assert payment in {line.get("intent_id") for line in left}
    assert (live.folder / "systemctl").read_text().splitlines() == ["disable --now syncd"] * 2
