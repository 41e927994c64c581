"""The result of an audit: its counts, its sums, and the first paragraph, which summarizes them.

Pure. Sums never offset what Halo counts too little against what Halo counts too much.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from syncd.audit.differences import (
    EXACT,
    Consequence,
    Difference,
    Kind,
    money,
    stake,
    title,
)
from syncd.text.timestamps import day_or_minute
from syncd.text.wording import counted

_NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sum:
    """The differences of one kind in one currency; for wrong amounts, of one direction.

    Attributes:
        count: how many.
        amount: the sum of their amounts, exact.
        unknown: how many of them have an unknown amount.
        acknowledged: whether a person has dismissed them.
    """

    kind: Kind
    currency: str | None
    count: int
    amount: Decimal
    unknown: int
    acknowledged: bool = False

    @property
    def title(self) -> str:
        """The title of these differences."""
        return title(self.kind, acknowledged=self.acknowledged)

    @property
    def stake(self) -> str:
        """The sum for people; differences with an unknown amount are counted."""
        known = stake(self.kind, self.amount, self.currency) if self.count > self.unknown else ""
        unknown = f"{self.unknown} of unknown amount" if self.unknown else ""
        return ", ".join(part for part in (known, unknown) if part)


@dataclass(frozen=True, slots=True)
class Total:
    """The open differences of one customer, or of all, in one currency.

    Attributes:
        customer: the customer's name; None if unknown, and in a total of all customers.
        currency: three capital letters; None if unknown.
        count: how many differences.
        amounts: the money at stake by its meaning (never `Consequence.NONE`), exact.
        unknown: how many of them have an unknown amount.
    """

    customer: str | None
    currency: str | None
    count: int
    amounts: dict[Consequence, Decimal]
    unknown: int

    def money(self, consequence: str) -> str:
        """The sum of one consequence for people; empty if it is zero."""
        amount = self.amounts.get(Consequence(consequence))
        return money(amount, self.currency) if amount else ""


@dataclass(frozen=True, slots=True)
class Fix:
    """What --fix did with the differences.

    Attributes:
        due: the payments that were made due again.
        listed: payments that a push could correct, but that are on the attention list.
        dismissed: payments that a push could correct, but that a person has dismissed.
        left: how many differences need a person.
    """

    due: tuple[str, ...]
    listed: tuple[str, ...]
    dismissed: tuple[str, ...]
    left: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        since, until: Unix seconds.
        payments: how many payment intents Stripe listed: the sum of the next four, and those that
            have not started.
        agree: how many of them have rows in Halo that agree.
        differ: how many of them have a difference.
        acknowledged: how many of them have only differences that a person has dismissed.
        not_halos: how many have no row in Halo and name no Halo invoice.
        rows: how many rows Halo has in all.
        invoices: how many of Halo's invoices were compared.
        findings: the differences: open ones first, then by currency and money at stake.
        sums: the same, added up by kind and currency.
        elsewhere: the newest payments that succeeded and are not Halo's.
        elsewhere_sums: all such payments, added up by currency.
        agreeing: the payments without a difference; empty unless they were requested.
        notes: what could not be compared, for people.
        fix: what --fix did; None without --fix.
    """

    since: int
    until: int
    payments: int
    agree: int
    differ: int
    acknowledged: int
    not_halos: int
    rows: int
    findings: tuple[Difference, ...]
    sums: tuple[Sum, ...]
    elsewhere: tuple[Difference, ...] = ()
    elsewhere_sums: tuple[Sum, ...] = ()
    agreeing: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    invoices: int = 0
    fix: Fix | None = None

    @property
    def open(self) -> int:
        """How many differences are not acknowledged."""
        return sum(not one.acknowledged for one in self.findings)

    @property
    def compared(self) -> int:
        """How many Stripe payments were compared with rows or invoices of Halo."""
        return self.agree + self.differ + self.acknowledged

    @property
    def period(self) -> str:
        """The period that was compared, for people."""
        return f"{day_or_minute(self.since)} to {day_or_minute(self.until)}"


# --- sums ----------------------------------------------------------------------------------------


