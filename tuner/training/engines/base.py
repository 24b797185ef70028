"""The protocols between the training loop and a backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tuner.training.data import Rows, TrainingData
from tuner.training.plan import KeptModel, Precision, TrialPlan
from tuner.training.scores import Confusion


@dataclass(frozen=True)
class TrainedEpoch:
    """The result of one pass over the training rows, measured while the weights changed.

    `loss` is the mean per row of the loss that the optimizer minimises; `confusion` counts rows by
    true class and prediction, int64 of shape (classes, classes).
    """

    loss: float
    confusion: Confusion


class Session(Protocol):
    """One network in training, with its weights and the optimizer's state."""

    @property
    def parameters(self) -> int:
        """The number of weights of the network, trainable or not."""
        ...

    @property
    def architecture(self) -> str:
        """A digest of the network's layers and their shapes, the same for networks of equal cost.

        Rates, seeds and names do not change it.
        """
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why the trial does not train as one program shared with other trials, if it does not."""
        ...

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        """Trains one epoch on the rows of `order`, shape (rows,); the last batch may be smaller."""
        ...

    def probabilities(self) -> NDArray[np.float32]:
        """The class probabilities of the watched rows, shape (N, classes), without dropout.

        The watched rows are the validation rows, or, without any, a sample of the training rows.
        """
        ...

    def weights(self) -> list[NDArray[np.generic]]:
        """A copy of every weight."""
        ...

    def state(self) -> list[NDArray[np.generic]]:
        """A copy of everything that later epochs depend on: weights, optimizer, random state."""
        ...

    def restore(self, state: Sequence[NDArray[np.generic]], epochs: int) -> None:
        """Takes over the state that a session of the same plan had after `epochs` epochs.

        Raises:
            ValueError: the state is that of another network or optimizer.
        """
        ...

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        """Writes the network with `weights` as a `.keras` file, atomically.

        Raises:
            OSError: the file cannot be written.
        """
        ...

    def check_file(self, model: KeptModel, rows: Rows, answers: NDArray[np.float32]) -> None:
        """Loads a saved file as promotion will, and compares its answers with the network's.

        Args:
            model: the file.
            rows: the watched rows.
            answers: the network's probabilities for them with the file's weights, (N, classes).

        Raises:
            ModelError: Keras refuses the file, or it answers differently.
        """
        ...


class Engine(Protocol):
    """Makes sessions on one device, which belongs to it until its process ends."""

    @property
    def backend(self) -> str:
        """The Keras backend: `tensorflow` or `jax`."""
        ...

    @property
    def platform(self) -> Literal["cpu", "gpu"]:
        """The kind of device that the backend uses: `cpu` also if a GPU's libraries are missing."""
        ...

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that the device has instructions for; float32 always, and first."""
        ...

    def session(self, plan: TrialPlan, data: TrainingData) -> Session:
        """Builds the plan's network from its seed, ready for its first epoch.

        Raises:
            ModelError: the model function refuses its parameters, or returns no fitting model.
        """
        ...

    def versions(self) -> dict[str, str]:
        """The versions of the packages that the results depend on."""
        ...
