"""Distributes the slowest tests over the workers; each worker begins with its share of them.

At first, xdist gives each worker an equally long part of the ordered list. Later, an idle worker takes
tests from the end of another worker's part.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

TOGETHER = (
    "tests/package/test_debian.py",
    "tests/package/test_image.py",
    "tests/systemd_boot/",
)
"""Slow tests that share a package, an image or a boot, so they stay together."""

APART = ("tests/crash/",)
"""Slow tests that share nothing, so they can run apart."""


def unit_of(test_id: str, *, slow: bool) -> str | None:
    """Return the name of the slow tests that stay together with this test; None for a quick test."""
    together = next((one for one in TOGETHER if test_id.startswith(one)), None)
    if together is not None:
        return together
    return test_id if slow or test_id.startswith(APART) else None


def spread(units: Sequence[Sequence[T]], rest: Sequence[T], workers: int) -> list[T]:
    """Order the tests so that each worker's part begins with its share of the slow units."""
    shares = [[one for unit in units[n::workers] for one in unit] for n in range(workers)]
    left, total, ordered = list(rest), len(rest) + sum(map(len, units)), list[T]()
    for n, share in enumerate(shares):
        room = max(0, (total - len(ordered)) // (workers - n) - len(share))
        ordered += share + left[:room]
        del left[:room]
    return ordered + left
