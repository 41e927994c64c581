"""Amounts of money: major units, unknown currencies, and which amounts are equal."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.money import Money, money_text


@pytest.mark.parametrize(
    ("minor", "currency", "major"),
    [
        (1099, "usd", "10.99"),
        (500, "JPY", "500"),
        (12_340, "kwd", "12.340"),
        # UGX and ISK are sent with two decimals that are always 00, though they have none.
        (50_000, "ugx", "500.00"),
        (50_000, "isk", "500.00"),
        (0, "eur", "0.00"),
    ],
)
def test_major_units(minor: int, currency: str, major: str) -> None:
    """The smallest unit becomes major units by the currency's decimals."""
    money = Money(minor, currency)
    assert money.major == Decimal(major)
    assert str(money) == f"{major} {currency.upper()}"


def test_unknown_currency() -> None:
    """Nobody guesses the decimals of a currency nobody knows."""
    money = Money(100, "xxx")
    assert (money.decimals, money.major, money.equals(Decimal(1))) == (None, None, False)
    assert str(money) == "100 (smallest unit) XXX"


@given(st.integers(0, 10**13), st.sampled_from(["usd", "jpy", "kwd", "ugx", "isk", "eur"]))
def test_money_never_changes_value(minor: int, currency: str) -> None:
    """An amount that goes out as a JSON number and comes back is the same; its neighbours aren't."""
    money = Money(minor, currency)
    assert money.major is not None
    assert money.decimals is not None
    on_the_wire = repr(float(money.major))
    if Decimal(on_the_wire) == money.major:
        assert money.equals(Decimal(on_the_wire))
    assert not money.equals(money.major + Decimal(1).scaleb(-money.decimals))
    assert money.major.scaleb(money.decimals) == minor


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_sums_of_doubles(parts: list[int]) -> None:
    """Rows added up as binary doubles still are the amount they stand for."""
    total = 0.0
    for part in parts:
        total += part / 100
    assert Money(sum(parts), "usd").equals(Decimal(repr(total)))


def test_not_a_number_is_no_amount() -> None:
    """NaN and infinity equal nothing."""
    assert not Money(1, "usd").equals(Decimal("NaN"))
    assert not Money(1, "usd").equals(Decimal("Infinity"))


@pytest.mark.parametrize(
    ("major", "currency", "text"),
    [
        ("2819800.0", "jpy", "2,819,800 JPY"),
        ("5", "usd", "5.00 USD"),
        ("0.30000000000000004", "usd", "0.30 USD"),
        ("10.995", "usd", "10.995 USD"),
        ("1234.5", "xxx", "1,234.5 XXX"),
        ("-10.99", "eur", "-10.99 EUR"),
        ("12.34000000000000001", "kwd", "12.340 KWD"),
        ("1e25", "usd", f"{10**25:,} USD"),
    ],
)
def test_money_as_people_write_it(major: str, currency: str, text: str) -> None:
    """An amount has its currency's decimals, and more only where it differs from all of them."""
    assert money_text(Decimal(major), currency) == text
