"""Does Halo agree with Stripe? The rows, refunds and disputes of a payment, or of an invoice, compared.

Pure: plain values in, findings out. It judges only what is known: a status without a configured
number, or an amount that can't be read, is unclear, never right or wrong. A payment has one leading
difference; what else differs is said with it, so that no sum counts its money twice. What went back
is other money: each refund and each dispute is a difference of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from syncd.audit.findings import EXACT, Difference, Finding, money, off, tidy, total_of, unit
from syncd.core.decisions import Create, Policy, Update, decide
from syncd.core.money import Money
from syncd.core.payments import Observation, PaymentState, settle
from syncd.core.reversals import Reversal, ReversalKind, Stand, counted, sentence
from syncd.core.rows import Invoice, Row

NONE_DISMISSED: Mapping[str, str] = {}
"""No refund and no dispute that a person has dismissed."""


# --- one payment ---------------------------------------------------------------------------------


def compare(
    said: Observation,
    rows: Sequence[Row],
    reversals: Sequence[Reversal],
    policy: Policy,
    *,
    had_rows: bool = False,
    dismissed: Mapping[str, str] = NONE_DISMISSED,
) -> list[Finding]:
    """Say in what Halo's rows of one payment differ from what Stripe says of it.

    Args:
        said: what Stripe says.
        rows: all of Halo's rows of the intent.
        reversals: the refunds and disputes of the payment.
        policy: what the operator configured.
        had_rows: whether Halo is known to have had rows of it.
        dismissed: the word (`Reversal.word`) of each refund and dispute that a person has dismissed.
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
        for one in _led(found)
    ]  # fmt: skip
    since = [sentence(one) for one in counted(reversals) if one.stand is not Stand.BACK]
    findings = [
        replace(one, text=" ".join([one.text, "But:", *since]))
        if since and one.kind is Difference.PAID_AT_STRIPE_ONLY
        else one
        for one in findings
    ]
    return findings + reversed_after(said, rows, reversals, policy, dismissed)


def _led(found: Sequence[Finding]) -> list[Finding]:
    """The first difference leads; what else differs is said with it."""
    if not found:
        return []
    rows = dict.fromkeys(row for one in found for row in one.rows)
    return [replace(found[0], text=" ".join(one.text for one in found), rows=tuple(rows))]


def reversed_after(
    said: Observation | None,
    rows: Sequence[Row],
    reversals: Sequence[Reversal],
    policy: Policy,
    dismissed: Mapping[str, str] = NONE_DISMISSED,
) -> list[Finding]:
    """Say what went back at Stripe of a payment that Halo shows as paid; `dismissed` as above."""
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
            acknowledged=dismissed.get(one.id) == one.word,
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
        amount=total_of(amounts),
    )
    return _with_invoice(finding, rows)


def several_payments(
    rows: Sequence[Row], invoice: Invoice | None, policy: Policy, paying: str | None = None
) -> Finding | None:
    """Say whether the paid rows of one invoice are more than the invoice; None where they aren't.

    Several payments that add up to the invoice, or to less, are parts of it and well.

    Args:
        rows: all of Halo's rows on the invoice.
        invoice: what Halo shows of it; None where it shows none.
        policy: what the operator configured.
        paying: the currency of the payments, where the invoice names none.
    """
    paid = _paid(rows, policy)
    total = total_of([row.amount for row in paid])
    currency = (invoice.currency if invoice else None) or paying
    beyond = None
    if invoice is not None and invoice.total is not None and total is not None:
        beyond = _beyond(total, invoice.total, currency)
        if not beyond:
            return None
    known = "can't be compared with the invoice's total. The customer"
    if beyond and invoice is not None and invoice.total is not None and total is not None:
        known = (
            f"{money(total, currency)} in all, on an invoice of {money(invoice.total, currency)}, "
            f"so {money(beyond, currency)} too much: the customer"
        )
    return _of_invoice(
        Difference.SEVERAL_PAYMENTS, f"{_listed(paid)}: {known} may have paid twice.",
        paid, beyond, currency, policy,
    )  # fmt: skip


