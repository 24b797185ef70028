"""Plays schedules: a study each, driven to its end, and checked."""

import time
from contextlib import closing

from hypothesis import HealthCheck, example, given, seed, settings

from tests.bench import small_study
from tests.driver.schedules.invariants import check
from tests.driver.schedules.schedule import ALL_STOPPED, MAX_RETRIES, SCHEDULES, Schedule
from tests.driver.schedules.stage import Stage, stage_in_memory
from tests.driver.schedules.world import World
from tuner.startup import configure_process

_BATCH = 50
"""After so many schedules the command begins with another seed."""
_ON_ONE_STAGE = 500
"""After so many it begins with another, empty stage: files of earlier schedules take memory."""


def play(stage: Stage, schedule: Schedule) -> None:
    """Runs the schedule's study to its end, and checks I1 to I3."""
    stage.played += 1
    spec = small_study(
        name=f"study-{stage.played}",
        trials=schedule.trials,
        epochs=schedule.epochs,
        sampler="random",
        search_space={"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2}},
        baseline=[{"learning_rate": 0.001}],
        max_retries=MAX_RETRIES,
    )
    with closing(World(stage, stage.record(spec))) as world:
        for step in schedule.steps:
            for fate in step.fates:
                if not world.done:
                    world.take(step.home, fate)
        world.finish()
        check(world)


def play_generated(stage: Stage, schedules: int, start: int | None = None) -> None:
    """Plays generated schedules. Those that follow from the seed `start`; any, if it is None."""

    @settings(
        max_examples=schedules,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @example(ALL_STOPPED)
    @given(SCHEDULES)
    def run(schedule: Schedule) -> None:
        play(stage, schedule)

    (run if start is None else seed(start)(run))()


def play_for(seconds: float, start: int) -> tuple[int, float]:
    """Plays schedules for some seconds. Returns how many, and the seconds that they took."""
    configure_process()
    begun, played = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        with stage_in_memory() as stage:
            while time.monotonic() - begun < seconds and stage.played < _ON_ONE_STAGE:
                play_generated(stage, _BATCH, start + played + stage.played)
            played += stage.played
    return played, time.monotonic() - begun
