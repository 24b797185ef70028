"""The interface between the training loop and a backend."""

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
    """What one pass over the training rows gave, measured while the weights moved.

    `loss` is the mean per row of what the optimizer minimised.
    """

    loss: float
    confusion: Confusion


class Session(Protocol):
    """One network in training. The weights and the optimizer's state live in here."""

    @property
    def parameters(self) -> int:
        """How many weights the network has, trainable or not."""
        ...

    @property
    def architecture(self) -> str:
        """A digest of the network's layers and their shapes: equal for those that cost the same.

        Rates, seeds and names make no difference.
        """
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why the trial trained in another way than as one program shared with other trials."""
        ...

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        """Trains on the rows that `order` lists, in batches, the last one possibly smaller."""
        ...

    def probabilities(self) -> NDArray[np.float32]:
        """Class probabilities for every watched row, shape (N, classes), without dropout.

        The validation rows; without a validation split a sample of the training rows.
        """
        ...

    def weights(self) -> list[NDArray[np.generic]]:
        """A copy of every weight."""
        ...

    def state(self) -> list[NDArray[np.generic]]:
        """A copy of all that later epochs depend on: weights, optimizer, random state."""
        ...

    def restore(self, state: Sequence[NDArray[np.generic]], epochs: int) -> None:
        """Goes on from a state that a session of the same plan had after so many epochs.

        Raises:
            ValueError: it is another network's or optimizer's.
        """
        ...

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        """Writes the network with `weights` as a `.keras` file, atomically."""
        ...

    def check_file(self, model: KeptModel, rows: Rows, answers: NDArray[np.float32]) -> None:
        """Loads a saved file as promotion will, and holds its answers against the network's.

        Args:
            model: the file.
            rows: the watched rows.
            answers: what the network said of them with the file's weights, shape (N, classes).

        Raises:
            ModelError: Keras refuses the file, or it answers otherwise.
        """
        ...


class Engine(Protocol):
    """Makes sessions on one device, which it owns until its process ends."""

    @property
    def backend(self) -> str:
        """The Keras backend: `tensorflow` or `jax`."""
        ...

    @property
    def platform(self) -> Literal["cpu", "gpu"]:
        """What the backend found to compute on; a GPU's library may be missing."""
        ...

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What the device computes in without emulating it; float32 always, and first."""
        ...

    def session(self, plan: TrialPlan, data: TrainingData) -> Session:
        """Builds the plan's network, seeded, ready for its first epoch.

        Raises:
            ModelError: the model function refuses its parameters.
        """
        ...

    def versions(self) -> dict[str, str]:
        """The versions of the packages that the results depend on."""
        ...
