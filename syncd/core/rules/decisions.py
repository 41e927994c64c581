"""What to do about a payment: one function of Stripe's state and Halo's rows.

Pure. Does not belong here: how a row is read or written (`sync.push`, `clients.halo`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from syncd.core.holds import HoldCode, message
from syncd.core.money import Money, money_text
from syncd.core.payments import Observation, Payment, PaymentState
from syncd.core.rows import Row
from syncd.text.wording import counted


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decisions depend on.

    Attributes:
        numbers: the tenant's status number of each state; a state without a number is missing.
        create_missing: whether syncd may insert a row if Halo has none.
        push_on_mismatch: whether syncd pushes a success although the rows' amounts disagree.
    """

    numbers: Mapping[PaymentState, int]
    create_missing: bool = False
    push_on_mismatch: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Set these rows to this status.

    Attributes:
        rows: Halo's numbers of the rows whose status differs.
        was: the present status of each of these rows, in the same order.
        status: the tenant's number to set.
        before: the same rows as they were read.
        left_out: the parts of Stripe's received amount that the rows do not contain, as text
            (``a surcharge of 0.50 USD``); empty if the rows add up to the whole amount.
    """

    rows: tuple[int, ...]
    was: tuple[int | None, ...]
    status: int
    before: tuple[Row, ...] = field(default=(), compare=False)
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class InStep:
    """Send nothing: all rows have that status already."""

    rows: tuple[int, ...]
    status: int


@dataclass(frozen=True, slots=True)
class Create:
    """Insert the row that is missing.

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
    """Write nothing; a person must decide.

    Attributes:
        code: the machine-readable reason.
        text: the reason and the remedy, for people.
    """

    code: HoldCode
    text: str


@dataclass(frozen=True, slots=True)
class AskStripe:
    """Read the payment intent from Stripe again, then decide."""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Halo has no row for the payment: it is not Halo's payment, or not yet."""


Decision = Update | InStep | Create | Hold | AskStripe | Unmatched


def decide(
    payment: Payment,
    rows: Sequence[Row],
    policy: Policy,
    *,
    asked: bool = False,
    acknowledged: bool = False,
    accepted: str | None = None,
) -> Decision:
    """Decide what to do about one payment.

    Args:
        payment: what Stripe reported; its state must be one of the five.
        rows: all of Halo's rows for the payment intent.
        policy: what the operator configured.
        asked: whether the payment intent itself was read for this decision.
        acknowledged: whether Halo had rows for this payment intent earlier.
        accepted: the text of the hold about amounts that a person overrode for this payment.

    Raises:
        ValueError: the payment has no state, so there is nothing to decide.
    """
    current = payment.current
    if current.state is None:
        message = f"{current.intent_id} has no state to push"
        raise ValueError(message)
    if payment.contradicted:
        return _contradiction(payment)
    if not rows:
        return _decide_without_rows(current, current.state, policy, acknowledged=acknowledged)
    number = policy.numbers.get(current.state)
    if number is None:
        return _not_configured(current, current.state, current.state)
    if any(row.id is None or row.status is None for row in rows):
        return held(HoldCode.ROW_UNREADABLE, current.intent_id)
    ids = tuple(row.id for row in rows if row.id is not None)
    if all(row.status == number for row in rows):
        return InStep(ids, number)
    objection: AskStripe | Hold | None
    paid = current.state is PaymentState.SUCCEEDED
    if paid:
        objection = _held_for_amount(current, rows, policy)
        if isinstance(objection, Hold) and objection.text == accepted:
            objection = None  # the text names the amounts, so syncd holds other amounts again
    else:
        objection = _held_for_success(current, current.state, rows, policy, asked=asked)
    if objection is not None:
        return objection
    differing = [row for row in rows if row.status != number]
    return Update(
        rows=tuple(row.id for row in differing if row.id is not None),
        was=tuple(row.status for row in differing),
        status=number,
        before=tuple(row for row in differing if row.id is not None),
        left_out=left_out(current, total_of(rows)) or "" if paid else "",
    )


def _decide_without_rows(
    current: Observation, state: PaymentState, policy: Policy, *, acknowledged: bool
) -> Decision:
    if acknowledged:
        return held(HoldCode.ROW_DELETED, current.intent_id)
    if not policy.create_missing or current.invoice is None:
        return Unmatched()
    invoice_id = invoice_number(current.invoice)
    if invoice_id is None:
        return held(HoldCode.INVOICE_UNREADABLE, current.intent_id)
    number = policy.numbers.get(state)
    if number is None:
        return _not_configured(current, state, state)
    money = current.received if state is PaymentState.SUCCEEDED else current.due
    if money is None:
        return _unreadable_amount(current)
    if money.major is None:
        return _unknown_currency(current, money)
    return Create(invoice_id=invoice_id, amount=money.major, status=number)


