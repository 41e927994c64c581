"""Notes: small values under a name. `store.coordination` lists all notes, and defines most."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from syncd.store.db import schema
from syncd.store.db.connection import read_once, reading, writing

T = TypeVar("T")


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

_DELETE_NOTES = schema.notes.delete().where(
    schema.notes.c.name.in_(sa.bindparam("names", expanding=True))
)
_ADD_NOTES = schema.notes.insert()


def write_notes(connection: sa.Connection, values: Mapping[str, str | None]) -> None:
    """Write notes; None removes one."""
    if not values:
        return
    connection.execute(_DELETE_NOTES, {"names": list(values)})
    kept = [{"name": name, "value": value} for name, value in values.items() if value is not None]
    if kept:
        connection.execute(_ADD_NOTES, kept)


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
        with reading(self._engine) as connection:
            found = connection.execute(sa.select(schema.notes)).all()
        return {row.name: row.value for row in found}

    def write_notes(self, values: Mapping[str, str | None]) -> None:
        """Write notes; None removes one."""
        with writing(self._engine) as connection:
            write_notes(connection, values)
