"""Measures time in the service by a clock that cannot be set.

An administrator, NTP or a resumed virtual machine may set the host's clock. The scheduler plans by the
host's clock, so after it was set back by a day the next poll would start a day late.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

SET_BACK_SECONDS = 5.0
"""A change of the clocks' difference (seconds) from which the host's clock was set back."""


@dataclass(slots=True)
class ClockWatch:
    """Detects that the host's clock was set back, and that the service no longer looks at its clock.

    Attributes:
        now: Unix seconds, by the host's clock.
        monotonic: seconds of a clock that is never set.
    """

    now: Callable[[], float]
    monotonic: Callable[[], float]
    _ahead: float = field(init=False)
    _looked: float = field(init=False)

    def __post_init__(self) -> None:
        self._looked = self.monotonic()
        self._ahead = self.now() - self._looked

    def seconds_back(self) -> float:
        """How far the host's clock was set back since the last call, in seconds; otherwise 0."""
        self._looked = self.monotonic()
        before, self._ahead = self._ahead, self.now() - self._looked
        back = before - self._ahead
        return back if back >= SET_BACK_SECONDS else 0.0

    def idle_seconds(self) -> float:
        """How long ago the service last looked, in seconds: long if its loop is blocked."""
        return self.monotonic() - self._looked


@dataclass(slots=True)
class Ages:
    """How long ago each step last worked, in seconds that do not depend on the host's clock.

    Attributes:
        monotonic: seconds of a clock that is never set.
    """

    monotonic: Callable[[], float]
    _seen: dict[str, tuple[float, float]] = field(init=False, default_factory=dict)

    def seconds(self, step: str, last: float) -> float:
        """How long ago a step last worked.

        Args:
            step: the step.
            last: when it last worked, Unix seconds; a new value means that it has just worked.
        """
        seen = self._seen.get(step)
        if seen is None or seen[0] != last:
            seen = self._seen[step] = (last, self.monotonic())
        return self.monotonic() - seen[1]
