"""The state of a disk after a power cut, made from the operations that a process requested.

The model is strict. A write that was not synced may be stored, not stored, or stored in some sectors. Where
a file grew and the new sectors are missing, there is garbage.

A created or deleted name is certain only after a sync of the folder. Before that, the folder's changes are
kept up to any one of them.
"""

import random
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
PREFIX = "syncd.db"
SOURCE = Path(__file__).with_name("powerloss.c")


def build(folder: Path) -> Path:
    """Compile the library that logs each operation on the disk."""
    library = folder / "powerloss.so"
    subprocess.run(
        [
            "gcc",
            "-Wall",
            "-Wextra",
            "-O1",
            "-shared",
            "-fPIC",
            "-o",
            library,
            SOURCE,
            "-ldl",
            "-lpthread",
        ],
        check=True,
    )
    return library


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation on the disk: make, write, truncate, unlink or sync."""

    what: str
    name: str
    offset: int
    data: bytes


def read_log(log: Path) -> list[Asked]:
    """Read the library's log."""
    found, whole, place = [], log.read_bytes() if log.exists() else b"", 0
    while place < len(whole):
        end = whole.index(b"\n", place)
        what, name, offset, length = whole[place:end].decode().split(" ")
        place = end + 1 + int(length)
        found.append(Asked(what, name, int(offset), whole[end + 1 : place]))
    return found


@dataclass(slots=True)
class _File:
    """The bytes that are certainly stored, and the operations since."""

    sure: bytes = b""
    asked: list[Asked] = field(default_factory=list)


class Disk:
    """A folder as it is on the disk.

    Attributes:
        names: the files as the processes see them.
        sure: the names that are certainly stored.
        changes: changes of names since the folder was synced, with the file made.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.names = {name: _File(content) for name, content in files.items()}
        self.sure = dict(self.names)
        self.changes: list[tuple[str, _File | None]] = []

    def ask(self, asked: Asked) -> None:
        """Apply one more operation."""
        match asked.what:
            case "make":
                self.names[asked.name] = _File()
                self.changes.append((asked.name, self.names[asked.name]))
            case "unlink":
                del self.names[asked.name]
                self.changes.append((asked.name, None))
            case "sync" if asked.name == ".":
                self.sure, self.changes = dict(self.names), []
            case "sync":
                file = self.names[asked.name]
                file.sure, file.asked = _carried_out(file.sure, file.asked), []
            case _:
                self.names[asked.name].asked.append(asked)

    def killed(self) -> dict[str, bytes]:
        """The files after a kill of the process only: every operation is carried out."""
        return {name: _carried_out(file.sure, file.asked) for name, file in self.names.items()}

    def cut(self, dice: random.Random | None) -> dict[str, bytes]:
        """The files after a power cut: only what was synced, or what the dice decide."""
        names = dict(self.sure)
        kept = dice.randint(0, len(self.changes)) if dice else 0
        for name, file in self.changes[:kept]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        return {
            name: _torn(file.sure, file.asked, dice) if dice else file.sure
            for name, file in names.items()
        }


def _carried_out(content: bytes, asked: Iterable[Asked]) -> bytes:
    result = bytearray(content)
    for one in asked:
        if one.what == "truncate":
            del result[one.offset :]
            result.extend(bytes(one.offset - len(result)))
        else:
            result.extend(bytes(max(0, one.offset - len(result))))
            result[one.offset : one.offset + len(one.data)] = one.data
    return bytes(result)


def _torn(content: bytes, asked: Iterable[Asked], dice: random.Random) -> bytes:
    """Each sector of each write is stored or not; each truncation is done or not."""
    result, chance = bytearray(content), dice.choice((0.1, 0.5, 0.9))
    for one in asked:
        if one.what == "truncate":
            if dice.random() < chance:
                result[:] = _carried_out(bytes(result), [one])
            continue
        for begin, end in _sectors(one.offset, one.offset + len(one.data)):
            if dice.random() < chance:
                if begin > len(result):
                    result.extend(dice.randbytes(begin - len(result)))
                result[begin:end] = one.data[begin - one.offset : end - one.offset]
    return bytes(result)


def _sectors(begin: int, end: int) -> Iterable[tuple[int, int]]:
    while begin < end:
        border = min(end, (begin // SECTOR + 1) * SECTOR)
        yield begin, border
        begin = border


def lay_out(files: dict[str, bytes], folder: Path) -> Path:
    """Make a folder contain exactly these files of the database; returns the database's path."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{PREFIX}*"):
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / PREFIX


def files_of(folder: Path) -> dict[str, bytes]:
    """The database's files in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob(f"{PREFIX}*")}


def has_compiler() -> bool:
    """Whether the library can be built here."""
    return shutil.which("gcc") is not None
