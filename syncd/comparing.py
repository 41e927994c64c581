"""Does Halo agree with Stripe? One payment's rows, refunds and disputes compared; and the sums.

Pure: plain values in, findings out. It judges only what is known: a status without a configured
number, or an amount that can't be read, is unclear, never right or wrong.
"""

import decimal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from syncd.decisions import Create, Policy, Update, decide
from syncd.payments import Invoice, Money, Observation, PaymentState, Row, settle
from syncd.reversals import Reversal, ReversalKind, Stand, counted, sentence

_EXACT = decimal.Context(prec=120)
"""Room for every amount that Halo may send, so that no sum is ever rounded."""


class Difference(StrEnum):
    """In what the two sides differ; the order is that of the report."""

    PAID_AT_STRIPE_ONLY = "paid_at_stripe_only"
    PAID_IN_HALO_ONLY = "paid_in_halo_only"
    WRONG_AMOUNT = "wrong_amount"
    SEVERAL_PAYMENTS = "several_payments"
    MISSING = "missing"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    UNKNOWN_AT_STRIPE = "unknown_at_stripe"
    WRONG_STATE = "wrong_state"
    UNCLEAR = "unclear"


TITLES: Mapping[Difference, str] = {
    Difference.PAID_AT_STRIPE_ONLY: "Paid at Stripe, not in Halo",
    Difference.PAID_IN_HALO_ONLY: "Paid in Halo, not at Stripe",
    Difference.WRONG_AMOUNT: "Paid, but not the same amount",
    Difference.SEVERAL_PAYMENTS: "Several payments, more than the invoice",
    Difference.MISSING: "No row in Halo",
    Difference.REFUNDED: "Refunded at Stripe",
    Difference.DISPUTED: "Disputed at Stripe",
    Difference.UNKNOWN_AT_STRIPE: "Not known to Stripe",
    Difference.WRONG_STATE: "Another state, nothing paid",
    Difference.UNCLEAR: "Can't be judged",
}
"""What each difference is called, for people."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    Attributes:
        kind: in what the two sides differ.
        text: what it is, for people.
        intent_id: the payment; None where several are concerned.
        invoice_id, invoice_number: Halo's invoice, where it is known.
        rows: Halo's numbers of the rows concerned.
        made: Unix seconds at which the payment was made, if known.
        at_stripe, in_halo: what either side says, in words.
        amount: what is at stake, in major units, exact; for a wrong amount, Halo's less Stripe's,
            for several payments, what is beyond the invoice. None where it can't be known.
        currency: three capital letters; None where it can't be known.
        pushable: whether syncd could put it right by a push.
    """

    kind: Difference
    text: str
    intent_id: str | None = None
    invoice_id: int | None = None
    invoice_number: str | None = None
    rows: tuple[int, ...] = ()
    made: int | None = None
    at_stripe: str = ""
    in_halo: str = ""
    amount: Decimal | None = None
    currency: str | None = None
    pushable: bool = False


@dataclass(frozen=True, slots=True)
class Sum:
    """All findings of one kind in one currency.

    Attributes:
        count: how many.
        amount: the sum of their amounts, exact.
        unknown: how many of them have no amount that is known.
    """

    kind: Difference
    currency: str | None
    count: int
    amount: Decimal
    unknown: int


# --- one payment ---------------------------------------------------------------------------------


def compare(
    said: Observation,
    rows: Sequence[Row],
    reversals: Sequence[Reversal],
    policy: Policy,
    *,
    had_rows: bool = False,
) -> list[Finding]:
    """Say in what Halo's rows of one payment differ from what Stripe says of it.

    Args:
        said: what Stripe says.
        rows: all of Halo's rows of the intent.
        reversals: the refunds and disputes of the payment.
        policy: what the operator configured.
        had_rows: whether Halo is known to have had rows of it.
    """
    pushable = _pushable(said, rows, policy, had_rows=had_rows)
    if not rows:
        found = _without_rows(said, pushable=pushable, had_rows=had_rows)
    elif said.state is PaymentState.SUCCEEDED:
        found = [*_succeeded(said, rows, policy), *_amounts(said, rows)]
    else:
        found = _not_succeeded(said, rows, policy)
    findings = [
        replace(
            _with_invoice(one, rows), intent_id=said.intent_id, made=said.created,
            at_stripe=str(said.state or "nothing yet"), in_halo=_statuses(rows, policy),
            pushable=pushable,
        )
        for one in found
    ]  # fmt: skip
    since = [sentence(one) for one in counted(reversals) if one.stand is not Stand.BACK]
    findings = [
        replace(one, text=" ".join([one.text, "But:", *since]))
        if since and one.kind is Difference.PAID_AT_STRIPE_ONLY
        else one
        for one in findings
    ]
    return findings + reversed_after(said, rows, reversals, policy)


