"""A connection to MLflow for callers that wait for its answer, such as promotion and deletion.

The parts of MLflow that log and load models know only a process-wide tracking address. It is set
during a block and restored after it, so that a caller's notebook keeps its own.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tuner.errors import UnavailableError
from tuner.tracking.settings import TrackingSettings, prepare_mlflow_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextmanager
def connected(settings: TrackingSettings) -> Iterator["MlflowClient"]:
    """A client of the store in `settings`, which is MLflow's default store during the block.

    Raises:
        UnavailableError: the store does not answer; the message masks passwords.
        RefusedError: the store refused a request of the block.
    """
    _prepare_environment()
    import mlflow

    from tuner.tracking.mlflow.experiments import open_store
    from tuner.tracking.mlflow.mlflow_errors import translated

    previous = os.environ.get("MLFLOW_TRACKING_URI")
    with _named(settings), translated("go on"):
        client = open_store(settings.uri)
        mlflow.set_tracking_uri(settings.uri)
        try:
            yield client
        finally:
            mlflow.set_tracking_uri(previous)


@contextmanager
def _named(settings: TrackingSettings) -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        # MLflow's messages contain the address with its password, so the original error must not
        # show up in a traceback either.
        raise UnavailableError(f"{settings.shown_uri}: {error}") from None


def _prepare_environment() -> None:
    """Sets what MLflow reads when it is imported, and what keeps it quiet and safe later."""
    prepare_mlflow_environment()
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
