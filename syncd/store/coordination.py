"""What processes share: counted requests, leases, and notes.

A note is one small value under a name, such as the watermark. Every note has a type and is listed
here; a value that an older or newer syncd wrote and this version cannot read counts as absent.
Times are Unix seconds and come from the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field, TypeAdapter

from syncd.core.errors import Side
from syncd.core.holds import LiftedBy
from syncd.core.payments import PaymentState
from syncd.core.rules.deliveries import Undelivered
from syncd.core.rules.pacing import Learnt
from syncd.core.windows import Window
from syncd.store.db import schema
from syncd.store.db.connection import read_once, write_once, writing
from syncd.store.db.leases import LEASES_TAKEN, LeaseStore
from syncd.store.db.notes import ROWS_READ, Note
from syncd.store.payments import READ_DUE, due_number
from syncd.store.reversals import UNPLACED


@dataclass(frozen=True, slots=True)
class LinkNote:
    """Why a side does not work, and since when (Unix seconds; None if unknown)."""

    reason: str
    since: float | None


@dataclass(frozen=True, slots=True)
class BackfillNote:
    """A backfill that was stopped.

    Attributes:
        asked: what the user typed.
        since: from when on payment intents are listed, Unix seconds.
        begun: when it was started, Unix seconds.
        cursor: the payment intent after which to resume.
    """

    asked: str
    since: int
    begun: int
    cursor: str


@dataclass(frozen=True, slots=True)
class GapNote:
    """A time without polls that was longer than Stripe keeps events; all times in Unix seconds.

    Attributes:
        start: from when.
        end: until when.
        filled_at: when its payment intents were read.
        intents: how many payment intents were read.
    """

    start: Annotated[int, Field(alias="from")]
    end: Annotated[int, Field(alias="to")]
    filled_at: int
    intents: int


@dataclass(frozen=True, slots=True)
class ShapeNote:
    """The shape of an answer that could not be read, without its contents.

    Attributes:
        at: when the answer came, Unix seconds.
        side: Stripe or Halo.
        shape: the answer's structure, see `text.shape`.
    """

    at: int
    side: str
    shape: str


SHAPES_MAX = 5
"""How many shapes are kept; the newest is the last."""

_NUMBER, _TEXT = TypeAdapter(int), TypeAdapter(str)
_TIME = TypeAdapter(Annotated[float, Field(allow_inf_nan=False)])

WATERMARK = Note("watermark", _NUMBER)
"""Up to when Stripe's events were read to the last page: Unix seconds of Stripe's clock."""

REVERSALS_LISTED = Note("reversals_listed", _NUMBER)
"""When refunds and disputes were last listed, Unix seconds."""

REVERSALS_FROM = Note("reversals_from", _NUMBER)
"""From when on refunds and disputes must still be listed once, Unix seconds; None if done."""

STRIPE_MODE = Note("stripe_mode", _TEXT)
"""`live` or `test`, for commands that have no key."""

HIDDEN_INTENTS = Note("halo_lists_hide_intents", _TEXT)
"""The tenant whose lists hide `intent_id`, and whose filter by `intent_id` is proven to work."""

PROVEN_NUMBERS = {state: Note(f"proven {state}", _NUMBER) for state in PaymentState}
"""The status number of each state that rows of Halo's own webhook proved."""

INSERTS_REFUSED = Note("insert_refused", _TEXT)
"""The payments whose new row Halo refused, separated by blanks."""

SENT_FORGOTTEN = Note("sent_forgotten", _TIME)
"""Until when payments were sent that `sent` no longer lists, Unix seconds."""

PUSH_AFTER = Note("push_after", _TEXT)
"""The payment after which the next push resumes."""

PUSH_BATCH = Note("push_batch", TypeAdapter(Annotated[int, Field(ge=0)]))
"""How many rows the next push sends in one request, if fewer than configured."""

PUSH_FAILING = Note("push_failing", TypeAdapter(Mapping[str, tuple[float, float]]))
"""Payments whose writes fail: since when, and when they failed last (Unix seconds)."""

BACKFILL = Note("backfill", TypeAdapter(BackfillNote))
GAP = Note("gap", TypeAdapter(GapNote))
REVERSAL_EVENTS_REFUSED = Note("reversal_events_refused", _TEXT)
"""Present while Stripe's key may not read the events of refunds and disputes."""

LISTING_REFUSED = {what: Note(f"{what}_refused", _TEXT) for what in ("refunds", "disputes")}
"""Stripe's answer while the key may not list refunds or disputes."""

LINKS = {side: Note(f"link {side}", TypeAdapter(LinkNote)) for side in Side}
"""Present while a side does not work."""

