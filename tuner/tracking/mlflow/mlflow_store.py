"""Writes runs to MLflow's tracking store. Every update may be sent twice and counts once.

A run is found by its tag `tuner.uid` before it is created. Points keep their time and step,
and artifacts replace themselves. Every failure becomes an `UnavailableError` (try again later) or
a `RefusedError` (for good). Parts of an update that the store refuses are left out and named, and
the rest is done.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote

from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError, UnavailableError, encodable
from tuner.files import stays_inside
from tuner.spec.rules import LONGEST_VALUE
from tuner.tracking.descriptions import describe
from tuner.tracking.mlflow.dataset_input import dataset_input
from tuner.tracking.mlflow.experiments import (
    check_not_deleted,
    find_or_create_experiment,
    open_store,
)
from tuner.tracking.mlflow.mlflow_errors import of_artifacts, translated
from tuner.tracking.mlflow.run_deletion import A_DOUBLE, DELETED_TAG, WITH_ITS_STUDY, discard
from tuner.tracking.runs.figures import Figure
from tuner.tracking.runs.run_update import (
    Artifact,
    NoteSection,
    Point,
    RunOpening,
    RunStatus,
    RunUpdate,
)
from tuner.tracking.runs.study_run import STUDY_UID_TAG
from tuner.tracking.settings import TrackingSettings

UID_TAG = "tuner.uid"
REFUSED_TAG = "tuner.refused_events"
"""Tag of an incomplete run: how many parts of its events MLflow refused."""

# MLflow's limits (mlflow/utils/validation.py): 1,000 entities, 100 params, 100 tags and 1 MB
# a call. Half the params and tags at full length leave room in the megabyte.
_POINTS_A_CALL, _PAIRS_A_CALL = 800, 50
_TAG_LENGTH = 8000
_RUNS_A_CALL = 100

_logger = logging.getLogger(__name__)


class RunGoneError(UnavailableError):
    """The run was deleted or purged since it was found. Finding it again may restore it."""


class OpenRun(NamedTuple):
    """A run that exists."""

    run_id: str
    is_new: bool = False
    """Whether it was just created, so that it is empty."""
    artifact_uri: str = ""
    """Where its artifacts go; empty if not known yet."""


class MlflowStore:
    """One experiment of one MLflow store."""

    def __init__(self, settings: TrackingSettings, scratch: Path) -> None:
        """Finds or creates the experiment; `scratch` is a folder for artifacts before upload.

        Raises:
            UnavailableError: the store does not answer.
            ExperimentError: a person must repair the experiment first.
        """
        self._scratch = scratch
        self._client = open_store(settings.uri)
        found = find_or_create_experiment(self._client, settings)
        self._uri = settings.uri
        self._parents: dict[str, str | None] = {}
        self._found: dict[str, list[Run]] = {}
        """Runs that `look_for` found, until `find_or_create` takes them."""
        self._experiment_id = found.experiment_id
        self.destination = f"{found.experiment_id}/{found.creation_time}"
        """Identifies this experiment, also against one recreated under its name."""

    def find(self, uid: str) -> str | None:
        """Returns the id of the run with this uid, the same in every process; None without one.

        Restores a run that was deleted by hand.

        Raises:
            UnavailableError: the store does not answer.
            RefusedError: the run was deleted with its study.
        """
        run = self._find(uid)
        return None if run is None else str(run.info.run_id)

    def look_for(self, openings: Sequence[RunOpening]) -> None:
        """Finds the runs of a study's attempts in one query, for `find_or_create`.

        A run that another shipper creates between the two calls becomes a double.
        """
        self._found |= self._among(openings)

    def forget_found(self) -> None:
        """Forgets what `look_for` found some time ago, so that `find_or_create` queries again."""
        self._found = {}

    def doubled(self, openings: Sequence[RunOpening]) -> set[str]:
        """The uids that several runs have, or may have. One query for all."""
        single = {
            uid
            for uid, runs in self._among(openings).items()
            if len([*filter(_is_active, runs)]) <= 1
        }
        return {each.uid for each in openings} - single

    def _among(self, openings: Sequence[RunOpening]) -> dict[str, list[Run]]:
        """All runs of a study's attempts, by uid, as far as their start times find them.

        MLflow's filters allow one value of a tag in a query, so the query is by start time.
        """
        began = [each for each in openings if each.parent_uid is not None and not each.again]
        study = began[0].parent_uid if began else None
        if study is None or study != _quoted(study):
            return {}
        starts = [each.started_ms for each in began]
        period = f"start_time >= {min(starts)} and start_time <= {max(starts)}"
        with translated("search runs by their start"):
            runs = self._client.search_runs(
                [self._experiment_id],
                f"tags.`{STUDY_UID_TAG}` = '{study}' and {period}",
                ViewType.ALL,
                _RUNS_A_CALL,
            )
        if runs.token:
            return {}
        found: dict[str, list[Run]] = {each.uid: [] for each in began}
        by_tag = {_quoted(uid): uid for uid in found}
        for run in sorted(runs, key=_first_begun):
            if (uid := by_tag.get(run.data.tags.get(UID_TAG, ""))) is not None:
                found[uid].append(run)
        return found

    def _find(self, uid: str, known: Sequence[Run] | None = None) -> Run | None:
        runs = self._runs(uid) if known is None else known
        if active := next(filter(_is_active, runs), None):
            return active
        if any(run.data.tags.get(DELETED_TAG) == WITH_ITS_STUDY for run in runs):
            raise RefusedError(f"MLflow: the run of {uid!r} was deleted with its study")
        deleted = next((run for run in runs if DELETED_TAG not in run.data.tags), None)
        if deleted is not None:
            self._restore(deleted.info.run_id)
        return deleted

    def _restore(self, run_id: str) -> None:
        with translated(f"restore run {run_id}"):
            check_not_deleted(self._client.get_experiment(self._experiment_id))
            self._client.restore_run(run_id)
        _logger.warning("restored run %s, which was deleted and has more to show", run_id)

    def find_parent(self, uid: str) -> str | None:
        """Does as `find` for a parent run. Queries once between two calls of `check_parents`."""
        if uid not in self._parents:
            self._parents[uid] = self.find(uid)
        return self._parents[uid]

    def find_active(self, uid: str) -> str | None:
        """Returns the id of the run with this uid; None if it was never made, or is deleted."""
        run = next(filter(_is_active, self._runs(uid)), None)
        return None if run is None else str(run.info.run_id)

    def check_parents(self) -> bool:
        """Whether the parents that were found since the last call still exist.

        Restores those that were deleted meanwhile.
        """
        parents, self._parents = self._parents, {}
        return all(self.find(uid) == run_id for uid, run_id in parents.items())

    def find_or_create(self, opening: RunOpening, parent_id: str | None) -> OpenRun:
        """The run that `opening` describes. Removes its count of refused parts.

        Raises:
            UnavailableError: the store does not answer.
            RefusedError: the run was deleted with its study.
        """
        existing = self._find(opening.uid, self._found.pop(opening.uid, None))
        if existing is not None:
            if REFUSED_TAG in existing.data.tags:
                with translated(f"update run {existing.info.run_id}"):
                    self._client.delete_tag(existing.info.run_id, REFUSED_TAG)
            return OpenRun(existing.info.run_id, artifact_uri=existing.info.artifact_uri)
        tags = {**_storable(opening.tags), UID_TAG: _quoted(opening.uid)}
        if parent_id is not None:
            tags[MLFLOW_PARENT_RUN_ID] = parent_id
        with translated(f"create run {opening.name!r}"):
            run = self._client.create_run(
                self._experiment_id, opening.started_ms, _cut(tags, _TAG_LENGTH), opening.name
            )
        return OpenRun(run.info.run_id, is_new=True, artifact_uri=run.info.artifact_uri)

    def remove_doubles(self, uid: str) -> str | None:
        """Deletes every run with this uid but one, which becomes the parent of their child runs.

        A double appears when a server creates a run after the client stopped waiting, or when two
        shippers create it at the same moment: a study's run from two machines, an attempt's run
        from a state folder and its copy.

        Returns:
            The id of the run that stays, the same in every process; None without one.
        """
        first, *doubles = [*filter(_is_active, self._runs(uid))] or [None]
        for run in doubles:
            self.adopt(first.info.run_id, run.info.run_id)
            _logger.warning("deleting run %s: a double of %s", run.info.run_id, first.info.run_id)
            with translated(f"delete run {run.info.run_id}"):
                discard(self._client, run.info.run_id, A_DOUBLE)
        return first and str(first.info.run_id)

    def adopt(self, parent_id: str, former_id: str) -> None:
        """Makes `parent_id` the parent of all child runs of `former_id`, which may be purged."""
        with translated(f"search runs below {former_id}"):
            below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{former_id}'"
            while runs := self._client.search_runs([self._experiment_id], below):
                for run in runs:
                    self._client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent_id)

    def apply(self, run: OpenRun, update: RunUpdate) -> list[str]:
        """Applies `update` to the run. The run's status changes last.

        Returns:
            The parts that the store refused, each with its reason. All others are done.

        Raises:
            UnavailableError: the store does not answer; the same update may be sent again.
            RunGoneError: the run was deleted by hand.
            RefusedError: the run was deleted with its study.
        """
        run_id = run.run_id
        datasets = () if update.dataset is None else (update.dataset,)
        statuses = () if update.status is None else (update.status,)
        values = self._values(run, update)
        parts: list[tuple[Sequence[Any], Callable[[Sequence[Any]], None]]] = [
            (datasets, partial(self._log_datasets, run_id)),
            *((rows, partial(self._log_rows, run_id)) for rows in values),
            (update.artifacts, partial(self._log_artifacts, run)),
            (update.removed_artifacts, partial(self._remove_artifacts, run)),
            (update.removed_tags, partial(self._remove_tags, run_id)),
            (update.sections, partial(self._describe, run_id)),
            (statuses, partial(self._set_status, run_id, update.ended_ms)),
        ]
        return [refusal for rows, act in parts for refusal in self._in_parts(run_id, rows, act)]

    def _in_parts(
        self, run_id: str, rows: Sequence[Any], act: Callable[[Sequence[Any]], None]
    ) -> list[str]:
        """Calls `act` with all rows or, where it is refused, with halves down to single rows."""
        if not rows:
            return []
        try:
            with translated(f"update run {run_id}"):
                act(rows)
        except RefusedError as error:
            self._check_run(run_id)
            if len(rows) == 1:
                return self._once_more(run_id, rows, act, error)
            middle = len(rows) // 2
            halves = rows[:middle], rows[middle:]
            return [text for half in halves for text in self._in_parts(run_id, half, act)]
        return []

    def _once_more(
        self,
        run_id: str,
        rows: Sequence[Any],
        act: Callable[[Sequence[Any]], None],
        refusal: RefusedError,
    ) -> list[str]:
        """Tries again: another writer's insert at the same moment can look like a refusal."""
        try:
            with translated(f"update run {run_id}"):
                act(rows)
        except RefusedError:
            return [f"{_named(rows[0])}: {refusal}"]
        return []

    def _check_run(self, run_id: str) -> None:
        """Raises an error if the run does not exist, since it then refuses every update."""
        try:
            with translated(f"look at run {run_id}"):
                run = self._client.get_run(run_id)
        except RefusedError as error:
            raise RunGoneError(str(error)) from error
        if run.data.tags.get(DELETED_TAG) == WITH_ITS_STUDY:
            raise RefusedError(f"MLflow: run {run_id} was deleted with its study")
        if not _is_active(run):
            raise RunGoneError(f"MLflow: run {run_id} was deleted")

    def ping(self) -> None:
        """Raises UnavailableError when the store does not answer."""
        with translated("reach the store"):
            self._client.get_experiment(self._experiment_id)

    def _runs(self, uid: str) -> list[Run]:
        """Active and deleted runs with this uid, in the same order in every process."""
        with translated(f"search run {uid!r}"):
            runs = self._client.search_runs(
                [self._experiment_id], f"tags.`{UID_TAG}` = '{_quoted(uid)}'", ViewType.ALL
            )
        return sorted(runs, key=_first_begun)

    def _values(self, run: OpenRun, update: RunUpdate) -> list[list[Metric | Param | RunTag]]:
        """Metrics, params and tags, in one list for each call."""
        params, tags = _storable(update.params), _storable(update.tags)
        if params and not run.is_new:
            with translated(f"look at run {run.run_id}"):
                params, changed = self._new_params(run.run_id, params)
            tags |= {f"tuner.changed.{key}": value for key, value in changed.items()}
        metrics = [_metric(point) for point in update.points]
        param_rows = [Param(*pair) for pair in _cut(params, LONGEST_VALUE).items()]
        tag_rows = [RunTag(*pair) for pair in _cut(tags, _TAG_LENGTH).items()]
        calls = zip_longest(
            _chunks(metrics, _POINTS_A_CALL),
            _chunks(param_rows, _PAIRS_A_CALL),
            _chunks(tag_rows, _PAIRS_A_CALL),
            fillvalue=(),
        )
        return [[row for rows in call for row in rows] for call in calls]

    def _log_rows(self, run_id: str, rows: Sequence[Metric | Param | RunTag]) -> None:
        kinds = ([row for row in rows if isinstance(row, kind)] for kind in (Metric, Param, RunTag))
        self._client.log_batch(run_id, *kinds)

    def _log_datasets(self, run_id: str, datasets: Sequence[DatasetInfo]) -> None:
        self._client.log_inputs(run_id, [dataset_input(each) for each in datasets])

    def _new_params(
        self, run_id: str, params: dict[str, str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The params that the run lacks, and those that it has with another value.

        A param cannot change in MLflow, but a study that resumes with more trials has a new value.
        """
        logged = self._client.get_run(run_id).data.params
        new = {key: value for key, value in params.items() if key not in logged}
        changed = {
            key: value
            for key, value in _cut(params, LONGEST_VALUE).items()
            if logged.get(key, value) != value
        }
        return new, changed

    def _log_artifacts(self, run: OpenRun, artifacts: Sequence[Artifact]) -> None:
        with TemporaryDirectory(dir=self._scratch) as folder:
            for artifact in artifacts:
                _stage(Path(folder), artifact)
            with of_artifacts(f"update run {run.run_id}"):
                self._artifacts_of(run).log_artifacts(folder)

    def _remove_artifacts(self, run: OpenRun, paths: Sequence[str]) -> None:
        with of_artifacts(f"update run {run.run_id}"):
            repository = self._artifacts_of(run)
            for path in paths:
                repository.delete_artifacts(path)

    def _artifacts_of(self, run: OpenRun) -> ArtifactRepository:
        # MLflow's client would query the run once more.
        uri = run.artifact_uri or self._client.get_run(run.run_id).info.artifact_uri
        return get_artifact_repository(uri, tracking_uri=self._uri)

    def _remove_tags(self, run_id: str, keys: Sequence[str]) -> None:
        there = self._client.get_run(run_id).data.tags
        for key in keys:
            if key in there:
                self._client.delete_tag(run_id, key)

    def _describe(self, run_id: str, sections: Sequence[NoteSection]) -> None:
        for each in sections:
            describe(self._client, run_id, each.title, each.text)

    def _set_status(self, run_id: str, ended_ms: int | None, statuses: Sequence[RunStatus]) -> None:
        for status in statuses:
            if status == "RUNNING":
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status, ended_ms)


def _first_begun(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id


def _is_active(run: Run) -> bool:
    return bool(run.info.lifecycle_stage == LifecycleStage.ACTIVE)


def _named(row: object) -> str:
    """The name of a part of an update, for messages."""
    match row:
        case Metric():
            return f"metric {row.key!r} at step {row.step}"
        case Param() | RunTag():
            return f"{type(row).__name__.lower()} {row.key!r}"
        case Artifact():
            return f"artifact {row.path!r}"
        case DatasetInfo():
            return f"data set {row.name!r}"
        case NoteSection():
            return f"description, section {row.title!r}"
    return str(row)


def _storable(pairs: Mapping[str, str]) -> dict[str, str]:
    return {key: encodable(value) for key, value in pairs.items()}


def _metric(point: Point) -> Metric:
    # MLflow stores infinity as 1.8e308, which flattens every chart it appears in.
    value = math.nan if math.isinf(point.value) else point.value
    return Metric(point.key, value, point.at_ms, point.step)


def _stage(folder: Path, artifact: Artifact) -> None:
    if not stays_inside(artifact.path):
        raise RefusedError("must lie below the folder of the run's artifacts")
    target = folder / artifact.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(artifact.content, Path):
        if not artifact.content.exists():
            raise RefusedError(
                f"{artifact.content}: no longer exists; it was to be {artifact.path}"
            )
        target.symlink_to(artifact.content.resolve())
    elif isinstance(artifact.content, bytes):
        target.write_bytes(artifact.content)
    elif isinstance(artifact.content, str):
        target.write_text(artifact.content, errors="backslashreplace")
    else:
        target.write_bytes(_drawn(artifact.content))


def _drawn(figure: Figure) -> bytes:
    """The figure's picture. matplotlib may fail in many ways over what people call things."""
    try:
        return figure.png()
    except Exception as error:
        raise RefusedError(f"cannot be drawn: {error!r}") from error


def _chunks(rows: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(rows)
    while chunk := list(islice(rest, size)):
        yield chunk


def _cut(pairs: Mapping[str, str], length: int) -> dict[str, str]:
    return {key: value[:length] for key, value in pairs.items()}


def _quoted(uid: str) -> str:
    """The uid without the characters that MLflow's filter strings cannot hold."""
    return quote(uid, safe=" !#$&()*+,-./:;=?@[]^_{|}~")
