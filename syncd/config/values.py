"""Values of the configuration that need more than a type: spans of time, and "auto"."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from syncd.text.timestamps import span_seconds, span_text

SPAN_SECONDS_MAX = 30 * 86_400
"""Stripe lists events for so long: a longer poll interval would miss some."""


Span = Annotated[int, BeforeValidator(span_seconds)]


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):
        message = "must be a whole number"
        raise ValueError(message)  # noqa: TRY004  # pydantic wants a ValueError
    return value


Whole = Annotated[int, BeforeValidator(_not_a_bool)]
Number = Annotated[Whole, Field(ge=-(2**31), lt=2**31)]
"""A number of Halo's, as its fields hold them."""

AUTO: Literal["auto"] = "auto"
"""Where syncd finds the value itself."""


def interval_or_auto(value: object) -> int | str:
    """Read `poll.interval`: "auto", or a span of time as seconds.

    Raises:
        ValueError: it is neither, or outside its limits; the text says what to write instead.
    """
    if value == AUTO:
        return AUTO
    seconds = span_seconds(value)
    for wrong, bound in ((seconds < 1, "least 1s"), (seconds > SPAN_SECONDS_MAX, "most 30d")):
        if wrong:
            message = f"must be at {bound}"
            raise ValueError(message)
    return seconds


def whole_or_auto(value: object) -> int | str:
    """Read `stripe.read_budget`: "auto", or a whole number of at least 1.

    Raises:
        ValueError: it is neither; the text says what to write instead.
    """
    if value == AUTO:
        return AUTO
    digits = isinstance(value, str) and re.fullmatch(r"\s*[0-9_]{1,15}\s*", value)
    if isinstance(value, bool) or not (isinstance(value, int) or digits):
        message = 'must be a whole number, or "auto"'
        raise ValueError(message)
    number = int(str(value))
    if number < 1:
        message = "must be at least 1"
        raise ValueError(message)
    return number


def is_span(field: FieldInfo) -> bool:
    """Whether a key is written as a span of time."""
    return any(
        BeforeValidator(reader) in field.metadata for reader in (span_seconds, interval_or_auto)
    )


def span_written(value: int | str) -> str:
    """A span of time as the file has it."""
    return value if isinstance(value, str) else span_text(value)
