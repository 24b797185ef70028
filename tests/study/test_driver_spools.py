"""What a driver tells its spools, and which models it keeps."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.study.conftest import Bench, ScriptedPool, first_told
from tuner.home import Home
from tuner.spec.study_spec import StudySpec
from tuner.storage.studies import Catalog
from tuner.study.driver_events import ProgressEvent, TrialDone
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import (
    AttemptEnded,
    ModelKept,
    StudyProgressed,
)
from tuner.training.plan import (
    MODEL,
    EpochEnded,
    TrialPlan,
)

Spec = Callable[..., StudySpec]


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
    *trials_ended, run_ended, _study_closed = progress
    assert [len(event.trials) for event in trials_ended] == [1] * 12
    known = {trial.number: trial for event in progress for trial in event.trials}
    assert list(known.values()) != []
    assert sorted(known.items()) == [(trial.number, trial) for trial in summary.trials]
    assert run_ended.importance == bench.trials(study_spec()).importance()
    assert [event.metrics["trials_completed"] for event in progress] == [*range(1, 13), 12, 12]


def test_what_a_killed_driver_had_told_is_completed_when_the_study_is_closed(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    summary = bench.run(study_spec(trials=2), scripted())
    with closing(bench.journal(study_spec())) as journal:
        journal.study_opened()
        for _ in range(2):
            journal.ensure_closed(summary, ended_ms=1, alone=True)

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
    model = first_told(bench, study_spec(), 2, 0, ModelKept)
    assert model.path.read_text() == "2"
    assert model_files(bench) == kept


def test_the_model_that_stands_for_a_point_is_kept_whenever_it_was_trained(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    values = [0.90, 0.95, 0.99, 0.80, 0.81, 0.82]
    spec = study_spec(keep_models=1, trials=2, seeds=3)
    pool = scripted(curve=lambda plan, _epoch: values[plan.slot])

    bench.run(spec, pool, stopped=lambda: len(pool.submitted) > 2)
    assert kept_slots(bench) == model_files(bench) == [0, 1]  # which is in the middle is open
    bench.run(spec, scripted(curve=lambda plan, _epoch: values[plan.slot]))

    assert kept_slots(bench) == model_files(bench) == [1]


def kept_slots(bench: Bench) -> list[int]:
    """The slots whose model MLflow is to have."""
    folders = sorted(bench.home.attempts("small").glob("*"))
    with closing(bench.journal(Catalog(bench.database).get("small").spec)) as journal:
        return [int(f.name.split("-")[0]) for f in folders if journal.keeps_model(f)]


def test_a_model_gives_way_to_a_better_one_that_another_machine_trained(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec, tmp_path: Path
) -> None:
    spec = study_spec(keep_models=1, trials=3)
    other = Bench(Home(tmp_path / "other"), bench.database, bench.dataset)
    other.home.create()

    def curve(plan: TrialPlan, _epoch: int) -> float:
        return plan.slot / 10

    def leave_the_rest(progress: ProgressEvent) -> None:
        if isinstance(progress, TrialDone):
            other.run(spec, scripted(curve=curve))

    bench.run(spec, scripted(curve=curve), notify=leave_the_rest)
    assert (model_files(bench), model_files(other)) == ([], [2])


def test_models_that_a_dead_driver_left_are_removed(
    bench: Bench, scripted: type[ScriptedPool], study_spec: Spec
) -> None:
    bench.run(study_spec(keep_models=1, trials=2), scripted())
    (kept,) = model_files(bench)
    (bench.home.attempt("small", 1 - kept, 0) / MODEL).write_text("left behind")
    bench.run(study_spec(keep_models=1, trials=3), scripted())
    assert len(model_files(bench)) == 1


def model_files(bench: Bench) -> list[int]:
    """The slots whose model lies on disk."""
    files = bench.home.attempts("small").glob(f"*/{MODEL}")
    return sorted(int(path.parent.name.split("-")[0]) for path in files)
