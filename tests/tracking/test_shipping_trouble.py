"""What a shipper does where spools, stores or names are not as they should be."""

import json
import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.tracking.recorder import Recorder, summary
from tests.tracking.store import Store, forget_progress, ship
from tuner.errors import RefusedError
from tuner.tracking.mlflow.mlflow_store import MlflowStore
from tuner.tracking.mlflow.store_repair import repair_store, store_problems
from tuner.tracking.runs.run_update import RunOpening
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.study_shipper import StudyShipper
from tuner.tracking.spool.shipped import load_progress
from tuner.tracking.spool.shipping_lock import nobody_ships
from tuner.tracking.spool.spool import attempt_folder, parent_folder

STUDY = "sweep@test"


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
    assert [step for step, _, _ in store.points("trial 0", "loss")] == [1, 2, 3]
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


def damage_beginning(folder: Path) -> None:
    with (folder / "spool.jsonl").open("r+b") as spool:
        spool.seek(60)
        spool.write(bytes(8))


def test_a_run_goes_on_once_the_line_that_began_it_is_damaged(
    recorder: Recorder, local: TrackingSettings
) -> None:
    """Nobody can say any more what that line held, but it has been shipped."""
    recorder.parent(recorder.opened())
    folder = recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1))
    ship(recorder.folder, local)
    damage_beginning(folder)
    recorder.attempt(0, 0, recorder.epoch(2), recorder.epoch(3), recorder.ended("lost"))
    assert ship(recorder.folder, local) == 0
    store = Store(local)
    assert [step for step, _, _ in store.points("trial 0", "loss")] == [1, 2, 3]
    assert store.runs["trial 0"].info.status == "KILLED"
    progress = load_progress(folder)
    assert progress is not None
    assert len(progress.refused) == 1


def test_a_spool_that_was_begun_anew_behind_a_damaged_line_becomes_its_run(
    recorder: Recorder, local: TrackingSettings
) -> None:
    """Nothing had been shipped; until its driver writes again, nobody can say what it is."""
    recorder.parent(recorder.opened())
    folder = recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1))
    damage_beginning(folder)
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        shipper.ship()
        assert Store(local).runs.keys() == {"sweep"}
        recorder.attempt(0, 0, recorder.started(0), recorder.epoch(2), recorder.ended("lost"))
        shipper.ship(finishing=True)
    store = Store(local)
    assert [step for step, _, _ in store.points("trial 0", "loss")] == [1, 2]
    assert store.runs["trial 0"].info.status == "KILLED"
    progress = load_progress(folder)
    assert progress is not None
    assert len(progress.refused) == 1


def test_what_a_copy_ships_late_replaces_no_record_of_an_end(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1))
    copy = Path(shutil.copytree(recorder.folder, tmp_path / "copy"))
    recorder.attempt(0, 0, recorder.epoch(2), recorder.epoch(3), recorder.ended())
    assert ship(recorder.folder, local) == 0
    assert ship(copy, local) == 0
    record = json.loads(Store(local).text("trial 0", "trial.json"))
    assert len(record["epochs"]) == 3


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


@pytest.mark.parametrize("start_ms", [2, 2**42])
def test_doubles_of_a_run_are_deleted(
    recorder: Recorder, local: TrackingSettings, start_ms: int
) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1))
    ship(recorder.folder, local)
    store = Store(local)
    tags = {"tuner.uid": recorder.uid(0)}
    store.client.create_run(store.experiment.experiment_id, start_ms, tags, "trial 0")
    recorder.attempt(0, 0, recorder.epoch(2), recorder.ended())
    assert ship(recorder.folder, local) == 0
    only = Store(local)
    assert only.runs["trial 0"].info.status == "FINISHED"
    assert len(only.points("trial 0", "val_accuracy")) == 3


@pytest.mark.slow_variants
@pytest.mark.parametrize("batches", [3, 1_000_000])
def test_a_run_that_a_home_and_its_copy_made_at_once_is_one(
    recorder: Recorder,
    local: TrackingSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
) -> None:
    recorder.parent(recorder.opened())
    ship(recorder.folder, local)
    for slot in range(6):
        recorder.trial(slot)
    copy = Path(shutil.copytree(recorder.folder, tmp_path / "copy"))
    ship(recorder.folder, local, batches)
    find = MlflowStore._find
    with monkeypatch.context() as patch:  # each looked before the other made it
        patch.setattr(
            MlflowStore, "_find", lambda self, uid, *_: find(self, uid) if uid == STUDY else None
        )
        ship(copy, local)
    for folder in (recorder.folder, copy):
        assert ship(folder, local) == 0
    store = Store(local)
    for slot in range(6):
        assert store.runs[f"trial {slot}"].info.status == "FINISHED"
        assert len(store.points(f"trial {slot}", "val_accuracy")) == 3


