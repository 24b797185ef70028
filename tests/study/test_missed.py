"""Missed images: what all good trainings of a confirmation agree on against the labels."""

import copy
import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.bench import Bench, ScriptedPool, first_told, small_study
from tests.study.test_confirmation import SPACE, confirmed, curve
from tuner.cli.results.show import print_confirmation
from tuner.datasets.split import stratified_split
from tuner.datasets.store import DatasetInfo, prepare, read_arrays
from tuner.home import Home
from tuner.search.race_trials import race_state, values_of
from tuner.spec.study_spec import DatasetReference, StudySpec
from tuner.study.confirmation.missed import confused_pairs, find_missed
from tuner.study.confirmation.race_study import find_confirmation
from tuner.study.confirmation.report import find_report
from tuner.study.study import Study
from tuner.tracking.runs.study_run import StudyRun
from tuner.tracking.spool.spool import read_events
from tuner.tracking.spool.spool_events import AttemptStarted, StudyOpened
from tuner.training.plan import ConfidentError, TrialPlan

MISSED, DOUBTED, SPARED = range(0, 1437, 40), range(7, 1437, 40), range(9, 1437, 40)
"""Rows that all trainings miss; all but some of one good point; all but those of a dropped one."""
GOOD, DROPPED = 4, 2
"""The learning rate of a point that is better than the baseline, and of one that is left out."""


@pytest.fixture
def dataset(home: Home) -> DatasetInfo:
    return prepare(DatasetReference(name="digits"), home.datasets)


@pytest.fixture
def spec() -> StudySpec:
    return small_study(
        search_space=SPACE,
        baseline=[{"learning_rate": 1}],
        sampler="grid",
        trials=5,
        epochs=5,
        validation=300,
    )


def held_out(plan: TrialPlan) -> set[int]:
    labels = read_arrays(plan.dataset)[1]
    return set(stratified_split(labels, plan.validation, plan.split_seed)[1].tolist())


def errors(plan: TrialPlan) -> tuple[ConfidentError, ...]:
    """Takes each image for the class after its label's; one point does otherwise at times."""
    labels = read_arrays(plan.dataset)[1]
    rate = plan.params["learning_rate"]
    wrong = [*MISSED, *(DOUBTED if rate != GOOD else ()), *(SPARED if rate != DROPPED else ())]
    return tuple(
        ConfidentError(row, int(labels[row]), (int(labels[row]) + 1) % 10, 0.9)
        for row in sorted(held_out(plan).intersection(wrong))
    )


@pytest.fixture
def study(bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]) -> Study:
    """Its confirmation has left out one point, and found another one to be better."""
    values = curve({GOOD: 0.02, DROPPED: -0.02}, luck={DROPPED: 0.06})
    return confirmed(
        bench, spec, opened, values, pool=ScriptedPool(curve=values, errors=errors), finalists=2
    )


def test_the_errors_lie_apart_from_what_a_race_reads_and_those_of_earlier_versions_count_too(
    study: Study,
) -> None:
    race = find_confirmation(study)
    assert race is not None
    rows = race.trials.all()
    found = find_missed(race.record, rows, study.datasets)
    assert found is not None
    assert found.images
    before = []
    for row in map(copy.copy, rows):
        row.user_attrs = dict(row.user_attrs)
        apart = row.user_attrs.pop("confident_errors")
        assert "confident_errors" not in row.user_attrs["result"]
        row.user_attrs["result"] = {**row.user_attrs["result"], "confident_errors": apart}
        before.append(row)
    assert find_missed(race.record, before, study.datasets) == found


def test_an_image_is_missed_if_all_good_trainings_that_had_it_agree(
    study: Study, bench: Bench
) -> None:
    race = find_confirmation(study)
    assert race is not None
    rows, labels = race.trials.all(), read_arrays(bench.dataset.train)[1]
    remaining = race_state(race.spec, values_of(race.spec, rows)).remaining
    assert len(remaining) < race.spec.trials
    expected: Counter[int] = Counter()
    for event in (
        first_told(bench, race.spec, row.user_attrs["slot"], 0, AttemptStarted) for row in rows
    ):
        plan = event.plan
        if plan.slot % race.spec.trials in remaining:
            expected.update(held_out(plan).intersection([*MISSED, *SPARED]))
    report = find_report(study)
    assert report is not None
    assert report.missed is not None
    assert {each.row: each.trainings for each in report.missed} == expected
    for each in report.missed:
        assert each.label == str(labels[each.row])
        assert (each.predicted, each.agreeing) == (str((labels[each.row] + 1) % 10), each.trainings)
        assert each.probability == pytest.approx(0.9)
    agreeing = [each.agreeing for each in report.missed]
    assert agreeing == sorted(agreeing, reverse=True)
    assert sum(number for *_, number in confused_pairs(report.missed)) == len(expected)


def test_the_verdict_and_the_run_of_the_confirmation_name_them(
    study: Study, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    report = find_report(study)
    assert report is not None
    assert report.missed
    print_confirmation(report)
    told = f"{len(report.missed)} validation images were missed by every good training"
    assert told in capsys.readouterr().out
    run = run_of(bench.home.parent(report.study))
    artifacts = {each.path: each.content for each in run.artifacts()}
    table = artifacts["missed.csv"]
    assert isinstance(table, str)
    rows = [int(each["row"]) for each in csv.DictReader(io.StringIO(table))]
    assert rows == [each.row for each in report.missed]
    picture = artifacts["missed.png"]
    assert not isinstance(picture, str | bytes | Path)
    assert picture.png().startswith(b"\x89PNG")
    assert "missed.csv" not in {
        each.path for each in run_of(bench.home.parent(study.name)).artifacts()
    }


def run_of(folder: Path) -> StudyRun:
    events, _ = read_events(folder)
    assert isinstance(events[0], StudyOpened)
    run = StudyRun(events[0])
    for event in events:
        run = run.after(event)
    return run


def test_without_the_data_set_nothing_is_said_of_images(study: Study, bench: Bench) -> None:
    race = find_confirmation(study)
    assert race is not None
    rows = race.trials.all()
    assert find_missed(study.record, study.trials.all(), bench.home.datasets) is None, "no race"
    elsewhere = bench.dataset.folder.rename(bench.home.datasets / "elsewhere")
    assert find_missed(race.record, rows, bench.home.datasets) is None
    report = find_report(study)
    assert report is not None
    assert report.missed_line() == ""
    elsewhere.rename(bench.dataset.folder)
    np.save(bench.dataset.train / "labels.npy", np.array([object()]), allow_pickle=True)
    assert find_missed(race.record, rows, bench.home.datasets) is None


@pytest.mark.slow
def test_trainings_that_recorded_no_errors_are_not_counted(
    bench: Bench, spec: StudySpec, opened: Callable[[StudySpec], Study]
) -> None:
    none = ScriptedPool(curve=curve({}, {}), errors=lambda _plan: None)  # type: ignore[arg-type,return-value]  # as before
    study = confirmed(bench, spec, opened, curve({}, {}), pool=none, finalists=1)
    report = find_report(study)
    assert report is not None
    assert report.over
    assert report.missed is None
