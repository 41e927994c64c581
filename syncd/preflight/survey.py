"""Collects the evidence for `calibrate`: the status numbers in a tenant's own rows.

Halo is read page by page, newest rows first. Stripe is asked only about rows without a trace, and
only for a limited number. Memory grows with the tenant's numbers, not with its rows, except for the
rows' own numbers (to detect a repeated page) and at most BARE_MAX rows without a trace.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from syncd.clients.halo.details import Names
from syncd.clients.halo.parse import TracedPage
from syncd.clients.halo.sink import HaloSink
from syncd.clients.paging import read_pages
from syncd.clients.stripe.parse import Unreadable
from syncd.clients.stripe.source import StripeSource
from syncd.clients.webhook_payload import Author, TracedRow, author_of
from syncd.core.errors import CursorRefused, IntentUnknown, LinkFailure, Side
from syncd.core.payments import INTENT_ID, PaymentState
from syncd.core.rules.deliveries import Undelivered
from syncd.preflight.calibration import Evidence, Example, Seen, Tally
from syncd.store.history import Sent
from syncd.store.store import Store
from syncd.sync.pull.deliveries import Deliveries

BARE_MAX = 2_000
"""How many rows without a trace, the newest, are compared with Stripe."""

LISTED_PAGES_MAX = 20
"""How many pages of 100 payment intents are listed for them."""

SINGLE_READS_MAX = 25
"""Up to this number, payment intents are read one at a time, which is cheaper than a listing."""

ALONE_MAX = 20
"""How many rows that a list shows without their payment are read by their ids."""

BLANK_MAX = 4
"""After so many rows without a payment, no further row is read by its id."""

NEW_ROW_VALUES_MAX = 20

BY_HAND_MAX = 5
"""How many rows without a payment intent, the newest, are shown."""

Progress = Callable[[int, int | None], None]
"""Called with the number of rows read, and the number of all rows if known."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A row without a trace: only Stripe knows the state of its payment."""

    row: int
    intent_id: str
    number: int


