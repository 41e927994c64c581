"""The invoices that an audit reads: one request each, each once, no more than a number of them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from syncd.audit.compare import invoice_due, several_payments
from syncd.audit.findings import Difference, Finding, money
from syncd.clients.halo.sink import HaloSink
from syncd.core.decisions import Policy, invoice_number
from syncd.core.errors import BadAnswer, PermissionMissing, ServerTrouble, SignInRefused
from syncd.core.payments import Observation
from syncd.core.rows import Invoice, Row
from syncd.store.store import Store

INVOICES_MAX = 200
"""Invoices that are read, unless the operator says otherwise; Halo allows 300 requests in 5 minutes."""

TROUBLES_MAX = 3
"""After so many invoices on which Halo fails, it isn't the invoice."""


@dataclass(slots=True)
class Invoices:
    """Reads invoices, and says what their paid rows come to.

    Attributes:
        store: the audit's own, which holds Halo's rows and Stripe's refunds and disputes.
        most: how many invoices may be read.
        progress: told how many were read, and how many there are to read.
        refused: Halo's words, where it doesn't let us read invoices at all.
    """

    sink: HaloSink
    store: Store
    policy: Policy
    most: int = INVOICES_MAX
    progress: Callable[[int, int], None] = field(default=lambda _read, _total: None)
    refused: str | None = field(init=False, default=None)
    _read: dict[int, Invoice | None] = field(init=False, default_factory=dict)
    _unread: set[int] = field(init=False, default_factory=set)
    _troubles: int = field(init=False, default=0)

    async def compare(
        self, paid: int, since: int, again: Callable[[], bool]
    ) -> list[tuple[Finding, ...]]:
        """Compare the paid rows since a time with their invoices; one group for each that differs.

        Where several payments stand on one comes first, then the newest.

        Args:
            paid: the tenant's status number of what succeeded.
            since: Unix seconds.
            again: whether there is room to read an invoice's rows a second time.

        Raises:
            LinkFailure: Halo can't be read.
        """
        crowded = dict.fromkeys(self.store.audit.crowded_invoices(paid, since))
        numbers = list(dict.fromkeys([*crowded, *self.store.audit.paid_invoices(paid, since)]))
        found = []
        for place, number in enumerate(numbers, start=1):
            if not await self._take(number):
                continue
            several = number in crowded
            differ = self._judge(number, self.store.audit.rows_on_invoice(number), several=several)
            if differ and again():  # the rows may have moved since they were listed
                with suppress(BadAnswer):  # then what was listed counts
                    rows = await self.sink.rows_of_invoice(number)
                    differ = self._judge(number, rows, several=several)
            if differ:
                found.append(differ)
            self.progress(place, min(len(numbers), self.most))
        return found

    def _judge(self, number: int, rows: Sequence[Row], *, several: bool) -> tuple[Finding, ...]:
        invoice = self._read[number]
        intents = {row.intent_id for row in rows if row.intent_id}
        states, currencies = self.store.audit.said_of(intents)
        currency = currencies.pop() if len(currencies) == 1 else None
        name = invoice.number if invoice else None
        differ = several_payments(rows, invoice, self.policy, currency) if several else None
        due = None
        if invoice is not None:
            back = [one for many in self.store.reversals.of(list(intents)).values() for one in many]
            due = invoice_due(rows, invoice, back, self.policy, currency)
        return tuple(
            replace(
                one,
                invoice_number=one.invoice_number or name,
                at_stripe=", ".join(sorted(states)),
            )
            for one in (differ, due)
            if one is not None
        )

    @property
    def read(self) -> int:
        """How many invoices Halo has shown."""
        return sum(one is not None for one in self._read.values())

    async def described(self, finding: Finding, said: Observation) -> Finding:
        """Say how the invoice stands, where the difference hangs on it."""
        if finding.kind not in (Difference.MISSING, Difference.WRONG_AMOUNT):
            return finding
        number = finding.invoice_id
        if number is None and said.invoice is not None:
            number = invoice_number(said.invoice)
        if number is None or not await self._take(number):
            return finding
        invoice = self._read[number]
        if invoice is None:
            return replace(finding, text=f"{finding.text} Halo doesn't show invoice {number}.")
        currency = invoice.currency or finding.currency
        parts = [
            "" if invoice.total is None else f" of {money(invoice.total, currency)}",
            "" if invoice.due is None else f": {money(invoice.due, currency)} due",
        ]
        return replace(
            finding,
            text=f"{finding.text} Invoice {invoice.number or number}{''.join(parts)}.",
            invoice_id=number,
            invoice_number=finding.invoice_number or invoice.number,
        )

    def left_out(self) -> list[str]:
        """What wasn't compared, for people."""
        if self.refused is not None:
            return [f"Halo doesn't let invoices be read, so none was compared: {self.refused}"]
        notes = []
        dark = sum(one is None or None in (one.total, one.due) for one in self._read.values())
        if dark:
            notes.append(
                f"{dark} of the invoices that were asked for aren't shown by Halo, or without their "
                "amounts: whether they are still due isn't known."
            )
        if self._unread:
            left = len(self._unread)
            notes.append(
                f"{left} more invoices were not read: whether they are still due wasn't asked. "
                f"--invoices {len(self._read) + left} reads them too, one request each."
            )
        return notes

    # --- single readings ---------------------------------------------------------------------------

    async def _take(self, number: int) -> bool:
        """Read an invoice, where it wasn't yet. Returns whether it was asked for."""
        if number in self._read:
            return True
        if self.refused is not None or len(self._read) >= self.most:
            self._unread.add(number)
            return False
        try:
            self._read[number] = await self.sink.invoice(number)
        except BadAnswer:
            self._read[number] = None
        except (PermissionMissing, SignInRefused) as error:
            # Its rows could be read, so this is about invoices.
            self.refused = str(error)
            return False
        except ServerTrouble:
            self._troubles += 1
            if self._troubles >= TROUBLES_MAX:
                raise
            self._read[number] = None
        return True
