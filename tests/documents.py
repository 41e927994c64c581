"""Reads the command blocks of the documents, and runs them on a simulated machine.

The machine is a folder that replaces `/`: paths such as `/etc`, `/opt` and `/var/lib` in a command
are moved into the folder, and its port is replaced by a free one. Programs that need root, a booted
systemd or the network are replaced by `service_manager`. Everything else is real: bash, install,
curl, the command syncd, and both sides of a sandbox.
"""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit
from typer.main import get_command

from syncd import __version__
from syncd.cli.main import app
from syncd.sandbox import Sandbox
from tests.ports import free_port
from tests.service_manager import moved, stand_in

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

IMAGE = f"syncd:{__version__}"

NOT_RUN = {
    "make demo": "it is run by tests/test_process.py",
    "make test": "it would run itself",
    "apt install git make python3-venv": ".ci/bare runs it in a bare Debian",
    "pre-commit install --hook-type pre-commit --hook-type pre-push": "it changes the repository",
    ".venv-dev/bin/pytest tests/test_engine.py": "it is a part of what runs this",
    "git pull": "it needs the network",
    "apt install debhelper dpkg-dev python3-venv": "tests/package builds the package",
    "make deb": "tests/package builds the package",
    "make image": "tests/package builds the image",
    "install -d -o 10001 -g 10001 -m 700 /srv/syncd": "tests/package runs the image over such a folder",
    "cp packaging/compose.yaml /srv/syncd/": "it belongs to the container",
    f"podman run --rm -it -v /srv/syncd:/srv/syncd {IMAGE} init --config /srv/syncd/config.toml": (
        "tests/package runs it in the image"
    ),
    "cd /srv/syncd": "it belongs to the container",
    "podman-compose up -d": "tests/package runs the image",
    "podman-compose exec syncd syncd check": "tests/package runs the image",
    "podman-compose run --rm syncd prove": "it asks on a terminal; tests/test_prove.py runs it",
    "apt install buildah make": "it changes the machine; tests/package builds the image",
    "apt install ./dist/syncd_*.deb": "tests/package installs it in a booted Debian",
    "apt remove syncd": "tests/package removes it in a booted Debian",
    "apt purge syncd": "tests/package purges it in a booted Debian",
    "syncd init --encrypt": "tests/test_init.py runs it",
    "syncd init --defaults": "tests/test_init.py runs it",
    "hostnamectl set-hostname": "it changes the machine",
    "ssh -L 9464:127.0.0.1:9464 your-server": "it needs another machine",
    "syncd prove": "it asks on a terminal; tests/test_prove.py runs it",
    "man syncd": "tests/test_help.py formats the page, which the README's commands install",
}
"""Commands of the documents that are not run here, with the reason."""

DAY = 86_400

STOOD_IN_FOR = ("systemctl", "journalctl", "systemd-creds", "systemd-run", "pipx", "python3")

STOOD_IN_FOR_IF_ABSENT = ("curl", "python", "sqlite3")

NO_COMMAND = re.compile(r"[\w.]+ = |-|[\w-]+: |\d")
"""Inline code that begins like this is not a command but a setting, an option, a header or a number."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document.

    Attributes:
        file: the document.
        line: the number of its first line.
        kind: the word after the fence: ``sh``, ``toml``.
    """

    file: Path
    line: int
    kind: str
    text: str

    def statements(self) -> list[str]:
        """Return the commands of the block: lines, with their continuations and here-documents."""
        found: list[str] = []
        ending = None
        for line in self.text.splitlines():
            if ending is not None or (found and found[-1].endswith("\\")):
                found[-1] += "\n" + line
                ending = None if line == ending else ending
            elif line.strip() and not line.startswith("#"):
                found.append(line)
                here = re.search(r"<<'?(\w+)'?", line)
                ending = here[1] if here else None
        return found


def blocks(file: Path) -> list[Block]:
    """Return all fenced blocks of a document, in order."""
    found: list[Block] = []
    begun: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        fence = re.match(r"```(\w*)", line)
        if fence and begun is None:
            begun, lines = (number, fence[1]), []
        elif fence and begun is not None:
            found.append(Block(file, *begun, "\n".join(lines)))
            begun = None
        else:
            lines.append(line)
    return found


