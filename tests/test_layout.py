"""The layout of the program: small files, short functions, small folders, and a purpose for each folder."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "syncd"
LINES_MAX, FUNCTION_LINES_MAX, MEMBERS_MAX = 400, 70, 9

OPEN: dict[str, str] = {}
"""What is still too large, and why. Entries may only be removed."""

FILES = sorted(ROOT.rglob("*.py"))
FOLDERS = sorted(file.parent for file in FILES if file.name == "__init__.py")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def too_large() -> set[str]:
    """Every file, function and folder beyond its limit."""
    found = set()
    for file in FILES:
        text = file.read_text("utf-8")
        if len(text.splitlines()) > LINES_MAX:
            found.add(name_of(file))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    found.add(f"{name_of(file)}: {node.name}")
    for folder in FOLDERS:
        members = [
            one
            for one in folder.iterdir()
            if (one.suffix == ".py" and one.name != "__init__.py") or (one / "__init__.py").exists()
        ]
        if folder != ROOT and len(members) > MEMBERS_MAX:
            found.add(f"{name_of(folder)}/")
    return found


def test_nothing_is_too_large() -> None:
    """No file over 400 lines, function over 70 or folder over nine members, except the entries of OPEN."""
    assert too_large() - OPEN.keys() == set()


def test_the_list_only_gets_shorter() -> None:
    """OPEN has no entry that is small enough now."""
    assert OPEN.keys() - too_large() == set()


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_every_folder_has_a_purpose(folder: Path) -> None:
    """Each package's docstring states its purpose; at the top level also what does not belong there."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    assert text.endswith(".")
    if folder.parent == ROOT:
        assert len(text.split("\n\n")) > 1, "say what does not belong here"


def test_the_top_level_has_twelve_folders() -> None:
    """Each subject has one folder, twelve in all; a thirteenth needs a reason."""
    assert len([folder for folder in FOLDERS if folder.parent == ROOT]) == 12


KNOWS_DATABASES = ("store/db/", "text/database_url.py")
"""The files that may depend on the kind of database."""


def texts_of_code(tree: ast.Module) -> Iterator[str]:
    """Names, imports and texts of a module, without its docstrings, which may name anything."""
    explained = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in explained:
                yield text
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.alias(name=text):
                yield text
            case ast.ImportFrom(module=str(text)):
                yield text


def test_only_the_store_knows_which_database_it_is() -> None:
    """Outside `store/db` and the reader of `state.url`, no code names SQLite, PostgreSQL or a driver."""
    found = {
        f"{name_of(file)}: {text[:60]}"
        for file in FILES
        if not name_of(file).startswith(KNOWS_DATABASES)
        for text in texts_of_code(ast.parse(file.read_text("utf-8")))
        if re.search("sqlite|postgres|psycopg", text, re.IGNORECASE)
    }
    assert found == set()
