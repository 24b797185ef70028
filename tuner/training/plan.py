"""What a trainer is told and what it says: plan, epoch reports, result.

All of it is frozen and goes to JSON and back unchanged, so that a plan can cross a pipe, a
file or a network. A plan holds everything a trainer needs; a result everything it found.
"""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from tuner.spec.objective import Objective
from tuner.spec.recipe import Pixels, Recipe
from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen, Text

Precision = Literal["float32", "bfloat16"]

CHECKPOINT = "checkpoint.npz"
"""What an attempt leaves in its folder for the next one."""
MODEL = "model.keras"
"""What it leaves there when it ends."""


class Outcome(StrEnum):
    """How an attempt ended. A trainer's result is one of the first three."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The study was stopped, or its driver died."""
    LOST = "lost"
    """The trainer died."""

    @property
    def hands_back(self) -> bool:
        """Whether another attempt at the trial follows."""
        return self in (Outcome.INTERRUPTED, Outcome.LOST)


class ModelPlan(Frozen):
    """Which function builds the network."""

    name: str
    code_path: tuple[Path, ...] = ()
    """Folders that the user's own modules are imported from."""
    code: str = ""
    """The digest of what the function is made of; empty where that is not known."""


class TrialPlan(Frozen):
    """One attempt at one trial."""

    study: str
    slot: int
    attempt: int
    params: dict[str, Scalar]
    """Every parameter of the trial, as the search space names it: the recipe's and the model's."""
    model: ModelPlan
    dataset: Path
    """A folder with `images.npy` and `labels.npy`, training rows only."""
    classes: tuple[str, ...]
    validation: int
    split_seed: int
    seed: int
    epochs: int
    objective: Objective
    precision: Precision
    folder: Path
    """Where the attempt's model, log and checkpoint go."""
    pixels: Pixels = "unit"
    """The range of the pixels that the network is given."""
    resumes: Path | None = None
    """The checkpoint of an earlier attempt to go on from."""

    @property
    def recipe(self) -> Recipe:
        """The parameters that training itself understands, with the recipe's defaults."""
        stated = {name: self.params[name] for name in Recipe.model_fields if name in self.params}
        return Recipe.model_validate(stated)

    @property
    def key(self) -> tuple[int, int]:
        """The slot and the number of the attempt, which name it in its study."""
        return self.slot, self.attempt


class EpochReport(Frozen):
    """One trained epoch. `epoch` counts from 1; metrics are those of `METRICS`."""

    epoch: int
    metrics: dict[str, float]
    train_s: float
    validation_s: float
    finished_ms: int
    """Unix time in milliseconds at which the epoch ended."""


class ClassScores(Frozen):
    """Precision, recall and F1 of one class, or their unweighted means (macro)."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Evaluation(Frozen):
    """Predictions held against labels; `confusion[true][predicted]` counts images."""

    accuracy: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassScores, ...]
    macro: ClassScores
    """Means over the classes but the absent ones, as scikit-learn has them."""

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that neither occur among the labels nor were predicted."""
        columns = zip(*self.confusion, strict=True)
        seen = [sum(row) + sum(column) for row, column in zip(self.confusion, columns, strict=True)]
        return tuple(
            scores.label for scores, count in zip(self.classes, seen, strict=True) if not count
        )


class Timings(Frozen):
    """Where the trial's seconds went, epochs that an earlier attempt had trained included."""

    build_s: float
    """Of this attempt alone: data, network and checkpoint."""
    train_s: float
    validation_s: float
    total_s: float
    """All of this attempt, and the earlier attempts' epochs that it took over."""


class TrialError(Frozen):
    """Why a trial failed."""

    type: Text
    message: Text
    traceback: Text


class SystemSample(Frozen):
    """How busy a trainer's machine is; `values` are named as MLflow names system metrics."""

    at_ms: int
    values: dict[str, float]


class KeptModel(Frozen):
    """The weights of the best epoch, as a `.keras` file."""

    path: Path
    sha256: str
    parameters: int


class TrainerInfo(Frozen):
    """The process and machine that trained."""

    host: str
    pid: int
    assigned: str
    """The device that the trainer was started for."""
    device: str
    """The device that its engine found and trains on: the processor where no GPU answers."""
    backend: str
    versions: dict[str, str]


class TrialResult(Frozen):
    """How an attempt ended, with everything it found.

    A trial that finished an epoch has `best_epoch` and a `model`, pruned and diverged ones
    included; with a validation split it has an `evaluation` at the best epoch too. An epoch
    whose figures are not finite is among `epochs` and is never the best.
    """

    state: Outcome
    epochs: tuple[EpochReport, ...]
    best_epoch: int | None
    evaluation: Evaluation | None
    model: KeptModel | None
    timings: Timings
    peak_memory_mb: float
    remarks: tuple[Text, ...] = ()
    """Why it trained in another, slower way than most, if it did."""
    unpromotable: Text = ""
    """Why its model cannot be promoted, as far as is known when it ends; empty where it can."""
    error: TrialError | None = None

    @property
    def best(self) -> EpochReport | None:
        """The report of the best epoch."""
        return None if self.best_epoch is None else self.epochs[self.best_epoch - 1]

    def value(self, objective: Objective) -> float | None:
        """The objective at the best epoch."""
        return None if self.best is None else self.best.metrics[objective.metric]
