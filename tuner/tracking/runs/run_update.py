"""What is to be done to a run, as data: no MLflow here, and nothing is done yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tuner.datasets.store import DatasetInfo
from tuner.tracking.runs.figures import Figure

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Point:
    """One value of a metric. MLflow keeps it once, however often it is sent."""

    key: str
    value: float
    at_ms: int
    step: int = 0


@dataclass(frozen=True)
class Artifact:
    """A file for a run: where it goes, with forward slashes, and what is in it."""

    path: str
    content: str | bytes | Path | Figure


@dataclass(frozen=True)
class RunOpening:
    """A run that has to exist."""

    uid: str
    """Unique among all runs; the run is found again by it."""
    name: str
    started_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    parent_uid: str | None = None
    predecessor_uid: str | None = None
    again: bool = False
    """It may have been opened before, with another start."""
    foreign: bool = False
    """Others open it; where they never did, there is nothing to update."""


@dataclass(frozen=True)
class RunUpdate:
    """Everything that one or several events change about a run."""

    points: tuple[Point, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    removed_tags: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    removed_artifacts: tuple[str, ...] = ()
    dataset: DatasetInfo | None = None
    status: RunStatus | None = None
    ended_ms: int | None = None


def merged(updates: Sequence[RunUpdate]) -> RunUpdate:
    """What the updates come to, one after the other.

    What an update removes must not be in one before it: removals come last.
    """
    if len(updates) == 1:
        return updates[0]
    artifacts = {each.path: each for update in updates for each in update.artifacts}
    ends = [update for update in updates if update.status is not None]
    return RunUpdate(
        points=tuple(point for update in updates for point in update.points),
        params={key: value for update in updates for key, value in update.params.items()},
        tags={key: value for update in updates for key, value in update.tags.items()},
        removed_tags=tuple(key for update in updates for key in update.removed_tags),
        artifacts=tuple(artifacts.values()),
        removed_artifacts=tuple(path for update in updates for path in update.removed_artifacts),
        dataset=next((each.dataset for each in updates if each.dataset is not None), None),
        status=ends[-1].status if ends else None,
        ended_ms=ends[-1].ended_ms if ends else None,
    )
