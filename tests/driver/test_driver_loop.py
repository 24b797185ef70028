"""The driver's loop: how trials and studies end."""

from collections.abc import Callable
from itertools import pairwise

import optuna
import pytest
from optuna.trial import TrialState as RowState
from sqlalchemy import event

from tests.bench import Bench, ScriptedPool, small_study
from tuner.search.trials import stored_result
from tuner.study.driver_events import ProgressEvent, SetupStep, TrialDone, TrialHandedBack
from tuner.study.summary import StudySummary
from tuner.training.plan import TrainerInfo


def test_a_study_ends_with_exactly_its_trials_and_the_baseline_first(each_bench: Bench) -> None:
    summary = each_bench.run(small_study(), ScriptedPool(size=2))

    assert summary.counts == {
        "completed": 6, "pruned": 0, "failed": 0, "running": 0, "waiting": 0,
    }  # fmt: skip
    assert summary.trials[0].params == {"learning_rate": 0.001, "batch_size": 32}
    assert sorted(trial.slot for trial in summary.trials) == list(range(6))
    assert summary.done


def test_a_finished_study_does_nothing_more(bench: Bench) -> None:
    first = bench.run(small_study(), ScriptedPool())
    pool = ScriptedPool()

    assert bench.run(small_study(), pool) == first
    assert pool.submitted == []


def test_a_finished_study_continues_when_its_trials_are_raised(bench: Bench) -> None:
    bench.run(small_study(), ScriptedPool())
    pool = ScriptedPool()

    summary = bench.run(small_study(trials=9), pool)

    assert summary.counts["completed"] == 9
    assert [plan.slot for plan in pool.submitted] == [6, 7, 8]


def test_a_trainer_whose_engine_finds_no_gpu_is_reported_once(bench: Bench) -> None:
    lacking, fine = (
        TrainerInfo(
            host="here", pid=1, assigned="gpu:0", device=device, backend="tensorflow", versions={}
        )
        for device in ("cpu:0-1", "gpu:0")
    )
    told: list[ProgressEvent] = []

    bench.run(small_study(trials=1), ScriptedPool(starting=[fine, lacking]), notify=told.append)

    (step,) = (event for event in told if isinstance(event, SetupStep))
    assert step.text == (
        "gpu:0: tensorflow found no GPU there and trains on cpu:0-1; "
        "pip install 'tuner[cuda]' brings what it needs"
    )


def test_a_trials_value_is_that_of_its_best_epoch_the_earliest_on_ties(bench: Bench) -> None:
    curve = {1: 0.5, 2: 0.9, 3: 0.9}
    summary = bench.run(
        small_study(trials=1), ScriptedPool(curve=lambda _plan, epoch: curve[epoch])
    )

    row = bench.trials(small_study()).all()[0]
    assert summary.trials[0].value == row.value == 0.9
    assert stored_result(row).best_epoch == 2
    assert row.intermediate_values == curve


def test_a_sequential_study_gives_the_same_trials_after_being_stopped(bench: Bench) -> None:
    def searched(summary: StudySummary) -> list[dict[str, object]]:
        return [dict(trial.params) for trial in sorted(summary.trials, key=lambda each: each.slot)]

    sampler = {"type": "tpe", "n_startup_trials": 3}
    whole = bench.run(small_study(name="whole", sampler=sampler, trials=8), ScriptedPool())
    broken = small_study(name="broken", sampler=sampler, trials=8)
    for polls in (4, 9, 14):
        bench.run(broken, ScriptedPool(), stopped=after(polls))
    resumed = bench.run(broken, ScriptedPool())

    assert searched(resumed) == searched(whole)
    assert resumed.counts["completed"] == 8


def test_a_stopped_study_hands_its_trials_back(bench: Bench) -> None:
    pool, heard = ScriptedPool(size=2), list[ProgressEvent]()

    summary = bench.run(small_study(), pool, stopped=after(3), notify=heard.append)

    assert summary.counts["waiting"] == 6
    assert summary.counts["running"] == 0
    assert {event.number for event in heard if isinstance(event, TrialHandedBack)} == {0, 1}
    assert {attempt.outcome for attempt in bench.ledger(small_study()).attempts()} == {
        "interrupted"
    }
    resumed = bench.run(small_study(), ScriptedPool())
    assert resumed.counts["completed"] == len(resumed.trials) == 6


def test_a_pruned_trial_is_recorded_as_pruned_with_its_best_value(bench: Bench) -> None:
    values = [0.9, 0.9, 0.9, 0.1, 0.1, 0.1]
    spec = small_study(pruner={"type": "median", "n_startup_trials": 2})

    summary = bench.run(spec, ScriptedPool(curve=lambda plan, _epoch: values[plan.slot]))

    assert summary.counts["pruned"] == 3
    pruned = bench.trials(spec).by_slot()[4]
    assert pruned.state is RowState.PRUNED
    assert len(pruned.intermediate_values) == 1
    assert summary.best is not None
    assert summary.best.trial.number == 0


def test_a_study_continues_after_a_failed_trial_and_records_its_error(bench: Bench) -> None:
    heard: list[ProgressEvent] = []
    summary = bench.run(
        small_study(), ScriptedPool(fails=lambda plan: plan.slot == 2), notify=heard.append
    )

    assert (summary.counts["failed"], summary.counts["completed"]) == (1, 5)
    assert not summary.all_failed
    failed = bench.trials(small_study()).by_slot()[2]
    assert failed.state is RowState.FAIL
    assert stored_result(failed).error == "ValueError: by script"
    assert any(isinstance(e, TrialDone) and e.reason == "ValueError: by script" for e in heard)


def test_a_study_whose_trials_all_failed_says_so(bench: Bench) -> None:
    summary = bench.run(small_study(), ScriptedPool(fails=lambda _plan: True))

    assert summary.all_failed
    assert summary.best is None


@pytest.mark.slow_variants
def test_a_late_trial_takes_no_more_statements_than_an_early_one(each_bench: Bench) -> None:
    counts: list[int] = []
    statements = iter(range(1_000_000))
    listens_for = (each_bench.database.engine, "before_cursor_execute")

    def count(*_: object) -> None:
        next(statements)

    def notify(event: ProgressEvent) -> None:
        if isinstance(event, TrialDone):
            counts.append(next(statements))

    spec = small_study(trials=40, sampler="tpe", pruner="median")
    event.listen(*listens_for, count)
    each_bench.run(spec, ScriptedPool(size=1), notify=notify)
    event.remove(*listens_for, count)

    taken = [after - before for before, after in pairwise(counts)]
    assert max(taken[-10:]) <= 1.25 * max(taken[:10])  # how often it refreshes varies


def test_optunas_own_client_reads_the_trials(bench: Bench) -> None:
    bench.run(small_study(), ScriptedPool())

    study = optuna.load_study(study_name="small", storage=bench.database.storage)

    assert len(study.trials) == 6
    assert study.best_trial.value == max(trial.value or 0.0 for trial in study.trials)


def after(polls: int) -> Callable[[], bool]:
    """Asked `polls` times, it says no; then it says stop."""
    remaining = iter(range(polls))
    return lambda: next(remaining, None) is None
