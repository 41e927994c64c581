"""What to do about a payment: the table, as one function of what Stripe says and what Halo has.

Pure: plain values in, plain values out. How a row is read or sent belongs next door.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from syncd.core.holds import HoldCode
from syncd.core.payments import Observation, Payment, PaymentState
from syncd.core.rows import Row


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator configured.

    Attributes:
        numbers: the tenant's status number of each state; a state that isn't set is missing.
        create_missing: whether a row may be made where there is none.
        push_on_mismatch: whether a success is pushed although the rows' amounts disagree.
    """

    numbers: Mapping[PaymentState, int]
    create_missing: bool = False
    push_on_mismatch: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Set these rows to this status.

    Attributes:
        rows: Halo's numbers of the rows whose status differs.
        was: the status each of them has now, in the same order.
        status: the tenant's number to set.
    """

    rows: tuple[int, ...]
    was: tuple[int | None, ...]
    status: int


@dataclass(frozen=True, slots=True)
class InStep:
    """All rows have that status already: send nothing."""

    rows: tuple[int, ...]
    status: int


@dataclass(frozen=True, slots=True)
class Create:
    """Make the one row that is missing.

    Attributes:
        invoice_id: Halo's number of the invoice.
        amount: in major units.
        status: the tenant's number to set.
    """

    invoice_id: int
    amount: Decimal
    status: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Write nothing; a person has to look.

    Attributes:
        code: the reason, for machines.
        text: the reason and the remedy, for people.
    """

    code: HoldCode
    text: str


@dataclass(frozen=True, slots=True)
class AskStripe:
    """Read the payment intent again before deciding."""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Halo has no row for it: not (yet) Halo's payment."""


Decision = Update | InStep | Create | Hold | AskStripe | Unmatched


def decide(
    payment: Payment,
    rows: Sequence[Row],
    policy: Policy,
    *,
    asked: bool = False,
    acknowledged: bool = False,
) -> Decision:
    """Decide what to do about one payment.

    Args:
        payment: what Stripe said; its state must be one of the five.
        rows: all of Halo's rows for the intent.
        policy: what the operator configured.
        asked: whether the intent itself was read for this decision.
        acknowledged: whether Halo had rows for this intent earlier.

    Raises:
        ValueError: the payment has no state, so there is nothing to decide.
    """
    said = payment.said
    if said.state is None:
        message = f"{said.intent_id} has no state to push"
        raise ValueError(message)
    if payment.contradicted:
        return _contradiction(payment)
    if not rows:
        return _decide_without_rows(said, said.state, policy, acknowledged=acknowledged)
    number = policy.numbers.get(said.state)
    if number is None:
        return _not_configured(said.state, said.state)
    unreadable = [row for row in rows if row.id is None]
    if unreadable:
        return Hold(
            HoldCode.ROW_UNREADABLE,
            f"Halo lists a row for {said.intent_id} without a usable id, or under another intent_id "
            "or none, so it can't be updated. "
            "Look at the invoice's payments in Halo, then retry.",
        )
    ids = tuple(row.id for row in rows if row.id is not None)
    if all(row.status == number for row in rows):
        return InStep(ids, number)
    held: AskStripe | Hold | None
    if said.state is PaymentState.SUCCEEDED:
        held = _held_for_amount(said, rows, policy)
    else:
        held = _held_for_success(said.state, rows, policy, asked=asked)
    if held is not None:
        return held
    differing = [row for row in rows if row.status != number]
    return Update(
        rows=tuple(row.id for row in differing if row.id is not None),
        was=tuple(row.status for row in differing),
        status=number,
    )


def _decide_without_rows(
    said: Observation, state: PaymentState, policy: Policy, *, acknowledged: bool
) -> Decision:
    if acknowledged:
        return Hold(
            HoldCode.ROW_DELETED,
            f"Halo had a row for {said.intent_id} and has none now: somebody may have deleted it. "
            "Retry to treat the payment as new, or dismiss it.",
        )
    if not policy.create_missing or said.invoice is None:
        return Unmatched()
    invoice_id = invoice_number(said.invoice)
    if invoice_id is None:
        return Hold(
            HoldCode.INVOICE_UNREADABLE,
            f"The metadata of {said.intent_id} names a Halo invoice, but not by a whole number "
            "above zero. Correct the metadata in Stripe, then resync.",
        )
    number = policy.numbers.get(state)
    if number is None:
        return _not_configured(state, state)
    money = said.received if state is PaymentState.SUCCEEDED else said.due
    if money is None:
        return _unreadable_amount(said)
    if money.major is None:
        return _unknown_currency(said)
    return Create(invoice_id=invoice_id, amount=money.major, status=number)


