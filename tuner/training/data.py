"""The training and validation rows of a trainer, split once and kept in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.datasets.split import stratified_split
from tuner.datasets.store import read_arrays
from tuner.spec.recipe import Pixels, scale
from tuner.training.plan import TrialPlan

Images = NDArray[np.uint8] | NDArray[np.float32]
Labels = NDArray[np.int64]

_WATCHED, _SAMPLE = 256, 16


@dataclass(frozen=True)
class Rows:
    """Images, shape (N, height, width, channels), and their labels, shape (N,).

    uint8 pixels lie in [0, 255], float32 pixels in [0, 1].
    """

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, pixels: Pixels) -> NDArray[np.float32]:
        """The images as a network's input: float32 in the range that `pixels` names."""
        return self.images.astype(np.float32) * np.float32(scale(pixels, self.images.dtype.name))

    def sample(self, most: int) -> "Rows":
        """At most `most` of the rows, evenly spread."""
        chosen = spread(len(self), most)
        return Rows(self.images[chosen], self.labels[chosen])


def spread(rows: int, most: int) -> NDArray[np.int64]:
    """The numbers of at most `most` of `rows` rows, evenly spread."""
    return np.linspace(0, rows - 1, min(most, rows)).astype(np.int64)


@dataclass(frozen=True)
class TrainingData:
    """The rows that one study trains and validates on, without any test row."""

    train: Rows
    validation: Rows
    held_out: NDArray[np.int64]
    """The numbers of the validation rows among the training images, shape (N,)."""
    classes: int

    @property
    def watched(self) -> Rows:
        """The rows for which the network gives probabilities after every epoch; never empty.

        The validation rows; if there are none, a sample of the training rows, to check that the
        network gives probabilities.
        """
        return self.validation if len(self.validation) else self.train.sample(_WATCHED)

    @property
    def sample(self) -> Rows:
        """A few training rows, on which a network is tested before its first epoch."""
        return self.train.sample(_SAMPLE)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def load(plan: TrialPlan) -> TrainingData:
    """Reads the plan's training rows and splits off the validation rows, stratified.

    Raises:
        DataError: the folder cannot be read, or the rows cannot be split.
    """
    images, labels = read_arrays(plan.dataset)
    train, held_out = stratified_split(labels, plan.validation, plan.split_seed)
    return TrainingData(
        train=Rows(images[train], np.asarray(labels[train])),
        validation=Rows(images[held_out], np.asarray(labels[held_out])),
        held_out=held_out,
        classes=len(plan.classes),
    )
