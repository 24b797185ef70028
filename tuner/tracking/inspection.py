"""What MLflow holds of one study, for whoever compares it with what it should."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

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
    """How many parts of its events MLflow turned down."""
    state: str
    """The tag `tuner.state`."""
    metrics: Mapping[str, float]
    """The newest value of each."""
    artifacts: Mapping[str, int]
    """The files and folders at its top, and the files below `model`, with their sizes in bytes."""


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
            seen = _seen(client, settings.uri, run, metric)
            found[unquote(run.data.tags.get("tuner.uid", ""))].append(seen)
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


def _seen(client: "MlflowClient", uri: str, run: "Run", metric: str) -> SeenRun:
    logged = metric in run.data.metrics
    history = client.get_metric_history(run.info.run_id, metric) if logged else []
    return SeenRun(
        run_id=run.info.run_id,
        status=run.info.status,
        epochs=frozenset(point.step for point in history),
        refused=int(run.data.tags.get("tuner.refused_events", 0)),
        state=run.data.tags.get("tuner.state", ""),
        metrics=run.data.metrics,
        artifacts=dict(_artifacts(uri, run.info.artifact_uri)),
    )


def _artifacts(uri: str, address: str) -> Iterator[tuple[str, int]]:
    """Looked for on the disk itself where they lie there, which is much quicker."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.file_utils import local_file_uri_to_path

    from tuner.tracking.mlflow_errors import of_artifacts

    if urlsplit(address).scheme in ("", "file"):
        folder = Path(local_file_uri_to_path(address))
        paths = (path for pattern in ("*", "model/*") for path in folder.glob(pattern))
        yield from ((path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths)
        return
    with of_artifacts("list a run's files"):
        files = get_artifact_repository(address, tracking_uri=uri)
        top = {each.path: each.file_size or 0 for each in files.list_artifacts()}
        below = files.list_artifacts("model") if "model" in top else []
    yield from top.items()
    yield from ((each.path, each.file_size or 0) for each in below)
