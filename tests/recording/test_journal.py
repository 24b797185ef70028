"""What a driver tells its spools, and which models it keeps."""

from contextlib import closing

import pytest
from sqlalchemy import update

from tests.bench import Bench, ScriptedPool, small_study
from tuner.recovery.takeover import recover_study
from tuner.spec.study_spec import Confirmation, Race
from tuner.storage.tables import studies
from tuner.study.confirmation.race_study import confirmation_of
from tuner.study.confirmation.refit import refit_study
from tuner.study.confirmation.report import find_report
from tuner.study.driver_events import ProgressEvent, TrialDone
from tuner.study.study import Study
from tuner.tracking.spool.spool import read_events, spool_folders
from tuner.tracking.spool.spool_events import (
    AttemptEnded,
    AttemptStarted,
    StudyClosed,
    StudyOpened,
    StudyProgressed,
)
from tuner.training.plan import (
    EpochEnded,
)


def test_the_spool_of_an_attempt_has_its_start_epochs_and_end(bench: Bench) -> None:
    bench.run(small_study(trials=2), ScriptedPool())

    for slot in range(2):
        told, _ = read_events(bench.home.attempt("small", slot, 0))
        kinds = [event.kind for event in told]
        assert kinds[0] == "attempt-started"
        assert kinds.count("epoch-ended") == 3
        ended = next(event for event in told if isinstance(event, AttemptEnded))
        assert ended.outcome == "completed"
        assert ended.result is not None
        assert [e.report for e in told if isinstance(e, EpochEnded)] == list(ended.result.epochs)


def test_the_studys_spool_has_each_trial_as_it_ends_and_all_at_the_end(bench: Bench) -> None:
    summary = bench.run(small_study(trials=12), ScriptedPool(size=3))

    told, _ = read_events(bench.home.parent("small"))
    progress = [event for event in told if isinstance(event, StudyProgressed)]
    *trials_ended, _run_ended, study_closed = progress
    assert [len(event.trials) for event in trials_ended] == [1] * 12
    known = {trial.number: trial for event in progress for trial in event.trials}
    assert list(known.values()) != []
    assert sorted(known.items()) == [(trial.number, trial) for trial in summary.trials]
    assert study_closed.importance == bench.trials(small_study()).importance()
    assert [event.metrics["trials_completed"] for event in progress] == [*range(1, 13), 12, 12]


def runs_of(bench: Bench, study: str) -> list[tuple[str, dict[str, str]]]:
    """The name of each attempt's run and its tags, after those of the study's own run."""
    (first, *_), _ = read_events(bench.home.parent(study))
    assert isinstance(first, StudyOpened)
    told = [read_events(folder)[0][0] for folder in spool_folders(bench.home.current_study(study))]
    starts = [each for each in told if isinstance(each, AttemptStarted)]
    return [(study, first.tags), *((each.name, each.tags) for each in starts)]


def test_a_confirmation_and_a_refit_name_their_study_and_what_they_train(bench: Bench) -> None:
    spec = small_study(trials=3, validation=10_000, baseline=[{"learning_rate": 0.002}])
    bench.run(spec, ScriptedPool())
    study = Study(bench.home, bench.database, bench.record(spec))
    race = confirmation_of(study, {"finalists": 1, "max_seeds": 5}).spec
    bench.run(race, ScriptedPool())
    refit = refit_study(study, 1, {"learning_rate": 0.003}, epochs=1).spec
    bench.run(refit, ScriptedPool())
    roles = {"small": "study", "small-confirmation": "confirmation", "small-refit": "refit"}
    for name, role in roles.items():
        for _, tags in runs_of(bench, name):
            assert (tags["tuner.study"], tags["tuner.role"]) == ("small", role)
    origins = [runs_of(bench, name)[0][1].get("tuner.origin_uid") for name in roles]
    assert origins == [None, study.record.uid, study.record.uid]
    assert [name for name, _ in runs_of(bench, "small")[1:]] == ["trial 0", "trial 1", "trial 2"]
    assert race.race is not None
    best, baseline = race.race.points
    assert baseline == 0
    names = [name for name, _ in runs_of(bench, "small-confirmation")[1:]]
    assert names[:3] == [
        f"confirmation: point {best}, seed 0",
        "confirmation: point 0, seed 0",
        f"confirmation: point {best}, seed 1",
    ]
    assert [name for name, _ in runs_of(bench, "small-refit")[1:]] == ["refit: point 1"]
    told, _ = read_events(bench.home.parent("small-confirmation"))
    *_, last = (event for event in told if isinstance(event, StudyProgressed))
    report = find_report(study)
    assert report is not None
    assert last.verdict == tuple(report.lines())
    assert last.verdict
    for name in ("small", "small-refit"):
        others, _ = read_events(bench.home.parent(name))
        assert not any(event.verdict for event in others if isinstance(event, StudyProgressed))


