"""Retries inside one call, for both sides alike: jitter, a limit in time, `Retry-After` honoured.

What outlives a call isn't retried here: the store remembers it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

import tenacity

from syncd.core.errors import LinkFailure, RateLimited
from syncd.core.windows import CALL_FIRST_SECONDS, CALL_MAX_SECONDS

ATTEMPTS_MAX = 8

T = TypeVar("T")

Sleep = Callable[[float], Awaitable[None]]
Take = Callable[[], Awaitable[None]]
"""Waits until one more request may go to that side, and counts it."""
Room = Callable[[int], Awaitable[None]]
"""Waits until so many requests may go to that side one after another; counts none."""
Note = Callable[[str], None]
"""Counts one request by its outcome (`ok`, `error`, `limited`, `refused`)."""


async def _unlimited(_requests: int) -> None:
    """Where nobody counts."""


@dataclass(frozen=True, slots=True)
class Calling:
    """What both adapters need from outside.

    Attributes:
        take: asks for room in the side's window or budget before each request.
        note: counts each request by outcome.
        room: asks for room for several requests before the first of them.
        sleep: waits, or raises Stopping when we are asked to stop.
        now: Unix seconds.
        patience_seconds: how long one call may go on with its retries.
        timeout_seconds: how long one request may take.
    """

    take: Take
    note: Note
    sleep: Sleep
    now: Callable[[], float]
    patience_seconds: float = 20.0
    timeout_seconds: float = 75.0
    room: Room = _unlimited

    async def retry(self, attempt: Callable[[], Awaitable[T]], *, repeatable: bool) -> T:
        """Carry out `attempt` until it works or the call's patience ends.

        Args:
            attempt: one request.
            repeatable: whether it may be sent again although it may have been applied.

        Raises:
            LinkFailure: the last one, where patience ended or trying again can't help.
        """
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: _is_retryable(error, repeatable)),
            wait=_wait,
            stop=tenacity.stop_before_delay(self.patience_seconds)
            | tenacity.stop_after_attempt(ATTEMPTS_MAX),
            sleep=self.sleep,
            reraise=True,
        )
        return await retrying(attempt)


_backoff = tenacity.wait_exponential_jitter(
    multiplier=CALL_FIRST_SECONDS, max=CALL_MAX_SECONDS, jitter=0.5
)


def _wait(state: tenacity.RetryCallState) -> float:
    backoff = _backoff(state)
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, LinkFailure) and error.retry_after_seconds is not None:
        return max(error.retry_after_seconds, 0.0) + backoff / 4
    return backoff


def _is_retryable(error: BaseException, repeatable: bool) -> bool:
    if not isinstance(error, LinkFailure) or not error.transient:
        return False
    return repeatable or not error.maybe_applied


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Read a `Retry-After` header: seconds, or a date. None where there is none, or it's garbage.

    Args:
        header: the header's value.
        now: Unix seconds.
    """
    if header is None:
        return None
    text = header.strip()
    if text.replace(".", "", 1).isdigit() and text.isascii():
        return min(float(text), 86_400.0)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - now, 0.0), 86_400.0)
    except (ValueError, TypeError, OverflowError):
        return None


def server_time(header: str | None) -> int | None:
    """Read a `Date` header as Unix seconds: the other side's clock. None where it can't be read."""
    try:
        return int(parsedate_to_datetime(header).timestamp()) if header else None
    except (ValueError, TypeError, OverflowError):
        return None


def outcome_of(error: LinkFailure) -> str:
    """Name a failed request for the metrics."""
    if isinstance(error, RateLimited):
        return "limited"
    return "error" if error.transient else "refused"
