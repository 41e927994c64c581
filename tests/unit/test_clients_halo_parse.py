"""How Halo's answers are parsed: the end of a listing, a row, an acknowledgement, an error message."""

from decimal import Decimal
from typing import Any

import pytest

from syncd.clients.halo import parse as halo_reading
from syncd.clients.halo.parse import (
    PAGE_SIZE,
    TracedPage,
    as_sentence,
    error_text,
    is_whole,
    last_page,
    lifetime_seconds,
    read_acknowledgement,
    read_invoice,
    read_json,
    read_listing,
    read_row,
    read_traced_page,
)
from syncd.clients.webhook_payload import TracedRow
from syncd.core.rows import Acknowledged, Invoice, Row, RowPage

NOTHING = Row(None, None, None, None, None)
BIG = 1_000_000
"""Larger than the small integers that Python caches."""


def _page(rows: int, total: int | None) -> RowPage:
    return RowPage((NOTHING,) * rows, total)


# --- listings --------------------------------------------------------------------------------------------


def test_a_page_is_asked_for_at_its_cap() -> None:
    """The page size is 100 rows, the limit that Halo may impose."""
    assert PAGE_SIZE == 100


@pytest.mark.parametrize(
    ("page", "new", "seen", "last"),
    [
        # No new rows: Halo ignores paging, or there are no more rows.
        (_page(100, None), 0, 100, True),
        (_page(100, 250), 0, 100, True),
        (_page(0, 7), 0, 0, True),
        # A full page never ends a listing, whatever Halo counts.
        (_page(100, None), 100, 100, False),
        (_page(100, 100), 100, 100, False),
        (_page(100, 100), 1, 101, False),
        # A short page ends it if Halo has shown all rows that it counts. Without a count only the next
        # page shows whether there are more, because Halo's limit may be below the page size.
        (_page(99, None), 1, 99, False),
        (_page(1, None), 1, 101, False),
        (_page(50, 50), 50, 50, True),
        (_page(50, BIG), 50, int(str(BIG)), True),
        (_page(50, 49), 50, 50, True),
        (_page(50, 51), 50, 50, False),
        # A page longer than the page size ends it, too.
        (_page(101, None), 101, 101, True),
        (_page(250, 251), 250, 250, False),
    ],
)
def test_the_end_of_a_listing(page: RowPage, new: int, seen: int, *, last: bool) -> None:
    """A page ends a listing only if no further rows can follow."""
    assert last_page(page, new=new, seen=seen) is last


def test_a_full_page_is_full_by_its_number() -> None:
    """Without a count, only a page longer than the page size ends a listing by itself."""
    for size in (1, 99, 100, 101, 300):
        assert last_page(_page(size, None), new=1, seen=size) is (size > 100)


@pytest.mark.parametrize(
    ("page", "new", "seen", "whole"),
    [
        (_page(50, 50), 50, 50, True),
        (_page(50, BIG), 50, int(str(BIG)), True),
        (_page(50, 49), 0, 50, True),
        (_page(50, 51), 50, 50, False),
        (_page(0, 7), 0, 0, False),
        # Without a count: a repeated page proves nothing; a page without rows is the end.
        (_page(100, None), 0, 100, False),
        (_page(1, None), 1, 101, True),
        (_page(2, None), 2, 2, True),
        (_page(0, None), 0, 100, True),
        (_page(40, None), 0, 40, True),  # Halo ignores paging and sends all rows each time
    ],
)
def test_a_whole_listing(page: RowPage, new: int, seen: int, *, whole: bool) -> None:
    """A listing is complete only if it has certainly shown all rows."""
    assert is_whole(page, new=new, seen=seen) is whole


@pytest.mark.parametrize("room", [last_page, is_whole])
def test_counts_are_named(room: Any) -> None:
    """The two counts, `new` and `seen`, are accepted only as keyword arguments."""
    with pytest.raises(TypeError):
        room(_page(1, None), 1, 1)


@pytest.mark.parametrize(
    ("body", "listing"),
    [
        ([], ([], None)),
        ([{"id": 1}], ([{"id": 1}], None)),
        ({"payments": []}, ([], None)),
        ({"payments": [1], "record_count": 3}, ([1], 3)),
        ({"payments": [1], "record_count": "many"}, ([1], None)),
        ({"payments": {"id": 1}, "record_count": 3}, None),
        ({"record_count": 3}, None),
        ("payments", None),
        (None, None),
    ],
)
def test_listings(body: Any, listing: tuple[list[Any], int | None] | None) -> None:
    """A listing's rows are read from a bare list or from `payments`, and from nothing else."""
    assert read_listing(body) == listing


