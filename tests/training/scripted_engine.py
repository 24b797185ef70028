"""An engine that follows a script: no network, the same numbers every time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuner.errors import ModelError
from tuner.models.model_file import sha256_of
from tuner.training import training_loop
from tuner.training.data import Rows, TrainingData
from tuner.training.engines.base import TrainedEpoch
from tuner.training.plan import EpochReport, KeptModel, Precision, TrialPlan, TrialResult

CLASSES = 10
ROWS = 100
HELD_OUT = 1000 + np.arange(ROWS)


@dataclass
class Listener:
    """Keeps what it hears, and prunes when told to."""

    prunes_after: int | None = None
    heard: list[EpochReport] = field(default_factory=list)
    told: bool = False

    def epoch_ended(self, report: EpochReport) -> None:
        self.heard.append(report)
        self.told |= report.epoch == self.prunes_after

    def stops_after(self, report: EpochReport) -> bool:
        return self.told and report.epoch >= 1

    def pruned(self) -> bool:
        return self.told


@dataclass
class ScriptedEngine:
    """An engine and its only session: epoch after epoch it does what `right` says.

    Its one weight counts the epochs, and a saved model is a file with that number in it.
    """

    right: tuple[int, ...]
    """How many of 100 validation rows each epoch gets right; `TRAINED` for training rows."""
    loss: dict[int, float] = field(default_factory=dict)
    """The training loss of an epoch, 1 where it is not told."""
    during: dict[int, Callable[[], None]] = field(default_factory=dict)
    """What else happens in the course of an epoch."""
    softmax: bool = True
    unlike: bool = False
    """Whether its file answers otherwise than it does."""
    epoch: int = 0
    orders: list[list[int]] = field(default_factory=list)
    parameters: int = 1
    architecture: str = "scripted"
    backend: str = "none"
    platform: Literal["cpu", "gpu"] = "cpu"
    remarks: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")

    def session(self, _plan: TrialPlan, data: TrainingData) -> "ScriptedEngine":
        self._labels = data.validation.labels
        return self

    def versions(self) -> dict[str, str]:
        return {}

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        self.epoch += 1
        self.orders.append(order.tolist())
        self.during.get(self.epoch, lambda: None)()
        confusion = np.zeros((CLASSES, CLASSES), np.int64)
        confusion[0, :2] = TRAINED, len(order) - TRAINED
        return TrainedEpoch(self.loss.get(self.epoch, 1.0), confusion)

    def probabilities(self) -> NDArray[np.float32]:
        right = np.arange(len(self._labels)) < self.right[self.epoch - 1]
        predicted = np.where(right, self._labels, (self._labels + 1) % CLASSES)
        certain = np.eye(CLASSES, dtype=np.float32)[predicted]
        return np.float32(0.9) * certain + np.float32(0.01) if self.softmax else certain * 5

    def weights(self) -> list[NDArray[np.generic]]:
        return [np.array(self.epoch)]

    def state(self) -> list[NDArray[np.generic]]:
        return [np.array(self.epoch)]

    def restore(self, state: Sequence[NDArray[np.generic]], epochs: int) -> None:
        (self.epoch,) = (int(each) for each in state)
        assert self.epoch == epochs

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        path.write_text(str(weights[0]))

    def check_file(self, model: KeptModel, rows: Rows, answers: NDArray[np.float32]) -> None:
        assert model.sha256 == sha256_of(model.path)
        assert len(rows) == len(answers)
        if self.unlike:
            raise ModelError("it is another network")


@dataclass
class Clock:
    """Goes only when told."""

    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


TRAINED = 40


def data() -> TrainingData:
    """Rows for the engine, which looks at no pixel."""
    rows = Rows(np.zeros((ROWS, 2, 2, 1), np.uint8), np.arange(ROWS) % CLASSES)
    return TrainingData(train=rows, validation=rows, held_out=HELD_OUT, classes=CLASSES)


def train(plan: TrialPlan, engine: ScriptedEngine, listener: Listener | None = None) -> TrialResult:
    return training_loop.train(plan, lambda _plan: data(), engine, listener or Listener())


def kept_epoch(result: TrialResult) -> int:
    """The epoch whose weights lie in the kept model's file."""
    assert result.model is not None
    assert result.model.sha256 == sha256_of(result.model.path)
    return int(result.model.path.read_text())