def in_sentences(file: Path) -> list[str]:
    """Return the commands that a document's sentences contain as inline code."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.DOTALL | re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    return [
        span for span in spans if (" " in span or "/bin/" in span) and not NO_COMMAND.match(span)
    ]


def not_of_syncd(words: list[str]) -> list[str]:
    """Return those words of a command (after `syncd`) that syncd does not know."""
    command: Any = get_command(app)
    left, wrong = list(words), []
    while left and left[0] in getattr(command, "commands", {}):
        command = command.commands[left.pop(0)]
    kinds = {option: one for one in command.params for option in one.opts if option[0] == "-"}
    takes_arguments = any(one.param_type_name == "argument" for one in command.params)
    while left:
        word = left.pop(0)
        if word in kinds:
            del left[: 0 if kinds[word].is_flag else 1]
        elif word.startswith("-") or not takes_arguments:
            wrong.append(word)
    return wrong


@dataclass
class Machine:
    """A folder that replaces the reader's machine, with a sandbox instead of Stripe and Halo.

    Attributes:
        folder: the replacement for `/`. Its path must be short, because socket paths are limited.
        ports: the ports that documents name, and the ports that replace them.
        names: placeholders in documents for an ID or a name that only the reader knows, and our values.
    """

    folder: Path
    box: Sandbox
    environment: dict[str, str] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "etc/systemd/system",
            "opt",
            "root",
            "run",
            "usr/local/bin",
            "var/lib/private",
            "stand-ins",
        ):
            (self.folder / name).mkdir(parents=True)
        # As systemd creates it for StateDirectory=.
        (self.folder / "var/lib/private/syncd").mkdir()
        (self.folder / "var/lib/syncd").symlink_to(self.folder / "var/lib/private/syncd")
        absent = [name for name in STOOD_IN_FOR_IF_ABSENT if shutil.which(name) is None]
        for name in (*STOOD_IN_FOR, *absent):
            stand_in(self.folder / "stand-ins" / name)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SYNCD_", "PYTHON"))}
        kept.pop("CREDENTIALS_DIRECTORY", None)
        places = (self.folder / "usr/local/bin", self.folder / "stand-ins", kept["PATH"])
        self.environment = {
            **kept,
            "PATH": os.pathsep.join(map(str, places)),
            "MACHINE": str(self.folder),
            "HOME": str(self.folder / "root"),
            "TERM": "dumb",
            "COLUMNS": "200",
        }

    def close(self) -> None:
        """Stop the services that still run."""
        for file in (self.folder / "run").glob("*/pid"):
            self.run(f"systemctl stop {file.parent.name}")

    def run(self, statement: str, *, codes: tuple[int, ...] = (0,)) -> str:
        """Run one command as written and return its output; fail on an unexpected exit code."""
        if statement.partition("#")[0].strip() in NOT_RUN:
            return ""
        text = moved(statement, self.folder)
        if statement.startswith("syncd init"):
            return self._init(text, statement)
        for written, real in self.names.items():
            text = text.replace(written, real)
        text = self._ported(text)
        if text.startswith("export "):
            self.environment |= dict(part.split("=", 1) for part in text.split()[1:] if "=" in part)
            return ""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT,
            env=self.environment,
            input=self._typed(text),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode in codes, f"{statement}\nended with {done.returncode}:\n{said}"
        for secret in (self.box.stripe.api_key, self.box.halo.client_secret):
            assert secret not in said, f"{statement}\nshows a secret"
        if found := re.search(r"\bconfig\.toml (\S+/config\.toml)$", text):
            self.fill_in(Path(found[1]))
        return said

    def _init(self, text: str, statement: str) -> str:
        """Run `syncd init` with the reader's answers; tests/test_init.py tests the questions."""
        file = self.folder / "etc/syncd/config.toml"
        instance = "syncd"
        if named := re.search(r"--config (\S+)", text):
            file = Path(named[1])
            instance = f"syncd-{file.parent.name}"
        else:
            text = f"{text} --config {file}"
            self.environment["SYNCD_CONFIG"] = str(file)
        box, saved = self.box, dict(self.environment)
        self.environment |= {
            "SYNCD_HALO__URL": box.halo.url,
            "SYNCD_HALO__CLIENT_ID": box.halo.client_id,
            "SYNCD_HALO_CLIENT_SECRET": box.halo.client_secret,
            "SYNCD_STRIPE_API_KEY": box.stripe.api_key,
            "SYNCD_STRIPE__API_BASE": box.stripe.url,
            "SYNCD_STATE__URL": moved(f"sqlite:////var/lib/{instance}/syncd.db", self.folder),
            "SYNCD_WEB__LISTEN": self._ported("127.0.0.1:9464")
            if instance == "syncd"
            else f"127.0.0.1:{free_port()}",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{text} --defaults"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.environment = saved
        assert done.returncode == 0, f"{statement}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def fill_in(self, file: Path, more: str = "") -> None:
        """Write the reader's own values and a block of a document into the configuration."""
        document = tomlkit.parse(file.read_text())
        acme = file.parent.name
        instance = "syncd" if acme == "syncd" else f"syncd-{acme}"
        theirs = f"""
            [stripe]
            api_base = "{self.box.stripe.url}"
            [halo]
            url = "{self.box.halo.url}"
            client_id = "{self.box.halo.client_id}"
            [state]
            url = "sqlite:////var/lib/{instance}/syncd.db"
            [web]
            listen = "127.0.0.1:9464"
            """
        for text in (theirs, more):
            here = moved(self._ported(text), self.folder)
            for name, table in tomlkit.parse(here).items():
                document.setdefault(name, tomlkit.table()).update(table)
        file.write_text(tomlkit.dumps(document))

    def _ported(self, text: str) -> str:
        """Replace each port that documents name by a free one; keep the sandbox's ports."""

        def port(found: re.Match[str]) -> str:
            written = int(found[0])
            return str(
                written if written >= 20_000 else self.ports.setdefault(written, free_port())
            )

        return re.sub(r"(?<=127\.0\.0\.1:)\d+", port, text)

    def _typed(self, text: str) -> str:
        """Return the text that the reader pastes if a command reads from the terminal."""
        if "/dev/stdin" not in text:
            return ""
        secrets = {
            "stripe_api_key": self.box.stripe.api_key,
            "halo_client_secret": self.box.halo.client_secret,
            "notify_urls": "json://127.0.0.1:9/",
        }
        return "".join(f"{secret}\n" for name, secret in secrets.items() if name in text)


# --- starting situations ----------------------------------------------------------------------------


def written_by_halo(box: Sandbox) -> None:
    """Create rows that calibrate learns from: one per state, written by Halo's webhook, and an unpaid one."""
    unpaid = box.stripe.create_intent(amount=1099)
    box.halo.add_row(unpaid, box.halo.add_invoice(), 10.99)
    for state in box.halo.status:
        intent = box.stripe.create_intent(amount=1099)
        box.halo.add_row(intent, box.halo.add_invoice(), 10.99)
        box.stripe.advance(intent, state)
        box.halo.native_webhook(box.stripe.events[-1])


def old_payment(box: Sandbox, amount: float = 10.99) -> str:
    """Create a payment from 20 days ago, without an event, whose row does not show its state."""
    intent = box.stripe.create_intent(amount=1099, created=time.time() - 20 * DAY)
    box.stripe.advance(intent, "succeeded", emit=False)
    box.halo.add_row(intent, box.halo.add_invoice(), amount)
    return intent


def held(box: Sandbox) -> str:
    """Create a payment that is held, because Halo's row has another amount."""
    intent = box.stripe.create_intent(amount=1099)
    box.halo.add_row(intent, box.halo.add_invoice(), 5.0)
    box.stripe.advance(intent, "succeeded")
    return intent


INSTALL = (
    "python3 -m venv /opt/syncd",
    "/opt/syncd/bin/pip install --no-deps --require-hashes -r requirements.lock",
    "/opt/syncd/bin/pip install --no-deps --no-build-isolation .",
    "ln -s /opt/syncd/bin/syncd /usr/local/bin/syncd",
    "install -D -m 644 config.toml /etc/syncd/config.toml",
    *(
        f"read -rs secret && printf '%s\\n' \"$secret\" | install -m 600 /dev/stdin /etc/syncd/{name}"
        for name in ("stripe_api_key", "halo_client_secret")
    ),
    "install -m 644 systemd/syncd.service /etc/systemd/system/syncd.service",
    "export SYNCD_CONFIG=/etc/syncd/config.toml CREDENTIALS_DIRECTORY=/etc/syncd",
)


def installed(machine: Machine) -> None:
    """Install syncd and start the service, as every document except the installation guide assumes."""
    for statement in INSTALL:
        machine.run(statement)
    numbers = "\n".join(f"{state} = {n}" for state, n in machine.box.halo.status.items())
    machine.fill_in(machine.folder / "etc/syncd/config.toml", f"[halo.status]\n{numbers}\n")
    machine.run("systemctl enable --now syncd")
