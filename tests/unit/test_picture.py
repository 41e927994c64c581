"""The two pictures: every push of the day is in them once, and nothing lies outside."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.payments import PaymentState
from syncd.picture import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Block, Column, Point, draw
from syncd.words import counted, duration

NOW = 1_795_500_000.0

points = st.builds(
    Point,
    at=st.floats(NOW - 200_000, NOW + 5_000),
    state=st.sampled_from(PaymentState),
    lag_seconds=st.none() | st.floats(0, 1e7),
)


def test_two_payments_of_the_last_hour() -> None:
    """Stacked from what is well upwards, as high as they are many, with words for both."""
    pictures = draw(
        [
            Point(NOW - 60, PaymentState.PAYMENT_FAILED, 10.0),
            Point(NOW - 30, PaymentState.SUCCEEDED, 1_000.0),
            Point(NOW - 86_401, PaymentState.SUCCEEDED, 5.0),
        ],
        NOW,
    )
    assert pictures.columns == (
        Column(
            x=342.9,
            width=13.1,
            blocks=(
                Block(344.5, 70.0, 9.9, 62.0, PaymentState.SUCCEEDED),
                Block(344.5, 8.0, 9.9, 62.0, PaymentState.PAYMENT_FAILED),
            ),
            text="in the last hour: 1 succeeded, 1 payment failed",
        ),
    )
    assert [(mark.place, mark.text) for mark in pictures.counts_scale] == [
        (132.0, "0"), (70.0, "1"), (8.0, "2"),
    ]  # fmt: skip
    (span,) = pictures.spans
    assert span.text == "in the last hour: 10 s to 16 min, half of them within 8 min"
    assert pictures.totals == ((PaymentState.SUCCEEDED, 1), (PaymentState.PAYMENT_FAILED, 1))
    assert (pictures.middle_lag, pictures.worst_lag) == (505.0, 1_000.0)


def test_a_quiet_day() -> None:
    """Nothing happened: scales without anything on them."""
    pictures = draw([], NOW)
    assert (pictures.columns, pictures.spans, pictures.totals) == ((), (), ())
    assert (pictures.middle_lag, pictures.worst_lag) == (None, None)


@given(st.lists(points, max_size=200))
def test_everything_within_the_frame(found: list[Point]) -> None:
    """Every push of the last 24 hours is counted once; every shape lies inside the scales."""
    pictures = draw(found, NOW)
    today = [p for p in found if NOW - p.at < 86_400]
    assert sum(number for _, number in pictures.totals) == len(today)
    for column in pictures.columns:
        for block in column.blocks:
            assert LEFT <= block.x <= block.x + block.width <= WIDTH - RIGHT
            assert TOP <= block.y <= block.y + block.height <= HEIGHT - BOTTOM + 0.1
    for span in pictures.spans:
        assert TOP <= span.high <= span.middle <= span.low <= HEIGHT - BOTTOM
        assert LEFT <= span.x <= WIDTH - RIGHT
    assert bool(pictures.spans) is any(p.lag_seconds is not None for p in today)


def test_words() -> None:
    """Numbers as people write them."""
    spans = (0, 59, 60, 3_599, 3_600, 12_000, 86_400, 90_000, 1e7, -5)
    assert [duration(s) for s in spans] == [
        "under 1 s", "59 s", "1 min", "59 min", "1 h", "3 h 20 min", "1 d", "1 d 1 h", "115 d 17 h",
        "under 1 s",
    ]  # fmt: skip
    assert [counted(n, "row") for n in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