def invoice_due(
    rows: Sequence[Row],
    invoice: Invoice,
    reversals: Sequence[Reversal],
    policy: Policy,
    paying: str | None = None,
) -> Finding | None:
    """Say whether an invoice is due by more than what its paid rows leave of it; None where not.

    What went back to the customer may be due again. Whether a row changes its invoice isn't
    documented, so only the invoice's own amounts tell; where one is missing, nothing is claimed.

    Args:
        rows: all of Halo's rows on the invoice.
        invoice: what Halo shows of it.
        reversals: the refunds and disputes of the payments on it.
        policy: what the operator configured.
        paying: the currency of the payments, where the invoice names none.
    """
    paid = _paid(rows, policy)
    total = total_of([row.amount for row in paid])
    gone = [one for one in counted(reversals) if one.stand is not Stand.BACK]
    back = total_of([None if one.money is None else one.money.major for one in gone])
    if not paid or total is None or back is None or invoice.total is None or invoice.due is None:
        return None
    left = max(Decimal(0), EXACT.add(EXACT.subtract(invoice.total, total), back))
    currency = invoice.currency or paying
    beyond = _beyond(invoice.due, left, currency)
    if not beyond:
        return None
    one = len(paid) == 1
    text = (
        f"{'A row' if one else f'{len(paid)} rows'} of {money(total, currency)} "
        f"{'says' if one else 'in all say'} paid, but Halo's invoice of "
        f"{money(invoice.total, currency)} is still {money(invoice.due, currency)} due: the customer "
        "may be chased for a bill that was paid."
    )
    if back:
        text += f" {money(back, currency)} of it went back at Stripe, and may be due again."
    return _of_invoice(Difference.INVOICE_DUE, text, paid, beyond, currency, policy)


def _of_invoice(
    kind: Difference, text: str, paid: Sequence[Row], amount: Decimal | None,
    currency: str | None, policy: Policy,
) -> Finding:  # fmt: skip
    intents = tuple(dict.fromkeys(row.intent_id for row in paid if row.intent_id))
    finding = Finding(
        kind=kind,
        text=text,
        intent_id=intents[0] if len(intents) == 1 else None,
        intents=intents if len(intents) > 1 else (),
        rows=_ids(paid),
        made=max((row.made for row in paid if row.made is not None), default=None),
        in_halo=_statuses(paid, policy),
        amount=amount,
        currency=currency,
    )
    return _with_invoice(finding, paid)


def _listed(paid: Sequence[Row]) -> str:
    by_hand = sum(1 for row in paid if row.intent_id is None)
    return f"{len(paid)} paid rows" + (f" ({by_hand} not of Stripe)" if by_hand else "")


def _beyond(amount: Decimal, most: Decimal, currency: str | None) -> Decimal | None:
    """By how much it is more (major units); None where by less than the smallest unit."""
    beyond = tidy(EXACT.subtract(amount, most), currency or "")
    smallest = unit(currency or "")
    return None if beyond < smallest * Decimal("0.999") else beyond


def _without_rows(said: Observation, *, pushable: bool, had_rows: bool) -> list[Finding]:
    if said.state is None or not (said.invoice is not None or had_rows):
        return []  # not Halo's, as far as anybody knows
    if said.state is not PaymentState.SUCCEEDED and not (pushable or had_rows):
        return []  # nothing was paid, so no row is missed
    asked = said.received if said.state is PaymentState.SUCCEEDED else said.due
    why = "Halo had a row of it" if had_rows else f"its metadata names invoice {said.invoice}"
    text = f"Stripe says {_words(said.state)}, and Halo has no row, though {why}."
    return [_money(Difference.MISSING, text, asked, said)]


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
    received, total = said.received, total_of([row.amount for row in rows])
    if received is None or received.major is None:
        return [_unclear(said, "The amount that Stripe received can't be compared with Halo's.")]
    if total is None:
        return [_unclear(said, "A row in Halo has no amount that can be read.")]
    if received.equals(total):
        return []
    by = tidy(EXACT.subtract(total, received.major), received.currency)
    code = _code(said.currency)
    adds = "row of it says" if len(rows) == 1 else f"{len(rows)} rows of it add up to"
    text = f"Stripe received {received}, Halo's {adds} {money(total, code)}: {off(by, code)}."
    one = Finding(Difference.WRONG_AMOUNT, text, amount=by, currency=code)
    return [replace(one, rows=_ids(rows))]


def _not_succeeded(said: Observation, rows: Sequence[Row], policy: Policy) -> list[Finding]:
    state = _words(said.state) if said.state else "nothing yet"
    paid = _paid(rows, policy)
    findings = []
    if paid:
        total = total_of([row.amount for row in paid])
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


# --- details -------------------------------------------------------------------------------------


def _pushable(said: Observation, rows: Sequence[Row], policy: Policy, *, had_rows: bool) -> bool:
    if said.state is None:
        return False
    decision = decide(settle(None, said), rows, policy, asked=True, acknowledged=had_rows)
    return isinstance(decision, Update | Create)


def _paid(rows: Sequence[Row], policy: Policy) -> list[Row]:
    number = policy.numbers.get(PaymentState.SUCCEEDED)
    return [] if number is None else [row for row in rows if row.status == number]


def _money(kind: Difference, text: str, amount: Money | None, said: Observation) -> Finding:
    major = None if amount is None else amount.major
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
    # Without the number of what succeeded, any other number may be it.
    other = "not paid (status {})" if PaymentState.SUCCEEDED in policy.numbers else "status {}"
    said = {
        "no status" if row.status is None else names.get(row.status, other.format(row.status))
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


def _words(state: PaymentState) -> str:
    return str(state).replace("_", " ")
