"""What MLflow holds is seen alike in a database and through a server, of one study and of many."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from mlflow.entities import Metric

from tests.tracking.servers import Server
from tuner.tracking import inspection
from tuner.tracking.experiments import find_or_create_experiment, open_store
from tuner.tracking.inspection import SeenStudy, look_at
from tuner.tracking.settings import TrackingSettings

METRICS = {"first@test": "val_accuracy", "other@test": "val_loss"}


def record_runs(settings: TrackingSettings) -> None:
    """Of each study a parent and three attempts, the first without a point; and one of nobody's."""
    client = open_store(settings.uri)
    experiment = find_or_create_experiment(client, settings).experiment_id
    client.create_run(experiment)
    for study, metric in METRICS.items():
        client.create_run(experiment, tags={"tuner.study_uid": study, "tuner.uid": study})
        for slot in range(3):
            tags = {"tuner.study_uid": study, "tuner.uid": f"{study}/{slot}"}
            run_id = client.create_run(experiment, tags=tags).info.run_id
            points = [Metric(metric, 0.5, step, step) for step in range(slot)]
            client.log_batch(run_id, metrics=[*points, Metric("val_seconds", 1.0, 9, 9)])
        client.log_text(run_id, "weights", "model/model.keras")
        client.log_text(run_id, "{}", "trial.json")


def shown(seen: Mapping[str, SeenStudy]) -> object:
    """What was seen of each run, but for its id."""
    return {
        uid: [(run.status, run.epochs, run.metrics, run.artifacts) for run in runs]
        for study in seen.values()
        for uid, runs in {**study.attempts, "parent": study.parents}.items()
    }


def test_a_database_and_a_server_show_the_same_of_one_study_and_of_many(
    local: TrackingSettings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_server = replace(server.settings, experiment="inspected")
    for settings in (local, through_server):
        record_runs(settings)

    seen = look_at(local, METRICS)

    for study, metric in METRICS.items():
        attempts = {uid: run for uid, (run,) in seen[study].attempts.items()}
        assert [attempts[f"{study}/{slot}"].epochs for slot in range(3)] == [set(), {0}, {0, 1}]
        files = attempts[f"{study}/2"].artifacts
        assert (files["model/model.keras"], files["trial.json"]) == (len("weights"), len("{}"))
        assert len(seen[study].parents) == 1
        assert look_at(local, {study: metric}) == {study: seen[study]}
    assert shown(look_at(through_server, METRICS)) == shown(seen)
    monkeypatch.setattr(inspection, "_POINTS_A_CALL", 1)  # as if a call told but a part
    assert shown(look_at(through_server, METRICS)) == shown(seen)
