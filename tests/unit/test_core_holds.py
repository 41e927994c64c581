"""The registry of holds: complete, readable, and used with the facts that its sentences need."""

import ast
import re
import shlex
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import syncd
from syncd.core.holds import (
    HOLDS,
    RETRIED_AS_NEW,
    HoldCode,
    HoldEntry,
    LiftedBy,
    Scope,
    command_for,
    entry_of,
    lifted_by,
    message,
)
from syncd.core.reversals import ReversalKind

WORDS_MAX = 30
FACTS = {"state": "x", "missing": "x", "because": "", "received": "x", "rows": "x", "add": "adds",
         "total": "x", "problem": "A problem.", "currency": "X", "invoice": 1, "answered": "",
         "intent_state": "x", "error": "An error.", "intent": "pi_7", "what": "refunds", "day": "x"}  # fmt: skip
C = HoldCode


def fields(entry: HoldEntry) -> set[str]:
    found = {name for _, name, _, _ in Formatter().parse(entry.sentence) if name is not None}
    return found - {"id"}


def test_every_code_has_an_entry() -> None:
    """Each hold code has one entry, and each kind of reversal is a code."""
    assert list(HOLDS) == list(HoldCode)
    assert {str(kind) for kind in ReversalKind} <= {str(code) for code in HoldCode}


@pytest.mark.parametrize("code", HoldCode)
def test_a_message_has_three_parts(code: HoldCode) -> None:
    """A message says what happened, what syncd does and what to do, and ends with a command with the ID."""
    entry, text = HOLDS[code], message(code, "pi_7", **FACTS)
    assert re.search(r"[a-z]", entry.title)
    assert not entry.title.endswith(".")
    command = entry.command.format(id="pi_7")
    assert text.endswith(f" Then run: {command}")
    assert entry.effect in text
    assert "{" not in text
    for part in (entry.meaning, entry.effect, entry.remedy):
        assert part.endswith(".")
        for sentence in re.split(r"(?<=[.?]) ", re.sub(r"\(`[^`]*`\)", "", part)):
            assert len(sentence.split()) <= WORDS_MAX, sentence


def test_every_message_gets_its_facts() -> None:
    """Each call that makes a message passes exactly the facts that the code's sentences need."""
    seen: set[str] = set()
    for file in Path(syncd.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in (
                "held",
                "message",
            ):
                continue
            code = node.args[0]
            if isinstance(code, ast.Attribute) and getattr(code.value, "id", "") == "HoldCode":
                seen.add(code.attr)
                given_facts = {keyword.arg for keyword in node.keywords}
                assert given_facts == fields(HOLDS[HoldCode[code.attr]]), (file.name, code.attr)
    elsewhere = {
        code.name for code in HoldCode if HOLDS[code].scope in (Scope.REVERSAL, Scope.TENANT)
    }
    assert seen == {code.name for code in HoldCode} - elsewhere


def test_what_lifts_a_hold() -> None:
    """The table lists the codes that each cause lifts, for example a config key or a found row."""
    assert {cause: set(lifted_by(cause)) for cause in LiftedBy} == {
        LiftedBy.STATUS_NUMBERS: {C.STATUS_NOT_CONFIGURED, C.HALO_SAYS_SUCCEEDED},
        LiftedBy.ON_AMOUNT_MISMATCH: {C.AMOUNT_MISMATCH, C.AMOUNT_UNREADABLE, C.CURRENCY_UNKNOWN},
        LiftedBy.CREATE_MISSING: {
            C.INVOICE_UNREADABLE,
            C.STATUS_NOT_CONFIGURED,
            C.CURRENCY_UNKNOWN,
            C.AMOUNT_UNREADABLE,
        },
        LiftedBy.ROW_FOUND: {C.ROW_DELETED, C.INVOICE_UNREADABLE, C.INSERT_UNPROVEN},
        LiftedBy.ROW_FOUND_UNCOMPARED: {C.CURRENCY_UNKNOWN},
        LiftedBy.INTENT_READ: {C.STRIPE_UNREADABLE},
        LiftedBy.AUTOMATIC_RETRY: {
            C.HALO_REFUSES,
            C.WRITES_REFUSED,
            C.WRITES_NOT_STORED,
            C.WRITES_HAVE_SIDE_EFFECTS,
        },
    }
    assert set(lifted_by(LiftedBy.STATUS_NUMBERS, LiftedBy.INTENT_READ)) == {
        C.STATUS_NOT_CONFIGURED,
        C.HALO_SAYS_SUCCEEDED,
        C.STRIPE_UNREADABLE,
    }
    assert lifted_by() == ()
    assert RETRIED_AS_NEW == (C.ROW_DELETED,)
    assert [cause for cause in LiftedBy if cause.is_config_key] == [
        "halo.status",
        "push.on_amount_mismatch",
        "push.create_missing",
    ]


@given(st.text())
def test_a_command_is_safe_to_paste(name: str) -> None:
    """An ID from outside is a single shell word, whatever characters it contains."""
    words = shlex.split(command_for("halo_refuses", name))
    assert words == ["syncd", "attention", "retry", name]


def test_a_code_of_another_version() -> None:
    """A code that this version does not know still has a title and a command."""
    assert entry_of("a_new_code").title == entry_of(None).title
    assert command_for("a_new_code", "pi_1") == "syncd attention retry pi_1"
