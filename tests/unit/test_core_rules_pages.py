"""How many pages of rows are read: never much more expensive than the best choice in hindsight."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.rules.pages import DAY, PagesLeft, cheapest_start

PAGE = 100


def requests(found: list[int], missing: int, *, counted: bool) -> int:
    """Count the requests that the pages and the lookups after them need.

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
    """Reading needs no more requests than all pages, and at most twice those of single lookups plus one."""
    each_alone, all_pages = sum(found) + missing, len(found) + missing
    taken = requests(found, missing, counted=True)
    assert taken <= all_pages
    assert taken <= 2 * each_alone + 1


@given(FOUND, st.integers(0, 200))
def test_without_a_count(found: list[int], missing: int) -> None:
    """Without a count of rows, reading needs at most twice the requests of the better choice, plus one."""
    each_alone, all_pages = sum(found) + missing, len(found) + missing
    taken = requests(found, missing, counted=False)
    assert taken <= 2 * min(each_alone, all_pages) + 1


def test_pages_older_than_every_payment() -> None:
    """Reading ends at rows older than every remaining payment, however many payments remain."""
    left = PagesLeft({20_000: 500})
    assert left.worth_reading([], 20_000 * DAY, PAGE, 100 * PAGE)
    assert not left.worth_reading([], 19_998 * DAY, 2 * PAGE, 100 * PAGE)


def test_a_day_of_doubt() -> None:
    """A row's date may lack its zone, so rows of the day before still count as rows of that day."""
    assert PagesLeft({20_000: 500}).worth_reading([], 19_999 * DAY, PAGE, 100 * PAGE)


DAYS = st.dictionaries(st.integers(0, 90), st.integers(0, 400), max_size=90)


@given(st.lists(st.integers(0, 90 * DAY), max_size=60), DAYS, st.integers(0, 300))
def test_the_start_of_a_listing_is_the_cheapest(
    open_ones: list[int], by_day: dict[int, int], a_day: int
) -> None:
    """No other start day, and no reading of single payments, takes fewer requests."""
    since = 90 * DAY + 1

    def requests(start: int) -> int:
        listed = sum(max(a_day, by_day.get(day, 0)) for day in range(start // DAY, 91))
        pages = 0 if start == since else -(-listed // 100)
        return pages + sum(at < start for at in open_ones)

    start = cheapest_start(open_ones, since, by_day, a_day, 100)
    assert requests(start) <= min(
        requests(one) for one in [since, *(day * DAY for day in range(91))]
    )
