"""The data that goes to a trainer and comes back: plan, epoch reports, result.

Every type is frozen and goes to JSON and back unchanged, so that it can cross a pipe, a file or a
network. A plan holds everything that a trainer needs, a result everything that it found.
"""

from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

from tuner.spec.objective import Objective
from tuner.spec.recipe import Pixels, Recipe
from tuner.spec.search_space import Scalar
from tuner.spec.section import Frozen, Text

Precision = Literal["float32", "bfloat16"]

CHECKPOINT = "checkpoint.npz"
"""The name of the checkpoint in an attempt's folder, from which the next attempt resumes."""
MODEL = "model.keras"
"""The name of the model file in an attempt's folder, written when the attempt ends."""


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
    """The folders from which the user's own modules are imported."""
    code: str = ""
    """The digest of the function's code; empty if it is not known."""


class TrialPlan(Frozen):
    """One attempt at one trial."""

    study: str
    slot: int
    attempt: int
    params: dict[str, Scalar]
    """Every parameter of the trial, as the search space names it: the recipe's and the model's."""
    model: ModelPlan
    dataset: Path
    """The folder with `images.npy` and `labels.npy` of the training rows."""
    classes: tuple[str, ...]
    validation: int
    split_seed: int
    seed: int
    epochs: int
    objective: Objective
    precision: Precision
    folder: Path
    """The folder for the attempt's model, log and checkpoint."""
    pixels: Pixels = "unit"
    """The range of the pixels that the network is given."""
    counts: Literal["best", "last"] = "best"
    """The epoch whose weights and metrics are the result; without a validation split the last."""
    records_errors: bool = False
    """Whether the result names the validation images that are confidently wrong."""
    resumes: Path | None = None
    """The checkpoint of an earlier attempt to resume from."""

    @property
    def recipe(self) -> Recipe:
        """The parameters that training itself understands, with the recipe's defaults."""
        stated = {name: self.params[name] for name in Recipe.model_fields if name in self.params}
        return Recipe.model_validate(stated)

    @property
    def key(self) -> tuple[int, int]:
        """The slot and the number of the attempt: unique within its study."""
        return self.slot, self.attempt


class EpochReport(Frozen):
    """One trained epoch. `epoch` counts from 1; metrics are those of `METRICS`."""

    epoch: int
    metrics: dict[str, float]
    train_s: float
    validation_s: float
    finished_ms: int
    """The Unix time in milliseconds at which the epoch ended."""


class ClassScores(Frozen):
    """Precision, recall and F1 of one class, or their unweighted means (macro)."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Evaluation(Frozen):
    """Predictions compared with labels; `confusion[true][predicted]` counts images."""

    accuracy: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassScores, ...]
    macro: ClassScores
    """The means over all classes but the absent ones, as in scikit-learn."""

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that neither occur among the labels nor among the predictions."""
        columns = zip(*self.confusion, strict=True)
        seen = [sum(row) + sum(column) for row, column in zip(self.confusion, columns, strict=True)]
        return tuple(
            scores.label for scores, count in zip(self.classes, seen, strict=True) if not count
        )


class ConfidentError(NamedTuple):
    """A validation image that a network confidently puts into another class than its label's."""

    row: int
    """Its number among the training images, from 0."""
    label: int
    predicted: int
    """The class with the highest probability."""
    probability: float
    """That probability."""


class Timings(Frozen):
    """The trial's time in seconds, with the epochs that an earlier attempt trained."""

    build_s: float
    """The time of this attempt alone for data, network and checkpoint."""
    train_s: float
    validation_s: float
    total_s: float
    """This attempt, and the epochs of earlier attempts that it resumed from."""


class TrialError(Frozen):
    """Why a trial failed."""

    type: Text
    message: Text
    traceback: Text


class SystemSample(Frozen):
    """The load of a trainer's machine; `values` have MLflow's names for system metrics."""

    at_ms: int
    values: dict[str, float]


class EpochEnded(Frozen):
    """The attempt finished an epoch. Trainer, pool, driver and spool pass this on unchanged."""

    kind: Literal["epoch-ended"] = "epoch-ended"
    report: EpochReport


class SystemSampled(Frozen):
    """The trainer's machine was measured."""

    kind: Literal["system-sampled"] = "system-sampled"
    sample: SystemSample


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
    """The name of the device that the trainer was started for."""
    device: str
    """The name of the device that its engine trains on: the processor if it finds no GPU."""
    backend: str
    versions: dict[str, str]
    threads: int | None = None
    """The number of threads of the backend; None in records of earlier versions."""
    processor: str = ""
    """The model of the processor or GPU that it trains on; empty if it is not known."""

    @property
    def kind(self) -> str:
        """The kind of the device that it trains on: `cpu` or `gpu`."""
        return self.device.partition(":")[0]


class TrialResult(Frozen):
    """How an attempt ended, and everything that it found.

    A trial that finished an epoch has a `best_epoch` and a `model`, also if it was pruned or
    diverged; with a validation split it also has the `evaluation` of the best epoch. An epoch
    with a metric that is not finite is among `epochs`, but never the best.
    """

    state: Outcome
    epochs: tuple[EpochReport, ...]
    best_epoch: int | None
    evaluation: Evaluation | None
    model: KeptModel | None
    timings: Timings
    peak_memory_mb: float
    confident_errors: tuple[ConfidentError, ...] | None = None
    """Of the best epoch, by row; None unless the plan asks for them."""
    weights_sha256: str = ""
    """The SHA-256 of types, shapes and bytes of the best epoch's weights; empty without one."""
    remarks: tuple[Text, ...] = ()
    """Why the trial trained in a slower way than most, if it did."""
    unpromotable: Text = ""
    """Why the model cannot be promoted, as far as is known when the trial ends; else empty."""
    error: TrialError | None = None

    @property
    def best(self) -> EpochReport | None:
        """The report of the best epoch, if there is one."""
        return None if self.best_epoch is None else self.epochs[self.best_epoch - 1]

    def value(self, objective: Objective) -> float | None:
        """The objective's value at the best epoch, if there is one."""
        return None if self.best is None else self.best.metrics[objective.metric]