def test_a_page_with_traces() -> None:
    """An entry that is not a row stays on the page, so that the page's length is right; it has no trace."""
    raw = [{"id": 1, "method": 3, "module_id": Decimal("4.0")}, "no row", {"id": 2}]
    first, second = read_row(raw[0]), read_row(raw[2])
    assert read_traced_page(raw, 9) == TracedPage(
        RowPage((first, NOTHING, second), 9),
        (TracedRow(first, None, None, 3, 4), TracedRow(second, None, None, None, None)),
    )


# --- rows and invoices -----------------------------------------------------------------------------------


def test_a_row() -> None:
    """A row is read with every field that a decision needs."""
    raw = {
        "id": 28,
        "intent_id": "pi_1",
        "invoice_id": Decimal("1001.0"),
        "amount": Decimal("10.99"),
        "status": 4,
        "intent_date": "2026-03-01T12:00:00Z",
        "date": "2026-03-02T12:00:00Z",
        "invoice_invoicenumber": "INV-7",
    }
    made = 1_772_366_400
    assert read_row(raw) == Row(28, "pi_1", 1001, Decimal("10.99"), 4, made, "INV-7")
    assert read_row({**raw, "intent_date": None}).made == made + 86_400
    for nothing in (None, "id", 28, [raw], dict[str, int]()):
        assert read_row(nothing) == NOTHING


@pytest.mark.parametrize("intent_id", ["", "pi", "pi 1", "pi_1\n", "pi-1", "x" * 256, 1234, None])
def test_no_intent(intent_id: object) -> None:
    """An invalid payment intent ID is read as None."""
    assert read_row({"id": 1, "intent_id": intent_id}) == Row(1, None, None, None, None)


@pytest.mark.parametrize(
    ("number", "whole"),
    [
        (3, 3),
        (-3, -3),
        (0, 0),
        (Decimal("3.0"), 3),
        (Decimal(str(BIG)), BIG),
        (Decimal("1e3"), 1000),
        (Decimal("3.5"), None),
        (Decimal("-3.5"), None),
        ("3", 3),
        (" -3.0 ", -3),
        ("3.5", None),
        ("three", None),
        ("", None),
        ("\u0663", None),
        ("1" * 16, None),
        (True, None),
        (False, None),
        (None, None),
        (10**15 - 1, 10**15 - 1),
        (10**15, None),
        (-(10**15), None),
    ],
)
def test_whole_numbers(number: object, whole: int | None) -> None:
    """A number of a row is read if it is a whole number that the database can hold; nothing is rounded."""
    row = read_row({"status": number, "id": number})
    assert (row.status, type(row.status)) == (whole, type(whole))
    # Row IDs begin at 1: .NET shows a missing ID as 0.
    assert row.id == (None if whole is None or whole < 1 else whole)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1234.56", "1234.56"),
        (" -0.5\n", "-0.5"),
        ("10", "10"),
        ("007.10", "7.10"),
        ("1,234.56", None),
        ("1234,56", None),
        ("1e3", None),
        ("1.", None),
        (".5", None),
        ("12.34.56", None),
        ("10.99 EUR", None),
        ("١٢", None),
        ("NaN", None),
        ("1234567890123456", None),
        ("", None),
    ],
)
def test_amounts_as_text(text: str, amount: str | None) -> None:
    """Text is read as an amount only if it is exactly a decimal number, in rows and in invoices."""
    expected = None if amount is None else Decimal(amount)
    assert read_row({"amount": text}).amount == expected
    invoice = read_invoice({"id": 7, "total": text, "amountdue": text}, 7)
    assert invoice is not None
    assert (invoice.total, invoice.due) == (expected, expected)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("10.99", "10.99"),
        ("-0.5", "-0.5"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("9.99e14", "9.99e14"),
        ("1e15", None),
        ("1e16", None),
        ("1e-19", "1e-19"),
        ("1e-20", "1e-20"),
        ("9e-21", None),
        ("1e-22", None),
        ("Infinity", None),
        ("NaN", None),
        ("1.2345678901234567890123456789", "1.234567890123456789012345679"),
    ],
)
def test_amounts(text: str, amount: str | None) -> None:
    """An amount of plausible size is kept to the precision of a double; any other amount is None."""
    found = read_row({"amount": Decimal(text)}).amount
    assert found == (None if amount is None else Decimal(amount))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("1970-01-02T00:00:00", 86_400),
        ("1970-01-02T00:00:00Z", 86_400),
        ("1970-01-02T02:00:00+02:00", 86_400),
        ("1970-01-02T00:00:00.900", 86_400),
        ("1901-01-01T00:00:00", -2_177_452_800),
        ("1900-12-31T23:59:59", None),
        ("1899-01-01T00:00:00", None),
        ("0001-01-01T00:00:00", None),
        ("9999-12-31T23:59:59-14:00", 253_402_351_199),
        ("yesterday", None),
        (86_400, None),
        (None, None),
    ],
)
def test_dates(text: object, made: int | None) -> None:
    """Halo's times are UTC unless they name a zone; a date of 1900 or earlier means never."""
    assert read_row({"date": text}).made == made


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("INV-7", "INV-7"),
        (" INV-7\n", "INV-7"),
        (1001, "1001"),
        (True, None),
        (Decimal("1.5"), None),
        ("", None),
        (" ", None),
        (None, None),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 100),
    ],
)
def test_invoice_numbers(name: object, number: str | None) -> None:
    """An invoice number is short plain text or a whole number; anything else is None."""
    assert read_row({"invoice_invoicenumber": name}).invoice_number == number


