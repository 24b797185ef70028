"""Rounding: how far the answers of one network lie apart, computed in one way or another.

A batch of another size, another compiler or another machine adds in another order. What differs
by more is another network.
"""

import numpy as np
from numpy.typing import NDArray

from tuner.training.plan import Precision

_SPACING: dict[Precision, float] = {"float32": 2**-10, "bfloat16": 2**-7}
"""Between one number and the next, as a share of it. A GPU multiplies float32 as TensorFloat-32,
which has no more bits than these."""
_NARROWEST = 10.0
"""A network's logits are never taken to lie closer than this, since its layers round too."""
_OF_THE_MEAN = 0.2
"""Which part of the noise a mean may move by, since rows are rounded both ways."""


def log_noise(probabilities: NDArray[np.float32], precision: Precision) -> NDArray[np.float64]:
    """How far rounding moves the logarithm of each row's largest probability.

    Logits are rounded in proportion to their size, so this is the spacing of the precision times
    the distance between the row's largest and smallest logit. `benchmarks/rounding.py` computes the
    answers of 18 networks, dense and with up to eight convolutions, eagerly, by XLA and one by one:
    in bfloat16 the logarithms move by up to 0.6 of this, and the mean loss by 0.02 of it (on two
    cores, TensorFlow 2.21).

    Args:
        probabilities: shape (N, classes).
        precision: that they were computed in.

    Returns:
        Shape (N,).
    """
    logits = _logarithms(probabilities)
    apart: NDArray[np.float64] = logits.max(axis=1) - logits.min(axis=1)
    return _SPACING[precision] * np.maximum(_NARROWEST, apart)


def mean_noise(probabilities: NDArray[np.float32], precision: Precision) -> float:
    """How far rounding moves the mean loss of these answers, shape (N, classes), in nats."""
    return _OF_THE_MEAN * float(log_noise(probabilities, precision).mean())


def undecided(probabilities: NDArray[np.float32], precision: Precision) -> int:
    """How many rows, shape (N, classes), rounding may put into another class.

    It does so only where the logarithms of a row's two largest probabilities are less than
    twice the noise apart.
    """
    second, first = np.partition(_logarithms(probabilities), -2, axis=1)[:, -2:].T
    return int(np.sum(first - second < 2 * log_noise(probabilities, precision)))


def distance(answers: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """How far a probability of a row lies apart at most, in the mean over the rows."""
    return float(np.abs(answers - others).max(axis=1).mean())


def within_noise(distance: float, answers: NDArray[np.float32], precision: Precision) -> bool:
    """Whether answers at this `distance` may be of the same network.

    A probability p moves by p (1 - p) of what its logarithm's distance to the others moves by,
    which is at most a quarter of twice the noise. What is not a number is not the same.
    """
    return distance <= float(log_noise(answers, precision).mean()) / 2


def _logarithms(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    tiny = np.finfo(np.float32).tiny
    logarithms: NDArray[np.float64] = np.log(np.maximum(probabilities.astype(np.float64), tiny))
    return logarithms
