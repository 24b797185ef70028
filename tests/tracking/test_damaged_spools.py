"""Spools that their disk damages: what can still be read is shipped, and every run ends."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.damage import damage
from tests.tracking.recorder import Recorder, summary
from tests.tracking.store import Store, ship
from tuner.tracking.inspection import look_into
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool.shipped import forget_progress
from tuner.tracking.spool.spool import FILE_NAME as SPOOL
from tuner.tracking.spool.spool import parent_folder


@pytest.mark.parametrize("meanwhile", [lambda _folder: None, forget_progress])
def test_a_run_whose_beginning_is_damaged_goes_on_and_ends(
    recorder: Recorder, local: TrackingSettings, meanwhile: Callable[[Path], None]
) -> None:
    recorder.parent(recorder.opened())
    folder = recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1), recorder.sampled(0))
    ship(recorder.folder, local)
    damage(folder, "attempt-started")
    meanwhile(folder)
    ship(recorder.folder, local)
    rest = recorder.epoch(2), recorder.sampled(1), recorder.kept(), recorder.ended()
    recorder.attempt(0, 0, *rest)
    for _ in range(2):
        assert ship(recorder.folder, local) == 0
        forget_progress(folder)

    store = Store(local)
    run = store.runs["trial 0"]
    assert (run.info.status, run.data.tags["tuner.state"]) == ("FINISHED", "completed")
    assert run.data.tags["tuner.refused_events"] == "1"
    assert [step for step, _, _ in store.points("trial 0", "loss")] == [1, 2, 3]
    assert run.data.metrics["best_epoch"] == 3
    assert store.has_one_point_a_step()
    assert {"curves.png", "model", "output.log", "trial.json"} <= store.artifacts("trial 0")


def test_a_beginning_that_was_written_again_stands_for_the_damaged_one(
    recorder: Recorder, local: TrackingSettings
) -> None:
    """Before its run was opened, nothing else tells which run that was to be."""
    recorder.parent(recorder.opened(), recorder.progressed(summary(0)))
    attempt = recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1))
    damage(parent_folder(recorder.folder), "study-opened")
    damage(attempt, "attempt-started")
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(2))
    recorder.parent(recorder.opened(), recorder.closed())

    assert ship(recorder.folder, local) == 0

    store = Store(local)
    assert store.runs["sweep"].info.status == "FINISHED"
    assert store.runs["sweep"].data.metrics["trials_completed"] == 1
    assert [step for step, _, _ in store.points("trial 0", "loss")] == [1, 2]
    told = [run.data.tags["tuner.refused_events"] for run in store.runs.values()]
    assert told == ["1", "1"]


def test_a_line_is_seen_to_be_damaged_before_and_after_it_was_shipped(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    folder = recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1), recorder.ended())
    with (folder / SPOOL).open("ab") as spool:
        spool.write(b'{"kind":"epoch-ended","report":{}}\n')
    waiting = look_into(folder)
    ship(recorder.folder, local)
    shipped = look_into(folder)
    damage(folder, "attempt-ended")
    damaged = look_into(folder)

    assert (waiting.damaged, waiting.pending) == (1, 4)
    assert (shipped.damaged, shipped.pending, shipped.refused) == (1, 0, ())
    assert (damaged.damaged, damaged.pending) == (2, 0)
    assert (shipped.is_evaluated, damaged.is_evaluated) == (True, False)


def test_damage_is_seen_in_a_spool_that_was_shipped_whole(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    folder = recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1), recorder.ended())
    waiting = look_into(folder)
    ship(recorder.folder, local)
    shipped = look_into(folder)
    damage(folder, "epoch-ended")

    assert waiting.told == shipped.told == ("attempt-started", "epoch-ended", "attempt-ended")
    assert (waiting.is_evaluated, shipped.is_evaluated) == (True, True)
    assert (shipped.damaged, look_into(folder).damaged) == (0, 1)
