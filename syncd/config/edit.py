"""Puts status numbers into the configuration file: comments, order and everything else stay.

The file is replaced in one step, with the mode and the owner it had; what is in it by then is checked
before. Nothing else of syncd writes there.
"""

import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from syncd.config.model import ConfigurationError
from syncd.core.payments import PaymentState


def write_numbers(file: Path, numbers: Mapping[PaymentState, int]) -> None:
    """Add numbers to ``[halo.status]``.

    Raises:
        ConfigurationError: the file can't be read or written, or has another number already.
    """
    place = file.resolve()  # a link stays a link: what it points to is replaced
    try:
        before = place.read_bytes().decode("utf-8")
        after = with_numbers(before, numbers, str(file))
        _replace(place, after)
    except OSError as error:
        message = f"{file}: can't be written: {error.strerror}. Nothing was changed"
        raise ConfigurationError([message]) from error


def with_numbers(text: str, numbers: Mapping[PaymentState, int], name: str) -> str:
    """The text of a configuration with numbers added to ``[halo.status]``.

    Raises:
        ConfigurationError: it isn't TOML, or has another number already.
    """
    try:
        document = tomlkit.parse(text)
        was = tomllib.loads(text)
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError([f"{name}: isn't TOML: {error}"]) from None
    differing = [
        f"halo.status.{state}: {name} says {old[state]}, the rows say {number}; it was left as it is"
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
        **expected["halo"].get("status", {}), **{str(s): n for s, n in numbers.items()},
    }  # fmt: skip
    if tomllib.loads(changed) != expected:
        message = (
            f"{name}: the numbers can't be added without touching other keys; add them by hand"
        )
        raise ConfigurationError([message])


def _replace(place: Path, text: str) -> None:
    was = place.stat()
    number, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
            if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), was.st_uid, was.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(was.st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(place)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