def _held_for_amount(said: Observation, rows: Sequence[Row], policy: Policy) -> Hold | None:
    """A success closes bills, so the rows must add up to what arrived."""
    if policy.push_on_mismatch:
        return None
    if said.received is None:
        return _unreadable_amount(said)
    if said.received.major is None:
        return _unknown_currency(said)
    amounts = [row.amount for row in rows]
    if any(amount is None for amount in amounts):
        return Hold(
            HoldCode.AMOUNT_UNREADABLE,
            f"Stripe received {said.received} for {said.intent_id}, but a row in Halo has no "
            "readable amount. Correct the row in Halo, then retry.",
        )
    total = sum((amount for amount in amounts if amount is not None), Decimal(0))
    if said.received.equals(total):
        return None
    return Hold(
        HoldCode.AMOUNT_MISMATCH,
        f"Stripe received {said.received} for {said.intent_id}, but Halo's "
        f"{_counted(len(rows), 'row')} for it {'adds' if len(rows) == 1 else 'add'} up to "
        f"{total:f}. Correct the amounts in Halo and retry, or set "
        'push.on_amount_mismatch = "push".',
    )


def _held_for_success(
    state: PaymentState, rows: Sequence[Row], policy: Policy, *, asked: bool
) -> AskStripe | Hold | None:
    """Never take a paid bill back by guesswork."""
    paid = policy.numbers.get(PaymentState.SUCCEEDED)
    if paid is None:
        return _not_configured(PaymentState.SUCCEEDED, state)
    if all(row.status != paid for row in rows):
        return None
    if not asked:
        return AskStripe()
    return Hold(
        HoldCode.HALO_SAYS_SUCCEEDED,
        f"Halo says the payment succeeded; Stripe, asked again, says {state}. A person may have "
        "booked it by other means. Correct the row in Halo and retry, or dismiss it.",
    )


def _not_configured(missing: PaymentState, state: PaymentState) -> Hold:
    why = (
        f"Stripe says {state}"
        if missing is state
        else f"Stripe says {state}, and without it nobody can tell whether Halo's row is paid"
    )
    return Hold(
        HoldCode.STATUS_NOT_CONFIGURED,
        f"The tenant's status number for {missing} isn't configured ({why}). "
        f"Set halo.status.{missing} and reload.",
    )


def _unreadable_amount(said: Observation) -> Hold:
    return Hold(
        HoldCode.AMOUNT_UNREADABLE,
        f"Stripe's answer for {said.intent_id} has no readable amount or currency. "
        "Look at the payment in Stripe's dashboard, then resync.",
    )


def _unknown_currency(said: Observation) -> Hold:
    return Hold(
        HoldCode.CURRENCY_UNKNOWN,
        f"{said.intent_id} is in a currency whose decimals aren't known here, so its amount can't "
        "be compared with Halo's. Book it by hand, then dismiss it.",
    )


def _contradiction(payment: Payment) -> Hold:
    said, read = payment.said, payment.read
    itself = "none of the five states" if read is None or read.state is None else read.state
    return Hold(
        HoldCode.STRIPE_CONTRADICTS_ITSELF,
        f"Stripe's events say {said.state} for {said.intent_id}, the payment intent itself says "
        f"{itself}. Look at the payment in Stripe's "
        "dashboard, then resync.",
    )


def invoice_number(text: str) -> int | None:
    """Read Halo's invoice number from metadata; None where it is not one.

    Numbers below one belong to recurring templates, which nobody pays (source: Halo's clients).
    """
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit() and len(stripped) <= 10):
        return None
    number = int(stripped)
    return number if 0 < number < 2**31 else None


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