def test_all_who_remove_doubles_leave_the_same_run(
    local: TrackingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that made a run at the same moment look for doubles at the same moment too."""
    store, opening = MlflowStore(local, tmp_path), RunOpening(uid="one", name="one", started_ms=1)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowStore, "_find", lambda *_: None)
        made = {store.find_or_create(opening, None).run_id for _ in range(3)}
    left = {store.remove_doubles("one") for _ in made}
    assert len(made) == 3
    assert len(left) == 1
    assert {store.find("one")} == left < made


def test_a_deleted_experiment_is_left_alone(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.parent(recorder.opened())
    ship(recorder.folder, local)
    store = Store(local)
    store.client.delete_experiment(store.experiment.experiment_id)
    with pytest.raises(RefusedError, match=r"experiment 'tuner' is deleted.*doctor --fix"):
        ship(recorder.folder, local)
    assert [each.text for each in store_problems(local)] == ["experiment 'tuner' is deleted"]
    repair_store(local, driven=["sweep"])
    assert store_problems(local) == []
    assert ship(recorder.folder, local) == 0
    assert Store(local).experiment.lifecycle_stage == "active"


def test_a_store_that_was_moved_with_its_folder_is_mended(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    """What went to the old place meanwhile is fetched, and what is newer here stays."""
    recorder.whole_study()
    assert ship(recorder.folder, local) == 0
    before = Store(local)
    told = {name: before.artifacts(name) for name in before.runs}
    moved = tmp_path / "elsewhere" / "home"
    moved.mkdir(parents=True)
    shutil.copytree(local.artifact_root, moved / "mlartifacts")
    shutil.copyfile(tmp_path / "mlflow.db", moved / "mlflow.db")
    here = TrackingSettings.from_environment(moved, {})
    (late,) = (Path(local.artifact_root)).glob("*/artifacts/study.yaml")
    late.with_name("late.txt").write_text("written meanwhile")
    newer = Path(here.artifact_root) / late.relative_to(local.artifact_root)
    newer.write_text("newer")

    with pytest.raises(RefusedError, match=r"the state folder was moved.*tuner doctor --fix"):
        ship(recorder.folder, here)
    assert [local.artifact_root in each.text for each in store_problems(here)] == [True]
    with pytest.raises(RefusedError, match=r"stop it first: tuner stop sweep"):
        repair_store(here, driven=["sweep"])
    left_behind = StudyShipper(recorder.folder, local, lambda: True)
    left_behind.ship()
    with pytest.raises(RefusedError, match=r"not moved while the events in .* are being shipped"):
        repair_store(here, [], [recorder.folder])
    assert [local.artifact_root in each.text for each in store_problems(here)] == [True]
    left_behind.close()
    repair_store(here, [], [recorder.folder])
    assert store_problems(here) == store_problems(local) == []

    shutil.rmtree(local.artifact_root)
    after = Store(here)
    assert after.experiment.artifact_location == Path(here.artifact_root).as_uri()
    assert newer.read_text() == "newer"
    for name, artifacts in told.items():
        parent = {"late.txt"} if "study.yaml" in artifacts else set()
        assert after.artifacts(name) == artifacts | parent
    assert ship(recorder.folder, here) == 0


def test_artifacts_that_were_put_elsewhere_on_purpose_stay_there(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    chosen = (tmp_path / "big").as_uri()
    MlflowClient(local.uri).create_experiment(local.experiment, chosen)
    recorder.whole_study()
    assert ship(recorder.folder, local) == 0
    assert store_problems(local) == []
    repair_store(local, driven=[])
    assert Store(local).experiment.artifact_location == chosen
    assert Store(local).artifacts("trial 0")
    assert local.misplaced("s3://bucket/mlartifacts") == ""


def test_addresses_stay_where_the_artifacts_are_nowhere(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    recorder.whole_study()
    assert ship(recorder.folder, local) == 0
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copyfile(tmp_path / "mlflow.db", moved / "mlflow.db")
    shutil.rmtree(local.artifact_root)
    here = TrackingSettings.from_environment(moved, {})
    with pytest.raises(RefusedError, match=r"neither .*/mlartifacts nor .*/elsewhere/mlartifacts"):
        repair_store(here, driven=[])
    before = Path(local.artifact_root).as_uri()
    assert Store(here).experiment.artifact_location == before


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


def test_a_shipper_leaves_a_folder_that_was_made_anew(
    recorder: Recorder, local: TrackingSettings
) -> None:
    """Its study was deleted, and another one lies at the same path."""
    recorder.whole_study()
    recorder.parent(recorder.opened())
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as living:
        assert living.ship() > 0
        known = Store(local).snapshot()
        shutil.rmtree(recorder.folder)
        other = Recorder(recorder.folder, study="other")
        other.whole_study()
        other.attempt(0, 0, *(other.epoch(number) for number in range(4, 9)))
        assert living.ship(finishing=True) == 0
        assert living.dismissed
        assert Store(local).snapshot() == known
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as fresh:
        assert fresh.ship(finishing=True) > 0


def test_a_shipper_survives_the_removal_of_what_it_ships(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.trial(0)
    recorder.trial(1)
    told = [summary(slot).model_copy(update={"uid": recorder.uid(slot)}) for slot in range(2)]
    recorder.parent(recorder.opened(), recorder.progressed(*told), recorder.closed())

    def remove() -> bool:
        if (attempt_folder(recorder.folder, 0, 0) / "shipped.json").exists():
            shutil.rmtree(recorder.folder)
        return True

    with closing(StudyShipper(recorder.folder, local, remove)) as shipper:
        assert shipper.ship() > 0
        assert shipper.dismissed


def test_who_ships_lets_go_of_a_study_that_is_to_be_deleted(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    living = StudyShipper(recorder.folder, local, lambda: True)
    assert living.ship() > 0

    def work() -> None:
        while not living.dismissed:
            living.ship(finishing=True)
        living.close()

    working = threading.Thread(target=work)
    working.start()
    with nobody_ships(recorder.folder.parent):
        working.join()
        recorder.attempt(2, 0, recorder.started(2))
        with closing(StudyShipper(recorder.folder, local, lambda: True)) as late:
            assert late.ship(finishing=True) == 0
            assert not late.dismissed
    assert ship(recorder.folder, local) == 0


@pytest.mark.parametrize("double_closes_first", [True, False])
def test_parents_that_two_machines_made_at_once_become_one(
    tmp_path: Path,
    local: TrackingSettings,
    monkeypatch: pytest.MonkeyPatch,
    double_closes_first: bool,
) -> None:
    one, other = Recorder(tmp_path / "one"), Recorder(tmp_path / "other")
    one.parent(one.opened())
    other.parent(other.opened())
    ship(one.folder, local)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowStore, "_find", lambda *_: None)  # each looked before the other made it
        ship(other.folder, local)
    one.trial(0)
    other.trial(1)
    for each in (one, other):
        ship(each.folder, local)
    client = MlflowClient(local.uri)
    experiment = client.get_experiment_by_name(local.experiment).experiment_id
    parents = client.search_runs([experiment], "tags.`tuner.uid` = 'sweep@test'")
    assert len(parents) == 2
    children = client.search_runs([experiment], "tags.`tuner.kind` = 'trial'")
    for child, parent in zip(children, parents, strict=True):
        client.set_tag(child.info.run_id, "mlflow.parentRunId", parent.info.run_id)

    def run_of(recorder: Recorder) -> str:
        progress = load_progress(parent_folder(recorder.folder))
        assert progress is not None
        assert progress.refused == ()
        return progress.run_id or ""

    for each in sorted((one, other), key=run_of, reverse=double_closes_first):
        each.parent(each.progressed(), each.closed())
        assert ship(each.folder, local) == 0

    store = Store(local)
    parent = store.runs["sweep"].info
    assert parent.status == "FINISHED"
    for name in ("trial 0", "trial 1"):
        assert store.runs[name].data.tags["mlflow.parentRunId"] == parent.run_id
    assert run_of(one) == run_of(other) == parent.run_id