def _held_for_amount(current: Observation, rows: Sequence[Row], policy: Policy) -> Hold | None:
    """The hold of a success whose rows do not add up to the amount received; None if they agree."""
    if policy.push_on_mismatch:
        return None
    if current.received is None:
        return _unreadable_amount(current)
    if current.received.major is None:
        return _unknown_currency(current, current.received)
    total = total_of(rows)
    if total is None:
        problem = (
            f"Stripe received {current.received}, but a row of {current.intent_id} in Halo has no amount "
            "that syncd can read as a number"
        )
        return held(HoldCode.AMOUNT_UNREADABLE, current.intent_id, problem=problem)
    if left_out(current, total) is not None:
        return None
    parts = " and ".join(_parts(current))
    return held(
        HoldCode.AMOUNT_MISMATCH,
        current.intent_id,
        received=money_text(current.received.major, current.received.currency)
        + (f" (with {parts})" if parts else ""),
        rows=counted(len(rows), "row"),
        add="adds" if len(rows) == 1 else "add",
        total=money_text(total, current.received.currency),
    )


def total_of(rows: Sequence[Row]) -> Decimal | None:
    """The sum of these rows in major units; None if an amount is unreadable."""
    amounts = [row.amount for row in rows if row.amount is not None]
    return sum(amounts, Decimal(0)) if len(amounts) == len(rows) else None


def left_out(current: Observation, total: Decimal | None) -> str | None:
    """Which parts of Stripe's received amount are missing in `total` (major units), as text.

    A surcharge and a tip are in the amount that Stripe received (source: Stripe's
    `amount_details`), but perhaps not on the invoice. So rows agree if they add up to the amount
    received, or to that amount less exactly the surcharge, the tip, or both.

    Returns an empty text if nothing is missing; None if the amounts do not agree.
    """
    received = current.received
    if received is None or total is None:
        return None
    if not (current.surcharge or current.tip):  # nearly every payment
        return "" if received.equals(total) else None
    parts = _parts(current)
    choices = {"": 0, **parts, " and ".join(parts): sum(parts.values())}
    agreeing = [
        words
        for words, minor in choices.items()
        if minor <= received.minor
        and Money(received.minor - minor, received.currency).equals(total)
    ]
    return " or ".join(agreeing) if agreeing else None


def _parts(current: Observation) -> dict[str, int]:
    """The parts of the amount that an invoice may leave out: as text, and in the smallest unit."""
    parts = {}
    for name, minor in (("surcharge", current.surcharge), ("tip", current.tip)):
        if minor and current.currency:
            major = Money(minor, current.currency).major or Decimal(0)
            parts[f"a {name} of {money_text(major, current.currency)}"] = minor
    return parts


def _held_for_success(
    current: Observation, state: PaymentState, rows: Sequence[Row], policy: Policy, *, asked: bool
) -> AskStripe | Hold | None:
    """Before paid rows lose their status, ask Stripe, then hold; None if no row is paid."""
    paid = policy.numbers.get(PaymentState.SUCCEEDED)
    if paid is None:
        return _not_configured(current, PaymentState.SUCCEEDED, state)
    if all(row.status != paid for row in rows):
        return None
    if not asked:
        return AskStripe()
    return held(HoldCode.HALO_SAYS_SUCCEEDED, current.intent_id, state=state)


def _not_configured(current: Observation, missing: PaymentState, state: PaymentState) -> Hold:
    unknown = ", and without it syncd cannot tell whether Halo's row is paid"
    return held(
        HoldCode.STATUS_NOT_CONFIGURED,
        current.intent_id,
        state=state,
        missing=missing,
        because="" if missing is state else unknown,
    )


def _unreadable_amount(current: Observation) -> Hold:
    problem = f"Stripe's answer for {current.intent_id} has no readable amount or currency"
    return held(HoldCode.AMOUNT_UNREADABLE, current.intent_id, problem=problem)


def _unknown_currency(current: Observation, money: Money) -> Hold:
    return held(HoldCode.CURRENCY_UNKNOWN, current.intent_id, currency=money.currency.upper())


def _contradiction(payment: Payment) -> Hold:
    current, read = payment.current, payment.read
    itself = "none of the five states" if read is None or read.state is None else read.state
    return held(
        HoldCode.STRIPE_CONTRADICTS_ITSELF,
        current.intent_id,
        state=current.state,
        intent_state=itself,
    )


def held(code: HoldCode, intent_id: str, **facts: object) -> Hold:
    """A hold with the message that the registry of holds has for the code."""
    return Hold(code, message(code, intent_id, **facts))


def invoice_number(text: str) -> int | None:
    """Read Halo's invoice number from metadata; None if the text is not an invoice number.

    Numbers below one belong to recurring templates, which nobody pays (source: Halo's clients).
    """
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit() and len(stripped) <= 10):
        return None
    number = int(stripped)
    return number if 0 < number < 2**31 else None