@dataclass(slots=True)
class Survey:
    """What was found in Halo's rows.

    Attributes:
        tally: the evidence.
        rows: how many rows were read.
        total: the number of all rows by Halo's count; None without a count.
        whole: whether certainly all rows were read.
        authors: how many rows were written by whom.
        doubtful: events without a secret, in rows of payments for which syncd knows of no write, by
            state and number.
        new_row: how many of Stripe's rows have which `method` and `module_id`.
        method_names: the rows' names of their method, by its number.
        names: names for the tenant's numbers, as far as Halo shows them.
        by_hand: the newest rows without a payment intent, each with its status.
        livemodes: the modes in the rows' traces: live mode (True) and test mode (False).
        last_webhook: the newest row that Halo's own webhook wrote.
        last_webhook_at: when that webhook came, by Halo's clock; None if unknown.
        last_syncd: the newest row with a trace of syncd.
        newest: the newest row that belongs to a payment intent.
        bare: the newest rows without a trace.
        unasked: rows without a trace about which Stripe was not asked, because there were too many.
        unknown: rows without a trace whose payment intent Stripe does not know under this key.
        alone: how many rows were read by their ids, because the list shows them without their
            payment; a row without a payment counts for several.
        undelivered: Stripe's payment events that a webhook endpoint has not accepted; None if
            Stripe did not list them.
        trouble: why Stripe could not be asked, for people; None if it was asked, or need not be.
    """

    tally: Tally = field(default_factory=Tally)
    rows: int = 0
    total: int | None = None
    whole: bool = False
    authors: Counter[Author] = field(default_factory=Counter)
    doubtful: dict[tuple[PaymentState | None, int], Seen] = field(default_factory=dict)
    new_row: Counter[tuple[int | None, int | None]] = field(default_factory=Counter)
    method_names: dict[int, str] = field(default_factory=dict)
    names: Names = field(default_factory=lambda: Names({}, {}))
    by_hand: list[tuple[int, int]] = field(default_factory=list)
    livemodes: Counter[bool] = field(default_factory=Counter)
    last_webhook: Example | None = None
    last_webhook_at: datetime | None = None
    last_syncd: Example | None = None
    newest: Example | None = None
    bare: list[Bare] = field(default_factory=list)
    unasked: int = 0
    unknown: int = 0
    alone: int = 0
    undelivered: Undelivered | None = None
    trouble: str | None = None

    def take(self, traced: Iterable[TracedRow], sent: Sent) -> None:
        """Add rows, newest first. `sent` is what syncd's memory knows about their payments."""
        for one in traced:
            row = one.row
            author = author_of(one, sent=sent.may_include(row.intent_id, one.received))
            self.authors[author] += 1
            if one.trace is not None and one.trace.livemode is not None:
                self.livemodes[one.trace.livemode] += 1
            if one.method is not None and one.method_name is not None:
                self.method_names.setdefault(one.method, one.method_name)
            if row.id is None or row.intent_id is None:
                if row.id and row.status is not None and len(self.by_hand) < BY_HAND_MAX:
                    self.by_hand.append((row.id, row.status))
                continue
            here = Example(row.id, row.intent_id)
            self.newest = max(self.newest or here, here)
            if one.trace is not None and one.trace.has_secret and one.trace.is_event:
                self._webhook(here, one.received)
            if author is not Author.SYNCD:
                self._count_new_row(one)
            elif one.trace is not None and not one.trace.has_secret:
                self.last_syncd = max(self.last_syncd or here, here)
            if row.status is None:
                continue
            if author is Author.WEBHOOK and one.trace is not None:
                self.tally.add(
                    Evidence(row.id, row.intent_id, one.trace.state, row.status, webhook=True)
                )
            elif author is Author.DOUBTFUL and one.trace is not None:
                key = one.trace.state, row.status
                self.doubtful[key] = self.doubtful.get(key, Seen()).with_one(here)
            elif author is Author.BARE and len(self.bare) < BARE_MAX:
                self.bare.append(Bare(row.id, row.intent_id, row.status))
            elif author is Author.BARE:
                self.unasked += 1

    def _webhook(self, here: Example, at: datetime | None) -> None:
        if self.last_webhook is None or here > self.last_webhook:
            self.last_webhook = here
        if at is not None and (self.last_webhook_at is None or at > self.last_webhook_at):
            self.last_webhook_at = at

    def method_text(self, method: int | None) -> str:
        """A method's number with its name, if Halo shows the name."""
        if method is None:
            return "(none)"
        number = self.names.method_list(self.method_names)
        listed = {} if number is None else self.names.lists[number]
        name = listed.get(method) or self.method_names.get(method)
        return f"{method} ({name})" if name else str(method)

    def module_text(self, module: int | None) -> str:
        """A module's number with its name, if Halo shows the name."""
        if module is None:
            return "(none)"
        name, enabled = self.names.modules.get(module, ("", True))
        off = "" if enabled else ", switched off"
        return f"{module} ({name}{off})" if name else str(module)

    def _count_new_row(self, one: TracedRow) -> None:
        key = one.method, one.module_id
        if key in self.new_row or len(self.new_row) < NEW_ROW_VALUES_MAX:
            self.new_row[key] += 1


async def named(page: TracedPage, sink: HaloSink, survey: Survey, alone_max: int) -> TracedPage:
    """The page, with payments for rows that this tenant's lists show without `intent_id`.

    An event that Halo left in a row names the row's payment. A row without an event is read by its
    id, the newest first. If a list has shown a payment intent, a row without one belongs to no
    payment.

    Args:
        page: rows as the list shows them.
        sink: reads rows by their ids.
        survey: counts the rows that were read by their ids.
        alone_max: how many rows may be read by their ids in the whole survey.
    """
    sink.lists.take(page.page.rows)
    if sink.lists.shown:
        return page
    found = []
    for one in page.traced:
        intent_id = None if one.trace is None else one.trace.intent_id
        if intent_id is not None and not INTENT_ID.fullmatch(intent_id):
            intent_id = None
        if intent_id is None and one.row.id is not None and survey.alone < alone_max:
            read = await sink.lists.alone(one.row)
            intent_id = None if read is None else read.intent_id
            # Rows that have no payment intent when read by their ids either: the list leaves out
            # empty fields, and hides nothing.
            survey.alone += alone_max // BLANK_MAX if intent_id is None else 1
        found.append(replace(one, row=replace(one.row, intent_id=intent_id)))
    return TracedPage(page.page, tuple(found))


