"""The differences that an audit found, by kind, their sums, and how amounts are written.

Pure. An amount keeps its sign for programs. For people it is described in words, and too little in
one place is never offset against too much in another.
"""

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from syncd.core.money import Money

EXACT = decimal.Context(prec=120)
"""Enough digits for every amount that Halo may send, so that no sum is rounded."""

ZERO = Decimal(0)

_DECIMALS_OTHERWISE = 2
"""How an amount without a known currency is displayed."""


class Kind(StrEnum):
    """The kind of a difference; the order decides which difference of one payment leads."""

    PAID_AT_STRIPE_ONLY = "paid_at_stripe_only"
    INVOICE_DUE = "invoice_due"
    PAID_IN_HALO_ONLY = "paid_in_halo_only"
    WRONG_AMOUNT = "wrong_amount"
    SEVERAL_PAYMENTS = "several_payments"
    MISSING = "missing"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    UNKNOWN_AT_STRIPE = "unknown_at_stripe"
    WRONG_CURRENCY = "wrong_currency"
    WRONG_STATE = "wrong_state"
    UNCLEAR = "unclear"
    ELSEWHERE = "elsewhere"  # not a difference: money that concerns no Halo invoice
    AGREES = "agrees"  # not a difference: a payment on which both sides agree


TITLES: Mapping[Kind, str] = {
    Kind.PAID_AT_STRIPE_ONLY: "Paid at Stripe, not in Halo",
    Kind.INVOICE_DUE: "Payment is paid, invoice is still unpaid",
    Kind.PAID_IN_HALO_ONLY: "Paid in Halo, not at Stripe",
    Kind.WRONG_AMOUNT: "Paid, but not the same amount",
    Kind.SEVERAL_PAYMENTS: "Payments add up to more than the invoice",
    Kind.MISSING: "Payment missing in Halo",
    Kind.REFUNDED: "Refunded at Stripe",
    Kind.DISPUTED: "Disputed at Stripe",
    Kind.UNKNOWN_AT_STRIPE: "Not known to Stripe",
    Kind.WRONG_CURRENCY: "Paid in another currency than the invoice",
    Kind.WRONG_STATE: "Different status, nothing paid",
    Kind.UNCLEAR: "Could not be compared",
    Kind.ELSEWHERE: "Paid at Stripe, not for an invoice in Halo",
    Kind.AGREES: "Stripe and Halo agree",
}
"""The name of each kind, for people."""

ACKNOWLEDGED = "acknowledged"
"""Added to the title of a dismissed difference."""


class Consequence(StrEnum):
    """What a difference means for the money; the sums keep these apart."""

    NOT_COUNTED = "paid_not_counted_in_halo"  # the customer paid, Halo counts less
    NOT_PAID = "counted_in_halo_not_paid"  # Halo counts more than Stripe has
    PAID_TOO_MUCH = "paid_too_much"  # the customer paid more than the invoice
    NONE = "none"  # no money is affected, or the amount is unknown


_CONSEQUENCES: Mapping[Kind, Consequence] = {
    Kind.PAID_AT_STRIPE_ONLY: Consequence.NOT_COUNTED,
    Kind.INVOICE_DUE: Consequence.NOT_COUNTED,
    Kind.MISSING: Consequence.NOT_COUNTED,
    Kind.PAID_IN_HALO_ONLY: Consequence.NOT_PAID,
    Kind.UNKNOWN_AT_STRIPE: Consequence.NOT_PAID,
    Kind.REFUNDED: Consequence.NOT_PAID,
    Kind.DISPUTED: Consequence.NOT_PAID,
    Kind.SEVERAL_PAYMENTS: Consequence.PAID_TOO_MUCH,
}


