"""The audit: reads both sides since a date, page by page, and collects in what they differ.

Read-only: nothing is written to Stripe or Halo. Both sides are kept in a store of its own that is
thrown away, so memory holds one page and the findings. How it stays frugal:

- Stripe: the payment intents, refunds and disputes since the date, a hundred a request. A refund
  and a dispute name their payment intent, so charges needn't be read. Single intents are read only
  for rows whose payment wasn't listed, and where Halo says paid and Stripe doesn't.
- Halo: its rows, a hundred a request. A difference is read again by its intent before it counts:
  pages move while they are read. Invoices are one request each, so they are read only where a
  difference hangs on them: a missing row, a wrong amount, several payments on one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from syncd.audit_store import AuditStore
from syncd.comparing import (
    Difference,
    Finding,
    Sum,
    compare,
    reversed_after,
    several_payments,
    sums,
    unknown_at_stripe,
)
from syncd.decisions import invoice_number
from syncd.failures import BadAnswer, CursorRefused, IntentUnknown, Side
from syncd.observing import PAGES_MAX
from syncd.payments import Invoice, Observation, PaymentState, Row
from syncd.pushing import Pusher
from syncd.reversing import Reversing
from syncd.stripe_reading import Unreadable

CONFIRM_MAX = 200
"""Differences that are read again one by one; Halo allows 300 requests in five minutes."""

ASK_STRIPE_MAX = 100
"""Payment intents that are read one by one: Stripe's reads are rationed by the month."""

INVOICES_MAX = 100
"""Invoices that are read one by one."""

