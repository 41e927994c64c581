"""How many pages of the PSA's rows a push reads, newest first, before it looks up single payments.

A page costs one request, and so does a lookup of one payment. So a push reads the next page while
the last page settled more than one payment, or while more payments than pages are left. Pure: the
caller passes the counts.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from syncd.core.payments import PaymentState
from syncd.core.records import DuePayment
from syncd.core.rows import Row
from syncd.core.rules.decisions import left_out, total_of

DAY = 86_400


@dataclass(slots=True)
class PagesLeft:
    """Decides after each page whether the next page is worth a request.

    A row is never older than its payment. So a payment cannot have a row on a page whose rows are
    all older than the payment. Days are compared, because dates of rows may lack a time zone.

    Attributes:
        due_by_day: how many due payments are not settled yet, by the day of their creation (Unix
            days).
        pages: how many pages were read.
    """

    due_by_day: dict[int, int]
    pages: int = 0

    def worth_reading(
        self, settled: Iterable[int], newest: int | None, seen: int, total: int | None
    ) -> bool:
        """Whether to read the next page.

        Args:
            settled: when the payments that this page settled were created, Unix seconds.
            newest: the newest date among the rows of this page, Unix seconds; None if unknown.
            seen: how many rows were listed so far.
            total: the number of all rows; None if the PSA does not count them.
        """
        self.pages += 1
        number = 0
        for made in settled:
            number += 1
            self.due_by_day[made // DAY] = self.due_by_day.get(made // DAY, 0) - 1
        left = self._left(newest)
        if left <= 0:
            return False
        a_page = max(1, seen // self.pages)  # Halo may return fewer rows than asked for
        # Without a total, assume that as many pages follow as were read already.
        pages = self.pages if total is None else -(-max(0, total - seen) // a_page)
        return left > pages or number > 1

    def _left(self, newest: int | None) -> int:
        """How many payments may still have rows on the following pages."""
        day = None if newest is None else newest // DAY + 1
        return sum(
            max(0, number) for made, number in self.due_by_day.items() if day is None or made <= day
        )


def cheapest_start(
    open_ones: Sequence[int], since: int, by_day: Mapping[int, int], a_day: int, page_size: int
) -> int:
    """The creation time from which a sweep lists payment intents with the fewest requests.

    Open payments that are older are read one at a time, with one request each.

    Args:
        open_ones: when the open payments were created, Unix seconds; all before `since`.
        since: from when on payment intents are listed in any case, Unix seconds.
        by_day: how many payments are known of each day (Unix days).
        a_day: the minimum number of payments per day.
        page_size: how many payment intents a page lists.
    """
    best, requests, listed = since, len(open_ones), 0
    alone = sorted(open_ones)
    for day in range(since // DAY, min(open_ones, default=since) // DAY - 1, -1):
        listed += max(a_day, by_day.get(day, 0))
        alone = alone[: bisect_left(alone, day * DAY)]
        taken = -(-listed // page_size) + len(alone)
        if taken < requests:
            best, requests = day * DAY, taken
    return best


def adds_up(due: DuePayment, rows: Sequence[Row]) -> bool:
    """Whether these rows add up to the payment, so that no further row of the payment is expected.

    One payment may have several rows. If the push stopped before the last page, it looks up every
    payment whose rows do not add up. It also looks up a payment if a row that syncd knows was not
    read: a new row with the whole amount could otherwise be mistaken for the only row.
    """
    current, total = due.payment.current, total_of(rows)
    if not rows or total is None or not due.known_rows <= {row.id for row in rows}:
        return False
    if current.state is PaymentState.SUCCEEDED:
        return left_out(current, total) is not None
    return current.due is not None and current.due.equals(total)


def settled_among(due: Sequence[DuePayment], rows: Mapping[str, Sequence[Row]]) -> list[DuePayment]:
    """The payments whose rows, as far as they were read, add up."""
    return [one for one in due if adds_up(one, rows.get(one.intent_id, ()))]
