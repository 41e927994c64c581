"""Words from outside, made fit to be shown: on one line, inert on a terminal, without secrets.

Pure except for one thing: it is given the secrets of this process, so that it recognizes them
wherever somebody sends them back. What a log, an error, a page or the store says passes through here.
"""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote_plus

READ_CHARACTERS_MAX = 100_000
"""More of a text is not even looked at."""

_CONCEALED_CHARACTERS_MIN = 8
"""A shorter secret would be found in the middle of ordinary words."""

_SECRETS = (
    # Stripe's client secrets: anyone who has one may act on the payment.
    (("_secret_",), re.compile(r"()_secret_[A-Za-z0-9_]+")),
    (
        ("sk_", "rk_", "whsec_"),
        re.compile(r"()(?:[rs]k_(?:live|test)|(?<![A-Za-z])[rs]k|whsec)_[A-Za-z0-9_*]+"),
    ),
    # JSON Web Tokens.
    (("eyj",), re.compile(r"()eyJ[A-Za-z0-9_\-]{10,}(?:\.[A-Za-z0-9_\-]+)*")),
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
"""What secrets look like, each with what a text must contain (in lower case) to be searched for it."""

_ANY_HINT = re.compile("|".join(re.escape(hint) for hints, _ in _SECRETS for hint in hints))
"""One search that most texts pass, in place of one for each hint."""

_SPACE = re.compile(r"\s+")

_ESCAPED = re.compile(r"\\+u([0-9A-Fa-f]{4})")
"""A character as JSON text spells it, also in JSON within JSON (RFC 8259, section 7)."""

_concealed: dict[str, tuple[str, ...]] = {}


def conceal(name: str, secret: str | None) -> None:
    """Never show this secret from now on; it takes the place of what had this name before."""
    if secret is None or len(secret) < _CONCEALED_CHARACTERS_MIN:
        _concealed.pop(name, None)
        return
    _concealed[name] = tuple({secret, quote_plus(secret), json.dumps(secret)[1:-1]})


def without_secrets(text: str, known: Iterable[str | None] = ()) -> str:
    """Replace what is, or looks like, a secret; those that are `known` too, whatever their length."""
    for one in filter(None, known):
        text = text.replace(one, "[removed]")
    for forms in _concealed.values():
        for form in forms:
            text = text.replace(form, "[removed]")
    low = text.lower()
    if not _ANY_HINT.search(low):
        return text
    for hints, secret in _SECRETS:
        if any(hint in low for hint in hints):
            text = secret.sub(r"\1[removed]", text)
    return text


def inert(text: str) -> str:
    """Lines of printable characters without secrets, their spaces kept: for a terminal.

    What can't be seen (terminal escapes, marks that turn the direction of writing, halves of
    characters) is left out before secrets are looked for, so that none hides behind it. Characters
    that JSON text spells with a backslash are read first, for the same reason.
    """
    seen = text[:READ_CHARACTERS_MAX]
    while _ESCAPED.search(seen):  # each pass makes the text shorter
        seen = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), seen)
    if not seen.isprintable():
        seen = "".join(c if c.isprintable() or c == "\n" else _blank(c) for c in seen)
    return without_secrets(seen)


def plain(text: str, characters_max: int = 500) -> str:
    """The same on one line, cut at a length: for a log, an error, the store."""
    seen = inert(text)
    if not seen.isalnum():  # most ids and numbers have no space to look for
        seen = _SPACE.sub(" ", seen).strip()
    return seen[:characters_max].rstrip()


def _blank(character: str) -> str:
    return " " if character.isspace() else ""