def reversed_after(
    said: Observation | None, rows: Sequence[Row], reversals: Sequence[Reversal], policy: Policy
) -> list[Finding]:
    """Say what went back at Stripe of a payment that Halo shows as paid."""
    paid = _paid(rows, policy)
    if not paid:
        return []
    findings = []
    for one in counted(reversals):
        if one.stand is Stand.BACK:
            continue
        refund = one.kind is ReversalKind.REFUNDED
        finding = Finding(
            kind=Difference.REFUNDED if refund else Difference.DISPUTED,
            text=f"{sentence(one)} Halo shows it as paid ({one.id}).",
            intent_id=one.intent_id,
            rows=_ids(paid),
            made=said.created if said else None,
            at_stripe=f"{one.kind}, {one.status}",
            in_halo=_statuses(rows, policy),
            amount=None if one.money is None else one.money.major,
            currency=_code(one.currency),
        )
        findings.append(_with_invoice(finding, paid))
    return findings


def unknown_at_stripe(intent_id: str, rows: Sequence[Row], policy: Policy) -> Finding:
    """Halo has rows of a payment intent that Stripe doesn't know under this key."""
    amounts = [row.amount for row in rows]
    finding = Finding(
        kind=Difference.UNKNOWN_AT_STRIPE,
        text=f"Halo has a row of {intent_id}, which Stripe doesn't know under this key: another "
        "account's, the other mode's, or made up. Look where it came from.",
        intent_id=intent_id,
        rows=_ids(rows),
        made=rows[0].made if rows else None,
        at_stripe="unknown",
        in_halo=_statuses(rows, policy),
        amount=_total(amounts),
    )
    return _with_invoice(finding, rows)


def several_payments(
    rows: Sequence[Row], invoice: Invoice | None, policy: Policy
) -> Finding | None:
    """Say whether the paid rows of one invoice are more than the invoice; None where they aren't.

    Several payments that add up to the invoice, or to less, are parts of it and well.
    """
    paid = _paid(rows, policy)
    total = _total([row.amount for row in paid])
    beyond = None
    if invoice is not None and invoice.total is not None and total is not None:
        currency = invoice.currency or ""
        beyond = tidy(_EXACT.subtract(total, invoice.total), currency)
        if beyond <= 0:
            return None
    intents = sorted({row.intent_id for row in paid if row.intent_id})
    listed = ", ".join(intents) if len(intents) <= 5 else f"{', '.join(intents[:5])}, …"
    by_hand = sum(1 for row in paid if row.intent_id is None)
    what = f"{len(paid)} paid rows ({listed or 'no payment intent'}"
    what += f", {by_hand} not of Stripe)" if by_hand else ")"
    known = "can't be compared with the invoice's total"
    if beyond is not None and invoice is not None and total is not None:
        known = f"{total:f} in all, on an invoice of {invoice.total:f}"
    finding = Finding(
        kind=Difference.SEVERAL_PAYMENTS,
        text=f"{what}: {known}. The customer may have paid twice.",
        rows=_ids(paid),
        made=max((row.made for row in paid if row.made is not None), default=None),
        in_halo=_statuses(paid, policy),
        amount=beyond,
        currency=invoice.currency if invoice else None,
    )
    return _with_invoice(finding, paid)


def _without_rows(said: Observation, *, pushable: bool, had_rows: bool) -> list[Finding]:
    if said.state is None or not (said.invoice is not None or had_rows):
        return []  # not Halo's, as far as anybody knows
    if said.state is not PaymentState.SUCCEEDED and not (pushable or had_rows):
        return []  # nothing was paid, so no row is missed
    money = said.received if said.state is PaymentState.SUCCEEDED else said.due
    why = "Halo had a row of it" if had_rows else f"its metadata names invoice {said.invoice}"
    text = f"Stripe says {said.state}, and Halo has no row, though {why}."
    return [_money(Difference.MISSING, text, money, said)]


def _succeeded(said: Observation, rows: Sequence[Row], policy: Policy) -> list[Finding]:
    number = policy.numbers.get(PaymentState.SUCCEEDED)
    if number is None:
        return [_unclear(said, _no_number(PaymentState.SUCCEEDED))]
    unpaid = [row for row in rows if row.status != number]
    if not unpaid:
        return []
    text = (
        "Stripe has the money, and Halo's row doesn't say paid: the customer may be chased for it."
    )
    one = _money(Difference.PAID_AT_STRIPE_ONLY, text, said.received, said)
    return [replace(one, rows=_ids(unpaid))]


def _amounts(said: Observation, rows: Sequence[Row]) -> list[Finding]:
    received, total = said.received, _total([row.amount for row in rows])
    if received is None or received.major is None:
        return [_unclear(said, "The amount that Stripe received can't be compared with Halo's.")]
    if total is None:
        return [_unclear(said, "A row in Halo has no amount that can be read.")]
    if received.equals(total):
        return []
    text = f"Stripe received {received}; Halo's rows of it add up to {total:f}."
    off = tidy(_EXACT.subtract(total, received.major), received.currency)
    one = Finding(Difference.WRONG_AMOUNT, text, amount=off, currency=_code(said.currency))
    return [replace(one, rows=_ids(rows))]


