"""Replaces everything that could name a customer, an amount or a payment in a bug report. Pure.

A word is kept only if syncd's own texts use the same word; everything else becomes "…". So a name
is replaced everywhere, also in an error message of Halo. Ids become numbered names (pi_1, pi_2);
the same id gets the same name, so that lines can still be compared.

Does not belong here: secrets (`sanitize`), which are always removed.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from syncd.text.sanitize import inert

WORD = re.compile(r"[^\W\d_](?:[\w']*\w)?")
"""A word of a sentence, or a name in a program."""

_TOKEN = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d| UTC)?)?)"
    r"|(?P<http>\bHTTP \d{3}\b)"
    r"|(?P<frame>\bFile \"[^\"\n]*\", line \d+)"
    r"|(?P<url>\b[a-z][a-z0-9+.-]*://[^\s\"'<>,;]+)"
    r"|(?P<id>\b(?P<kind>[a-z]{2,5})_(?=[A-Za-z0-9_]*[0-9A-Z])[A-Za-z0-9_]{3,})"
    rf"|(?P<word>{WORD.pattern})"
    r"|(?P<number>\d(?:[\d.,_]*\d)?)"
)

_COUNTS = re.compile(
    r"(?:.*_)?seconds|attempts?|failures|days|decided_again|seen|payments|due|attention|exit|size_bytes"
    r"|line|rows_read|number_of_.*"
)
"""Fields whose numbers are counts, neither amounts nor ids."""

REPLACED = "…"


@dataclass(slots=True)
class Anonymizer:
    """Replaces ids, names and amounts.

    Attributes:
        vocabulary: the words that are kept, as syncd writes them.
    """

    vocabulary: Collection[str]
    _names: dict[str, str] = field(init=False, default_factory=dict)
    _counts: dict[str, int] = field(init=False, default_factory=dict)

    def text(self, text: str) -> str:
        """The text without secrets, with ids, names and numbers replaced."""
        replaced = _TOKEN.sub(self._token, inert(text))
        return re.sub(r"…(?:[\s,;.&'-]*…)+", REPLACED, replaced)

    def value(self, value: Any, key: str = "") -> Any:
        """A JSON value, with its keys, texts and numbers replaced."""
        if isinstance(value, Mapping):
            return {self.text(str(k)): self.value(v, str(k)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one, key) for one in value]
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool) or _COUNTS.fullmatch(key):
            return value
        return "#"

    def name(self, kind: str, identifier: str) -> str:
        """The name that replaces an id: always the same for the same id."""
        if identifier not in self._names:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._names[identifier] = f"{kind}_{self._counts[kind]}"
        return self._names[identifier]

    def _token(self, found: re.Match[str]) -> str:
        text = found[0]
        match found.lastgroup:
            case "time" | "http":
                return text
            case "frame":
                file, _, line = text.rpartition(", line ")
                return f'File "{self._path(file[6:-1])}", line {line}'
            case "url":
                scheme, _, rest = text.partition("://")
                host, slash, path = rest.partition("/")
                place = (
                    host if host.startswith(("127.0.0.1", "localhost")) else self.name("host", host)
                )
                return f"{scheme}://{place}{slash}{self.text(path)}"
            case "id":
                return text if text in self.vocabulary else self.name(found["kind"], text)
            case "word":
                return text if text in self.vocabulary else REPLACED
            case _:
                return "#"

    def _path(self, path: str) -> str:
        """A file of a traceback, as its path within its package."""
        for folder in ("site-packages/", "lib/python"):
            _, cut, rest = path.partition(folder)
            if cut:
                return rest
        _, cut, rest = path.rpartition("/syncd/")
        return f"syncd/{rest}" if cut else REPLACED
