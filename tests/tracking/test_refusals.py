"""What becomes of a run of which MLflow, or what stands before it, turns a part down."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from mlflow import MlflowClient
from sqlalchemy import make_url

from tests.tracking.ingress import Answer, ingress
from tests.tracking.recorder import Recorder, report
from tests.tracking.servers import Server
from tests.tracking.store import Store, ship
from tests.waiting import LONGEST_S, wait_until
from tuner.errors import ExitCode, UnavailableError
from tuner.tracking.inspection import look_at
from tuner.tracking.mlflow.experiments import open_store
from tuner.tracking.mlflow.run_deletion import A_DOUBLE, DELETED_TAG, delete_runs, discard
from tuner.tracking.mlflow.store_repair import repair_store
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.shipper import Shipper
from tuner.tracking.shipping.study_shipper import StudyShipper
from tuner.tracking.spool.shipped import load_progress, survey
from tuner.tracking.spool.spool import attempt_folder, parent_folder
from tuner.training.plan import EpochEnded

PROXYS_LIMIT = 1_000_000
TOO_LARGE = b"<html><head><title>413 Request Entity Too Large</title></head></html>"


def test_a_file_that_is_too_large_for_a_proxy_costs_its_run_nothing_else(
    recorder: Recorder, server: Server
) -> None:
    """A log longer than that arrives as its head and its tail."""
    settings = replace(server.settings, experiment="limited")
    recorder.parent(recorder.opened())
    ended = recorder.ended("failed", reason="why")
    assert ended.log is not None
    ended.log.write_bytes(b"first\n" + b"x" * 2 * PROXYS_LIMIT + b"\nlast")
    kept = recorder.kept(b"w" * 2 * PROXYS_LIMIT)
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1), kept, ended)

    def limited(body: bytes) -> Answer | None:
        return (413, TOO_LARGE) if len(body) > PROXYS_LIMIT else None

    with ingress(server.port, limited) as port:
        assert ship(recorder.folder, replace(settings, uri=f"http://127.0.0.1:{port}")) == 0

    store = Store(settings)
    run = store.runs["trial 0"]
    assert run.info.status == "FAILED"
    assert run.data.tags["tuner.reason"] == "why"
    assert run.data.tags["tuner.refused_events"] == "1"
    assert {"curves.png", "error.txt", "trial.json"} <= store.artifacts("trial 0")
    log = store.text("trial 0", "output.log")
    assert log.startswith("first\n")
    assert log.endswith("\nlast")
    assert len(log) < PROXYS_LIMIT
    progress = load_progress(attempt_folder(recorder.folder, 0, 0))
    assert progress is not None
    assert "artifact 'model/model.keras': MLflow: cannot update run" in progress.refused[0]
    assert "413" in progress.refused[0]


@pytest.mark.parametrize("path", ["../" * 30 + "{outside}", "a/\0.py", "a/../b.py"])
def test_a_file_that_would_lie_elsewhere_is_written_nowhere(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path, path: str
) -> None:
    """Its path came from a database; the run has everything else."""
    outside = tmp_path / "outside.py"
    evil = path.format(outside=outside.relative_to("/"))
    code = {f"from-trial-0/{name}": "units = 1\n" for name in (evil, "net.py")}
    recorder.parent(recorder.opened().model_copy(update={"code": code}), recorder.closed())
    assert ship(recorder.folder, local) == 0
    assert not outside.exists()
    store = Store(local)
    assert store.runs["sweep"].info.status == "FINISHED"
    assert "study.yaml" in store.artifacts("sweep")
    assert store.artifacts("sweep", "code/from-trial-0") == {"code/from-trial-0/net.py"}
    (note,) = survey(recorder.folder).turned_down
    assert "must lie below the folder of the run's artifacts" in note


def test_a_figure_that_cannot_be_drawn_costs_its_run_nothing_else(
    recorder: Recorder, local: TrackingSettings
) -> None:
    """No axis spans the whole range of floats."""
    spread = {"accuracy": 1.7e308, "val_accuracy": -1.7e308, "loss": 1.0, "val_loss": 1.0}
    epoch = EpochEnded(report=report(1).model_copy(update={"metrics": spread}))
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), epoch, recorder.ended("failed", epochs=0))
    assert ship(recorder.folder, local) == 0
    store = Store(local)
    assert store.runs["trial 0"].info.status == "FAILED"
    assert store.points("trial 0", "accuracy")
    assert "curves.png" not in store.artifacts("trial 0")
    assert "trial.json" in store.artifacts("trial 0")
    (note,) = survey(recorder.folder).turned_down
    assert "artifact 'curves.png': cannot be drawn: ValueError" in note


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [b"<html><h1>404 Not Found</h1></html>", b'{"message": "no Route matched"}']
)
def test_an_ingress_without_a_server_behind_it_loses_nothing(
    recorder: Recorder, server: Server, body: bytes
) -> None:
    """Its 404 is not MLflow's, whether nothing or something has been shipped by then."""
    settings = replace(server.settings, experiment=f"redeployed-{len(body)}")
    away = [True]
    with ingress(server.port, lambda _: (404, body) if away[0] else None) as port:
        shipper = Shipper(recorder.folder, replace(settings, uri=f"http://127.0.0.1:{port}"))
        try:
            recorder.parent(recorder.opened())
            wait_until(lambda: shipper.log.read_text().count("events wait in the spool") == 1)
            away[0] = False
            wait_until(lambda: shipper.pending == 0)
            away[0] = True
            recorder.trial(0)
            wait_until(lambda: shipper.log.read_text().count("events wait in the spool") == 2)
            away[0] = False
            recorder.parent(recorder.closed())
        finally:
            code = shipper.finish(lambda: LONGEST_S)
    assert (code, shipper.refusal) == (ExitCode.OK, "")
    runs = Store(settings).runs
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert not [run for run in runs.values() if "tuner.refused_events" in run.data.tags]
    assert len(Store(settings).points("trial 0", "loss")) == 3


