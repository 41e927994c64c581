"""Changes the configuration file, and keeps comments, order and everything else.

A file is replaced in one step, with its former mode and owner; the new text is checked first. No
other part of syncd writes the configuration.
"""

import errno
import os
import re
import signal
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from syncd.config.model import ConfigurationError
from syncd.core.payments import PaymentState

Key = tuple[str, ...]
"""The names of the tables and of a key: ``("halo", "status", "succeeded")``."""

_VALUE = r"\"[^\"\n]*\"|'[^'\n]*'|[^\s#]+"
"""A value on one line, as in the shipped file."""


def write_numbers(file: Path, numbers: Mapping[PaymentState, int]) -> None:
    """Add numbers to ``[halo.status]``.

    Raises:
        ConfigurationError: the file cannot be read or written, already has another number, or is
            the one that syncd ships.
    """
    refuse_shipped(file)
    place = file.resolve()  # a link stays a link: its target is replaced
    try:
        before = place.read_bytes().decode("utf-8")
        after = with_numbers(before, numbers, str(file))
        _replace(place, after)
    except OSError as error:
        message = f"{file}: can't be written: {error.strerror}. Nothing was changed"
        raise ConfigurationError([message]) from error


def refuse_shipped(file: Path) -> None:
    """Refuse to change the file that syncd ships, also through a link such as the one in a clone.

    Raises:
        ConfigurationError: the file lies in the package of syncd.
    """
    place = file.resolve()
    if place.with_name("__init__.py").exists():
        message = (
            f"{file}: this is the file that syncd ships ({place}), which syncd does not change; name "
            "another file with --config"
        )
        raise ConfigurationError([message])


def with_numbers(text: str, numbers: Mapping[PaymentState, int], name: str) -> str:
    """The text of a configuration with numbers added to ``[halo.status]``.

    Raises:
        ConfigurationError: the text is not TOML, or already has another number.
    """
    try:
        document = tomlkit.parse(text)
        was = tomllib.loads(text)
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError([f"{name}: isn't TOML: {error}"]) from None
    differing = [
        f"halo.status.{state}: {name} says {old[state]}, the rows show {number}; syncd did not change it"
        for old in [was.get("halo", {}).get("status", {})]
        for state, number in numbers.items()
        if state in old and old[state] != number
    ]
    if differing:
        raise ConfigurationError(differing)
    halo = document.setdefault("halo", tomlkit.table())
    status = halo.setdefault("status", tomlkit.table())
    for state, number in numbers.items():
        if state not in status:
            status[str(state)] = number
    changed = tomlkit.dumps(document)
    _check(was, changed, numbers, name)
    return changed


def _check(
    was: Mapping[str, Any], changed: str, numbers: Mapping[PaymentState, int], name: str
) -> None:
    """Make sure that nothing but the numbers has changed."""
    expected = {**was, "halo": {**was.get("halo", {})}}
    expected["halo"]["status"] = {
        **expected["halo"].get("status", {}),
        **{str(s): n for s, n in numbers.items()},
    }
    if tomllib.loads(changed) != expected:
        message = (
            f"{name}: the numbers can't be added without touching other keys; add them by hand"
        )
        raise ConfigurationError([message])


def _replace(place: Path, text: str) -> None:
    temporary = _beside(place, text, 0o644)
    try:
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _beside(place: Path, text: str, mode: int) -> Path:
    """Write a new file into the same folder, with the mode and the owner of the existing file.

    Args:
        place: the final path of the file.
        text: the contents.
        mode: used if there is no file yet.
    """
    was = place.stat() if place.exists() else None
    if was is not None and not stat.S_ISREG(was.st_mode):  # a device stays a device
        raise OSError(errno.EINVAL, "not a regular file", str(place))
    number, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    temporary = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
            if was is not None:
                if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), was.st_uid, was.st_gid)
                mode = stat.S_IMODE(was.st_mode)
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    return temporary


