"""Which point is best, and which of its trainings stands for it."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import Bench, ScriptedPool, small_study
from tuner.search.ranking import Training, best_point, in_order, rank
from tuner.spec.study_spec import StudySpec
from tuner.study.driver_events import ProgressEvent, TrialDone
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import StudyProgressed

TWO_POINTS = [0.90, 0.99, 0.80, 0.93, 0.94, 0.92]
"""Of three seeds each: the first has the luckiest training, the second the better mean."""


def study_of(seeds: int, objective: str) -> StudySpec:
    return StudySpec.model_validate(
        {
            "name": "small",
            "dataset": "digits",
            "model": "paper-cnn",
            "search_space": {"dropout_rate": {"type": "float", "low": 0, "high": 1}},
            "objective": objective,
            "trials": 9,
            "seeds": seeds,
            "epochs": 1,
            "validation": 10,
        }
    )


@given(
    seeds=st.integers(1, 5),
    objective=st.sampled_from(["val_accuracy", "val_loss"]),
    values=st.dictionaries(st.integers(0, 40), st.floats(0, 1)),
)
def test_points_are_ranked_by_missing_trainings_then_by_their_mean(
    seeds: int, objective: str, values: dict[int, float]
) -> None:
    spec = study_of(seeds, objective)
    sign = -1 if objective == "val_accuracy" else 1

    trainings = [Training(slot, slot, value) for slot, value in values.items()]
    ranked = rank(spec, trainings)

    keys = []
    for point in ranked:
        own = {slot: value for slot, value in values.items() if slot // seeds == point.point}
        assert {training.slot for training in point.trainings} == own.keys()
        assert point.mean == pytest.approx(fmean(own.values()))
        keys.append((seeds - len(own), sign * point.mean))
        middle = point.representatives[0].value
        better = sum(sign * value < sign * middle for value in own.values())
        worse = sum(sign * value > sign * middle for value in own.values())
        assert better <= len(own) // 2
        assert worse <= (len(own) - 1) // 2
    assert keys == sorted(keys)
    assert best_point(spec, trainings) == next(iter(ranked), None)
    assert sorted(training.slot for training in in_order(ranked)) == sorted(values)


def test_the_best_point_has_the_best_mean_not_the_best_single_seed(bench: Bench) -> None:
    heard: list[ProgressEvent] = []

    summary = bench.run(
        small_study(trials=2, seeds=3),
        ScriptedPool(curve=lambda plan, _epoch: TWO_POINTS[plan.slot]),
        notify=heard.append,
    )

    best = summary.best
    assert best is not None
    assert (best.point, best.trials, best.completed, best.seeds) == (1, (4, 3, 5), 3, 3)
    assert best.mean == pytest.approx(0.93)
    assert best.std == pytest.approx(0.01)
    assert (best.trial.number, best.trial.value) == (3, 0.93)
    assert summary.best_single is not None
    assert (summary.best_single.number, summary.best_single.point) == (1, 0), "by luck"
    assert [point.point for point in summary.points] == [1, 0]
    told = [event.best for event in heard if isinstance(event, TrialDone)]
    assert [(each.point, each.completed) for each in told if each] == [
        *((0, 1), (0, 2), (0, 3)),
        *((0, 3), (0, 3), (1, 3)),
    ]
    metrics = progressed(bench)[-1].metrics
    assert metrics["best_val_accuracy"] == best.mean
    assert (metrics["best_val_accuracy_std"], metrics["best_val_accuracy_n"]) == (best.std, 3)


@pytest.mark.parametrize("end", ["pruned", "failed"])
def test_a_point_with_a_missing_training_ranks_below_a_complete_one(bench: Bench, end: str) -> None:
    values = [0.91, 0.92, 0.93, 0.99, 0.98, 0.10]
    spec = small_study(trials=2, seeds=3, pruner={"type": "median", "n_startup_trials": 3})
    pool = ScriptedPool(
        curve=lambda plan, _epoch: values[plan.slot] if end == "pruned" or plan.slot != 5 else 1.0,
        fails=lambda plan: end == "failed" and plan.slot == 5,
    )

    summary = bench.run(spec, pool)

    assert summary.counts[end] == 1
    assert [(each.point, each.completed) for each in summary.points] == [(0, 3), (1, 2)]
    assert summary.points[1].mean > summary.points[0].mean


def progressed(bench: Bench) -> list[StudyProgressed]:
    """What the parent's spool tells of the study as a whole."""
    told, _ = read_events(bench.home.parent("small"))
    return [event for event in told if isinstance(event, StudyProgressed)]


def test_the_earlier_trial_wins_a_tie(bench: Bench) -> None:
    values = [0.5, 0.9, 0.9, 0.1, 0.2, 0.3]

    summary = bench.run(small_study(), ScriptedPool(curve=lambda plan, _epoch: values[plan.slot]))

    assert summary.best is not None
    assert summary.best.trial.number == 1
    metrics = progressed(bench)[-1].metrics
    assert (metrics["best_val_accuracy"], metrics["best_val_accuracy_n"]) == (0.9, 1)
    assert "best_val_accuracy_std" not in metrics, "a single training has none"
