"""Reads the runs of studies from an MLflow store, in a few queries for any number of runs.

MLflow's client can read every store, but takes longer to start than the reading takes. So a
database with the tables of the MLflow that tuner depends on is read directly.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from sqlalchemy import (
    ColumnElement,
    Connection,
    NullPool,
    Select,
    column,
    create_engine,
    inspect,
    select,
    table,
)
from sqlalchemy.exc import DBAPIError

from tuner.errors import UnavailableError
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.tracking.rest_store import RestStore

SCHEMA = "dc11669786a5"
"""The Alembic version of the MLflow tables that are read directly."""

_STUDY, _UID = "tuner.study_uid", "tuner.uid"
_REFUSED, _STATE = "tuner.refused_events", "tuner.state"
_COUNTS = "trials_"
_HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
_RUNS_A_CALL, _POINTS_A_CALL = 100, 25_000
"""The limits of a call to `_HISTORIES` (mlflow/server/handlers.py)."""
_PATIENCE_S = 20


@dataclass(frozen=True)
class StoredExperiment:
    """An experiment in the store."""

    artifact_location: str
    is_deleted: bool


@dataclass(frozen=True)
class StoredRun:
    """A run in the store. What it lacks is empty or 0."""

    run_id: str
    study: str
    """The study's uid."""
    uid: str
    """The study's uid for a parent run, the attempt's for a child run."""
    status: str
    state: str
    refused: int
    """How many parts of its events MLflow refused."""
    counts: Mapping[str, float]
    """The newest values of the metrics `trials_*`."""
    epochs: frozenset[int]
    """The steps at which it has the study's metric."""
    artifact_uri: str


class StoreReader(Protocol):
    """Reads one store."""

    def experiment(self) -> StoredExperiment | None:
        """The experiment in the settings; None if there is none."""

    def runs(self, studies: Mapping[str, str], /) -> Iterator[Sequence[StoredRun]]:
        """Yields pages of the studies' runs that are not deleted, the newest run first.

        Args:
            studies: by the study's uid, the metric whose steps become `StoredRun.epochs`.
        """


@contextmanager
def reading(settings: TrackingSettings) -> Iterator[StoreReader]:
    """A reader of the store in `settings`.

    Raises:
        UnavailableError: the store does not answer.
    """
    if settings.is_absent:
        yield _Nothing()
        return
    if settings.server_url is None:
        with _opened(settings) as connection:
            if _is_known(connection):
                yield _Tables(connection, settings.experiment)
                return
    with connected(settings) as client:
        yield _Client(client, settings.experiment)


class _Nothing:
    """A store that does not exist yet."""

    def experiment(self) -> None:
        return None

    def runs(self, _studies: Mapping[str, str], /) -> Iterator[Sequence[StoredRun]]:
        yield from ()


@contextmanager
def _opened(settings: TrackingSettings) -> Iterator[Connection]:
    options = {"timeout": _PATIENCE_S} if settings.is_local else {}
    engine = create_engine(settings.uri, poolclass=NullPool, connect_args=options)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise UnavailableError(f"{settings.shown_uri}: cannot be read: {error.orig}") from None


def _is_known(connection: Connection) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    versions = select(_table("alembic_version", "version_num"))
    return list(connection.execute(versions).scalars()) == [SCHEMA]


def _table(name: str, columns: str) -> Any:
    return table(name, *map(column, columns.split()))


class _Tables:
    """Reads MLflow's tables (mlflow/store/tracking/dbmodels/models.py)."""

    _EXPERIMENTS = _table(
        "experiments", "experiment_id name workspace artifact_location lifecycle_stage"
    )
    _RUNS = _table("runs", "run_uuid experiment_id status lifecycle_stage artifact_uri start_time")
    _TAGS = _table("tags", "run_uuid key value")
    _LATEST = _table("latest_metrics", "run_uuid key value is_nan")
    _METRICS = _table("metrics", "run_uuid key step")

    def __init__(self, connection: Connection, experiment_name: str) -> None:
        self._connection = connection
        experiments = self._EXPERIMENTS.c
        self._named = (experiments.name == experiment_name, experiments.workspace == "default")

    def experiment(self) -> StoredExperiment | None:
        experiments = self._EXPERIMENTS.c
        asked = select(experiments.artifact_location, experiments.lifecycle_stage)
        row = self._connection.execute(asked.where(*self._named)).one_or_none()
        return StoredExperiment(row[0], row[1] != "active") if row else None

    def runs(self, studies: Mapping[str, str], /) -> Iterator[Sequence[StoredRun]]:
        tags, runs = self._TAGS.c, self._RUNS.c
        asked = self._of_ours(tags, runs.run_uuid, tags.value, runs.status, runs.artifact_uri)
        newest = asked.where(tags.key == _STUDY).order_by(runs.start_time.desc(), runs.run_uuid)
        ours = [row for row in self._connection.execute(newest) if row[1] in studies]
        told, counts = self._told(), self._counts()
        epochs = self._epochs(frozenset(studies.values()))
        yield [
            StoredRun(
                run_id=run_id,
                study=study,
                uid=unquote(told[run_id].get(_UID, "")),
                status=status,
                state=told[run_id].get(_STATE, ""),
                refused=int(told[run_id].get(_REFUSED, 0)),
                counts=counts[run_id],
                epochs=frozenset(epochs[run_id, studies[study]]),
                artifact_uri=artifact_uri,
            )
            for run_id, study, status, artifact_uri in ours
        ]

    def _told(self) -> Mapping[str, dict[str, str]]:
        tags = self._TAGS.c
        asked = self._of_ours(tags, tags.run_uuid, tags.key, tags.value)
        found = defaultdict[str, dict[str, str]](dict)
        asked = asked.where(tags.key.in_((_UID, _REFUSED, _STATE)))
        for run_id, key, value in self._connection.execute(asked):
            found[run_id][key] = value
        return found

    def _counts(self) -> Mapping[str, dict[str, float]]:
        latest = self._LATEST.c
        asked = self._of_ours(latest, latest.run_uuid, latest.key, latest.value)
        asked = asked.where(latest.key.startswith(_COUNTS, autoescape=True))
        found = defaultdict[str, dict[str, float]](dict)
        for run_id, key, value in self._connection.execute(asked):
            found[run_id][key] = value
        return found

    def _epochs(self, names: Collection[str]) -> Mapping[tuple[str, str], set[int]]:
        """The steps by run and metric."""
        metrics = self._METRICS.c
        asked = self._of_ours(metrics, metrics.run_uuid, metrics.key, metrics.step)
        found = defaultdict[tuple[str, str], set[int]](set)
        for run_id, key, step in self._connection.execute(asked.where(metrics.key.in_(names))):
            found[run_id, key].add(step)
        return found

    def _of_ours(self, joined: Any, *asked: ColumnElement[Any]) -> Select[Any]:
        """Selects columns of the experiment's runs that are not deleted, joined with a table."""
        runs, experiments = self._RUNS.c, self._EXPERIMENTS.c
        return select(*asked).where(
            *self._named,
            runs.experiment_id == experiments.experiment_id,
            runs.lifecycle_stage == "active",
            joined.run_uuid == runs.run_uuid,
        )


