"""The seed of the random tests: different for each commit, and replayable."""

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import core, settings

from tests import freshness

ROOT = Path(__file__).parents[2]


def _seed(**variables: str) -> int:
    """Return the seed that a new process uses."""
    environment = {k: v for k, v in os.environ.items() if k != "TEST_SEED"} | variables
    command = [sys.executable, "-c", "from tests.freshness import SEED; print(SEED)"]
    return int(subprocess.check_output(command, cwd=ROOT, env=environment))


def test_each_commit_has_a_seed_of_its_own() -> None:
    """The same commit gives the same seed, another commit another seed, and no commit a random seed."""
    assert freshness.seed_of("a" * 40) == freshness.seed_of("a" * 40)
    assert freshness.seed_of("a" * 40) != freshness.seed_of("b" * 40)
    assert freshness.seed_of(None) != freshness.seed_of(None)


def test_a_variable_replays_a_seed() -> None:
    """TEST_SEED sets the seed; without it, the commit does."""
    assert _seed(TEST_SEED="77") == 77
    if freshness.this_commit() is not None:
        assert _seed() == freshness.seed_of(freshness.this_commit())


def test_hypothesis_draws_from_that_seed() -> None:
    """Hypothesis uses the seed and does not derandomize, as it would by default in CI."""
    assert core.global_force_seed == freshness.SEED
    assert settings().derandomize is False
