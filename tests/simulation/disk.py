"""The simulated disk: runs the program's own statements on one SQLite database in memory.

SQLAlchemy compiles each statement once, as it does for the program. The text is then run directly on the
driver, because SQLAlchemy's own connections, cursors and rows take ten times as long as SQLite.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.engine.result import result_tuple
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = sqlite_dialect()
_PLANS: dict[Any, _Plan] = {}
"""The compiled statements of this process, by SQLAlchemy's own cache key."""

Row = tuple[Any, ...]
Source = tuple[str, str, int | None, Any, Callable[[Any], Any] | None]


@dataclass(slots=True)
class _Plan:
    """A compiled statement.

    Attributes:
        compiled: SQLAlchemy's result; `text` is None if a list of values is part of the text.
        sources: for each parameter its key, name, place among the extracted values, default and processor.
        row: makes a row of a tuple.
        names: the columns' names.
        processors: the place and the processor of each column that has one.
    """

    compiled: SQLCompiler
    text: str | None
    sources: list[Source]
    row: Callable[[Row], Any]
    names: list[str]
    processors: Sequence[tuple[int, Callable[[Any], Any]]]
    expanded: dict[tuple[int, ...], tuple[str, list[str]]]


@dataclass(slots=True)
class _Ready:
    """A statement with its own values, to be run with others that are given each time.

    Attributes:
        plan: how it is compiled.
        extracted: the values that are part of the statement.
        text: what the driver is given; None where a list that is given decides it.
        places: for each mark of the text the key of a value that is given, or None, and what makes the
            driver's value of it, or the value itself.
    """

    plan: _Plan
    extracted: Sequence[Any]
    text: str | None
    places: list[tuple[str | None, Any]]

    def values(self, given: Mapping[str, Any]) -> list[Any]:
        """The driver's values, in the order of the marks."""
        return [
            fixed if key is None else given[key] if fixed is None else fixed(given[key])
            for key, fixed in self.places
        ]


class Answer:
    """The result of a statement, with the methods of SQLAlchemy's result."""

    def __init__(self, plan: _Plan, rows: list[Row], rowcount: int) -> None:
        self.plan = plan
        self.rowcount = rowcount
        self._rows = rows

    def _tuples(self) -> list[Row]:
        if not self.plan.processors:
            return self._rows
        made = []
        for row in self._rows:
            values = list(row)
            for place, process in self.plan.processors:
                values[place] = process(values[place])
            made.append(tuple(values))
        return made

    def __iter__(self) -> Iterator[Any]:
        """Give the rows one by one."""
        return iter(self.all())

    def all(self) -> list[Any]:
        """All rows."""
        return [self.plan.row(row) for row in self._tuples()]

    def first(self) -> Any:
        """The first row, if there is one."""
        return next(iter(self.all()), None)

    def one(self) -> Any:
        """The only row."""
        (row,) = self.all()
        return row

    def scalar(self) -> Any:
        """The first column of the first row, if there is one."""
        found = self._tuples()
        return found[0][0] if found else None

    def scalar_one(self) -> Any:
        """The first column of the only row."""
        (row,) = self._tuples()
        return row[0]

    def scalars(self) -> _Listed:
        """The first column."""
        return _Listed(map(itemgetter(0), self._tuples()))

    def mappings(self) -> _Listed:
        """Each row by its columns' names."""
        return _Listed(dict(zip(self.plan.names, row, strict=True)) for row in self._tuples())


