"""Rows to write, and guards that allow or refuse every write, for tests of a sink."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from syncd.core.rows import NewRow


@dataclass
class Allow:
    """A guard that allows every request.

    Attributes:
        asked: called each time that the guard is called.
    """

    asked: Callable[[], object] = field(default=lambda: None)

    def allows_sending(self) -> bool:
        self.asked()
        return True


class Refuse:
    """A guard that refuses every request."""

    def allows_sending(self) -> bool:
        return False


def new_row(invoice_id: int) -> NewRow:
    """Return a row of 10.99 for the payment pi_1."""
    return NewRow("pi_1", invoice_id, Decimal("10.99"), 3, 1_764_000_000)
