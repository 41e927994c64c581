"""The documents are correct: their commands run, their links have targets, and their lists are complete."""

import ast
import re
from pathlib import Path

import pytest

from docs import holds
from syncd import __version__
from syncd.audit.differences import Kind
from syncd.cli import shared
from syncd.config.model import Section, Settings
from syncd.config.secrets import SECRETS
from syncd.core import windows
from syncd.core.holds import HOLDS, HoldCode, Scope
from syncd.core.records import Condition
from syncd.store import history as housekeeping_store
from syncd.store.db.schema import metadata
from tests.conftest import Receiver
from tests.documents import (
    DOCUMENTS,
    NOT_RUN,
    ROOT,
    Machine,
    blocks,
    held,
    in_sentences,
    installed,
    not_of_syncd,
    old_payment,
    written_by_halo,
)

DAY = 86_400

READ_ONLY = ("syncd status", "syncd attention", "syncd check", "syncd calibrate", "curl")
"""Read-only commands: if several documents have such a command, it runs once."""


# --- the commands --------------------------------------------------------------------------------


@pytest.mark.slow
def test_install(machine: Machine) -> None:
    """Every command of docs/install.md runs as written, from the installation to the removal.

    The commands of docs/install-options.md run before the removal, those with pipx on a machine of
    their own.
    """
    written_by_halo(machine.box)
    rows = machine.box.halo.rows_of(old_payment(machine.box))
    other = Machine(machine.folder.parent / "p", machine.box)
    seen = []
    *most, removal = blocks(ROOT / "docs/install.md")
    for block in (*most, *blocks(ROOT / "docs/install-options.md"), removal):
        here = other if "PIPX_HOME" in block.text else machine
        for statement in block.statements() if block.kind == "sh" else ():
            here.run(statement)
            seen.append(statement)
            if "--dry-run" in statement:
                assert machine.box.halo.writes == []
            if statement == "syncd --backfill 90d":
                assert rows[0]["status"] == machine.box.halo.status["succeeded"]
    assert "syncd --backfill 90d" in seen
    assert (other.folder / "opt/syncd/bin/syncd").exists()
    assert not (machine.folder / "etc/syncd").exists()
    assert not (machine.folder / "var/lib/private/syncd").exists()


@pytest.mark.slow
def test_commands(machine: Machine, receiver: Receiver) -> None:
    """Every command of the other documents runs as written, on a machine where syncd is installed.

    Commands in sentences run too, except those of syncd and make; README.md and install.md are
    included.
    """
    payments = [held(machine.box) for _ in range(12)]
    old_payment(machine.box)
    written_by_halo(machine.box)
    installed(machine)
    theirs = {"service://…": receiver.notify_url}
    machine.names = theirs
    before: set[str] = set()
    for file in DOCUMENTS:
        if file.name in ("install.md", "install-options.md", "README.md", "two-machines.md"):
            continue  # tests/postgresql/test_guide.py runs those of two-machines.md
        machine.run("systemctl start syncd")
        found = [s for block in blocks(file) if block.kind == "sh" for s in block.statements()]
        for statement in found:
            plain = statement.partition("#")[0].strip()
            if plain in before and plain.startswith(READ_ONLY):
                continue
            before.add(plain)
            if re.search(r"pi_(123|…)", statement):
                machine.names = theirs | dict.fromkeys(("pi_123", "pi_…"), payments.pop())
            machine.run(statement, codes=(0, 1) if re.search(r"\bsyncd ", statement) else (0,))
    assert [message["type"] for message in receiver.messages] == ["info"]
    machine.run("systemctl start syncd")
    for statement in {s for file in DOCUMENTS for s in in_sentences(file)} - before:
        if program_of(statement) not in ("syncd", "make"):
            machine.run(statement)


def program_of(statement: str) -> str:
    return statement.split(maxsplit=1)[0].rpartition("/")[2]


IN_SENTENCES = sorted({s for file in DOCUMENTS for s in in_sentences(file)})