LAST = {step: Note(f"last_{step}", _NUMBER) for step in ("poll", "push", "sweep")}
"""When a step last worked, Unix seconds."""

SWEPT = {side: Note(f"last_sweep_{side}", _NUMBER) for side in Side}
"""When a side's half of a sweep last worked, Unix seconds."""

SWEEPS_COUNTED_FROM = Note("sweeps_counted_from", _NUMBER)
"""When the first process started (Unix seconds); the time to the first sweep counts from it."""

CONFIG = {key: Note(f"config {key}", _TEXT) for key in LiftedBy}
"""The configuration keys that lift holds, with their values at the last check of the holds."""

UNDELIVERED = Note("undelivered", TypeAdapter(Undelivered))
"""Stripe's payment events that a webhook endpoint did not accept, as last read."""

POLLS_LEARNT = Note("polls_learnt", TypeAdapter(Learnt))
"""What the planner of polls has learned; used if poll.interval is "auto"."""

SHAPES = Note("unreadable_shapes", TypeAdapter(Annotated[list[ShapeNote], Field(min_length=1)]))
"""The shapes of the latest unreadable answers, for `syncd bugreport`."""

NOTES: tuple[Note[Any], ...] = (
    WATERMARK,
    REVERSALS_LISTED,
    REVERSALS_FROM,
    STRIPE_MODE,
    HIDDEN_INTENTS,
    *PROVEN_NUMBERS.values(),
    INSERTS_REFUSED,
    SENT_FORGOTTEN,
    PUSH_AFTER,
    PUSH_BATCH,
    PUSH_FAILING,
    BACKFILL,
    GAP,
    ROWS_READ,
    REVERSAL_EVENTS_REFUSED,
    *LISTING_REFUSED.values(),
    *LINKS.values(),
    *LAST.values(),
    SWEEPS_COUNTED_FROM,
    *SWEPT.values(),
    *CONFIG.values(),
    UNDELIVERED,
    LEASES_TAKEN,
    POLLS_LEARNT,
    SHAPES,
)


_Q = schema.requests.c
_SIDE: sa.BindParameter[str] = sa.bindparam("of_side")

# Every request and every push uses these statements, so they are built once.
_COUNTS = sa.select(_Q.bucket, _Q.number).where(_Q.side == _SIDE)
_COUNT_MORE = (
    schema.requests.update()
    .where(_Q.side == _SIDE, _Q.bucket == sa.bindparam("of_bucket"))
    .values(number=_Q.number + sa.bindparam("more"))
)
_COUNT_BACK = (
    schema.requests.update()
    .where(
        _Q.side == _SIDE,
        _Q.bucket == sa.bindparam("of_bucket"),
        _Q.number >= sa.bindparam("unused"),
    )
    .values(number=_Q.number - sa.bindparam("unused"))
)
_COUNT_FIRST = schema.requests.insert()
_ALL = schema.requests.alias("counted")
_COUNTED = sa.select(sa.func.sum(_ALL.c.number)).where(
    _ALL.c.side == _SIDE, _ALL.c.bucket >= sa.bindparam("oldest")
)
_LATER = sa.exists().where(_ALL.c.side == _SIDE, _ALL.c.bucket > sa.bindparam("of_bucket"))
_COUNT_ONE = _COUNT_MORE.where(_COUNTED.scalar_subquery() < sa.bindparam("allowed"), ~_LATER)
"""Counts one more request in a bucket that exists, if the window has room."""

_DELETE_COUNTS = schema.requests.delete().where(_Q.side == _SIDE)
_DELETE_OLD_COUNTS = _DELETE_COUNTS.where(_Q.bucket < sa.bindparam("oldest"))


@dataclass(frozen=True, slots=True)
class PollStart:
    """What a poll must know when it begins.

    Attributes:
        mark: the watermark; None before the first poll.
        refused: whether the store has a note that Stripe's key may not read events of refunds.
        failing: whether the store has a note that Stripe does not work.
        rereads: whether a payment's intent must be read now.
    """

    mark: int | None
    refused: bool
    failing: bool
    rereads: bool


@dataclass(frozen=True, slots=True)
class PushStart:
    """What a push must know when it begins.

    Attributes:
        due: how many payments must be pushed now.
        failing: whether the store has a note that Halo does not work.
        unplaced: whether Halo must be asked for rows of a refunded or disputed payment.
        rows_kept: whether Halo's rows are stored.
    """

    due: int
    failing: bool
    unplaced: bool
    rows_kept: bool


def _value(note: Note[Any]) -> sa.ScalarSelect[str]:
    """The stored value of a note, as a part of a statement; NULL without the note."""
    return sa.select(_N.value).where(_N.name == note.name).scalar_subquery()


