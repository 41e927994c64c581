"""Decides when the service's steps start."""

from collections.abc import Awaitable, Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from syncd.config.model import Poll
from syncd.service.lanes import Steps
from syncd.text.timestamps import utc

TICK_SECONDS = 30.0
"""How often to push due payments and to notify the watchdog, in seconds."""

SWEEP_LOOK_SECONDS = 900
"""The longest time between two checks for a due sweep: a failed sweep must not wait for a day."""

DELIVERIES_LOOK_SECONDS, DELIVERIES_FIRST_SECONDS = 3_600, 60
"""How often to check whether the daily count of undelivered events is due, in seconds.

The first check comes this long after the start, when the first poll has usually ended.
"""


def plan(
    scheduler: AsyncIOScheduler,
    steps: Steps,
    on_time: Callable[[Callable[[], None]], Awaitable[None]],
    tick: Callable[[], None],
    configured: Poll,
    now: float,
) -> None:
    """Plan all steps from `now` (Unix seconds), and replace the earlier plan.

    Args:
        scheduler: starts the steps.
        steps: the steps.
        on_time: called with the step to start.
        tick: called regularly between two polls.
        configured: the intervals in the configuration.
        now: Unix seconds.
    """
    # Without a fixed interval, the planner decides every second whether to poll.
    fixed, sweep = configured.seconds, configured.sweep
    # By default APScheduler skips a job that is more than a second late.
    options = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
    scheduler.add_job(
        on_time,
        IntervalTrigger(seconds=fixed or 1),
        [steps.poll],
        id="poll",
        next_run_time=utc(now),
        replace_existing=True,
        **options,
    )
    scheduler.add_job(
        on_time,
        IntervalTrigger(seconds=max(1, min(sweep // 4, SWEEP_LOOK_SECONDS))),
        [steps.sweep],
        id="sweep",
        next_run_time=utc(now + 1),
        replace_existing=True,
        **options,
    )
    scheduler.add_job(
        on_time,
        IntervalTrigger(seconds=DELIVERIES_LOOK_SECONDS),
        [steps.count_undelivered],
        id="deliveries",
        replace_existing=True,
        next_run_time=utc(now + DELIVERIES_FIRST_SECONDS),
        **options,
    )
    scheduler.add_job(
        on_time,
        IntervalTrigger(seconds=min(TICK_SECONDS, fixed or TICK_SECONDS)),
        [tick],
        id="tick",
        replace_existing=True,
        **options,
    )
