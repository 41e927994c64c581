"""The two charts: every state change of the day is in them once, inside the frame."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.payments import PaymentState
from syncd.service.web.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Block,
    Column,
    StateChange,
    draw,
)
from syncd.text.timestamps import duration
from syncd.text.wording import counted

NOW = 1_795_500_000.0

times = st.floats(NOW - 200_000, NOW + 5_000)
words = st.builds(StateChange, at=times, state=st.sampled_from(PaymentState), written=st.booleans())
pushes = st.tuples(times, st.none() | st.floats(0, 1e7))


def test_three_payments_of_the_last_hour() -> None:
    """A column is stacked from success upwards, syncd's own writes lowest, and described in text."""
    pictures = draw(
        [
            StateChange(NOW - 60, PaymentState.PAYMENT_FAILED, written=True),
            StateChange(NOW - 30, PaymentState.SUCCEEDED, written=False),
            StateChange(NOW - 20, PaymentState.SUCCEEDED, written=True),
            StateChange(NOW - 86_401, PaymentState.SUCCEEDED, written=True),
        ],
        [(NOW - 50, 10.0), (NOW - 10, 1_000.0), (NOW - 5, None), (NOW - 86_401, 5.0)],
        NOW,
    )
    assert pictures.columns == (
        Column(
            x=342.9,
            width=13.1,
            blocks=(
                Block(344.5, 101.0, 9.9, 31.0, PaymentState.SUCCEEDED, written=True),
                Block(344.5, 70.0, 9.9, 31.0, PaymentState.SUCCEEDED, written=False),
                Block(344.5, 39.0, 9.9, 31.0, PaymentState.PAYMENT_FAILED, written=True),
            ),
            text="in the last hour: 2 succeeded (1 written by syncd), 1 payment failed",
        ),
    )
    assert [(mark.place, mark.text) for mark in pictures.counts_scale] == [
        (132.0, "0"),
        (70.0, "2"),
        (8.0, "4"),
    ]
    (span,) = pictures.spans
    assert span.text == "in the last hour: 10 s to 16 min, median 8 min"
    assert pictures.totals == (
        (PaymentState.SUCCEEDED, 2, 1),
        (PaymentState.PAYMENT_FAILED, 1, 1),
    )
    assert (pictures.middle_lag, pictures.worst_lag) == (505.0, 1_000.0)


def test_a_quiet_day() -> None:
    """Without any event the charts have scales and nothing else."""
    pictures = draw([], [], NOW)
    assert (pictures.columns, pictures.spans, pictures.totals) == ((), (), ())
    assert (pictures.middle_lag, pictures.worst_lag) == (None, None)


@given(st.lists(words, max_size=200), st.lists(pushes, max_size=50))
def test_everything_within_the_frame(
    said: list[StateChange], pushed: list[tuple[float, float | None]]
) -> None:
    """Every state change of the last 24 hours is counted once, and every shape is inside the scales."""
    pictures = draw(said, pushed, NOW)
    today = [word for word in said if NOW - word.at < 86_400]
    assert sum(number for _, number, _ in pictures.totals) == len(today)
    assert sum(ours for _, _, ours in pictures.totals) == sum(word.written for word in today)
    for column in pictures.columns:
        for block in column.blocks:
            assert LEFT <= block.x <= block.x + block.width <= WIDTH - RIGHT
            assert TOP <= block.y <= block.y + block.height <= HEIGHT - BOTTOM + 0.1
    for span in pictures.spans:
        assert TOP <= span.high <= span.middle <= span.low <= HEIGHT - BOTTOM
        assert LEFT <= span.x <= WIDTH - RIGHT
    assert bool(pictures.spans) is any(lag is not None and NOW - at < 86_400 for at, lag in pushed)


def test_words() -> None:
    """Durations and counts are written as people write them."""
    spans = (0, 59, 60, 3_599, 3_600, 12_000, 86_400, 90_000, 1e7, -5)
    assert [duration(s) for s in spans] == [
        "under 1 s", "59 s", "1 min", "59 min", "1 h", "3 h 20 min", "1 d", "1 d 1 h", "115 d 17 h",
        "under 1 s",
    ]  # fmt: skip
    assert [counted(n, "row") for n in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
