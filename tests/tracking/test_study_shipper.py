"""Spools become exactly the runs they tell of, in a real local store, however often shipped."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import list_artifacts, load_text

from tests.tracking.conftest import START_MS, Recorder, summary
from tuner.errors import UnavailableError
from tuner.tracking.progress import load_progress, survey
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool import attempt_folder, parent_folder
from tuner.tracking.study_shipper import StudyShipper


def ship(folder: Path, settings: TrackingSettings, batches: int = 1_000_000) -> int:
    """Ships until nothing is left or it was told to stop; returns what is left.

    `batches` is how often the shipper may ask whether to go on: before each spool and batch.
    """
    remaining = iter(range(batches))
    shipper = StudyShipper(folder, settings, lambda: next(remaining, None) is not None)
    try:
        while shipper.ship():
            pass
        return shipper.survey().pending
    finally:
        shipper.close()


class Store:
    """What the tests see of MLflow."""

    def __init__(self, settings: TrackingSettings) -> None:
        self.client = MlflowClient(settings.uri)
        self.experiment = self.client.get_experiment_by_name(settings.experiment)
        found = self.client.search_runs([self.experiment.experiment_id])
        self.runs: dict[str, Any] = {run.info.run_name: run for run in found}
        assert len(found) == len(self.runs), "a run was created twice"

    def points(self, name: str, key: str) -> list[tuple[int, float, int]]:
        history = self.client.get_metric_history(self.runs[name].info.run_id, key)
        return sorted((point.step, point.value, point.timestamp) for point in history)

    def artifacts(self, name: str, path: str | None = None) -> set[str]:
        run_id = self.runs[name].info.run_id
        listed = list_artifacts(run_id=run_id, artifact_path=path, tracking_uri=self.uri)
        return {entry.path for entry in listed}

    def text(self, name: str, path: str) -> str:
        return str(load_text(f"{self.runs[name].info.artifact_uri}/{path}"))

    def snapshot(self) -> object:
        """Everything of every run, to compare."""
        return {
            name: (
                run.info.status,
                run.info.start_time,
                run.info.end_time,
                run.data.params,
                run.data.tags,
                {key: self.points(name, key) for key in run.data.metrics},
                self.artifacts(name),
                [each.to_dictionary() for each in run.inputs.dataset_inputs],
            )
            for name, run in self.runs.items()
        }

    @property
    def uri(self) -> str:
        return str(self.client.tracking_uri)

    def has_one_point_a_step(self) -> bool:
        return all(
            len({step for step, _, _ in points}) == len(points)
            for name, run in self.runs.items()
            for points in (self.points(name, key) for key in run.data.metrics)
        )


def test_a_study_becomes_its_runs(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.whole_study()
    assert ship(recorder.folder, local) == 0
    store = Store(local)
    assert store.runs.keys() == {"sweep", "trial 0", "trial 1"}
    assert store.experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    parent, trial, pruned = (store.runs[name] for name in ("sweep", "trial 0", "trial 1"))
    assert {run.info.status for run in store.runs.values()} == {"FINISHED"}
    assert parent.info.start_time == START_MS
    assert parent.info.end_time == START_MS + 99_000
    assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert trial.data.tags["tuner.version.keras"] == "3.15.1"
    assert (trial.data.tags["tuner.state"], pruned.data.tags["tuner.state"]) == (
        "completed",
        "pruned",
    )
    assert trial.data.params.keys() == pruned.data.params.keys()
    assert trial.data.metrics.keys() == pruned.data.metrics.keys()


def test_curves_carry_the_times_at_which_they_happened(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    store = Store(local)
    times = [(step, at_ms) for step, _, at_ms in store.points("trial 0", "val_accuracy")]
    assert times == [(epoch, START_MS + 1000 * epoch) for epoch in (1, 2, 3)]
    assert store.points("trial 0", "epoch_train_s")[0][1] == 2.0
    assert store.points("trial 0", "system/cpu_utilization_percentage") == [(0, 50.0, START_MS)]
    assert store.points("sweep", "trials_completed") == [(0, 0.0, START_MS), (2, 2.0, START_MS)]


def test_artifacts_and_data_set_are_there(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    store = Store(local)
    assert {"study.yaml", "uncommitted.diff", "summary.csv", "optimization_history.png"} <= (
        store.artifacts("sweep")
    )
    assert store.artifacts("trial 0", "model") == {"model/model.keras"}
    assert store.artifacts("trial 0", "source") == {"source/mine.py"}
    assert store.text("trial 0", "output.log") == "trained\n"
    assert json.loads(store.text("trial 0", "plan.json"))["seed"] == 11
    (used,) = store.runs["trial 0"].inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("digits", "d1" * 18)
    assert json.loads(used.dataset.profile)["train_count"] == 100
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


def forget_nothing(_folder: Path) -> None:
    pass


def forget_progress(folder: Path) -> None:
    for path in folder.rglob("shipped.json"):
        path.unlink()


def damage_progress(folder: Path) -> None:
    for path in folder.rglob("shipped.json"):
        path.write_text("")


@pytest.mark.parametrize("harm", [forget_nothing, forget_progress, damage_progress])
def test_shipping_again_adds_nothing(
    recorder: Recorder, local: TrackingSettings, harm: Callable[[Path], None]
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    before = Store(local).snapshot()
    harm(recorder.folder)
    assert ship(recorder.folder, local) == 0
    assert Store(local).snapshot() == before


def test_stopping_after_every_batch_changes_nothing(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    for _ in range(40):
        if ship(recorder.folder, local, batches=5) == 0:
            break
    store = Store(local)
    assert ship(recorder.folder, local) == 0
    assert store.runs.keys() == {"sweep", "trial 0", "trial 1"}
    assert store.has_one_point_a_step()
    assert len(store.points("trial 0", "loss")) == 3


def test_another_store_gets_everything(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    (tmp_path / "mlflow.db").unlink()
    assert ship(recorder.folder, local) == 0
    assert Store(local).runs.keys() == {"sweep", "trial 0", "trial 1"}


def test_a_study_that_goes_on_keeps_its_run(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    recorder.parent(recorder.opened(trials="3"))
    ship(recorder.folder, local)
    reopened = Store(local).runs["sweep"]
    assert reopened.info.status == "RUNNING"
    assert reopened.data.params["trials"] == "2"
    assert reopened.data.tags["tuner.changed.trials"] == "3"
    recorder.parent(recorder.progressed(summary(0), summary(1), at_ms=1), recorder.closed())
    ship(recorder.folder, local)
    store = Store(local)
    assert store.runs["sweep"].info.status == "FINISHED"
    assert store.has_one_point_a_step()


def test_a_displaced_model_leaves_its_run(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.parent(recorder.opened())
    recorder.trial(0)
    ship(recorder.folder, local)
    recorder.attempt(0, 0, recorder.displaced())
    ship(recorder.folder, local)
    store = Store(local)
    assert store.artifacts("trial 0", "model") == set()
    assert "tuner.model.sha256" not in store.runs["trial 0"].data.tags


def test_a_model_displaced_before_it_was_shipped_is_never_needed(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    kept = recorder.kept()
    recorder.attempt(0, 0, recorder.started(0), kept, recorder.displaced())
    kept.path.unlink()
    ship(recorder.folder, local)
    assert not {
        key for key in Store(local).runs["trial 0"].data.tags if key.startswith("tuner.model")
    }


def test_a_retry_leads_back_to_the_lost_attempt(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1), recorder.ended("lost"))
    recorder.attempt(0, 1, recorder.started(0, 1), recorder.epoch(1), recorder.epoch(2))
    ship(recorder.folder, local)
    runs = Store(local).runs
    lost, again = runs["trial 0"], runs["trial 0 attempt 1"]
    assert (lost.info.status, again.info.status) == ("KILLED", "RUNNING")
    assert again.data.tags["tuner.predecessor_run_id"] == lost.info.run_id


def test_a_child_waits_for_its_parent_from_another_machine(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    elsewhere = Recorder(tmp_path / "elsewhere")
    recorder.trial(0)
    assert ship(recorder.folder, local) == 7
    elsewhere.parent(elsewhere.opened())
    ship(elsewhere.folder, local)
    assert ship(recorder.folder, local) == 0
    runs = Store(local).runs
    assert runs["trial 0"].data.tags["mlflow.parentRunId"] == runs["sweep"].info.run_id


def trials_drawn(settings: TrackingSettings) -> int:
    return len(json.loads(Store(settings).text("sweep", "optimization_history.json")))


def test_figures_are_drawn_now_and_then_and_at_the_end(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened(), recorder.progressed(summary(0)))
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        shipper.ship()
        assert trials_drawn(local) == 1
        recorder.parent(recorder.progressed(summary(1)))
        assert shipper.ship() == 0
        assert shipper.survey().pending == 1
        recorder.trial(0)
        assert shipper.ship(finishing=True) == 8
        assert shipper.survey().pending == 0
    assert trials_drawn(local) == 2


def test_figures_that_a_killed_shipper_had_not_drawn_are_drawn_by_the_next(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened(), recorder.progressed(summary(0)))
    asked = iter([True, True, True, False])  # the spool, two batches, no figures
    with closing(StudyShipper(recorder.folder, local, lambda: next(asked))) as killed:
        assert killed.ship() == 2
    assert survey(recorder.folder).pending == 1
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        shipper.ship()
    assert survey(recorder.folder).pending == 0
    assert trials_drawn(local) == 1


def test_epochs_wait_for_one_another_until_something_happens(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1))
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        assert shipper.ship() == 3
        recorder.attempt(0, 0, recorder.epoch(2))
        assert shipper.ship() == 0
        recorder.attempt(0, 0, recorder.epoch(3), recorder.ended())
        assert shipper.ship() == 3
        recorder.attempt(0, 0, recorder.kept())
        assert shipper.ship(finishing=True) == 1
    assert [step for step, _, _ in Store(local).points("trial 0", "loss")] == [1, 2, 3]


def test_what_mlflow_refuses_stops_nobody(
    recorder: Recorder, local: TrackingSettings, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.parent(recorder.opened())
    bad = recorder.epoch(2)
    metrics = {**bad.report.metrics, "no#good": 1.0}
    bad = bad.model_copy(update={"report": bad.report.model_copy(update={"metrics": metrics})})
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1), bad, recorder.epoch(3))
    recorder.trial(1)
    assert ship(recorder.folder, local) == 0
    store = Store(local)
    assert [step for step, _, _ in store.points("trial 0", "loss")] == [1, 3]
    assert store.runs["trial 0"].data.tags["tuner.refused_events"] == "1"
    assert store.runs["trial 1"].info.status == "FINISHED"
    progress = load_progress(attempt_folder(recorder.folder, 0, 0))
    assert progress is not None
    assert "no#good" in progress.refused[0]
    assert "no#good" in caplog.text


def test_a_damaged_line_is_skipped_and_named(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.parent(recorder.opened())
    with (parent_folder(recorder.folder) / "spool.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n")
    recorder.parent(recorder.closed())
    assert ship(recorder.folder, local) == 0
    parent = Store(local).runs["sweep"]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["tuner.refused_events"] == "1"


def test_a_diverged_epoch_is_one_point(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(
        0, 0, recorder.started(0), recorder.epoch(1, float("nan")), recorder.epoch(2, float("inf"))
    )
    for _ in range(2):
        ship(recorder.folder, local)
        forget_progress(recorder.folder)
    store = Store(local)
    run_id = store.runs["trial 0"].info.run_id
    history = store.client.get_metric_history(run_id, "accuracy")
    assert [(point.step, str(point.value)) for point in history] == [(1, "nan"), (2, "nan")]


def test_any_study_name_can_be_found_again(local: TrackingSettings, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "study", study='it\'s "100%" `mine` \\ ü')
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0))
    ship(recorder.folder, local)
    forget_progress(recorder.folder)
    assert ship(recorder.folder, local) == 0
    assert Store(local).runs.keys() == {recorder.study, "trial 0"}


def test_long_values_are_cut_to_what_mlflow_takes(
    recorder: Recorder, local: TrackingSettings
) -> None:
    params = {f"param_{number}": "x" * 7000 for number in range(250)}
    recorder.parent(recorder.opened(**params))
    assert ship(recorder.folder, local) == 0
    logged = Store(local).runs["sweep"].data.params
    assert {len(value) for value in logged.values()} == {6000}
    assert len(logged) == 250


def test_doubles_of_a_run_are_deleted(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0))
    ship(recorder.folder, local)
    store = Store(local)
    tags = {"tuner.uid": recorder.uid(0)}
    store.client.create_run(store.experiment.experiment_id, 2, tags, "trial 0")
    recorder.attempt(0, 0, recorder.ended())
    ship(recorder.folder, local)
    assert Store(local).runs["trial 0"].info.run_id == store.runs["trial 0"].info.run_id


def test_a_deleted_experiment_is_left_alone(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.parent(recorder.opened())
    ship(recorder.folder, local)
    store = Store(local)
    store.client.delete_experiment(store.experiment.experiment_id)
    with pytest.raises(UnavailableError, match="experiment 'tuner' is deleted"):
        ship(recorder.folder, local)


def test_one_shipper_at_a_time(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.whole_study()
    first = StudyShipper(recorder.folder, local, lambda: True)
    second = StudyShipper(recorder.folder, local, lambda: True)
    assert first.ship() > 0
    recorder.attempt(2, 0, recorder.started(2))
    assert second.ship() == 0
    assert second.survey().pending == 1
    assert second.survey().runs.keys() == {recorder.study_uid, recorder.uid(0), recorder.uid(1)}
    first.close()
    assert second.ship() == 1
    second.close()
    assert not (recorder.folder / "shipping").exists()
