"""What a session is on any Keras backend: one network, its plan, and what to say of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.training.plan import TrialPlan

if TYPE_CHECKING:
    import keras


class KerasSession:
    """The part of `Session` that does not depend on the backend."""

    def __init__(self, model: "keras.Model", plan: TrialPlan, remarks: Sequence[str]) -> None:
        self._model = model
        self._plan = plan
        self._remarks = tuple(remarks)
        self._epoch = 0
        """How many epochs are trained."""

    @property
    def parameters(self) -> int:
        """How many weights the network has, trainable or not."""
        return int(self._model.count_params())

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        """Writes the network with `weights` as a `.keras` file, atomically."""
        self._model.set_weights(weights)
        partial = path.with_name(f"partial-{path.name}")
        try:
            self._model.save(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
