"""Finds or creates the store and the experiment that runs go to."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from tuner.errors import UnavailableError
from tuner.tracking.mlflow_errors import translated

_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
"""Opens the experiment in the UI's view for model training, not for generative AI."""


def open_store(uri: str) -> MlflowClient:
    """Returns a client of the store at `uri`, with its tables created if it is local.

    MLflow creates the tables of a SQLite file without a lock; here one process at a time
    does, so `mlflow ui` is safe to start on the file afterwards.

    Raises:
        UnavailableError: the store does not answer.
    """
    with _alone(uri), translated("open the store"):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def find_or_create_experiment(client: MlflowClient, name: str, artifact_root: str) -> Experiment:
    """Returns the active experiment called `name`, marked as one of model training.

    Args:
        client: from `open_store`.
        name: the experiment's name.
        artifact_root: the folder for its artifacts, empty to let the server decide.

    Raises:
        UnavailableError: the store does not answer, or the experiment was deleted.
    """
    with translated(f"open experiment {name!r}"):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            _create(client, name, artifact_root)
            experiment = client.get_experiment_by_name(name)
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise UnavailableError(
                f"MLflow: experiment {name!r} is deleted; restore it, or name another one by "
                "MLFLOW_EXPERIMENT_NAME"
            )
        if _KIND_TAG not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, _KIND_TAG, _KIND)
    return experiment


def _create(client: MlflowClient, name: str, artifact_root: str) -> None:
    location = Path(artifact_root).resolve().as_uri() if artifact_root else None
    try:
        client.create_experiment(name, location, {_KIND_TAG: _KIND})
    except MlflowException as error:
        # Another driver was faster.
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    if not uri.startswith("sqlite:///"):
        yield
        return
    database = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
