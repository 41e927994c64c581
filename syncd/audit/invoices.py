"""Reads the invoices that an audit needs with few requests, and compares their paid rows.

A hundred invoices per request, newest first, as long as that is cheaper than one request each. The
remaining ones, and those for which the list shows too little, are read one at a time. Only the
invoices of differences are kept, so memory does not grow with the number of payments.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from syncd.audit.compare_invoices import (
    invoice_due,
    named,
    other_currency,
    several_payments,
    shown,
)
from syncd.audit.differences import Difference, Kind
from syncd.clients.halo.parse import InvoicePage
from syncd.clients.halo.sink import HaloSink
from syncd.core.errors import BadAnswer, PermissionMissing, ServerError, SignInRefused
from syncd.core.reversals import Reversal
from syncd.core.rows import Invoice, Row
from syncd.core.rules.blame import ReadFailures
from syncd.core.rules.decisions import Policy
from syncd.store.store import Store

FEW = 10
"""Up to this number, invoices are read one at a time, without the list."""

CURRENCIES_MAX = 100
"""How many invoices are read one at a time only for their currency, by default."""

AT_ONCE = 100
"""How many invoices are compared together."""


@dataclass(slots=True)
class Invoices:
    """Reads invoices, and compares them with their paid rows.

    Attributes:
        store: the audit's own database, with Halo's rows and Stripe's refunds and disputes.
        most: how many invoices may be read one at a time; None for no limit.
        keep_all: whether to keep every invoice that was read, for a report that lists all of them.
        progress: called with how many were read, and how many there are to read.
        refused: Halo's error message if syncd may not read invoices at all.
        read: how many invoices Halo has shown.
        known: the invoices that are kept, by Halo's number; None for one that Halo does not show.
    """

    sink: HaloSink
    store: Store
    policy: Policy
    most: int | None = None
    keep_all: bool = False
    progress: Callable[[int, int], None] = field(default=lambda _read, _total: None)
    refused: str | None = field(init=False, default=None)
    read: int = field(init=False, default=0)
    known: dict[int, Invoice | None] = field(init=False, default_factory=dict)
    _alone: int = field(init=False, default=0)
    _unread: int = field(init=False, default=0)
    _dark: int = field(init=False, default=0)
    _no_currency: set[int] = field(init=False, default_factory=set)
    _failures: ReadFailures[int] = field(init=False, default_factory=ReadFailures)
    _crowded: set[int] = field(init=False, default_factory=set)

    async def compare(
        self,
        since: int,
        until: int,
        paid: int | None,
        wanted: Collection[int],
        again: Callable[[], bool],
    ) -> list[tuple[Difference, ...]]:
        """Compare the invoices of the paid rows of a period; one group for each that differs.

        Args:
            since: Unix seconds at which the period begins.
            until: Unix seconds at which it ends (exclusive).
            paid: the tenant's status number of a succeeded payment; None compares no rows.
            wanted: further invoices to keep, because a difference names them.
            again: whether the limit allows another read of an invoice's rows.

        Raises:
            LinkFailure: the request failed.
        """
        judged: set[int] = set()
        if paid is not None:
            self.store.audit.index_invoices()
            self._crowded = set(self.store.audit.crowded_invoices(paid, since, until))
            judged = self._crowded.union(self.store.audit.paid_invoices(paid, since, until))
        keep = set(wanted)
        needed = judged | keep
        if self.most == 0:
            self._unread = len(needed)
            return []
        total, groups = len(needed), []
        async for invoices in self._read(needed):
            self.read += len(invoices)
            self.known |= {one.id: one for one in invoices if self.keep_all or one.id in keep}
            groups += await self._judge([one for one in invoices if one.id in judged], again)
            self.progress(min(self.read, total), total)
        groups += await self._compare_currencies()
        return groups

    def describe(self, difference: Difference) -> Difference:
        """Add the invoices' numbers, the customer, and the invoice's amounts if they help."""
        for name in difference.invoices:
            invoice = self.known.get(name.id)
            if invoice is not None:
                difference = named(difference, invoice)
        if (
            difference.kind not in (Kind.MISSING, Kind.WRONG_AMOUNT)
            or len(difference.invoices) != 1
        ):
            return difference
        name = difference.invoices[0]
        if name.id not in self.known:
            return difference
        invoice = self.known[name.id]
        detail = (
            f"Halo does not show invoice {name}."
            if invoice is None
            else shown(invoice, difference.currency)
        )
        return replace(difference, details=(*difference.details, detail))

    def left_out(self) -> list[str]:
        """What was not compared, for people."""
        if self.refused is not None:
            return [f"Halo does not let syncd read invoices, so none was compared: {self.refused}"]
        notes = []
        if self._dark:
            notes.append(
                f"Halo does not show the amounts of {_some(self._dark)}, so syncd cannot say whether "
                f"{_is(self._dark)} still due."
            )
        if self._unread:
            notes.append(
                f"{_some(self._unread)} {'was' if self._unread == 1 else 'were'} not read, so syncd "
                f"cannot say whether {_is(self._unread)} still due. "
                f"--invoices {self._alone + self._unread} reads up to so many, one request each."
            )
        if self._no_currency:
            number = len(self._no_currency)
            notes.append(
                f"Halo's list does not show the currency of {_some(number)}, so their currency was "
                f"not compared. --invoices {self._alone + number} reads these one by one."
            )
        return notes

    # --- reading -----------------------------------------------------------------------------------

    async def _read(self, needed: set[int]) -> AsyncIterator[list[Invoice]]:
        """Read these invoices: by pages while that is cheaper, then one at a time, newest first."""
        left = set(needed)
        if len(left) > FEW:
            async for page in self._pages(left):
                whole = [one for one in page if self._enough(one)]
                left.difference_update(one.id for one in whole)
                self._no_currency.update(one.id for one in whole if one.currency is None)
                yield whole
        batch = []
        for number in sorted(left, reverse=True):
            invoice = await self._single(number)
            if invoice is not None:
                batch.append(invoice)
                self.progress(self.read + len(batch), len(needed))
            if len(batch) >= AT_ONCE:
                yield batch
                batch = []
        if self._failures.unclear:
            await self._ask_for_anything()
        yield batch

    def _enough(self, invoice: Invoice) -> bool:
        """Whether the list shows all values of an invoice that comparisons need."""
        if invoice.due is None:
            return False
        return invoice.total is not None or (invoice.due <= 0 and invoice.id not in self._crowded)

    async def _pages(self, needed: Collection[int]) -> AsyncIterator[list[Invoice]]:
        """The needed invoices on Halo's list, page by page, as long as that is cheaper."""
        wanted, seen = set(needed), set[int]()
        number, lowest = 1, min(needed)
        while wanted:
            try:
                page = await self.sink.invoice_page(number)
            except (BadAnswer, PermissionMissing, SignInRefused, ServerError):
                return  # then one at a time
            new = {one.id: one for one in page.invoices if one.id not in seen}
            seen.update(new)
            found = [one for name, one in new.items() if name in wanted]
            wanted.difference_update(one.id for one in found)
            yield found
            if not new or not _worth(page, seen, lowest, len(wanted), number):
                return
            number += 1

    async def _single(self, number: int) -> Invoice | None:
        """Read one invoice; None if Halo does not show it.

        Raises:
            LinkFailure: Halo fails, and not only for single invoices: see `core.rules.blame`.
        """
        if self.refused is not None or (self.most is not None and self._alone >= self.most):
            self._unread += 1
            return None
        self._alone += 1
        try:
            invoice = await self._shown(number)
        except (PermissionMissing, SignInRefused) as error:
            # Its rows could be read, so only invoices are affected.
            self.refused = str(error)
            return None
        if invoice is None:
            self.known[number] = None
        if invoice is None or None in (invoice.total, invoice.due):
            self._dark += 1
        return invoice

    async def _shown(self, number: int) -> Invoice | None:
        """Read one invoice; None if Halo does not show it, or fails for this one.

        Raises:
            LinkFailure: Halo fails, and not only for single invoices: see `core.rules.blame`.
        """
        try:
            invoice = await self.sink.invoice(number)
        except BadAnswer:
            return None
        except ServerError as error:
            if self._failures.add(number, error):
                await self._ask_for_anything()
            return None
        self._failures.has_read()
        return invoice

    async def _ask_for_anything(self) -> None:
        """Read a page of Halo's rows, to test whether Halo fails only for single invoices.

        Raises:
            LinkFailure: Halo does not answer, so no invoice is at fault.
        """
        await self.sink.count_rows()
        self._failures.other_worked()

    # --- comparing ---------------------------------------------------------------------------------

    async def _judge(
        self, invoices: Sequence[Invoice], again: Callable[[], bool]
    ) -> list[tuple[Difference, ...]]:
        """Compare some invoices with their rows; a difference is read again before it counts."""
        groups = []
        for one, found in zip(invoices, self._differences(invoices), strict=True):
            differences = found
            if differences and again():  # the rows may have moved since they were listed
                with suppress(BadAnswer):  # then the listed rows count
                    rows = await self.sink.rows_of_invoice(one.id)
                    [differences] = self._differences([one], {one.id: rows})
            if differences:
                groups.append(differences)
        return groups

    def _differences(
        self, invoices: Sequence[Invoice], rows_now: dict[int, list[Row]] | None = None
    ) -> list[tuple[Difference, ...]]:
        """The differences between each of these invoices and its rows."""
        rows = self.store.audit.rows_on_invoices([one.id for one in invoices])
        rows |= rows_now or {}
        intents = {row.intent_id for some in rows.values() for row in some if row.intent_id}
        states = self.store.audit.states_of(intents)
        reversals = self.store.reversals.of(list(intents))
        return [
            tuple(self._of_one(one, rows.get(one.id, []), states, reversals)) for one in invoices
        ]

    def _of_one(
        self,
        invoice: Invoice,
        rows: Sequence[Row],
        states: Mapping[str, tuple[str, str | None]],
        reversals: Mapping[str, Sequence[Reversal]],
    ) -> Iterator[Difference]:
        names = {row.intent_id for row in rows if row.intent_id}
        intents = {name: states[name] for name in names if name in states}
        currencies = {name: code for name, (_, code) in intents.items() if code}
        foreign = other_currency(rows, invoice, currencies, self.policy)
        paying = next(iter(currencies.values())) if len(set(currencies.values())) == 1 else None
        back = [one for row in rows for one in reversals.get(row.intent_id or "", ())]
        several = invoice.id in self._crowded
        found = (
            [foreign]
            if foreign is not None  # amounts of two currencies cannot be compared
            else [
                several_payments(rows, invoice, self.policy, paying) if several else None,
                invoice_due(rows, invoice, list(dict.fromkeys(back)), self.policy, paying),
            ]
        )
        at_stripe = ", ".join(sorted({state for state, _ in intents.values()}))
        for one in found:
            if one is not None:
                yield replace(one, at_stripe=at_stripe)

    async def _compare_currencies(self) -> list[tuple[Difference, ...]]:
        """Read invoices one at a time if the list does not show their currencies; compare."""
        groups: list[tuple[Difference, ...]] = []
        most = CURRENCIES_MAX if self.most is None else self.most
        for number in sorted(self._no_currency, reverse=True)[:most]:
            self._alone += 1
            invoice = await self._shown(number)
            if invoice is None:
                continue
            if invoice.currency is None:  # then no invoice names its currency
                self._no_currency.clear()
                return groups
            self._no_currency.discard(number)
            if number in self.known:
                self.known[number] = invoice
            groups += [
                found
                for found in self._differences([invoice])
                if any(one.kind is Kind.WRONG_CURRENCY for one in found)
            ]
        if self._failures.unclear:
            await self._ask_for_anything()
        return groups


def _worth(page: InvoicePage, seen: set[int], lowest: int, wanted: int, number: int) -> bool:
    """Whether the next pages probably cost less than one request for each wanted invoice.

    Args:
        page: the last page read.
        seen: the invoices on all pages so far.
        lowest: the smallest number of a needed invoice.
        wanted: how many are still wanted.
        number: how many pages were read.
    """
    if not wanted or page.length == 0:
        return False
    numbers = [one.id for one in page.invoices]
    rest = wanted * page.length  # without a count, try so many pages
    if page.total is not None:
        rest = page.total - len(seen)
    elif number > wanted:
        return False
    if numbers == sorted(numbers, reverse=True):  # newest first, as requested
        last = numbers[-1]
        if last <= lowest:
            return False
        density = len(seen) / (max(seen) - last + 1)
        rest = min(rest, int((last - lowest) * density) + 1)
    return rest > 0 and -(-rest // page.length) <= wanted


def _some(number: int) -> str:
    return f"{number:,} invoice" if number == 1 else f"{number:,} invoices"


def _is(number: int) -> str:
    return "it is" if number == 1 else "they are"
