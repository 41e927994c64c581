"""Reads a listing page by page: the one loop for every listing of Stripe and Halo.

What a page holds and which page follows is the caller's rule. This module makes sure that a listing
ends: a place that was reached before, or too many pages, is an error and not an endless loop.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from syncd.core.errors import ListingBroken, Side

PAGES_MAX = 100_000
"""More pages than any real listing has: ten million objects."""

P = TypeVar("P")
C = TypeVar("C", str, int)


@dataclass(frozen=True, slots=True)
class Listed(Generic[P]):
    """One page of a listing, and how far the listing is.

    Attributes:
        page: the page.
        seen: how many different rows were listed so far.
        whole: whether these are surely all rows; None before the last page.
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
        fetch: reads the page that begins at a cursor; None for the first page.
        next_of: the cursor of the next page; None after the last page. Called once a page, after
            the caller has used the page.
        side: whose listing it is.
        what: what is listed, for the error message ("events").
        start: the cursor to begin at; None for the first page.
        pages_max: more pages than this are an error.
        continuing: called with the cursor of the next page before the next page is read; with None
            after the last page.

    Raises:
        ListingBroken: the listing comes back to a place that was read before, or does not end.
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
