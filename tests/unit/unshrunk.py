"""A pytest plugin for mutation runs: always the same examples, and none is made small first.

Whether a mutant lives is all that is asked there; shrinking a failing example takes most of the time.
"""

from hypothesis import Phase, settings

settings.register_profile(
    "unshrunk",
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("unshrunk")
