from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as RowState
from sqlalchemy import event

from tests.study.conftest import Bench, ScriptedPool
from tuner.spec.study import StudySpec
from tuner.study.progress import ProgressEvent, Step, TrialDone, TrialHandedBack
from tuner.study.summary import StudySummary
from tuner.tracking.events import (
    AttemptEnded,
    AttemptStarted,
    EpochEnded,
    ModelKept,
    StudyProgressed,
)
from tuner.tracking.spool import read_events
from tuner.training.plan import TrainerInfo, TrialPlan

Spec = Callable[..., StudySpec]


def test_a_study_ends_with_exactly_its_trials_and_the_baseline_first(
    each_bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    summary = each_bench.run(study_spec(), scripted(size=2))

    assert summary.counts == {
        "completed": 6, "pruned": 0, "failed": 0, "running": 0, "waiting": 0,
    }  # fmt: skip
    assert summary.trials[0].params == {"learning_rate": 0.001, "batch_size": 32}
    assert sorted(trial.slot for trial in summary.trials) == list(range(6))
    assert summary.done


def test_a_finished_study_does_nothing_more(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    first = bench.run(study_spec(), scripted())
    pool = scripted()

    assert bench.run(study_spec(), pool) == first
    assert pool.submitted == []


def test_raising_the_trials_of_a_finished_study_goes_on(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.run(study_spec(), scripted())
    pool = scripted()

    summary = bench.run(study_spec(trials=9), pool)

    assert summary.counts["completed"] == 9
    assert [plan.slot for plan in pool.submitted] == [6, 7, 8]


def test_a_trainer_whose_engine_finds_no_gpu_is_told_of_once(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    lacking, fine = (
        TrainerInfo(
            host="here", pid=1, assigned="gpu:0", device=device, backend="tensorflow", versions={}
        )
        for device in ("cpu:0-1", "gpu:0")
    )
    told: list[ProgressEvent] = []

    bench.run(study_spec(trials=1), scripted(starting=[fine, lacking]), notify=told.append)

    (step,) = (event for event in told if isinstance(event, Step))
    assert step.text == (
        "gpu:0: tensorflow found no GPU there and trains on cpu:0-1; "
        "pip install 'tuner[cuda]' brings what it needs"
    )


def test_a_trials_value_is_its_best_epoch_the_earliest_on_ties(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    curve = {1: 0.5, 2: 0.9, 3: 0.9}
    summary = bench.run(study_spec(trials=1), scripted(curve=lambda _plan, epoch: curve[epoch]))

    row = bench.trials(study_spec()).all()[0]
    assert summary.trials[0].value == row.value == 0.9
    assert row.user_attrs["best_epoch"] == 2
    assert row.intermediate_values == curve


def test_a_sequential_study_repeats_exactly_after_being_stopped(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    def searched(summary: StudySummary) -> list[dict[str, object]]:
        return [dict(trial.params) for trial in sorted(summary.trials, key=lambda each: each.slot)]

    sampler = {"type": "tpe", "n_startup_trials": 3}
    whole = bench.run(study_spec(name="whole", sampler=sampler, trials=8), scripted())
    broken = study_spec(name="broken", sampler=sampler, trials=8)
    for polls in (4, 9, 14):
        bench.run(broken, scripted(), stopped=after(polls))
    resumed = bench.run(broken, scripted())

    assert searched(resumed) == searched(whole)
    assert resumed.counts["completed"] == 8


def test_a_stopped_study_hands_its_trials_back(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    pool, heard = scripted(size=2), list[ProgressEvent]()

    summary = bench.run(study_spec(), pool, stopped=after(3), notify=heard.append)

    assert summary.counts["waiting"] == 6
    assert summary.counts["running"] == 0
    assert {event.number for event in heard if isinstance(event, TrialHandedBack)} == {0, 1}
    assert {attempt.outcome for attempt in bench.ledger(study_spec()).attempts()} == {"interrupted"}
    resumed = bench.run(study_spec(), scripted())
    assert resumed.counts["completed"] == len(resumed.trials) == 6


def test_a_pruned_trial_is_told_as_pruned_and_keeps_its_best_value(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    values = [0.9, 0.9, 0.9, 0.1, 0.1, 0.1]
    spec = study_spec(pruner={"type": "median", "n_startup_trials": 2})

    summary = bench.run(spec, scripted(curve=lambda plan, _epoch: values[plan.slot]))

    assert summary.counts["pruned"] == 3
    pruned = bench.trials(spec).by_slot()[4]
    assert pruned.state is RowState.PRUNED
    assert len(pruned.intermediate_values) == 1
    assert summary.best is not None
    assert summary.best.number == 0


def test_a_failed_trial_is_data_and_the_study_goes_on(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    heard: list[ProgressEvent] = []
    summary = bench.run(
        study_spec(), scripted(fails=lambda plan: plan.slot == 2), notify=heard.append
    )

    assert (summary.counts["failed"], summary.counts["completed"]) == (1, 5)
    assert not summary.all_failed
    failed = bench.trials(study_spec()).by_slot()[2]
    assert failed.state is RowState.FAIL
    assert failed.user_attrs["error"] == "ValueError: by script"
    assert any(isinstance(e, TrialDone) and e.reason == "ValueError: by script" for e in heard)


def test_a_study_knows_that_every_trial_failed(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    summary = bench.run(study_spec(), scripted(fails=lambda _plan: True))

    assert summary.all_failed
    assert summary.best is None


def test_a_trial_whose_trainer_died_is_tried_again_with_the_same_point_and_seed(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    pool = scripted(dies=lambda plan: plan.slot == 1 and plan.attempt == 0)

    summary = bench.run(study_spec(), pool)

    first, second = (plan for plan in pool.submitted if plan.slot == 1)
    assert (first.params, first.seed) == (second.params, second.seed)
    assert summary.counts["completed"] == len(summary.trials) == 6
    outcomes = [a.outcome for a in bench.ledger(study_spec()).attempts() if a.slot == 1]
    assert outcomes == ["lost", "completed"]
    started = _first(bench, study_spec(), 1, 1, AttemptStarted)
    assert started.predecessor == bench.ledger(study_spec()).attempts()[1].uid


def test_a_trial_that_dies_every_time_fails_after_its_retries(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    spec = study_spec(max_retries=2)

    summary = bench.run(spec, scripted(dies=lambda plan: plan.slot == 3))

    outcomes = [a.outcome for a in bench.ledger(spec).attempts() if a.slot == 3]
    assert outcomes == ["lost", "lost", "failed"]
    assert (summary.counts["failed"], summary.counts["completed"]) == (1, 5)


def test_a_retry_is_not_pruned_by_what_the_attempt_before_it_reported(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    spec = study_spec(pruner={"type": "median", "n_startup_trials": 1}, trials=2)
    values = [[0.1, 0.9, 0.9], [0.2, 0.8, 0.8]]
    trained: set[tuple[int, int, int]] = set()

    def curve(plan: TrialPlan, epoch: int) -> float:
        trained.add((plan.slot, plan.attempt, epoch))
        return values[plan.slot][epoch - 1]

    def dies(plan: TrialPlan) -> bool:
        return (plan.slot, plan.attempt) == (1, 0) and (1, 0, 2) in trained

    bench.run(spec, scripted(curve=curve, dies=dies))

    row = bench.trials(spec).by_slot()[1]
    assert row.state is RowState.PRUNED
    assert {epoch for slot, attempt, epoch in trained if (slot, attempt) == (1, 1)} == {1, 2}
    assert row.user_attrs["epochs"] == len(row.intermediate_values) == 2


def test_replicates_share_their_point_and_pair_their_seeds(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    pool = scripted(size=4)

    summary = bench.run(study_spec(trials=3, seeds=4), pool)

    assert summary.counts["completed"] == 12
    plans = {plan.slot: plan for plan in pool.submitted}
    for point in range(3):
        assert len({str(plans[point * 4 + each].params) for each in range(4)}) == 1
    assert len({str(plans[point * 4].params) for point in range(3)}) == 3
    seeds = [[plans[point * 4 + each].seed for each in range(4)] for point in range(3)]
    assert len(set(seeds[0])) == 4
    assert seeds[0] == seeds[1] == seeds[2]


def test_an_empty_space_with_seeds_trains_the_fixed_point(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    pool = scripted()
    spec = study_spec(search_space={"learning_rate": 0.002}, baseline=[], trials=1, seeds=3)

    assert bench.run(spec, pool).counts["completed"] == 3
    assert [plan.recipe.learning_rate for plan in pool.submitted] == [0.002] * 3


def test_an_enqueued_point_is_the_next_new_trial(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.record(study_spec())
    bench.ledger(study_spec()).enqueue({"learning_rate": 0.007})
    pool = scripted(dies=lambda plan: plan.slot == 1 and plan.attempt == 0)

    bench.run(study_spec(), pool)

    assert [plan.recipe.learning_rate for plan in pool.submitted[:3]] == [0.001, 0.007, 0.007]
    assert pool.submitted[1].params == pool.submitted[2].params
    assert bench.ledger(study_spec()).queued() == 0


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes"])
@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive-halving", "none"])
def test_every_sampler_and_pruner_drives_a_study(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec, sampler: str, pruner: str
) -> None:
    spec = study_spec(
        sampler=sampler,
        pruner=pruner,
        search_space={
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "dropout_rate": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25},
            "batch_size": {"type": "int", "low": 8, "high": 64, "log": True},
            "optimizer": {"type": "choice", "choices": ["adam", "sgd"]},
        },
        baseline=[],
    )

    summary = bench.run(spec, scripted())

    assert summary.counts["completed"] + summary.counts["pruned"] == 6
    assert all(not spec.point_problems(trial.params) for trial in summary.trials)
    assert len({str(trial.params) for trial in summary.trials}) == 6


def test_a_grid_trains_every_point_once_and_the_baseline_first(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    space = {
        "learning_rate": {"type": "choice", "choices": [0.001, 0.01]},
        "batch_size": {"type": "int", "low": 16, "high": 32, "step": 8},
    }
    spec = study_spec(
        sampler="grid", search_space=space, baseline=[{"learning_rate": 0.01, "batch_size": 24}]
    )

    summary = bench.run(spec, scripted(size=2))

    points = [
        (trial.params["learning_rate"], trial.params["batch_size"]) for trial in summary.trials
    ]
    assert points[0] == (0.01, 24)
    assert sorted(points) == [(rate, size) for rate in (0.001, 0.01) for size in (16, 24, 32)]


def test_the_spool_tells_every_attempt_from_start_to_end(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.run(study_spec(trials=2), scripted())

    for slot in range(2):
        told, _ = read_events(bench.home.attempt("small", slot, 0))
        kinds = [event.kind for event in told]
        assert kinds[0] == "attempt-started"
        assert kinds.count("epoch-ended") == 3
        ended = next(event for event in told if isinstance(event, AttemptEnded))
        assert ended.outcome == "completed"
        assert ended.result is not None
        assert [e.report for e in told if isinstance(e, EpochEnded)] == list(ended.result.epochs)


def test_the_parents_spool_tells_of_each_trial_as_it_ends_and_of_all_at_the_end(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    summary = bench.run(study_spec(trials=12), scripted(size=3))

    told, _ = read_events(bench.home.parent("small"))
    progress = [event for event in told if isinstance(event, StudyProgressed)]
    assert [len(event.trials) for event in progress[:-1]] == [1] * 12
    known = {trial.number: trial for event in progress for trial in event.trials}
    assert list(known.values()) != []
    assert sorted(known.items()) == [(trial.number, trial) for trial in summary.trials]
    assert progress[-1].importance == bench.trials(study_spec()).importance()
    assert [event.metrics["trials_completed"] for event in progress] == [*range(1, 13), 12]


def test_a_trial_takes_as_many_statements_however_many_have_ended(
    each_bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    counts: list[int] = []
    statements = iter(range(1_000_000))
    listens_for = (each_bench.database.engine, "before_cursor_execute")

    def count(*_: object) -> None:
        next(statements)

    def notify(event: ProgressEvent) -> None:
        if isinstance(event, TrialDone):
            counts.append(next(statements))

    spec = study_spec(trials=40, sampler="tpe", pruner="median")
    event.listen(*listens_for, count)
    each_bench.run(spec, scripted(size=1), notify=notify)
    event.remove(*listens_for, count)

    taken = [after - before for before, after in pairwise(counts)]
    assert max(taken[-10:]) <= max(taken[:10])


def test_what_a_killed_driver_had_told_is_completed_when_the_study_is_closed(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    summary = bench.run(study_spec(trials=2), scripted())
    with closing(bench.journal(study_spec())) as journal:
        journal.study_opened()
        journal.ensure_closed(summary)
        journal.ensure_closed(summary)

    told, _ = read_events(bench.home.parent("small"))
    (last,) = (event for event in told[-2:] if isinstance(event, StudyProgressed))
    assert last.trials == summary.trials
    assert [event.kind for event in told[-2:]] == ["study-progressed", "study-closed"]


def test_only_the_best_models_are_kept(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    values = [0.1, 0.5, 0.9, 0.2, 0.8, 0.7]

    def curve(plan: TrialPlan, _epoch: int) -> float:
        return values[plan.slot]

    bench.run(study_spec(keep_models=2), scripted(curve=curve))

    journal = bench.journal(study_spec())
    kept = [slot for slot in range(6) if journal.keeps_model(bench.home.attempt("small", slot, 0))]
    assert kept == [2, 4]
    model = _first(bench, study_spec(), 2, 0, ModelKept)
    assert model.path.read_text() == "2"


def test_importance_needs_two_different_values(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.run(study_spec(trials=1), scripted())
    assert bench.trials(study_spec()).importance() == {}

    bench.run(study_spec(trials=6), scripted())
    trials = bench.trials(study_spec(trials=6))
    importance = trials.importance()
    assert importance == trials.assess_importance()
    assert set(importance) == {"learning_rate", "batch_size"}
    assert sum(importance.values()) == pytest.approx(1)


def test_optunas_own_study_reads_what_we_told(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.run(study_spec(), scripted())

    study = optuna.load_study(study_name="small", storage=bench.database.storage)

    assert len(study.trials) == 6
    assert study.best_trial.value == max(trial.value or 0.0 for trial in study.trials)


def after(polls: int) -> Callable[[], bool]:
    """Asked `polls` times, it says no; then it says stop."""
    remaining = iter(range(polls))
    return lambda: next(remaining, None) is None


def _first(bench: Bench, spec: StudySpec, slot: int, attempt: int, kind: type[Any]) -> Any:
    told, _ = read_events(bench.home.attempt(spec.name, slot, attempt))
    return next(event for event in told if isinstance(event, kind))
