"""The same behaviour on PostgreSQL: a server for the tests, and the tests that run on it."""

from types import ModuleType
from typing import Any


def borrowed(module: ModuleType, *beginnings: str) -> dict[str, Any]:
    """The tests of a module whose names have one of these prefixes, to run with other fixtures."""
    found = {name: test for name, test in vars(module).items() if name.startswith(beginnings)}
    for beginning in beginnings:
        assert any(name.startswith(beginning) for name in found), f"{beginning}: no such test"
    return found
