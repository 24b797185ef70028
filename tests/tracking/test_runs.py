"""What events mean for runs, before MLflow is asked."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracking.recorder import START_MS, Recorder, summary
from tuner.errors import RefusedError
from tuner.spec.recipe import Recipe
from tuner.tracking.runs.attempt_run import AttemptRun, attempt_params
from tuner.tracking.runs.exports import summary_csv
from tuner.tracking.runs.run_update import NoteSection, RunUpdate
from tuner.tracking.runs.study_run import StudyRun
from tuner.tracking.spool.spool_events import (
    ClaimSummary,
    Missed,
    MissedImage,
    StudyClosed,
    StudyOpened,
)
from tuner.training.plan import ConfidentError, EpochEnded
from tuner.training.scores import evaluate_predictions


def artifact_names(update: RunUpdate) -> set[str]:
    return {artifact.path for artifact in update.artifacts}


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("completed", "FINISHED"),
        ("pruned", "FINISHED"),
        ("failed", "FAILED"),
        ("interrupted", "KILLED"),
        ("lost", "KILLED"),
    ],
)
def test_outcomes_are_told_apart(recorder: Recorder, outcome: str, status: str) -> None:
    run = AttemptRun.of(recorder.started(0))
    update = run.update(recorder.ended(outcome))
    assert update.status == status
    assert update.tags["tuner.state"] == outcome
    assert update.ended_ms == START_MS + 60_000


@pytest.mark.parametrize(
    ("complete", "failed", "status", "state"),
    [
        (True, False, "FINISHED", "completed"),
        (True, True, "FAILED", "failed"),
        (False, False, "KILLED", "interrupted"),
    ],
)
def test_a_study_ends_as_it_went(
    recorder: Recorder, complete: bool, failed: bool, status: str, state: str
) -> None:
    run = StudyRun(recorder.opened())
    update = run.update(recorder.closed(complete, failed))
    assert (update.status, update.tags["tuner.state"]) == (status, state)


def trial_json(update: RunUpdate) -> dict[str, Any]:
    (content,) = (each.content for each in update.artifacts if each.path == "trial.json")
    assert isinstance(content, str)
    told: dict[str, Any] = json.loads(content)
    return told


def test_an_ended_attempt_has_pictures_data_and_its_log(recorder: Recorder) -> None:
    started, ended = recorder.started(0), recorder.ended()
    update = AttemptRun.of(started).update(ended)
    pictures = {"curves.png", "confusion_matrix.png"}
    assert artifact_names(update) == {*pictures, "trial.json", "output.log"}
    assert ended.result is not None
    assert ended.result.evaluation is not None
    told = trial_json(update)
    recipe = started.plan.recipe.model_dump(mode="json")
    assert told["plan"] == {**started.plan.model_dump(mode="json"), "recipe": recipe}
    assert [row["epoch"] for row in told["epochs"]] == [1, 2, 3]
    assert told["epochs"][2]["val_accuracy"] == ended.result.epochs[2].metrics["val_accuracy"]
    assert told["epochs"][2]["epoch_train_s"] == 2.0
    assert told["best_epoch"] == 3
    assert told["evaluation"]["confusion"] == [
        list(row) for row in ended.result.evaluation.confusion
    ]


def test_a_diverged_epoch_is_null_for_programs_that_read_json(recorder: Recorder) -> None:
    run = AttemptRun.of(recorder.started(0))
    diverged = recorder.epoch(1).report.model_copy(update={"metrics": {"loss": math.nan}})
    run = run.after(EpochEnded(report=diverged))
    update = run.update(recorder.ended("failed", epochs=0))
    (text,) = (each.content for each in update.artifacts if each.path == "trial.json")
    assert isinstance(text, str)
    assert "NaN" not in text
    assert trial_json(update)["epochs"][0]["loss"] is None


def test_a_log_in_which_nothing_stands_is_no_file(recorder: Recorder) -> None:
    ended = recorder.ended()
    assert ended.log is not None
    ended.log.write_bytes(b"")
    update = AttemptRun.of(recorder.started(0)).update(ended)
    assert "output.log" not in artifact_names(update)


def test_best_values_are_those_of_the_best_epoch(recorder: Recorder) -> None:
    update = AttemptRun.of(recorder.started(0)).update(recorder.ended())
    values = {point.key: point.value for point in update.points if point.step == 0}
    assert values["best_epoch"] == 3
    assert values["best_val_accuracy"] == pytest.approx(0.92)
    assert values["best_val_macro_recall"] == 0.81
    assert values["train_time_s"] == 6.0
    assert values["parameters"] == 225034


def test_the_scores_name_the_classes_that_are_absent(recorder: Recorder) -> None:
    ended = recorder.ended()
    assert ended.result is not None
    scored = evaluate_predictions(np.eye(3)[[0, 1, 1]], np.array([0, 1, 1]), ("a", "b", "c"))
    result = ended.result.model_copy(update={"evaluation": scored})
    update = AttemptRun.of(recorder.started(0)).update(ended.model_copy(update={"result": result}))
    scores = trial_json(update)["evaluation"]
    assert (scores["macro"]["f1"], scores["absent"]) == (1.0, ["c"])


def test_a_failure_says_why(recorder: Recorder) -> None:
    update = AttemptRun.of(recorder.started(0)).update(recorder.ended("failed", epochs=0))
    assert update.tags["tuner.error"] == "ValueError: no"
    assert "error.txt" in artifact_names(update)
    assert "curves.png" not in artifact_names(update)


def test_what_is_to_be_known_of_a_training_stands_on_its_run(recorder: Recorder) -> None:
    ended = recorder.ended()
    assert ended.result is not None
    remarks = ("compiled anew for this trial", "cannot be promoted")
    ended = ended.model_copy(
        update={"result": ended.result.model_copy(update={"remarks": remarks})}
    )
    run = AttemptRun.of(recorder.started(0))
    assert run.update(ended).tags["tuner.remarks"] == "\n".join(remarks)
    assert "tuner.remarks" not in run.update(recorder.ended()).tags


def test_a_lost_attempt_keeps_the_curves_that_were_spooled(recorder: Recorder) -> None:
    run = AttemptRun.of(recorder.started(0)).after(recorder.epoch(1))
    update = run.update(recorder.ended("lost", reason="its trainer died"))
    assert {"curves.png", "trial.json"} <= artifact_names(update)
    assert [row["epoch"] for row in trial_json(update)["epochs"]] == [1]
    assert update.tags["tuner.reason"] == "its trainer died"


def test_an_epoch_counts_once(recorder: Recorder) -> None:
    run = AttemptRun.of(recorder.started(0))
    assert run.update(recorder.epoch(1)).points
    run = run.after(recorder.epoch(1))
    assert not run.update(recorder.epoch(1)).points
    ended = run.update(recorder.ended(epochs=2))
    assert {point.step for point in ended.points if point.key == "loss"} == {2}


def test_system_samples_are_counted(recorder: Recorder) -> None:
    run = AttemptRun.of(recorder.started(0)).after(recorder.sampled(0))
    (point,) = run.update(recorder.sampled(1)).points
    assert (point.key, point.step) == ("system/cpu_utilization_percentage", 1)


def test_every_run_has_the_same_params(recorder: Recorder) -> None:
    plain, other = recorder.started(0), recorder.started(1)
    params = {**other.plan.params, "optimizer": "sgd", "patience": 3}
    other = other.model_copy(update={"plan": other.plan.model_copy(update={"params": params})})
    assert attempt_params(plain).keys() == attempt_params(other).keys()
    assert attempt_params(plain).keys() >= {*Recipe.model_fields, "model", "epochs", "seed"}
    assert attempt_params(other)["optimizer"] == "sgd"
    assert attempt_params(plain)["dropout_rate"] == "0.4"


def names_of_ours() -> set[str]:
    """Every param and every column of the summary that is no hyperparameter."""
    params = attempt_params(Recorder(Path("unused"), files=False).started(0)).keys()
    (columns,) = csv.reader(io.StringIO(summary_csv([], seeds=1)))
    return {*columns, *params} - Recipe.model_fields.keys() - {"dropout_rate"}


@given(st.sets(st.sampled_from([*sorted(names_of_ours()), "width"])))
def test_no_hyperparameter_is_hidden_by_a_name_of_ours(names: set[str]) -> None:
    recorder = Recorder(Path("unused"), files=False)
    plain = attempt_params(recorder.started(0))
    theirs = {name: f"their {name}" for name in names}
    plan = recorder.plan(0)
    plan = plan.model_copy(update={"params": {**plan.params, **theirs}})

    params = attempt_params(recorder.started(0, plan=plan))
    (head, row) = csv.reader(
        io.StringIO(summary_csv([summary(3).model_copy(update={"params": theirs})], seeds=1))
    )

    assert plain.items() <= params.items()
    assert len(params) == len(plain) + len(theirs)
    assert len(set(head)) == len(head)
    for name, value in theirs.items():
        label = f"search_space.{name}"
        assert params[label if name in plain else name] == value
        assert dict(zip(head, row, strict=True)).get(label, value) == value
        assert value in row


def test_source_files_stay_in_their_folder(recorder: Recorder) -> None:
    started = recorder.started(0, source={"../../etc/mine.py": "", "/abs.py": ""})
    update = AttemptRun.of(started).update(started)
    assert artifact_names(update) == {"trial.json", "source/etc/mine.py", "source/abs.py"}


def test_a_retry_names_its_attempt(recorder: Recorder) -> None:
    assert AttemptRun.of(recorder.started(4)).opening.name == "trial 4"
    again = AttemptRun.of(recorder.started(4, 1)).opening
    assert again.name == "trial 4 attempt 1"
    assert again.predecessor_uid == recorder.uid(4)


def test_a_study_has_one_point_a_step(recorder: Recorder) -> None:
    run = StudyRun(recorder.opened())
    first = recorder.progressed(summary(0))
    assert run.update(first).points
    run = run.after(first)
    assert not run.update(recorder.progressed(summary(0), at_ms=1)).points
    more = recorder.progressed(summary(0), summary(1, "failed", None))
    assert {point.step for point in run.update(more).points} == {2}


def test_the_end_of_a_study_brings_its_figures(recorder: Recorder) -> None:
    run, event = StudyRun(recorder.opened()), recorder.progressed(summary(0))
    assert not run.update(event).artifacts
    assert not run.update(recorder.closed()).artifacts
    told = run.after(event)
    assert told.undrawn
    assert artifact_names(told.update(recorder.closed())) == {
        "points.csv",
        "summary.csv",
        "summary.json",
        "optimization_history.json",
        "optimization_history.png",
        "parameter_importance.json",
        "parameter_importance.png",
    }
    assert not told.after(recorder.closed()).undrawn


def test_the_figures_of_each_point_are_told_once_when_the_study_is_done(recorder: Recorder) -> None:
    told = recorder.progressed(
        summary(0, value=0.8), summary(1, value=0.6), summary(2, value=0.9), summary(3, "pruned")
    ).model_copy(update={"seeds": 2})
    run = StudyRun(recorder.opened()).after(told)
    assert not run.update(recorder.closed(complete=False)).points
    ended = recorder.closed()
    figures = {(each.key, each.step): each.value for each in run.update(ended).points}
    spread = figures.pop(("points/std", 0))
    assert spread == pytest.approx(0.1 * math.sqrt(2))
    assert figures == {
        ("points/mean", 0): pytest.approx(0.7),
        ("points/n", 0): 2,
        ("points/mean", 1): 0.9,
        ("points/n", 1): 1,
    }
    assert {each.at_ms for each in run.update(ended).points} == {ended.at_ms}
    run = run.after(ended)
    assert not run.after(told).update(recorder.closed()).points, "told before"
    more = told.model_copy(update={"trials": (summary(3, value=0.7),)})
    again = {(each.key, each.step) for each in run.after(more).update(recorder.closed()).points}
    assert again == {(f"points/{name}", 1) for name in ("mean", "std", "n")}


def in_role(opened: StudyOpened, role: str) -> StudyOpened:
    """The opening of a confirmation or refit of the study `mine`."""
    return opened.model_copy(
        update={"tags": {**opened.tags, "tuner.role": role, "tuner.study": "mine"}}
    )


def described(run: StudyRun, ended: StudyClosed) -> str | None:
    (told,) = run.update(ended).sections or (NoteSection("Search", ""),)
    return told.text or None


def test_a_study_that_is_done_describes_its_question_and_result(recorder: Recorder) -> None:
    told = recorder.progressed(
        summary(0, value=0.8), summary(1, value=0.9), summary(2, "pruned", None)
    ).model_copy(update={"seeds": 2})
    other = told.trials[2].model_copy(update={"params": {"learning_rate": 0.1, "optimizer": "`"}})
    told = told.model_copy(update={"trials": (*told.trials[:2], other)})
    run = StudyRun(recorder.opened(model="paper-cnn", dataset="mnist")).after(told)
    assert described(run, recorder.closed(complete=False)) is None
    assert described(run, recorder.closed()) == (
        "**Question:** with which of 2 configurations has `paper-cnn` the best `val_accuracy` on "
        "`mnist`?\n\n"
        "**Best in the search:** point 0, `learning_rate=0.01 dropout_rate=0.4`: mean "
        "`val_accuracy` 0.8500 (standard deviation 0.0707, 2 trainings)\n\n"
        "3 trials: 2 completed, 1 pruned (`summary.csv`, by point `points.csv`)"
    )
    assert not run.update(recorder.closed()).sections_above
    single = StudyRun(recorder.opened()).after(recorder.progressed(summary(0)))
    assert "mean `val_accuracy` 0.9200 (1 training)" in (described(single, recorder.closed()) or "")


def test_a_study_without_a_completed_trial_describes_no_best_one(recorder: Recorder) -> None:
    run = StudyRun(recorder.opened()).after(recorder.progressed(summary(0, "failed", None)))
    assert described(run, recorder.closed(failed=True)) == (
        "1 trial: 1 failed (`summary.csv`, by point `points.csv`)"
    )


def test_a_confirmation_gives_its_study_the_answer(recorder: Recorder) -> None:
    claim = ClaimSummary(
        name="a",
        metric="val_loss",
        margin=0.1,
        better={},
        than={},
        better_mean=None,
        than_mean=None,
        verdict="undecided",
    )
    lines = ("point 3 is better than the baseline: +0.01", "claim 'a*b' is undecided")
    event = recorder.progressed(summary(0)).model_copy(
        update={"verdict": lines, "claims": (claim,)}
    )
    run = StudyRun(in_role(recorder.opened(), "confirmation")).after(event)
    ended = run.update(recorder.closed())
    (section,) = ended.sections
    assert ended.sections_above == (section,)
    assert section == NoteSection(
        "Confirmation",
        "**Answer:** point 3 is better than the baseline: +0.01\n\n"
        "- claim 'a\\*b' is undecided\n\n"
        "Claims: 1 undecided (`claims.csv`)",
    )
    undecided = StudyRun(in_role(recorder.opened(), "confirmation"))
    assert not undecided.after(recorder.progressed(summary(0))).update(recorder.closed()).sections


def test_a_refit_says_what_its_values_are_of(recorder: Recorder) -> None:
    run = StudyRun(in_role(recorder.opened(), "refit")).after(recorder.progressed(summary(0)))
    ended = run.update(recorder.closed())
    assert [each.title for each in ended.sections] == ["Refit"]
    assert "study mine" in ended.sections[0].text
    assert not ended.sections_above


def test_a_home_that_records_no_metrics_of_the_study_tells_none_of_its_points(
    recorder: Recorder,
) -> None:
    bare = recorder.progressed(summary(0)).model_copy(update={"metrics": {}})
    update = StudyRun(recorder.opened()).after(bare).update(recorder.closed())
    assert not update.points
    assert not update.sections


def test_a_confirmation_has_a_table_of_missed_images_and_while_it_has_the_data_their_picture(
    recorder: Recorder, tmp_path: Path
) -> None:
    image = MissedImage(row=3, label="1", predicted="2", agreeing=4, trainings=5, probability=0.9)
    missed = Missed(images=(image,), folder=tmp_path / "none")
    event = recorder.progressed(summary(0)).model_copy(update={"missed": missed})
    run = StudyRun(recorder.opened()).after(event).after(recorder.progressed(summary(1)))
    artifacts = {each.path: each.content for each in run.artifacts()}
    assert artifacts["missed.csv"] == (
        "row,file,label,predicted,agreeing,trainings,probability\n3,,1,2,4,5,0.9\n"
    )
    assert "missed.png" not in artifacts
    np.save(tmp_path / "images.npy", np.zeros((5, 8, 8, 1), np.uint8))
    here = event.model_copy(update={"missed": missed.model_copy(update={"folder": tmp_path})})
    assert "missed.png" in {each.path for each in run.after(here).artifacts()}


def test_an_attempt_that_recorded_its_confident_errors_has_their_table(recorder: Recorder) -> None:
    ended = recorder.ended()
    assert ended.result is not None
    errors = (ConfidentError(7, 2, 1, 0.97),)
    result = ended.result.model_copy(update={"confident_errors": errors})
    update = AttemptRun.of(recorder.started(0)).update(ended.model_copy(update={"result": result}))
    (table,) = (e.content for e in update.artifacts if e.path == "confident_errors.csv")
    assert table == "row,label,predicted,probability\n7,2,1,0.97\n"


def test_a_race_brings_its_claims_as_a_table_and_a_tag(recorder: Recorder) -> None:
    claim = ClaimSummary(
        name="a, b",
        metric="val_loss",
        margin=0.1,
        better={"depth": 2, "pooling": "max"},
        than={},
        better_mean=0.1,
        than_mean=0.2,
        verdict="confirmed",
        difference=-0.1,
    )
    other = claim.model_copy(update={"name": "c", "verdict": "undecided"})
    event = recorder.progressed(summary(0)).model_copy(update={"claims": (claim, other)})
    run = StudyRun(recorder.opened())
    assert run.update(event).tags == {"tuner.claims": "1 confirmed, 1 undecided"}
    (table,) = (one for one in run.after(event).artifacts() if one.path == "claims.csv")
    rows = list(csv.DictReader(io.StringIO(str(table.content))))
    assert [row["name"] for row in rows] == ["a, b", "c"]
    assert (rows[0]["better"], rows[0]["difference"]) == ("depth=2 pooling=max", "-0.1")


def test_a_study_adds_up_what_its_events_tell(recorder: Recorder) -> None:
    bare = recorder.progressed(summary(1), summary(0, value=0.8)).model_copy(
        update={"importance": {}}
    )
    run = StudyRun(recorder.opened())
    for event in (recorder.progressed(summary(0, value=0.7)), bare):
        run = run.after(event)
    assert [(trial.number, trial.value) for trial in run.trials.values()] == [(0, 0.8), (1, 0.92)]
    assert run.importance == {"learning_rate": 0.7, "dropout_rate": 0.3}
    assert run.last_step == 2


def test_a_model_whose_file_is_gone_is_named(recorder: Recorder) -> None:
    kept = recorder.kept()
    kept.path.unlink()
    update = AttemptRun.of(recorder.started(0)).update(kept)
    assert update == replace(RunUpdate(), tags={"tuner.model.missing": str(kept.path)})


def test_an_event_in_the_wrong_spool_is_refused(recorder: Recorder) -> None:
    with pytest.raises(RefusedError, match="belongs into an attempt's spool"):
        StudyRun(recorder.opened()).update(recorder.epoch(1, math.nan))