class Adding:
    """Adds up differences exactly, without keeping them."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Kind, bool, str | None, bool], Sum] = {}

    def add(self, one: Difference) -> None:
        """Add a difference; one with an unknown amount is only counted."""
        short = one.kind is Kind.WRONG_AMOUNT and one.amount is not None and one.amount < 0
        key = (one.kind, one.acknowledged, one.currency, short)
        before = self._sums.get(
            key, Sum(one.kind, one.currency, 0, Decimal(0), 0, one.acknowledged)
        )
        self._sums[key] = Sum(
            one.kind,
            one.currency,
            before.count + 1,
            before.amount if one.amount is None else EXACT.add(before.amount, one.amount),
            before.unknown + (one.amount is None),
            one.acknowledged,
        )

    def sums(self) -> tuple[Sum, ...]:
        """The sums, in the report's order."""
        order = {kind: place for place, kind in enumerate(Kind)}
        keys = sorted(self._sums, key=lambda key: (order[key[0]], key[1], key[2] or "", not key[3]))
        return tuple(self._sums[key] for key in keys)


def sums(findings: Iterable[Difference]) -> tuple[Sum, ...]:
    """Add up by difference and currency."""
    adding = Adding()
    for one in findings:
        adding.add(one)
    return adding.sums()


@dataclass(slots=True)
class _Tally:
    count: int = 0
    unknown: int = 0
    amounts: dict[Consequence, Decimal] = field(default_factory=dict)


def totals_by_customer(differences: Iterable[Difference]) -> list[Total]:
    """Open differences by customer and currency, the greatest sum of a currency first."""
    return _totals(differences, lambda one: one.customer)


def totals_by_currency(differences: Iterable[Difference]) -> list[Total]:
    """Open differences of all customers by currency."""
    return _totals(differences, lambda _one: None)


def _totals(
    differences: Iterable[Difference], customer_of: Callable[[Difference], str | None]
) -> list[Total]:
    tallies: dict[tuple[str | None, str | None], _Tally] = {}
    for one in differences:
        if one.acknowledged:
            continue
        tally = tallies.setdefault((customer_of(one), one.currency), _Tally())
        tally.count += 1
        tally.unknown += one.at_stake is None
        if one.consequence is not Consequence.NONE and one.at_stake is not None:
            before = tally.amounts.get(one.consequence, Decimal(0))
            tally.amounts[one.consequence] = EXACT.add(before, one.at_stake)
    totals = [
        Total(customer, currency, tally.count, tally.amounts, tally.unknown)
        for (customer, currency), tally in tallies.items()
    ]
    return sorted(
        totals,
        key=lambda one: (
            one.currency is None,
            one.currency,
            -sum(one.amounts.values()),
            one.customer is None,
            one.customer,
        ),
    )


def in_order(differences: Sequence[Difference]) -> list[Difference]:
    """Sort for the report: open before acknowledged, then the greatest money at stake first.

    Amounts of different currencies cannot be compared, so each currency is sorted by itself: the
    currency with the most differences first, an unknown currency last.
    """
    counts: dict[str | None, int] = {}
    for one in differences:
        counts[one.currency] = counts.get(one.currency, 0) + 1
    kinds = {kind: place for place, kind in enumerate(Kind)}
    return sorted(
        differences,
        key=lambda one: (
            one.acknowledged,
            one.currency is None,
            -counts[one.currency],
            one.currency,
            -(one.at_stake or 0),
            kinds[one.kind],
            one.customer or "",
            -(one.made or 0),
            one.payments,
        ),
    )


# --- in words ------------------------------------------------------------------------------------


def first_paragraph(audit: Audit) -> str:
    """The whole audit in a few sentences."""
    still = [one for one in audit.findings if not one.acknowledged]
    sentences = [] if audit.compared or still else [_nothing_compared(audit)]
    for consequence, tell in _TELL.items():
        found = [one for one in still if one.consequence is consequence]
        if found:
            sentences.append(tell(found))
    sentences += _without_money([one for one in still if one.consequence is Consequence.NONE])
    if audit.compared and not still:
        sentences.append(
            f"Stripe and Halo agree: no difference in {counted(audit.compared, 'payment')}."
            if not audit.acknowledged
            else f"No new difference in {counted(audit.compared, 'payment')}: only differences that "
            "somebody has acknowledged."
        )
    if still and not audit.compared:
        sentences.append(_nothing_compared(audit))
    if audit.notes:
        sentences.append("Not everything could be compared: see the end of this report.")
    return " ".join(sentences)