_NEEDS_NO_CONFIRMING = frozenset({Difference.REFUNDED, Difference.DISPUTED, Difference.UNCLEAR})


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        since, until: Unix seconds.
        payments: how many payment intents were compared.
        agree: how many of them have rows in Halo that agree.
        not_halos: how many have no row and nothing that calls for one.
        rows: how many rows Halo has in all.
        findings: the differences, by kind.
        sums: the same, added up by difference and currency.
        notes: what couldn't be compared, for people.
        due: the payments that were made due again.
    """

    since: int
    until: int
    payments: int
    agree: int
    not_halos: int
    rows: int
    findings: tuple[Finding, ...]
    sums: tuple[Sum, ...]
    notes: tuple[str, ...]
    due: tuple[str, ...] = ()


@dataclass(slots=True)
class Auditor:
    """Compares; made for one run.

    Attributes:
        pusher: reads Halo's rows into `store`; never asked to push.
        store: the audit's own, empty.
        memory: the service's store, for what it knows of rows that were; None where there is none.
        fix: whether to make due there what a push could put right.
        progress: told how many payments were listed, and how much of the time is covered (0 to 1).
    """

    pusher: Pusher
    reversing: Reversing
    store: AuditStore
    memory: AuditStore | None
    now: Callable[[], float]
    fix: bool = False
    progress: Callable[[int, float], None] = field(default=lambda _listed, _share: None)
    _findings: list[Finding] = field(init=False, default_factory=list)
    _notes: list[str] = field(init=False, default_factory=list)
    _due: list[str] = field(init=False, default_factory=list)
    _counts: dict[str, int] = field(init=False, default_factory=dict)
    _invoices: dict[int, Invoice | None] = field(init=False, default_factory=dict)

    async def run(self, since: int) -> Audit:
        """Compare everything since a time (Unix seconds).

        Raises:
            LinkFailure: a side can't be read.
        """
        started = int(self.now())
        await self._read_halo()
        await self.reversing.list_since(since)
        for what, said in (("refunds", "Charges and Refunds"), ("disputes", "Disputes")):
            if self.store.note(f"{what}_refused") is not None:
                self._notes.append(f"Stripe's key may not read {said}: no {what} were compared.")
        try:
            await self._compare_intents(since, started)
        except CursorRefused as error:
            message = f"Stripe broke off its list of payment intents: {error}"
            raise BadAnswer(Side.STRIPE, message) from None
        await self._compare_strangers(since)
        await self._compare_earlier()
        await self._compare_invoices(since)
        self._say_what_was_left_out()
        order = {kind: place for place, kind in enumerate(Difference)}
        self._findings.sort(key=lambda f: (order[f.kind], -(f.made or 0), f.intent_id or ""))
        count = self._counts.get
        return Audit(
            since, started, count("payments", 0), count("agree", 0), count("not_halos", 0),
            self.store.row_count(), tuple(self._findings), tuple(sums(self._findings)),
            tuple(self._notes), tuple(self._due),
        )  # fmt: skip

    async def _read_halo(self) -> None:
        whole = await self.pusher.all_rows.read()
        if whole:
            return
        if self.store.row_count() == 0:
            message = "Halo's rows can't be listed, so there is nothing to compare Stripe with."
            raise BadAnswer(Side.HALO, message)
        self._notes.append(
            "Halo showed only a part of its rows: what isn't a difference here may still be one."
        )

    # --- the payments that Stripe lists --------------------------------------------------------------

    async def _compare_intents(self, since: int, started: int) -> None:
        cursor, listed = None, 0
        for _ in range(PAGES_MAX):
            page = await self.reversing.source.intents(since, cursor)
            await self._compare_page(page.intents)
            for odd in page.unreadable:
                self._findings.append(Finding(Difference.UNCLEAR, odd.text, intent_id=odd.id))
            listed += len(page.intents)
            if page.oldest is not None and started > since:
                share = (started - page.oldest) / (started - since)
                self.progress(listed, min(1.0, max(0.0, share)))
            cursor = page.cursor
            if cursor is None:
                self.progress(listed, 1.0)
                return
        message = f"Stripe's list of payment intents since {since} does not end."
        raise BadAnswer(Side.STRIPE, message)

    async def _compare_page(self, intents: Sequence[Observation]) -> None:
        """Compare a page of payments; --fix needs their traces, so it is done with the page."""
        ids = [said.intent_id for said in intents]
        self.store.take_in([replace(said, trace=None) for said in intents], self.now())
        rows, reversals = self.store.rows_of(ids), self.store.reversals_of(ids)
        known = self.memory.acknowledged(ids) if self.memory is not None else set()
        mend: list[Observation] = []
        for said in intents:
            name = said.intent_id
            self._count("payments")

            def again(said: Observation, rows: Sequence[Row], name: str = name) -> list[Finding]:
                return compare(
                    said, rows, reversals[name], self.pusher.ways.policy, had_rows=name in known
                )

            findings, latest = await self._confirmed(said, rows[name], again)
            if findings:
                self._findings += [await self._with_invoice(one, said) for one in findings]
                mend += [latest] if any(one.pushable for one in findings) else []
            elif rows[name]:
                self._count("agree")
            elif said.state is not None:
                self._count("not_halos")
        if self.fix and mend and self.memory is not None:
            self._due += self.memory.make_due(mend, self.now())

    async def _confirmed(
        self,
        said: Observation,
        rows: Sequence[Row],
        judge: Callable[[Observation, Sequence[Row]], list[Finding]],
    ) -> tuple[list[Finding], Observation]:
        """Read what differs again: Halo's rows, and where Halo says paid, Stripe's intent."""
        findings = judge(said, rows)
        if all(one.kind in _NEEDS_NO_CONFIRMING for one in findings):
            return findings, said
        if not self._room("confirm", CONFIRM_MAX):
            return findings, said
        fresh = await self.pusher.sink.rows_of(said.intent_id)
        findings = judge(said, fresh)
        paid = any(one.kind is Difference.PAID_IN_HALO_ONLY for one in findings)
        if paid and self._room("ask", ASK_STRIPE_MAX):
            asked = await self._ask(said.intent_id)
            if asked is not None:
                return judge(asked, fresh), asked
        return findings, said

    # --- what Stripe's list doesn't hold -------------------------------------------------------------

    async def _compare_strangers(self, since: int) -> None:
        """Rows made since the date whose payment isn't among those made since: older, or unknown."""
        policy = self.pusher.ways.policy
        for name in self.store.strangers(since):
            if not self._room("ask", ASK_STRIPE_MAX):
                continue
            rows = self.store.rows_of([name])[name]
            try:
                said = await self.reversing.source.intent(name)
            except IntentUnknown:
                self._findings.append(unknown_at_stripe(name, rows, policy))
                continue
            if isinstance(said, Observation):
                await self._compare_page([said])
        undated = self.store.undated()
        if undated:
            self._notes.append(
                f"{undated} rows in Halo have no date that can be read; whether Stripe knows their "
                "payments wasn't asked."
            )

    async def _compare_earlier(self) -> None:
        """Payments made before the date, refunded or disputed since."""
        for name in self.store.reversed_earlier():
            rows, reversals = self.store.rows_of([name]), self.store.reversals_of([name])
            self._findings += reversed_after(
                None, rows[name], reversals[name], self.pusher.ways.policy
            )

    async def _compare_invoices(self, since: int) -> None:
        policy = self.pusher.ways.policy
        paid = policy.numbers.get(PaymentState.SUCCEEDED)
        if paid is None:
            self._notes.append(
                "halo.status.succeeded isn't configured: whether bills were paid can't be compared."
            )
            return
        for invoice_id in self.store.crowded_invoices(paid, since):
            if invoice_id not in self._invoices and not self._room("invoices", INVOICES_MAX):
                continue
            invoice = await self._invoice(invoice_id)
            found = several_payments(self.store.rows_on_invoice(invoice_id), invoice, policy)
            if found is not None:
                self._findings.append(found)

    # --- single readings -------------------------------------------------------------------------------

    async def _ask(self, intent_id: str) -> Observation | None:
        try:
            read = await self.reversing.source.intent(intent_id)
        except IntentUnknown:
            return None
        return None if isinstance(read, Unreadable) else read

    async def _with_invoice(self, finding: Finding, said: Observation) -> Finding:
        """Say how the invoice stands, where the difference hangs on it."""
        if finding.kind not in (Difference.MISSING, Difference.WRONG_AMOUNT):
            return finding
        number = finding.invoice_id
        if number is None and said.invoice is not None:
            number = invoice_number(said.invoice)
        if number is None or (
            number not in self._invoices and not self._room("invoices", INVOICES_MAX)
        ):
            return finding
        invoice = await self._invoice(number)
        if invoice is None:
            return replace(finding, text=f"{finding.text} Halo doesn't show invoice {number}.")
        parts = [
            "" if invoice.total is None else f" of {invoice.total:f}",
            f" {invoice.currency}" if invoice.currency else "",
            "" if invoice.due is None else f", {invoice.due:f} due",
        ]
        return replace(
            finding,
            text=f"{finding.text} Invoice {invoice.number or number}{''.join(parts)}.",
            invoice_id=number,
            invoice_number=finding.invoice_number or invoice.number,
        )

    async def _invoice(self, invoice_id: int) -> Invoice | None:
        if invoice_id not in self._invoices:
            try:
                self._invoices[invoice_id] = await self.pusher.sink.invoice(invoice_id)
            except BadAnswer:
                self._invoices[invoice_id] = None
        return self._invoices[invoice_id]

    # --- counting --------------------------------------------------------------------------------------

    def _count(self, what: str) -> None:
        self._counts[what] = self._counts.get(what, 0) + 1

    def _room(self, what: str, most: int) -> bool:
        """Count one single reading; whether there is room for it."""
        self._count(what)
        return self._counts[what] <= most

    def _say_what_was_left_out(self) -> None:
        for what, most, text in (
            ("confirm", CONFIRM_MAX, "differences were not read a second time: some may have been "
             "put right while this ran"),
            ("ask", ASK_STRIPE_MAX, "payments that Halo has rows of were not asked for at Stripe"),
            ("invoices", INVOICES_MAX, "invoices were not read"),
        ):  # fmt: skip
            left = self._counts.get(what, 0) - most
            if left > 0:
                self._notes.append(f"{left} {text}. A later date, or a second audit, shows them.")
