"""Amounts of money: major units, unknown currencies and the comparison of amounts."""

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
    """An amount in the smallest unit is converted to major units by the currency's decimals."""
    money = Money(minor, currency)
    assert money.major == Decimal(major)
    assert str(money) == f"{major} {currency.upper()}"


def test_unknown_currency() -> None:
    """An unknown currency has no decimals: its amount has no major units and equals nothing."""
    money = Money(100, "xxx")
    assert (money.decimals, money.major, money.equals(Decimal(1))) == (None, None, False)
    assert str(money) == "100 (smallest unit) XXX"


@given(st.integers(0, 10**13), st.sampled_from(["usd", "jpy", "kwd", "ugx", "isk", "eur"]))
def test_money_never_changes_value(minor: int, currency: str) -> None:
    """An amount survives a round trip as a JSON number; an amount one unit larger is different."""
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
    """A sum of rows in binary doubles still equals the exact amount."""
    total = 0.0
    for part in parts:
        total += part / 100
    assert Money(sum(parts), "usd").equals(Decimal(repr(total)))


def test_not_a_number_is_no_amount() -> None:
    """NaN and infinity equal no amount."""
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
    """An amount is shown with its currency's decimals; more decimals appear only if they matter."""
    assert money_text(Decimal(major), currency) == text
