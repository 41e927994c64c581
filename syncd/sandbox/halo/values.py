"""What the simulated Halo refuses: unknown parameters, and values of the wrong type."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

_WHOLE = ("id", "invoice_id", "status", "method", "module_id", "client_id")
_TEXTS = ("intent_id", "webhook_payload", "intent_response", "thirdpartyid")
_DATES = ("date", "intent_date", "webhook_received_date")
_FILTERS = {
    "client_id": int,
    "count": int,
    "intent_id": str,
    "invoice_id": int,
    "page_no": int,
    "page_size": int,
    "search": str,
}


def is_row(row: Any) -> bool:
    """Whether a posted item is an object at all."""
    return isinstance(row, dict)


def refused_values(place: int, row: Any) -> dict[str, list[str]]:
    """The problems of the values of one posted row, by field.

    Args:
        place: its index in the posted list.
        row: the item.
    """
    if not is_row(row):
        return {f"[{place}]": ["Could not convert to an object."]}
    problems = {}
    for key in _WHOLE:
        if key in row and (isinstance(row[key], bool) or not isinstance(row[key], int)):
            problems[f"[{place}].{key}"] = [
                f"Could not convert {type(row[key]).__name__} to integer."
            ]
    for key in (*_TEXTS, *_DATES):
        if row.get(key) is not None and not isinstance(row[key], str):
            problems[f"[{place}].{key}"] = ["Could not convert to string."]
    for key in _DATES:
        if isinstance(row.get(key), str) and not _is_date(row[key]):
            problems[f"[{place}].{key}"] = ["Could not convert string to DateTime."]
    if "amount" in row and (
        isinstance(row["amount"], bool) or not isinstance(row["amount"], int | Decimal)
    ):
        problems[f"[{place}].amount"] = ["Could not convert string to double."]
    return problems


def refused_filters(query: dict[str, str]) -> dict[str, list[str]]:
    """The problems of a listing's parameters, by name.

    It is unknown whether Halo ignores a parameter that it does not document. Here it is refused, so
    that nobody relies on one.
    """
    problems = {}
    for key, value in query.items():
        kind = _FILTERS.get(key)
        if kind is int and not value.removeprefix("-").isdigit():
            problems[key] = [f"The value '{value}' is not valid."]
        elif key == "pageinate" or re.fullmatch(r"orderdesc[2-5]?", key):
            if value.lower() not in ("true", "false"):
                problems[key] = [f"The value '{value}' is not valid."]
        elif kind is None and not re.fullmatch(r"order[2-5]?", key):
            problems[key] = ["The parameter is unknown."]
    return problems


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
