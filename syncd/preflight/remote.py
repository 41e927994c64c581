"""The part of `check` that asks Stripe and Halo, with few requests, none of which writes.

It sends seven reads to Stripe (up to eleven if many events were not delivered). It reads one page
of Halo's rows, besides the sign-in; with `push.create_missing` also the names of modules and
methods (two requests). Each answer is used for everything that it shows. A side that does not
answer at all is not asked again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from syncd.clients.halo.sink import HaloSink
from syncd.clients.stripe.source import Probe, StripeSource
from syncd.config.model import Config
from syncd.core.errors import (
    CursorRefused,
    Failure,
    IntentUnknown,
    LinkFailure,
    PermissionMissing,
    Side,
    SignInRefused,
)
from syncd.core.payments import PaymentState
from syncd.core.rules.proof import WriteKind
from syncd.monitor.status import writes_known
from syncd.preflight.calibration import learn
from syncd.preflight.check import Area, Line, failed, passed, warned
from syncd.preflight.survey import Survey, named, read_names, take_page
from syncd.preflight.verdicts import (
    clock_line,
    deliveries_line,
    edit_line,
    halo_mode,
    halo_window_line,
    new_row_line,
    proven_numbers,
    status_lines,
    stripe_budget_line,
    stripe_mode,
    unset_lines,
    webhook_line,
    write_lines,
)
from syncd.store.coordination import PAYING_NUMBER, PROVEN_NUMBERS
from syncd.store.store import Store
from syncd.sync.pull.deliveries import Deliveries

NEEDED = {"events": "Events", "payment_intents": "PaymentIntents"}
ALONE_MAX = 4
"""How many rows are read by their ids if the list shows them without their payment."""

WATCHED = {"charges": "Charges", "refunds": "Refunds", "disputes": "Disputes"}
"""The permissions that Stripe's key needs, and those that only refunds and disputes need."""


