"""Checks that the locks are complete, match pyproject.toml and name no package index.

A lock is installed with ``--no-deps``, so that pip resolves nothing and a new release changes nothing.
But then a package that the lock does not pin is missing, and only its import fails. So this module
follows the requirements from pyproject.toml through every pinned package, with extras and markers, for
each supported Python and platform. The requirements come from the metadata of the packages in this
environment: no network is needed.

``python -m tests.locks`` prints the problems, and exits with 1 if there are any.
"""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

from packaging.markers import Marker, default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

LOCKS = {
    "requirements.lock": ("build",),
    "requirements-postgresql.lock": ("build", "postgresql"),
    "requirements-dev.lock": ("build", "dev"),
}
"""Each lock, and the extras of syncd whose requirements it contains."""

PLATFORMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64"},
)

Environment = dict[str, str]
RequirementsOf = Callable[[str], tuple[str, list[str]] | None]


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock.

    Attributes:
        name: its normalized name.
        version: the only version that may be installed.
        marker: the environments in which it is installed; None for all.
        hashes: the number of files of that version that may be installed.
    """

    name: str
    version: str
    marker: Marker | None
    hashes: int

    def applies(self, environment: Environment) -> bool:
        """Whether the package is installed in this environment."""
        return self.marker is None or self.marker.evaluate(dict(environment))


def pins(text: str) -> tuple[dict[str, Pin], list[str]]:
    """Return the pins of a lock by name, and the lines that are not pins."""
    found: dict[str, Pin] = {}
    wrong: list[str] = []
    lines = re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    for line in filter(str.strip, lines):
        need, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
        try:
            read = Requirement(need)
        except InvalidRequirement:
            wrong.append(line.strip())
            continue
        exact = re.fullmatch(r"==([^*,]+)", str(read.specifier))
        if exact is None or read.url is not None:
            wrong.append(need)
            continue
        name = canonicalize_name(read.name)
        if name in found:
            wrong.append(f"{need} (a second time)")
        found[name] = Pin(name, exact[1], read.marker, len(hashes))
    return found, wrong


def this_environment() -> Environment:
    """Return the environment of this process."""
    return {key: str(value) for key, value in default_environment().items()}


def environments(pythons: Sequence[str]) -> list[Environment]:
    """Return the environments that a lock is for: each Python on each platform."""
    return [
        {
            **this_environment(),
            "python_version": python,
            "python_full_version": f"{python}.9",
            "implementation_version": f"{python}.9",
            "os_name": "nt" if platform["sys_platform"] == "win32" else "posix",
            **platform,
        }
        for python, platform in product(pythons, PLATFORMS)
    ]


def problems(
    text: str,
    roots: Sequence[str],
    places: Sequence[Environment],
    requirements_of: RequirementsOf,
) -> list[str]:
    """Return the problems of a lock as sentences; empty if the lock is complete and up to date.

    Args:
        text: the lock.
        roots: the requirements that it is made from, as pyproject.toml writes them.
        places: the environments that the lock is for.
        requirements_of: returns the installed version and the requirements of a package; None if it
            is not installed.
    """
    lock, wrong = pins(text)
    found = [f"this line is not a pin: {line}" for line in wrong]
    found += [f"{pin.name} has no hash" for pin in lock.values() if not pin.hashes]
    needed: set[str] = set()
    for environment in places:
        found += _walk(lock, roots, environment, requirements_of, needed)
    found += [f"{name} is pinned, but nothing needs it" for name in sorted(set(lock) - needed)]
    return list(dict.fromkeys(found))


def _walk(
    lock: dict[str, Pin],
    roots: Sequence[str],
    environment: Environment,
    requirements_of: RequirementsOf,
    needed: set[str],
) -> Iterator[str]:
    """Follow the requirements in one environment; add the names that are reached to `needed`."""
    where = f"on {environment['sys_platform']} with Python {environment['python_version']}"
    todo = [(root, "pyproject.toml", frozenset[str]()) for root in roots]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        text, asker, asked = todo.pop()
        need = _read(text)
        if not _active(need, environment, asked):
            continue
        name, extras = canonicalize_name(need.name), frozenset(need.extras)
        pin = lock.get(name)
        if pin is None or not pin.applies(environment):
            yield f"{asker} needs {need.name} {where}, which is not pinned"
            continue
        needed.add(name)
        if not need.specifier.contains(pin.version, prereleases=True):
            yield f"{asker} needs {need.name}{need.specifier}, but {pin.version} is pinned"
        if (name, extras) in done:
            continue
        done.add((name, extras))
        read = requirements_of(name)
        if read is None:
            if pin.applies(this_environment()):
                yield f"{name} is not installed, so its requirements are unknown"
            continue
        version, requirements = read
        if version != pin.version:
            yield f"{name} {version} is installed, but {pin.version} is pinned"
        todo += [(one, name, extras) for one in requirements]


@cache
def _read(requirement: str) -> Requirement:
    """Parse a requirement once: the same few hundred occur in every environment."""
    return Requirement(requirement)


def _active(need: Requirement, environment: Environment, extras: frozenset[str]) -> bool:
    """Whether a requirement applies in this environment, if it is requested with these extras."""
    marker = need.marker
    return marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
    )


@cache
def installed(name: str) -> tuple[str, list[str]] | None:
    """Return the version and the requirements of a package in this Python environment."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    return found.version, list(found.requires or [])


def project() -> dict[str, Any]:
    """Return the table ``[project]`` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def pythons() -> list[str]:
    """Return the Python versions that syncd supports, from pyproject.toml."""
    prefix = "Programming Language :: Python :: "
    named = [one.removeprefix(prefix) for one in project()["classifiers"] if one.startswith(prefix)]
    return [one for one in named if re.fullmatch(r"3\.\d+", one)]


def roots_of(name: str) -> list[str]:
    """Return the requirements of a lock, from pyproject.toml."""
    table = project()
    extras = [need for extra in LOCKS[name] for need in table["optional-dependencies"][extra]]
    return [*table["dependencies"], *extras]


def main() -> int:
    """Print the problems of all locks; return the exit code."""
    count = 0
    versions: dict[str, str] = {}
    for name in LOCKS:
        text = (ROOT / name).read_text("utf-8")
        found = problems(text, roots_of(name), environments(pythons()), installed)
        for pin in pins(text)[0].values():
            if versions.setdefault(pin.name, pin.version) != pin.version:
                found.append(f"{pin.name} {pin.version} differs from the other lock")
        for one in found:
            sys.stderr.write(f"{name}: {one}\n")
        count += len(found)
    if count:
        sys.stderr.write("Run `make lock` to renew the locks.\n")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
