"""Sanitizes text from outside: what is removed, what stays, and what counts as a secret."""

from collections.abc import Callable, Iterator

import pytest

from syncd.text.sanitize import READ_CHARACTERS_MAX, conceal, inert, plain, without_secrets
from syncd.text.shape import shape_of


@pytest.fixture
def known() -> Iterator[Callable[[str | None], None]]:
    yield lambda secret: conceal("one of this test", secret)
    conceal("one of this test", None)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("pi_1_secret_abc_1, then", "pi_1[removed], then"),
        ("key sk_live_ab12*, sk_test_x; rk_live_y: whsec_z!", "key [removed], [removed]; [removed]: [removed]!"),
        ("old sk_abc and rk_abc", "old [removed] and [removed]"),
        ("disk_space, task_id", "disk_space, task_id"),
        ("got eyJhbGciOiJIUzI1.eyJzdWIi.c2ln", "got [removed]"),
        ("eyJshort", "eyJshort"),
        ("of pi_3xT2cyeyJ0ljkgN6AnB3vFcG.", "of pi_3xT2cyeyJ0ljkgN6AnB3vFcG."),
        ("after\\neyJhbGciOiJIUzI1.eyJzdWIi.c2ln", "after\\n[removed]"),
        ("Bearer abc.def~1+/=, then", "Bearer [removed], then"),
        ("BASIC dXNlcjpwYXNzd29yZA== then", "BASIC [removed] then"),
        ("a basic token", "a basic token"),
        ("client_secret=abc&x=1", "client_secret=[removed]&x=1"),
        ('{"access_token": "abc", "n": 1}', '{"access_token": "[removed]", "n": 1}'),
        ("refreshtoken=abc; Api_Key=abc apikey=abc", "refreshtoken=[removed]; Api_Key=[removed] apikey=[removed]"),
        ("Password='abc' client_secret=\"abc\" then", "Password='[removed]' client_secret=\"[removed]\" then"),
        ("password='', then", "password='', then"),
        ("password=abc", "password=[removed]"),
        ("the secret santa", "the secret santa"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret(text: str, left: str) -> None:
    """A secret of any kind is removed, and the text around it stays."""
    assert without_secrets(text) == left
    assert inert(text) == left
    assert plain(text) == left


def test_secrets_that_are_known_to_the_caller() -> None:
    """Secrets that the caller passes are removed whatever their length; empty ones are ignored."""
    assert without_secrets("a x b y", ["x", None, "", "y"]) == "a [removed] b [removed]"


@pytest.mark.parametrize(
    "text",
    [
        'it is long "&" énough.',
        "it is long+%22%26%22+%C3%A9nough.",
        'it is long \\"&\\" \\u00e9nough.',
    ],
)
def test_a_secret_of_ours_in_every_dress(text: str, known: Callable[[str | None], None]) -> None:
    """A configured secret is found as plain text, form-encoded and in JSON; quotes around it stay."""
    known('long "&" énough')
    assert without_secrets(text) == "it is [removed]."
    assert without_secrets(f'"{text[6:-1]}"') == '"[removed]"'


def test_secrets_that_are_too_short(known: Callable[[str | None], None]) -> None:
    """A secret of seven characters may be an ordinary word, so it is not removed; one of eight is."""
    known("eightlng")
    assert without_secrets("an eightlng story") == "an [removed] story"
    known("a story")
    assert without_secrets("an eightlng a story") == "an eightlng a story"
    known("longer than eight")
    assert without_secrets("it is longer than eight") == "it is [removed]"
    known(None)
    assert without_secrets("it is longer than eight") == "it is longer than eight"


def test_what_cannot_be_seen() -> None:
    """Control characters, invisible marks and surrogates are removed before secrets are searched."""
    assert inert("a\x00b\x1b[31mc\u202ed\ud800e") == "ab[31mcde"
    assert inert("a\tb\u2028c\rd\ne  f é\n") == "a b c d\ne  f é\n"
    assert inert("sk_li\u200bve_abc") == "[removed]"


@pytest.mark.parametrize(
    "spelled",
    [
        r"sk_li\u200bve_abc",
        r"sk_li\U200Bve_abc".replace("U", "u"),
        r"sk_\u006cive_abc",
        r"sk_li\\u0000ve_abc",
        r"sk_li\u005cu0000ve_abc",
        r"sk_li\ud800ve_abc",
        r"\u0073k_live_abc",
    ],
)
def test_characters_as_json_spells_them(spelled: str) -> None:
    """A secret is found even if JSON escapes one of its characters or an invisible character."""
    assert inert(f'{{"key": "{spelled}"}}') == '{"key": "[removed]"}'
    assert inert(r"caf\u00e9 \u12 \users") == r"café \u12 \users"


def test_one_line() -> None:
    """A line has single spaces, none at its ends, and a maximum length."""
    assert plain(" a\n\n b\t c ") == "a b c"
    assert plain("x" * 501) == "x" * 500
    assert plain("x" * 500) == "x" * 500
    assert plain("abc def", 4) == "abc"
    assert plain("abc def", 5) == "abc d"


def test_how_much_is_looked_at() -> None:
    """Only the first 100,000 characters of a text are read."""
    assert READ_CHARACTERS_MAX == 100_000
    assert inert("x" * 100_001) == "x" * 100_000


def test_a_shape_has_no_contents() -> None:
    """A shape keeps field names; a name that is a secret or not a field's is only counted."""
    shape = shape_of({"id": 1, "rk_live_0123456789abcdefghij": 2, "Jane Doe": [None], "": "x"})
    assert shape == (
        '{"id": "whole number", "a name of 28 characters": "whole number", '
        '"a name of 8 characters": ["null", "1 in all"], "a name of 0 characters": "text of 1"}'
    )
