"""The shape of an answer without its contents: its fields, their types and lengths. Pure.

Used for unreadable answers: a developer sees the difference, but no customer's data.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from syncd.text.sanitize import without_secrets

DEEP_MAX = 6
FIELDS_MAX = 60
CHARACTERS_MAX = 4_000

FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)
"""The usual form of an API's field name; any other name may be personal data."""


def shape_of(value: object) -> str:
    """The shape of a JSON value, on one line."""
    return json.dumps(_shape(value, 0), ensure_ascii=True)[:CHARACTERS_MAX]


def shape_of_body(body: bytes, kind: str) -> str:
    """The shape of an answer that is not JSON: its type, its length and its first characters.

    Args:
        body: the answer.
        kind: its Content-Type.
    """
    start = body[:200].lstrip()[:1]
    begins = {b"<": "with a tag", b"{": "with {", b"[": "with [", b"": "and is empty"}
    main = kind.partition(";")[0].strip().lower()
    known = main if main.replace("/", "").replace("+", "").replace("-", "").isalnum() else "unknown"
    return f"{known[:60]}, {len(body)} bytes, begins {begins.get(start, 'with text')}"


def _shape(value: object, deep: int) -> Any:
    if isinstance(value, Mapping):
        if deep >= DEEP_MAX:
            return f"object of {len(value)}"
        named = list(value.items())[:FIELDS_MAX]
        return {_name(str(key)): _shape(one, deep + 1) for key, one in named}
    if isinstance(value, list):
        return [_shape(value[0], deep + 1), f"{len(value)} in all"] if value else []
    if isinstance(value, str):
        return f"text of {len(value)}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else "bool"
    return "whole number" if isinstance(value, int) else "number"


def _name(key: str) -> str:
    if FIELD_NAME.fullmatch(key) and without_secrets(key) == key:
        return key
    return f"a name of {len(key)} characters"
