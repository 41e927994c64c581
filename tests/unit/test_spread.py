"""How the slowest tests are distributed over the workers."""

from hypothesis import given
from hypothesis import strategies as st

from tests.spread import TOGETHER, spread, unit_of

units = st.lists(st.integers(1, 3), max_size=6)


def test_each_worker_begins_with_slow_tests() -> None:
    """Four workers get parts of equal length, and each part begins with one of the slow units."""
    slow = [["a1", "a2"], ["b"], ["c"], ["d"]]
    rest = [f"quick {number}" for number in range(15)]
    ordered = spread(slow, rest, 4)
    assert [ordered[number * 5] for number in range(4)] == ["a1", "b", "c", "d"]
    assert ordered[1] == "a2"


@given(units, st.integers(0, 30), st.integers(1, 5))
def test_no_test_is_lost(sizes: list[int], quick: int, workers: int) -> None:
    """Every test runs once, and a unit stays together, however many workers there are."""
    slow = [[(number, one) for one in range(size)] for number, size in enumerate(sizes)]
    rest = [(-1, number) for number in range(quick)]
    ordered = spread(slow, rest, workers)
    assert sorted(ordered) == sorted([one for unit in slow for one in unit] + rest)
    for unit in slow:
        at = ordered.index(unit[0])
        assert ordered[at : at + len(unit)] == unit


def test_what_stays_together() -> None:
    """Tests of one boot form one unit; any other slow test is a unit of its own; a quick test is in none."""
    assert unit_of(f"{TOGETHER[0]}::test_one", slow=False) == TOGETHER[0]
    assert unit_of("tests/crash/test_x.py::test_one", slow=False) is not None
    assert unit_of("tests/test_x.py::test_one", slow=True) == "tests/test_x.py::test_one"
    assert unit_of("tests/test_x.py::test_one", slow=False) is None
