"""The loop from one attempt to the next, on an engine that follows a script."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.conftest import PlanMaker
from tests.training.scripted_engine import Listener, ScriptedEngine, kept_epoch, train
from tuner.training.checkpoint import Checkpoint
from tuner.training.plan import CHECKPOINT, Outcome, TrialPlan


def interrupted(plan: TrialPlan, engine: ScriptedEngine, epoch: int) -> Path:
    """The checkpoint of a training that ended with its process in the course of an epoch."""

    def die() -> None:
        raise SystemExit

    engine.during = {epoch: die}
    with pytest.raises(SystemExit):
        train(plan, engine)
    return plan.folder / CHECKPOINT


def test_an_attempt_that_goes_on_ends_as_one_that_was_never_interrupted(
    make_plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.training.checkpoint._SHARE", math.inf)  # after every epoch
    right = (30, 60, 40, 20, 50)
    through = train(make_plan(epochs=5, folder=tmp_path), ScriptedEngine(right))
    checkpoint = interrupted(make_plan(epochs=5), ScriptedEngine(right), epoch=4)
    listener, engine = Listener(), ScriptedEngine(right)

    resumed = train(make_plan(epochs=5, resumes=checkpoint), engine, listener)

    assert len(engine.orders) == 2, "only what was missing is trained"
    assert resumed.epochs == tuple(listener.heard)
    assert [e.metrics for e in resumed.epochs] == [e.metrics for e in through.epochs]
    assert resumed.evaluation == through.evaluation
    assert resumed.weights_sha256 == through.weights_sha256 != ""
    assert kept_epoch(resumed) == resumed.best_epoch == through.best_epoch == 2


def test_the_time_of_a_resumed_trial_holds_the_epochs_that_it_takes_over(
    make_plan: PlanMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.training.checkpoint._SHARE", math.inf)  # after every epoch
    path = interrupted(make_plan(epochs=3), ScriptedEngine((10, 20, 30)), epoch=3)
    left = Checkpoint.read(path)
    slow = [
        each.model_copy(update={"train_s": 100.0, "validation_s": 10.0}) for each in left.reports
    ]
    replace(left, reports=tuple(slow)).write(path)

    result = train(make_plan(epochs=3, resumes=path), ScriptedEngine((10, 20, 30)))

    timings = result.timings
    assert timings.train_s + timings.validation_s > 220
    assert timings.total_s > timings.train_s + timings.validation_s


def test_patience_counts_the_epochs_of_the_attempt_before(make_plan: PlanMaker) -> None:
    right, recipe = (60, 40, 40, 40, 40), {"patience": 3}
    checkpoint = interrupted(make_plan(epochs=5, **recipe), ScriptedEngine(right), epoch=4)
    resumed = train(make_plan(epochs=5, resumes=checkpoint, **recipe), ScriptedEngine(right))
    assert [report.epoch for report in resumed.epochs] == [1, 2, 3, 4]


def test_a_checkpoint_that_cannot_be_used_costs_its_epochs_and_is_remarked(
    make_plan: PlanMaker,
) -> None:
    checkpoint = interrupted(make_plan(epochs=4), ScriptedEngine((10, 20, 30, 40)), epoch=3)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    engine = ScriptedEngine((10, 20, 30, 40))
    resumed = train(make_plan(epochs=4, resumes=checkpoint), engine)
    assert len(engine.orders) == len(resumed.epochs) == 4
    assert resumed.remarks[0].startswith("begins again at its first epoch")


def test_a_folder_that_takes_no_checkpoint_ends_no_trial(make_plan: PlanMaker) -> None:
    plan = make_plan(epochs=3)
    (plan.folder / f".partial-{CHECKPOINT}").mkdir()
    result = train(plan, ScriptedEngine((10, 20, 30)))
    assert result.state is Outcome.COMPLETED
    assert result.remarks[0].startswith("cannot keep checkpoints")
