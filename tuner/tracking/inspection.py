"""What MLflow and a spool here hold of studies, to be compared with what they should."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from tuner.tracking.connection import connected
from tuner.tracking.events import AttemptEnded, Event
from tuner.tracking.progress import FILE_NAME as PROGRESS
from tuner.tracking.progress import load_progress
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.spool import OF_OTHERS, OPENINGS, read_lines

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.tracking.rest_store import RestStore

_STUDY_TAG = "tuner.study_uid"
_HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_RUNS_A_CALL, _POINTS_A_CALL = 100, 25_000
"""That call's limits (mlflow/server/handlers.py)."""
_LISTED_AT_ONCE = 8
"""Runs whose files are listed side by side, since a server takes a call for each."""


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
    """The files and folders at its top, and the files below `model`, with the files' bytes."""


@dataclass(frozen=True)
class SeenStudy:
    """The runs of one study by uid; more than one of a uid are doubles."""

    parents: tuple[SeenRun, ...]
    attempts: dict[str, tuple[SeenRun, ...]]


@dataclass(frozen=True)
class SeenSpool:
    """A spool of this home, read once, and how far it was shipped."""

    folder: Path
    kinds: tuple[str, ...]
    """Of its lines, in their order; empty for one that tells none."""
    told: tuple[str, ...]
    """The kinds of the events that can be read."""
    pending: int
    """How many lines MLflow does not have yet."""
    refused: tuple[str, ...]
    """What MLflow turned down, each part with its reason."""
    is_evaluated: bool
    """Whether it tells of an attempt that ended with an evaluation."""

    @property
    def damaged(self) -> int:
        """How many lines cannot be read."""
        return len(self.kinds) - len(self.told)

    @property
    def is_begun(self) -> bool:
        """Whether it says what its run is."""
        return any(kind in OPENINGS for kind in self.told)

    @property
    def is_own(self) -> bool:
        """Whether it tells of an attempt that this home has begun."""
        return any(kind not in OF_OTHERS for kind in self.kinds)

    @property
    def is_gone(self) -> bool:
        """Whether something was shipped of a spool that is there no more."""
        rest = all(kind.startswith("model-") for kind in self.kinds)
        return rest and (self.folder / PROGRESS).exists()


def look_into(folder: Path) -> SeenSpool:
    """Reads the spool in `folder`, which may be missing."""
    progress = load_progress(folder)
    offset = progress.offset if progress else 0
    lines = list(read_lines(folder, 0))
    read = [line.event_or_error() for line in lines]
    events = [event for event in read if not isinstance(event, ValidationError)]
    return SeenSpool(
        folder=folder,
        kinds=tuple(line.kind for line in lines),
        told=tuple(event.kind for event in events),
        pending=sum(line.end > offset for line in lines),
        refused=progress.turned_down if progress else (),
        is_evaluated=any(map(_is_evaluated, events)),
    )


def _is_evaluated(event: Event) -> bool:
    return isinstance(event, AttemptEnded) and bool(event.result and event.result.evaluation)