@pytest.mark.parametrize(
    "statement", [s for s in IN_SENTENCES if program_of(s) in ("syncd", "make")]
)
def test_commands_in_sentences(statement: str) -> None:
    """Each command of syncd and each target of make in a sentence exists, with its options."""
    _, *words = statement.split()
    if program_of(statement) == "syncd":
        assert not_of_syncd(words) == []
        return
    makefile = (ROOT / "Makefile").read_text()
    target, *variables = words
    assert f"\n{target}:" in makefile
    assert [v for v in variables if f"$({v.partition('=')[0]})" not in makefile] == []


def test_a_wrong_command_in_a_sentence_is_seen() -> None:
    """The check of commands in sentences finds a wrong command, a wrong option and a superfluous word."""
    assert not_of_syncd(["audit", "--since", "90d", "--html", "FILE"]) == []
    assert not_of_syncd(["attention", "retry", "pi_123", "--every"]) == ["--every"]
    assert not_of_syncd(["--backfill", "90d", "--dryrun"]) == ["--dryrun"]
    assert not_of_syncd(["stauts"]) == ["stauts"]
    assert not_of_syncd(["demo", "--keep", "it"]) == ["it"]


def test_what_is_not_run_is_there() -> None:
    """Each command that the tests do not run is in a document, and each target of make exists."""
    written = set(IN_SENTENCES) | {
        s.partition("#")[0].strip()
        for file in DOCUMENTS
        for b in blocks(file)
        if b.kind == "sh"
        for s in b.statements()
    }
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    written |= {s for file in DOCUMENTS for s in in_sentences(file)}
    for statement in NOT_RUN:
        assert statement in written
        if statement.startswith("make "):
            assert statement.removeprefix("make ") in targets


# --- the lists -----------------------------------------------------------------------------------


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_every_code_is_explained() -> None:
    """operate.md has the explanation of every code from the registry of holds."""
    assert holds.section() in text_of("operate.md")


def test_every_hold_of_the_table() -> None:
    """The table in decides.md has every code with which a rule holds a payment."""
    decided = {code for code, entry in HOLDS.items() if entry.scope is Scope.PAYMENT}
    decided -= {HoldCode.INSERT_UNPROVEN, HoldCode.HALO_REFUSES}  # results of a request to Halo
    assert {f"`{code}`" for code in decided} <= set(re.findall(r"`\w+`", text_of("decides.md")))


def test_every_condition() -> None:
    """decides.md explains every condition, in the program's order."""
    table = (
        text_of("decides.md").partition("## The condition of a payment")[2].partition("\n## ")[0]
    )
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [str(one) for one in Condition]


def test_every_key_is_explained() -> None:
    """config.toml shows every key and every secret of the configuration, and no other key."""
    text = (ROOT / "config.toml").read_text()
    shown: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if head := re.match(r"\[([\w.]+)\]", line):
            table = head[1]
            shown[table] = []
        elif key := re.match(r"(?:# )?([a-z_]+) =", line):
            shown[table].append(key[1])

    def walk(model: type, above: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        keys = []
        for name, one in model.model_fields.items():  # type: ignore[attr-defined]
            if isinstance(one.annotation, type) and issubclass(one.annotation, Section):
                found |= walk(one.annotation, f"{above}.{name}" if above else name)
            else:
                keys.append(name)
        return {above: keys} | found if above else found

    assert shown == walk(Settings, "")
    for secret, variable in SECRETS.items():
        assert f"$CREDENTIALS_DIRECTORY/{secret} " in text
        assert variable in text


def test_every_alert() -> None:
    """operate.md explains every alert of the shipped rules, in their order."""
    rules = (ROOT / "docs/monitoring/alerts.yml").read_text()
    part = text_of("operate.md").partition("## Alerts")[2].partition("\n## ")[0]
    shipped = re.findall(r"^ +- alert: (\w+)", rules, re.MULTILINE)
    assert re.findall(r"^\| `(Syncd\w+)` \|", part, re.MULTILINE) == shipped


def test_every_difference() -> None:
    """operate.md explains every difference that an audit can find, in the report's order."""
    part = text_of("operate.md").partition("## Does Halo agree")[2].partition("\n## ")[0]
    cells = "".join(re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE))
    assert re.findall(r"`(\w+)`", cells) == [str(one) for one in Kind]


