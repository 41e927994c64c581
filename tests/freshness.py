"""The seed of everything random in the tests: each commit gets another one, the same commit the same.

It decides Hypothesis' examples, hostile input, the moments of kills and the examples that mutants
meet. pytest prints it in its header; ``TEST_SEED=… make test`` draws the same again.
"""

import hashlib
import os
import secrets
import subprocess
from pathlib import Path


def this_commit() -> str | None:
    """The commit of this working tree; None where there is no git repository, or no git."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def seed_of(commit: str | None) -> int:
    """The seed of a commit, from 1 to 2**32 - 1; any seed where the commit is not known."""
    if commit is None:
        return secrets.randbelow(2**32 - 1) + 1
    return int.from_bytes(hashlib.sha256(commit.encode()).digest()[:4], "big") or 1


SEED = int(os.environ.get("TEST_SEED", "0")) or seed_of(this_commit())
os.environ["TEST_SEED"] = str(SEED)  # the workers of pytest-xdist draw the same

REPLAY = f"TEST_SEED={SEED} (set this variable to draw the same random examples again)"
