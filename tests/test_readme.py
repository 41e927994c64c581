"""Every command of the README is run here, as far as a machine without an account can.

Paths of the machine (/opt, /etc, /usr/local) become paths below a scratch folder, and the sandbox
stands in for Stripe and Halo. What isn't run as it stands, and why:

- ``make demo`` and ``make test``: `.ci/run` calls both, which a test checks; the first is also what
  test_process runs, the second is what runs this.
- ``pip install … requirements.lock``: it would download everything; the tests' own environment is what
  it leads to, and the lock is checked to name every dependency with its hashes.
- ``systemctl …``: no systemd runs here; test_units checks the units.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncd import __version__
from syncd.sandbox import Sandbox
from tests.conftest import ROOT, HandClock, Rig

README = (ROOT / "README.md").read_text()
BLOCKS = [
    re.sub(r"\s+#.*$", "", block, flags=re.MULTILINE).strip().splitlines()
    for block in re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
]
COMMANDS = [line for block in BLOCKS for line in block if line]
SECRETS = {"stripe_api_key": "rk_test_sandbox", "halo_client_secret": "sandbox-client-secret"}


def block(start: str) -> list[str]:
    """The block that begins with a command."""
    (found,) = [lines for lines in BLOCKS if lines[0].startswith(start)]
    return found


@dataclass
class Machine:
    """A scratch folder in place of a machine's root.

    Attributes:
        source: a copy of what the repository ships, to install from.
    """

    root: Path
    source: Path

    def run(
        self, command: str, stdin: str = "", **extra: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run one line of the README here."""
        moved = re.sub(r"(?<![\w.])/(opt|etc|usr/local)/", rf"{self.root}/\1/", command)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SYNCD_", "PYTHON"))}
        environment = {
            **clean, "PATH": f"{self.root}/usr/local/bin:{os.environ['PATH']}", "PIP_NO_INDEX": "1",
            # To pip, false here means: without isolation, for which a network would be needed.
            "PIP_NO_BUILD_ISOLATION": "false", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "SYNCD_CONFIG": f"{self.root}/etc/syncd/config.toml", **extra,
        }  # fmt: skip
        return subprocess.run(
            ["sh", "-ec", moved], input=stdin, env=environment, cwd=self.source, text=True,
            capture_output=True, timeout=90, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine on which the install block was followed, line by line."""
    root, source = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("source")
    for name in ("syncd", "systemd", "docs"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    for name in ("README.md", "LICENSE", "pyproject.toml", "config.toml", "requirements.lock"):
        shutil.copy(ROOT / name, source / name)
    for folder in ("usr/local/bin", "etc/systemd/system", "opt"):
        (root / folder).mkdir(parents=True)
    made = Machine(root, source)
    for line in block("python3 -m venv"):
        if "requirements.lock" in line:
            (site,) = root.glob("opt/syncd/lib/python*/site-packages")
            (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
            continue
        here = line.replace("python3 ", f"{sys.executable} ", 1)
        secret = next((value for name, value in SECRETS.items() if line.endswith(name)), "")
        done = made.run(here, stdin=secret + "\n")
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return made


@pytest.fixture
def served(machine: Machine, tmp_path: Path) -> Iterator[tuple[Machine, Rig]]:
    """The same with the configuration filled in, as the README says, for a sandbox."""
    with Sandbox() as box:
        place = machine.root / "etc/syncd/config.toml"
        text = (ROOT / "config.toml").read_text()
        filled = {
            'url = "https://example.halopsa.com"': f'url = "{box.halo.url}"',
            'client_id = ""': f'client_id = "{box.halo.client_id}"',
            '# api_base = "https://api.stripe.com"': f'api_base = "{box.stripe.url}"',
            '# url = "sqlite:////var/lib/syncd/syncd.db"': f'url = "sqlite:///{tmp_path}/syncd.db"',
            '# listen = "127.0.0.1:9464"': 'listen = "127.0.0.1:0"',
            **{f"# {state} =": f"{state} = {n}" for state, n in box.halo.status.items()},
        }
        for shipped, ours in filled.items():
            assert text.count(shipped) == 1, shipped
            text = text.replace(shipped, ours)
        place.write_text(text)
        yield machine, Rig(box, HandClock(), tmp_path, {})


def test_two_commands_first() -> None:
    """The first screen has two commands, and CI calls the very same."""
    assert COMMANDS[:2] == ["make demo", "make test"]
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nmake demo\nmake test")


def test_every_command_is_known_here() -> None:
    """A command that is new in the README needs a test: each is run below, or named above."""
    known = (
        *block("python3 -m venv"), *block("export CREDENTIALS_DIRECTORY"),
        *block("syncd --backfill"), *block("syncd status"),
        "make demo", "make test", "systemctl daemon-reload", "systemctl enable --now syncd",
        "systemctl status syncd",
    )  # fmt: skip
    assert [command for command in COMMANDS if command not in known] == []


def test_installed(machine: Machine) -> None:
    """After the install block the command is there, the secrets are root's alone, the unit in place."""
    done = machine.run("syncd --version")
    assert (done.stdout, done.returncode) == (f"syncd {__version__}\n", 0)
    for name, value in SECRETS.items():
        secret = machine.root / "etc/syncd" / name
        assert (secret.read_text().strip(), secret.stat().st_mode & 0o777) == (value, 0o600)
    for made, shipped in (
        ("etc/systemd/system/syncd.service", "systemd/syncd.service"),
        ("etc/syncd/config.toml", "config.toml"),
    ):
        file = machine.root / made
        assert file.stat().st_mode & 0o777 == 0o644
        if made.endswith("service"):
            assert file.read_bytes() == (ROOT / shipped).read_bytes()
    # What the unit starts is what was installed.
    (start,) = re.findall(
        r"^ExecStart=(\S+)", (ROOT / "systemd/syncd.service").read_text(), re.MULTILINE
    )
    assert start == "/opt/syncd/bin/syncd"
    assert (machine.root / "opt/syncd/bin/syncd").exists()


def test_lock() -> None:
    """The lock has hashes for everything, no index, and all that the program depends on."""
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    pinned = {}
    for entry in entries:
        if entry.startswith("#"):
            continue
        name, version = re.match(r"([\w.\-\[\]]+)==([\w.]+)", entry).groups()  # type: ignore[union-attr]
        pinned[name.partition("[")[0]] = version
        assert "--hash=sha256:" in entry
    assert "index-url" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=\[ ]", need)[0] for need in project["dependencies"]}
    assert needed <= set(pinned)


def test_numbers_are_learnt(served: tuple[Machine, Rig]) -> None:
    """The block before the first start: the numbers come from the tenant's rows, and all is checked."""
    machine, rig = served
    place = machine.root / "etc/syncd/config.toml"
    numbers = rf"^({'|'.join(rig.box.halo.status)}) = \d+"
    place.write_text(re.sub(numbers, r"# \1 =", place.read_text(), flags=re.MULTILINE))
    for state in rig.box.halo.status:
        for _ in range(3):
            rig.pay(state)
            rig.box.halo.native_webhook(rig.box.stripe.events[-1])
    before = [dict(row) for row in rig.box.halo.rows.values()]
    export, learn, check = block("export CREDENTIALS_DIRECTORY")
    done = machine.run(f"{export}\n{learn}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert tomllib.loads(place.read_text())["halo"]["status"] == rig.box.halo.status
    done = machine.run(f"{export}\n{check}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [dict(row) for row in rig.box.halo.rows.values()] == before


def test_backfill(served: tuple[Machine, Rig]) -> None:
    """The block about what lies further back: looking first writes nothing, then it is done."""
    machine, rig = served
    old = rig.box.stripe.create_intent(created=rig.box.clock() - 80 * 86_400)
    rig.box.stripe.advance(old, "succeeded", emit=False)
    rig.box.halo.add_row(old, rig.box.halo.add_invoice(), 10.99)
    export, (dry, real) = block("export CREDENTIALS_DIRECTORY")[0], block("syncd --backfill")
    done = machine.run(f"{export}\n{dry}")
    assert (done.returncode, "update" in done.stdout, rig.posts()) == (0, True, []), done.stderr
    done = machine.run(f"{export}\n{real}")
    assert (done.returncode, rig.statuses(old)) == (0, [3]), done.stderr


def test_every_day(served: tuple[Machine, Rig]) -> None:
    """The block of every day, beside a running service: each command does what is said of it."""
    machine, rig = served
    held, other = rig.pay("succeeded", rows=(5.0,)), rig.pay("succeeded", rows=(6.0,))
    credentials = {"CREDENTIALS_DIRECTORY": str(machine.root / "etc/syncd")}
    with subprocess.Popen(
        [machine.root / "usr/local/bin/syncd", "--config", machine.root / "etc/syncd/config.toml"],
        env={**os.environ, **credentials}, stderr=subprocess.PIPE, text=True, cwd=rig.folder,
    ) as service:  # fmt: skip
        try:
            address = _until_held(service, 2)
            told = {}
            for line in block("syncd status"):
                command = line.replace("127.0.0.1:9464", address)
                if shutil.which("curl") is None:
                    asking = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read())"
                    command = command.replace("curl", f"{sys.executable} -c '{asking}'")
                if line.startswith("systemctl reload"):
                    service.send_signal(signal.SIGHUP)  # as the unit's ExecReload does
                    continue
                if "retry" in line:
                    rig.box.halo.rows_of(held)[0]["amount"] = 10.99
                which = other if "dismiss" in line else held
                done = machine.run(command.replace("pi_…", which), **credentials)
                told[line] = done.stdout
                expected = 1 if line in ("syncd status", "syncd attention") else 0
                assert done.returncode == expected, f"{line}\n{done.stdout}{done.stderr}"
                if "dismiss" in line:
                    assert machine.run("syncd attention", **credentials).returncode == 0
        finally:
            service.send_signal(signal.SIGTERM)
            service.communicate(timeout=15)
    assert service.returncode == 0
    assert held in told["syncd attention"].replace("\n", "")
    assert rig.statuses(held) == [3]
    assert '"status":"ok"' in told["curl http://127.0.0.1:9464/readyz"].replace(" ", "")


def _until_held(service: "subprocess.Popen[str]", number: int) -> str:
    """Read the service's log until so many payments are held; returns where it listens."""
    address = ""
    assert service.stderr is not None
    for line in service.stderr:
        if found := re.search(r'"listen": "([\d.:]+)"', line):
            address = found[1]
        number -= '"event": "held"' in line
        if number == 0:
            break
    return address
