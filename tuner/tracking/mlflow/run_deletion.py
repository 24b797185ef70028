"""Deletes runs, which MLflow can restore until they are purged.

A tag distinguishes runs that tuner deleted from those that were deleted by hand. The shipper
restores the latter when their spool has more events.
"""

from typing import TYPE_CHECKING

from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

DELETED_TAG = "tuner.deleted"
"""Tag of a run that tuner deleted; its value is one of the two reasons below."""
WITH_ITS_STUDY, A_DOUBLE = "with its study", "a double of another run"


def discard(client: "MlflowClient", run_id: str, why: str) -> None:
    """Tags and deletes a run, so that no shipper restores it."""
    client.set_tag(run_id, DELETED_TAG, why)
    client.delete_run(run_id)


def discard_again(client: "MlflowClient", experiment_id: str) -> None:
    """Deletes again what `discard` had deleted and MLflow restored with the experiment."""
    for why in (WITH_ITS_STUDY, A_DOUBLE):
        while runs := client.search_runs([experiment_id], f"tags.`{DELETED_TAG}` = '{why}'"):
            for run in runs:
                client.delete_run(run.info.run_id)


def delete_runs(settings: TrackingSettings, study_uid: str) -> int:
    """Deletes every run of the study, its parent included. Returns their number.

    Raises:
        UnavailableError: MLflow does not answer.
        RefusedError: MLflow refused the deletion.
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
            discard(client, run.info.run_id, WITH_ITS_STUDY)
        deleted += len(runs)
    return deleted