def _not_succeeded(said: Observation, rows: Sequence[Row], policy: Policy) -> list[Finding]:
    state = said.state or "nothing yet"
    paid = _paid(rows, policy)
    findings = []
    if paid:
        total = _total([row.amount for row in paid])
        one = Finding(
            kind=Difference.PAID_IN_HALO_ONLY,
            text=f"Halo's row says paid, Stripe says {state}. Somebody may have booked it by other "
            "means; else nobody will ask for this money.",
            rows=_ids(paid),
            amount=None if total is None else tidy(total, said.currency or ""),
            currency=_code(said.currency),
        )
        findings.append(one)
    others = [row for row in rows if row not in paid]
    if said.state is None or not others:
        return findings
    number = policy.numbers.get(said.state)
    if number is None:
        return [*findings, _unclear(said, _no_number(said.state))]
    wrong = [row for row in others if row.status != number]
    if not wrong:
        return findings
    if policy.numbers.get(PaymentState.SUCCEEDED) is None:
        return [*findings, _unclear(said, _no_number(PaymentState.SUCCEEDED))]
    one = _money(
        Difference.WRONG_STATE, f"Stripe says {state}, Halo's row another state.", said.due, said
    )
    return [*findings, replace(one, rows=_ids(wrong))]


# --- sums ----------------------------------------------------------------------------------------


def sums(findings: Iterable[Finding]) -> list[Sum]:
    """Add up by difference and currency, exactly; what has no known amount is only counted."""
    order = {kind: place for place, kind in enumerate(Difference)}
    added: dict[tuple[Difference, str | None], Sum] = {}
    for one in findings:
        key = (one.kind, one.currency)
        before = added.get(key, Sum(one.kind, one.currency, 0, Decimal(0), 0))
        added[key] = Sum(
            one.kind, one.currency, before.count + 1,
            before.amount if one.amount is None else _EXACT.add(before.amount, one.amount),
            before.unknown + (one.amount is None),
        )  # fmt: skip
    return sorted(added.values(), key=lambda s: (order[s.kind], s.currency or ""))


def tidy(amount: Decimal, currency: str) -> Decimal:
    """Write an amount with its currency's decimals, where nothing but a double's noise is lost."""
    decimals = Money(0, currency).decimals
    if decimals is None or not amount.is_finite():
        return amount
    rounded = amount.quantize(Decimal(1).scaleb(-decimals), context=_EXACT)
    noise = abs(_EXACT.subtract(amount, rounded))
    return rounded if noise < Decimal(1).scaleb(-decimals - 3) else amount


# --- details -------------------------------------------------------------------------------------


def _pushable(said: Observation, rows: Sequence[Row], policy: Policy, *, had_rows: bool) -> bool:
    if said.state is None:
        return False
    decision = decide(settle(None, said), rows, policy, asked=True, acknowledged=had_rows)
    return isinstance(decision, Update | Create)


def _paid(rows: Sequence[Row], policy: Policy) -> list[Row]:
    number = policy.numbers.get(PaymentState.SUCCEEDED)
    return [] if number is None else [row for row in rows if row.status == number]


def _total(amounts: Sequence[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total = _EXACT.add(total, amount)
    return total


def _money(kind: Difference, text: str, money: Money | None, said: Observation) -> Finding:
    major = None if money is None else money.major
    return Finding(kind, text, amount=major, currency=_code(said.currency))


def _unclear(said: Observation, text: str) -> Finding:
    return Finding(Difference.UNCLEAR, text, currency=_code(said.currency))


def _no_number(state: PaymentState) -> str:
    return (
        f"The tenant's status number for {state} isn't configured (halo.status.{state}), so "
        "nobody can say whether Halo agrees."
    )


def _statuses(rows: Sequence[Row], policy: Policy) -> str:
    names = {number: str(state) for state, number in policy.numbers.items()}
    said = {
        "no status" if row.status is None else names.get(row.status, f"status {row.status}")
        for row in rows
    }
    return ", ".join(sorted(said)) or "no row"


def _with_invoice(finding: Finding, rows: Sequence[Row]) -> Finding:
    ids = {row.invoice_id for row in rows}
    number = next((row.invoice_number for row in rows if row.invoice_number), None)
    if len(ids) != 1:  # one payment for several invoices: each row names its own
        return replace(finding, rows=finding.rows or _ids(rows))
    return replace(
        finding, rows=finding.rows or _ids(rows), invoice_id=ids.pop(), invoice_number=number
    )


def _ids(rows: Sequence[Row]) -> tuple[int, ...]:
    return tuple(row.id for row in rows if row.id is not None)


def _code(currency: str | None) -> str | None:
    return currency.upper() if currency else None