def test_a_confirmation_ends_beside_a_study_whose_row_is_damaged(bench: Bench) -> None:
    spec = small_study(trials=3, validation=10_000, baseline=[{"learning_rate": 0.002}])
    bench.run(spec, ScriptedPool())
    study = Study(bench.home, bench.database, bench.record(spec))
    race = confirmation_of(study, {"finalists": 1, "max_seeds": 5}).spec
    with bench.database.engine.begin() as connection:
        connection.execute(update(studies).where(studies.c.name == "small").values(uid="damaged"))
    assert bench.run(race, ScriptedPool()).done
    (_, tags), *trainings = runs_of(bench, race.name)
    assert "tuner.origin_uid" not in tags
    assert trainings


def test_the_trainings_for_claims_alone_and_those_of_earlier_confirmations_have_names(
    bench: Bench,
) -> None:
    points = [{"learning_rate": rate, "batch_size": 32} for rate in (0.002, 0.004, 0.008)]
    rules = Confirmation(max_seeds=5)
    race = small_study(
        trials=3,
        baseline=points,
        sampler="random",
        validation=10_000,
        race=Race(study="other", against=0, claimed=1, rules=rules),
    )
    bench.run(race, ScriptedPool())
    assert [name for name, _ in runs_of(bench, "small")[1:4]] == [
        "confirmation: finalist 0, seed 0",
        "confirmation: finalist 1, seed 0",
        "confirmation: claimed point 0, seed 0",
    ]


def test_a_study_whose_driver_broke_down_after_the_last_trial_is_closed_with_importance(
    bench: Bench,
) -> None:
    spec, done = small_study(trials=10), list[int]()

    def break_down(event: ProgressEvent) -> None:
        done.extend([event.number] if isinstance(event, TrialDone) else [])
        if len(done) == 10:
            raise ConnectionError("broken")

    with pytest.raises(ConnectionError):
        bench.run(spec, ScriptedPool(), notify=break_down)
    recover_study(bench.home, bench.database, bench.record(spec), pytest.fail)

    told, _ = read_events(bench.home.parent("small"))
    progressed, closed = told[-2:]
    assert isinstance(progressed, StudyProgressed)
    assert isinstance(closed, StudyClosed)
    assert closed.complete
    assert progressed.importance == bench.trials(spec).importance() != {}


def test_closing_a_study_records_the_trials_that_a_killed_driver_did_not(bench: Bench) -> None:
    summary = bench.run(small_study(trials=2), ScriptedPool())
    with closing(bench.journal(small_study())) as journal:
        journal.study_opened()
        for _ in range(2):
            journal.ensure_closed(summary, ended_ms=1, alone=True)

    told, _ = read_events(bench.home.parent("small"))
    (last,) = (event for event in told[-2:] if isinstance(event, StudyProgressed))
    assert last.trials == summary.trials
    assert [event.kind for event in told[-2:]] == ["study-progressed", "study-closed"]
