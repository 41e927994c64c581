"""A pytest plugin for mutation runs: the same examples for each mutant of a commit, without shrinking.

A mutation run only asks whether a mutant survives; shrinking a failing example takes most of the time.
The next commit draws other examples: see `tests/freshness.py`.
"""

from hypothesis import Phase, core, settings

from tests import freshness

settings.register_profile(
    "unshrunk",
    derandomize=False,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("unshrunk")
core.global_force_seed = freshness.SEED  # type: ignore[assignment]  # typed as None
