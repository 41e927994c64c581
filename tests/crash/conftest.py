"""One starter for all crashes of a session."""

from collections.abc import Iterator

import pytest

from tests.crash.starter import Starter, starter


@pytest.fixture(scope="session")
def starting() -> Iterator[Starter]:
    """What starts syncd."""
    with starter() as one:
        yield one
