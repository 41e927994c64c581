"""The audit: reads both sides of a period, page by page, and collects the differences.

Read-only: it writes nothing to Stripe or Halo. Both sides are stored in a temporary database, so
memory holds one page and the differences. How the audit saves API requests:

- Stripe: the payment intents, refunds and disputes of the period, a hundred per request. A refund
  and a dispute name their payment intent, so charges are not read. Single payment intents are read
  only for rows with unlisted payments, and if only Halo shows a payment as paid.
- Halo: its rows and invoices, a hundred per request. A difference is read again by its payment
  intent before it counts, because rows move between pages while the pages are read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from syncd.audit.compare import agreeing, compare, unknown_at_stripe
from syncd.audit.compare_reversals import reversed_after
from syncd.audit.differences import Difference, Kind
from syncd.audit.invoices import Invoices
from syncd.audit.rows import description_of
from syncd.audit.summary import Adding, Audit, Fix, in_order, sums
from syncd.clients.paging import PAGES_MAX
from syncd.clients.stripe.parse import Unreadable
from syncd.core.errors import BadAnswer, CursorRefused, IntentUnknown, Side
from syncd.core.payments import Observation, PaymentState
from syncd.core.reversals import Reversal
from syncd.core.rows import Row
from syncd.core.rules.decisions import Policy
from syncd.store.coordination import LISTING_REFUSED
from syncd.store.store import Store
from syncd.sync.pull.read_back import AllRows
from syncd.sync.pull.reversals import ReversalSweeper

CONFIRM_MAX = 200
"""How many differences are read again, one at a time; Halo allows 300 requests in five minutes."""

ASK_STRIPE_MAX = 100
"""How many payment intents are read one at a time: Stripe's reads are limited per month."""

ELSEWHERE_MAX = 1_000
"""How many payments that are not Halo's are listed; the sums include all of them."""

_ORDER = {kind: place for place, kind in enumerate(Kind)}

_NOT_PAID_AT_STRIPE = frozenset({Kind.PAID_IN_HALO_ONLY, Kind.UNKNOWN_AT_STRIPE})
_BESIDE = frozenset({Kind.WRONG_AMOUNT, Kind.UNCLEAR})
"""The kinds of differences of a payment with paid rows, besides reversals and its invoice."""

_NEEDS_NO_CONFIRMING = frozenset({Kind.REFUNDED, Kind.DISPUTED, Kind.UNCLEAR})

_FOREVER = 2**53
"""A time later than any payment, in Unix seconds."""


