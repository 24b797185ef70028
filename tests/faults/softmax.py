"""An engine that trains a softmax in NumPy, so that real trainer processes start at once.

It stands where TensorFlow's engine is imported from in every process that has
`tests/faults/site` on its PYTHONPATH, unless `FAULT_ENGINE=tensorflow` keeps that.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.faults import misfortunes
from tuner.errors import ModelError
from tuner.training.data import Rows, TrainingData
from tuner.training.engines.base import TrainedEpoch
from tuner.training.plan import KeptModel, Precision, TrialPlan
from tuner.training.scores import confusion_matrix

if TYPE_CHECKING:
    import keras

Array = NDArray[np.generic]


class SoftmaxSession:
    """One linear layer; its noise is its random state."""

    architecture = "softmax"
    remarks: tuple[str, ...] = ()

    def __init__(self, plan: TrialPlan, data: TrainingData) -> None:
        self._plan = plan
        self._data = data
        width = int(np.prod(data.train.images.shape[1:]))
        self._weights = np.zeros((width + 1, data.classes))
        self._velocity = np.zeros_like(self._weights)
        self._epochs = 0

    @property
    def parameters(self) -> int:
        return self._weights.size

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        self._epochs += 1
        noise = np.random.default_rng((self._plan.seed, self._epochs))
        labels, predicted, losses = [], [], []
        for first in range(0, len(order), self._plan.recipe.batch_size):
            misfortunes.befall(self._plan, self._epochs)
            rows = order[first : first + self._plan.recipe.batch_size]
            pixels, truth = _pixels(self._data.train.images[rows]), self._data.train.labels[rows]
            pixels = pixels * (noise.random(pixels.shape) > 0.1)
            found = _softmax(pixels @ self._weights)
            error = found - np.eye(self._data.classes)[truth]
            self._velocity = 0.9 * self._velocity + pixels.T @ error / len(rows)
            self._weights = self._weights - self._plan.recipe.learning_rate * self._velocity
            losses.extend(-np.log(found[np.arange(len(rows)), truth].clip(1e-7)))
            labels.append(truth)
            predicted.append(found.argmax(axis=1))
        confusion = confusion_matrix(
            np.concatenate(labels), np.concatenate(predicted), self._data.classes
        )
        trained = TrainedEpoch(float(np.mean(losses)), confusion)
        return misfortunes.outcome(trained, self._plan, self._epochs)

    def probabilities(self) -> NDArray[np.float32]:
        found = _softmax(_pixels(self._data.watched.images) @ self._weights)
        return found.astype(np.float32)

    def weights(self) -> list[Array]:
        return [self._weights.copy()]

    def state(self) -> list[Array]:
        return [self._weights.copy(), self._velocity.copy()]

    def restore(self, state: Sequence[Array], epochs: int) -> None:
        self._weights, self._velocity = (np.array(each, np.float64) for each in state)
        self._epochs = epochs

    def save(self, weights: list[Array], path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, weights[0])

    def check_file(self, model: KeptModel, rows: Rows, answers: NDArray[np.float32]) -> None:
        with model.path.open("rb") as file:
            found = _softmax(_pixels(rows.images) @ np.load(file))
        if not np.allclose(found, answers, atol=1e-6):
            raise ModelError(f"{model.path}: holds other weights than those that trained")


class TensorFlowEngine:
    """In its place."""

    backend = "tensorflow"
    platform: Literal["cpu"] = "cpu"
    precisions: tuple[Precision, ...] = ("float32",)

    @classmethod
    def start(cls, threads: int) -> "TensorFlowEngine":
        del threads
        return cls()

    def session(self, plan: TrialPlan, data: TrainingData) -> SoftmaxSession:
        misfortunes.check_buildable(plan.params.get("misfortune"))
        return SoftmaxSession(plan, data)

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}


def build(
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    pause_s: float = 0.0,
    misfortune: str = "none",
    strikes_in: int = 0,
    prints: int = 0,
) -> "keras.Model":
    """The same in Keras; the engine above builds nothing. See `misfortunes`."""
    import keras
    from keras import layers

    del pause_s, strikes_in, prints
    misfortunes.check_buildable(misfortune)
    return keras.Sequential(
        [
            layers.Input(input_shape),
            layers.Dropout(0.1),
            layers.Flatten(),
            layers.Dense(classes, activation="softmax", dtype="float32"),
        ]
    )


def _pixels(images: NDArray[Any]) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1) / 255
    return np.hstack([flat, np.ones((len(flat), 1))])


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
