"""The exceptions of syncd, as a tree. Pure.

Failure
├── LinkFailure               a whole side is unreachable: pause; no payment's failed attempt
│   ├── Unreachable           no connection, no answer, or the connection broke
│   ├── ServerError           5xx
│   ├── RateLimited           429
│   ├── BudgetSpent           syncd's own request budget is used up
│   ├── SignInRefused         401, or the token endpoint refuses
│   ├── PermissionMissing     403
│   └── BadAnswer             HTML, cut JSON, an impossible format, a refused request
│       └── ListingBroken     a listing that is incomplete or does not end
├── RowsRefused               Halo refuses rows: halve the batch until the row at fault is alone
├── IntentUnknown             Stripe does not know the payment intent
├── CursorRefused             Stripe does not accept a cursor (any more)
├── StoreUnavailable          the database is busy, full or failing: try again later
├── StoreUnusable             the database cannot be opened, or is damaged: a person must repair it
├── LeaseHeld                 another process is pushing
└── Stopping                  the process was asked to stop; nothing is wrong
"""

from enum import StrEnum
from typing import Self

WEB_PAGE = (
    "A write to Halo was answered with a web page, and Halo's row is as it was. Something in front of "
    "Halo answers. Check halo.url, and sign-in pages, proxies and firewalls in front of Halo."
)


class Side(StrEnum):
    """Stripe or Halo."""

    STRIPE = "stripe"
    HALO = "halo"


class Failure(Exception):
    """A known kind of failure; its text is for the operator."""


class LinkFailure(Failure):
    """A request to a side failed.

    Attributes:
        side: Stripe or Halo.
        retry_after_seconds: how long the side asked syncd to wait; None without such a request.
        maybe_applied: whether a write may have been carried out in spite of the failure.
        late: whether a write may still be carried out after syncd stopped waiting.
        maybe_applied_before: whether an earlier request with the same write may have been carried out.
        transient: whether an immediate retry may help.
    """

    transient = False

    def __init__(
        self,
        side: Side,
        text: str,
        *,
        retry_after_seconds: float | None = None,
        maybe_applied: bool = False,
        late: bool = False,
    ) -> None:
        super().__init__(text)
        self.side = side
        self.retry_after_seconds = retry_after_seconds
        self.maybe_applied = maybe_applied
        self.late = late
        self.maybe_applied_before = False

    @property
    def may_come_late(self) -> bool:
        """Whether a write that a reading does not show may still be carried out."""
        return self.late


class Unreachable(LinkFailure):
    """No connection, no answer in time, or the connection broke."""

    transient = True


class ServerError(LinkFailure):
    """The side answered with an HTTP status 5xx.

    A server that answers an error may still carry out the write seconds later.
    """

    transient = True

    @property
    def may_come_late(self) -> bool:
        """Whether Halo may still carry out the write; true for every server error."""
        return self.late or self.maybe_applied


class RateLimited(LinkFailure):
    """The side answered with the HTTP status 429 (rate limit)."""

    transient = True


class BudgetSpent(LinkFailure):
    """The request budget in the configuration is used up."""


class SignInRefused(LinkFailure):
    """The side rejects the API key, the client secret or the token."""


class PermissionMissing(LinkFailure):
    """The sign-in works, but the account lacks a permission.

    Attributes:
        found: what the side refused; the exception's text has the remedy in addition.
    """

    def __init__(self, side: Side, found: str, remedy: str) -> None:
        super().__init__(side, f"{found} {remedy}")
        self.found = found


class BadAnswer(LinkFailure):
    """An answer that syncd cannot use.

    Attributes:
        status: the HTTP status, if the status is the problem; None otherwise.
        shape: the answer's shape without its contents (`text.shape`); None if unknown.
    """

    status: int | None = None
    shape: str | None = None

    def of(self, shape: str) -> Self:
        """The same failure with the answer's shape."""
        self.shape = shape
        return self


class ListingBroken(BadAnswer):
    """A listing that is incomplete or does not end; a retry does not help."""


class RowsRefused(Failure):
    """Halo refuses a request because of the contents of its rows; the text is Halo's error message."""


class IntentUnknown(Failure):
    """Stripe has no such payment intent under this key."""


class CursorRefused(Failure):
    """Stripe refuses the cursor to resume from."""


class StoreUnavailable(Failure):
    """The database cannot be used at the moment."""


class StoreUnusable(Failure):
    """The database cannot be used until a person repairs it."""


class LeaseHeld(Failure):
    """Another process holds the push lease.

    Attributes:
        holder: the other process, as text: ``backfill, process 4711 on hostname``.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(f"{holder} is pushing")
        self.holder = holder


class Stopping(Failure):
    """The process was asked to stop, and stopped between two steps."""