@dataclass(slots=True)
class Auditor:
    """Compares both sides; made for one run.

    Attributes:
        all_rows: reads Halo's rows into `store`.
        policy: the configured status numbers and rules.
        store: the audit's own database, empty.
        memory: the service's store, with what it knows of deleted rows and of dismissed entries;
            None without one.
        invoices: reads Halo's invoices.
        fix: whether to make payments due there if a push could correct them.
        list_agreeing: whether to keep the payments on which both sides agree as well.
        progress: called with how many payments were listed, and the share of the period (0 to 1).
    """

    all_rows: AllRows
    policy: Policy
    reversal_sweeper: ReversalSweeper
    store: Store
    memory: Store | None
    invoices: Invoices
    now: Callable[[], float]
    fix: bool = False
    list_agreeing: bool = False
    progress: Callable[[int, float], None] = field(default=lambda _listed, _share: None)
    _differences: list[Difference] = field(init=False, default_factory=list)
    _agreeing: list[Difference] = field(init=False, default_factory=list)
    _places: dict[str, int] = field(init=False, default_factory=dict)
    _before: int = field(init=False, default=_FOREVER)
    _elsewhere: list[Difference] = field(init=False, default_factory=list)
    _elsewhere_sums: Adding = field(init=False, default_factory=Adding)
    _notes: list[str] = field(init=False, default_factory=list)
    _due: list[str] = field(init=False, default_factory=list)
    _counts: dict[str, int] = field(init=False, default_factory=dict)

    async def run(self, since: int, until: int | None = None) -> Audit:
        """Compare everything from a time (Unix seconds) to another one (exclusive), or to now.

        Raises:
            LinkFailure: a request failed.
        """
        started = int(self.now())
        if until is not None and until <= started:
            self._before = until
        await self._read_halo()
        await self.reversal_sweeper.list_since(since)
        for what, permission in (("refunds", "Charges and Refunds"), ("disputes", "Disputes")):
            if self.store.read(LISTING_REFUSED[what]) is not None:
                self._notes.append(
                    f"Stripe's key may not read {permission}, so no {what} were compared. Give the key "
                    "that permission in Stripe's dashboard."
                )
        end = min(started, self._before)
        try:
            await self._compare_intents(since, end)
        except CursorRefused as error:
            message = f"Stripe refused a page of its list of payment intents: {error}"
            raise BadAnswer(Side.STRIPE, message) from None
        await self._compare_strangers(since)
        await self._compare_earlier()
        await self._compare_invoices(since)
        self._say_what_was_left_out()
        return self._audit(since, end)

    def _audit(self, since: int, until: int) -> Audit:
        count = self._counts.get
        found = in_order([self.invoices.describe(one) for one in self._differences])
        differing = {p for one in found if not one.acknowledged for p in one.payments}
        known = {p for one in found for p in one.payments} - differing
        differ, acknowledged = self.store.audit.listed(differing), self.store.audit.listed(known)
        off = differing | known
        return Audit(
            since=since,
            until=until,
            payments=count("payments", 0),
            agree=count("halos", 0) - differ - acknowledged,
            differ=differ,
            acknowledged=acknowledged,
            not_halos=count("not_halos", 0),
            rows=self.store.rows.count(),
            findings=tuple(found),
            sums=sums(found),
            elsewhere=tuple(self._elsewhere),
            elsewhere_sums=self._elsewhere_sums.sums(),
            agreeing=tuple(
                self.invoices.describe(one)
                for one in self._agreeing
                if off.isdisjoint(one.payments)
            ),
            notes=tuple(self._notes),
            invoices=self.invoices.read,
            fix=self._fixed() if self.fix else None,
        )

    def _fixed(self) -> Fix:
        """Sort the differences by what happens to them now."""
        still = [one for one in self._differences if not one.acknowledged]
        due = set(self._due)
        pushable = dict.fromkeys(p for one in still if one.pushable for p in one.payments)
        rest = [payment for payment in pushable if payment not in due]
        left = {} if self.memory is None else self.memory.audit.left_to_people(rest)
        cared_for = due | left.keys()
        return Fix(
            due=tuple(self._due),
            listed=tuple(p for p in rest if left.get(p) is False),
            dismissed=tuple(p for p in rest if left.get(p) is True),
            left=sum(not (one.pushable and cared_for.issuperset(one.payments)) for one in still),
        )

    async def _read_halo(self) -> None:
        whole = await self.all_rows.read(by_number=True)
        if self.all_rows.hidden:
            self._notes.append(
                "Halo's lists do not show intent_id, so syncd looked up each payment whose row it "
                "did not know, and did not compare rows of payments that Stripe did not list."
            )
        if whole:
            return
        if self.store.rows.count() == 0:
            message = "Halo's API lists no rows, so syncd cannot compare anything with Stripe."
            raise BadAnswer(Side.HALO, message)
        self._notes.append(
            "Halo showed only a part of its rows, so there may be more differences than are "
            "listed here. Run the audit again."
        )

    # --- the payments that Stripe lists --------------------------------------------------------------

    async def _compare_intents(self, since: int, started: int) -> None:
        cursor, listed = None, 0
        for _ in range(PAGES_MAX):
            before = None if self._before == _FOREVER else self._before
            source = self.reversal_sweeper.source
            page = await source.intents(since, cursor, before, traced=self.fix)
            await self._compare_page(page.intents)
            for odd in page.unreadable:
                self._differences.append(
                    Difference(
                        Kind.UNCLEAR,
                        odd.text,
                        action="Look at the payment in Stripe's dashboard.",
                        intent_id=odd.id,
                    )
                )
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
        """Compare a page of payments; --fix needs their traces, so it runs per page."""
        ids = [current.intent_id for current in intents]
        self.store.take_in([replace(current, trace=None) for current in intents], self.now())
        rows, reversals = await self.all_rows.rows_of(ids), self.store.reversals.of(ids)
        known = self.memory.audit.acknowledged(ids) if self.memory is not None else set()
        dismissed = self._dismissed(reversals)
        mend: list[Observation] = []
        for current in intents:
            name = current.intent_id
            self._count("payments")

            def again(
                current: Observation, rows: Sequence[Row], name: str = name
            ) -> list[Difference]:
                return compare(
                    current,
                    rows,
                    reversals[name],
                    self.policy,
                    had_rows=name in known,
                    dismissed=dismissed,
                )

            findings, latest = await self._confirmed(current, rows[name], again)
            if findings:
                self._count("halos")
                self._differences += findings
                mend += [latest] if any(one.pushable for one in findings) else []
            elif rows[name]:
                self._count("halos")
                if self.list_agreeing:
                    policy = self.policy
                    self._agreeing.append(agreeing(current, rows[name], policy))
            elif current.state is not None:
                self._count("not_halos")
                self._keep_elsewhere(current)
        if self.fix and mend and self.memory is not None:
            self._due += self.memory.audit.make_due(mend, self.now())

    def _dismissed(self, reversals: Mapping[str, Sequence[Reversal]]) -> Mapping[str, str]:
        """What a person has dismissed of these refunds and disputes (`Reversal.acknowledged_as`)."""
        ids = [one.id for many in reversals.values() for one in many]
        return self.memory.audit.dismissed_words(ids) if self.memory is not None and ids else {}

    def _keep_elsewhere(self, current: Observation) -> None:
        """Keep a payment without any link to Halo: the reader decides whether it belongs there."""
        if current.state is not PaymentState.SUCCEEDED:
            return
        received = current.received
        one = Difference(
            kind=Kind.ELSEWHERE,
            meaning=description_of(current),
            intent_id=current.intent_id,
            made=current.created,
            at_stripe=str(current.state),
            in_halo="no row",
            stripe_amount=None if received is None else received.major,
            amount=None if received is None else received.major,
            currency=current.currency.upper() if current.currency else None,
        )
        self._elsewhere_sums.add(one)
        if len(self._elsewhere) < ELSEWHERE_MAX:
            self._elsewhere.append(one)

    async def _confirmed(
        self,
        current: Observation,
        rows: Sequence[Row],
        judge: Callable[[Observation, Sequence[Row]], list[Difference]],
    ) -> tuple[list[Difference], Observation]:
        """Read a difference again: Halo's rows, and if Halo shows paid, Stripe's payment intent."""
        findings = judge(current, rows)
        if all(one.kind in _NEEDS_NO_CONFIRMING for one in findings):
            return findings, current
        if not self._room("confirm", CONFIRM_MAX):
            return findings, current
        fresh = await self.all_rows.sink.rows_of(current.intent_id)
        findings = judge(current, fresh)
        paid = any(one.kind is Kind.PAID_IN_HALO_ONLY for one in findings)
        if paid and self._room("ask", ASK_STRIPE_MAX):
            asked = await self._ask(current.intent_id)
            if asked is not None:
                return judge(asked, fresh), asked
        return findings, current

    # --- payments that Stripe's list does not contain ---------------------------------------------

    async def _compare_strangers(self, since: int) -> None:
        """Rows of the period whose payment was not listed: an older payment, or an unknown one."""
        policy = self.policy
        for name in self.store.audit.strangers(since, self._before):
            if not self._room("ask", ASK_STRIPE_MAX):
                continue
            rows = self.store.rows.of([name])[name]
            try:
                current = await self.reversal_sweeper.source.intent(name)
            except IntentUnknown:
                self._differences.append(unknown_at_stripe(name, rows, policy))
                continue
            if isinstance(current, Observation):
                await self._compare_page([current])
        undated = self.store.audit.undated()
        if undated:
            self._notes.append(
                f"Rows in Halo without a readable date: {undated:,}. syncd did not look them up at Stripe."
            )

    async def _compare_earlier(self) -> None:
        """Payments created before the period that were refunded or disputed in it."""
        for name in self.store.audit.reversed_earlier(self._before):
            rows, reversals = self.store.rows.of([name]), self.store.reversals.of([name])
            self._differences += reversed_after(
                None,
                rows[name],
                reversals[name],
                self.policy,
                self._dismissed(reversals),
            )

    async def _compare_invoices(self, since: int) -> None:
        paid = self.policy.numbers.get(PaymentState.SUCCEEDED)
        if paid is None:
            self._notes.append(
                "halo.status.succeeded is not set (syncd calibrate), so paid invoices were not compared."
            )
        wanted = {name.id for one in self._differences for name in one.invoices}
        if self.list_agreeing:
            wanted |= {name.id for one in self._agreeing for name in one.invoices}
        self._places = {
            one.intent_id: place
            for place, one in enumerate(self._differences)
            if one.intent_id and one.kind in _NOT_PAID_AT_STRIPE | _BESIDE
        }
        for found in await self.invoices.compare(
            since, self._before, paid, wanted, lambda: self._room("confirm", CONFIRM_MAX)
        ):
            self._add_of_invoice(found)

    def _add_of_invoice(self, found: Sequence[Difference]) -> None:
        """Add an invoice's differences; if it has only one payment, the more important one leads."""
        first = replace(found[0], details=(*found[0].details, *(one.text for one in found[1:])))
        place = self._places.get(first.intent_id or "")
        if place is None:
            self._differences.append(first)
            return
        one = self._differences[place]
        if one.kind in _NOT_PAID_AT_STRIPE:
            return  # the customer is not asked to pay a paid invoice
        lead, beside = sorted((one, first), key=lambda f: _ORDER[f.kind])
        self._differences[place] = replace(
            lead,
            details=(*lead.details, beside.text),
            action=" ".join(filter(None, (lead.action, beside.action))),
            at_stripe=one.at_stripe,
            made=one.made,
            pushable=one.pushable,
        )

    # --- single readings, and how many ------------------------------------------------------------------

    async def _ask(self, intent_id: str) -> Observation | None:
        try:
            read = await self.reversal_sweeper.source.intent(intent_id)
        except IntentUnknown:
            return None
        return None if isinstance(read, Unreadable) else read

    def _count(self, what: str) -> None:
        self._counts[what] = self._counts.get(what, 0) + 1

    def _room(self, what: str, most: int) -> bool:
        """Count one single read. Returns whether the limit allows it."""
        self._count(what)
        return self._counts[what] <= most

    def _say_what_was_left_out(self) -> None:
        for what, most, text in (
            (
                "confirm",
                CONFIRM_MAX,
                "differences were not read a second time: some may be corrected by now",
            ),
            ("ask", ASK_STRIPE_MAX, "payments that only Halo lists were not looked up at Stripe"),
        ):
            left = self._counts.get(what, 0) - most
            if left > 0:
                self._notes.append(f"{left:,} {text}. An audit of a shorter period compares them.")
        self._notes += self.invoices.left_out()
