"""Reads rows right before an update sends them back whole.

Such an update undoes what a person has changed in a row since it was read. So rows are read within a
short time, and are read again if the request has to wait. Does not belong here: the comparison of
rows (`verify`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from syncd.core.errors import BadAnswer, ServerError, Unreachable
from syncd.core.records import DuePayment
from syncd.core.rows import WholeRow
from syncd.core.rules.blame import RequestFailures
from syncd.core.rules.decisions import Update
from syncd.sync.push.guard import LOOK_SECONDS_MAX, InsertWaits
from syncd.sync.sink import Sink

Batch = Sequence[tuple[DuePayment, Update]]

READ_SECONDS_MAX = 10.0
"""The rows of one list are read within this time, in seconds, or each payment's alone if Halo is slower."""

Moment = tuple[float, float]
"""A time by the host's clock and by a monotonic clock, in seconds: the first may be set, and the second may
stand still in a suspended machine."""


@dataclass(frozen=True, slots=True)
class Befores:
    """Rows as they were read for complete updates.

    Attributes:
        rows: the rows by Halo's number, without those of `RowReader.of_payment`'s exceptions.
        payments: how many payments of the list were examined; the others belong to the next list.
        failed: the payments among them whose rows Halo failed to show.
        read_at: when the rows of each other payment among them were read.
    """

    rows: Mapping[int, WholeRow]
    payments: int
    failed: frozenset[str]
    read_at: Mapping[str, Moment]


@dataclass(frozen=True, slots=True)
class RowReader:
    """Reads rows by their ids.

    Attributes:
        now: Unix seconds, by the host's clock.
        waits: has a clock that cannot be set.
    """

    sink: Sink
    now: Callable[[], float]
    waits: InsertWaits

    async def of_payment(self, due: DuePayment, update: Update) -> dict[int, WholeRow]:
        """The rows of one payment, by Halo's number, as far as the decision about them is still right.

        Left out are rows that are gone, or belong to another payment, or have another status than
        when syncd decided: a webhook or a person has written them since.

        Raises:
            LinkFailure: the request failed.
        """
        found: dict[int, WholeRow] = {}
        for row, was in zip(update.rows, update.was, strict=True):
            before = await self.sink.whole_row(due.intent_id, row)
            if before is None or not before.is_of(due.intent_id):
                continue
            if was is None or before.row.status in (was, None):
                found[row] = before
        return found

    async def of_list(self, batch: Batch, failures: RequestFailures) -> Befores:
        """The rows of the first payments of a list: of as many as can be read in a short time.

        Args:
            batch: the payments; at least one is read.
            failures: gets the failure of a payment whose rows Halo does not show.

        Raises:
            LinkFailure: Halo asks to wait, or fails for every payment.
        """
        found: dict[int, WholeRow] = {}
        failed: set[str] = set()
        read_at: dict[str, Moment] = {}
        took = 0.0
        for number, (due, update) in enumerate(batch):
            began = self.waits.monotonic()
            first = next(iter(read_at.values()), None)
            if first is not None and self._age(first) + took > READ_SECONDS_MAX:
                return Befores(found, number, frozenset(failed), read_at)
            try:
                found |= await self.of_payment(due, update)
            except (ServerError, BadAnswer, Unreachable) as error:
                if error.retry_after_seconds is not None or failures.add(due, error):
                    raise
                failed.add(due.intent_id)
            else:
                failures.has_read()
                read_at[due.intent_id] = (self.now(), self.waits.monotonic())
            took = self.waits.monotonic() - began
        return Befores(found, len(batch), frozenset(failed), read_at)

    async def refilled(
        self, intent_id: str, formers: Mapping[int, WholeRow]
    ) -> dict[int, WholeRow]:
        """Rows that a write has harmed, with what they lost; what a person has filled in since stays.

        Args:
            intent_id: the payment.
            formers: the rows as they were before the write, by Halo's number.

        Raises:
            LinkFailure: the request failed.
        """
        found: dict[int, WholeRow] = {}
        for row, former in formers.items():
            now = await self.sink.whole_row(intent_id, row)
            found[row] = former if now is None else self.sink.refilled(former, now)
        return found

    def outdated(self, intent_id: str, befores: Befores) -> bool:
        """Whether a payment's rows were read too long ago to be sent back."""
        read_at = befores.read_at.get(intent_id)
        return read_at is not None and self._age(read_at) > LOOK_SECONDS_MAX

    def _age(self, since: Moment) -> float:
        return max(abs(self.now() - since[0]), self.waits.monotonic() - since[1])