def test_an_invoice() -> None:
    """An invoice is read only if it is the requested one."""
    raw = {
        "id": BIG,
        "invoicenumber": "INV-7",
        "total": Decimal("12.5"),
        "amountdue": 0,
        "currency_code": 3,
        "currency": "Usd",
        "currency_code_name": "pounds",
    }
    invoice = Invoice(BIG, "INV-7", Decimal("12.5"), Decimal(0), "USD")
    assert read_invoice(raw, int(str(BIG))) == invoice
    for other in (BIG - 1, BIG + 1):
        assert read_invoice(raw, other) is None
    for nothing in (None, [raw], "invoice", dict[str, int]()):
        assert read_invoice(nothing, BIG) is None


@pytest.mark.parametrize(
    ("fields", "currency"),
    [
        ({"currency_code_name": " eur ", "currency": "usd"}, "EUR"),
        ({"currency_code_name": "eur", "currency": "usd", "currency_code": "gbp"}, "EUR"),
        ({"currency_code_name": "", "currency": "usdc", "currency_code": "gbp"}, "GBP"),
        ({"currency_code_name": 7, "currency": None, "currency_code": 1}, None),
        ({}, None),
    ],
)
def test_the_currency_of_an_invoice(fields: dict[str, object], currency: str | None) -> None:
    """The currency comes from the first field that contains three letters."""
    assert read_invoice({"id": 1, **fields}, 1) == Invoice(1, None, None, None, currency)


# --- answers ---------------------------------------------------------------------------------------------


def test_json() -> None:
    """Numbers in JSON stay exact decimals."""
    assert read_json(b'{"a": [1.10, 2, "x", null]}') == {"a": [Decimal("1.10"), 2, "x", None]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b'{"a": 1',
        b"\xff",
        b"NaN",
        b"[Infinity]",
        b"[" * 100_000,
    ],
    ids=["empty", "page", "cut", "bytes", "NaN", "Infinity", "deep"],
)
def test_no_json(content: bytes) -> None:
    """Invalid JSON, and JSON that is nested too deeply, is read as None."""
    assert read_json(content) is None


@pytest.mark.parametrize(
    "number",
    [b"1e9999999999999999999", b"-1e9999999999999999999", b"1e308", b"1" * 308, b"1" * 5_000],
    ids=["power", "negative", "exponent", "digits", "many digits"],
)
def test_number_beyond_every_column(number: bytes) -> None:
    """A number that no column can hold becomes None; the fields beside it stay readable."""
    assert read_json(b'[{"id": 28, "amount": ' + number + b"}]") == [{"id": 28, "amount": None}]


def test_greatest_numbers() -> None:
    """Numbers within the range of a double stay exact, however large or small."""
    assert read_json(b"[1e307, 1e-999999, " + b"1" * 307 + b"]") == [
        Decimal("1e307"),
        Decimal("1e-999999"),
        int("1" * 307),
    ]


ROW = read_row({"id": 28, "status": 4})


