"""Finds and repairs problems of the tracking store as a whole.

The experiment may have been deleted. A store in the state folder contains the folder's path, so
after the folder was moved, new artifacts would go to the old place.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, create_engine, func, literal, or_, select, update

from tuner.errors import RefusedError
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.mlflow.run_deletion import discard_again
from tuner.tracking.mlflow.store_reader import reading
from tuner.tracking.settings import TrackingSettings, local_path
from tuner.tracking.spool.shipping_lock import no_shipper
from tuner.words import command

if TYPE_CHECKING:
    from mlflow.entities import Experiment


@dataclass(frozen=True)
class StoreProblem:
    """A problem that concerns every study."""

    text: str
    remedy: str


def store_problems(settings: TrackingSettings) -> list[StoreProblem]:
    """The present problems.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    with reading(settings) as store:
        experiment = store.experiment()
    if experiment is None:
        return []
    found = []
    if experiment.is_deleted:
        found.append(StoreProblem(f"experiment {settings.experiment!r} is deleted", "is restored"))
    if elsewhere := settings.misplaced(experiment.artifact_location):
        text = f"new artifacts go to {elsewhere}, not to {settings.artifact_root}"
        found.append(StoreProblem(text, "is repaired: what is there is copied here"))
    return found


def repair_store(
    settings: TrackingSettings, driven: Sequence[str], folders: Iterable[Path] = ()
) -> None:
    """Restores the experiment, and copies artifacts to where they belong.

    May be repeated. Removes nothing from the old place.

    Args:
        settings: the store.
        driven: the studies that a driver of the state folder works on.
        folders: the study folders of the state folder; none may have a working shipper.

    Raises:
        UnavailableError: MLflow does not answer.
        RefusedError: artifacts must be copied while a driver or shipper works, or do not exist.
    """
    from tuner.tracking.mlflow.experiments import is_deleted

    with connected(settings) as client:
        experiment = client.get_experiment_by_name(settings.experiment)
        if experiment is None:
            return
        if is_deleted(experiment):
            client.restore_experiment(experiment.experiment_id)
        discard_again(client, experiment.experiment_id)
        if elsewhere := settings.misplaced(experiment.artifact_location):
            _check_movable(Path(elsewhere), Path(settings.artifact_root), driven)
            with no_shipper(folders):
                _move(experiment, settings)


def _check_movable(source: Path, target: Path, driven: Sequence[str]) -> None:
    if driven:
        raise RefusedError(
            f"MLflow: artifacts are not moved while study {driven[0]!r} is running; "
            f"stop it first: {command('stop', driven[0])}"
        )
    if not (source.exists() or target.exists()):
        raise RefusedError(
            f"MLflow: neither {source} nor {target} exists, so the artifacts' addresses stay as "
            f"they are; bring the artifacts to {target}, or make that folder if there are none"
        )


def _move(experiment: "Experiment", settings: TrackingSettings) -> None:
    """Copies the files, then changes their addresses in one transaction."""
    old, new = experiment.artifact_location, Path(settings.artifact_root).as_uri()
    engine = create_engine(settings.uri)
    try:
        with engine.begin() as connection:
            for column in _addresses():
                below = or_(column == old, func.substr(column, 1, len(old) + 1) == f"{old}/")
                for address in connection.execute(select(column).where(below)).scalars().all():
                    _copy(address, new + address[len(old) :])
                moved = literal(new).concat(func.substr(column, len(old) + 1))
                connection.execute(update(column.table).where(below).values({column.name: moved}))
    finally:
        engine.dispose()


def _addresses() -> Iterator[Column[Any]]:
    """MLflow's columns that contain the address of an artifact folder."""
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun

    yield SqlRun.__table__.c.artifact_uri
    yield SqlLoggedModel.__table__.c.artifact_location
    yield SqlModelVersion.__table__.c.source
    yield SqlModelVersion.__table__.c.storage_location
    yield SqlExperiment.__table__.c.artifact_location


def _copy(source_uri: str, target_uri: str) -> None:
    """Copies missing files, and those that are newer than the target's."""
    source, target = local_path(source_uri), local_path(target_uri)
    if source is not None and target is not None and source.is_dir():
        shutil.copytree(source, target, copy_function=_copy_newer, dirs_exist_ok=True)


def _copy_newer(source: str, target: str) -> None:
    if not Path(target).exists() or Path(source).stat().st_mtime > Path(target).stat().st_mtime:
        shutil.copy2(source, target)
