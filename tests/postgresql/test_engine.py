"""The engine's tests, on PostgreSQL."""

from tests import test_engine

globals().update(
    {name: test for name, test in vars(test_engine).items() if name.startswith("test_")}
)
