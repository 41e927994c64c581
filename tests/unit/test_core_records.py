"""The first entries of the attention list."""

from syncd.core.records import AttentionEntry, first_entries


def entry(name: str, kind: str) -> AttentionEntry:
    return AttentionEntry(id=name, kind=kind, condition="held", code=None, reason="", since=0.0)


def test_first_entries() -> None:
    """Half of the places are for other kinds than payments; payments get the places that remain."""
    payments = [entry(f"pi_{n}", "payment") for n in range(100)]
    refunds = [entry(f"re_{n}", "refunded") for n in range(100)]
    both = first_entries([*payments, *refunds], 10)
    assert [one.id for one in both] == [f"pi_{n}" for n in range(5)] + [f"re_{n}" for n in range(5)]
    assert first_entries(payments, 10) == payments[:10]
    assert first_entries([*payments, refunds[0]], 10) == [*payments[:9], refunds[0]]
    assert first_entries(payments[:3], 10) == payments[:3]
