"""docs/install.md, word for word, in a booted, bare Debian 12: as a package, and with pip.

Only Stripe and Halo are simulated: apt installs what the document names, systemd runs the service, and a
terminal answers the questions. The tests need root, debootstrap, systemd-nspawn and a mirror; without them
they are skipped, with the reason. The third way, a container, is in test_image.py.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.documents import blocks, in_sentences
from tests.package.reach import bare_debian, reach

HERE = Path(__file__).parent
DOCUMENT = ROOT / "docs/install.md"

UNIT = """[Unit]
Description=Follows the document
Wants=network.target
[Service]
Type=oneshot
Environment=PYTHONPATH=/opt/tree PYTHONDONTWRITEBYTECODE=1 DEBIAN_FRONTEND=noninteractive HOME=/root LC_ALL=C.UTF-8 {variables}
ExecStart=/usr/bin/python3 /opt/exam/reader.py
ExecStopPost=systemctl --no-block poweroff
StandardOutput=file:/out/said
StandardError=inherit
TimeoutStartSec=1200
"""


def statements(way: str) -> list[str]:
    """The commands of one way through the document, from the first to the last."""
    found = blocks(DOCUMENT)
    own = {
        "package": ("make deb",),
        "pip": ("python3 -m venv",),
        "container": ("make image", "/srv/syncd", "podman"),
    }
    others = [text for name, texts in own.items() if name != way for text in texts]
    text = DOCUMENT.read_text()
    upgrading = text[: text.index("## Upgrading")].count("\n")
    kept = [
        one.text if way == "pip" or "/opt/syncd" not in one.text else ""
        for one in found
        if one.kind == "sh"
        and not any(other in one.text for other in others)
        and (way == "pip" or one.line < upgrading)
    ]
    run = [line for one in kept for line in one.splitlines() if line.strip()]
    if way == "package":
        run += [one for one in in_sentences(DOCUMENT) if re.match(r"apt (remove|purge) ", one)]
    # A bare Debian has no venv module, which the document's second sentence asks for.
    return ["apt install python3-venv", *run] if way == "pip" else run


def follow(way: str, folder: Path) -> list[dict[str, Any]]:
    """Boot a bare Debian and follow the document; returns the record of each command."""
    out = folder / "out"
    out.mkdir()
    (out / "statements.json").write_text(json.dumps(statements(way)))
    there = reach()
    with bare_debian() as tree:
        clone = tree / "root/syncd"
        clone.mkdir(parents=True)
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
        packed = subprocess.run(
            ["tar", "--create", "--null", "--files-from=-"],
            cwd=ROOT,
            input=files,
            check=True,
            capture_output=True,
        ).stdout
        subprocess.run(["tar", "--extract", "-C", clone], input=packed, check=True)
        variables = " ".join(f'"{name}={text}"' for name, text in there.variables.items())
        (tree / "etc/systemd/system/reader.service").write_text(UNIT.format(variables=variables))
        done = subprocess.run(
            [
                "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={tree}",
                f"--bind-ro={ROOT / 'syncd'}:/opt/tree/syncd", f"--bind-ro={HERE}:/opt/exam",
                *(f"--bind-ro={path}" for path in there.shown if path.is_dir()),
                f"--bind={out}:/out", "--boot", "systemd.unit=reader.service",
            ],
            check=False, capture_output=True, text=True, timeout=1_300, stdin=subprocess.DEVNULL,
            env={**os.environ, "SYSTEMD_NSPAWN_TMPFS_TMP": "0"},
        )  # fmt: skip
    result, said = out / "seen.json", out / "said"
    told = said.read_text("utf-8") if said.exists() else ""
    assert result.exists(), f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}\n{told[-3_000:]}"
    seen: list[dict[str, Any]] = json.loads(result.read_text("utf-8"))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("way", ["package", "pip"])
def test_the_document_word_for_word(way: str, tmp_path: Path) -> None:
    """Each command of the document works as written, in order; a dry run writes nothing; the service runs."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a container")
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("Debian's package systemd-container isn't there")
    run = statements(way)
    seen = follow(way, tmp_path)
    for one in seen:
        codes = (0, 1) if one["statement"] == "syncd attention" else (0,)
        assert one["code"] in codes, f"{one['statement']} ended with {one['code']}:\n{one['said']}"
    assert [one["statement"] for one in seen] == run
    at = {one["statement"]: one for one in seen}
    dry = next(one for one in seen if "--dry-run" in one["statement"])
    assert (dry["writes"], at["syncd init"]["secrets"]) == (0, ["0o600", "0o600"])
    assert "Proven: Halo stored what syncd sent" in " ".join(at["syncd prove"]["said"].split())
    assert at["systemctl enable --now syncd"]["active"] == "active"
    assert at["syncd --backfill 90d"]["statuses"] == [3, 3]
    assert (seen[-1]["active"], seen[-1]["there"]) == ("inactive", [])
