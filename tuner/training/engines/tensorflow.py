"""The TensorFlow engine: one compiled program an epoch, kept from trial to trial.

The images stay in memory as they were read, uint8 mostly; the program gathers a batch by
its row numbers, casts it and trains on it, so that no step returns to Python. Learning rate,
batch size and dropout rates are inputs of the program, and the last, smaller batch runs
through the same trace.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tuner.models import registry
from tuner.spec.recipe import Recipe
from tuner.training.data import Rows, TrainingData
from tuner.training.engines.base import TrainedEpoch
from tuner.training.engines.recipes import augmentation, compiled_part, optimizer, rates
from tuner.training.plan import TrialPlan

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tuner.training.engines.network import Network

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_EVALUATION_BATCH = 500
_KEPT_PROGRAMS = 8
"""A program holds a network and its optimizer's state; a search over layers makes many."""


class TensorFlowEngine:
    """Trains with Keras on TensorFlow, on the one device that this process sees.

    Takes TensorFlow's runtime as it finds it; a process of its own calls `start`.
    """

    backend = "tensorflow"

    def __init__(self) -> None:
        self._data: TrainingData | None = None
        self._programs: OrderedDict[str, _Program] = OrderedDict()

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
        """`gpu` where TensorFlow found one: it needs CUDA's libraries as well as the device."""
        import tensorflow as tf

        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"

    def session(self, plan: TrialPlan, data: TrainingData) -> "TensorFlowSession":
        """Builds the plan's network, seeded, ready for its first epoch."""
        import keras

        keras.backend.clear_session(free_memory=False)
        keras.config.set_dtype_policy(_POLICIES[plan.precision])
        keras.utils.set_random_seed(plan.seed)
        model = registry.build(plan.model.name, plan.model.params, data.image_shape, data.classes)
        augment = augmentation(plan.recipe)
        program, remarks = self._program(plan, data, model)
        program.begin(model, augment)
        return TensorFlowSession(program, model, plan, remarks)

    def _program(
        self, plan: TrialPlan, data: TrainingData, model: "keras.Model"
    ) -> tuple["_Program", tuple[str, ...]]:
        """The program that fits the network: an earlier trial's, or a new one."""
        from tuner.training.engines.network import Network, signature

        if self._data is not data:
            self._programs.clear()
            self._data, self._rows = (
                data,
                (_ResidentRows(data.train), _ResidentRows(data.validation)),
            )
        try:
            key = "\n".join((plan.precision, compiled_part(plan.recipe), signature(model)))
        except ValueError as unknown:
            network = Network(model, shared=False)
            program = _Program(network, plan.recipe, self._rows, data.classes)
            return program, (f"compiled anew for this trial: {unknown}",)
        if key in self._programs:
            self._programs.move_to_end(key)
        else:
            network = Network(model, shared=True)
            self._programs[key] = _Program(network, plan.recipe, self._rows, data.classes)
            if len(self._programs) > _KEPT_PROGRAMS:
                self._programs.popitem(last=False)
        return self._programs[key], ()

    def versions(self) -> dict[str, str]:
        """The versions of the packages that the results depend on."""
        import keras
        import tensorflow as tf

        return {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}


