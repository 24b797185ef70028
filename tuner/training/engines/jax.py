"""The JAX engine: one compiled program an epoch, shared by trials that differ in its inputs."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tuner.models.contract import check_probabilities
from tuner.spec.recipe import Recipe
from tuner.training.data import TrainingData
from tuner.training.engines import recipes
from tuner.training.engines.base import TrainedEpoch
from tuner.training.engines.keras_session import KerasSession, seeded_network
from tuner.training.engines.recipes import gpu_precisions
from tuner.training.plan import Precision, TrialPlan

if TYPE_CHECKING:
    import keras

    from tuner.training.engines.jax_program import JaxProgram, ResidentData, Schedule, State
    from tuner.training.engines.programs import Programs


class JaxEngine:
    """Trains with Keras on JAX, on the one device that this process sees.

    Uses JAX as this process has set it up; a process of its own calls `start`. Needs no
    TensorFlow. Keras imports it all the same where it is installed, to seed it and to save a
    model, and offers no setting against that: this costs a trainer about 0.5 GB of memory and
    2 s of processor time, once.
    """

    backend = "jax"

    def __init__(self) -> None:
        self._resident: tuple[TrainingData, ResidentData] | None = None
        self._programs: Programs[JaxProgram] | None = None

    @classmethod
    def start(cls, threads: int) -> Self:
        """Loads JAX for `threads` threads; takes seconds."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ["KERAS_BACKEND"] = cls.backend
        os.environ["PJRT_NPROC"] = str(threads)  # XLA's number of processors
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "-1":
            os.environ["JAX_PLATFORMS"] = "cpu"  # else CUDA's plug-in reports its absence as errors
        import jax

        jax.devices()
        import keras

        keras.utils.set_random_seed(0)  # imports TensorFlow now, so that no trial waits for it
        return cls()

    @property
    def platform(self) -> Literal["cpu", "gpu"]:
        """`gpu` if JAX finds one, for which it needs the package of the extra `jax-cuda`."""
        import jax

        return "gpu" if jax.default_backend() == "gpu" else "cpu"

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Also bfloat16 on a GPU with instructions for it; XLA emulates it slowly on processors."""
        import jax

        if self.platform == "cpu":
            return ("float32",)
        major, minor = str(jax.devices()[0].compute_capability).split(".")
        return gpu_precisions((int(major), int(minor)))

    def session(self, plan: TrialPlan, data: TrainingData) -> "JaxSession":
        """Builds the plan's network from its seed, ready for its first epoch."""
        model, unsuited = seeded_network(plan, data)
        augment = _augmentation(plan.recipe, data.image_shape)
        rows = self._rows(data)
        program, remarks = self._program(plan, model, augment, rows)
        state = program.start(model, augment)
        check_probabilities(plan.model.name, program.first_answers(state, rows.sample))
        return JaxSession(model, program, state, plan, rows, unsuited + remarks)

    def versions(self) -> dict[str, str]:
        """The versions of the packages that the results depend on."""
        import jax
        import jaxlib
        import keras

        return {
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        }

    def _program(
        self,
        plan: TrialPlan,
        model: "keras.Model",
        augment: "list[keras.Layer]",
        rows: "ResidentData",
    ) -> tuple["JaxProgram", tuple[str, ...]]:
        from tuner.training.engines.jax_program import JaxProgram
        from tuner.training.engines.programs import Programs

        if self._programs is None:
            self._programs = Programs("weight_decay", "label_smoothing")
        return self._programs.fitting(
            plan,
            model,
            lambda network, recipe: JaxProgram(
                network, recipes.optimizer(recipe), augment, rows.classes, plan.pixels
            ),
            lambda program, network: program.difference(network, rows.sample),
        )

    def _rows(self, data: TrainingData) -> "ResidentData":
        """The rows on the device, kept from trial to trial."""
        from tuner.training.engines.jax_program import ResidentData

        if self._resident is None or self._resident[0] is not data:
            self._resident = (data, ResidentData.of(data))
        return self._resident[1]


class JaxSession(KerasSession):
    """One network's state, and the program that trains it."""

    def __init__(
        self,
        model: "keras.Model",
        program: "JaxProgram",
        state: "State",
        plan: TrialPlan,
        rows: "ResidentData",
        remarks: tuple[str, ...],
    ) -> None:
        super().__init__(model, plan, remarks)
        self._program = program
        self._state = state
        self._rows = rows

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why an epoch is not one program shared with other trials, if it is not."""
        return self._remarks + self._program.remarks

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        """Trains on the rows of `order`, int32 of shape (rows,), by the compiled program."""
        schedule, batch_size = self._schedule(len(order)), self._plan.recipe.batch_size
        self._state, sums = self._program.train_epoch(
            self._state, self._rows.train, order, schedule, batch_size
        )
        self._epoch += 1
        return TrainedEpoch(float(sums.loss) / len(order), np.array(sums.confusion, np.int64))

    def probabilities(self) -> NDArray[np.float32]:
        """The class probabilities of the watched rows, float32 of shape (N, classes)."""
        return np.array(self._program.probabilities(self._state, self._rows.watched.images))

    def weights(self) -> list[NDArray[np.generic]]:
        """A copy of every weight."""
        return self._program.weights(self._state)

    def state(self) -> list[NDArray[np.generic]]:
        """A copy of everything that later epochs depend on."""
        return self._program.arrays(self._state)

    def restore(self, state: Sequence[NDArray[np.generic]], epochs: int) -> None:
        """Takes over the state that a session of the same plan had after `epochs` epochs.

        Raises:
            ValueError: the state is that of another network or optimizer.
        """
        self._state = self._program.restored(self._state, state)
        self._epoch = epochs

    def _schedule(self, rows: int) -> "Schedule":
        """The inputs of the next epoch: learning rates, weight decay, label smoothing."""
        from tuner.training.engines.jax_program import Schedule

        recipe = self._plan.recipe
        return Schedule(
            recipes.rates(recipe, self._epoch, rows, self._plan.epochs),
            np.float32(recipe.weight_decay),
            np.float32(recipe.label_smoothing),
        )


def _augmentation(recipe: Recipe, image_shape: tuple[int, int, int]) -> "list[keras.Layer]":
    layers = recipes.augmentation(recipe)
    for layer in layers:
        layer.build((None, *image_shape))
    return layers
