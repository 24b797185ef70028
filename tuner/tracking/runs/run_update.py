"""Changes of a run, as data. Knows no MLflow and changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tuner.datasets.store import DatasetInfo
from tuner.tracking.descriptions import Title
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
    """A file for a run: its path with forward slashes, and its content."""

    path: str
    content: str | bytes | Path | Figure


@dataclass(frozen=True)
class NoteSection:
    """A section of a run's description."""

    title: Title
    text: str
    """Markdown."""


@dataclass(frozen=True)
class RunOpening:
    """A run that is to exist."""

    uid: str
    """Unique among all runs. The run is found by it."""
    name: str
    started_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    parent_uid: str | None = None
    below: str | None = None
    """The uid of the study's run below which it is shown, if that exists."""
    predecessor_uid: str | None = None
    again: bool = False
    """Whether the run may have been opened before, with another start time."""
    foreign: bool = False
    """Whether only another home opens the run. Without it there is nothing to update."""


@dataclass(frozen=True)
class RunUpdate:
    """All changes of a run from one or several events."""

    points: tuple[Point, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    removed_tags: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    removed_artifacts: tuple[str, ...] = ()
    dataset: DatasetInfo | None = None
    sections: tuple[NoteSection, ...] = ()
    sections_above: tuple[NoteSection, ...] = ()
    """For the run of the study below whose run this one lies (`RunOpening.below`)."""
    status: RunStatus | None = None
    ended_ms: int | None = None


def merged(updates: Sequence[RunUpdate]) -> RunUpdate:
    """One update that does the same as `updates` in their order.

    No update may remove what an earlier one adds, since removals come last.
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
        sections=tuple(each for update in updates for each in update.sections),
        sections_above=tuple(each for update in updates for each in update.sections_above),
        status=ends[-1].status if ends else None,
        ended_ms=ends[-1].ended_ms if ends else None,
    )
