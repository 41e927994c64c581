"""Every block of commands in a document can be pasted whole into a terminal.

A command that reads from the terminal takes the lines that were pasted after it. So each test writes
a block at once to an interactive bash. The programs in it are stubs, which read a line where the real
program reads from the terminal; builtins, redirections, `install` and `cat` are real.
"""

import os
import pty
import re
import select
import shutil
import time
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT, Block, blocks
from tests.service_manager import moved

READERS = "ssh|man|less|vi|nano|systemctl edit|systemctl status|journalctl|syncd init|syncd prove|sudo|passwd"
"""Commands that read from the terminal: by a prompt, a pager or an editor."""

REAL = ("cat", "install", "mkdir")

BLOCKS = [block for file in DOCUMENTS for block in blocks(file) if block.kind == "sh"]

SECRETS = ("a-pasted-key", "a-pasted-secret")


def stub(place: Path) -> None:
    """Create a program that only reads a line where the real program reads from the terminal."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(
        f"""#!/bin/bash
        asked="{place.name} $*"
        readers="^({READERS})( |$)"
        [[ -t 1 && "$asked" != *--no-pager* && "$asked" =~ $readers ]] && read -r line
        exit 0
        """
    )
    place.chmod(0o755)


def paste(block: Block, machine: Path, seconds: float = 60.0) -> tuple[int, str]:
    """Paste a block, and type the secrets that it asks for.

    Returns:
        The number of commands that bash took from the block before its last line, and what the terminal
        showed.
    """
    text = moved(block.text, machine)
    programs = machine / "programs"
    programs.mkdir()
    for word in set(
        re.findall(r"(?:^|[|;&] *|\$\()((?:\w+=\S+ )*)([\w./@-]+)", text, re.MULTILINE)
    ):
        name = word[1]
        if name.startswith(str(machine)):
            stub(Path(name))
        elif "/" not in name and name not in REAL:
            stub(programs / name)
    for name in REAL:
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    for folder in re.findall(rf"{machine}/\S*/", text):
        Path(folder.strip("\"'")).mkdir(parents=True, exist_ok=True)
    count = machine / "count"
    count.touch()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        environment = {
            "PATH": str(programs),
            "PS0": f"$(echo >> {count})",
            "PS1": "$ ",
            "TERM": "dumb",
            "HOME": str(machine),
            "HISTFILE": "/dev/null",
        }
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], environment)  # noqa: S606
    os.write(terminal, (text + "\n").encode())
    shown, typed, end = "", 0, time.monotonic() + seconds
    secrets, since = list(SECRETS), time.monotonic()
    wanted = len(block.statements())
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.05)[0]:
            since = time.monotonic()
            try:
                shown += os.read(terminal, 65_536).decode()
            except OSError:  # the shell has ended
                break
        elif (
            "read -rs" in text
            and secrets
            and len(re.findall(r": $", shown)) > 0
            and typed < len(shown)
        ):
            os.write(terminal, f"{secrets.pop(0)}\n".encode())
            typed = len(shown)
        elif len(count.read_text()) >= wanted and shown.endswith("$ "):
            os.write(terminal, b"exit\n")
            wanted = 1_000_000
        elif len(count.read_text()) == wanted and time.monotonic() > since + 1:
            os.write(terminal, b"\n")  # ends the input of the last command
            since = time.monotonic()
    else:
        os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(terminal)
    return len(count.read_text()) - 1, shown


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.file.name}:{block.line}")
def test_a_block_is_pasted_whole(block: Block, tmp_path: Path) -> None:
    """In an interactive bash each line of the block runs as a command; none becomes another's input."""
    taken, shown = paste(block, tmp_path)
    assert taken == len(block.statements()), shown
    for secret in SECRETS:
        assert secret not in shown
    for file in tmp_path.glob("etc/**/stripe_api_key"):
        assert file.read_text() == f"{SECRETS[0]}\n"
        assert (file.parent / "halo_client_secret").read_text() == f"{SECRETS[1]}\n"
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_block_that_swallows_its_lines_is_noticed(tmp_path: Path) -> None:
    """The test above notices a block in which a command reads the next line as its input."""
    text = "install -m 600 /dev/stdin /etc/syncd/key\ninstall -d /etc/more\nsystemctl start syncd"
    for number, swallowing in enumerate((text, text.replace("install -m 600 /dev/stdin", "ssh"))):
        machine = tmp_path / str(number)
        (machine / "etc/syncd").mkdir(parents=True)
        taken, _ = paste(Block(ROOT / "README.md", 1, "sh", swallowing), machine, 5.0)
        assert taken < 3
