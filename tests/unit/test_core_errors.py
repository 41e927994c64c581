"""What an error carries: the side, whether a write may have been applied, and whether a retry makes sense."""

from syncd.core.errors import (
    BadAnswer,
    LeaseHeld,
    LinkFailure,
    PermissionMissing,
    ServerError,
    Side,
    Unreachable,
)


def test_failures_carry_what_the_caller_needs() -> None:
    """A LinkFailure carries its side and what may have happened; LeaseHeld carries the lease's holder."""
    failure = BadAnswer(Side.HALO, "odd", retry_after_seconds=3, maybe_applied=True, late=True)
    assert (failure.side, failure.retry_after_seconds, str(failure)) == (Side.HALO, 3, "odd")
    assert (failure.maybe_applied, failure.late, failure.transient) == (True, True, False)
    assert LeaseHeld("a backfill").holder == "a backfill"


def test_a_failure_claims_nothing_by_itself() -> None:
    """By default a failure says: nothing was applied, nothing comes late, no wait was requested."""
    failure = LinkFailure(Side.HALO, "odd")
    assert (failure.maybe_applied, failure.late, failure.transient) == (False, False, False)
    assert failure.retry_after_seconds is None


def test_what_may_come_late() -> None:
    """After a ServerError Halo may still apply the write later; other failures say so with `late`."""
    assert ServerError(Side.HALO, "odd", maybe_applied=True).may_come_late
    assert not ServerError(Side.HALO, "odd").may_come_late
    assert Unreachable(Side.HALO, "odd", late=True).may_come_late
    assert not BadAnswer(Side.HALO, "odd", maybe_applied=True).may_come_late


def test_what_may_pass_by_itself() -> None:
    """Only network errors, server errors and rate limits are transient."""
    kinds = LinkFailure.__subclasses__()
    assert {kind.__name__ for kind in kinds if kind.transient} == {
        "Unreachable",
        "ServerError",
        "RateLimited",
    }


def test_a_missing_permission_keeps_what_was_refused() -> None:
    """The text of PermissionMissing ends with the remedy; `found` contains only what was refused."""
    failure = PermissionMissing(Side.STRIPE, "Events are refused.", "Allow them.")
    assert (failure.found, str(failure)) == (
        "Events are refused.",
        "Events are refused. Allow them.",
    )


def test_the_shape_of_an_answer() -> None:
    """A failure can store the shape of the answer."""
    failure = BadAnswer(Side.HALO, "Halo's answer is no JSON.")
    assert failure.shape is None
    assert failure.of("text of 12 characters") is failure
    assert failure.shape == "text of 12 characters"
