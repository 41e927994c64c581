"""Decides whether a side works: for `/readyz`, `syncd status`, the page and notifications. Pure."""

from dataclasses import dataclass

from syncd.monitor.alerts import FailingCheck
from syncd.text.timestamps import duration


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        ok: whether the check passes.
        text: the status, or the reason of a failure.
        last_success: Unix seconds when it last worked; None if it never did.
        starting: whether the process has just started, so that a failure is no problem yet.
        reason: the last failure; None without a failure: the side may only be busy.
    """

    ok: bool
    text: str
    last_success: float | None = None
    starting: bool = False
    reason: str | None = None

    @property
    def failing(self) -> FailingCheck:
        """The failing check for `alerts`; a busy check counts from when `alerts` first saw it."""
        worked_at = None if self.reason is None else self.last_success
        return FailingCheck(self.text, worked_at, self.starting, busy=self.reason is None)


def judge_step(
    step: str,
    last: float | None,
    reason: str | None,
    now: float,
    stale_seconds: float,
    *,
    started: float | None = None,
) -> Check:
    """Decide whether a side works, from the time when its step last worked.

    Args:
        step: poll (of Stripe) or push (to Halo).
        last: Unix seconds when the step last worked; None if it never did.
        reason: the last failure; None if nothing has failed since the step last worked.
        now: Unix seconds.
        stale_seconds: the longest time without success that is not a failure.
        started: Unix seconds when the service started; None outside the service.
    """
    if last is None:
        young = started is not None and now - started < stale_seconds
        if young and reason is None:
            return Check(False, f"starting: no {step} has worked yet", starting=True)
        return Check(False, reason or f"no {step} has worked yet", reason=reason)
    # After the clock was set back an age is negative: count it as zero.
    age = max(0.0, now - last)
    if age <= stale_seconds:
        return Check(True, reason or f"worked {age:.0f} s ago", last, reason=reason)
    return Check(False, reason or f"no {step} has worked for {duration(age)}", last, reason=reason)
