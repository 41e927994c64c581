"""A bare Debian as a folder, in which programs reach the mirror and the package index as on this machine.

The Debian is a copy of what `.ci/debian` makes. The settings of pip and apt, the proxies and the
certificates are this machine's own.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conftest import ROOT
from tests.isolation import MEMORY, for_downloads

ROOM_BYTES_MIN = 6 * 1024**3
"""The most space that a Debian with the packages, or a store of images, needs."""

_LEFT_OUT = ("./usr/share/doc", "./usr/share/locale", "./usr/share/man", "./var/cache")


@dataclass(frozen=True, slots=True)
class Reach:
    """How this machine reaches the package index and Debian's mirror.

    Attributes:
        pip: the text of a pip.conf.
        apt: the text of a file of apt's configuration.
        variables: proxies and certificates.
        shown: folders and files of this machine that the settings name.
    """

    pip: str
    apt: str
    variables: dict[str, str]
    shown: tuple[Path, ...]


def reach() -> Reach:
    """Read the settings of this machine."""
    around = for_downloads()
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        check=False,
        capture_output=True,
        text=True,
        env=around,
    ).stdout
    found: dict[str, str] = {}
    for name, text in re.findall(
        r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE
    ):
        found[name] = " ".join([*found.get(name, "").split(), *text.replace("\\n", " ").split()])
    found.pop("constraint", None)  # a wish of this machine; the lock decides
    for single in ("cert", "default-timeout", "timeout", "index-url", "disable-pip-version-check"):
        if single in found:
            found[single] = found[single].split()[-1]
    pip = "\n".join(["[global]", *(f"{name} = {text}" for name, text in found.items()), ""])
    apt = subprocess.run(["apt-config", "dump"], check=False, capture_output=True, text=True).stdout
    kept = re.findall(r"^Acquire::https?::(?:Proxy|CAInfo|Verify-Peer)\b.*$", apt, re.MULTILINE)
    yes = 'APT::Get::Assume-Yes "true";'  # the answer to apt's question
    variables = {
        name: text
        for name, text in around.items()
        if re.search(r"(?i)_proxy$|^SSL_CERT_FILE$", name)
    }
    named = re.findall(
        r"(?:^|[ =/])/[A-Za-z0-9][^ \n]*", f"{pip} {' '.join(variables.values())}", re.MULTILINE
    )
    paths = {Path("/" + one.strip(" =").lstrip("/").removesuffix("/simple")) for one in named}
    shown = tuple(sorted(path for path in paths if path.exists() and path != Path("/")))
    return Reach(pip, "\n".join([*kept, yes, ""]), variables, shown)


def roomy() -> Path:
    """A folder with enough space: in memory, where a Debian is deleted quickly, or else on disk."""
    try:
        system = os.statvfs(MEMORY)
        free = min(
            system.f_bavail * system.f_frsize,
            os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        )
    except (OSError, ValueError):
        return Path("/var/tmp")  # noqa: S108  # the test makes its own folder in it
    fits = free >= ROOM_BYTES_MIN and not system.f_flag & (os.ST_NOEXEC | os.ST_NODEV)
    return MEMORY if fits else Path("/var/tmp")  # noqa: S108  # likewise


def copied(tree: Path, to: Path, *options: str) -> None:
    """Copy a tree with owners and modes; `options` are tar's."""
    with subprocess.Popen(
        ["tar", "-C", tree, *options, "-c", "."], stdout=subprocess.PIPE
    ) as packed:
        subprocess.run(["tar", "-C", to, "-x"], stdin=packed.stdout, check=True)
    assert packed.returncode == 0


@contextmanager
def bare_debian() -> Iterator[Path]:
    """A bare Debian to boot or to use as an image; it has this machine's network settings."""
    made = subprocess.run(
        [ROOT / ".ci/debian"], check=False, capture_output=True, text=True, env=for_downloads()
    )
    if made.returncode != 0:
        pytest.skip(f"there is no Debian to use: {made.stderr.strip().splitlines()[-1]}")
    with TemporaryDirectory(prefix="syncd-debian-", dir=roomy()) as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        left_out = [f"--exclude={one}" for one in _LEFT_OUT]
        copied(Path(made.stdout.strip()), tree, *left_out)
        (tree / "var/cache/apt/archives/partial").mkdir(parents=True)
        (tree / "var/cache/debconf").mkdir()
        (tree / "usr/share/man/man8").mkdir(parents=True)
        there = reach()
        (tree / "etc/pip.conf").write_text(there.pip)
        (tree / "etc/apt/apt.conf.d/90machine").write_text(there.apt)
        for path in there.shown:
            if path.is_file():
                here = tree / path.relative_to("/")
                here.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, here)
        yield tree
