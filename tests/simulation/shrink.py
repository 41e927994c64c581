"""Shortens a failing story to a short one that still breaks the same promise."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.simulation.story import Action, Story
from tests.simulation.theatre import Result, play

SECONDS_MAX = 20.0

PLAIN: dict[str, Any] = {
    "second_daemon": "", "small_pages": False, "list_shape": "payments", "paging": "honoured",
    "filter_ignored": False, "answer_shape": "rows", "authinfo": True, "token_lifetime": 3_600.0,
    "latency": 0.02, "same_number": False, "unset": [], "rate_limit": 300, "halo_limit": 300,
    "trace": True, "batch": 50, "create_missing": False,
    "reversals": False,
}  # fmt: skip
"""Plain settings, which a reader of a short history can ignore."""


def shrink(
    story: Story,
    checks: set[str],
    *,
    seconds: float = SECONDS_MAX,
    play_it: Callable[[Story], Result] = play,
) -> Story:
    """Find a shorter story that breaks one of these promises; limited in time.

    First ever smaller parts of the actions are removed, then settings are made plain.
    """
    until = time.monotonic() + seconds

    def fails(candidate: Story) -> bool:
        return any(c.check in checks for c in play_it(candidate).complaints)

    actions = list(story.actions)
    size = max(1, len(actions) // 2)
    while time.monotonic() < until:
        start, cut = 0, False
        while start < len(actions) and time.monotonic() < until:
            rest = actions[:start] + actions[start + size :]
            if fails(story.with_actions(rest)):
                actions, cut = rest, True
            else:
                start += size
        if size == 1 and not cut:
            break
        size = max(1, size // 2)
    story = story.with_actions(actions)
    for key, value in PLAIN.items():
        if time.monotonic() >= until:
            break
        plainer = replace(story, setting={**story.setting, key: value})
        if story.setting[key] != value and fails(plainer):
            story = plainer
    return story


def as_text(story: Story, result: Result) -> str:
    """A failure's text for people: the setting, the history, the complaints."""
    from tests.simulation.oracle import CHECKS
    from tests.simulation.story import clock

    odd = {k: v for k, v in story.setting.items() if PLAIN.get(k, ...) != v}
    lines = [
        f"seed {story.seed}: {story.days} days, {len(story.actions)} actions",
        f"setting {odd}",
    ]
    lines += [f"{clock(at)} {text}" for at, text in result.history]
    lines += [
        f"BROKEN at {clock(c.at)}: {c.check}: {c.text}\n    {CHECKS[c.check]}"
        for c in result.complaints
    ]
    return "\n".join(lines)


__all__ = ["Action", "as_text", "shrink"]
