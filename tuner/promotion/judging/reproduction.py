"""Reproduction: checks that a kept model file gives the figures that its study recorded.

A model file with the right hash can still be another network than the one that was trained: it
lacks what a layer's configuration leaves out.
"""

import numpy as np
from numpy.typing import NDArray

from tuner.datasets.split import stratified_split
from tuner.datasets.store import read_arrays
from tuner.errors import ModelError
from tuner.inference.predictor import Predictor
from tuner.promotion.candidate import Candidate, Validated
from tuner.spec.section import Frozen
from tuner.training.plan import Precision
from tuner.training.rounding import mean_noise, undecided
from tuner.training.scores import cross_entropy


class Reproduction(Frozen):
    """The recorded figures of the best epoch, and those of the file on the same rows."""

    rows: int
    recorded_accuracy: float
    accuracy: float
    recorded_loss: float
    loss: float
    noise: float
    """The change of the loss that rounding may cause, in nats."""
    undecided: int
    """The number of rows whose class rounding may change."""

    @property
    def passed(self) -> bool:
        """Whether the two differ by rounding alone."""
        same_accuracy = agree(self.accuracy, self.recorded_accuracy, self.rows, self.undecided)
        return same_accuracy and abs(self.loss - self.recorded_loss) <= self.noise


def agree(accuracy: float, recorded: float, rows: int, undecided: int) -> bool:
    """Whether two accuracies on the same rows differ by no more than the undecided rows."""
    # Half a row more, since shares of rows are not exact in binary.
    return abs(accuracy - recorded) * rows <= undecided + 0.5


def compare(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.integer],
    validated: Validated,
    precision: Precision,
) -> Reproduction:
    """Compares probabilities, float32 of shape (N, classes), with the recorded figures."""
    return Reproduction(
        rows=len(labels),
        recorded_accuracy=validated.accuracy,
        accuracy=float(np.mean(probabilities.argmax(axis=1) == labels)),
        recorded_loss=validated.loss,
        loss=cross_entropy(probabilities, labels),
        noise=mean_noise(probabilities, precision),
        undecided=undecided(probabilities, precision),
    )


def reproduce(candidate: Candidate, validated: Validated, predictor: Predictor) -> Reproduction:
    """Scores the file on the study's validation rows and compares the figures with the recorded.

    Args:
        candidate: the trial.
        validated: the recorded figures.
        predictor: the model of the fetched file.

    Raises:
        ModelError: the file is another network than the one that was validated.
    """
    images, labels = read_arrays(candidate.dataset.train)
    _, held_out = stratified_split(labels, validated.rows, validated.split_seed)
    answers = predictor.probabilities(images[held_out])
    found = compare(answers, labels[held_out], validated, candidate.precision)
    if not found.passed:
        raise ModelError(
            f"trial {candidate.number} of {candidate.study}: its file is another network than the "
            f"one that was trained: on the {found.rows} validation rows it has accuracy "
            f"{found.accuracy:.4f} and loss {found.loss:.4f}, its study recorded "
            f"{found.recorded_accuracy:.4f} and {found.recorded_loss:.4f}; what a layer keeps "
            "besides its configuration and its weights is not in a file"
        )
    return found