_N = schema.notes.c
_POLL_START = sa.select(
    _value(WATERMARK).label("watermark"),
    _value(REVERSAL_EVENTS_REFUSED).label("refused"),
    _value(LINKS[Side.STRIPE]).label("failing"),
    READ_DUE.exists().label("rereads"),
)
_PUSH_START = sa.select(
    _value(LINKS[Side.HALO]).label("failing"),
    due_number().label("due"),
    UNPLACED.exists().label("unplaced"),
    _value(ROWS_READ).label("rows"),
)

SPARE_SHARE = 10
"""At most a tenth of what a window has left is counted ahead."""


class CoordinationStore(LeaseStore):
    """The windows of requests, the leases, and what a step must know when it begins."""

    def poll_start(self, now: float) -> PollStart:
        """What a poll must know when it begins; `now` in Unix seconds."""
        (row,) = read_once(self._engine, _POLL_START, {"now": now, "limit": 1})
        return PollStart(
            WATERMARK.decode(row.watermark),
            refused=row.refused is not None,
            failing=row.failing is not None,
            rereads=bool(row.rereads),
        )

    def push_start(self, now: float) -> PushStart:
        """What a push must know when it begins; `now` in Unix seconds."""
        (row,) = read_once(self._engine, _PUSH_START, {"now": now, "limit": 1})
        return PushStart(
            row.due,
            failing=row.failing is not None,
            unplaced=bool(row.unplaced),
            rows_kept=row.rows is not None,
        )

    def take_slots(
        self, side: str, window: Window, now: float, wanted: int, unused: tuple[int, int] = (0, 0)
    ) -> tuple[int, float]:
        """Count requests to a side before they are sent, as far as its window allows.

        More than one is counted only while most of the window is free, so that other processes can
        send.

        Args:
            side: Stripe or Halo.
            window: how many requests are allowed.
            now: Unix seconds.
            wanted: the maximum number of requests to count.
            unused: the bucket and the number of requests that were counted earlier and not sent.

        Returns how many were counted; if none, how many seconds to wait before the next attempt.
        """
        bucket = window.bucket(now)
        if wanted == 1 and not unused[1]:
            given = {"of_side": side, "of_bucket": bucket, "more": 1}
            given |= {"oldest": window.oldest(now), "allowed": window.limit}
            if write_once(self._engine, _COUNT_ONE, given):
                return 1, 0.0
        with writing(self._engine) as connection:
            if unused[1]:
                given = {"of_side": side, "of_bucket": unused[0], "unused": unused[1]}
                connection.execute(_COUNT_BACK, given)
            counts = _rebased_counts(connection, side, window, now)
            wait = window.wait_seconds(counts, now)
            if wait > 0:
                return 0, wait
            number = max(1, min(wanted, window.left(counts, now) // SPARE_SHARE))
            here = {"of_side": side, "of_bucket": bucket, "more": number}
            if connection.execute(_COUNT_MORE, here).rowcount == 0:
                row = {"side": side, "bucket": bucket, "number": number}
                connection.execute(_COUNT_FIRST, [row])
                old = {"of_side": side, "oldest": window.oldest(now)}
                connection.execute(_DELETE_OLD_COUNTS, old)
        return number, 0.0

    def rebase(self, side: str, window: Window, now: float) -> dict[int, int]:
        """Store requests that were counted later than `now` as made now. Returns all counts by bucket.

        A clock that was set back, or another host's clock that is ahead, would otherwise block the
        window until that time.
        """
        with writing(self._engine) as connection:
            return _rebased_counts(connection, side, window, now)

    def counts(self, side: str) -> dict[int, int]:
        """The requests to one side by bucket."""
        found = read_once(self._engine, _COUNTS, {"of_side": side})
        return {row.bucket: row.number for row in found}


def _counts_of(connection: sa.Connection, side: str) -> dict[int, int]:
    """The requests counted for one side: start of the bucket to number."""
    found = connection.execute(_COUNTS, {"of_side": side}).all()
    return {row.bucket: row.number for row in found}


def _rebased_counts(
    connection: sa.Connection, side: str, window: Window, now: float
) -> dict[int, int]:
    """The counts of one side; those later than `now` are stored as made now."""
    counts = _counts_of(connection, side)
    if any(bucket > now for bucket in counts):
        counts = window.rebased(counts, now)
        _rewrite_counts(connection, side, counts)
    return counts


def _rewrite_counts(connection: sa.Connection, side: str, counts: Mapping[int, int]) -> None:
    """Replace the requests counted for one side."""
    connection.execute(_DELETE_COUNTS, {"of_side": side})
    rows = [{"side": side, "bucket": bucket, "number": n} for bucket, n in counts.items()]
    if rows:
        connection.execute(_COUNT_FIRST, rows)
