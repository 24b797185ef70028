"""Reproduction: the figures that a study recorded must come out of the file that it kept.

A model file can be another network than the one that was trained, whatever its hash says: what
a layer's configuration leaves out is not in it.
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
    """What was recorded at the best epoch, and what the file gives on the same rows."""

    rows: int
    recorded_accuracy: float
    accuracy: float
    recorded_loss: float
    loss: float
    noise: float
    """How far rounding may move the loss, in nats."""
    undecided: int
    """Rows that rounding may put into another class."""

    @property
    def passed(self) -> bool:
        """Whether nothing but rounding is between the two."""
        same_accuracy = agree(self.accuracy, self.recorded_accuracy, self.rows, self.undecided)
        return same_accuracy and abs(self.loss - self.recorded_loss) <= self.noise


def agree(accuracy: float, recorded: float, rows: int, undecided: int) -> bool:
    """Whether two accuracies on the same rows differ by no more than the undecided ones."""
    # Half a row more, since shares of rows are no binary fractions.
    return abs(accuracy - recorded) * rows <= undecided + 0.5


def hold_against(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.integer],
    validated: Validated,
    precision: Precision,
) -> Reproduction:
    """Holds the answers of a model, shape (N, classes), against what its study recorded."""
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
    """Scores the file on the study's validation rows and holds it against what was recorded.

    Args:
        candidate: the trial.
        validated: what its study recorded.
        predictor: the model of the fetched file.

    Raises:
        ModelError: the file is another network than the one that was validated.
    """
    images, labels = read_arrays(candidate.dataset.train)
    _, held_out = stratified_split(labels, validated.rows, validated.split_seed)
    answers = predictor.probabilities(images[held_out])
    found = hold_against(answers, labels[held_out], validated, candidate.precision)
    if not found.passed:
        raise ModelError(
            f"trial {candidate.number} of {candidate.study}: its file is another network than the "
            f"one that was trained: on the {found.rows} validation rows it has accuracy "
            f"{found.accuracy:.4f} and loss {found.loss:.4f}, its study recorded "
            f"{found.recorded_accuracy:.4f} and {found.recorded_loss:.4f}; what a layer keeps "
            "besides its configuration and its weights is not in a file"
        )
    return found