def test_every_exit_code() -> None:
    """operate.md explains every exit code."""
    table = text_of("operate.md").partition("## Exit codes")[2].partition("\n## ")[0]
    assert [int(one) for one in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == list(
        shared.EXITS
    )


def test_every_table_of_the_store() -> None:
    """works.md explains every table of the database."""
    part = text_of("works.md").partition("## The store")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)) == set(metadata.tables)


def test_every_folder() -> None:
    """works.md explains every folder of the program, and no other."""
    part = text_of("works.md").partition("## The folders")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)/` \|", part, re.MULTILINE)
    assert sorted(named) == sorted(
        one.name for one in (ROOT / "syncd").iterdir() if (one / "__init__.py").exists()
    )


BUILT = {f"{step}_failed" for step in ("poll", "push", "sweep")} | {
    "reversal_events_refused",
    "refunds_refused",
    "disputes_refused",
}
"""Log events whose names the program composes, so that the names are not in its text."""


def test_events_of_the_log() -> None:
    """operate.md explains every log event from level info on, and no other."""
    table = text_of("operate.md").partition("| event |")[2].partition("\n\n")[0]
    explained = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]+)\|", table, re.MULTILINE)))
    )
    written = set()
    for file in (ROOT / "syncd").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "log":
                level, event = (getattr(one, "value", None) for one in [*node.args, None, None][:2])
                if isinstance(event, str) and level != "debug":
                    written.add(event)
    assert explained == written | BUILT


def test_files_on_the_way_of_a_payment() -> None:
    """Every file that works.md names exists in the program."""
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text_of("works.md"))
    assert len(named) > 12
    assert [name for name in named if not (ROOT / "syncd" / name).is_file()] == []


def test_figures() -> None:
    """The time spans in the documents are those of the program: change both together."""
    assert windows.LOOK_UP_AGAIN.waits_seconds == (600, 1_800, 7_200, 21_600, 54_600)
    assert "after 10 and 40 minutes, and about 3, 9 and 24 hours" in text_of("decides.md")
    assert windows.RETRY_FAILED.waits_seconds == (600, 3_600, 21_600, DAY)
    assert "after 10 minutes, an hour, six hours, then daily" in text_of("operate.md")
    assert housekeeping_store.KEEP_SECONDS == 180 * DAY
    assert "forgotten after half a\nyear" in text_of("operate.md")


def test_the_changelog() -> None:
    """The changelog has the format of Keep a Changelog, and its newest version is the program's."""
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert versions[1].startswith(f"[{__version__}] - ")
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - .+", one) for one in versions[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_the_commit_hooks() -> None:
    """The hooks before a commit and a push run targets of make that exist."""
    hooks = re.findall(r"entry: make (\w+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks == ["check", "quick", "test"]
    assert all(f"\n{one}:" in (ROOT / "Makefile").read_text() for one in hooks)


# --- the links -----------------------------------------------------------------------------------


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub creates for a document's headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("file", [*DOCUMENTS, ROOT / "bench/README.md"], ids=lambda file: file.name)
def test_links(file: Path) -> None:
    """Every relative link leads to an existing file and an existing heading."""
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists(), f"{file.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{file.name}: {target}"


def test_every_document_is_found() -> None:
    """Links lead from README.md to every document, and README.md has at most 130 lines."""
    found, todo = set(), [ROOT / "README.md"]
    while todo:
        file = todo.pop()
        found.add(file)
        for target in re.findall(r"\]\(([^)\s#]+\.md)", file.read_text()):
            there = (file.parent / target).resolve()
            if there not in found and there.exists():
                todo.append(there)
    assert set(DOCUMENTS) <= found
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
