"""Types for configuration values: time spans, and "auto"."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from syncd.text.timestamps import span_seconds, span_text

SPAN_SECONDS_MAX = 30 * 86_400
"""How long Stripe lists events, in seconds: a longer poll interval would miss some."""


Span = Annotated[int, BeforeValidator(span_seconds)]


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):
        message = "must be a whole number"
        raise ValueError(message)  # noqa: TRY004  # pydantic wants a ValueError
    return value


Whole = Annotated[int, BeforeValidator(_not_a_bool)]
Number = Annotated[Whole, Field(ge=-(2**31), lt=2**31)]
"""A number in Halo, with the range of Halo's fields."""

AUTO: Literal["auto"] = "auto"
"""The value "auto": syncd finds the value itself."""


def interval_or_auto(value: object) -> int | str:
    """Parse `poll.interval`: "auto", or a time span, as seconds.

    Raises:
        ValueError: it is neither, or outside its limits; the text shows what to write instead.
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
    """Parse `stripe.read_budget`: "auto", or a whole number of at least 1.

    Raises:
        ValueError: it is neither; the text shows what to write instead.
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
    """Whether a key is written as a time span."""
    return any(
        BeforeValidator(reader) in field.metadata for reader in (span_seconds, interval_or_auto)
    )


def span_written(value: int | str) -> str:
    """A time span as the file writes it."""
    return value if isinstance(value, str) else span_text(value)
