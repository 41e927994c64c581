"""Notes: small values under a name. `store.coordination` lists all notes, and defines most."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from syncd.store.db import schema
from syncd.store.db.connection import read_once, write_once, writing

T = TypeVar("T")

NOTES_AT_ONCE = 20
"""The maximum number of notes in one statement."""


@dataclass(frozen=True, slots=True)
class Note(Generic[T]):
    """One kind of note.

    Attributes:
        name: its name in the database.
        type: the type of its value. Text is stored unchanged, everything else as JSON.
    """

    name: str
    type: TypeAdapter[T]

    def encode(self, value: T) -> str:
        """The value as it is stored."""
        if isinstance(value, str):
            return value
        return self.type.dump_json(value, by_alias=True).decode()

    def decode(self, text: str | None) -> T | None:
        """The value of a stored note; None if there is none, or it is unreadable."""
        if text is None:
            return None
        try:
            if self.type.core_schema["type"] == "str":
                return self.type.validate_python(text)
            return self.type.validate_json(text)
        except ValidationError:
            return None


@dataclass(frozen=True, slots=True)
class RowsNote:
    """The stored rows of Halo, which a later push can use if this one is interrupted.

    Attributes:
        begun: when syncd began to read them, Unix seconds.
        page: the last page of Halo's list that was read; None after the last page that is needed.
    """

    begun: float
    page: int | None


ROWS_READ = Note("rows_read", TypeAdapter(RowsNote))
"""Present while Halo's rows are stored: during a push or a sweep, and after an interrupted one."""

REVERSALS_FAILING = Note("reversals_failing", TypeAdapter(Mapping[str, tuple[int, float]]))
"""Refunded or disputed payments whose rows Halo cannot list: how often that failed, and when syncd
asks again (Unix seconds)."""

_DELETE_NOTES = schema.notes.delete().where(
    schema.notes.c.name.in_(sa.bindparam("names", expanding=True))
)


@cache
def _set_notes(number: int) -> sa.TextClause:
    """The statement that writes so many notes, whether they exist or not."""
    rows = ", ".join(f"(:name{one}, :value{one})" for one in range(number))
    return sa.text(
        f"INSERT INTO notes (name, value) VALUES {rows}"  # noqa: S608  # names of parameters
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )


def _statements(
    values: Mapping[str, str | None],
) -> Iterator[tuple[sa.Executable, dict[str, Any]]]:
    """The statements that write notes, with their parameters; None removes a note."""
    gone = [name for name, value in values.items() if value is None]
    if gone:
        yield _DELETE_NOTES, {"names": gone}
    kept = [(name, value) for name, value in values.items() if value is not None]
    for part in (
        kept[start : start + NOTES_AT_ONCE] for start in range(0, len(kept), NOTES_AT_ONCE)
    ):
        given = {f"name{place}": name for place, (name, _) in enumerate(part)}
        given |= {f"value{place}": value for place, (_, value) in enumerate(part)}
        yield _set_notes(len(part)), given


def write_notes(connection: sa.Connection, values: Mapping[str, str | None]) -> None:
    """Write notes; None removes one."""
    for statement, given in _statements(values):
        connection.execute(statement, given)


_NOTE = sa.select(schema.notes.c.value).where(schema.notes.c.name == sa.bindparam("name"))


def read_note(connection: sa.Connection, note: Note[T]) -> T | None:
    """Read a note; None if there is none, or this version cannot read it."""
    return note.decode(connection.execute(_NOTE, {"name": note.name}).scalar())


class NoteStore:
    """The notes."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self, note: Note[T]) -> T | None:
        """Read a note; None if there is none, or this version cannot read it."""
        return note.decode(self.note(note.name))

    def write(self, note: Note[T], value: T | None) -> None:
        """Write a note; None removes it."""
        self.write_notes({note.name: None if value is None else note.encode(value)})

    def note(self, name: str) -> str | None:
        """Read one note."""
        found = read_once(self._engine, _NOTE, {"name": name})
        return found[0].value if found else None

    def notes(self) -> dict[str, str]:
        """Read all notes."""
        found = read_once(self._engine, sa.select(schema.notes))
        return {row.name: row.value for row in found}

    def write_notes(self, values: Mapping[str, str | None]) -> None:
        """Write notes; None removes one."""
        statements = list(_statements(values))
        if len(statements) == 1:
            write_once(self._engine, *statements[0])
        elif statements:
            with writing(self._engine) as connection:
                write_notes(connection, values)