def own_database(postgresql: str, name: str) -> str:
    """Makes a database beside the one that other tests use, whose tables MLflow cannot share."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = make_url(postgresql).set(drivername="postgresql+psycopg", database=name)
    return url.render_as_string(hide_password=False)


def test_text_that_postgresql_cannot_hold_arrives_with_escapes(
    recorder: Recorder, postgresql: str, tmp_path: Path
) -> None:
    settings = TrackingSettings(
        own_database(postgresql, "mlflow"), str(tmp_path / "artifacts"), "nul"
    )
    recorder.parent(recorder.opened(model="a\0b"))
    recorder.attempt(0, 0, recorder.started(0), recorder.ended("failed", reason="b\0c \ud800"))
    assert ship(recorder.folder, settings) == 0
    runs = Store(settings).runs
    assert runs["trial 0"].info.status == "FAILED"
    assert runs["trial 0"].data.tags["tuner.reason"] == r"b\x00c \ud800"
    assert runs["sweep"].data.params["model"] == r"a\x00b"


@pytest.fixture
def begun(recorder: Recorder, local: TrackingSettings) -> Iterator[StudyShipper]:
    """The shipper of a study that has one trial in progress, which is shipped so far."""
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1))
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        shipper.ship()
        yield shipper


def go_on(recorder: Recorder) -> None:
    recorder.attempt(0, 0, recorder.epoch(2), recorder.epoch(3), recorder.ended())
    recorder.trial(1)


@pytest.mark.parametrize("purged", [False, True])
def test_runs_that_were_deleted_by_hand_come_back_when_there_is_more_to_show(
    recorder: Recorder, local: TrackingSettings, begun: StudyShipper, purged: bool
) -> None:
    """They are restored, or made anew if they were purged; what lies below them stays there."""
    before = Store(local)
    for run in before.runs.values():
        before.client.delete_run(run.info.run_id)
        if purged:
            before.client._tracking_client.store._hard_delete_run(run.info.run_id)
    go_on(recorder)
    while begun.ship(finishing=True):
        pass
    recorder.parent(recorder.progressed(), recorder.closed())
    while begun.ship(finishing=True):
        pass

    assert begun.survey().pending == 0
    after = Store(local)
    assert {run.info.status for run in after.runs.values()} == {"FINISHED"}
    parent = after.runs.pop("sweep").info.run_id
    assert (parent == before.runs["sweep"].info.run_id) is not purged
    assert len(after.runs) == 2
    for name, run in after.runs.items():
        assert run.data.tags["mlflow.parentRunId"] == parent
        assert "tuner.refused_events" not in run.data.tags
        assert [step for step, _, _ in after.points(name, "loss")] == [1, 2, 3]


def test_an_experiment_that_is_deleted_while_it_is_shipped_to_costs_no_event(
    recorder: Recorder, local: TrackingSettings, begun: StudyShipper
) -> None:
    """It is not restored with what tuner itself had deleted."""
    before = Store(local)
    double = before.client.create_run(before.experiment.experiment_id, run_name="double")
    discard(before.client, double.info.run_id, A_DOUBLE)
    before.client.delete_experiment(before.experiment.experiment_id)
    go_on(recorder)
    with pytest.raises(Exception, match="is deleted; restore it with: tuner doctor --fix"):
        begun.ship(finishing=True)
    repair_store(local, driven=[])
    while begun.ship(finishing=True):
        pass

    after = Store(local)
    assert after.runs.keys() == {"sweep", "trial 0", "trial 1"}
    assert [step for step, _, _ in after.points("trial 0", "loss")] == [1, 2, 3]
    assert "tuner.refused_events" not in after.runs["trial 0"].data.tags


def test_runs_that_were_deleted_with_their_study_stay_deleted(
    recorder: Recorder, local: TrackingSettings, begun: StudyShipper
) -> None:
    client = MlflowClient(local.uri)
    assert delete_runs(local, recorder.study_uid) == 2
    go_on(recorder)
    recorder.parent(recorder.closed())
    begun.ship(finishing=True)
    assert Store(local).runs == {}
    (run, _) = client.search_runs(
        [client.get_experiment_by_name("tuner").experiment_id], run_view_type=2
    )
    assert run.data.tags[DELETED_TAG] == "with its study"


def test_a_shipper_of_another_machine_brings_no_deleted_study_back(
    recorder: Recorder, local: TrackingSettings, begun: StudyShipper
) -> None:
    """It has a trial to ship whose run was to lie below the study's."""
    assert delete_runs(local, recorder.study_uid) == 2
    recorder.trial(5)
    for _ in range(3):
        begun.ship(finishing=True)
    assert Store(local).runs == {}
    assert begun.survey().pending == 0


