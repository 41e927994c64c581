"""The real process, killed at moments that a seed chooses: also during a write.

Every run makes a few kills, ``make crashes N=…`` makes N; a failure's message shows its seed, and
``CRASH_SEED=…`` repeats the same moments.
"""

import os
import random
import signal
import time
from pathlib import Path

from tests import freshness
from tests.crash.starter import Starter
from tests.crash.stories import KILLED, told

KILLS = int(os.environ.get("CRASHES", "0")) or 4
SEED = int(os.environ.get("CRASH_SEED", "0")) or freshness.SEED
MOST_SECONDS = {"poll": 0.3, "doubt": 0.5, "late": 0.5, "backfill": 1.0, "service": 0.6}
"""Most work happens within this time; a later kill meets a process that has ended or is idle."""


def test_killed_at_any_moment(starting: Starter, tmp_path: Path) -> None:
    """After one or several kills at any moment, the next run completes the story correctly."""
    print(f"CRASH_SEED={SEED}")
    dice, killed = random.Random(SEED), 0
    for number in range(KILLS):
        name = dice.choice(list(MOST_SECONDS))
        moments = [dice.uniform(0, MOST_SECONDS[name]) for _ in range(dice.choice((1, 1, 2, 4)))]
        with told(name, starting, tmp_path / str(number)) as story:
            try:
                for moment in moments:
                    process = story.start()
                    time.sleep(moment)
                    os.kill(process, signal.SIGKILL)
                    code = starting.ended(process, wait=True)
                    assert code in (KILLED, *story.ends), story.log()
                    killed += code == KILLED
                story.finish()
            except AssertionError as error:
                where = f"story {number} ({name}), killed after {moments} s; CRASH_SEED={SEED}"
                raise AssertionError(where) from error
    print(f"{killed} kills in {KILLS} stories")
    assert killed > 0
