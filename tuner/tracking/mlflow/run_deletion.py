"""Deletes runs as MLflow deletes: they can be restored until they are purged.

A tag tells what tuner itself deleted from what people delete by hand: the shipper restores a
run of the second kind when its spool has more to say.
"""

from typing import TYPE_CHECKING

from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

DELETED_TAG = "tuner.deleted"
"""On a run that tuner deleted, why: one of the two below."""
WITH_ITS_STUDY, A_DOUBLE = "with its study", "a double of another run"


def discard(client: "MlflowClient", run_id: str, why: str) -> None:
    """Deletes a run for good, as far as tuner is concerned. The tag comes first."""
    client.set_tag(run_id, DELETED_TAG, why)
    client.delete_run(run_id)


def discard_again(client: "MlflowClient", experiment_id: str) -> None:
    """Deletes what `discard` had: MLflow restores every run of an experiment with it."""
    for why in (WITH_ITS_STUDY, A_DOUBLE):
        while runs := client.search_runs([experiment_id], f"tags.`{DELETED_TAG}` = '{why}'"):
            for run in runs:
                client.delete_run(run.info.run_id)


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
            discard(client, run.info.run_id, WITH_ITS_STUDY)
        deleted += len(runs)
    return deleted
