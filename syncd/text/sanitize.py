"""Sanitizes text from Stripe, Halo and files before it is logged or displayed.

The result is on one line, inert on a terminal, and without secrets. Pure except for one thing: the
process registers its secrets here, so that they are recognized wherever they appear. All text in a
log, an error, a page or the store is sanitized here.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote_plus

READ_CHARACTERS_MAX = 100_000
"""Longer texts are cut before they are examined, in characters."""

_CONCEALED_CHARACTERS_MIN = 8
"""Shorter secrets are ignored, because they would match parts of ordinary words."""

_SECRETS = (
    # Stripe's client secrets: anyone who has one may act on the payment.
    (("_secret_",), re.compile(r"()_secret_[A-Za-z0-9_]+")),
    (
        ("sk_", "rk_", "whsec_"),
        re.compile(r"()(?:[rs]k_(?:live|test)|(?<![A-Za-z])[rs]k|whsec)_[A-Za-z0-9_*]+"),
    ),
    # JSON Web Tokens. The id of a payment may contain "eyJ", too: inside a word, a token has its two points.
    (
        ("eyj",),
        re.compile(
            r"()(?:(?<![A-Za-z0-9_])eyJ[A-Za-z0-9_\-]{10,}(?:\.[A-Za-z0-9_\-]+)*"
            r"|eyJ[A-Za-z0-9_\-]{10,}(?:\.[A-Za-z0-9_\-]+){2,})"
        ),
    ),
    (
        ("bearer ", "basic "),
        re.compile(
            r"(?i)(bearer +(?=[^ ])|basic +(?=[A-Za-z0-9+/=]{16}))"
            r"(?:(?!bearer|basic)[A-Za-z0-9_\-.~+/=])+"
        ),
    ),
    (
        ("secret", "access", "refresh", "api_key", "apikey", "password"),
        re.compile(
            r"(?i)((?:client_?secret|(?:access|refresh)_?token|api_?key|password)"
            r"(?:=[\"']?|[\"']\s*:\s*[\"']))[^\s\"'&,;<>\\]+"
        ),
    ),
)
"""Patterns of secrets, each with a text (in lower case) that must be present before the search."""

_ANY_HINT = re.compile("|".join(re.escape(hint) for hints, _ in _SECRETS for hint in hints))
"""One search that most texts pass, instead of one for each hint."""

_SHORT_CHARACTERS = 60
"""Texts up to this length are remembered after they were sanitized."""

_SPACE = re.compile(r"\s+")

_ESCAPED = re.compile(r"\\+u([0-9A-Fa-f]{4})")
"""A character in JSON's escaped notation, also in JSON within JSON (RFC 8259, section 7)."""

_concealed: dict[str, tuple[str, ...]] = {}


REMOVED = "[removed]"
"""What is shown and stored in place of a secret."""


def conceal(name: str, secret: str | None) -> None:
    """Never show this secret from now on; it replaces the earlier secret of the same name."""
    if secret is None or len(secret) < _CONCEALED_CHARACTERS_MIN:
        _concealed.pop(name, None)
    else:
        _concealed[name] = tuple({secret, quote_plus(secret), json.dumps(secret)[1:-1]})
    _plain_short.cache_clear()  # last: another thread may fill the cache meanwhile


def without_secrets(text: str, known: Iterable[str | None] = ()) -> str:
    """Replace secrets and everything that looks like one; `known` secrets whatever their length."""
    for one in filter(None, known):
        text = text.replace(one, REMOVED)
    for forms in _concealed.values():
        for form in forms:
            text = text.replace(form, REMOVED)
    low = text.lower()
    if not _ANY_HINT.search(low):
        return text
    for hints, secret in _SECRETS:
        if any(hint in low for hint in hints):
            text = secret.sub(rf"\1{REMOVED}", text)
    return text


def inert(text: str) -> str:
    """Lines of printable characters without secrets, with their spaces, for a terminal.

    Invisible characters (terminal escapes, marks that change the direction of writing, halves of
    surrogate pairs) are removed before the search for secrets, so that they cannot hide a secret.
    Escaped JSON characters are decoded first, for the same reason.
    """
    seen = text[:READ_CHARACTERS_MAX]
    while _ESCAPED.search(seen):  # each pass makes the text shorter
        seen = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), seen)
    if not seen.isprintable():
        seen = "".join(c if c.isprintable() or c == "\n" else _blank(c) for c in seen)
    return without_secrets(seen)


def plain(text: str, characters_max: int = 500) -> str:
    """The same on one line, cut at a length: for a log, an error, the store."""
    short = len(text) <= _SHORT_CHARACTERS
    return (_plain_short(text) if short else _plain(text))[:characters_max].rstrip()


def _plain(text: str) -> str:
    seen = inert(text)
    if not seen.isalnum():  # most ids and numbers have no whitespace
        seen = _SPACE.sub(" ", seen).strip()
    return seen


_plain_short = lru_cache(maxsize=1_000)(_plain)
"""Names of states, customers and events come again and again."""


def _blank(character: str) -> str:
    return " " if character.isspace() else ""