def counts(audit: Audit) -> str:
    """How many payments were compared and agree, in one sentence whose numbers add up."""
    waiting = audit.payments - audit.compared - audit.not_halos
    parts = [
        f"{audit.agree:,} {'agrees' if audit.agree == 1 else 'agree'}" if audit.compared else "",
        f"{audit.differ:,} {'differs' if audit.differ == 1 else 'differ'}" if audit.differ else "",
        f"{audit.acknowledged:,} acknowledged" if audit.acknowledged else "",
        f"{audit.not_halos:,} not for an invoice in Halo" if audit.not_halos else "",
        f"{waiting:,} not started" if waiting else "",
    ]
    told = ", ".join(filter(None, parts))
    number = counted(audit.payments, "payment")
    return f"{number} at Stripe from {audit.period}{': ' if told else ''}{told}."


def _nothing_compared(audit: Audit) -> str:
    if not audit.payments:
        return (
            f"No payment was compared: Stripe has none from {audit.period}. This does not show that "
            "Stripe and Halo agree. Check the dates, and whether the key is of the right account."
        )
    return (
        f"No payment was compared: of {counted(audit.payments, 'payment')} at Stripe from "
        f"{audit.period}, none has a row in Halo or names an invoice of Halo's. This does not show "
        "that Stripe and Halo agree."
    )


def _not_counted(found: Sequence[Difference]) -> str:
    who = _customers(found)
    if who is None:
        number = _number(len(found))
        of = "payment" if len(found) == 1 else "payments"
        return f"Customers may be chased for {_amounts(found)} that they have paid ({number} {of})."
    have = "that they have paid" if who != "one customer" else "that this customer has paid"
    return f"{_capital(who)} may be chased for {_amounts(found)} {have}."


def _not_paid(found: Sequence[Difference]) -> str:
    who = _customers(found)
    of = "" if who is None else f" of {who}"
    return f"Halo counts {_amounts(found)}{of} as paid that Stripe did not receive, or that was refunded or disputed."


def _paid_too_much(found: Sequence[Difference]) -> str:
    who = _customers(found) or ("a customer" if len(found) == 1 else "customers")
    return f"{_capital(who)} may have paid {_amounts(found)} too much."


_TELL: dict[Consequence, Callable[[Sequence[Difference]], str]] = {
    Consequence.NOT_COUNTED: _not_counted,
    Consequence.NOT_PAID: _not_paid,
    Consequence.PAID_TOO_MUCH: _paid_too_much,
}


def _without_money(found: Sequence[Difference]) -> list[str]:
    """Sentences about differences without a sum: another currency, unknown, no money."""
    foreign = [one for one in found if one.kind is Kind.WRONG_CURRENCY]
    rest = [one for one in found if one.kind is not Kind.WRONG_CURRENCY]
    unknown = [one for one in rest if one.at_stake is None or one.kind is Kind.UNCLEAR]
    sentences = []
    if foreign:
        are = "payment is" if len(foreign) == 1 else "payments are"
        sentences.append(
            f"{_capital(_number(len(foreign)))} {are} in another currency than the invoice "
            f"({_amounts(foreign)})."
        )
    if unknown:
        of = "difference" if len(unknown) == 1 else "differences"
        sentences.append(f"The amount of {_number(len(unknown))} {of} is not known.")
    if none := len(rest) - len(unknown):
        of = "difference affects" if none == 1 else "differences affect"
        sentences.append(f"{_capital(_number(none))} {of} no money.")
    return sentences


def _customers(found: Sequence[Difference]) -> str | None:
    """``three customers``; None if a customer is unknown."""
    names = {one.customer for one in found}
    if None in names:
        return None
    return f"{_number(len(names))} customer{'' if len(names) == 1 else 's'}"


def _amounts(found: Sequence[Difference]) -> str:
    """``1,234.50 EUR and 20.00 USD``."""
    added: dict[str | None, Decimal] = {}
    for one in found:
        before = added.get(one.currency, Decimal(0))
        added[one.currency] = EXACT.add(before, one.at_stake or Decimal(0))
    known = sorted(added.items(), key=lambda entry: (entry[0] is None, entry[0]))
    *most, last = [money(amount, currency) for currency, amount in known]
    return f"{', '.join(most)} and {last}" if most else last


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number:,}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
