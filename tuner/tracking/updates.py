"""What is to be done to a run, as data: no MLflow here, and nothing is done yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tuner.datasets.store import DatasetInfo

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
    content: str | bytes | Path


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
