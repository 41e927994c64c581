"""What a run of the tests spends its time on, by group of tests."""

from collections import Counter
from collections.abc import Iterable

import pytest

GROUPS_MAX = 25

MANY = 200
"""A shorter run needs no summary."""


def group_of(test_id: str) -> str:
    """The folder of a test, or its file where that lies in `tests` itself."""
    parts = test_id.partition("::")[0].split("/")
    return "/".join(parts[:2])


def durations(reports: Iterable[pytest.TestReport]) -> list[str]:
    """The groups that took longest, one line each: seconds of all workers together, tests, group."""
    seconds, tests = Counter[str](), Counter[str]()
    for report in reports:
        seconds[group_of(report.nodeid)] += report.duration  # type: ignore[assignment]  # a Counter holds floats too
        tests[group_of(report.nodeid)] += report.when == "call"
    if tests.total() < MANY:
        return []
    lines = [f"{took:8.1f} s {tests[group]:6} {group}" for group, took in seconds.most_common()]
    return ["slowest groups (all workers, tests, group)", *lines[:GROUPS_MAX]]
