"""Compares the paid rows of one invoice with the invoice itself.

Pure. It is not documented whether a row changes its invoice. So only the invoice's own amounts
count; if one is missing, no difference is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from syncd.audit.differences import (
    EXACT,
    Difference,
    InvoiceName,
    Kind,
    money,
    tidy,
    total_of,
    unit,
)
from syncd.audit.rows import code_of, ids_of, located, paid_rows, statuses
from syncd.core.reversals import Reversal, ReversalStatus, counted
from syncd.core.rows import Invoice, Row
from syncd.core.rules.decisions import Policy


def several_payments(
    rows: Sequence[Row], invoice: Invoice | None, policy: Policy, paying: str | None = None
) -> Difference | None:
    """The difference if the paid rows of one invoice exceed it; None otherwise.

    Several payments that add up to the invoice, or to less, are correct partial payments.

    Args:
        rows: all of Halo's rows on the invoice.
        invoice: the invoice as Halo shows it; None if Halo does not show it.
        policy: what the operator configured.
        paying: the currency of the payments, used if the invoice names none.
    """
    paid = paid_rows(rows, policy)
    total = total_of([row.amount for row in paid])
    currency = (invoice.currency if invoice else None) or paying
    owed = None if invoice is None else invoice.total
    beyond = None
    meaning = f"{_listed(paid)} are marked as paid on one invoice. Halo does not show the invoice's total."
    action = "Check whether the customer paid twice."
    if owed is not None and total is not None:
        beyond = _beyond(total, owed, currency)
        if not beyond:
            return None
        too_much = money(beyond, currency)
        meaning = (
            f"{_listed(paid)} add up to {money(total, currency)}, which is {too_much} more than the "
            f"invoice of {money(owed, currency)}."
        )
        action = f"Ask the customer; if it was paid twice, refund or credit {too_much}."
    return _of_invoice(
        Difference(
            Kind.SEVERAL_PAYMENTS,
            meaning,
            action=action,
            amount=beyond,
            currency=currency,
            stripe_amount=None if total is None else tidy(total, currency or ""),
            halo_amount=owed,
        ),
        paid,
        invoice,
        policy,
    )


def invoice_due(
    rows: Sequence[Row],
    invoice: Invoice,
    reversals: Sequence[Reversal],
    policy: Policy,
    paying: str | None = None,
) -> Difference | None:
    """The difference if more is due on an invoice than its paid rows leave open; None otherwise.

    Money that went back to the customer may be due again.

    Args:
        rows: all of Halo's rows on the invoice.
        invoice: the invoice as Halo shows it.
        reversals: the refunds and disputes of the payments on it.
        policy: what the operator configured.
        paying: the currency of the payments, used if the invoice names none.
    """
    paid = paid_rows(rows, policy)
    total = total_of([row.amount for row in paid])
    gone = [one for one in counted(reversals) if one.money_status is not ReversalStatus.BACK]
    back = total_of([None if one.money is None else one.money.major for one in gone])
    if not paid or total is None or back is None or invoice.total is None or invoice.due is None:
        return None
    left = max(Decimal(0), EXACT.add(EXACT.subtract(invoice.total, total), back))
    currency = invoice.currency or paying
    beyond = _beyond(invoice.due, left, currency)
    if not beyond:
        return None
    one = len(paid) == 1
    meaning = (
        f"{'A payment' if one else f'{len(paid)} payments'} of {money(total, currency)} "
        f"{'is' if one else 'in all are'} marked as paid, but the invoice of "
        f"{money(invoice.total, currency)} still shows {money(invoice.due, currency)} as due."
    )
    details = (
        f"{money(back, currency)} of it was refunded or disputed at Stripe and may be due again.",
    )
    return _of_invoice(
        Difference(
            Kind.INVOICE_DUE,
            meaning,
            details=details if back else (),
            amount=beyond,
            action="Do not remind the customer; record the payment on the invoice in Halo.",
            stripe_amount=tidy(EXACT.subtract(invoice.total, left), currency or ""),
            halo_amount=tidy(EXACT.subtract(invoice.total, invoice.due), currency or ""),
            currency=currency,
        ),
        paid,
        invoice,
        policy,
    )


def other_currency(
    rows: Sequence[Row], invoice: Invoice, currencies: Mapping[str, str], policy: Policy
) -> Difference | None:
    """The difference if payments have another currency than their invoice; None otherwise.

    Args:
        rows: all of Halo's rows on the invoice.
        invoice: the invoice as Halo shows it; without a currency, no difference is reported.
        currencies: the currency (three capital letters) of each payment that Stripe knows.
        policy: what the operator configured.
    """
    if invoice.currency is None:
        return None
    foreign = [
        row
        for row in paid_rows(rows, policy)
        if currencies.get(row.intent_id or "", invoice.currency) != invoice.currency
    ]
    if not foreign:
        return None
    paid_in = currencies[foreign[0].intent_id or ""]
    same = [row for row in foreign if currencies[row.intent_id or ""] == paid_in]
    total = total_of([row.amount for row in same])
    stripe = None if total is None else tidy(total, paid_in)
    known = "" if stripe is None else f" {money(stripe, paid_in)}"
    of = "" if invoice.total is None else f" ({money(invoice.total, invoice.currency)})"
    return _of_invoice(
        Difference(
            Kind.WRONG_CURRENCY,
            f"The customer paid{known} at Stripe, but Halo's invoice is in {invoice.currency}{of}.",
            action="Find out which currency is right, then correct the invoice or refund the payment.",
            stripe_amount=stripe,
            halo_amount=total,
            amount=stripe,
            currency=paid_in,
            halo_currency=invoice.currency,
        ),
        same,
        invoice,
        policy,
    )


def named(difference: Difference, invoice: Invoice) -> Difference:
    """Add the invoice's number and customer, and its currency if none was known."""
    invoices = tuple(
        replace(one, number=one.number or invoice.number) if one.id == invoice.id else one
        for one in difference.invoices or (InvoiceName(invoice.id, invoice.number),)
    )
    return replace(
        difference,
        invoices=invoices,
        customer=difference.customer or invoice.customer,
        currency=difference.currency or invoice.currency,
    )


