"""``syncd bugreport``: writes one file that describes a problem and can be sent to another person."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from syncd import __version__
from syncd.cli.commands.daily.status import status_of
from syncd.cli.commands.setup.check import look
from syncd.cli.shared import ConfigOption, existing, offline, unit_of
from syncd.config.describe import Value, values
from syncd.config.load import find_file
from syncd.config.model import Config, ConfigurationError
from syncd.config.secrets import SECRETS
from syncd.core.errors import Failure
from syncd.monitor.telemetry import stderr_log
from syncd.preflight.check import Line
from syncd.store.coordination import SHAPES
from syncd.store.store import Store
from syncd.text.anonymize import WORD, Anonymizer
from syncd.text.sanitize import inert
from syncd.text.timestamps import iso, parse_span

LOG_LINES = 200

_LEFT_OUT = ("sandbox", "demo.py")
"""Modules whose words are not syncd's own texts: they contain invented customers."""

_PLAIN_VALUES = ("mode", "on_amount_mismatch", "level", "format", "scope")
"""Keys whose values are syncd's own words, not a tenant's."""


def bugreport(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="The file to write; - is standard output."),
    ] = None,
    *,
    with_ids: Annotated[
        bool, typer.Option("--with-ids", help="Keep ids, names and amounts; secrets never.")
    ] = False,
    without_check: Annotated[
        bool, typer.Option("--offline", help="Leave out syncd check: ask neither Stripe nor Halo.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write one file that describes a problem; read the file before you send it.

    The file has the version, the configuration without secrets, the results of check and status, the last
    lines of the log, counts, facts of the database, and the shapes of the last answers that could not
    be read. Ids, names and amounts are replaced.

    Example: syncd bugreport problem.txt
    """
    stderr_log()
    chosen = config or context.obj
    place = file or Path(f"syncd-bugreport-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.txt")
    shown: Callable[[Any], Any] = as_it_is if with_ids else Anonymizer(vocabulary()).value
    text = "".join(_report(chosen, shown, without_check=without_check))
    if str(place) == "-":
        typer.echo(text, nl=False)
        return
    try:
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as to:
            to.write(text)
    except OSError as error:
        raise typer.BadParameter(f"{place}: {error.strerror}", param_hint="FILE") from None
    replaced = (
        "Secrets are left out." if with_ids else "Secrets, ids, names and amounts are left out."
    )
    typer.echo(f"Written: {place} (only you can read it). {replaced} Read it before you send it.")


def _report(
    file: Path | None, shown: Callable[[Any], Any], *, without_check: bool
) -> Iterator[str]:
    """The sections, one text each. If a section fails, the report contains its error."""
    yield f"syncd bugreport, {iso(time.time())}\n"
    yield _section("Versions", _versions)
    yield _section("Configuration", lambda: _configuration(file, shown))
    if not without_check:
        typer.echo("Checking Stripe and Halo", err=True)
        yield _section("syncd check", lambda: _check(file, shown))

    def of_store(read: Callable[[Config, Store], Any]) -> Callable[[], Any]:
        def section() -> Any:
            loaded = offline(file)
            with existing(loaded) as store:
                return read(loaded, store)

        return section

    yield _section(
        "syncd status",
        of_store(lambda config, store: _with_numbers(status_of(config, store), shown)),
    )
    yield _section("Counts", of_store(lambda _, store: _counts(store)))
    yield _section("Database", of_store(lambda _, store: store.housekeeping.facts()))
    yield _section(
        "Answers that could not be read (field names and types only)",
        of_store(lambda _, s: _shapes(s, shown)),
    )
    yield _section(f"Log: the last {LOG_LINES} lines", lambda: _log(file, shown))


def _section(title: str, make: Callable[[], Any]) -> str:
    try:
        made = make()
    except (Failure, ConfigurationError, OSError) as error:
        made = f"not available: {type(error).__name__}"
    except Exception as error:  # noqa: BLE001  # the other sections are worth having all the more
        made = f"not available: a fault of syncd: {type(error).__name__}"
    text = made if isinstance(made, str) else json.dumps(made, indent=1, ensure_ascii=False)
    return f"\n== {title} ==\n{text}\n"


def as_it_is(value: Any) -> Any:
    """The value without secrets."""
    if isinstance(value, Mapping):
        return {str(key): as_it_is(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_it_is(one) for one in value]
    return inert(value) if isinstance(value, str) else value


def vocabulary() -> frozenset[str]:
    """Every word in syncd's own code and messages; examples in comments contain names."""
    folder, words = Path(sys.modules["syncd"].__path__[0]), set[str]()
    for file in folder.rglob("*.py"):
        if not set(file.relative_to(folder).parts) & set(_LEFT_OUT):
            code = re.sub(r'"""(?:.|\n)*?"""|# .*', " ", file.read_text("utf-8"))
            words.update(WORD.findall(code))
    return frozenset(words)


# --- the sections ----------------------------------------------------------------------------------


def _versions() -> dict[str, str]:
    found = {
        "syncd": __version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
    }
    for name in (
        "alembic",
        "apprise",
        "apscheduler",
        "httpx",
        "pydantic",
        "sqlalchemy",
        "stripe",
        "structlog",
        "uvicorn",
    ):
        found[name] = metadata.version(name)
    return found


def _configuration(file: Path | None, shown: Callable[[Any], Any]) -> Any:
    try:
        loaded = offline(file)
    except ConfigurationError as error:
        return {"problems": [shown(problem) for problem in error.problems]}
    return [_value(one, shown) for one in values(loaded, os.environ)]


def _value(one: Value, shown: Callable[[Any], Any]) -> str:
    """One key with its value; the tenant's own texts are replaced."""
    where = re.sub(r".*/(?=[^/]+$)", "", one.source)
    of_syncd = one.source == "default" or one.key in SECRETS or not isinstance(one.value, str)
    name = one.key.rpartition(".")[2]
    if of_syncd or name in _PLAIN_VALUES or parse_span(one.value) or shown is as_it_is:
        return f"{one.key} = {one.value} ({where or 'nowhere'})"
    return f"{one.key} = (set) ({where})"


def _check(file: Path | None, shown: Callable[[Any], Any]) -> Any:
    lines: list[Line] = []
    look(file, lines.append)
    return [f"{line.level} {shown(line.what)}: {shown(line.text)}" for line in lines]


def _with_numbers(read: Mapping[str, Any], shown: Callable[[Any], Any]) -> dict[str, Any]:
    """The status: its numbers are counts and are kept; its texts are anonymized."""
    return {
        key: _with_numbers(value, shown)
        if isinstance(value, Mapping)
        else value
        if isinstance(value, int | float | None)
        else shown(value)
        for key, value in read.items()
    }


def _counts(store: Store) -> Any:
    codes = Counter(entry.code or entry.kind for entry in store.people.attention())
    conditions = {str(name): number for name, number in store.people.conditions().items()}
    return {"conditions": conditions, "attention": dict(codes)}


def _shapes(store: Store, shown: Callable[[Any], Any]) -> Any:
    kept = store.read(SHAPES) or []
    return [
        {"at": iso(one.at), "side": one.side, "shape": _shape(one.shape, shown)} for one in kept
    ]


def _shape(text: str, shown: Callable[[Any], Any]) -> Any:
    """A shape: lengths are kept; field names that are not in the vocabulary are replaced."""
    try:
        return _fields(json.loads(text), shown)
    except ValueError:
        return inert(text)


def _fields(shape: Any, shown: Callable[[Any], Any]) -> Any:
    if isinstance(shape, Mapping):
        return {
            "_".join(shown(part) for part in str(key).split("_")): _fields(one, shown)
            for key, one in shape.items()
        }
    if isinstance(shape, list):
        return [_fields(one, shown) for one in shape]
    return shape


def _log(file: Path | None, shown: Callable[[Any], Any]) -> str:
    program, unit = shutil.which("journalctl"), unit_of(find_file(file, os.environ, []))
    if program is None:
        return "There is no journal here."
    done = subprocess.run(  # noqa: S603  # systemd's own program
        [program, "-u", unit or "syncd", "-n", str(LOG_LINES), "-o", "cat", "--no-pager"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=60,
    )
    return "\n".join(_entry(line, shown) for line in done.stdout.splitlines()) or "empty"


def _entry(line: str, shown: Callable[[Any], Any]) -> str:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return str(shown(line))
    return json.dumps(shown(read), ensure_ascii=False)
