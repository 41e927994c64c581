"""Stripe's mode, live or test: the only rule with which syncd determines it.

Live and test payments never mix (source: Stripe's documentation of API keys). Does not belong here:
the mode that the store remembers for commands without a key (`monitor.status`).
"""

import re
from enum import StrEnum

_IN_KEY = re.compile(r"_(live|test)_")


class Mode(StrEnum):
    """Stripe's two modes."""

    LIVE = "live"
    TEST = "test"


def mode_of_key(key: str) -> Mode | None:
    """The mode of an API key such as ``rk_live_…``; None if the key shows none."""
    found = _IN_KEY.search(key)
    return None if found is None else Mode(found[1])


def mode_of_object(*, livemode: bool) -> Mode:
    """The mode of one of Stripe's objects, by its `livemode`."""
    return Mode.LIVE if livemode else Mode.TEST


def mode_of(key: str, configured: str, remembered: str | None = None) -> Mode | None:
    """The mode in which syncd reads Stripe; None if unknown.

    Args:
        key: the API key; empty for a command without it.
        configured: `stripe.mode`; empty if not set. A key of another mode is refused when the
            configuration is loaded, so key and configuration never disagree here.
        remembered: the mode of the last service that ran, if known.
    """
    return mode_of_key(key) or _named(configured) or _named(remembered)


def _named(mode: str | None) -> Mode | None:
    return Mode(mode) if mode in tuple(Mode) else None
