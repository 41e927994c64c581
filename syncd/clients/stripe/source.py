"""Reads Stripe; the only module that knows the `stripe` package (with `errors`).

It lists events, payment intents, refunds and disputes, and reads single payment intents. JSON stays
plain dictionaries, which `clients.stripe.parse` parses: building the package's objects costs twenty
times as much (measured), and an event may have the format of any API version.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import httpx
import stripe

from syncd.clients.http import ANSWER_SECONDS_MAX, client
from syncd.clients.retry import Calling, certain_at, outcome_of, server_time
from syncd.clients.stripe.charges import Charges
from syncd.clients.stripe.errors import failure_of, header
from syncd.clients.stripe.parse import (
    SeenEvent,
    Unreadable,
    next_cursor,
    read_dispute,
    read_event,
    read_intent,
    read_refund,
    unknown_status,
)
from syncd.core.errors import (
    BadAnswer,
    CursorRefused,
    IntentUnknown,
    LinkFailure,
    PermissionMissing,
    RateLimited,
    Side,
    Unreachable,
)
from syncd.core.payments import EVENT_TYPES, INTENT_ID, Observation
from syncd.core.reversals import REVERSAL_EVENT_TYPES, Reversal
from syncd.failpoints import Point, crash_point
from syncd.text.sanitize import conceal
from syncd.text.shape import shape_of

PAGE_SIZE = 100
"""The maximum page size of Stripe's listings."""

BODY_BYTES_MAX = 16 * 1024 * 1024
"""The largest answer that is accepted; a page of a hundred events takes about half a megabyte."""

_REVERSAL = re.compile(r"rak_(?:charge|refund|dispute)")
# The exceptions of the package for answers with an unexpected format.
_TRIPS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing.

    Attributes:
        events: for a listing of events: those that could be parsed.
        intents: for a listing of payment intents: those that could be parsed.
        reversals: for a listing of refunds or disputes: those that could be parsed.
        unreadable: those that could not be parsed.
        unknown_statuses: statuses of payment intents that syncd does not know.
        cursor: where the next page begins; None on the last page.
        server_time: Stripe's clock when it answered, Unix seconds; None if unknown.
        oldest: the smallest `created` on the page, Unix seconds.
    """

    events: tuple[SeenEvent, ...] = ()
    intents: tuple[Observation, ...] = ()
    reversals: tuple[Reversal, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    unknown_statuses: tuple[str, ...] = ()
    cursor: str | None = None
    server_time: int | None = None
    oldest: int | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What the first object of a listing shows.

    Attributes:
        ahead_seconds: how far Stripe's clock is ahead of the local clock; None if unknown.
        livemode: whether the object belongs to live mode; None without an object.
    """

    ahead_seconds: float | None
    livemode: bool | None


