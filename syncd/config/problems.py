"""Error messages about a configuration: the line, the key, the problem, and what to do.

No message shows a value, because the value may be a misplaced secret.
"""

import difflib
import os
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from syncd.config.secrets import SECRETS
from syncd.text.timestamps import span_text

TABLES_DEEP_MAX = 10
"""The maximum depth of the search for secrets; deeper tables are refused as unknown keys."""

_SECRET_KEYS = frozenset(
    {"api_key", "apikey", "key", "secret", "secret_key", "client_secret", "token", "web_token",
     "password", "stripe_api_key", "halo_client_secret", "notify_urls", "heartbeat_url",
     "database_password"}
)  # fmt: skip
_SECRET_VALUE = re.compile(r"\b(?:[rsp]k_(?:live|test)_|whsec_)|_secret_")
_SPANS = ("interval", "overlap", "sweep", "look_back", "stale_after", "every", "takeover_after")


@dataclass(frozen=True, slots=True)
class Namer:
    """Names a key in messages, with its line in the file.

    Attributes:
        place: the file; None without one.
        lines: the line of each key, as ``halo.url``.
        variables: the environment variables that are set; they override the file.
    """

    place: Path | None
    lines: Mapping[str, int]
    variables: frozenset[str] = frozenset()

    def __call__(self, *path: str | int) -> str:
        """The start of a message about the key at `path`."""
        key = ".".join(map(str, path))
        # A secret that was pasted before the equals sign is still a secret.
        shown = ".".join("…" if _SECRET_VALUE.search(str(part)) else str(part) for part in path)
        variable = f"SYNCD_{'__'.join(map(str, path))}".upper()
        if variable in self.variables:
            return f"{shown} ({variable if shown == key else 'a variable'}): "
        line = self.lines.get(key)
        return f"{self.place}:{line}: {shown}: " if self.place and line else f"{shown}: "


def lines_of(text: str) -> dict[str, int]:
    """The line of each key and table of a TOML file, precise enough for a message."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if head := re.match(r"\s*\[+\s*([\w.\-\"]+)\s*\]", line):
            table = head[1].replace('"', "")
            lines.setdefault(table, number)
        elif key := re.match(r"\s*([\w.\-\"]+)\s*=", line):
            name = key[1].replace('"', "")
            lines[f"{table}.{name}" if table else name] = number
    return lines


def secrets_in_file(raw: Mapping[str, Any], named: Namer) -> list[str]:
    """One problem for each secret in the file, in any table."""
    return [
        named(*path)
        + "a secret must not be in the file. Use a systemd credential or an environment "
        f"variable ({', '.join(SECRETS.values())}) instead, and renew the secret, because others could "
        "read it here"
        for path in _secret_places(raw)
    ]


def _secret_places(raw: Mapping[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    for key, value in raw.items():
        if _is_secret_key(key) or _SECRET_VALUE.search(key) or _holds_secret(value):
            yield (*above, key)
        else:
            tables = value if isinstance(value, list) else [value]
            for table in tables:
                if isinstance(table, Mapping) and len(above) < TABLES_DEEP_MAX:
                    yield from _secret_places(table, *above, key)


def _is_secret_key(key: str) -> bool:
    return key.lower().replace("-", "_") in _SECRET_KEYS


def _holds_secret(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_holds_secret, value))
    return isinstance(value, str) and _SECRET_VALUE.search(value) is not None


def validation_problems(
    error: ValidationError, named: Namer, settings: type[BaseModel], already: Iterable[str]
) -> list[str]:
    """The problems that pydantic found, except those about keys in `already`."""
    problems = []
    for found in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in found["loc"]]
        prefix = named(*path)
        if any(problem.startswith(prefix) for problem in already):
            continue  # a secret in the file is an unknown key as well
        limits = found.get("ctx", {})
        problems.append(prefix + _explain(found["type"], found["msg"], limits, path, settings))
    return problems


def quoted_values(raw: Mapping[str, Any], read: Mapping[str, Any], named: Namer) -> list[str]:
    """Numbers and booleans in quotes: strings in the file that pydantic read as another type.

    Strings in the environment are allowed, and so are durations.
    """
    problems = []
    for path, value in _values(raw):
        meant: Any = read
        for part in path:
            meant = meant.get(part) if isinstance(meant, Mapping) else None
        if isinstance(value, str) and isinstance(meant, int) and path[-1] not in _SPANS:
            what = "true or false" if isinstance(meant, bool) else "a whole number"
            problems.append(f"{named(*path)}must be {what}, without quotes")
    return problems


def _values(raw: Mapping[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in raw.items():
        if isinstance(value, Mapping):
            yield from _values(value, *above, key)
        else:
            yield (*above, key), value


def unknown_variables(environment: Mapping[str, str], settings: type[BaseModel]) -> list[str]:
    """Environment variables of unknown tables, which nothing else would report.

    Only names with a double underscore: Kubernetes sets variables such as SYNCD_PORT on its own.
    """
    problems, known = [], list(settings.model_fields)
    for name in environment:
        head, key, _ = name.upper().removeprefix("SYNCD_").partition("__")
        if key and name.upper().startswith("SYNCD_") and head.lower() not in known:
            near = difflib.get_close_matches(head.lower(), known, n=1)
            meant = f"; did you mean SYNCD_{near[0].upper()}__…?" if near else ""
            problems.append(f"{name}: {head.lower()} is not a table of syncd{meant}")
    return problems


def _explain(
    kind: str, message: str, limits: Mapping[str, Any], path: list[str], settings: type[BaseModel]
) -> str:
    if kind == "missing":
        return f"is missing (set it in the file, or as SYNCD_{'__'.join(path).upper()})"
    if kind == "extra_forbidden":
        if _is_secret_key(path[-1]):
            return f"is not a key of syncd; syncd reads secrets from {', '.join(SECRETS.values())}"
        near = difflib.get_close_matches(path[-1], _keys_beside(path, settings), n=1)
        return "is not a key of syncd" + (f"; did you mean {near[0]}?" if near else "")
    if kind in ("greater_than_equal", "less_than_equal"):
        word, bound = ("least", "ge") if kind == "greater_than_equal" else ("most", "le")
        limit = span_text(limits[bound]) if path[-1] in _SPANS else f"{limits[bound]:,}"
        return f"must be at {word} {limit}"
    plain = {
        "string_too_short": "must not be empty",
        "string_type": "must be text in quotes",
        "int_type": "must be a whole number",
        "int_parsing": "must be a whole number",
        "int_from_float": "must be a whole number",
        "bool_type": "must be true or false",
        "bool_parsing": "must be true or false",
        "model_type": f"must be a table: [{'.'.join(path)}]",
    }
    return plain.get(kind) or message.removeprefix("Value error, ").replace("Input should", "must")


def _keys_beside(path: list[str], settings: type[BaseModel]) -> list[str]:
    model = settings
    for part in path[:-1]:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def environment_problems(environment: Mapping[str, str]) -> list[str]:
    """Unusable environment variables of httpx, one sentence each, without values."""
    problems = []
    for name in (
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        value = environment.get(name, "")
        if value and not _is_proxy(value):
            problems.append(f"{name}: must be the http:// or https:// address of a proxy")
    file, folder = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ValueError):
            problems.append("SSL_CERT_FILE: cannot be read as PEM certificates")
    elif folder and not os.path.isdir(folder):  # noqa: PTH112  # Path raises for a name that is too long
        problems.append("SSL_CERT_DIR: is not a folder")
    return problems


def _is_proxy(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        (parts.hostname or "").encode("idna")  # httpx refuses such names too
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and value.isprintable() and " " not in value
