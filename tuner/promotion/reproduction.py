"""Reproduction: the figures that a study recorded must come out of the file that it kept.

A model file can be another network than the one that was trained, whatever its hash says: what
a layer's configuration leaves out is not in it.
"""

import numpy as np
from numpy.typing import NDArray

from tuner.datasets.split import stratified_split
from tuner.datasets.store import DatasetInfo, read_arrays
from tuner.errors import ModelError
from tuner.promotion.candidate import Validated
from tuner.promotion.predictor import Predictor
from tuner.spec.search_space import Frozen
from tuner.training.plan import Precision
from tuner.training.scores import cross_entropy

_NOISE: dict[Precision, float] = {"float32": 0.01, "bfloat16": 0.05}
"""How far rounding moves the logarithm of a likely class's probability.

Measured on 22 trained networks, with up to eight convolutions, on TensorFlow and JAX: bfloat16
moved it by up to 0.044 from one way of compiling to another, and the mean loss by up to 0.0008;
float32 moved the loss by 3.5e-8. On a GPU, float32 is TensorFloat-32, which has three bits more
than bfloat16."""
_OF_THE_MEAN = 0.2
"""Which part of that the mean loss may move by, since rows are rounded both ways."""


class Reproduction(Frozen):
    """What was recorded at the best epoch, and what the file gives on the same rows.

    Rounding moves the logarithm of a probability by no more than a noise that the precision
    implies, so a row changes its class only where the logarithms of its two largest probabilities
    are less than twice the noise apart.
    """

    rows: int
    recorded_accuracy: float
    accuracy: float
    recorded_loss: float
    loss: float
    noise: float
    undecided: int
    """Rows that rounding may put into another class."""

    @property
    def passed(self) -> bool:
        """Whether nothing but rounding is between the two."""
        # Half a row more, since shares of rows are no binary fractions.
        flips = (self.undecided + 0.5) / self.rows
        same_accuracy = abs(self.accuracy - self.recorded_accuracy) <= flips
        return same_accuracy and abs(self.loss - self.recorded_loss) <= _OF_THE_MEAN * self.noise


def hold_against(
    probabilities: NDArray[np.float32], labels: NDArray[np.integer], validated: Validated
) -> Reproduction:
    """Holds the answers of a model, shape (N, classes), against what its study recorded."""
    noise = _NOISE[validated.precision]
    return Reproduction(
        rows=len(labels),
        recorded_accuracy=validated.accuracy,
        accuracy=float(np.mean(probabilities.argmax(axis=1) == labels)),
        recorded_loss=validated.loss,
        loss=cross_entropy(probabilities, labels),
        noise=noise,
        undecided=int(np.sum(_leads(probabilities) < 2 * noise)),
    )


def reproduce(
    predictor: Predictor, dataset: DatasetInfo, validated: Validated, name: str
) -> Reproduction:
    """Scores the file on the study's validation rows and holds it against what was recorded.

    Args:
        predictor: the model of the fetched file.
        dataset: the data that it was trained on.
        validated: what its study recorded.
        name: of the model, for the message.

    Raises:
        ModelError: the file is another network than the one that was validated.
    """
    images, labels = read_arrays(dataset.train)
    _, held_out = stratified_split(labels, validated.rows, validated.split_seed)
    answers = predictor.probabilities(images[held_out])
    found = hold_against(answers, labels[held_out], validated)
    if not found.passed:
        raise ModelError(
            f"{name}: its file is another network than the one that was trained: on the "
            f"{found.rows} validation rows it has accuracy {found.accuracy:.4f} and loss "
            f"{found.loss:.4f}, its study recorded {found.recorded_accuracy:.4f} and "
            f"{found.recorded_loss:.4f}; what a layer keeps besides its configuration and its "
            "weights is not in a file"
        )
    return found


def _leads(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """By how much the logarithm of each row's largest probability exceeds the next one."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:].astype(np.float64)
    second, first = np.log(np.maximum(two, np.finfo(np.float32).tiny)).T
    leads: NDArray[np.float64] = first - second
    return leads
