"""A trial whose trainer died is tried again, and so often."""

from optuna.trial import TrialState as RowState

from tests.bench import Bench, ScriptedPool, first_told, small_study
from tuner.search.trials import stored_result
from tuner.tracking.spool.spool_events import AttemptEnded, AttemptStarted
from tuner.training.plan import CHECKPOINT, TrialPlan


def test_a_trial_whose_trainer_died_is_retried_with_the_same_point_and_seed(bench: Bench) -> None:
    pool = ScriptedPool(dies=lambda plan: plan.slot == 1 and plan.attempt == 0)

    summary = bench.run(small_study(), pool)

    first, second = (plan for plan in pool.submitted if plan.slot == 1)
    assert (first.params, first.seed) == (second.params, second.seed)
    assert summary.counts["completed"] == len(summary.trials) == 6
    outcomes = [a.outcome for a in bench.ledger(small_study()).attempts() if a.slot == 1]
    assert outcomes == ["lost", "completed"]
    started = first_told(bench, small_study(), 1, 1, AttemptStarted)
    assert started.predecessor == bench.ledger(small_study()).attempts()[1].uid


def test_a_retry_gets_the_newest_checkpoint_and_none_is_left_at_the_end(bench: Bench) -> None:
    def dies(plan: TrialPlan) -> bool:
        """The first two leave a checkpoint, the third is killed before it could."""
        if plan.attempt < 2:
            (plan.folder / CHECKPOINT).touch()
        return plan.attempt < 3

    pool = ScriptedPool(dies=dies)
    bench.run(small_study(trials=1, max_retries=3), pool)

    left = [plan.folder / CHECKPOINT for plan in pool.submitted]
    assert [plan.resumes for plan in pool.submitted] == [None, left[0], left[1], left[1]]
    assert not any(path.exists() for path in left)


def test_a_trainer_that_hangs_is_killed_and_its_trial_retried(bench: Bench) -> None:
    pool = ScriptedPool(size=2, hangs=lambda plan: plan.slot == 1 and plan.attempt == 0)

    summary = bench.run(small_study(), pool, epoch_limit_s=0.2)

    assert summary.counts["completed"] == len(summary.trials) == 6
    first, second = (plan.attempt for plan in pool.submitted if plan.slot == 1)
    assert (first, second) == (0, 1)
    ended = first_told(bench, small_study(), 1, 0, AttemptEnded)
    assert (ended.outcome, ended.reason) == ("lost", "no epoch came to an end within 0.2 s")


def test_a_trial_that_dies_every_time_fails_after_its_retries(bench: Bench) -> None:
    spec = small_study(max_retries=2)

    summary = bench.run(spec, ScriptedPool(dies=lambda plan: plan.slot == 3))

    outcomes = [a.outcome for a in bench.ledger(spec).attempts() if a.slot == 3]
    assert outcomes == ["lost", "lost", "failed"]
    assert (summary.counts["failed"], summary.counts["completed"]) == (1, 5)


def test_a_retry_is_not_pruned_by_reports_of_the_attempt_before(bench: Bench) -> None:
    spec = small_study(pruner={"type": "median", "n_startup_trials": 1}, trials=2)
    values = [[0.1, 0.9, 0.9], [0.2, 0.8, 0.8]]
    trained: set[tuple[int, int, int]] = set()

    def curve(plan: TrialPlan, epoch: int) -> float:
        trained.add((plan.slot, plan.attempt, epoch))
        return values[plan.slot][epoch - 1]

    def dies(plan: TrialPlan) -> bool:
        return (plan.slot, plan.attempt) == (1, 0) and (1, 0, 2) in trained

    bench.run(spec, ScriptedPool(curve=curve, dies=dies))

    row = bench.trials(spec).by_slot()[1]
    assert row.state is RowState.PRUNED
    assert {epoch for slot, attempt, epoch in trained if (slot, attempt) == (1, 1)} == {1, 2}
    assert stored_result(row).epochs == len(row.intermediate_values) == 2