class _Client:
    """Reads any store with MLflow's client."""

    def __init__(self, client: "MlflowClient", experiment_name: str) -> None:
        self._client = client
        self._experiment = client.get_experiment_by_name(experiment_name)

    def experiment(self) -> StoredExperiment | None:
        from tuner.tracking.mlflow.experiments import is_deleted

        found = self._experiment
        return StoredExperiment(found.artifact_location, is_deleted(found)) if found else None

    def runs(self, studies: Mapping[str, str], /) -> Iterator[Sequence[StoredRun]]:
        for page in self._pages(studies):
            epochs = self._epochs(page, studies)
            yield [_stored(run, epochs[run.info.run_id]) for run in page]

    def _pages(self, studies: Collection[str]) -> Iterator[list["Run"]]:
        """Pages of a thousand runs. For several studies, reads all of tuner's runs and filters.

        MLflow's filters cannot say "one of these values".
        """
        if self._experiment is None or not studies:
            return
        ours = f"= '{next(iter(studies))}'" if len(studies) == 1 else "LIKE '%'"
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment.experiment_id], f"tags.`{_STUDY}` {ours}", page_token=token
            )
            yield [run for run in page if run.data.tags[_STUDY] in studies]
            token = page.token
            if not token:
                return

    def _epochs(self, runs: Sequence["Run"], studies: Mapping[str, str]) -> Mapping[str, set[int]]:
        """The steps at which each run has its study's metric, by the run's id."""
        logged = defaultdict[str, list[str]](list)
        for run in runs:
            metric = studies[run.data.tags[_STUDY]]
            if metric in run.data.metrics:
                logged[metric].append(run.info.run_id)
        found = defaultdict[str, set[int]](set)
        for metric, run_ids in logged.items():
            for run_id, step in self._history(run_ids, metric):
                found[run_id].add(step)
        return found

    def _history(self, run_ids: Sequence[str], metric: str) -> Iterator[tuple[str, int]]:
        """Run and step of every point. A server answers for many runs, the client for one."""
        from mlflow.store.tracking.rest_store import RestStore

        store = self._client._tracking_client.store
        for start in range(0, len(run_ids), _RUNS_A_CALL):
            some = run_ids[start : start + _RUNS_A_CALL]
            told = _told_at_once(store, some, metric) if isinstance(store, RestStore) else None
            if told is not None:
                yield from told
                continue
            for run_id in some:
                points = self._client.get_metric_history(run_id, metric)
                yield from ((run_id, point.step) for point in points)


def _told_at_once(
    store: "RestStore", run_ids: Sequence[str], metric: str
) -> list[tuple[str, int]] | None:
    """The steps from a call that MLflow's own pages use; None if it fails or may be incomplete."""
    from mlflow.utils.rest_utils import http_request

    asked = {"run_id": list(run_ids), "metric_key": metric}
    answer = http_request(store.get_host_creds(), _HISTORIES, "GET", params=asked)
    if answer.status_code != HTTPStatus.OK:
        return None
    points = answer.json()["metrics"]
    if len(points) >= _POINTS_A_CALL:
        return None
    return [(point["run_id"], point["step"]) for point in points]


def _stored(run: "Run", epochs: Collection[int]) -> StoredRun:
    tags, metrics = run.data.tags, run.data.metrics
    return StoredRun(
        run_id=run.info.run_id,
        study=tags[_STUDY],
        uid=unquote(tags.get(_UID, "")),
        status=run.info.status,
        state=tags.get(_STATE, ""),
        refused=int(tags.get(_REFUSED, 0)),
        counts={key: value for key, value in metrics.items() if key.startswith(_COUNTS)},
        epochs=frozenset(epochs),
        artifact_uri=run.info.artifact_uri,
    )