# --- several files, any keys -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planned:
    """A file to write.

    Attributes:
        place: its path.
        text: its contents.
        mode: of a new file; an existing file keeps its mode and its owner.
    """

    place: Path
    text: str = field(repr=False)
    mode: int = 0o644


def write_all(files: Sequence[Planned]) -> None:
    """Write all files or none: each new file is complete in the same folder before the first old one is replaced.

    Folders that are missing are made. Ctrl-C waits for the moment in which the files are replaced.

    Raises:
        ConfigurationError: a file can't be written; then every file is as it was.
    """
    made: list[Path] = []
    ready: list[tuple[Path, Path]] = []
    try:
        for one in files:
            place = one.place.resolve()
            made += _make_folders(place.parent)
            ready.append((_beside(place, one.text, one.mode), place))
        with _uninterrupted():
            while ready:
                temporary, place = ready[0]
                temporary.replace(place)
                ready.pop(0)
    except OSError as error:
        message = f"{error.filename}: can't be written: {error.strerror}. Nothing was changed"
        raise ConfigurationError([message]) from error
    finally:
        for temporary, _ in ready:
            temporary.unlink(missing_ok=True)
        if ready:
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()


def _make_folders(folder: Path) -> list[Path]:
    """Create a folder and its parents; return the new ones, the topmost first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o755)
    return missing[::-1]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Block signals meanwhile."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def with_values(text: str, values: Mapping[Key, Any], name: str) -> str:
    """The text of a configuration with values set; comments, order and everything else stay.

    A key that is commented out is uncommented, so that its explanation stays on the same line.

    Raises:
        ConfigurationError: the text is not TOML, or cannot be changed without changing other keys.
    """
    try:
        expected = tomllib.loads(text)
        changed = text
        for key, value in values.items():
            _set(expected, key, value)
            changed = _with_line(changed, key, tomlkit.item(value).as_string())
        if _differs(changed, expected):
            document = tomlkit.parse(text)
            for key, value in values.items():
                _set(document, key, value)
            changed = tomlkit.dumps(document)
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError([f"{name}: isn't TOML: {error}"]) from None
    if _differs(changed, expected):
        message = f"{name}: the values can't be set without touching other keys; set them by hand"
        raise ConfigurationError([message])
    return changed


def _differs(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) != expected
    except tomllib.TOMLDecodeError:
        return True


def _set(table: Any, key: Key, value: Any) -> None:
    *above, last = key
    for part in above:
        if part not in table:
            table[part] = {}
        table = table[part]
    table[last] = value


def _with_line(text: str, key: Key, written: str) -> str:
    """Set one key in its line, else in its commented line, else below its table."""
    *above, last = key
    lines = text.splitlines(keepends=True)
    head = re.compile(rf"\s*\[\s*{re.escape('.'.join(above))}\s*\]")
    start = next((n for n, line in enumerate(lines, 1) if head.match(line)), None)
    if start is None:
        gap = "" if text.endswith("\n") or not text else "\n"
        return f"{text}{gap}\n[{'.'.join(above)}]\n{last} = {written}\n"
    end = next((n for n in range(start, len(lines)) if re.match(r"\s*\[", lines[n])), len(lines))
    for mark in ("", r"#[ \t]?"):
        line = re.compile(
            rf"{mark}[ \t]*{re.escape(last)}[ \t]*=[ \t]*(?:{_VALUE})?([ \t]*#.*?)?[ \t]*(\r?\n|$)"
        )
        for number in range(start, end):
            if found := line.fullmatch(lines[number]):
                new, comment = f"{last} = {written}", (found[1] or "").strip()
                if comment:  # the comment stays in its column if it fits
                    column = found.start(1) + len(found[1]) - len(found[1].lstrip())
                    new = f"{new} ".ljust(column) + comment
                lines[number] = f"{new}{found[2]}"
                return "".join(lines)
    lines.insert(start, f"{last} = {written}\n")
    return "".join(lines)
