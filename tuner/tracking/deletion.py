"""Deletes a study's runs, as MLflow deletes: they can be restored until they are purged."""

from typing import TYPE_CHECKING

from tuner.tracking.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient


def delete_runs(settings: TrackingSettings, study_uid: str) -> int:
    """Deletes every run of the study, its parent too; returns how many there were.

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
    deleted = 0
    while runs := client.search_runs(search, f"tags.`tuner.study_uid` = '{study_uid}'"):
        for run in runs:
            client.delete_run(run.info.run_id)
        deleted += len(runs)
    return deleted
