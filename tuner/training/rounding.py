"""Rounding: how far the probabilities of one network differ between two computations of them.

Another batch size, compiler or machine adds in another order. A larger difference means another
network.
"""

import numpy as np
from numpy.typing import NDArray

from tuner.training.plan import Precision

_SPACING: dict[Precision, float] = {"float32": 2**-10, "bfloat16": 2**-7}
"""The distance between one number and the next, as a share of the number. A GPU multiplies float32
as TensorFloat-32, which has no more bits than assumed here."""
_NARROWEST = 10.0
"""The least distance assumed between a network's logits, since its layers round too."""
_OF_THE_MEAN = 0.2
"""The share of the noise by which a mean may change, since rows are rounded up and down."""


def log_noise(probabilities: NDArray[np.float32], precision: Precision) -> NDArray[np.float64]:
    """How far rounding changes the logarithm of each row's largest probability.

    Logits are rounded in proportion to their size, so this is the spacing of the precision times
    the distance between the row's largest and smallest logit. `benchmarks/rounding.py` computes the
    answers of 18 networks, dense and with up to eight convolutions, eagerly, by XLA and one by one:
    in bfloat16 the logarithms move by up to 0.6 of this, and the mean loss by 0.02 of it (on two
    cores, TensorFlow 2.21).

    Args:
        probabilities: float32 of shape (N, classes).
        precision: the precision that they were computed in.

    Returns:
        float64 of shape (N,).
    """
    logits = _logarithms(probabilities)
    apart: NDArray[np.float64] = logits.max(axis=1) - logits.min(axis=1)
    return _SPACING[precision] * np.maximum(_NARROWEST, apart)


def mean_noise(probabilities: NDArray[np.float32], precision: Precision) -> float:
    """How far rounding changes the mean loss, in nats, of probabilities of shape (N, classes)."""
    return _OF_THE_MEAN * float(log_noise(probabilities, precision).mean())


def undecided(probabilities: NDArray[np.float32], precision: Precision) -> int:
    """The number of rows of `probabilities`, (N, classes), whose class rounding may change.

    It can do so only where the logarithms of a row's two largest probabilities are less than
    twice the noise apart.
    """
    second, first = np.partition(_logarithms(probabilities), -2, axis=1)[:, -2:].T
    return int(np.sum(first - second < 2 * log_noise(probabilities, precision)))


def distance(answers: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """The largest difference in a row of two arrays, (N, classes), as the mean over the rows."""
    return float(np.abs(answers - others).max(axis=1).mean())


def within_noise(distance: float, answers: NDArray[np.float32], precision: Precision) -> bool:
    """Whether answers, (N, classes), with this `distance` may come from the same network.

    A probability p changes by p (1 - p) times the change of its logarithm's distance to the others,
    which is at most a quarter of twice the noise. NaN is never within the noise.
    """
    return distance <= float(log_noise(answers, precision).mean()) / 2


def _logarithms(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    tiny = np.finfo(np.float32).tiny
    logarithms: NDArray[np.float64] = np.log(np.maximum(probabilities.astype(np.float64), tiny))
    return logarithms
