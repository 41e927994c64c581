"""Amounts of money and the decimals of each currency (source: Stripe's list of currencies).

Does not belong here: which amounts are compared, and what happens when they differ
(`core.rules.decisions`).
"""

from dataclasses import dataclass
from decimal import Decimal

_NO_DECIMALS = frozenset(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "JPY",
        "KMF",
        "KRW",
        "MGA",
        "PYG",
        "RWF",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ]
)
_THREE_DECIMALS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
# Stripe lists UGX among the currencies without decimals and among the special cases with two
# decimals that are always 00. Stripe's API follows the special case, as for ISK, so both have two
# decimals here.
_TWO_DECIMALS = frozenset(
    [
        "AED",
        "AFN",
        "ALL",
        "AMD",
        "ANG",
        "AOA",
        "ARS",
        "AUD",
        "AWG",
        "AZN",
        "BAM",
        "BBD",
        "BDT",
        "BGN",
        "BMD",
        "BND",
        "BOB",
        "BRL",
        "BSD",
        "BTN",
        "BWP",
        "BYN",
        "BZD",
        "CAD",
        "CDF",
        "CHF",
        "CNY",
        "COP",
        "CRC",
        "CUP",
        "CVE",
        "CZK",
        "DKK",
        "DOP",
        "DZD",
        "EGP",
        "ERN",
        "ETB",
        "EUR",
        "FJD",
        "FKP",
        "GBP",
        "GEL",
        "GHS",
        "GIP",
        "GMD",
        "GTQ",
        "GYD",
        "HKD",
        "HNL",
        "HRK",
        "HTG",
        "HUF",
        "IDR",
        "ILS",
        "INR",
        "IRR",
        "ISK",
        "JMD",
        "KES",
        "KGS",
        "KHR",
        "KPW",
        "KYD",
        "KZT",
        "LAK",
        "LBP",
        "LKR",
        "LRD",
        "LSL",
        "MAD",
        "MDL",
        "MKD",
        "MMK",
        "MNT",
        "MOP",
        "MRU",
        "MUR",
        "MVR",
        "MWK",
        "MXN",
        "MYR",
        "MZN",
        "NAD",
        "NGN",
        "NIO",
        "NOK",
        "NPR",
        "NZD",
        "PAB",
        "PEN",
        "PGK",
        "PHP",
        "PKR",
        "PLN",
        "QAR",
        "RON",
        "RSD",
        "RUB",
        "SAR",
        "SBD",
        "SCR",
        "SDG",
        "SEK",
        "SGD",
        "SHP",
        "SLE",
        "SLL",
        "SOS",
        "SRD",
        "SSP",
        "STD",
        "STN",
        "SVC",
        "SYP",
        "SZL",
        "THB",
        "TJS",
        "TMT",
        "TOP",
        "TRY",
        "TTD",
        "TWD",
        "TZS",
        "UAH",
        "UGX",
        "USD",
        "UYU",
        "UZS",
        "VED",
        "VES",
        "WST",
        "XCD",
        "XCG",
        "YER",
        "ZAR",
        "ZMW",
        "ZWG",
        "USDC",
    ]
)

_TOLERANCE = {decimals: Decimal(1).scaleb(-decimals - 3) for decimals in (0, 2, 3)}
"""A thousandth of the smallest unit, in major units, by the currency's decimals."""

_DIGITS_MAX = 18
"""An amount with more digits before the decimal point is displayed without thousands separators."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount as Stripe counts it.

    Attributes:
        minor: whole number of the currency's smallest unit (cents; yen).
        currency: three letters, in either case.
    """

    minor: int
    currency: str

    @property
    def decimals(self) -> int | None:
        """How many decimals the currency has; None for an unknown currency."""
        code = self.currency.upper()
        if code in _NO_DECIMALS:
            return 0
        if code in _THREE_DECIMALS:
            return 3
        return 2 if code in _TWO_DECIMALS else None

    @property
    def major(self) -> Decimal | None:
        """The amount in major units (dollars; yen), exact; None for an unknown currency."""
        decimals = self.decimals
        return None if decimals is None else Decimal(self.minor).scaleb(-decimals)

    def equals(self, major: Decimal) -> bool:
        """Whether `major` (major units) is the same amount.

        Halo sends amounts as binary floating-point numbers, so 0.1 + 0.2 may arrive as
        0.30000000000000004. A difference up to a thousandth of the smallest unit is ignored.
        """
        decimals = self.decimals
        if decimals is None or not major.is_finite():
            return False
        return abs(major - Decimal(self.minor).scaleb(-decimals)) < _TOLERANCE[decimals]

    def __str__(self) -> str:
        """The amount in major units, fit for copying: ``1234.50 USD``; the raw number if unknown."""
        code = self.currency.upper()
        if self.major is None:
            return f"{self.minor} (smallest unit) {code}"
        return f"{self.major:f} {code}"


def money_text(major: Decimal, currency: str) -> str:
    """An amount in major units as people write it: ``1,234.50 USD``.

    The decimals are the currency's. An amount that is not a whole number of its smallest unit keeps
    all its decimals, so that the text never hides a difference.
    """
    money = Money(0, currency)
    if money.decimals is not None and major.is_finite() and major.adjusted() < _DIGITS_MAX:
        exact = major.quantize(Decimal(1).scaleb(-money.decimals))
        major = exact if Money(int(exact.scaleb(money.decimals)), currency).equals(major) else major
    return f"{major:,f} {currency.upper()}"
