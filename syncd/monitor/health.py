"""Whether a side works: one judgement for `/readyz`, for `syncd status`, and for people.

Pure: what was noted and what time it is come in as arguments.
"""

from dataclasses import dataclass

from syncd.monitor.alerts import FailingCheck
from syncd.text.timestamps import duration


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be well.

    Attributes:
        ok: whether it is.
        text: what is the matter, or that nothing is.
        last_success: Unix seconds when it last worked; None where it never did.
        starting: whether the process is so young that a failure says nothing yet.
        reason: what went wrong last, where something did; without one it may just be busy.
    """

    ok: bool
    text: str
    last_success: float | None = None
    starting: bool = False
    reason: str | None = None

    @property
    def failing(self) -> FailingCheck:
        """What `notifications` is told of it; what is only busy counts from when that was seen."""
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
    """Judge a side by when the step that asks it last worked.

    Args:
        step: poll (of Stripe) or push (to Halo).
        last: Unix seconds when it last worked; None where it never did.
        reason: what went wrong last; None where nothing did since it last worked.
        now: Unix seconds.
        stale_seconds: how long nothing may have worked before that is a failure.
        started: Unix seconds when the service started; None for who isn't the service.
    """
    if last is None:
        young = started is not None and now - started < stale_seconds
        if young and reason is None:
            return Check(False, f"starting: no {step} has worked yet", starting=True)
        return Check(False, reason or f"no {step} has worked yet", reason=reason)
    # A clock that was set back makes an age negative: then it has just worked.
    age = max(0.0, now - last)
    if age <= stale_seconds:
        return Check(True, reason or f"worked {age:.0f} s ago", last, reason=reason)
    return Check(False, reason or f"no {step} has worked for {duration(age)}", last, reason=reason)
