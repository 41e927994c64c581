"""``python -m tests.simulation``: replay one seed exactly, or play many seeds."""

import argparse
import os
import sys
from pathlib import Path

from tests.simulation.batch import fresh, many_shown, plant, show, write_coverage
from tests.simulation.night import night, replay
from tests.simulation.story import STEERED_FROM


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--whole", action="store_true", help="don't shrink it")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument(
        "--fresh", action="store_true", help="seeds derived from the commit instead"
    )
    parser.add_argument("--night", action="store_true", help="fresh seeds until interrupted")
    parser.add_argument("--planted", action="store_true", help="plant faults instead")
    parser.add_argument(
        "--coverage",
        type=Path,
        metavar="FILE",
        help="write into this document what is never played",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kept", type=Path, help="replay the shrunk story of this file")
    asked = parser.parse_args()
    if asked.seed is not None:
        return show(asked.seed, whole=asked.whole)
    if asked.kept is not None:
        return replay(asked.kept)
    if asked.coverage is not None:
        first = asked.first or STEERED_FROM
        return write_coverage(asked.coverage, first, asked.seeds, asked.jobs)
    if asked.planted:
        return plant(asked.jobs, asked.seeds)
    if asked.night:
        return night(asked.jobs)
    if asked.fresh:
        return fresh(asked.seeds, asked.jobs)
    return many_shown(asked.first, asked.seeds, asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
