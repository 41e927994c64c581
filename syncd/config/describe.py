"""Describes the configuration: each value with its source, and a JSON schema for editors.

Both come from the model and from the comments of the shipped file, so a new key needs no line here.
Does not belong here: problems of a configuration (`config.problems`).
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from syncd.config.edit import Key
from syncd.config.load import raw_file
from syncd.config.model import SECTIONS, Config, Section, Settings
from syncd.config.problems import lines_of
from syncd.config.secrets import SECRETS, find_secret
from syncd.config.values import is_span, span_written

_SPAN = {"type": "string", "pattern": r"^\s*([0-9]{1,9}\s*(s|min|m|h|d|w)\s*)+$"}

_AUTO_OR_SPAN = r"^\s*(auto|([0-9]{1,9}\s*(s|min|m|h|d|w)\s*)+)$"

_LIMITS = {"ge": "minimum", "lt": "exclusiveMaximum"}
"""JSON Schema's names for two of pydantic's limits."""

_COMMENT = re.compile(r'#? ?(\w+) = ?(?:"[^"]*"|[\w.]*)\s+# (.+)')


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the configuration, and its source.

    Attributes:
        key: as ``halo.url``; a secret by its own name.
        value: what syncd uses; None if nothing is set. For a secret only whether it is "set".
        source: the file with its line, the variable, the credential, or "default"; empty for a
            secret that is not set.
    """

    key: str
    value: Any
    source: str


def shipped() -> str:
    """The shipped configuration file, with its comments."""
    return resources.files("syncd.config").joinpath("config.toml").read_text("utf-8")


def values(config: Config, environment: Mapping[str, str]) -> list[Value]:
    """Every value of a configuration with its source, in the order of the model; then the secrets."""
    text, raw = raw_file(config.file)
    lines, variables = lines_of(text), {name.upper() for name in environment}
    found = []
    for key, field, value in _leaves(config):
        name = ".".join(key)
        variable = next((one for one in _variables(key) if one in variables), None)
        if variable is not None:
            source = variable
        elif _held(raw, key):
            line = lines.get(name) or lines.get(".".join(key[:-1]))
            source = f"{config.file}:{line}" if line else str(config.file)
        else:
            source = "default"
        found.append(Value(name, span_written(value) if is_span(field) else value, source))
    for name in SECRETS:
        secret = find_secret(name, environment, config.file)
        state = "set" if secret.value else "not set"
        if secret.problems and secret.source:
            state = "cannot be used: run syncd check"
        found.append(Value(name, state, secret.source))
    return found


def _leaves(config: Config) -> Iterator[tuple[Key, FieldInfo, Any]]:
    for section in SECTIONS:
        yield from _of_section(getattr(config, section), (section,))


def _of_section(section: Section, above: Key) -> Iterator[tuple[Key, FieldInfo, Any]]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from _of_section(value, (*above, key))
        else:
            yield (*above, key), field, value


def _variables(key: Key) -> list[str]:
    """The variables that set a key: its own, and those of its tables, which contain JSON."""
    return ["SYNCD_" + "__".join(key[:deep]).upper() for deep in range(len(key), 0, -1)]


def _held(raw: Mapping[str, Any], key: Key) -> bool:
    table: Any = raw
    for part in key:
        if not isinstance(table, Mapping) or part not in table:
            return False
        table = table[part]
    return True


def given(environment: Mapping[str, str]) -> dict[Key, Any]:
    """The values of keys in the environment, typed as in the file.

    A value with the wrong type stays text, so that the check of the file reports it.
    """
    found: dict[Key, Any] = {}
    upper = {name.upper(): text for name, text in environment.items()}
    models: list[tuple[Key, type[BaseModel]]] = list(_models(Settings, ()))
    tables = {path for path, _ in models}
    for path, model in models:
        for key, field in model.model_fields.items():
            name = (*path, key)
            for variable in () if name in tables else _variables(name):
                text = upper.get(variable)
                if text is None:
                    continue
                if variable == _variables(name)[0]:
                    found[name] = _typed(text, field)
                    break
                if (value := _in_table(text, variable, name)) is not None:
                    found[name] = value
                    break
    return found


def _in_table(text: str, variable: str, key: Key) -> Any:
    """The value of a key in a variable that sets a whole table as JSON; None without one."""
    try:
        table: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for part in key[variable.removeprefix("SYNCD_").count("__") + 1 :]:
        table = table.get(part) if isinstance(table, Mapping) else None
    return None if isinstance(table, Mapping | list) else table


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types in an annotation, however deep."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _typed(text: str, field: FieldInfo) -> Any:
    if is_span(field) or not {int, float, bool}.intersection(
        one for one in _kinds(field.annotation) if isinstance(one, type)
    ):
        return text
    try:
        return tomllib.loads(f"value = {text.lower()}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# --- the schema ------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The JSON schema of config.toml (draft 2020-12), with the comments of the shipped file."""
    made = Settings.model_json_schema()
    notes = _comments()
    tables = {model.__name__: path for path, model in _models(Settings, ())}
    for name, table in made["$defs"].items():
        _explain(table, tables[name], notes)
    _explain(made, (), notes)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "syncd's configuration (config.toml)",
    }


def _explain(table: dict[str, Any], path: Key, notes: Mapping[Key, str]) -> None:
    """Add the comments, and write values as in TOML: time spans as text, no null."""
    model = _model_at(path)
    for key, one in table["properties"].items():
        if is_span(model.model_fields[key]):
            default = span_written(one["default"])
            pattern = {"pattern": _AUTO_OR_SPAN} if "anyOf" in one else {}
            one.clear()
            one |= {**_SPAN, **pattern, "default": default}
        if any("const" in choice for choice in one.get("anyOf", ())):
            one.pop("title", None)
            if note := notes.get((*path, key)):
                one["description"] = note
            continue
        for choice in one.pop("anyOf", ()):
            if choice["type"] != "null":
                one |= {_LIMITS.get(name, name): limit for name, limit in choice.items()}
        if "$ref" in one or one.get("default", "") is None:
            one.pop("default", None)
        if note := notes.get((*path, key)):
            one["description"] = note
        one.pop("title", None)


def _models(model: type[BaseModel], path: Key) -> Iterator[tuple[Key, type[BaseModel]]]:
    for key, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield (*path, key), kind
                yield from _models(kind, (*path, key))


def _model_at(path: Key) -> type[BaseModel]:
    return dict(_models(Settings, ()))[path] if path else Settings


def _comments() -> dict[Key, str]:
    """The comment after each key of the shipped file."""
    found: dict[Key, str] = {}
    table: Key = ()
    for line in shipped().splitlines():
        if head := re.fullmatch(r"\[([\w.]+)\]", line):
            table = tuple(head[1].split("."))
        elif note := _COMMENT.fullmatch(line):
            found[*table, note[1]] = note[2]
    return found
