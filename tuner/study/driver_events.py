"""What a driver tells its observer: frozen events, in order, to one callback."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tuner.search.ranking import PointSummary
from tuner.spec.search_space import Scalar
from tuner.training.plan import Outcome


@dataclass(frozen=True)
class SetupStep:
    """The driver is about to do something that takes a while, or has a remark."""

    text: str


@dataclass(frozen=True)
class Planned:
    """The study is about to begin, or to go on."""

    study: str
    metric: str
    slots: int
    done: int
    """Slots that earlier runs have ended."""
    epochs: int
    epoch_s: float | None
    """Seconds of one epoch, measured on one trainer, if it was."""
    trainers: int
    best: PointSummary | None = None
    """What earlier runs found."""

    @property
    def seconds(self) -> float | None:
        """How long what is left takes when nothing is pruned, in rounds of all trainers."""
        if self.epoch_s is None:
            return None
        rounds = math.ceil((self.slots - self.done) / self.trainers)
        return rounds * self.epochs * self.epoch_s


@dataclass(frozen=True)
class TrialBegan:
    """A trainer got an attempt at a trial."""

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
    """Those that are known."""
    seconds: float | None


@dataclass(frozen=True)
class TrialDone:
    """A trial reached its end."""

    number: int
    state: Outcome
    value: float | None
    best_epoch: int | None
    seconds: float
    reason: str = ""
    """Why it failed, in one line."""
    best: PointSummary | None = None
    """The best point, this trial included; None before one has completed."""


@dataclass(frozen=True)
class TrialHandedBack:
    """An attempt ended without an end of its trial; another one follows."""

    number: int
    reason: str


ProgressEvent = SetupStep | Planned | TrialBegan | EpochDone | TrialDone | TrialHandedBack
Notify = Callable[[ProgressEvent], None]


def ignore(_event: ProgressEvent) -> None:
    """For callers that do not watch."""
