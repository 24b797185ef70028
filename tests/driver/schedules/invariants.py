"""What holds after every schedule: the invariants I1 to I3."""

from collections import Counter

from tests.driver.schedules.schedule import HOMES, MAX_RETRIES
from tests.driver.schedules.world import World
from tuner.search.outlines import Outline, outlines
from tuner.storage.attempts import Attempt
from tuner.tracking.shipping.steps import steps
from tuner.tracking.spool.spool import read_lines

STATUS = {
    "completed": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "lost": "KILLED",
}


def check(world: World) -> None:
    """I1: each slot is one trial that has ended, after no more retries than it may have."""
    tried = world.bench.ledger(world.spec).attempts()
    rows, slots = _rows(world), list(range(world.spec.trials))
    assert sorted(row.slot for row in rows) == slots
    assert all(row.state.is_finished() for row in rows)
    assert all(each.outcome is not None for each in tried)
    assert sorted(each.slot for each in tried if each.final) == slots
    lost = Counter(each.slot for each in tried if each.outcome == "lost")
    assert all(number <= MAX_RETRIES for number in lost.values())
    for attempt in tried:
        _check_run(world, attempt)


def _rows(world: World) -> list[Outline]:
    name = world.spec.name
    return world.bench.database.transact(lambda one: outlines(one, [name]))[name]


def _check_run(world: World, attempt: Attempt) -> None:
    """I2 and I3: an attempt is one run that has ended, with each epoch once and no gap.

    What a killed driver has written by half damages no line that follows.
    """
    folders = [world.folder(home, attempt) for home in range(HOMES)]
    done = [step for folder in folders for step in steps(None, list(read_lines(folder, 0)))]
    if not done:
        assert attempt.handed_back, "an attempt without a run had not begun"
        return
    assert not any(step.refused for step in done), "each line can be read"
    assert {step.run.opening.uid for step in done if step.run} == {attempt.uid}
    statuses = [step.update.status for step in done if step.update.status]
    assert set(statuses) - {"RUNNING"} == {STATUS[str(attempt.outcome)]}
    assert statuses[-1] != "RUNNING"
    points = [point.step for step in done for point in step.update.points if point.key == "loss"]
    assert points == list(range(1, len(points) + 1))
