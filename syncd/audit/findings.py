"""What an audit found: the differences by name, their sums, and how their money is written.

Pure. An amount keeps its sign for programs (a wrong amount is Halo's less Stripe's); for people it
is said in words, and what is short is never set off against what is too much.
"""

import decimal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from syncd.core.money import Money

EXACT = decimal.Context(prec=120)
"""Room for every amount that Halo may send, so that no sum is ever rounded."""

_DECIMALS_OTHERWISE = 2
"""How an amount is shown whose currency isn't known."""


class Difference(StrEnum):
    """In what the two sides differ; the order is that of the report."""

    PAID_AT_STRIPE_ONLY = "paid_at_stripe_only"
    INVOICE_DUE = "invoice_due"
    PAID_IN_HALO_ONLY = "paid_in_halo_only"
    WRONG_AMOUNT = "wrong_amount"
    SEVERAL_PAYMENTS = "several_payments"
    MISSING = "missing"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    UNKNOWN_AT_STRIPE = "unknown_at_stripe"
    WRONG_STATE = "wrong_state"
    UNCLEAR = "unclear"
    ELSEWHERE = "elsewhere"  # no difference: money that isn't Halo's, as far as anybody knows


TITLES: Mapping[Difference, str] = {
    Difference.PAID_AT_STRIPE_ONLY: "Paid at Stripe, not in Halo",
    Difference.INVOICE_DUE: "Row paid, invoice still due",
    Difference.PAID_IN_HALO_ONLY: "Paid in Halo, not at Stripe",
    Difference.WRONG_AMOUNT: "Paid, but not the same amount",
    Difference.SEVERAL_PAYMENTS: "Several payments, more than the invoice",
    Difference.MISSING: "No row in Halo",
    Difference.REFUNDED: "Refunded at Stripe",
    Difference.DISPUTED: "Disputed at Stripe",
    Difference.UNKNOWN_AT_STRIPE: "Not known to Stripe",
    Difference.WRONG_STATE: "Another state, nothing paid",
    Difference.UNCLEAR: "Can't be judged",
    Difference.ELSEWHERE: "Paid at Stripe, not Halo's",
}
"""What each is called, for people."""

ACKNOWLEDGED = "acknowledged"
"""Added to a title where a person has dismissed what stands beneath it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    Attributes:
        kind: in what the two sides differ.
        text: what it is, for people.
        intent_id: the payment; None where several are concerned.
        intents: the payments, where several are concerned.
        invoice_id, invoice_number: Halo's invoice, where it is known.
        rows: Halo's numbers of the rows concerned.
        made: Unix seconds at which the payment was made, if known.
        at_stripe, in_halo: what either side says, in words.
        amount: what is at stake, in major units, exact; for a wrong amount, Halo's less Stripe's,
            for several payments, what is beyond the invoice. None where it can't be known.
        currency: three capital letters; None where it can't be known.
        pushable: whether syncd could put it right by a push.
        acknowledged: whether a person has dismissed it, as it is said now.
    """

    kind: Difference
    text: str
    intent_id: str | None = None
    intents: tuple[str, ...] = ()
    invoice_id: int | None = None
    invoice_number: str | None = None
    rows: tuple[int, ...] = ()
    made: int | None = None
    at_stripe: str = ""
    in_halo: str = ""
    amount: Decimal | None = None
    currency: str | None = None
    pushable: bool = False
    acknowledged: bool = False

    @property
    def payments(self) -> tuple[str, ...]:
        """All payments concerned."""
        return self.intents if self.intent_id is None else (self.intent_id,)

    @property
    def title(self) -> str:
        """Under which heading it stands."""
        return title(self.kind, acknowledged=self.acknowledged)

    @property
    def stake(self) -> str:
        """Its amount for people; empty where none is known."""
        return "" if self.amount is None else _stake(self.kind, self.amount, self.currency)


@dataclass(frozen=True, slots=True)
class Sum:
    """Findings of one kind in one currency; of wrong amounts, those in one direction.

    Attributes:
        count: how many.
        amount: the sum of their amounts, exact.
        unknown: how many of them have no amount that is known.
        acknowledged: whether it is of those that a person has dismissed, or of the others.
    """

    kind: Difference
    currency: str | None
    count: int
    amount: Decimal
    unknown: int
    acknowledged: bool = False

    @property
    def title(self) -> str:
        """Under which heading its findings stand."""
        return title(self.kind, acknowledged=self.acknowledged)

    @property
    def stake(self) -> str:
        """The sum for people; what has no known amount is named."""
        known = _stake(self.kind, self.amount, self.currency) if self.count > self.unknown else ""
        unknown = f"{self.unknown} of unknown amount" if self.unknown else ""
        return ", ".join(part for part in (known, unknown) if part)