def look_at(settings: TrackingSettings, studies: Mapping[str, str]) -> dict[str, SeenStudy]:
    """Reads every run of the studies in a few questions, however many they are.

    Args:
        settings: name the store.
        studies: the metric of which the epochs are told, by the study's uid.

    Returns:
        What was seen of each study, by its uid.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    found: dict[str, dict[str, list[SeenRun]]] = {uid: defaultdict(list) for uid in studies}
    with connected(settings) as client:
        for page in _pages(client, settings.experiment, studies):
            epochs = _epochs(client, page, studies)
            for run, artifacts in zip(page, _listed(settings.uri, page), strict=True):
                seen = _seen(run, epochs[run.info.run_id], artifacts)
                uid = unquote(run.data.tags.get("tuner.uid", ""))
                found[run.data.tags[_STUDY_TAG]][uid].append(seen)
    return {uid: _study(uid, runs) for uid, runs in found.items()}


def _study(uid: str, runs: Mapping[str, Sequence[SeenRun]]) -> SeenStudy:
    attempts = {each: tuple(seen) for each, seen in runs.items()}
    return SeenStudy(parents=attempts.pop(uid, ()), attempts=attempts)


def _pages(
    client: "MlflowClient", experiment_name: str, studies: Collection[str]
) -> Iterator[list["Run"]]:
    """The runs of the studies, a thousand at a time; of several studies out of all that are ours.

    MLflow knows no "one of these tags".
    """
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None or not studies:
        return
    ours = f"= '{next(iter(studies))}'" if len(studies) == 1 else "LIKE '%'"
    token = None
    while True:
        page = client.search_runs(
            [experiment.experiment_id], f"tags.`{_STUDY_TAG}` {ours}", page_token=token
        )
        yield [run for run in page if run.data.tags[_STUDY_TAG] in studies]
        token = page.token
        if not token:
            return


def _epochs(
    client: "MlflowClient", runs: Sequence["Run"], studies: Mapping[str, str]
) -> Mapping[str, set[int]]:
    """The steps at which each run has its study's metric, by the run's id."""
    logged = defaultdict[str, list[str]](list)
    for run in runs:
        metric = studies[run.data.tags[_STUDY_TAG]]
        if metric in run.data.metrics:
            logged[metric].append(run.info.run_id)
    found = defaultdict[str, set[int]](set)
    for metric, run_ids in logged.items():
        for run_id, step in _history(client, run_ids, metric):
            found[run_id].add(step)
    return found


def _history(
    client: "MlflowClient", run_ids: Sequence[str], metric: str
) -> Iterator[tuple[str, int]]:
    """Run and step of every point; a store's interface knows one run at a time, the store many."""
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = client._tracking_client.store
    if isinstance(store, SqlAlchemyStore):
        points = store.get_metric_history_bulk(run_ids, metric, max_results=None)
        yield from ((point.run_id, point.step) for point in points)
        return
    for start in range(0, len(run_ids), _RUNS_A_CALL):
        some = run_ids[start : start + _RUNS_A_CALL]
        told = _told(store, some, metric) if isinstance(store, RestStore) else None
        if told is not None:
            yield from told
            continue
        for run_id in some:
            points = client.get_metric_history(run_id, metric)
            yield from ((run_id, point.step) for point in points)


def _told(store: "RestStore", run_ids: Sequence[str], metric: str) -> list[tuple[str, int]] | None:
    """What a server tells its own pages; None where it does not, or might not tell all."""
    from mlflow.utils.rest_utils import http_request

    asked = {"run_id": list(run_ids), "metric_key": metric}
    answer = http_request(store.get_host_creds(), _HISTORIES, "GET", params=asked)
    if answer.status_code != HTTPStatus.OK:
        return None
    points = answer.json()["metrics"]
    if len(points) >= _POINTS_A_CALL:
        return None
    return [(point["run_id"], point["step"]) for point in points]


def _seen(run: "Run", epochs: Collection[int], artifacts: Mapping[str, int]) -> SeenRun:
    return SeenRun(
        run_id=run.info.run_id,
        status=run.info.status,
        epochs=frozenset(epochs),
        refused=int(run.data.tags.get("tuner.refused_events", 0)),
        state=run.data.tags.get("tuner.state", ""),
        metrics=run.data.metrics,
        artifacts=artifacts,
    )


def _listed(uri: str, runs: Sequence["Run"]) -> list[Mapping[str, int]]:
    """The artifacts of each run."""
    with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
        return list(pool.map(lambda run: dict(_artifacts(uri, run.info.artifact_uri)), runs))


def _artifacts(uri: str, address: str) -> Iterator[tuple[str, int]]:
    """Looked for on the disk itself where they lie there, which is much quicker."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.file_utils import local_file_uri_to_path

    from tuner.tracking.mlflow_errors import of_artifacts

    if urlsplit(address).scheme in ("", "file"):
        folder = local_file_uri_to_path(address)
        yield from _files(folder, "")
        yield from _files(f"{folder}/model", "model/")
        return
    with of_artifacts("list a run's files"):
        files = get_artifact_repository(address, tracking_uri=uri)
        top = {each.path: each.file_size or 0 for each in files.list_artifacts()}
        below = files.list_artifacts("model") if "model" in top else []
    yield from top.items()
    yield from ((each.path, each.file_size or 0) for each in below)


def _files(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            yield prefix + entry.name, 0 if entry.is_dir() else entry.stat().st_size
