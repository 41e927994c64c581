"""Reads a listing page by page: the only loop for all listings of Stripe and Halo.

The caller decides what a page contains and which page follows. This module makes sure that a
listing
ends: a repeated cursor, or too many pages, raises an error instead of an endless loop.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from syncd.core.errors import ListingBroken, Side

PAGES_MAX = 100_000
"""The maximum number of pages; no real listing has as many (ten million objects)."""

P = TypeVar("P")
C = TypeVar("C", str, int)


@dataclass(frozen=True, slots=True)
class Listed(Generic[P]):
    """One page of a listing, and the progress of the listing.

    Attributes:
        page: the page.
        seen: how many different rows were listed so far.
        whole: whether the listing certainly contained all rows; None before the last page.
    """

    page: P
    seen: int
    whole: bool | None


async def read_pages(
    fetch: Callable[[C | None], Awaitable[P]],
    next_of: Callable[[P], C | None],
    side: Side,
    what: str,
    *,
    start: C | None = None,
    pages_max: int = PAGES_MAX,
    continuing: Callable[[C | None], None] = lambda _cursor: None,
) -> AsyncIterator[P]:
    """Yield each page of a listing, first to last.

    Args:
        fetch: reads the page at a cursor; None for the first page.
        next_of: the cursor of the next page; None after the last page. Called once per page, after
            the caller has used the page.
        side: Stripe or Halo.
        what: what is listed, for the error message ("events").
        start: the cursor to begin at; None for the first page.
        pages_max: the maximum number of pages.
        continuing: called with the cursor of the next page before that page is read; with None
            after the last page.

    Raises:
        ListingBroken: a cursor is repeated, or the listing does not end.
        Failure: what `fetch` raises.
    """
    cursor = start
    reached: set[C] = set()
    while True:
        page = await fetch(cursor)
        yield page
        cursor = next_of(page)
        if cursor is not None and (cursor in reached or len(reached) >= pages_max - 1):
            raise ListingBroken(side, f"{side.name.capitalize()}'s list of {what} does not end.")
        continuing(cursor)
        if cursor is None:
            return
        reached.add(cursor)
