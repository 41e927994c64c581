"""Every hold and failure that the attention list can show: what it means, and what ends it.

The page, the commands, notifications, docs/operate.md and the tests read this registry. A new code
needs one entry here, and the place that decides when it applies. Does not belong here: when
something is held (`core.rules.decisions`, `sync`), and how an entry is displayed.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class HoldCode(StrEnum):
    """The machine-readable code of an entry on the attention list."""

    STATUS_NOT_CONFIGURED = "status_not_configured"
    HALO_SAYS_SUCCEEDED = "halo_says_succeeded"
    AMOUNT_MISMATCH = "amount_mismatch"
    AMOUNT_UNREADABLE = "amount_unreadable"
    CURRENCY_UNKNOWN = "currency_unknown"
    ROW_UNREADABLE = "row_unreadable"
    ROW_DELETED = "row_deleted"
    INSERT_UNPROVEN = "insert_unproven"
    INVOICE_UNREADABLE = "invoice_unreadable"
    STRIPE_CONTRADICTS_ITSELF = "stripe_contradicts_itself"
    STRIPE_UNREADABLE = "stripe_unreadable"
    HALO_REFUSES = "halo_refuses"
    UNREADABLE = "unreadable"
    ROWS_UNLISTED = "rows_unlisted"
    REVERSALS_UNKNOWN = "reversals_unknown"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    WRITES_REFUSED = "writes_refused"
    WRITES_NOT_STORED = "writes_not_stored"
    WRITES_HAVE_SIDE_EFFECTS = "writes_have_side_effects"


class Scope(StrEnum):
    """What a hold applies to."""

    PAYMENT = "payment"
    REVERSAL = "reversal"  # a refund or a dispute
    ANSWER = "answer"  # an event or another object that could not be parsed
    TENANT = "tenant"  # the whole tenant: syncd pushes nothing until the hold is lifted


class LiftedBy(StrEnum):
    """What lifts a hold automatically; syncd then decides again.

    Every hold of a payment is also lifted by a new state from Stripe, and by a retry.
    """

    STATUS_NUMBERS = "halo.status"
    ON_AMOUNT_MISMATCH = "push.on_amount_mismatch"
    CREATE_MISSING = "push.create_missing"
    ROW_FOUND = "a row of the payment is found in Halo"
    ROW_FOUND_UNCOMPARED = "a row is found in Halo, and syncd need not compare its amount"
    INTENT_READ = "the payment intent could be read"
    AUTOMATIC_RETRY = "the next automatic retry"

    @property
    def is_config_key(self) -> bool:
        """Whether the cause is a change of this configuration key."""
        return self in (self.STATUS_NUMBERS, self.ON_AMOUNT_MISMATCH, self.CREATE_MISSING)


@dataclass(frozen=True, slots=True)
class HoldEntry:
    """One hold or failure, with the texts that every part of syncd uses.

    Attributes:
        title: a heading of a few words.
        meaning: what the code means in general, in one to three sentences.
        sentence: what happened in one case. Facts stand in braces; `{id}` is the entry's id.
        effect: what syncd does.
        remedy: what the reader can do before running the command.
        command: the command to run after that, with `{id}`.
        scope: what the hold applies to.
        lifted_by: what lifts the hold automatically.
        retried_as_new: whether a retry forgets that Halo ever acknowledged the payment.
    """

    title: str
    meaning: str
    sentence: str
    effect: str
    remedy: str
    command: str
    scope: Scope = Scope.PAYMENT
    lifted_by: frozenset[LiftedBy] = frozenset()
    retried_as_new: bool = False


_RETRY = "syncd attention retry {id}"
_DISMISS = "syncd attention dismiss {id}"
_RESYNC = "syncd resync {id}"
_TENANT_STOPPED = (
    "syncd writes nothing more in this tenant, and tries one row again once a day and after a change "
    "of the configuration."
)
_WRITES_NOTHING = "syncd writes nothing for this payment."

HOLDS: Mapping[HoldCode, HoldEntry] = {
    HoldCode.STATUS_NOT_CONFIGURED: HoldEntry(
        title="A status number is not configured",
        meaning="The number that a state has in your tenant is not set, so syncd cannot write the "
        "state. Or the number of `succeeded` is not set, so syncd cannot tell whether Halo's row is "
        "paid.",
        sentence="Stripe says {id} is {state}, but halo.status.{missing} is not set{because}.",
        effect=_WRITES_NOTHING,
        remedy="Set the number in [halo.status]; `syncd calibrate --write` finds it.",
        command="systemctl reload syncd",
        lifted_by=frozenset({LiftedBy.STATUS_NUMBERS, LiftedBy.CREATE_MISSING}),
    ),
    HoldCode.HALO_SAYS_SUCCEEDED: HoldEntry(
        title="Halo shows the payment as paid, Stripe does not",
        meaning="Halo's row has the number of `succeeded`. syncd asked Stripe twice, and Stripe "
        "reports another state. A person may have booked the payment by other means, for "
        "example after a bank transfer.",
        sentence="Halo shows {id} as succeeded, but Stripe says {state}; syncd asked Stripe twice.",
        effect="syncd leaves Halo's row as it is.",
        remedy="If a person booked the payment by other means, dismiss the entry "
        f"(`{_DISMISS}`). Otherwise correct the row in Halo.",
        command=_RETRY,
        lifted_by=frozenset({LiftedBy.STATUS_NUMBERS}),
    ),
    HoldCode.AMOUNT_MISMATCH: HoldEntry(
        title="The amounts differ",
        meaning="Halo's rows for the payment add up to another amount than Stripe received. "
        "Causes are a partial capture, or a row that a person edited. A surcharge or a "
        "tip that Stripe shows does not cause this entry. If such differences are usual "
        'in your tenant, `push.on_amount_mismatch = "push"` marks these payments as paid '
        "in spite of the difference.",
        sentence="Stripe received {received} for {id}, but Halo's {rows} for {id} {add} up to {total}.",
        effect=_WRITES_NOTHING,
        remedy="Correct the amounts of the rows in Halo.",
        command=_RETRY,
        lifted_by=frozenset({LiftedBy.ON_AMOUNT_MISMATCH}),
    ),
    HoldCode.AMOUNT_UNREADABLE: HoldEntry(
        title="An amount cannot be read",
        meaning="A row in Halo has no amount that is a number, or Stripe's answer has no amount or currency.",
        sentence="{problem}, so syncd cannot compare the amounts.",
        effect=_WRITES_NOTHING,
        remedy="Check the payment in Stripe's dashboard and its rows in Halo, and correct the amount.",
        command=_RESYNC,
        lifted_by=frozenset({LiftedBy.ON_AMOUNT_MISMATCH, LiftedBy.CREATE_MISSING}),
    ),
    HoldCode.CURRENCY_UNKNOWN: HoldEntry(
        title="The currency is unknown to syncd",
        meaning="syncd does not know how many decimals the currency has, so it cannot compare the "
        "amount with Halo's. Please report the currency to the project.",
        sentence="syncd does not know the decimals of {currency}, the currency of {id}.",
        effect=_WRITES_NOTHING,
        remedy="Book the payment in Halo by hand.",
        command=_DISMISS,
        lifted_by=frozenset(
            {
                LiftedBy.ON_AMOUNT_MISMATCH,
                LiftedBy.CREATE_MISSING,
                LiftedBy.ROW_FOUND_UNCOMPARED,
            }
        ),
    ),
    HoldCode.ROW_UNREADABLE: HoldEntry(
        title="A row in Halo cannot be used",
        meaning="Halo lists a row for the payment without a usable `id`, with another "
        "`intent_id` than the one that syncd asked for, or with a `status` that is not a "
        "number. Such a row may be paid already. So syncd does not update it, and does "
        "not create a second row.",
        sentence="Halo lists a row for {id} without a usable id, with another intent_id, or without a "
        "status that syncd can read.",
        effect=_WRITES_NOTHING,
        remedy="Open the invoice's payments in Halo and correct the row.",
        command=_RETRY,
    ),
    HoldCode.ROW_DELETED: HoldEntry(
        title="The row in Halo was deleted",
        meaning="Halo had a row for the payment and has none now. Find out why the row was "
        "deleted before you retry. A retry treats the payment as new: syncd looks for a "
        "row again, or creates one where `push.create_missing` is on.",
        sentence="Halo had a row for {id}, and has none now.",
        effect=_WRITES_NOTHING,
        remedy="If a person deleted the row on purpose, dismiss the entry "
        f"(`{_DISMISS}`). Otherwise treat the payment as new.",
        command=_RETRY,
        lifted_by=frozenset({LiftedBy.ROW_FOUND}),
        retried_as_new=True,
    ),
    HoldCode.INSERT_UNPROVEN: HoldEntry(
        title="Halo does not show a new row",
        meaning="syncd sent Halo a new row, and Halo does not show it among the payment's rows. "
        "A second request could put a second payment on the invoice, so syncd does not "
        "send the row again.",
        sentence="syncd sent Halo a new row for {id} on invoice {invoice}, but Halo does not show "
        "it among the payment's rows.{answered}",
        effect="syncd does not send the row again.",
        remedy="Open the invoice's payments in Halo. If the row is there, dismiss the entry "
        f"(`{_DISMISS}`). If it is not, let syncd send the row again.",
        command=_RETRY,
        lifted_by=frozenset({LiftedBy.ROW_FOUND}),
    ),
    HoldCode.INVOICE_UNREADABLE: HoldEntry(
        title="The metadata does not name an invoice",
        meaning="Only with `push.create_missing`: the payment's metadata names a Halo invoice, "
        "but its value is not a whole number above zero.",
        sentence=(
            "The metadata of {id} names a Halo invoice, but its value is not a whole number "
            "above zero."
        ),
        effect="syncd does not create a row.",
        remedy="Correct the payment's metadata in Stripe's dashboard.",
        command=_RESYNC,
        lifted_by=frozenset({LiftedBy.CREATE_MISSING, LiftedBy.ROW_FOUND}),
    ),
    HoldCode.STRIPE_CONTRADICTS_ITSELF: HoldEntry(
        title="Stripe's answers contradict each other",
        meaning="Stripe's events report one state and the payment intent reports another, and "
        "both cannot be true. To make syncd use the payment intent's state, run `syncd "
        "resync pi_…`.",
        sentence="Stripe's events say {state} for {id}, but the payment intent says {intent_state}.",
        effect=_WRITES_NOTHING,
        remedy="Check the payment in Stripe's dashboard.",
        command=_RESYNC,
    ),
    HoldCode.STRIPE_UNREADABLE: HoldEntry(
        title="Stripe cannot show the payment",
        meaning="Stripe's events do not show which state is true, and syncd cannot read the "
        "payment intent. Either this API key cannot see the payment, or the answer has "
        "no usable state, or Stripe has failed for an hour. syncd asks again after an "
        "hour, after six hours, then daily.",
        sentence="{problem}",
        effect="syncd leaves the payment's rows in Halo as they are, and asks Stripe again, "
        "later once a day.",
        remedy="Check the payment in Stripe's dashboard. To ask Stripe at once, use resync.",
        command=_RESYNC,
        lifted_by=frozenset({LiftedBy.INTENT_READ}),
    ),
    HoldCode.HALO_REFUSES: HoldEntry(
        title="Halo refuses the row",
        meaning="Halo refuses the row; the entry quotes Halo's error message. The cause is usually "
        "the invoice or the row, for example a closed period or a deleted customer. syncd tries "
        "again after 10 minutes, an hour, six hours, then daily.",
        sentence="Halo refuses {state} for {id}: {error}",
        effect="syncd retries automatically.",
        remedy="Correct the row or the invoice in Halo. To retry at once, use retry.",
        command=_RETRY,
        lifted_by=frozenset({LiftedBy.AUTOMATIC_RETRY}),
    ),
    HoldCode.UNREADABLE: HoldEntry(
        title="An answer from Stripe cannot be parsed",
        meaning="Stripe sent an event or an object that syncd cannot parse. The entry has the id "
        "of that event or object. If it belongs to one of your payments, run `syncd "
        "resync pi_…` with the id of the payment.",
        sentence="{problem}",
        effect="syncd ignores it.",
        remedy="Look for {id} in Stripe's dashboard, to know what it is.",
        command=_DISMISS,
        scope=Scope.ANSWER,
    ),
    HoldCode.ROWS_UNLISTED: HoldEntry(
        title="Halo cannot list a payment's rows",
        meaning="Stripe reports a refund or a dispute of a payment that syncd does not know. Halo fails "
        "to list the rows of this payment, but answers other requests. So syncd does not know whether "
        "the payment is in Halo. The entry disappears when Halo lists the rows, or when syncd reads the "
        "payment from Stripe.",
        sentence="Stripe reports a refund or a dispute of {intent}. Halo answers other requests, but "
        "fails to list the rows of this payment: {error} So syncd does not know whether the payment is "
        "in Halo.",
        effect="syncd asks Halo again later.",
        remedy="Look for the payment in Halo, and book the refund or the dispute there.",
        command=_DISMISS,
        scope=Scope.ANSWER,
    ),
    HoldCode.REVERSALS_UNKNOWN: HoldEntry(
        title="Refunds or disputes of a period are not known",
        meaning="syncd missed events of refunds or disputes, and Stripe's key may not list those.",
        sentence="Stripe's key may not list {what}, and Stripe no longer keeps their events. So syncd "
        "does not know the {what} since {day}.",
        effect="The next sweep lists them, if the key has the right.",
        remedy="Give the key read access to Refunds and Disputes in Stripe's dashboard. Or check the "
        "refunds and disputes of that period in the dashboard.",
        command=_DISMISS,
        scope=Scope.ANSWER,
    ),
    HoldCode.REFUNDED: HoldEntry(
        title="Refunded in Stripe, paid in Halo",
        meaning="Stripe refunded all or a part of a payment that Halo shows as paid.",
        sentence="{problem}",
        effect="syncd does not change Halo.",
        remedy="Book the refund in Halo.",
        command=_DISMISS,
        scope=Scope.REVERSAL,
    ),
    HoldCode.DISPUTED: HoldEntry(
        title="Disputed in Stripe, paid in Halo",
        meaning="The customer disputes a payment that Halo shows as paid. When the dispute ends or "
        "its amount changes, the entry comes back to the attention list.",
        sentence="{problem}",
        effect="syncd does not change Halo.",
        remedy="Answer the dispute in Stripe's dashboard, and book in Halo what was lost.",
        command=_DISMISS,
        scope=Scope.REVERSAL,
    ),
    HoldCode.WRITES_REFUSED: HoldEntry(
        title="Halo refuses every update",
        meaning="Halo refused the first rows that syncd sent in this tenant, even with all the "
        "columns that Halo's database demands. The cause is usually a permission of the "
        "API application, or a rule of your tenant.",
        sentence="{problem}",
        effect=_TENANT_STOPPED,
        remedy="Read Halo's error message, and give the agent of the API application the permission "
        "to edit invoices and payments.",
        command=_RETRY,
        scope=Scope.TENANT,
        lifted_by=frozenset({LiftedBy.AUTOMATIC_RETRY}),
    ),
    HoldCode.WRITES_NOT_STORED: HoldEntry(
        title="Halo does not store what syncd writes",
        meaning="Halo answered the write as if it had worked, but the row read again is not as syncd "
        "sent it. Nothing that syncd writes in this tenant would have an effect.",
        sentence="{problem}",
        effect=_TENANT_STOPPED,
        remedy="Open the row in Halo, and enter by hand what Halo did not store. If that works, report "
        "it to the project with the output of `syncd prove`.",
        command=_RETRY,
        scope=Scope.TENANT,
        lifted_by=frozenset({LiftedBy.AUTOMATIC_RETRY}),
    ),
    HoldCode.WRITES_HAVE_SIDE_EFFECTS: HoldEntry(
        title="A write changed more than syncd sent",
        meaning="syncd changed the status of a row, and other columns of the row changed as well: for "
        "example, Halo emptied the columns that the write left out. The entry lists the former "
        "contents.",
        sentence="{problem}",
        effect=_TENANT_STOPPED,
        remedy="Restore the row in Halo: open the payment on its invoice and enter the former "
        "contents that the entry lists.",
        command=_RETRY,
        scope=Scope.TENANT,
        lifted_by=frozenset({LiftedBy.AUTOMATIC_RETRY}),
    ),
}

RETRIED_AS_NEW = tuple(code for code, entry in HOLDS.items() if entry.retried_as_new)
"""The codes of payments that a retry treats as new payments."""

_UNKNOWN = HoldEntry(
    title="An entry of another version of syncd",
    meaning=(
        "This version of syncd does not know the code of the entry. Another version of "
        "syncd wrote it."
    ),
    sentence="{problem}",
    effect=_WRITES_NOTHING,
    remedy="Read the reason and correct its cause.",
    command=_RETRY,
)


def entry_of(code: str | None) -> HoldEntry:
    """The entry of a code; a general entry for a code that another version of syncd wrote."""
    try:
        return HOLDS[HoldCode(code or "")]
    except ValueError:
        return _UNKNOWN


def command_for(code: str | None, name: str) -> str:
    """The command that resolves an entry, ready to be pasted.

    Args:
        code: the entry's code.
        name: the entry's id; quoted for the shell if necessary.
    """
    return entry_of(code).command.format(id=shlex.quote(name))


def remedy_for(code: str | None, name: str) -> str:
    """What the reader can do, without the command at the end."""
    return entry_of(code).remedy.format(id=shlex.quote(name))


def message(code: HoldCode, name: str, **facts: object) -> str:
    """The whole message of an entry: what happened, what syncd does, what the reader can do.

    Args:
        code: the entry's code.
        name: the entry's id.
        facts: the values for the braces in the entry's sentence.
    """
    entry = HOLDS[code]
    happened = entry.sentence.format(id=name, **facts)
    return f"{happened} {entry.effect} {remedy_for(code, name)} Then run: {command_for(code, name)}"


def lifted_by(*causes: LiftedBy) -> tuple[HoldCode, ...]:
    """The codes of all holds that at least one of these causes lifts."""
    return tuple(code for code, entry in HOLDS.items() if entry.lifted_by.intersection(causes))