@dataclass(slots=True)
class StripeSource:
    """Reads Stripe for pulls, checks and audits.

    Attributes:
        account: the account to read (``acct_…``); empty or None for the key's own account.
        account_in_context: whether the account goes into the header ``Stripe-Context``, as an
            organization's key requires, instead of ``Stripe-Account``.
        transport: replaces the network in tests; None for the network.
        payment_types: the types of payment events that are listed.
        reversal_events_refused: whether the key may not read the events of refunds and disputes.
    """

    api_key: str = field(repr=False)
    api_base: str
    calling: Calling
    invoice_key: str
    account: str | None = None
    account_in_context: bool = False
    transport: Any = field(repr=False, default=None)
    payment_types: tuple[str, ...] = EVENT_TYPES
    reversal_events_refused: bool = field(init=False, default=False)
    _charges: Charges = field(init=False, repr=False)
    _client: stripe.StripeClient = field(init=False, repr=False)
    _http: stripe.HTTPXClient = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._charges = Charges(self._charge, lambda: self.probe("events"), self.calling.now)
        # The package would write a file into the home directory; a service has none.
        stripe.enable_telemetry = False
        conceal("Stripe's key", self.api_key)
        # The package's own client reads answers of any size, and cannot be created if NO_PROXY has
        # entries that httpx does not accept. So it gets syncd's client.
        ours = client(self.api_base, self.calling.timeout_seconds, BODY_BYTES_MAX, self.transport)
        library = SimpleNamespace(**{**vars(httpx), "AsyncClient": lambda **_: ours})
        self._http = stripe.HTTPXClient(
            timeout=self.calling.timeout_seconds,
            verify_ssl_certs=False,  # syncd's client verifies instead
            _lib=library,
        )
        self._client = stripe.StripeClient(
            self.api_key,
            stripe_account=None if self.account_in_context else self.account or None,
            stripe_context=self.account or None if self.account_in_context else None,
            base_addresses={"api": self.api_base.rstrip("/")},
            http_client=self._http,
            max_network_retries=0,  # syncd retries, and honours Retry-After, unlike the package
        )

    async def close(self) -> None:
        """Close the connections, and return the requests that were counted ahead."""
        self.calling.done()
        await self._http.close_async()  # type: ignore[no-untyped-call]  # stripe leaves it untyped

    async def events(self, since: int, cursor: str | None = None) -> Page:
        """List events created at `since` (Unix seconds) or later, newest first, one page.

        Raises:
            CursorRefused: Stripe does not accept the cursor.
            LinkFailure: the request failed.
        """
        params: dict[str, Any] = {"created": {"gte": since}, "types": self._types}
        try:
            body, clock = await self._list("/v1/events", params, cursor)
        except PermissionMissing as error:
            # A key may need the permission to read charges for their events (unknown): payment
            # events must not depend on it.
            if self.reversal_events_refused or not _REVERSAL.search(str(error)):
                raise
            params["types"] = list(self.payment_types)
            body, clock = await self._list("/v1/events", params, cursor)
            self.reversal_events_refused = True
        events: list[SeenEvent] = []
        unreadable: list[Unreadable] = []
        for raw in body["data"]:
            read = read_event(raw, self.invoice_key)
            if isinstance(read, SeenEvent) and read.reversal is not None:
                named = await self._charges.named(read.reversal, raw["data"]["object"])
                read = named if isinstance(named, Unreadable) else replace(read, reversal=named)
            if isinstance(read, Unreadable):
                unreadable.append(replace(read, shape=shape_of(raw)))
            else:
                events.append(read)
        return Page(
            events=tuple(events),
            unreadable=tuple(unreadable),
            cursor=next_cursor(body, cursor),
            server_time=clock,
        )

    async def undelivered(self, since: int, cursor: str | None = None) -> Page:
        """List payment events that a webhook endpoint has not accepted, newest first, one page.

        An event whose own `pending_webhooks` is 0 was accepted by every endpoint.

        Args:
            since: events created then or later, Unix seconds.
            cursor: where the page begins; None for the first page.

        Raises:
            CursorRefused: Stripe does not accept the cursor.
            LinkFailure: the request failed.
        """
        params = {
            "created": {"gte": since},
            "types": list(EVENT_TYPES),
            "delivery_success": "false",
        }
        body, clock = await self._list("/v1/events", params, cursor)
        read = [
            read_event(raw, self.invoice_key)
            for raw in body["data"]
            if isinstance(raw, dict)
            and raw.get("type") in EVENT_TYPES
            and raw.get("pending_webhooks") != 0
        ]
        return Page(
            events=tuple(one for one in read if isinstance(one, SeenEvent)),
            unreadable=tuple(one for one in read if isinstance(one, Unreadable)),
            cursor=next_cursor(body, cursor),
            server_time=clock,
        )

    @property
    def _types(self) -> list[str]:
        more = () if self.reversal_events_refused else REVERSAL_EVENT_TYPES
        return [*self.payment_types, *more]  # Stripe accepts at most 20

    async def refunds(self, since: int, cursor: str | None = None) -> Page:
        """List refunds created at `since` or later (Unix seconds), newest first, one page.

        Raises:
            CursorRefused: Stripe does not accept the cursor.
            PermissionMissing: the key may not read refunds.
            LinkFailure: the request failed.
        """
        return await self._reversals("/v1/refunds", read_refund, since, cursor)

    async def disputes(self, since: int, cursor: str | None = None) -> Page:
        """List disputes opened at `since` or later (Unix seconds); otherwise as `refunds`."""
        return await self._reversals("/v1/disputes", read_dispute, since, cursor)

    async def _reversals(
        self,
        path: str,
        reader: Callable[..., Reversal | Unreadable],
        since: int,
        cursor: str | None,
    ) -> Page:
        body, clock = await self._list(path, {"created": {"gte": since}}, cursor)
        found = []
        for raw in body["data"]:
            read = reader(raw, self._surely(clock), read=True)
            if isinstance(read, Reversal):
                read = await self._charges.named(read, raw)
            if isinstance(read, Unreadable):
                read = replace(read, shape=shape_of(raw))
            found.append(read)
        return Page(
            reversals=tuple(one for one in found if isinstance(one, Reversal)),
            unreadable=tuple(one for one in found if isinstance(one, Unreadable)),
            cursor=next_cursor(body, cursor),
            server_time=clock,
        )

    async def intents(
        self,
        since: int,
        cursor: str | None = None,
        before: int | None = None,
        *,
        traced: bool = True,
    ) -> Page:
        """List payment intents created at `since` or later (Unix seconds), newest first, one page.

        Without `traced`, they have no trace for Halo's rows, which saves half of the work.

        Raises:
            CursorRefused: Stripe does not accept the cursor.
            LinkFailure: the request failed.
        """
        created = {"gte": since} if before is None else {"gte": since, "lt": before}
        body, clock = await self._list("/v1/payment_intents", {"created": created}, cursor)
        intents: list[Observation] = []
        unreadable: list[Unreadable] = []
        unknown: list[str] = []
        for raw in body["data"]:
            read = read_intent(raw, self.invoice_key, self._surely(clock), traced=traced)
            if isinstance(read, Unreadable):
                unreadable.append(replace(read, shape=shape_of(raw)))
                continue
            intents.append(read)
            unknown += unknown_status(raw)
        made = [seen.created for seen in intents if seen.created is not None]
        return Page(
            intents=tuple(intents),
            unreadable=tuple(unreadable),
            unknown_statuses=tuple(unknown),
            cursor=next_cursor(body, cursor),
            server_time=clock,
            oldest=min(made, default=None),
        )

    async def intent(self, intent_id: str) -> Observation | Unreadable:
        """Read one payment intent in its present state.

        Raises:
            IntentUnknown: Stripe does not know the payment intent.
            LinkFailure: the request failed.
        """
        if not INTENT_ID.fullmatch(intent_id):
            message = f"{intent_id[:80]!r} is not the id of a payment intent"
            raise IntentUnknown(message)
        try:
            body, clock = await self._get(f"/v1/payment_intents/{intent_id}", {})
        except CursorRefused as error:  # a 404 or 400 for a single payment intent
            raise IntentUnknown(str(error)) from None
        read = read_intent(body, self.invoice_key, self._surely(clock))
        if (read.intent_id if isinstance(read, Observation) else read.id) != intent_id:
            message = f"Stripe's answer for {intent_id} does not contain this payment."
            raise BadAnswer(Side.STRIPE, message)
        return read

    async def _charge(self, path: str, retries: bool) -> object:
        return (await self._get(path, {}, retries=retries))[0]

    async def probe(self, kind: str) -> Probe:
        """List one object, to test the key's permission, the clock and the mode.

        Args:
            kind: ``events``, ``payment_intents``, ``charges``, ``refunds`` or ``disputes``.

        Raises:
            CursorRefused: Stripe knows no such listing.
            LinkFailure: the request failed, or the key lacks the permission.
        """
        body, clock = await self._get(f"/v1/{kind}", {"limit": 1})
        listed = body.get("data")
        first = listed[0] if isinstance(listed, list) and listed else None
        livemode = first.get("livemode") if isinstance(first, dict) else None
        return Probe(
            None if clock is None else clock - self.calling.now(),
            livemode if isinstance(livemode, bool) else None,
        )

    def _surely(self, clock: int | None) -> int:
        """The last second that an answer at `clock` certainly includes."""
        return certain_at(clock, self.calling.now())

    async def _list(
        self, path: str, params: dict[str, Any], cursor: str | None
    ) -> tuple[dict[str, Any], int | None]:
        params = {**params, "limit": PAGE_SIZE}
        if cursor is not None:
            params["starting_after"] = cursor
        try:
            body, clock = await self._get(path, params)
        except CursorRefused as error:
            if cursor is not None:
                raise
            raise BadAnswer(Side.STRIPE, str(error)) from None  # the request itself is refused
        if not isinstance(body.get("data"), list) or not isinstance(body.get("has_more"), bool):
            message = f"Stripe's answer to GET {path} isn't a list."
            raise BadAnswer(Side.STRIPE, message).of(shape_of(body))
        if len(body["data"]) > PAGE_SIZE:
            message = f"Stripe's answer to GET {path} has more entries than the {PAGE_SIZE} that syncd asked for."
            raise BadAnswer(Side.STRIPE, message)
        return body, clock

    async def _get(
        self, path: str, params: dict[str, Any], *, retries: bool = True
    ) -> tuple[dict[str, Any], int | None]:
        async def attempt() -> stripe.StripeResponse:
            await self.calling.take()
            crash_point(Point.BEFORE_REQUEST)
            try:
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    response: stripe.StripeResponse = await self._client.raw_request_async(
                        "get", path, **params
                    )
            except stripe.StripeError as error:
                failure = failure_of(error, path, self.calling.now())
                self.calling.note(
                    outcome_of(failure) if isinstance(failure, LinkFailure) else "refused"
                )
                raise failure from None
            except TimeoutError:
                self.calling.note("error")
                message = f"Stripe's answer to GET {path} did not end in time."
                raise Unreachable(Side.STRIPE, message) from None
            except _TRIPS:
                self.calling.note("error")
                message = f"Stripe's answer to GET {path} is not JSON, or is nested too deeply."
                raise BadAnswer(Side.STRIPE, message) from None
            crash_point(Point.AFTER_ANSWER)
            self.calling.note("ok")
            return response

        only = LinkFailure if retries else RateLimited
        response = await self.calling.retry(attempt, repeatable=True, only=only)
        if not isinstance(response.data, dict):
            message = f"Stripe's answer to GET {path} isn't an object."
            raise BadAnswer(Side.STRIPE, message).of(shape_of(response.data))
        return response.data, server_time(header(response.headers, "date"))
