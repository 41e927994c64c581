"""Parses Halo's JSON leniently: rows, invoices, acknowledgements and errors.

Pure. The formats are known from the description of the API and from authors of clients. A value
that cannot be parsed is None, never a guess.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from syncd.clients.webhook_payload import TracedRow, read_traced
from syncd.core.payments import INTENT_ID
from syncd.core.rows import Acknowledged, Invoice, Row, RowPage
from syncd.text.sanitize import READ_CHARACTERS_MAX, plain

PAGE_SIZE = 100
"""Rows per request: Halo may limit a page to 100."""

TOKEN_SECONDS_MAX = 86_400.0
"""The longest time a token is used, in seconds, even if it claims to last longer."""

_DIGITS_MAX = 15
_PLAIN_MAX = 10**_DIGITS_MAX
_EXPONENT_MAX = 307
_DECIMAL_TEXT = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_WHOLE_TEXT = re.compile(r"[+-]?[0-9]{1,15}(?:\.0{1,15})?")
ERROR_KEYS = ("errorMessage", "Message", "message", "error_description", "error")


@dataclass(frozen=True, slots=True)
class TracedPage:
    """One page of Halo's rows, each with its trace."""

    page: RowPage
    traced: tuple[TracedRow, ...]


@dataclass(frozen=True, slots=True)
class InvoicePage:
    """One page of a list of Halo's invoices.

    Attributes:
        invoices: the invoices with a readable id; values that the list leaves out are None.
        length: how many entries the page has.
        total: the number of all invoices by Halo's count; None without a count.
    """

    invoices: tuple[Invoice, ...]
    length: int
    total: int | None


def read_json(content: bytes) -> Any:
    """Parse an answer, with numbers as exact decimals; None if it is not JSON."""
    try:
        return json.loads(
            content, parse_float=_decimal, parse_int=_integer, parse_constant=_no_constant
        )
    except (ValueError, RecursionError, InvalidOperation):
        return None


def _decimal(text: str) -> Decimal | None:
    """An exact decimal; None beyond a double, which no column of Halo can hold.

    An integer made from 1e999999999 would take hours, and all of the memory.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.adjusted() <= _EXPONENT_MAX else None


def _integer(text: str) -> int | None:
    """An integer; None beyond a double. Python converts no number of more than 4,300 digits."""
    return int(text) if len(text) <= _EXPONENT_MAX else None


def _no_constant(name: str) -> Any:
    message = f"{name} is not JSON"
    raise ValueError(message)


def read_listing(body: Any) -> tuple[list[Any], int | None] | None:
    """The rows in the answer to a listing, and the number of all rows; None without rows."""
    if isinstance(body, list):
        return body, None
    payments = body.get("payments") if isinstance(body, dict) else None
    if not isinstance(payments, list):
        return None
    return payments, _whole(body.get("record_count"))


def read_traced_page(raw: list[Any], total: int | None) -> TracedPage:
    """Read a page's rows with their traces."""
    rows = tuple(map(read_row, raw))
    traced = tuple(
        read_traced(row, one, _whole(one.get("method")), _whole(one.get("module_id")))
        for row, one in zip(rows, raw, strict=True)
        if isinstance(one, dict)
    )
    return TracedPage(RowPage(rows, total), traced)


def last_page(page: RowPage, *, new: int, seen: int) -> bool:
    """Whether a listing ends with this page.

    A page without new rows ends the listing, because Halo may ignore paging. A full page alone
    never ends it. A short page ends it if Halo's count says that all rows were seen. Without a
    count, only the next page shows whether more rows follow, because Halo may return fewer rows
    than requested.
    """
    if new == 0 or (page.total is None and len(page.rows) > PAGE_SIZE):
        return True
    if len(page.rows) == PAGE_SIZE:
        return False
    return page.total is not None and seen >= page.total


def is_whole(page: RowPage, *, new: int, seen: int) -> bool:
    """Whether a listing that ended with this page certainly contained all rows.

    False if a full page was repeated instead of the next page. A short page that is repeated means
    that Halo ignores paging and lists everything at once.
    """
    if page.total is not None:
        return seen >= page.total
    return new > 0 or len(page.rows) != PAGE_SIZE


def read_row(raw: object) -> Row:
    """Parse one of Halo's rows into the values that decisions need; unreadable values are None."""
    if not isinstance(raw, dict):
        return Row(None, None, None, None, None)
    intent_id = raw.get("intent_id")
    return Row(
        id=_key(raw.get("id")),
        intent_id=intent_id
        if isinstance(intent_id, str) and INTENT_ID.fullmatch(intent_id)
        else None,
        invoice_id=_whole(raw.get("invoice_id")),
        amount=_amount(raw.get("amount")),
        status=_whole(raw.get("status")),
        made=_seconds(raw.get("intent_date")) or _seconds(raw.get("date")),
        invoice_number=_name(raw.get("invoice_invoicenumber")),
        customer=_name(raw.get("client_name")),
        fields=raw,
    )


def read_invoice(raw: object, invoice_id: int) -> Invoice | None:
    """Parse an invoice into the values that comparisons need; None if it is another invoice."""
    found = _read_invoice(raw)
    return found if found is not None and found.id == invoice_id else None