def test_a_spool_that_is_replaced_while_it_is_shipped_is_shipped_from_its_beginning(
    recorder: Recorder, local: TrackingSettings, begun: StudyShipper
) -> None:
    (parent_folder(recorder.folder) / "spool.jsonl").unlink()
    recorder.parent(recorder.opened(trials="9"), recorder.closed())
    begun.ship(finishing=True)
    run = Store(local).runs["sweep"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["tuner.changed.trials"] == "9"
    assert "tuner.refused_events" not in run.data.tags
    assert survey(recorder.folder).pending == 0
    recorder.parent(recorder.opened(trials="9"))


def test_a_line_of_a_newer_version_is_read_without_what_is_new(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened(), recorder.closed())
    spool = parent_folder(recorder.folder) / "spool.jsonl"
    text = spool.read_text().replace('"at_ms"', '"unheard_of": {"a": 1}, "at_ms"')
    spool.write_text('{"kind": "study-praised", "at_ms": 1}\n'.join(text.splitlines(True)))
    assert ship(recorder.folder, local) == 0
    run = Store(local).runs["sweep"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["tuner.refused_events"] == "1"


def test_an_artifact_store_that_wants_a_login_holds_up_its_own_files_alone(
    recorder: Recorder,
    local: TrackingSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its client, which is not MLflow's, says so in an error of its own."""
    for name in [name for name in os.environ if name.startswith("AWS")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    open_store(local.uri).create_experiment(local.experiment, "s3://bucket/x")
    recorder.parent(recorder.opened())
    recorder.trial(0)
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        for _ in range(2):
            shipper.ship(finishing=True)
        assert shipper.survey().pending > 0
    assert "the artifact store says NoCredentialsError" in caplog.text
    with pytest.raises(UnavailableError, match="NoCredentialsError"):
        look_at(local, {recorder.study_uid: "val_accuracy"})