def take_page(survey: Survey, page: TracedPage, store: Store) -> None:
    """Add one page of Halo's rows."""
    # Text that is not ASCII cannot be an id of Stripe's, and not every database accepts it.
    ids = (one.row.intent_id for one in page.traced)
    intents = {intent_id for intent_id in ids if intent_id is not None and intent_id.isascii()}
    survey.take(page.traced, store.sent(sorted(intents)))
    survey.total = page.page.total


async def read_rows(sink: HaloSink, store: Store, rows_max: int, progress: Progress) -> Survey:
    """Read Halo's newest rows, at most `rows_max` (and the rest of the last page).

    Raises:
        LinkFailure: the request failed.
    """
    survey, known = Survey(), set[int]()
    pending: list[tuple[TracedRow, ...]] = []

    def take(page: TracedPage) -> int:
        new = {row.id for row in page.page.rows if row.id is not None} - known
        known.update(new)
        pending.append(tuple(one for one in page.traced if one.row.id in new))
        return len(new)

    async for listed in sink.list_traced_rows(take):
        fresh = TracedPage(listed.page.page, pending.pop())
        take_page(survey, await named(fresh, sink, survey, ALONE_MAX), store)
        survey.rows = listed.seen
        progress(survey.rows, survey.total if survey.total is None else min(survey.total, rows_max))
        survey.whole = bool(listed.whole)
        if listed.seen >= rows_max:
            break
    return survey


async def read_names(sink: HaloSink, survey: Survey) -> None:
    """Read the names of the numbers in the rows; empty if the tenant does not show them."""
    if survey.new_row:
        with suppress(LinkFailure):
            survey.names = await sink.details.names()


async def read_deliveries(source: StripeSource, store: Store, survey: Survey) -> None:
    """Count the payment events that a webhook endpoint has not accepted; ignore failures."""
    with suppress(LinkFailure, CursorRefused):
        survey.undelivered = await Deliveries(source, store, source.calling.now).read()


async def ask_stripe(source: StripeSource, survey: Survey, progress: Progress) -> None:
    """Pair the rows without a trace with the present states of their payments at Stripe.

    If Stripe cannot be read, no row is paired: a half might be exactly the half that agrees.
    """
    before = survey.unasked
    try:
        await _pair(source, survey, progress)
    except (LinkFailure, CursorRefused) as error:
        survey.tally.bare.clear()
        survey.unknown, survey.unasked = 0, before + len(survey.bare)
        survey.trouble = str(error)


async def _pair(source: StripeSource, survey: Survey, progress: Progress) -> None:
    wanted: dict[str, list[Bare]] = {}
    for bare in survey.bare:
        wanted.setdefault(bare.intent_id, []).append(bare)
    total = len(wanted)

    def found(intent_id: str, state: PaymentState | None) -> None:
        for bare in wanted.pop(intent_id, ()):
            survey.tally.add(Evidence(bare.row, intent_id, state, bare.number, webhook=False))
        progress(total - len(wanted), total)

    if len(wanted) > SINGLE_READS_MAX:
        listed = 0
        async for page in read_pages(
            lambda cursor: source.intents(0, cursor),
            lambda page: page.cursor,
            Side.STRIPE,
            "payment intents",
        ):
            for seen in page.intents:
                found(seen.intent_id, seen.state)
            listed += 1
            if listed == LISTED_PAGES_MAX or not wanted:
                break
    for intent_id in list(wanted)[:SINGLE_READS_MAX]:
        try:
            read = await source.intent(intent_id)
        except IntentUnknown:
            survey.unknown += len(wanted.pop(intent_id))
            continue
        if not isinstance(read, Unreadable):
            found(intent_id, read.state)
    survey.unasked += sum(map(len, wanted.values()))
