"""What a driver tells its spools, and which models it keeps."""

from contextlib import closing

import pytest

from tests.bench import Bench, ScriptedPool, small_study
from tuner.recovery.takeover import recover_study
from tuner.study.driver_events import ProgressEvent, TrialDone
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import (
    AttemptEnded,
    StudyClosed,
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
