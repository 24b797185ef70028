"""Deletes a study's runs, as MLflow deletes: they can be restored until they are purged."""

from typing import TYPE_CHECKING

from tuner.tracking.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient


def delete_runs(settings: TrackingSettings, study_uid: str) -> int:
    """Deletes the study's parent run and every run below it; returns how many there were.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    with connected(settings) as client:
        return _delete(client, settings.experiment, study_uid)


def _delete(client: "MlflowClient", experiment_name: str, study_uid: str) -> int:
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None:
        return 0
    search = [experiment.experiment_id]
    parents = client.search_runs(search, f"tags.`tuner.uid` = '{study_uid}'")
    deleted = 0
    for parent in parents:
        below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        while runs := client.search_runs(search, below):
            for run in runs:
                client.delete_run(run.info.run_id)
            deleted += len(runs)
        client.delete_run(parent.info.run_id)
        deleted += 1
    return deleted