@pytest.mark.parametrize(
    ("body", "acknowledged"),
    [
        # Listed rows are acknowledged, whatever the shape of the answer and whatever else it contains.
        ([{"id": 28, "status": 4}], Acknowledged((ROW,), None)),
        ({"id": 28, "status": 4}, Acknowledged((ROW,), None)),
        ({"payments": [{"id": 28, "status": 4}]}, Acknowledged((ROW,), None)),
        ({"payments": [{"id": 28, "status": 4}], "error": "odd"}, Acknowledged((ROW,), None)),
        ({"id": 28, "status": 4, "payments": "none"}, Acknowledged((ROW,), None)),
        ([{"status": 4}, {"id": 28, "status": 4}, "row"], Acknowledged((ROW,), None)),
        # Without a row's ID nothing is acknowledged.
        ([{"status": 4}], Acknowledged((), None)),
        ([], Acknowledged((), None)),
        (["Invoice is locked"], Acknowledged((), None)),
        (None, Acknowledged((), None)),
        ("Invoice is locked", Acknowledged((), None)),
        ({"payments": [], "total": 0}, Acknowledged((), None)),
        # Halo's message, and whether it is an error.
        ({"message": "Invoice is locked"}, Acknowledged((), "Invoice is locked.")),
        ({"Message": "Saved"}, Acknowledged((), "Saved.")),
        ({"errorMessage": "Locked"}, Acknowledged((), "Locked.", error=True)),
        ({"error": "locked"}, Acknowledged((), "locked.", error=True)),
        ({"error": {"code": 7}}, Acknowledged((), None, error=True)),
        (
            {"ClassName": "System.Exception"},
            Acknowledged((), "ClassName: System.Exception.", error=True),
        ),
        ({"error": None, "errorMessage": "", "ClassName": 0}, Acknowledged((), None)),
    ],
)
def test_acknowledgements(body: Any, acknowledged: Acknowledged) -> None:
    """Only listed rows are acknowledged; without rows the message is kept, and marked if it is an error."""
    read = read_acknowledgement(body)
    assert read == acknowledged
    assert type(read.error) is bool


def test_no_row_and_no_error() -> None:
    """By default an acknowledgement is not an error."""
    assert Acknowledged((), None).error is False


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("No such invoice", "No such invoice."),
        ({"errorMessage": "a", "Message": "b", "message": "c"}, "a."),
        ({"errorMessage": "", "Message": 7, "message": "c"}, "c."),
        ({"error": "invalid_client", "error_description": "wrong secret"}, "wrong secret."),
        (
            {"amount": ["too high", 7, "odd"], "id": "missing", "n": 3},
            "amount: too high; odd, id: missing.",
        ),
        ({"amount": [7], "n": None}, ""),
        ({"errorMessage": " ", "Message": "<br>", "error": "locked"}, "locked."),
        ({"message": " ", "detail": ["", "locked"]}, "detail: locked."),
        ({"errorMessage": "", "id": ["", " "]}, ""),
        ({}, ""),
        (["a"], ""),
        ([{"n": 1}, {"error_description": "locked"}], "locked."),
        ({"error": {"code": 3, "message": "locked"}}, "locked."),
        ({"errors": [{"message": "locked"}, {"message": "other"}]}, "locked."),
        ({"errors": ["locked"]}, "errors: locked."),
        ({"error": {"error": {"message": "locked"}}}, "locked."),
        ({"error": {"error": {"error": {"message": "deep"}}}}, ""),
        (None, ""),
    ],
)
def test_own_words(body: Any, words: str) -> None:
    """The error text comes from the most likely error field, otherwise from all text, as one sentence."""
    assert error_text(body) == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("locked", "locked."),
        ("Locked.", "Locked."),
        ("Locked!", "Locked!"),
        ("Locked?", "Locked?"),
        ("<p>Invoice <b>7</b></p>\nis 3 < 4", "Invoice 7 is 3 < 4."),
        ("<br>", ""),
        ("", ""),
    ],
)
def test_a_sentence(text: str, said: str) -> None:
    """Markup is removed, a full stop is added, and empty text stays empty."""
    assert as_sentence(text) == said


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (3_600, 3_600.0),
        (Decimal("59.5"), 59.5),
        (0, 0.0),
        (-5, 0.0),
        (86_400, 86_400.0),
        (86_402, 86_400.0),
        ("3600", 300.0),
        (True, 300.0),
        (None, 300.0),
    ],
)
def test_lifetimes(said: object, seconds: float) -> None:
    """A token lasts as long as Halo says, at most a day; without a number it lasts five minutes."""
    assert lifetime_seconds(said) == seconds
    assert halo_reading.TOKEN_SECONDS_MAX == 24 * 60 * 60
