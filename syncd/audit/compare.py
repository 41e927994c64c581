"""Compares Halo's rows, refunds and disputes of one payment with Stripe.

Pure. Only known values are judged: a status without a configured number, or an unreadable amount,
is unclear, neither right nor wrong. A payment has one leading difference; its other differences are
reported as details, so that no sum counts the money twice. A refund or a dispute is a difference of
its own. Does not belong here: invoices (`compare_invoices`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from syncd.audit.compare_reversals import NONE_DISMISSED, reversed_after
from syncd.audit.differences import (
    EXACT,
    ZERO,
    Difference,
    InvoiceName,
    Kind,
    money,
    off,
    tidy,
    total_of,
)
from syncd.audit.rows import code_of, ids_of, located, paid_amount, paid_rows, state_words, statuses
from syncd.core.payments import Observation, PaymentState, settle
from syncd.core.reversals import Reversal, ReversalStatus, counted, describe
from syncd.core.rows import Row
from syncd.core.rules.decisions import Create, Policy, Update, decide, invoice_number, left_out

# --- one payment ---------------------------------------------------------------------------------


def compare(
    current: Observation,
    rows: Sequence[Row],
    reversals: Sequence[Reversal],
    policy: Policy,
    *,
    had_rows: bool = False,
    dismissed: Mapping[str, str] = NONE_DISMISSED,
) -> list[Difference]:
    """The differences between Halo's rows of one payment and Stripe.

    Args:
        current: what Stripe reports.
        rows: all of Halo's rows of the payment intent.
        reversals: the refunds and disputes of the payment.
        policy: what the operator configured.
        had_rows: whether Halo is known to have had rows of the payment.
        dismissed: `Reversal.acknowledged_as` of each refund and dispute that a person has
            dismissed.
    """
    pushable = _pushable(current, rows, policy, had_rows=had_rows)
    if not rows:
        found = _without_rows(current, pushable=pushable, had_rows=had_rows)
    elif current.state is not None and any(row.status is None for row in rows):
        text = "Halo's row has no status, or a status that is not a number."
        found = [_unclear(current, text, "Open the payment in Halo and correct its row.")]
        found += _amounts(current, rows) if current.state is PaymentState.SUCCEEDED else []
    elif current.state is PaymentState.SUCCEEDED:
        found = [*_succeeded(current, rows, policy, pushable=pushable), *_amounts(current, rows)]
    else:
        found = _not_succeeded(current, rows, policy, pushable=pushable)
    since = [
        describe(one) for one in counted(reversals) if one.money_status is not ReversalStatus.BACK
    ]
    differences = []
    for one in _led(found):
        chased = one.kind in (Kind.PAID_AT_STRIPE_ONLY, Kind.MISSING)
        details = ("But:", *since) if since and chased else ()
        differences.append(
            replace(
                located(one, rows),
                intent_id=current.intent_id,
                made=current.created,
                at_stripe=str(current.state or "nothing yet"),
                in_halo=statuses(rows, policy),
                pushable=pushable,
                details=(*one.details, *details),
            )
        )
    return differences + reversed_after(current, rows, reversals, policy, dismissed)


def agreeing(current: Observation, rows: Sequence[Row], policy: Policy) -> Difference:
    """A payment on which both sides agree, for a report that lists those as well."""
    succeeded = current.state is PaymentState.SUCCEEDED
    without = left_out(current, total_of([row.amount for row in rows])) if succeeded else None
    one = Difference(
        Kind.AGREES,
        "Stripe and Halo agree.",
        details=(f"Halo's rows leave out {without}.",) if without else (),
        intent_id=current.intent_id,
        made=current.created,
        at_stripe=str(current.state or "nothing yet"),
        in_halo=statuses(rows, policy),
        stripe_amount=_received(current),
        halo_amount=paid_amount(rows, policy, current.currency),
        currency=code_of(current.currency),
    )
    return located(one, rows)


def _led(found: Sequence[Difference]) -> list[Difference]:
    """Report the first difference; the others become its details."""
    if not found:
        return []
    first, *others = found
    rows = dict.fromkeys(row for one in found for row in one.rows)
    actions = dict.fromkeys(one.action for one in found if one.action)
    details = [one.text for one in others]
    return [
        replace(
            first, details=(*first.details, *details), rows=tuple(rows), action=" ".join(actions)
        )
    ]


def unknown_at_stripe(intent_id: str, rows: Sequence[Row], policy: Policy) -> Difference:
    """Halo has rows of a payment intent that Stripe does not know under this key."""
    total = total_of([row.amount for row in rows])
    difference = Difference(
        kind=Kind.UNKNOWN_AT_STRIPE,
        meaning=f"Halo has a payment {intent_id} that this Stripe account does not know.",
        action="Find out where the payment came from: another Stripe account, or test data.",
        intent_id=intent_id,
        rows=ids_of(rows),
        made=rows[0].made if rows else None,
        at_stripe="unknown",
        in_halo=statuses(rows, policy),
        stripe_amount=ZERO,
        halo_amount=total,
        amount=total,
    )
    return located(difference, rows)


def _without_rows(current: Observation, *, pushable: bool, had_rows: bool) -> list[Difference]:
    if current.state is None or not (current.invoice is not None or had_rows):
        return []  # not Halo's payment, as far as known
    if current.state is not PaymentState.SUCCEEDED and not (pushable or had_rows):
        return []  # nothing was paid, so no row is missing
    paid = current.state is PaymentState.SUCCEEDED
    number = None if current.invoice is None else invoice_number(current.invoice)
    why = (
        "the payment's row in Halo was deleted"
        if had_rows
        else f"its metadata names invoice {current.invoice}"
    )
    asked = current.received if paid else current.due
    amount = None if asked is None else asked.major
    known = "" if amount is None else f" {money(amount, code_of(current.currency))}"
    action = "Find out why the row was deleted." if had_rows else "Record the payment in Halo."
    return [
        Difference(
            Kind.MISSING,
            f"The customer paid{known}, but Halo has no payment for it: {why}."
            if paid
            else f"Halo has no row for a payment that is {state_words(current.state)} at Stripe: {why}.",
            action="To let syncd add the payment to Halo:" if pushable else action,
            command=f"syncd resync {current.intent_id}" if pushable else "",
            invoices=() if number is None else (InvoiceName(number),),
            stripe_amount=amount if paid else ZERO,
            halo_amount=ZERO,
            amount=amount,
            currency=code_of(current.currency),
        )
    ]


def _succeeded(
    current: Observation, rows: Sequence[Row], policy: Policy, *, pushable: bool
) -> list[Difference]:
    number = policy.numbers.get(PaymentState.SUCCEEDED)
    if number is None:
        return [_no_number(current, PaymentState.SUCCEEDED)]
    unpaid = [row for row in rows if row.status != number]
    if not unpaid:
        return []
    received, counted_ = _received(current), paid_amount(rows, policy, current.currency)
    code = code_of(current.currency)
    known = "" if received is None else f" {money(received, code)}"
    part = f"only {money(counted_, code)} of it" if counted_ else "the payment"
    at_stake = received
    if received is not None and counted_ is not None:
        at_stake = tidy(EXACT.subtract(received, counted_), current.currency or "")
    return [
        Difference(
            Kind.PAID_AT_STRIPE_ONLY,
            f"The customer paid{known}, but Halo does not show {part} as paid."
            if not counted_
            else f"The customer paid{known}, but Halo shows {part} as paid.",
            action="Do not remind the customer; to mark the payment as paid:"
            if pushable
            else "Do not remind the customer; correct the payment in Halo.",
            command=f"syncd resync {current.intent_id}" if pushable else "",
            rows=ids_of(unpaid),
            stripe_amount=received,
            halo_amount=counted_,
            amount=at_stake,
            currency=code,
        )
    ]


def _amounts(current: Observation, rows: Sequence[Row]) -> list[Difference]:
    received, total = current.received, total_of([row.amount for row in rows])
    by_hand = "Compare the amounts by hand."
    if received is None or received.major is None:
        return [
            _unclear(
                current,
                "Stripe's amount is not a number, or is in a currency that syncd does not know.",
                by_hand,
                halo=total,
            )
        ]
    if total is None:
        text = "Halo has a row of the payment whose amount is empty or not a number."
        return [_unclear(current, text, by_hand, stripe=received.major)]
    if left_out(current, total) is not None:
        return []
    by = tidy(EXACT.subtract(total, received.major), received.currency)
    code = code_of(current.currency)
    paid = money(received.major, code)
    records = "records" if len(rows) == 1 else f"records in {len(rows)} rows"
    return [
        Difference(
            Kind.WRONG_AMOUNT,
            f"Stripe received {paid}, but Halo {records} {money(total, code)}: {off(by, code)}.",
            action=f"Correct the payment's amount in Halo to {paid}."
            if len(rows) == 1
            else f"Correct the amounts of the payment's rows in Halo: together {paid}.",
            rows=ids_of(rows),
            stripe_amount=received.major,
            halo_amount=tidy(total, received.currency),
            amount=by,
            currency=code,
        )
    ]


def _not_succeeded(
    current: Observation, rows: Sequence[Row], policy: Policy, *, pushable: bool
) -> list[Difference]:
    state = state_words(current.state) if current.state else "not started"
    paid = paid_rows(rows, policy)
    differences = []
    if paid:
        total = paid_amount(rows, policy, current.currency)
        wait = current.state is PaymentState.PROCESSING
        differences.append(
            Difference(
                kind=Kind.PAID_IN_HALO_ONLY,
                meaning="Halo shows the payment as paid, but Stripe has not received it "
                f"(status {state}).",
                action="Wait for the bank, then run the audit again; remind the customer if it fails."
                if wait
                else (
                    "Ask your bookkeeper whether the customer paid by other means; if not, reopen "
                    "the invoice."
                ),
                rows=ids_of(paid),
                stripe_amount=ZERO,
                halo_amount=total,
                amount=total,
                currency=code_of(current.currency),
            )
        )
    others = [row for row in rows if row not in paid]
    if current.state is None or not others:
        return differences
    number = policy.numbers.get(current.state)
    if number is None:
        return [*differences, _no_number(current, current.state)]
    wrong = [row for row in others if row.status != number]
    if not wrong:
        return differences
    if policy.numbers.get(PaymentState.SUCCEEDED) is None:
        return [*differences, _no_number(current, PaymentState.SUCCEEDED)]
    due = None if current.due is None else current.due.major
    return [
        *differences,
        Difference(
            Kind.WRONG_STATE,
            f"Stripe says {state}, but Halo shows {statuses(wrong, policy).replace('_', ' ')}; "
            "nothing was paid.",
            action="syncd can correct the status:" if pushable else "Correct the status in Halo.",
            command=f"syncd resync {current.intent_id}" if pushable else "",
            rows=ids_of(wrong),
            stripe_amount=ZERO,
            halo_amount=ZERO,
            amount=due,
            currency=code_of(current.currency),
        ),
    ]


# --- details -------------------------------------------------------------------------------------


def _pushable(current: Observation, rows: Sequence[Row], policy: Policy, *, had_rows: bool) -> bool:
    if current.state is None:
        return False
    decision = decide(settle(None, current), rows, policy, asked=True, acknowledged=had_rows)
    return isinstance(decision, Update | Create)


def _received(current: Observation) -> Decimal | None:
    """The amount that Stripe received (major units); None if the payment did not succeed."""
    if current.state is not PaymentState.SUCCEEDED:
        return ZERO
    return None if current.received is None else current.received.major


def _unclear(
    current: Observation,
    text: str,
    action: str,
    command: str = "",
    *,
    stripe: Decimal | None = None,
    halo: Decimal | None = None,
) -> Difference:
    return Difference(
        Kind.UNCLEAR,
        text,
        action=action,
        command=command,
        stripe_amount=stripe,
        halo_amount=halo,
        currency=code_of(current.currency),
    )


def _no_number(current: Observation, state: PaymentState) -> Difference:
    return _unclear(
        current,
        f"Halo's status number for {state_words(state)} is not configured (halo.status.{state}), so "
        "the payment could not be compared.",
        "Set the status number; to find it:",
        "syncd calibrate",
        stripe=_received(current),
    )
