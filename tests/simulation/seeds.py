"""Which seeds are played: those that ever failed, and fresh ones that nobody has played before."""

import hashlib
import subprocess
from pathlib import Path

FAILED = {
    7001003: "The host's clock was set forward while an insert was uncertain: the row was sent twice.",
    7001014: "Refunds were listed only three days back after a gap: one refund was never found.",
    7000477: "A slow Halo put a payment on the attention list, though Halo never refused it.",
    8000049: "A backfill with a key that may not list refunds put that on the attention list.",
}
"""Every seed that ever failed, each with what went wrong."""


def fresh_first(commit: str) -> int:
    """The first fresh seed of a commit: the same for the same commit, far from those of others."""
    digest = hashlib.sha256(commit.encode()).digest()
    return 10_000_000 + int.from_bytes(digest[:5], "big") * 100_000


def this_commit() -> str:
    """The commit of this working tree.

    Raises:
        subprocess.CalledProcessError: this is no git repository.
    """
    here = Path(__file__).parent
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(
        command, cwd=here, check=True, capture_output=True, text=True
    ).stdout.strip()