class _ResidentRows:
    """Rows as tensors on the device."""

    def __init__(self, rows: Rows) -> None:
        import tensorflow as tf

        self.images = tf.constant(rows.images)
        self.labels = tf.constant(rows.labels.astype(np.int32))
        self.scale = 1 / 255 if rows.images.dtype == np.uint8 else 1.0

    def batch(self, index: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        """Pixels in [0, 1] and labels of the rows in `index`."""
        import tensorflow as tf

        pixels = tf.cast(tf.gather(self.images, index), tf.float32) * self.scale
        return pixels, tf.gather(self.labels, index)


class TensorFlowSession:
    """One trial's network on its program."""

    def __init__(
        self, program: "_Program", model: "keras.Model", plan: TrialPlan, remarks: tuple[str, ...]
    ) -> None:
        self._program = program
        self._model = model
        self._plan = plan
        self._remarks = remarks
        self._epoch = 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What made this trial train in another way than as one shared program an epoch."""
        return self._remarks + self._program.remarks

    @property
    def parameters(self) -> int:
        """How many weights the network has, trainable or not."""
        return int(self._model.count_params())

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        """Trains on the rows that `order` lists, in one call of the compiled program."""
        each = rates(self._plan.recipe, self._epoch, len(order), self._plan.epochs)
        self._epoch += 1
        return self._program.train_epoch(order, each, self._plan.recipe.batch_size)

    def probabilities(self) -> NDArray[np.float32]:
        """Class probabilities for every validation row, shape (N, classes)."""
        return self._program.probabilities()

    def weights(self) -> list[NDArray[np.generic]]:
        """A copy of every weight."""
        return self._program.network.weights()

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        """Writes the network with `weights` as a `.keras` file, atomically."""
        self._model.set_weights(weights)
        partial = path.with_name(f"partial-{path.name}")
        self._model.save(partial)
        partial.replace(path)


class _Program:
    """A network and its optimizer, with an epoch and a validation of them compiled."""

    def __init__(
        self,
        network: "Network",
        recipe: Recipe,
        rows: tuple[_ResidentRows, _ResidentRows],
        classes: int,
    ) -> None:
        import keras
        import tensorflow as tf

        self.network = network
        self.remarks: tuple[str, ...] = ()
        self._model = network.model
        self._optimizer = optimizer(recipe)
        self._optimizer.build(self._model.trainable_variables)
        self._fresh = [variable.numpy() for variable in self._optimizer.variables]
        self._loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
        self._augment = augmentation(recipe)
        self._train, self._validation = rows
        self._classes = classes
        signature = (
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([], tf.int32),
        )
        self._compiled_epoch = tf.function(self._epoch, input_signature=signature)
        self._compiled_output = tf.function(self._output, input_signature=())

    def begin(self, model: "keras.Model", augment: "list[keras.Layer]") -> None:
        """Forgets the trial before and takes over the next one's network and random state."""
        self.network.adopt(model)
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        for layer, new in zip(self._augment, augment, strict=True):
            for variable, value in zip(layer.variables, new.variables, strict=True):
                variable.assign(value)

    def train_epoch(
        self, order: NDArray[np.int32], rates: NDArray[np.float32], batch_size: int
    ) -> TrainedEpoch:
        """Trains on the rows that `order` lists, each step at its own rate."""
        import tensorflow as tf

        epoch = self._traced(self._compiled_epoch)
        loss, confusion = epoch(tf.constant(order), tf.constant(rates), tf.constant(batch_size))
        shape = (self._classes, self._classes)
        return TrainedEpoch(float(loss), confusion.numpy().astype(np.int64).reshape(shape))

    def probabilities(self) -> NDArray[np.float32]:
        """Class probabilities for every validation row."""
        result: NDArray[np.float32] = self._traced(self._compiled_output)().numpy()
        return result

    def _traced(self, function: Any) -> Callable[..., Any]:
        """The compiled function, or, where the network cannot be compiled, what it runs."""
        if self.remarks:
            return function.python_function
        try:
            function.get_concrete_function()
        except Exception as error:  # noqa: BLE001 - the user's code runs in here
            # Nothing has run yet. If the network is at fault, it fails again, step by step.
            reason = str(error).strip().splitlines() or [""]
            self.remarks = (
                f"trains step by step, much slower: {type(error).__name__}: {reason[0]}",
            )
            return function.python_function
        return function

    def _epoch(self, order: "tf.Tensor", rates: "tf.Tensor", batch_size: "tf.Tensor") -> Any:
        import tensorflow as tf

        rows = tf.size(order)
        loss_sum = tf.constant(0.0)
        confusion = tf.zeros([self._classes**2], tf.int32)
        for step in tf.range(tf.size(rates)):
            self._optimizer.learning_rate.assign(rates[step])
            index = order[step * batch_size : (step + 1) * batch_size]
            pixels, labels = self._train.batch(index)
            loss, predicted = self._step(pixels, labels)
            loss_sum += loss * tf.cast(tf.size(index), tf.float32)
            cells = labels * self._classes + predicted
            confusion += tf.math.bincount(
                cells, minlength=self._classes**2, maxlength=self._classes**2
            )
        return loss_sum / tf.cast(rows, tf.float32), confusion

    def _step(self, pixels: "tf.Tensor", labels: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        import tensorflow as tf

        for layer in self._augment:
            pixels = layer(pixels, training=True)
        with tf.GradientTape() as tape:
            output = tf.cast(self._model(pixels, training=True), tf.float32)
            loss = self._loss(tf.one_hot(labels, self._classes), output)
            for extra in self._model.losses:
                loss += tf.reduce_sum(tf.cast(extra, tf.float32))
        variables = self._model.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, tf.argmax(output, axis=1, output_type=tf.int32)

    def _output(self) -> Any:
        import tensorflow as tf

        rows = tf.size(self._validation.labels)
        batches = (rows + _EVALUATION_BATCH - 1) // _EVALUATION_BATCH
        outputs = tf.TensorArray(tf.float32, size=batches, infer_shape=False)
        for batch in tf.range(batches):
            first = batch * _EVALUATION_BATCH
            index = tf.range(first, tf.minimum(first + _EVALUATION_BATCH, rows))
            pixels, _ = self._validation.batch(index)
            outputs = outputs.write(batch, tf.cast(self._model(pixels, training=False), tf.float32))
        return tf.ensure_shape(outputs.concat(), [None, self._classes])
