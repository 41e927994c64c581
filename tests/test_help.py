"""Help: examples, "did you mean", completion, and the man page."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from docs.manpage import page
from syncd.cli.main import app
from syncd.config.load import load
from syncd.config.model import ConfigurationError
from tests.conftest import ROOT, Rig
from tests.documents import not_of_syncd

MAN = ROOT / "docs" / "syncd.8"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child in getattr(command, "commands", {}).values():
        yield from _commands(child, f"{name} {child.name}")


COMMANDS = dict(_commands(get_command(app), "syncd"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example(name: str) -> None:
    """The help of each command ends with a valid example of that command."""
    shown = CliRunner().invoke(app, [*name.split()[1:], "--help"]).stdout
    assert f"Example: {name}" in " ".join(shown.split())
    for example in re.findall(r"Example: syncd *([^>\n]*)", shown):
        assert not_of_syncd(example.split()) == []


@pytest.mark.parametrize("name", [n for n, c in COMMANDS.items() if getattr(c, "commands", None)])
def test_lists_of_commands_are_whole(name: str) -> None:
    """At 80 columns, the list of commands shows each command on one line, without cutting a line."""
    shown = CliRunner().invoke(app, [*name.split()[1:], "--help"], terminal_width=80).stdout
    listed = shown.partition("\nCommands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS[name].commands)
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)
    assert max(map(len, listed)) <= 80


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["statsu"], "Did you mean 'status'?"),
        (["attention", "retyr"], "Did you mean 'retry'?"),
        (["backfill", "90d"], "Did you mean --backfill?"),
        (["onc"], "Did you mean --once?"),
        (["status", "--jsn"], "(Possible options: --json)"),
        (["frobnicate"], "No such command 'frobnicate'."),
    ],
)
def test_did_you_mean(typed: list[str], meant: str) -> None:
    """A mistyped command or option exits with 2 and a suggestion, if one is similar."""
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 2
    assert meant in done.output


def test_a_mistyped_key(rig: Rig) -> None:
    """An unknown key in the file or the environment is reported with a similar known key."""
    file = rig.folder / "config.toml"
    file.write_text("[poll]\nintervall = '5m'\n[pusch]\n")
    environment = {**rig.environment(), "SYNCD_HALLO__URL": "x", "SYNCD_PORT_9464_TCP": "x"}
    with pytest.raises(ConfigurationError) as found:
        load(file, environment)
    said = "\n".join(found.value.problems)
    assert "poll.intervall: is not a key of syncd; did you mean interval?" in said
    assert "pusch: is not a key of syncd; did you mean push?" in said
    assert "SYNCD_HALLO__URL: hallo is not a table of syncd; did you mean SYNCD_HALO__…?" in said
    assert "SYNCD_PORT" not in said


# --- completion ------------------------------------------------------------------------------------


def test_completion(rig: Rig, tmp_path: Path) -> None:
    """After the setup from the man page, bash completes commands, options, and payments on the list."""
    held = rig.pay("succeeded", rows=(5.0,))
    rig.once()
    program = tmp_path / "syncd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.alone "$@"\n')
    program.chmod(0o755)
    for_all_users = re.search(r"COMPLETION\n(?:.*\n)*?\.EX\n(.+)\n\.EE", MAN.read_text())[1]  # type: ignore[index]
    for_all_users = for_all_users.replace("/etc/bash_completion.d/syncd", f"{tmp_path}/syncd.bash")
    script = f"""
        {for_all_users}
        source {tmp_path}/syncd.bash
        typed() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _syncd_completion syncd; echo ${{COMPREPLY[@]}}; }}
        typed syncd ch
        typed syncd calibrate --wr
        typed syncd attention retry pi_
    """
    chosen = {k: v for k, v in rig.environment().items() if v != ""}
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            **chosen,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
    )
    assert done.stdout.splitlines() == ["check", "--write", held]


# --- the man page ----------------------------------------------------------------------------------


def test_the_man_page_is_up_to_date() -> None:
    """docs/syncd.8 is built from the commands' current help; otherwise run `make man`."""
    assert MAN.read_text() == page()


def test_the_man_page_names_everything() -> None:
    """The man page has each command and each of its options."""
    plain = MAN.read_text().replace("\\-", "-")
    for name, command in COMMANDS.items():
        assert f'.SY "{name}"' in plain
        for parameter in command.params:
            assert all(option in plain for option in parameter.opts if option.startswith("-"))


def test_what_must_be_named_has_no_brackets() -> None:
    """In the synopsis of `syncd audit`, every option is in brackets, because none is required."""
    synopsis = MAN.read_text().partition('.SY "syncd audit"\n')[2].partition("\n.YS")[0]
    required = {
        option
        for option in COMMANDS["syncd audit"].params
        if option.required and option.param_type_name == "option"
    }
    assert required == set()  # --since has a default
    assert {line[:3] for line in synopsis.splitlines()} == {".OP"}
    assert synopsis.splitlines()[0] == '.OP \\-\\-since "DATE"'


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff isn't here")
def test_the_man_page_is_well_formed() -> None:
    """The formatter groff shows the man page without any warning."""
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-rCHECKSTYLE=3", str(MAN)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "syncd - keep the invoice payments" in done.stdout
