"""Notes: each has a type, and an unreadable note counts as absent."""

from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import Side
from syncd.core.payments import PaymentState
from syncd.store.coordination import (
    BACKFILL,
    GAP,
    LINKS,
    NOTES,
    PROVEN_NUMBERS,
    PUSH_BATCH,
    PUSH_FAILING,
    SENT_FORGOTTEN,
    STRIPE_MODE,
    WATERMARK,
    BackfillNote,
    GapNote,
    LinkNote,
)
from syncd.store.db.notes import Note
from syncd.store.store import Store

STORED: list[tuple[Note[Any], Any, str]] = [
    (WATERMARK, 1_795_500_000, "1795500000"),
    (STRIPE_MODE, "live", "live"),
    (STRIPE_MODE, "12", "12"),
    (PUSH_BATCH, 25, "25"),
    (PUSH_FAILING, {"pi_1": (1.5, 2.0)}, '{"pi_1":[1.5,2.0]}'),
    (LINKS[Side.HALO], LinkNote("503", 2.5), '{"reason":"503","since":2.5}'),
    (
        BACKFILL,
        BackfillNote("90d", 1, 2, "pi_1"),
        '{"asked":"90d","since":1,"begun":2,"cursor":"pi_1"}',
    ),
    (SENT_FORGOTTEN, 1_795_500_000.5, "1795500000.5"),
    (PROVEN_NUMBERS[PaymentState.SUCCEEDED], 3, "3"),
    (GAP, GapNote(1, 2, 3, 4), '{"from":1,"to":2,"filled_at":3,"intents":4}'),
]


@pytest.mark.parametrize(("note", "value", "text"), STORED)
def test_there_and_back(note: Note[Any], value: Any, text: str) -> None:
    """A value is stored in the form that syncd 0.1 used, and is read back unchanged."""
    assert note.encode(value) == text
    assert note.decode(text) == value


DAMAGED = ("", "{", "null", "[]", "many", '{"other": 1}', '"text"', "-1e999", "\0")


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.name)
def test_damaged_is_absent(note: Note[Any], text: str) -> None:
    """No stored text makes reading fail: a value of another type counts as absent."""
    assert note.decode(text) in (None, text)
    assert note.decode(None) is None


def test_names_are_unique() -> None:
    """No two notes have the same name."""
    assert len({note.name for note in NOTES}) == len(NOTES)


def test_written_and_removed(tmp_path: Path) -> None:
    """A note is kept until it is removed; reading a missing note gives None."""
    store = Store.open(f"sqlite:///{tmp_path}/syncd.db")
    assert store.read(GAP) is None
    store.write(GAP, GapNote(1, 2, 3, 4))
    assert store.read(GAP) == GapNote(1, 2, 3, 4)
    store.write(GAP, None)
    assert (store.read(GAP), store.notes()) == (None, {})
    store.close()