@dataclass(slots=True)
class Sides:
    """Examines both sides once.

    Attributes:
        left: how many requests to a side are still allowed.
        tell: called with each line as soon as the line is known.
        remembers: whether the store knows which rows syncd wrote; False if the database is damaged.
    """

    config: Config
    source: StripeSource
    sink: HaloSink
    store: Store
    left: Callable[[Side], int]
    tell: Callable[[Line], None]
    remembers: bool = True
    _stripe_works: bool = field(init=False, default=False)

    async def look(self) -> None:
        """Examine Stripe, Halo, and what only both together show."""
        await self.look_at_stripe()
        self.tell(stripe_budget_line(self.config, self.left(Side.STRIPE)))
        survey = await self.look_at_halo()
        if survey is None:
            for line in unset_lines(self.config.halo.status.numbers):
                self.tell(line)
        if survey is not None and survey.newest is not None and self._stripe_works:
            await self._look_at_both(survey.newest.intent_id)

    # --- Stripe ----------------------------------------------------------------------------------

    async def look_at_stripe(self) -> None:
        """Test what the key may read."""
        livemode, ahead = None, None
        for kind, name in (NEEDED | WATCHED).items():
            try:
                seen = await self.source.probe(kind)
            except (PermissionMissing, CursorRefused) as error:
                self._signed_in(None)
                self.tell(_not_allowed(kind, name, error))
                continue
            except LinkFailure as error:
                self._signed_in(error)
                return
            self._signed_in(None)
            self.tell(passed(Area.STRIPE, f"Stripe: read {name}", "allowed"))
            livemode, ahead = _first(seen, livemode, ahead)
        self.tell(stripe_mode(self.config.stripe_api_key, self.config.stripe.mode, livemode))
        self.tell(clock_line(Side.STRIPE, ahead))
        await self._look_at_deliveries()

    async def _look_at_deliveries(self) -> None:
        """Count the payment events that did not reach a webhook endpoint, which may be Halo's."""
        reader = Deliveries(self.source, self.store, self.source.calling.now)
        try:
            found = await reader.read(keep=self.remembers)
        except PermissionMissing:
            return  # the line about reading events reports this
        except (LinkFailure, CursorRefused) as error:
            text = f"Stripe did not list the events that were not delivered: {_found(error)}"
            remedy = "Wait until Stripe answers; syncd continues to push."
            self.tell(warned(Area.STRIPE, "webhook deliveries", text, remedy))
        else:
            self.tell(deliveries_line(found))

    def _signed_in(self, error: LinkFailure | None) -> None:
        """Report once whether Stripe answers at all."""
        what, base = "Stripe: sign-in", self.config.stripe.api_base
        if error is not None:
            self.tell(_out_of_reach(Side.STRIPE, error))
        elif not self._stripe_works:
            account = self.config.stripe.account
            beside = f" for {account}" if account else ""
            self.tell(passed(Area.STRIPE, what, f"{base} accepts the key{beside}"))
        self._stripe_works = error is None

    # --- Halo ------------------------------------------------------------------------------------

    async def look_at_halo(self) -> Survey | None:
        """Test the application's permissions, and read Halo's newest rows; None if unreadable."""
        url, survey = self.config.halo.url, Survey()
        try:
            async for listed in self.sink.list_traced_rows(lambda page: len(page.traced)):
                survey.rows = listed.seen
                page = await named(listed.page, self.sink, survey, ALONE_MAX)
                take_page(survey, page, self.store)
                break
        except (SignInRefused, PermissionMissing) as error:
            if not self.sink.signed_in:
                self.tell(_out_of_reach(Side.HALO, error))
                return None
            self.tell(passed(Area.HALO, "Halo: sign-in", f"{url} accepts the application"))
            remedy = "Give the application and its agent role the permission to read invoices."
            self.tell(failed(Area.HALO, "Halo: read invoices", _found(error), remedy))
            return None
        except Failure as error:
            self.tell(_out_of_reach(Side.HALO, error))
            return None
        self.tell(passed(Area.HALO, "Halo: sign-in", f"{url} accepts the application"))
        count = "" if survey.total is None else f", {survey.total:,} rows"
        self.tell(passed(Area.HALO, "Halo: read invoices", f"allowed{count}"))
        notes = self.store.notes() if self.remembers else {}
        proven = writes_known(notes)[WriteKind.UPDATE] > 0
        granted = self.sink.sign_in.granted
        self.tell(edit_line(self.config.halo.scope, granted, survey, has_written=proven))
        for line in write_lines(notes, creates=self.config.push.create_missing):
            self.tell(line)
        self.tell(halo_mode(self.config.stripe_api_key, survey.livemodes))
        self.tell(clock_line(Side.HALO, self.sink.connection.ahead_seconds))
        self.tell(halo_window_line(self.config, survey.total, self.left(Side.HALO)))
        self.tell(webhook_line(survey))
        if self.config.push.create_missing:
            await read_names(self.sink, survey)
        made = new_row_line(self.config, survey)
        if made is not None:
            self.tell(made)
        self._compare_numbers(survey)
        return survey

    def _compare_numbers(self, survey: Survey) -> None:
        """Compare the five numbers, and store the proven ones: their rows may be old next time."""
        numbers, findings = self.config.halo.status.numbers, learn(survey.tally)
        earlier = proven_before(self.store)
        lines = status_lines(
            numbers,
            findings,
            survey,
            remembers=self.remembers,
            proven=earlier,
            paying=self.store.read(PAYING_NUMBER),
        )
        for line in lines:
            self.tell(line)
        if self.remembers:
            note_proven(self.store, proven_numbers(numbers, findings))

    async def _look_at_both(self, intent_id: str) -> None:
        """Test whether this key can read the payment of Halo's newest row."""
        what = "one account on both sides"
        try:
            await self.source.intent(intent_id)
        except IntentUnknown:
            text = f"Stripe doesn't know {intent_id}, the payment of Halo's newest row"
            remedy = (
                "Compare the account and the mode of the Stripe key (and stripe.account) with "
                "the Stripe account that Halo's integration uses."
            )
            self.tell(warned(Area.CONFIGURATION, what, text, remedy))
        except LinkFailure as error:
            self.tell(warned(Area.STRIPE, what, str(error), "Wait until Stripe answers."))
        else:
            self.tell(passed(Area.STRIPE, what, f"Stripe knows {intent_id}, of Halo's newest row"))


def proven_before(store: Store) -> dict[PaymentState, int]:
    """The status numbers that an earlier `check` or `calibrate` found in rows of Halo's webhook."""
    found = {state: store.read(note) for state, note in PROVEN_NUMBERS.items()}
    return {state: number for state, number in found.items() if number is not None}


def note_proven(store: Store, numbers: Mapping[PaymentState, int]) -> None:
    """Store status numbers as proven."""
    store.write_notes(
        {PROVEN_NUMBERS[s].name: PROVEN_NUMBERS[s].encode(n) for s, n in numbers.items()}
    )


def _first(
    seen: Probe, livemode: bool | None, ahead: float | None
) -> tuple[bool | None, float | None]:
    """Keep the first known value of each."""
    return (
        seen.livemode if livemode is None else livemode,
        seen.ahead_seconds if ahead is None else ahead,
    )


def _not_allowed(kind: str, name: str, error: Failure) -> Line:
    what = f"Stripe: read {name}"
    remedy = f'In Stripe\'s dashboard, give the restricted key the permission "{name}": read.'
    if kind in WATCHED:
        remedy += " Only the watch for refunds and disputes and syncd audit need this permission."
        return warned(Area.STRIPE, what, _found(error), remedy)
    return failed(Area.STRIPE, what, _found(error), remedy)


def _found(error: Failure) -> str:
    """The problem without the remedy, which is shown on its own line."""
    return error.found if isinstance(error, PermissionMissing) else str(error)


def _out_of_reach(side: Side, error: Failure) -> Line:
    name = str(side).capitalize()
    what = f"{name}: {'sign-in' if isinstance(error, SignInRefused) else 'connection'}"
    remedy = f"syncd did not check anything else of {name}."
    return failed(Area(side), what, str(error), remedy)
