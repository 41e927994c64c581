"""What can go wrong, whose fault it is, and when to try again.

Pure: exceptions only. The tree:

    Failure
    ├── LinkFailure               a whole side is out of reach: pause, spend no payment's attempts
    │   ├── Unreachable           no connection, no answer, or it broke off
    │   ├── ServerError           5xx
    │   ├── RateLimited           429
    │   ├── BudgetSpent           our own share of the other side's limit is used up
    │   ├── SignInRefused         401, or the token endpoint said no
    │   ├── PermissionMissing     403
    │   └── BadAnswer             HTML, cut JSON, a shape that can't be, a refusal of our request
    │       └── ListingBroken     … or a listing that can't be read to its end
    ├── RowsRefused               Halo refuses rows: halve, until the one at fault stands alone
    ├── IntentUnknown             Stripe doesn't know the payment intent
    ├── CursorRefused             Stripe doesn't take a cursor (any more)
    ├── StoreUnavailable          the database is busy, full or failing: try again later
    ├── StoreUnusable             the database can't be opened, or is damaged: a person must look
    ├── LeaseHeld                 another process is pushing
    └── Stopping                  we were asked to stop; nothing is wrong
"""

from enum import StrEnum
from typing import Self

WEB_PAGE = (
    "A write to Halo was answered with a web page, and Halo's row is as it was. Something in front of "
    "Halo answers. Check halo.url, and sign-in pages, proxies and firewalls in front of Halo."
)


class Side(StrEnum):
    """One end of the line."""

    STRIPE = "stripe"
    HALO = "halo"


class Failure(Exception):
    """Something went wrong in a way that is understood; its text is for the operator."""


class LinkFailure(Failure):
    """A whole side can't be talked to.

    Attributes:
        side: which.
        retry_after_seconds: how long the side asked us to wait; None where it said nothing.
        maybe_applied: whether a write may have been carried out all the same.
        late: whether it may still be carried out after we stopped listening.
        transient: whether trying again at once may help.
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


class Unreachable(LinkFailure):
    """No connection, no answer in time, or the connection broke."""

    transient = True


class ServerError(LinkFailure):
    """The other side answered 5xx."""

    transient = True


class RateLimited(LinkFailure):
    """The other side answered 429."""

    transient = True


class BudgetSpent(LinkFailure):
    """We used up what the operator allows us to ask."""


class SignInRefused(LinkFailure):
    """The key, the client secret or the token isn't taken."""


class PermissionMissing(LinkFailure):
    """Signed in, but not allowed to.

    Attributes:
        found: what was refused, without the remedy that the text ends with.
    """

    def __init__(self, side: Side, found: str, remedy: str) -> None:
        super().__init__(side, f"{found} {remedy}")
        self.found = found


class BadAnswer(LinkFailure):
    """An answer that can't be understood.

    Attributes:
        status: the HTTP status, where it is what can't be understood; None otherwise.
        shape: the answer's shape without its contents (`text.shape`); None where it is not known.
    """

    status: int | None = None
    shape: str | None = None

    def of(self, shape: str) -> Self:
        """The same failure with the answer's shape."""
        self.shape = shape
        return self


class ListingBroken(BadAnswer):
    """A listing that shows only a part, or doesn't end: whatever is asked for, it will be so."""


class RowsRefused(Failure):
    """Halo refuses a request because of what is in its rows; the text is Halo's own."""


class IntentUnknown(Failure):
    """Stripe has no such payment intent under this key."""


class CursorRefused(Failure):
    """Stripe refuses the place to go on from."""


class StoreUnavailable(Failure):
    """The database can't be used just now."""


class StoreUnusable(Failure):
    """The database can't be used until a person has looked."""


class LeaseHeld(Failure):
    """Another process is pushing.

    Attributes:
        holder: who, in words: ``backfill, process 4711 on hostname``.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(f"{holder} is pushing")
        self.holder = holder


class Stopping(Failure):
    """We were asked to stop, and did so between two steps."""
