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
from syncd.store.db import schema
from syncd.store.db.connection import read_once
from syncd.store.db.counts import RequestStore
from syncd.store.db.leases import LEASES_TAKEN
from syncd.store.db.notes import REVERSALS_FAILING, ROWS_READ, Note
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

PAYING_NUMBER = Note("number that paid an invoice", _NUMBER)
"""The status number for succeeded with which `syncd prove` saw that Halo reduced what is due."""

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
    PAYING_NUMBER,
    INSERTS_REFUSED,
    SENT_FORGOTTEN,
    PUSH_AFTER,
    PUSH_BATCH,
    PUSH_FAILING,
    BACKFILL,
    GAP,
    ROWS_READ,
    REVERSALS_FAILING,
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


class CoordinationStore(RequestStore):
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
