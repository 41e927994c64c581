"""Requests are counted before they are sent; fast sequences of requests are counted in groups."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.clients.throttle import COUNTED_AHEAD_MAX, RateLimiter, halo_window, stripe_window
from syncd.core.errors import Side
from syncd.core.windows import Window
from syncd.store.store import Store
from tests.conftest import HandClock


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A database that counts requests."""
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('counts')}/syncd.db", durable=False)
    yield store
    store.close()


def limiter(store: Store, window: Window, clock: HandClock, side: Side = Side.HALO) -> RateLimiter:
    async def sleep(seconds: float) -> None:
        clock.seconds += seconds

    return RateLimiter(side, window, store.coordination, clock, sleep, lambda: False)


@given(st.integers(1, 60), st.lists(st.floats(0, 20), min_size=1, max_size=80), st.integers(1, 3))
def test_no_more_requests_than_the_window_allows(
    store: Store, limit: int, gaps: list[float], processes: int
) -> None:
    """However fast several processes send, no window of 5 minutes has more requests than allowed."""
    clock, sent = HandClock(), list[float]()
    earlier = max(store.coordination.counts("halo"), default=0)
    clock.seconds = max(clock.seconds, earlier + 10_000.0)  # after every other example
    asking = [limiter(store, halo_window(limit), clock) for _ in range(processes)]
    for number, gap in enumerate(gaps):
        clock.seconds += gap
        asyncio.run(asking[number % processes].take())
        sent.append(clock())
    for end in sent:
        assert sum(end - 300 < at <= end for at in sent) <= limit


def test_requests_in_a_row_are_counted_some_at_a_time(store: Store) -> None:
    """40 requests in a row need few commits, and the count exceeds the sent requests by at most seven."""
    clock = HandClock()
    clock.seconds += 1e7
    asking, commits = limiter(store, halo_window(300), clock), 0
    take = store.coordination.take_slots

    def counting(*given: object) -> tuple[int, float]:
        nonlocal commits
        commits += 1
        return take(*given)  # type: ignore[arg-type]

    asking.requests.take_slots = counting  # type: ignore[method-assign,assignment]
    try:
        for _ in range(40):
            asyncio.run(asking.take())
    finally:
        del asking.requests.take_slots
    assert commits <= 8
    counted = sum(store.coordination.counts("halo").values())
    used = halo_window(300).used(store.coordination.counts("halo"), clock())
    assert 40 <= used <= 40 + COUNTED_AHEAD_MAX - 1 <= counted + COUNTED_AHEAD_MAX
    clock.seconds += 6
    asyncio.run(asking.take())
    assert halo_window(300).used(store.coordination.counts("halo"), clock()) == 41


def test_reads_of_stripe_are_counted_one_by_one(store: Store) -> None:
    """Stripe reads are not counted ahead: a run that ends would lose the unused reads for a month."""
    clock = HandClock()
    asking = limiter(store, stripe_window(10_000), clock, Side.STRIPE)
    for number in range(20):
        asyncio.run(asking.take())
        assert sum(store.coordination.counts("stripe").values()) == number + 1


def test_requests_of_a_host_whose_clock_was_ahead(store: Store) -> None:
    """If the counts are days ahead, the throttle still has room after about one window."""
    clock, window = HandClock(), halo_window(4)
    clock.seconds += 4e7
    here = clock.seconds
    clock.seconds += 41 * 86_400.0
    ahead = limiter(store, window, clock)
    for _ in range(4):
        asyncio.run(ahead.take())
    clock.seconds = here
    asking = limiter(store, window, clock)

    async def few_looks() -> bool:
        for _ in range(100):
            if await asking.has_room(3):
                return True
        return False

    assert asyncio.run(few_looks())
    assert clock.seconds - here <= window.period_seconds + 2 * window.bucket_seconds