def shown(invoice: Invoice, currency: str | None) -> str:
    """The invoice's amounts in one sentence."""
    code = invoice.currency or code_of(currency)
    parts = [
        "" if invoice.total is None else f" of {money(invoice.total, code)}",
        "" if invoice.due is None else f" shows {money(invoice.due, code)} as due",
    ]
    return f"Halo's invoice {InvoiceName(invoice.id, invoice.number)}{''.join(parts)}."


def _of_invoice(
    difference: Difference, paid: Sequence[Row], invoice: Invoice | None, policy: Policy
) -> Difference:
    intents = tuple(dict.fromkeys(row.intent_id for row in paid if row.intent_id))
    found = located(
        replace(
            difference,
            intent_id=intents[0] if len(intents) == 1 else None,
            intents=intents if len(intents) > 1 else (),
            rows=ids_of(paid),
            made=max((row.made for row in paid if row.made is not None), default=None),
            in_halo=statuses(paid, policy),
        ),
        paid,
    )
    return found if invoice is None else named(found, invoice)


def _listed(paid: Sequence[Row]) -> str:
    by_hand = sum(1 for row in paid if row.intent_id is None)
    return f"{len(paid)} payments" + (f" ({by_hand} not from Stripe)" if by_hand else "")


def _beyond(amount: Decimal, most: Decimal, currency: str | None) -> Decimal | None:
    """By how much `amount` exceeds `most` (major units); None below the smallest unit."""
    beyond = tidy(EXACT.subtract(amount, most), currency or "")
    smallest = unit(currency or "")
    return None if beyond < smallest * Decimal("0.999") else beyond
