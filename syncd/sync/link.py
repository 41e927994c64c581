"""The state of the connection to one side: failures in a row, and the pause after a failure."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from syncd.core.errors import (
    BadAnswer,
    Failure,
    LeaseHeld,
    LinkFailure,
    Side,
    Stopping,
    StoreUnavailable,
    StoreUnusable,
)
from syncd.core.windows import LINK_PAUSE
from syncd.store.coordination import SHAPES, SHAPES_MAX, ShapeNote
from syncd.store.store import Store


@dataclass(slots=True)
class Link:
    """The state of the connection to Stripe or Halo.

    Attributes:
        failures: how many times in a row it failed.
        paused_from, paused_until: Unix seconds; 0 if requests are not paused.
        reason: the last failure, for people; None if the side works.
        since: Unix seconds of the first failure in a row; None if the side works.
        writing: whether the last failure was a write: then a successful read does not prove that
            writes work.
    """

    failures: int = 0
    paused_from: float = 0.0
    paused_until: float = 0.0
    reason: str | None = None
    since: float | None = None
    writing: bool = False

    def worked(self) -> None:
        """Record that the side works."""
        self.failures, self.paused_until, self.reason, self.since = 0, 0.0, None, None

    def failed(self, error: Failure, now: float, jitter: float) -> float:
        """Record a failure, and pause; the pause grows with each failure in a row.

        Args:
            error: the failure.
            now: Unix seconds.
            jitter: a random number from 0 to 1.

        Returns:
            The length of the pause in seconds.
        """
        pause = LINK_PAUSE.wait_seconds(self.failures) * (0.5 + jitter / 2)
        asked = error.retry_after_seconds if isinstance(error, LinkFailure) else None
        if asked is not None:
            pause = max(pause, asked + jitter)
        self.failures += 1
        self.paused_from, self.paused_until = now, now + pause
        self.reason = str(error)
        self.writing = isinstance(error, LinkFailure) and error.maybe_applied
        self.since = now if self.since is None else self.since
        return pause

    def paused(self, now: float) -> bool:
        """Whether requests are paused at `now`; a clock that was set back does not extend the pause."""
        return self.paused_from - 1.0 <= now < self.paused_until


@contextmanager
def failing_as(side: Side) -> Iterator[None]:
    """Convert a failure without a side, such as a refused cursor, into a failure of `side`.

    So a step that fails pauses its side and stops no other step.
    """
    try:
        yield
    except (LinkFailure, LeaseHeld, Stopping, StoreUnavailable, StoreUnusable):
        raise
    except Failure as error:
        raise BadAnswer(side, str(error)) from error


def remember_shapes(store: Store, side: Side, shapes: Sequence[str], now: float) -> None:
    """Store the shapes of unreadable answers for `syncd bugreport`, each once.

    Args:
        store: the database.
        side: Stripe or Halo.
        shapes: see `text.shape`.
        now: Unix seconds.
    """
    new = [ShapeNote(int(now), str(side), shape) for shape in dict.fromkeys(shapes)]
    if new:
        kept = store.read(SHAPES) or []
        others = [one for one in kept if one.shape not in shapes]
        store.write(SHAPES, [*others, *new][-SHAPES_MAX:])


def remember_failures_shape(store: Store, error: Failure, now: float) -> None:
    """Store the shape of the answer that caused a failure, if syncd could not parse the answer.

    Args:
        store: the database.
        error: the failure.
        now: Unix seconds.
    """
    if isinstance(error, BadAnswer) and error.shape:
        remember_shapes(store, error.side, [error.shape], now)
