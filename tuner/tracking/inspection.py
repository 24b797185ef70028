"""Reads what MLflow and this home's spools contain of studies, for the examination."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import from_json

from tuner.tracking.mlflow.store_reader import StoredRun, reading
from tuner.tracking.settings import TrackingSettings, local_path
from tuner.tracking.spool.shipped import FILE_NAME as PROGRESS
from tuner.tracking.spool.shipped import Progress, load_progress
from tuner.tracking.spool.spool import OF_OTHERS, OPENINGS, SpoolLine, read_lines
from tuner.tracking.spool.spool_events import AttemptEnded, Event

_MODEL = "model"
_LISTED_AT_ONCE = 8
"""How many runs' files are listed at once, since a server needs one call for each."""


@dataclass(frozen=True)
class SeenRun(StoredRun):
    """A run and its files."""

    artifacts: Mapping[str, int]
    """Sizes in bytes of the files and folders at the top, and of the files below `model`."""


@dataclass(frozen=True)
class SeenStudy:
    """The runs of one study, by uid. Several runs of one uid are doubles."""

    parents: tuple[SeenRun, ...]
    attempts: dict[str, tuple[SeenRun, ...]]


@dataclass(frozen=True)
class SeenSpool:
    """A spool of this home, and how far it was shipped."""

    folder: Path
    kinds: tuple[str, ...]
    """The kinds of its lines, in order; an empty string for a line without one."""
    told: tuple[str, ...]
    """The kinds of the events that can be read."""
    pending: int
    """The number of lines that MLflow lacks."""
    refused: tuple[str, ...]
    """Parts that MLflow refused, each with its reason."""
    is_evaluated: bool
    """Whether it is of an attempt that ended with an evaluation."""

    @property
    def damaged(self) -> int:
        """The number of lines that cannot be read."""
        return len(self.kinds) - len(self.told)

    @property
    def is_begun(self) -> bool:
        """Whether it has an event that identifies its run."""
        return any(kind in OPENINGS for kind in self.told)

    @property
    def is_own(self) -> bool:
        """Whether it is of an attempt that this home began."""
        return any(kind not in OF_OTHERS for kind in self.kinds)

    @property
    def is_gone(self) -> bool:
        """Whether the spool was deleted after something of it was shipped."""
        rest = all(kind.startswith("model-") for kind in self.kinds)
        return rest and (self.folder / PROGRESS).exists()


def look_into(folder: Path) -> SeenSpool:
    """Reads the spool in `folder`, which need not exist."""
    progress = load_progress(folder) or Progress(destination="")
    lines = list(read_lines(folder, 0))
    # Shipped lines were valid events. That they still are JSON is quicker to check.
    seen_as_events = progress.offset if progress.turned_down == progress.refused else 0
    read = [_read(line, seen_as_events) for line in lines]
    told = [each for each in read if each is not None]
    return SeenSpool(
        folder=folder,
        kinds=tuple(line.kind for line in lines),
        told=tuple(each.kind for each in told),
        pending=sum(line.end > progress.offset for line in lines),
        refused=progress.turned_down,
        is_evaluated=any(each.is_evaluated for each in told),
    )


@dataclass(frozen=True)
class _Told:
    kind: str
    is_evaluated: bool


def _read(line: SpoolLine, seen_as_events: int) -> _Told | None:
    """The line's kind, and whether it has an evaluation; None if it cannot be read."""
    if line.end > seen_as_events:
        event = line.event_or_error()
        return None if isinstance(event, ValidationError) else _told(event)
    try:
        mapping = from_json(line.text)
    except ValueError:
        return None
    result = mapping.get("result") if line.kind == "attempt-ended" else None
    return _Told(line.kind, is_evaluated=bool(result and result.get("evaluation")))


def _told(event: Event) -> _Told:
    result = event.result if isinstance(event, AttemptEnded) else None
    return _Told(event.kind, is_evaluated=bool(result and result.evaluation))


def look_at(settings: TrackingSettings, studies: Mapping[str, str]) -> dict[str, SeenStudy]:
    """Reads every run of the studies in a few queries, for any number of studies.

    Args:
        settings: the store.
        studies: by the study's uid, the metric whose steps are read as epochs.

    Returns:
        The runs of each study, by its uid.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    found: dict[str, dict[str, list[SeenRun]]] = {uid: defaultdict(list) for uid in studies}
    with reading(settings) as store:
        for page in store.runs(studies):
            artifacts = _artifacts(settings.uri, [run.artifact_uri for run in page])
            for run in page:
                seen = SeenRun(**vars(run), artifacts=artifacts[run.artifact_uri])
                found[run.study][run.uid].append(seen)
    return {uid: _study(uid, runs) for uid, runs in found.items()}


def _study(uid: str, runs: Mapping[str, Sequence[SeenRun]]) -> SeenStudy:
    attempts = {each: tuple(seen) for each, seen in runs.items()}
    return SeenStudy(parents=attempts.pop(uid, ()), attempts=attempts)


def _artifacts(uri: str, addresses: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """The files at each address, read from this machine's disk or else through MLflow."""
    folders = {address: local_path(address) for address in addresses}
    here = {address: _on_disk(folder) for address, folder in folders.items() if folder}
    elsewhere = [address for address in addresses if address not in here]
    with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
        answers = pool.map(partial(_from_mlflow, uri), elsewhere)
        return here | dict(zip(elsewhere, answers, strict=True))


def _on_disk(folder: Path) -> Mapping[str, int]:
    return dict([*_entries(f"{folder}", ""), *_entries(f"{folder}/{_MODEL}", f"{_MODEL}/")])


def _entries(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            yield prefix + entry.name, 0 if entry.is_dir() else entry.stat().st_size


def _from_mlflow(uri: str, address: str) -> Mapping[str, int]:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    from tuner.tracking.mlflow.mlflow_errors import of_artifacts

    with of_artifacts("list a run's files"):
        files = get_artifact_repository(address, tracking_uri=uri)
        top = files.list_artifacts()
        is_there = any(each.path == _MODEL for each in top)
        below = files.list_artifacts(_MODEL) if is_there else []
    return {each.path: each.file_size or 0 for each in (*top, *below)}