@dataclass(frozen=True, slots=True)
class InvoiceName:
    """One of Halo's invoices, as people look it up.

    Attributes:
        id: Halo's number of the invoice.
        number: the invoice's number as people use it; None if Halo does not show it.
    """

    id: int
    number: str | None = None

    def __str__(self) -> str:
        """The invoice's number as people use it, else Halo's id."""
        return self.number or f"id {self.id}"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between Stripe and Halo.

    Attributes:
        kind: the kind of the difference.
        meaning: what it means, in one plain sentence.
        action: what to do about it, in one plain sentence; empty if there is nothing to do.
        command: the command for `action`, to be pasted; empty without one.
        details: further sentences.
        intent_id: the payment; None if several payments are concerned.
        intents: the payments, if several are concerned.
        invoices: every Halo invoice that is concerned.
        customer: the name of Halo's customer; None if unknown.
        rows: Halo's numbers of the rows concerned.
        made: Unix seconds at which the payment was created; None if unknown.
        at_stripe, in_halo: the states on both sides, as text.
        stripe_amount: the amount paid at Stripe, in major units, exact; negative for money that
            went back; None if unknown.
        halo_amount: the amount that Halo counts as paid; for several payments, the invoice's total.
        amount: the money at stake; a wrong amount keeps its sign (Halo's minus Stripe's). None if
            unknown.
        currency: of Stripe's amount, three capital letters; None if unknown.
        halo_currency: of Halo's amount, if Halo's invoice names another one than `currency`.
        pushable: whether a push of syncd could correct it.
        acknowledged: whether a person has dismissed it in its present state.
    """

    kind: Kind
    meaning: str
    action: str = ""
    command: str = ""
    details: tuple[str, ...] = ()
    intent_id: str | None = None
    intents: tuple[str, ...] = ()
    invoices: tuple[InvoiceName, ...] = ()
    customer: str | None = None
    rows: tuple[int, ...] = ()
    made: int | None = None
    at_stripe: str = ""
    in_halo: str = ""
    stripe_amount: Decimal | None = None
    halo_amount: Decimal | None = None
    amount: Decimal | None = None
    currency: str | None = None
    halo_currency: str | None = None
    pushable: bool = False
    acknowledged: bool = False

    @property
    def payments(self) -> tuple[str, ...]:
        """All payments concerned."""
        return self.intents if self.intent_id is None else (self.intent_id,)

    @property
    def title(self) -> str:
        """The name of its kind."""
        return title(self.kind, acknowledged=self.acknowledged)

    @property
    def text(self) -> str:
        """Its meaning, with all details."""
        return " ".join((self.meaning, *self.details))

    @property
    def off(self) -> Decimal | None:
        """Halo's amount minus Stripe's; None if one is unknown, or if their currencies differ."""
        if self.stripe_amount is None or self.halo_amount is None or self.halo_currency:
            return None
        return tidy(EXACT.subtract(self.halo_amount, self.stripe_amount), self.currency or "")

    @property
    def at_stake(self) -> Decimal | None:
        """The money at stake, without sign; None if unknown."""
        off = self.off
        known = self.amount if off is None else off
        return None if known is None else abs(known)

    @property
    def consequence(self) -> Consequence:
        """What it means for the money."""
        if self.kind is Kind.WRONG_AMOUNT and self.amount:
            return Consequence.NOT_COUNTED if self.amount < 0 else Consequence.NOT_PAID
        if not self.at_stake:
            return Consequence.NONE
        return _CONSEQUENCES.get(self.kind, Consequence.NONE)

    @property
    def stake(self) -> str:
        """The money at stake for people; empty if unknown."""
        return "" if self.amount is None else stake(self.kind, self.amount, self.currency)

    @property
    def stripe_money(self) -> str:
        """Stripe's amount for people; empty if unknown."""
        return "" if self.stripe_amount is None else money(self.stripe_amount, self.currency)

    @property
    def halo_money(self) -> str:
        """Halo's amount for people; empty if unknown."""
        currency = self.halo_currency or self.currency
        return "" if self.halo_amount is None else money(self.halo_amount, currency)

    @property
    def off_money(self) -> str:
        """The difference for people, with its sign; empty if unknown."""
        return "" if self.off is None else money(self.off, self.currency, signed=True)


def title(kind: Kind, *, acknowledged: bool) -> str:
    """The title of the differences of a kind; acknowledged differences have their own."""
    return f"{TITLES[kind]}, {ACKNOWLEDGED}" if acknowledged else TITLES[kind]


# --- money, as it is written ---------------------------------------------------------------------


def total_of(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """The exact sum; None if one amount is unknown."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total = EXACT.add(total, amount)
    return total


def tidy(amount: Decimal, currency: str) -> Decimal:
    """Round an amount to its currency's decimals, if only floating-point noise is lost."""
    decimals = Money(0, currency).decimals
    return amount if decimals is None else _rounded(amount, decimals)


def unit(currency: str) -> Decimal:
    """A currency's smallest unit, in major units; a hundredth if unknown."""
    decimals = Money(0, currency).decimals
    return Decimal(1).scaleb(-(_DECIMALS_OTHERWISE if decimals is None else decimals))


def money(amount: Decimal, currency: str | None, *, signed: bool = False) -> str:
    """An amount for people: ``1,234.50 USD``; with two decimals if the currency is unknown.

    With `signed`, a plus sign is written as well: ``+1,234.50 USD``.
    """
    shown = with_decimals(amount, currency)
    sign = "+" if signed and shown > 0 else ""
    return f"{sign}{shown:,f} {currency or '(currency unknown)'}"


def with_decimals(amount: Decimal, currency: str | None) -> Decimal:
    """An amount with its currency's decimals, two if the currency is unknown.

    An amount that is not a whole number of the smallest unit keeps all its decimals.
    """
    decimals = Money(0, currency or "").decimals
    return _rounded(amount, _DECIMALS_OTHERWISE if decimals is None else decimals)


def off(amount: Decimal, currency: str | None) -> str:
    """Halo's amount minus Stripe's, for people."""
    by = money(abs(amount), currency)
    return f"Halo has {by} too little" if amount < 0 else f"Halo has {by} too much"


def stake(kind: Kind, amount: Decimal, currency: str | None) -> str:
    """The money at stake for people; for a wrong amount with its direction."""
    return (off if kind is Kind.WRONG_AMOUNT else money)(amount, currency)


def _rounded(amount: Decimal, decimals: int) -> Decimal:
    if not amount.is_finite():
        return amount
    rounded = amount.quantize(Decimal(1).scaleb(-decimals), context=EXACT)
    noise = abs(EXACT.subtract(amount, rounded))
    return rounded if noise < Decimal(1).scaleb(-decimals - 3) else amount
