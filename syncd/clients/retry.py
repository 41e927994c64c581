"""Retries within one call, for both sides: backoff with jitter, a time limit, `Retry-After`.

Does not belong here: later attempts after a failed call; the payment stays due in the store.
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
"""Waits until one more request to that side is allowed, and counts it."""
Room = Callable[[int], Awaitable[None]]
"""Waits until that many requests to the side are allowed one after another; counts none."""
HasRoom = Callable[[int], Awaitable[bool]]
"""Whether that many requests to the side are allowed; otherwise waits some seconds."""
Retrying = Callable[[LinkFailure, float], None]
"""Called before a request is sent again, with the failure and the seconds until then."""
Note = Callable[[str], None]
"""Counts one request by its outcome (`ok`, `error`, `limited`, `refused`)."""


async def _unlimited(_requests: int) -> None:
    """No-op, used when requests are not rate-limited."""


async def _always(_requests: int) -> bool:
    """Always true, used when requests are not rate-limited."""
    return True


def _unshown(_error: LinkFailure, _seconds: float) -> None:
    """No-op, used when nobody shows the wait."""


@dataclass(frozen=True, slots=True)
class Calling:
    """How a client sends requests: rate limit, retries and timeouts.

    Attributes:
        take: waits for the rate limit before each request.
        note: counts each request by outcome.
        room: waits for the rate limit before the first of several requests.
        has_room: whether the rate limit allows several requests; otherwise waits some seconds.
        sleep: waits, or raises Stopping when the process is asked to stop.
        now: Unix seconds.
        patience_seconds: how long one call may take with its retries.
        timeout_seconds: how long one request may take.
        retrying: shows why a call waits before it sends its request again.
        done: called when the client is closed.
    """

    take: Take
    note: Note
    sleep: Sleep
    now: Callable[[], float]
    patience_seconds: float = 20.0
    timeout_seconds: float = 75.0
    room: Room = _unlimited
    has_room: HasRoom = _always
    retrying: Retrying = _unshown
    done: Callable[[], None] = lambda: None

    async def retry(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        repeatable: bool,
        only: type[LinkFailure] = LinkFailure,
    ) -> T:
        """Call `attempt` until it works or `patience_seconds` are over.

        Args:
            attempt: one request.
            repeatable: whether to send the request again although it may have been applied.
            only: the failures after which a retry is worth its time.

        Raises:
            LinkFailure: the last failure, if the time is over or a retry cannot help.
        """
        maybe_applied = False

        async def remembering() -> T:
            nonlocal maybe_applied
            try:
                return await attempt()
            except LinkFailure as error:
                error.maybe_applied_before = maybe_applied
                maybe_applied = maybe_applied or error.maybe_applied
                raise

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, only) and _is_retryable(error, repeatable)
            ),
            wait=_wait,
            stop=tenacity.stop_before_delay(self.patience_seconds)
            | tenacity.stop_after_attempt(ATTEMPTS_MAX),
            sleep=self.sleep,
            before_sleep=self._show,
            reraise=True,
        )
        return await retrying(remembering)

    def _show(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, LinkFailure):
            self.retrying(error, state.next_action.sleep if state.next_action else 0.0)


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
    """Parse a `Retry-After` header (seconds or a date); None without one, or if it is invalid.

    Args:
        header: the header's value.
        now: Unix seconds, by the answering side's clock if the answer shows it.
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
    """Parse a `Date` header into Unix seconds (the side's clock); None if it is invalid."""
    try:
        return int(parsedate_to_datetime(header).timestamp()) if header else None
    except (ValueError, TypeError, OverflowError):
        return None


def certain_at(clock: int | None, now: float) -> int:
    """The last second that an answer certainly includes, Unix seconds: the second before.

    Args:
        clock: the side's clock in the answer, Unix seconds; None if unknown.
        now: the local clock, Unix seconds.
    """
    return (int(now) if clock is None else clock) - 1


def outcome_of(error: LinkFailure) -> str:
    """The name of a failed request's outcome in the metrics."""
    if isinstance(error, RateLimited):
        return "limited"
    return "error" if error.transient else "refused"
