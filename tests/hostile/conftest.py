"""Fixtures of the hostile tests: this process knows the planted secrets."""

from collections.abc import Iterator

import pytest

from syncd.text.sanitize import conceal
from tests.hostile.strategies import API_KEY, HALO_SECRET, HALO_TOKEN


@pytest.fixture(autouse=True)
def held() -> Iterator[None]:
    """Register the planted secrets in this process, whatever token a test signs in with."""
    secrets = (API_KEY, HALO_SECRET, HALO_TOKEN)
    for number, secret in enumerate(secrets):
        conceal(f"planted {number}", secret)
    yield
    for number, _ in enumerate(secrets):
        conceal(f"planted {number}", None)
