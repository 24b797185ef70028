"""What MLflow holds of one study, for whoever compares it with what it should."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tuner.tracking.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class SeenRun:
    """A run as MLflow tells of it."""

    run_id: str
    status: str
    epochs: frozenset[int]
    """The steps at which it has the objective."""
    refused: int
    """How many of its events MLflow turned down."""


@dataclass(frozen=True)
class SeenStudy:
    """The runs of one study by uid; more than one of a uid are doubles."""

    parents: tuple[SeenRun, ...]
    attempts: dict[str, tuple[SeenRun, ...]]


def look_at(settings: TrackingSettings, study_uid: str, metric: str) -> SeenStudy:
    """Reads every run of the study.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    with connected(settings) as client:
        found = defaultdict(list)
        for run in _runs(client, settings.experiment, study_uid):
            found[unquote(run.data.tags.get("tuner.uid", ""))].append(_seen(client, run, metric))
    runs = {uid: tuple(seen) for uid, seen in found.items()}
    return SeenStudy(parents=runs.pop(study_uid, ()), attempts=runs)


def _runs(client: "MlflowClient", experiment_name: str, study_uid: str) -> Iterator["Run"]:
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None:
        return
    token = None
    while True:
        page = client.search_runs(
            [experiment.experiment_id],
            f"tags.`tuner.study_uid` = '{study_uid}'",
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _seen(client: "MlflowClient", run: "Run", metric: str) -> SeenRun:
    logged = metric in run.data.metrics
    history = client.get_metric_history(run.info.run_id, metric) if logged else []
    return SeenRun(
        run_id=run.info.run_id,
        status=run.info.status,
        epochs=frozenset(point.step for point in history),
        refused=int(run.data.tags.get("tuner.refused_events", 0)),
    )