def read_invoice_page(body: Any) -> InvoicePage | None:
    """Parse a page of a list of invoices; None if the answer contains no list."""
    listed = body if isinstance(body, list) else None
    total = None
    if isinstance(body, dict):
        listed, total = body.get("invoices"), _whole(body.get("record_count"))
    if not isinstance(listed, list):
        return None
    return InvoicePage(tuple(filter(None, map(_read_invoice, listed))), len(listed), total)


def _read_invoice(raw: object) -> Invoice | None:
    invoice_id = _whole(raw.get("id")) if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or invoice_id is None:
        return None
    # `currency_code` is the tenant's number for a currency; letters appear in one of these fields,
    # if at all.
    texts = [raw.get(key) for key in ("currency_code_name", "currency", "currency_code")]
    words = [text.strip() for text in texts if isinstance(text, str)]
    codes = [word.upper() for word in words if re.fullmatch(r"[A-Za-z]{3}", word)]
    return Invoice(
        id=invoice_id,
        number=_name(raw.get("invoicenumber")),
        total=_amount(raw.get("total")),
        due=_amount(raw.get("amountdue")),
        currency=codes[0] if codes else None,
        customer=_name(raw.get("client_name")),
    )


def _key(value: object) -> int | None:
    """The number of a row. None below one, because .NET shows a missing number as 0."""
    number = _whole(value)
    return number if number is not None and number > 0 else None


def _whole(value: object) -> int | None:
    """A whole number that a database can hold, also if it is sent as 3.0 or as text."""
    if type(value) is int and abs(value) < _PLAIN_MAX:  # nearly every value
        return value
    if isinstance(value, str) and _WHOLE_TEXT.fullmatch(value.strip()):
        value = Decimal(value.strip())
    number = _number(value)
    if number is None or number != number.to_integral_value():
        return None
    return int(number)


def _seconds(value: object) -> int | None:
    """A date as Unix seconds, in UTC if it has no zone; None for 1900, which means never."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        if found is None or found.year <= 1900:
            return None
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def _name(value: object) -> str | None:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return plain(text, 100) or None


def _number(value: object) -> Decimal | None:
    """A number of plausible size, with the precision of a double.

    The exponent is checked first: arithmetic with 1e9999999 fails, and 1e-9999999 as text takes ten
    million characters.
    """
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    if not number.is_finite() or not -20 <= number.adjusted() < _DIGITS_MAX:
        return None
    return +number


def _amount(value: object) -> Decimal | None:
    """An amount in major units, also as text with digits and at most one decimal point."""
    if isinstance(value, str) and _DECIMAL_TEXT.fullmatch(value.strip()):
        value = Decimal(value.strip())
    return _number(value)


def lifetime_seconds(value: object) -> float:
    """A token's lifetime in seconds according to its issuer; five minutes if the value is unusable."""
    number = _number(value)
    return 300.0 if number is None else min(max(float(number), 0.0), TOKEN_SECONDS_MAX)


def read_acknowledgement(body: Any) -> Acknowledged:
    """Parse Halo's answer to a POST. Its format is not documented, so the rows are searched."""
    listed: Any = body
    if isinstance(body, dict):
        listed = body.get("payments") if isinstance(body.get("payments"), list) else [body]
    if not isinstance(listed, list):
        return Acknowledged((), None)
    rows = tuple(row for row in map(read_row, listed) if row.id is not None)
    error = isinstance(body, dict) and any(
        body.get(key) for key in ("errorMessage", "error", "ClassName")
    )
    return Acknowledged(rows, None if rows else error_text(body) or None, error and not rows)


def error_text(body: Any) -> str:
    """Find Halo's error message in any known format, as one plain sentence."""
    if isinstance(body, str):
        return as_sentence(body)
    if said := stated_error(body):
        return said
    if not isinstance(body, dict):
        return ""
    parts = []
    for key, value in body.items():
        texts = [t for t in (value if isinstance(value, list) else [value]) if isinstance(t, str)]
        if said := "; ".join(filter(str.strip, texts)):
            parts.append(f"{key}: {said}")
    return as_sentence(", ".join(parts))


def stated_error(body: Any, depth: int = 3) -> str:
    """Find an error's text by its usual names, also inside another object or a list of objects.

    Args:
        body: the answer's JSON.
        depth: how many levels of nested objects and lists are searched.
    """
    found: list[Any] = []
    if isinstance(body, dict):
        found = [body.get(key) for key in (*ERROR_KEYS, "errors")]
    elif isinstance(body, list):
        found = [one for one in body if isinstance(one, dict)]
    for one in found:
        said = as_sentence(one) if isinstance(one, str) else ""
        if not said and depth > 1:
            said = stated_error(one, depth - 1)
        if said:
            return said
    return ""


def as_sentence(text: str) -> str:
    """The text without markup, as one sentence."""
    said = plain(re.sub(r"<[^<>]*>", " ", text[:READ_CHARACTERS_MAX]))
    return said if not said or said.endswith((".", "!", "?")) else f"{said}."