@dataclass(frozen=True, slots=True)
class Fix:
    """What was done about the differences.

    Attributes:
        due: the payments that were made due again.
        listed: those that a push could put right, but that stand on the attention list.
        dismissed: those that a push could put right, but that a person has dismissed.
        left: how many differences need a person.
    """

    due: tuple[str, ...]
    listed: tuple[str, ...]
    dismissed: tuple[str, ...]
    left: int


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        since, until: Unix seconds.
        payments: how many payment intents were compared: the sum of the next four, and those of
            which there is nothing to compare yet.
        agree: how many of them have rows in Halo that agree.
        differ: how many of them stand in a difference.
        acknowledged: how many of them stand in differences that a person has dismissed.
        not_halos: how many have no row and nothing that calls for one.
        rows: how many rows Halo has in all.
        invoices: how many of Halo's invoices were read.
        findings: the differences, by kind.
        sums: the same, added up by difference and currency.
        elsewhere: the newest payments that succeeded and aren't Halo's.
        elsewhere_sums: all of those, added up by currency.
        notes: what couldn't be compared, for people.
        fix: what was done about it; None where that wasn't asked for.
    """

    since: int
    until: int
    payments: int
    agree: int
    differ: int
    acknowledged: int
    not_halos: int
    rows: int
    findings: tuple[Finding, ...]
    sums: tuple[Sum, ...]
    elsewhere: tuple[Finding, ...] = ()
    elsewhere_sums: tuple[Sum, ...] = ()
    notes: tuple[str, ...] = ()
    invoices: int = 0
    fix: Fix | None = None

    @property
    def open(self) -> int:
        """How many differences nobody has acknowledged."""
        return sum(not one.acknowledged for one in self.findings)


def title(kind: Difference, *, acknowledged: bool) -> str:
    """What findings of a kind are called; those that were acknowledged stand apart."""
    return f"{TITLES[kind]}, {ACKNOWLEDGED}" if acknowledged else TITLES[kind]


# --- sums ----------------------------------------------------------------------------------------


class Adding:
    """Adds up findings, exactly, without keeping them."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Difference, bool, str | None, bool], Sum] = {}

    def add(self, one: Finding) -> None:
        """Take one more; what has no known amount is only counted."""
        short = one.kind is Difference.WRONG_AMOUNT and one.amount is not None and one.amount < 0
        key = (one.kind, one.acknowledged, one.currency, short)
        before = self._sums.get(
            key, Sum(one.kind, one.currency, 0, Decimal(0), 0, one.acknowledged)
        )
        self._sums[key] = Sum(
            one.kind, one.currency, before.count + 1,
            before.amount if one.amount is None else EXACT.add(before.amount, one.amount),
            before.unknown + (one.amount is None), one.acknowledged,
        )  # fmt: skip

    def sums(self) -> tuple[Sum, ...]:
        """The sums, in the report's order."""
        order = {kind: place for place, kind in enumerate(Difference)}
        keys = sorted(self._sums, key=lambda key: (order[key[0]], key[1], key[2] or "", not key[3]))
        return tuple(self._sums[key] for key in keys)


def sums(findings: Iterable[Finding]) -> tuple[Sum, ...]:
    """Add up by difference and currency."""
    adding = Adding()
    for one in findings:
        adding.add(one)
    return adding.sums()


def total_of(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """Add up, exactly; None where one isn't known."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total = EXACT.add(total, amount)
    return total


# --- money, as it is written ---------------------------------------------------------------------


def tidy(amount: Decimal, currency: str) -> Decimal:
    """Write an amount with its currency's decimals, where nothing but a double's noise is lost."""
    decimals = Money(0, currency).decimals
    return amount if decimals is None else _rounded(amount, decimals)


def unit(currency: str) -> Decimal:
    """A currency's smallest unit, in major units; a hundredth where it isn't known."""
    decimals = Money(0, currency).decimals
    return Decimal(1).scaleb(-(_DECIMALS_OTHERWISE if decimals is None else decimals))


def money(amount: Decimal, currency: str | None) -> str:
    """An amount for people: ``15.00 USD``; with two decimals where the currency isn't known."""
    decimals = Money(0, currency or "").decimals
    shown = _rounded(amount, _DECIMALS_OTHERWISE if decimals is None else decimals)
    return f"{shown:f} {currency or '(currency unknown)'}"


def off(amount: Decimal, currency: str | None) -> str:
    """By how much Halo's amount is off (Halo's less Stripe's), for people."""
    by = money(abs(amount), currency)
    return f"Halo is {by} short" if amount < 0 else f"Halo has {by} too much"


def _stake(kind: Difference, amount: Decimal, currency: str | None) -> str:
    return (off if kind is Difference.WRONG_AMOUNT else money)(amount, currency)


def _rounded(amount: Decimal, decimals: int) -> Decimal:
    if not amount.is_finite():
        return amount
    rounded = amount.quantize(Decimal(1).scaleb(-decimals), context=EXACT)
    noise = abs(EXACT.subtract(amount, rounded))
    return rounded if noise < Decimal(1).scaleb(-decimals - 3) else amount
