"""The events that a driver reports to its observer: frozen, in order, to one callback."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tuner.search.ranking import PointSummary
from tuner.spec.search_space import Scalar
from tuner.training.plan import Outcome


@dataclass(frozen=True)
class SetupStep:
    """The driver starts a long step, or has a message for the user."""

    text: str


@dataclass(frozen=True)
class Planned:
    """The study starts or resumes."""

    study: str
    metric: str
    slots: int
    done: int
    """Slots that ended in earlier runs."""
    epochs: int
    epoch_s: float | None
    """Seconds of one epoch, measured on one trainer; None if not measured."""
    trainers: int
    prunes: bool = False
    """Whether a pruner may end trials early."""
    races: bool = False
    """Whether further slots may follow, as the blocks of a race do."""
    best: PointSummary | None = None
    """The best point of earlier runs."""

    @property
    def seconds(self) -> float | None:
        """Estimated seconds until the end, if no trial is pruned; None if not measured."""
        if self.epoch_s is None:
            return None
        rounds = math.ceil((self.slots - self.done) / self.trainers)
        return rounds * self.epochs * self.epoch_s


@dataclass(frozen=True)
class TrialBegan:
    """A trainer starts an attempt at a trial."""

    number: int
    attempt: int
    params: Mapping[str, Scalar]
    device: str
    epochs: int


@dataclass(frozen=True)
class EpochDone:
    """A trial finished an epoch."""

    number: int
    epoch: int
    epochs: int
    metrics: Mapping[str, float]
    """The known metrics, by name."""
    seconds: float | None


@dataclass(frozen=True)
class TrialDone:
    """A trial ended."""

    number: int
    state: Outcome
    value: float | None
    best_epoch: int | None
    seconds: float
    reason: str = ""
    """Why it failed, in one line."""
    best: PointSummary | None = None
    """The best point so far; None before a trial has completed."""
    slots: int = 0
    """The number of trials that the study will have, as far as it is known now; 0 if it is not."""


@dataclass(frozen=True)
class TrialHandedBack:
    """An attempt ended, but its trial did not: another attempt follows."""

    number: int
    reason: str


ProgressEvent = SetupStep | Planned | TrialBegan | EpochDone | TrialDone | TrialHandedBack
Notify = Callable[[ProgressEvent], None]


def ignore(_event: ProgressEvent) -> None:
    """Ignores an event."""
