"""Finds or creates the store and the experiment that runs go to."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from tuner.errors import RefusedError
from tuner.tracking.mlflow.local_store import made
from tuner.tracking.mlflow.mlflow_errors import translated
from tuner.tracking.settings import TrackingSettings

_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
"""Opens the experiment in the UI's view for model training, not for generative AI."""


class ExperimentError(RefusedError):
    """A person has to mend the experiment before it takes any run."""


def open_store(uri: str) -> MlflowClient:
    """Returns a client of the store at `uri`, with its tables made if it is local.

    Raises:
        UnavailableError: the store does not answer.
    """
    with translated("open the store"), made(uri):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def find_or_create_experiment(client: MlflowClient, settings: TrackingSettings) -> Experiment:
    """Returns the active experiment that `settings` names, marked as one of model training.

    Raises:
        UnavailableError: the store does not answer.
        ExperimentError: it was deleted, or its artifacts belong to another folder.
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
                "folder was moved; mend that with: tuner doctor --fix"
            )
        if _KIND_TAG not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, _KIND_TAG, _KIND)
    return experiment


def check_not_deleted(experiment: Experiment) -> None:
    """Refuses an experiment that takes no runs.

    Raises:
        ExperimentError: it was deleted.
    """
    if is_deleted(experiment):
        raise ExperimentError(
            f"MLflow: experiment {experiment.name!r} is deleted; restore it with: tuner doctor "
            "--fix, or name another one by MLFLOW_EXPERIMENT_NAME"
        )


def is_deleted(experiment: Experiment) -> bool:
    """Whether it takes no runs."""
    return bool(experiment.lifecycle_stage != LifecycleStage.ACTIVE)


def _create(client: MlflowClient, name: str, artifact_root: str) -> None:
    location = Path(artifact_root).resolve().as_uri() if artifact_root else None
    try:
        client.create_experiment(name, location, {_KIND_TAG: _KIND})
    except MlflowException as error:
        # Another driver was faster.
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
