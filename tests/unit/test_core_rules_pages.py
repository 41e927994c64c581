"""How far pages of rows are read: never much dearer than the best choice in hindsight."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.rules.pages import DAY, PagesLeft

PAGE = 100


def requests(found: list[int], missing: int, *, counted: bool) -> int:
    """How many requests the pages and the lookups after them take.

    Args:
        found: how many due payments each page shows, newest page first.
        missing: how many due payments have no row at all.
        counted: whether the PSA says how many rows there are.
    """
    due = sum(found) + missing
    left, pages = PagesLeft({20_000: due}), len(found)
    settled = 0
    for number, here in enumerate(found, 1):
        settled += here
        total = pages * PAGE if counted else None
        if not left.worth_reading([20_000 * DAY] * here, None, number * PAGE, total):
            return number + due - settled
    return pages + due - settled


FOUND = st.lists(st.integers(0, 20) | st.just(0), min_size=1, max_size=60)


@given(FOUND, st.integers(0, 200))
def test_never_much_dearer_than_the_best_choice(found: list[int], missing: int) -> None:
    """At most twice what the better of "all pages" and "each alone" takes, and a page."""
    each_alone, all_pages = sum(found) + missing, len(found) + missing
    taken = requests(found, missing, counted=True)
    assert taken <= all_pages
    assert taken <= 2 * each_alone + 1


@given(FOUND, st.integers(0, 200))
def test_without_a_count(found: list[int], missing: int) -> None:
    """The same bound holds where the PSA does not count its rows."""
    each_alone, all_pages = sum(found) + missing, len(found) + missing
    taken = requests(found, missing, counted=False)
    assert taken <= 2 * min(each_alone, all_pages) + 1


def test_pages_older_than_every_payment() -> None:
    """Rows older than every payment that is left end the reading, however many payments are left."""
    left = PagesLeft({20_000: 500})
    assert left.worth_reading([], 20_000 * DAY, PAGE, 100 * PAGE)
    assert not left.worth_reading([], 19_998 * DAY, 2 * PAGE, 100 * PAGE)


def test_a_day_of_doubt() -> None:
    """Dates of rows may lack their zone: rows of the day before still count as rows of that day."""
    assert PagesLeft({20_000: 500}).worth_reading([], 19_999 * DAY, PAGE, 100 * PAGE)
