"""What a failure says of itself: whose it is, what may have happened, and whether it may pass."""

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
    """A link's failure says whose it is and what may have happened; a lease who holds it."""
    failure = BadAnswer(Side.HALO, "odd", retry_after_seconds=3, maybe_applied=True, late=True)
    assert (failure.side, failure.retry_after_seconds, str(failure)) == (Side.HALO, 3, "odd")
    assert (failure.maybe_applied, failure.late, failure.transient) == (True, True, False)
    assert LeaseHeld("a backfill").holder == "a backfill"


def test_a_failure_claims_nothing_by_itself() -> None:
    """Unless it is said: nothing was applied, nothing comes late, nobody asked to wait."""
    failure = LinkFailure(Side.HALO, "odd")
    assert (failure.maybe_applied, failure.late, failure.transient) == (False, False, False)
    assert failure.retry_after_seconds is None


def test_what_may_come_late() -> None:
    """A server that fails may carry a write out later; another failure says so itself."""
    assert ServerError(Side.HALO, "odd", maybe_applied=True).may_come_late
    assert not ServerError(Side.HALO, "odd").may_come_late
    assert Unreachable(Side.HALO, "odd", late=True).may_come_late
    assert not BadAnswer(Side.HALO, "odd", maybe_applied=True).may_come_late


def test_what_may_pass_by_itself() -> None:
    """Only the network, the server and a limit are asked again at once."""
    kinds = LinkFailure.__subclasses__()
    assert {kind.__name__ for kind in kinds if kind.transient} == {
        "Unreachable",
        "ServerError",
        "RateLimited",
    }


def test_a_missing_permission_keeps_what_was_refused() -> None:
    """The text ends with the remedy; what was refused can also be read alone."""
    failure = PermissionMissing(Side.STRIPE, "Events are refused.", "Allow them.")
    assert (failure.found, str(failure)) == (
        "Events are refused.",
        "Events are refused. Allow them.",
    )


def test_the_shape_of_an_answer() -> None:
    """A failure keeps the shape of the answer, never its contents."""
    failure = BadAnswer(Side.HALO, "Halo's answer is no JSON.")
    assert failure.shape is None
    assert failure.of("text of 12 characters") is failure
    assert failure.shape == "text of 12 characters"
