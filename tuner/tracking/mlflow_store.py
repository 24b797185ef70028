"""The one gateway to MLflow's tracking store: what it does twice, it does once.

Runs are found by the tag `tuner.uid` before they are created, points and parameters are
sent with what they were stamped with, artifacts replace themselves. Every failure comes out
as one of two errors: `UnavailableError` (try again later) or `RefusedError` (never will).
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from mlflow.entities import Metric, Param, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tuner.errors import RefusedError
from tuner.spec.rules import LONGEST_VALUE
from tuner.tracking.dataset_input import dataset_input
from tuner.tracking.experiments import find_or_create_experiment, open_store
from tuner.tracking.mlflow_errors import translated
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.updates import Artifact, Point, RunOpening, RunUpdate

UID_TAG = "tuner.uid"

# MLflow's limits (mlflow/utils/validation.py): 1,000 entities, 100 params, 100 tags and 1 MB
# a call. Half the params and tags at full length leave room in the megabyte.
_POINTS_A_CALL, _PAIRS_A_CALL = 800, 50
_TAG_LENGTH = 8000

_logger = logging.getLogger(__name__)


class MlflowStore:
    """One experiment of one MLflow store.

    The constructor finds the experiment or creates it; it raises UnavailableError when the
    store does not answer, RefusedError when a person has to mend the experiment first.
    Artifacts are gathered in the folder `scratch` before they go.
    """

    def __init__(self, settings: TrackingSettings, scratch: Path) -> None:
        self._scratch = scratch
        self._client = open_store(settings.uri)
        found = find_or_create_experiment(self._client, settings)
        self._uri = settings.uri
        self._experiment_id = found.experiment_id
        self.destination = f"{found.experiment_id}/{found.creation_time}"
        """Tells this experiment from any other, and from one recreated under its name."""

    def find(self, uid: str) -> str | None:
        """Returns the id of the run with this uid, the same for all who ask; None without one."""
        runs = self._runs(uid)
        return runs[0].info.run_id if runs else None

    def find_or_create(self, opening: RunOpening, parent_id: str | None) -> str:
        """Returns the id of the run that `opening` asks for."""
        existing = self.find(opening.uid)
        if existing is not None:
            return existing
        tags = {**opening.tags, UID_TAG: _quoted(opening.uid)}
        if parent_id is not None:
            tags[MLFLOW_PARENT_RUN_ID] = parent_id
        with translated(f"create run {opening.name!r}"):
            run = self._client.create_run(
                self._experiment_id, opening.started_ms, _cut(tags, _TAG_LENGTH), opening.name
            )
        return str(run.info.run_id)

    def remove_doubles(self, uid: str, run_id: str) -> None:
        """Deletes every run with this uid but `run_id`, which gets what lies below them.

        A double appears when a server creates a run after the client stopped waiting, or when
        the shippers of two machines create a study's at the same moment.
        """
        for run in self._runs(uid):
            if run.info.run_id != run_id:
                self._adopt(run_id, run.info.run_id)
                _logger.warning("deleting run %s: a double of %s", run.info.run_id, run_id)
                with translated(f"delete run {run.info.run_id}"):
                    self._client.delete_run(run.info.run_id)

    def _adopt(self, parent_id: str, double_id: str) -> None:
        with translated(f"search runs below {double_id}"):
            below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{double_id}'"
            while runs := self._client.search_runs([self._experiment_id], below):
                for run in runs:
                    self._client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent_id)

    def apply(self, run_id: str, update: RunUpdate) -> None:
        """Does to the run what `update` says; its status changes last."""
        with translated(f"update run {run_id}"):
            if update.dataset is not None:
                self._client.log_inputs(run_id, [dataset_input(update.dataset)])
            self._log_values(run_id, update)
            self._log_artifacts(run_id, update.artifacts)
            for path in update.removed_artifacts:
                self._remove_artifact(run_id, path)
            for key in update.removed_tags:
                self._remove_tag(run_id, key)
            if update.status == "RUNNING":
                self._client.update_run(run_id, update.status)
            elif update.status is not None:
                self._client.set_terminated(run_id, update.status, update.ended_ms)

    def ping(self) -> None:
        """Raises UnavailableError when the store does not answer."""
        with translated("reach the store"):
            self._client.get_experiment(self._experiment_id)

    def _runs(self, uid: str) -> list[Any]:
        with translated(f"search run {uid!r}"):
            runs = self._client.search_runs(
                [self._experiment_id], f"tags.`{UID_TAG}` = '{_quoted(uid)}'"
            )
        return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def _log_values(self, run_id: str, update: RunUpdate) -> None:
        params, tags = dict(update.params), dict(update.tags)
        if params:
            params, changed = self._new_params(run_id, params)
            tags |= {f"tuner.changed.{key}": value for key, value in changed.items()}
        metrics = [_metric(point) for point in update.points]
        param_rows = [Param(*pair) for pair in _cut(params, LONGEST_VALUE).items()]
        tag_rows = [RunTag(*pair) for pair in _cut(tags, _TAG_LENGTH).items()]
        for calls in zip_longest(
            _chunks(metrics, _POINTS_A_CALL),
            _chunks(param_rows, _PAIRS_A_CALL),
            _chunks(tag_rows, _PAIRS_A_CALL),
            fillvalue=(),
        ):
            self._client.log_batch(run_id, *calls)

    def _new_params(
        self, run_id: str, params: dict[str, str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The params the run lacks, and those it has with another value.

        MLflow's params never change; a study that goes on with more trials has a new one.
        """
        logged = self._client.get_run(run_id).data.params
        new = {key: value for key, value in params.items() if key not in logged}
        changed = {
            key: value
            for key, value in _cut(params, LONGEST_VALUE).items()
            if logged.get(key, value) != value
        }
        return new, changed

    def _log_artifacts(self, run_id: str, artifacts: Sequence[Artifact]) -> None:
        if not artifacts:
            return
        with TemporaryDirectory(dir=self._scratch) as folder:
            for artifact in artifacts:
                _stage(Path(folder), artifact)
            self._client.log_artifacts(run_id, folder)

    def _remove_artifact(self, run_id: str, path: str) -> None:
        uri = self._client.get_run(run_id).info.artifact_uri
        get_artifact_repository(uri, tracking_uri=self._uri).delete_artifacts(path)

    def _remove_tag(self, run_id: str, key: str) -> None:
        if key in self._client.get_run(run_id).data.tags:
            self._client.delete_tag(run_id, key)


def _metric(point: Point) -> Metric:
    # MLflow stores infinity as 1.8e308, which flattens every chart it appears in.
    value = math.nan if math.isinf(point.value) else point.value
    return Metric(point.key, value, point.at_ms, point.step)


def _stage(folder: Path, artifact: Artifact) -> None:
    target = folder / artifact.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(artifact.content, Path):
        if not artifact.content.exists():
            raise RefusedError(f"{artifact.content}: is gone; it was to be {artifact.path}")
        target.symlink_to(artifact.content.resolve())
    elif isinstance(artifact.content, bytes):
        target.write_bytes(artifact.content)
    else:
        target.write_text(artifact.content, errors="backslashreplace")


def _chunks(rows: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(rows)
    while chunk := list(islice(rest, size)):
        yield chunk


def _cut(pairs: Mapping[str, str], length: int) -> dict[str, str]:
    return {key: value[:length] for key, value in pairs.items()}


def _quoted(uid: str) -> str:
    """The uid without the characters that MLflow's filter strings cannot hold."""
    return quote(uid, safe=" !#$&()*+,-./:;=?@[]^_{|}~")
