"""Numbers and names as people write them. Pure."""

from collections.abc import Mapping

CONDITION_TEXT = {
    "no_state": "that nothing has happened to",
    "in_doubt": "in doubt",
    "due": "due",
    "in_step": "in step",
    "held": "held",
    "failed": "failed",
    "unmatched": "Halo has no row for yet",
    "not_halos": "that aren't Halo's",
}
"""The condition of payments, as words after the word payments."""

KINDS = {
    "tenant": "problem of the tenant",
    "payment": "payment",
    "refunded": "refund",
    "disputed": "dispute",
    "unreadable": "unreadable answer",
}
"""The kinds of entries on the attention list."""

_CHECKS = {"store": "The database", "loop": "The loop", "writes": "Writing to Halo"}


def needing(counts: Mapping[str, int]) -> str:
    """``3 payments, 2 refunds and 1 dispute need attention``; empty without entries.

    Args:
        counts: how many entries the attention list has of each of `KINDS`.
    """
    parts = [
        counted(counts[kind], noun, "problems of the tenant" if kind == "tenant" else None)
        for kind, noun in KINDS.items()
        if counts.get(kind)
    ]
    if not parts:
        return ""
    verb = "needs" if sum(counts.values()) == 1 else "need"
    *most, last = parts
    return f"{' and '.join([', '.join(most), last]) if most else last} {verb} attention"


def check_name(check: str) -> str:
    """The subject of a ``/readyz`` check, to begin a sentence: ``Stripe``, ``The database``."""
    return _CHECKS.get(check) or check.capitalize()


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop at its end."""
    whole = text.strip()
    return whole[:1].upper() + whole[1:] + ("" if whole.endswith((".", "!", "?")) else ".")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 payment``, ``2 payments``; `plural` if the plural is not formed with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
