"""Generated schedules of whole studies, in which drivers and trainers die at any moment."""

import pytest

from tests.driver.schedules.player import play_generated
from tests.driver.schedules.stage import stage_in_memory


@pytest.mark.parametrize(
    "schedules", [pytest.param(30, id="few"), pytest.param(150, id="many", marks=pytest.mark.slow)]
)
def test_every_generated_schedule_ends_with_each_trial_run_and_epoch_once(schedules: int) -> None:
    with stage_in_memory() as stage:
        play_generated(stage, schedules)
