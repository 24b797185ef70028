"""The part of an engine that is the same on each Keras backend: building a network, its session."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.errors import ModelError
from tuner.files import replaced
from tuner.models.known_models import architecture, build_from
from tuner.models.model_file import load_verified
from tuner.training.data import Rows, TrainingData, spread
from tuner.training.engines.recipes import POLICIES
from tuner.training.plan import KeptModel, TrialPlan
from tuner.training.rounding import distance, within_noise

if TYPE_CHECKING:
    import keras

_CHECKED_ROWS = 64
"""The number of rows on which a saved file is compared with its network."""


def seeded_network(plan: TrialPlan, data: TrainingData) -> tuple["keras.Model", tuple[str, ...]]:
    """Builds a plan's network from its seed, in its precision.

    Returns:
        The network, and a remark if it does not suit the range of its pixels.

    Raises:
        ModelError: the model function refuses its parameters, or returns no fitting model.
    """
    import keras

    from tuner.models.input_range import check_range

    keras.backend.clear_session(free_memory=False)
    if keras.backend.backend() == "jax":
        # Keras would rebuild errors from their text, which those of JAX do not allow.
        keras.config.disable_traceback_filtering()
    keras.config.set_dtype_policy(POLICIES[plan.precision])
    keras.utils.set_random_seed(plan.seed)
    model = build_from(plan.model.name, plan.params, data.image_shape, data.classes)
    return model, check_range(plan.model.name, model, data.image_shape, plan.pixels)


class KerasSession:
    """The part of `Session` that does not depend on the backend."""

    def __init__(self, model: "keras.Model", plan: TrialPlan, remarks: Sequence[str]) -> None:
        self._model = model
        self._plan = plan
        self._remarks = tuple(remarks)
        self._epoch = 0
        """The number of epochs trained so far."""

    @property
    def parameters(self) -> int:
        """The number of weights of the network, trainable or not."""
        return int(self._model.count_params())

    @property
    def architecture(self) -> str:
        """A digest of the network's layers and their shapes."""
        return architecture(self._model)

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        """Writes the network with `weights` as a `.keras` file, atomically.

        Raises:
            OSError: the file cannot be written.
        """
        self._model.set_weights(weights)
        with replaced(path) as partial:
            self._model.save(partial)

    def check_file(self, model: KeptModel, rows: Rows, answers: NDArray[np.float32]) -> None:
        """Loads a saved file as promotion will, and compares its answers with the network's.

        Args:
            model: the file.
            rows: the watched rows.
            answers: the network's probabilities for them, shape (N, classes).

        Raises:
            ModelError: Keras refuses the file, or it answers differently.
        """
        with _without_local_classes():
            loaded = load_verified(model.path, model.sha256)
        checked = rows.sample(_CHECKED_ROWS)
        found = np.asarray(loaded(checked.pixels(self._plan.pixels), training=False), np.float32)
        expected = answers[spread(len(rows), _CHECKED_ROWS)]
        apart = distance(found, expected)
        if np.isfinite(apart) and not within_noise(apart, expected, self._plan.precision):
            raise ModelError(
                f"{self._plan.model.name}: what Keras saves of it is another network: its "
                f"probabilities differ by {apart:.2g}; get_config of its layers must return "
                "everything that they compute with"
            )


@contextmanager
def _without_local_classes() -> Iterator[None]:
    """Hides classes registered inside a function: promotion imports the module, but calls none."""
    import keras

    known = keras.saving.get_custom_objects()
    hidden = {name: kind for name, kind in known.items() if "<locals>" in kind.__qualname__}
    for name in hidden:
        del known[name]
    try:
        yield
    finally:
        known.update(hidden)
