"""Finds or creates the store and the experiment that runs go to."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from tuner.errors import RefusedError
from tuner.tracking.descriptions import EXPERIMENT, NOTE_TAG
from tuner.tracking.mlflow.local_store import local_store_made
from tuner.tracking.mlflow.mlflow_errors import translated
from tuner.tracking.settings import TrackingSettings

_TAGS = {"mlflow.experimentKind": "custom_model_development", NOTE_TAG: EXPERIMENT}
"""The kind opens the experiment in the UI's view for model training; the note describes it."""


class ExperimentError(RefusedError):
    """The experiment takes no runs until a person has repaired it."""


def open_store(uri: str) -> MlflowClient:
    """Returns a client of the store at `uri`. Creates the tables of a local store.

    Raises:
        UnavailableError: the store does not answer.
    """
    with translated("open the store"), local_store_made(uri):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def find_or_create_experiment(client: MlflowClient, settings: TrackingSettings) -> Experiment:
    """Returns the experiment in `settings`, created if need be.

    It is tagged for model training, and described if it never had a description.

    Raises:
        UnavailableError: the store does not answer.
        ExperimentError: the experiment was deleted, or the state folder was moved.
    """
    name = settings.experiment
    with translated(f"open experiment {name!r}"):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            _create(client, name, settings.artifact_root)
            experiment = client.get_experiment_by_name(name)
        check_not_deleted(experiment)
        if elsewhere := settings.misplaced(experiment.artifact_location):
            raise ExperimentError(
                f"MLflow: artifacts of experiment {name!r} go to {elsewhere}, since the state "
                "folder was moved; repair that with: tuner doctor --fix"
            )
        for tag, value in _TAGS.items():
            if tag not in experiment.tags:
                client.set_experiment_tag(experiment.experiment_id, tag, value)
    return experiment


def check_not_deleted(experiment: Experiment) -> None:
    """Checks that the experiment takes runs.

    Raises:
        ExperimentError: it was deleted.
    """
    if is_deleted(experiment):
        raise ExperimentError(
            f"MLflow: experiment {experiment.name!r} is deleted; restore it with: tuner doctor "
            "--fix, or name another one by MLFLOW_EXPERIMENT_NAME"
        )


def is_deleted(experiment: Experiment) -> bool:
    """Whether the experiment was deleted, so that it takes no runs."""
    return bool(experiment.lifecycle_stage != LifecycleStage.ACTIVE)


def _create(client: MlflowClient, name: str, artifact_root: str) -> None:
    location = Path(artifact_root).resolve().as_uri() if artifact_root else None
    try:
        client.create_experiment(name, location, _TAGS)
    except MlflowException as error:
        # Another driver was faster.
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
