"""What MLflow holds is read alike of its tables, by its client and through a server."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Metric
from sqlalchemy import create_engine, text

from tests.tracking.servers import Server
from tuner.errors import UnavailableError
from tuner.tracking.inspection import SeenStudy, look_at
from tuner.tracking.mlflow import store_reader
from tuner.tracking.mlflow.experiments import find_or_create_experiment, open_store
from tuner.tracking.mlflow.store_reader import StoredExperiment, reading
from tuner.tracking.settings import TrackingSettings

METRICS = {"first@test": "val_accuracy", "other@test": "val_loss"}


def record_runs(settings: TrackingSettings) -> None:
    """Of each study a parent and three attempts, the first without a point; and some of nobody's.

    Those are a run without tags, one that was deleted, and one of another experiment.
    """
    client = open_store(settings.uri)
    experiment = find_or_create_experiment(client, settings).experiment_id
    other = client.create_experiment(f"other than {settings.experiment}")
    client.create_run(experiment)
    client.create_run(other, tags={"tuner.study_uid": "first@test", "tuner.uid": "first@test/7"})
    for study, metric in METRICS.items():
        counts = [Metric("trials_completed", 2.0, 5, 0), Metric("trials_failed", 1.0, 5, 0)]
        parent = client.create_run(experiment, tags={"tuner.study_uid": study, "tuner.uid": study})
        client.log_batch(parent.info.run_id, metrics=counts)
        for slot in range(3):
            uid = f"{study}%2F{slot}"  # as the characters that MLflow's filters misread are kept
            tags = {"tuner.study_uid": study, "tuner.uid": uid, "tuner.state": "completed"}
            run_id = client.create_run(experiment, tags=tags).info.run_id
            points = [Metric(metric, 0.5, step, step) for step in range(slot)]
            client.log_batch(run_id, metrics=[*points, Metric("val_seconds", 1.0, 9, 9)])
        client.set_tag(run_id, "tuner.refused_events", "3")
        client.set_terminated(run_id)
        client.log_text(run_id, "weights", "model/model.keras")
        client.log_text(run_id, "{}", "trial.json")
        deleted = {"tuner.study_uid": study, "tuner.uid": f"{study}/9"}
        client.delete_run(client.create_run(experiment, tags=deleted).info.run_id)


def shown(seen: Mapping[str, SeenStudy]) -> object:
    """What was seen of each run, but for what each store chooses itself."""
    return {
        uid: [replace(run, run_id="", artifact_uri="") for run in runs]
        for study in seen.values()
        for uid, runs in {**study.attempts, "parent": study.parents}.items()
    }


@pytest.mark.slow
def test_tables_client_and_server_show_the_same_of_one_study_and_of_many(
    local: TrackingSettings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_server = replace(server.settings, experiment="inspected")
    for settings in (local, through_server):
        record_runs(settings)

    seen = look_at(local, METRICS)

    for study, metric in METRICS.items():
        attempts = {uid: run for uid, (run,) in seen[study].attempts.items()}
        assert attempts.keys() == {f"{study}/{slot}" for slot in range(3)}
        assert [attempts[f"{study}/{slot}"].epochs for slot in range(3)] == [set(), {0}, {0, 1}]
        last = attempts[f"{study}/2"]
        files = last.artifacts
        assert (files["model/model.keras"], files["trial.json"]) == (len("weights"), len("{}"))
        assert (last.status, last.state, last.refused) == ("FINISHED", "completed", 3)
        (parent,) = seen[study].parents
        assert parent.counts == {"trials_completed": 2.0, "trials_failed": 1.0}
        assert look_at(local, {study: metric}) == {study: seen[study]}
    assert shown(look_at(through_server, METRICS)) == shown(seen)
    monkeypatch.setattr(store_reader, "_POINTS_A_CALL", 1)  # as if a call told but a part
    assert shown(look_at(through_server, METRICS)) == shown(seen)
    monkeypatch.setattr(store_reader, "SCHEMA", "of another MLflow")
    assert look_at(local, METRICS) == seen


def test_tables_are_read_as_they_are_only_where_they_are_those_of_this_mlflow(
    local: TrackingSettings,
) -> None:
    open_store(local.uri)

    with create_engine(local.uri).connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == (
            store_reader.SCHEMA
        )


def test_an_experiment_is_read_alike_of_the_tables_and_by_the_client(
    local: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_store(local.uri)
    lacking = read_experiment(local)
    made = find_or_create_experiment(client, local)
    active = read_experiment(local)
    client.delete_experiment(made.experiment_id)
    deleted = read_experiment(local)

    location = made.artifact_location
    assert lacking is None
    assert active == StoredExperiment(location, is_deleted=False)
    assert deleted == StoredExperiment(location, is_deleted=True)
    monkeypatch.setattr(store_reader, "SCHEMA", "of another MLflow")
    assert read_experiment(local) == deleted


def read_experiment(settings: TrackingSettings) -> StoredExperiment | None:
    with reading(settings) as store:
        return store.experiment()


def test_a_store_that_is_not_there_yet_holds_nothing_and_is_not_made(tmp_path: Path) -> None:
    nowhere = TrackingSettings.from_environment(tmp_path, {})

    seen = look_at(nowhere, METRICS)

    assert seen == {study: SeenStudy(parents=(), attempts={}) for study in METRICS}
    assert read_experiment(nowhere) is None
    assert not (tmp_path / "mlflow.db").exists()


def test_a_file_that_is_no_database_is_named(local: TrackingSettings, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)

    with pytest.raises(UnavailableError, match=r"mlflow\.db: cannot be read: file is not a data"):
        look_at(local, METRICS)
