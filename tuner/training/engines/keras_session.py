"""What a session is on any Keras backend: one network, its plan, and what to say of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.errors import ModelError
from tuner.files import replaced
from tuner.models.known_models import architecture
from tuner.models.model_file import load_verified
from tuner.training.data import Rows, spread
from tuner.training.plan import KeptModel, TrialPlan
from tuner.training.rounding import distance, within_noise

if TYPE_CHECKING:
    import keras

_ASKED = 64
"""Of how many rows a saved file is asked."""


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

    @property
    def architecture(self) -> str:
        """A digest of the network's layers and their shapes."""
        return architecture(self._model)

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        """Writes the network with `weights` as a `.keras` file, atomically."""
        self._model.set_weights(weights)
        with replaced(path) as partial:
            self._model.save(partial)

    def check_file(self, model: KeptModel, rows: Rows, answers: NDArray[np.float32]) -> None:
        """Loads a saved file as promotion will, and holds its answers against the network's."""
        with _classes_of_modules():
            loaded = load_verified(model.path, model.sha256)
        asked = rows.sample(_ASKED)
        said = np.asarray(loaded(asked.pixels(self._plan.pixels), training=False), np.float32)
        expected = answers[spread(len(rows), _ASKED)]
        apart = distance(said, expected)
        if np.isfinite(apart) and not within_noise(apart, expected, self._plan.precision):
            raise ModelError(
                f"{self._plan.model.name}: what Keras saves of it is another network: its "
                f"probabilities are {apart:.2g} off; keep in its layers' get_config all that "
                "they compute with"
            )


@contextmanager
def _classes_of_modules() -> Iterator[None]:
    """Hides the classes that a function registered: promotion imports the module and calls none."""
    import keras

    known = keras.saving.get_custom_objects()
    hidden = {name: kind for name, kind in known.items() if "<locals>" in kind.__qualname__}
    for name in hidden:
        del known[name]
    try:
        yield
    finally:
        known.update(hidden)