class _Listed:
    """Values one by one, or all."""

    def __init__(self, values: Iterator[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        """Give the values one by one."""
        return self._values

    def all(self) -> list[Any]:
        """All values."""
        return list(self._values)

    def first(self) -> Any:
        """The first value, if there is one."""
        return next(self._values, None)

    def one(self) -> Any:
        """The only value."""
        (value,) = self._values
        return value


class Disk:
    """The database, and one transaction on it at a time."""

    def __init__(self, plain: sqlite3.Connection) -> None:
        self.plain = plain

    def begin(self) -> None:
        """Begin a transaction."""
        self.plain.execute("BEGIN")

    def commit(self) -> None:
        """Commit the transaction."""
        self.plain.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction."""
        if self.plain.in_transaction:
            self.plain.execute("ROLLBACK")

    def contents(self) -> dict[str, list[Row]]:
        """The rows of each table."""
        tables = self.plain.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
        ).fetchall()
        return {
            name: self.plain.execute(f'SELECT * FROM "{name}"').fetchall()  # noqa: S608  # its own name
            for (name,) in tables
        }

    def refill(self, contents: dict[str, list[Row]]) -> None:
        """Put these rows in place of all others; what the connection has prepared stays valid."""
        self.rollback()
        self.begin()
        for name, rows in contents.items():
            self.plain.execute(f'DELETE FROM "{name}"')  # noqa: S608  # a table's own name
            for row in rows:
                marks = ", ".join("?" * len(row))
                self.plain.execute(f'INSERT INTO "{name}" VALUES ({marks})', row)  # noqa: S608
        self.commit()

    def execute(
        self, statement: Any, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> Answer:
        """Run one statement, once for each set of values."""
        sets: Sequence[Mapping[str, Any]] = (
            [values] if isinstance(values, Mapping) else values or [{}]
        )
        ready = _ready(statement, sets)
        text, plan = ready.text, ready.plan
        if text is None:
            cursor = self.plain.execute(*_expanded(plan, _given(plan, ready.extracted, sets[0])))
        elif len(sets) > 1:
            cursor = self.plain.executemany(text, [ready.values(one) for one in sets])
            return Answer(plan, [], cursor.rowcount)
        else:
            cursor = self.plain.execute(text, ready.values(sets[0]))
        return Answer(plan, cursor.fetchall(), cursor.rowcount)


def _ready(statement: Any, sets: Sequence[Mapping[str, Any]]) -> _Ready:
    columns, many = tuple(sets[0]), len(sets) > 1
    # Statements that the program builds once keep their plans. A statement derived from another one
    # copies its attributes, so the plans name their statement.
    kept = statement.__dict__.get("_simulated")
    if kept is None or kept[0] != id(statement):
        kept = statement.__dict__["_simulated"] = (id(statement), {})
    known: _Ready | None = kept[1].get((columns, many))
    if known is None:
        known = kept[1][columns, many] = _new(statement, columns, many=many)
    return known


def _new(statement: Any, columns: tuple[str, ...], *, many: bool) -> _Ready:
    key = statement._generate_cache_key()
    plan = _PLANS.get((key.key, columns, many))
    if plan is None:
        compiled = statement._compiler(
            _DIALECT, cache_key=key, column_keys=list(columns), for_executemany=many
        )
        plan = _PLANS[key.key, columns, many] = _planned(compiled, key)
    given = set(columns)
    if plan.text is not None:
        return _Ready(plan, key.bindparams, plan.text, list(_places(plan, key.bindparams, given)))
    if any(bind.expanding and name in given for name, _, _, bind, _ in plan.sources):
        return _Ready(plan, key.bindparams, None, [])
    own = dict.fromkeys(given)
    flat, text, order = _flat(plan, _given(plan, key.bindparams, own))
    named = {name: source for source in plan.sources if (name := source[1]) in order}
    places: list[tuple[str | None, Any]] = [
        (named[name][0], named[name][4])
        if name in named and named[name][0] in given
        else (None, flat[name])
        for name in order
    ]
    return _Ready(plan, key.bindparams, text, places)


def _places(
    plan: _Plan, extracted: Sequence[Any], given: set[str]
) -> Iterator[tuple[str | None, Any]]:
    for key, _, place, bind, process in plan.sources:
        if key in given:
            yield key, process
        else:
            value = (bind if place is None else extracted[place]).effective_value
            yield None, value if process is None else process(value)


def _planned(compiled: SQLCompiler, key: Any) -> _Plan:
    places = {id(bind): place for place, bind in enumerate(key.bindparams)}
    by_key = {bind.key: place for place, bind in enumerate(key.bindparams)}
    expanding = bool(compiled.post_compile_params or compiled.literal_execute_params)
    names = list(compiled.binds) if expanding else list(compiled.positiontup or ())
    sources: list[Source] = []
    for name in names:
        bind = compiled.binds[name]
        place = places.get(id(bind), by_key.get(bind.key))
        process = (
            None if bind.expanding else bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
        )
        sources.append((bind.key, name, place, bind, process))
    columns = compiled._result_columns
    found = [
        (number, process)
        for number, column in enumerate(columns)
        if (process := column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None))
    ]
    named = [column.keyname for column in columns]
    text = None if expanding else compiled.string
    return _Plan(compiled, text, sources, result_tuple(named), named, found, {})


def _given(plan: _Plan, extracted: Sequence[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Each parameter's value, in order: a given value, or the value in the statement."""
    given = {}
    for number, (key, name, place, bind, process) in enumerate(plan.sources):
        if key in values:
            value = values[key]
        else:
            value = (bind if place is None else extracted[place]).effective_value
        given[name if plan.text is None else str(number)] = (
            value if process is None else process(value)
        )
    return given


def _expanded(plan: _Plan, given: dict[str, Any]) -> tuple[str, list[Any]]:
    """The text with as many marks as the lists have values, and the values in their order."""
    flat, text, order = _flat(plan, given)
    return text, [flat[name] for name in order]


def _flat(plan: _Plan, given: dict[str, Any]) -> tuple[dict[str, Any], str, list[str]]:
    """All values by the names of their marks, the text, and the names in their order."""
    lists = {name: list(given[name]) for _, name, _, bind, _ in plan.sources if bind.expanding}
    lengths = tuple(map(len, lists.values()))
    if lengths not in plan.expanded:
        state = plan.compiled._process_parameters_for_postcompile(given)
        plan.expanded[lengths] = state.statement, list(state.positiontup or ())
    text, order = plan.expanded[lengths]
    flat = {
        f"{name}_{number}": value
        for name, values in lists.items()
        for number, value in enumerate(values, 1)
    } | given
    return flat, text, order
