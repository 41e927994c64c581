"""One starter for all crash tests of a session."""

from collections.abc import Iterator

import pytest

from tests.crash.starter import Starter, starter


@pytest.fixture(scope="session")
def starting() -> Iterator[Starter]:
    """The process that starts syncd quickly."""
    with starter() as one:
        yield one
