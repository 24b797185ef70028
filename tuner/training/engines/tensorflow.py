"""The TensorFlow engine: one compiled program an epoch, shared by trials that differ in inputs."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tuner.models.contract import check_probabilities
from tuner.training.data import TrainingData
from tuner.training.engines.base import TrainedEpoch
from tuner.training.engines.keras_session import KerasSession, seeded_network
from tuner.training.engines.recipes import augmentation, gpu_precisions, processor_precisions, rates
from tuner.training.plan import Precision, TrialPlan

if TYPE_CHECKING:
    import keras

    from tuner.training.engines.tensorflow_program import TensorFlowProgram


class TensorFlowEngine:
    """Trains with Keras on TensorFlow, on the one device that this process sees.

    Uses TensorFlow as this process has set it up; a process of its own calls `start`.
    """

    backend = "tensorflow"

    def __init__(self) -> None:
        self._data: TrainingData | None = None

    @classmethod
    def start(cls, threads: int) -> Self:
        """Loads TensorFlow for `threads` threads; takes seconds.

        Raises:
            RuntimeError: TensorFlow has computed in this process already.
        """
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ["KERAS_BACKEND"] = cls.backend
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(min(threads, 2))
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        return cls()

    @property
    def platform(self) -> Literal["cpu", "gpu"]:
        """`gpu` if TensorFlow finds one, for which it needs CUDA's libraries too."""
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Also bfloat16 if the processor or GPU has instructions for it."""
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            return processor_precisions()
        details = tf.config.experimental.get_device_details(gpus[0])
        return gpu_precisions(details.get("compute_capability", (0, 0)))

    def session(self, plan: TrialPlan, data: TrainingData) -> "TensorFlowSession":
        """Builds the plan's network from its seed, ready for its first epoch."""
        model, unsuited = seeded_network(plan, data)
        augment = augmentation(plan.recipe)
        program, remarks = self._program(plan, data, model)
        program.begin(model, augment)
        check_probabilities(plan.model.name, program.first_answers())
        return TensorFlowSession(program, model, plan, unsuited + remarks)

    def _program(
        self, plan: TrialPlan, data: TrainingData, model: "keras.Model"
    ) -> tuple["TensorFlowProgram", tuple[str, ...]]:
        from tuner.training.engines.programs import Programs
        from tuner.training.engines.tensorflow_program import TensorFlowProgram, TensorFlowRows

        if self._data is not data:
            programs: Programs[TensorFlowProgram] = Programs()
            self._data, self._programs = data, programs
            train, watched, sample = map(TensorFlowRows, (data.train, data.watched, data.sample))
            self._rows = (train, watched, sample)
        return self._programs.fitting(
            plan,
            model,
            lambda network, recipe: TensorFlowProgram(
                network, recipe, self._rows, data.classes, plan.pixels
            ),
            TensorFlowProgram.difference,
        )

    def versions(self) -> dict[str, str]:
        """The versions of the packages that the results depend on."""
        import keras
        import tensorflow as tf

        return {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}


class TensorFlowSession(KerasSession):
    """One trial's network, and the program that trains it."""

    def __init__(
        self,
        program: "TensorFlowProgram",
        model: "keras.Model",
        plan: TrialPlan,
        remarks: tuple[str, ...],
    ) -> None:
        super().__init__(model, plan, remarks)
        self._program = program

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why an epoch is not one program shared with other trials, if it is not."""
        return self._remarks + self._program.remarks

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        """Trains on the rows of `order`, int32 of shape (rows,), in one call of the program."""
        each = rates(self._plan.recipe, self._epoch, len(order), self._plan.epochs)
        self._epoch += 1
        return self._program.train_epoch(order, each, self._plan.recipe.batch_size)

    def probabilities(self) -> NDArray[np.float32]:
        """The class probabilities of the watched rows, float32 of shape (N, classes)."""
        return self._program.probabilities()

    def weights(self) -> list[NDArray[np.generic]]:
        """A copy of every weight."""
        return self._program.network.weights()

    def state(self) -> list[NDArray[np.generic]]:
        """A copy of everything that later epochs depend on."""
        return self._program.state()

    def restore(self, state: Sequence[NDArray[np.generic]], epochs: int) -> None:
        """Takes over the state that a session of the same plan had after `epochs` epochs.

        Raises:
            ValueError: the state is that of another network or optimizer.
        """
        self._program.restore(state)
        self._epoch = epochs
