"""What several of Halo's rows mean together: their states, amounts, invoices and customers.

Pure; the comparisons share it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from syncd.audit.differences import Difference, InvoiceName, tidy, total_of
from syncd.core.payments import Observation, PaymentState
from syncd.core.rows import Row
from syncd.core.rules.decisions import Policy
from syncd.text.sanitize import plain

DESCRIPTION_CHARACTERS_MAX = 200
"""A longer description of a payment is cut."""


def paid_rows(rows: Sequence[Row], policy: Policy) -> list[Row]:
    """The rows that Halo shows as paid."""
    number = policy.numbers.get(PaymentState.SUCCEEDED)
    return [] if number is None else [row for row in rows if row.status == number]


def paid_amount(rows: Sequence[Row], policy: Policy, currency: str | None) -> Decimal | None:
    """The amount that Halo counts as paid (major units); None if an amount is unreadable."""
    total = total_of([row.amount for row in paid_rows(rows, policy)])
    return None if total is None else tidy(total, currency or "")


def statuses(rows: Sequence[Row], policy: Policy) -> str:
    """The states of these rows as text, by the configured status numbers."""
    names = {number: str(state) for state, number in policy.numbers.items()}
    # Without the number of a succeeded payment, any unknown number may mean paid.
    other = "not paid (status {})" if PaymentState.SUCCEEDED in policy.numbers else "status {}"
    words = {
        "no status" if row.status is None else names.get(row.status, other.format(row.status))
        for row in rows
    }
    return ", ".join(sorted(words)) or "no row"


def located(difference: Difference, rows: Sequence[Row]) -> Difference:
    """Add the invoices, the customer and the rows of these rows of Halo."""
    numbers = {row.invoice_id: row.invoice_number for row in rows if row.invoice_number}
    invoices = dict.fromkeys(row.invoice_id for row in rows if row.invoice_id is not None)
    return replace(
        difference,
        rows=difference.rows or ids_of(rows),
        invoices=tuple(InvoiceName(id_, numbers.get(id_)) for id_ in invoices)
        or difference.invoices,
        customer=difference.customer or customers(row.customer for row in rows),
    )


def customers(names: Iterable[str | None]) -> str | None:
    """The names of the customers, each once; None if none is known."""
    return ", ".join(dict.fromkeys(filter(None, names))) or None


def ids_of(rows: Sequence[Row]) -> tuple[int, ...]:
    """Halo's numbers of these rows."""
    return tuple(row.id for row in rows if row.id is not None)


def code_of(currency: str | None) -> str | None:
    """The currency in capitals."""
    return currency.upper() if currency else None


def state_words(state: PaymentState) -> str:
    """The state, for people."""
    return str(state).replace("_", " ")


def description_of(current: Observation) -> str:
    """The payment's description at Stripe; empty without one."""
    read = json.loads(current.trace) if current.trace else {}
    text = read.get("description") if isinstance(read, dict) else None
    return plain(text, DESCRIPTION_CHARACTERS_MAX) if isinstance(text, str) else ""
