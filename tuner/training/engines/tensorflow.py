"""The TensorFlow engine: one compiled program an epoch.

The images stay in memory as they were read, uint8 mostly; the program gathers a batch by
its row numbers, casts it and trains on it, so that no step returns to Python. The batch
size is an input of the program and the last, smaller batch runs through the same trace.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tuner.models import registry
from tuner.spec.recipe import Recipe
from tuner.training.data import Rows, TrainingData
from tuner.training.engines.base import TrainedEpoch
from tuner.training.plan import TrialPlan

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_EVALUATION_BATCH = 500


class TensorFlowEngine:
    """Trains with Keras on TensorFlow, on the one device that this process sees.

    Takes TensorFlow's runtime as it finds it; a process of its own calls `start`.
    """

    backend = "tensorflow"

    def __init__(self) -> None:
        self._resident: tuple[TrainingData, _ResidentRows, _ResidentRows] | None = None

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

        keras.backend.clear_session()
        keras.config.set_dtype_policy(_POLICIES[plan.precision])
        keras.utils.set_random_seed(plan.seed)
        model = registry.build(plan.model.name, plan.model.params, data.image_shape, data.classes)
        steps = -(-len(data.train) // plan.recipe.batch_size) * plan.epochs
        return TensorFlowSession(
            model, _optimizer(plan.recipe, steps), plan.recipe, self._rows(data), data.classes
        )

    def versions(self) -> dict[str, str]:
        """The versions of the packages that the results depend on."""
        import keras
        import tensorflow as tf

        return {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}

    def _rows(self, data: TrainingData) -> tuple["_ResidentRows", "_ResidentRows"]:
        """The rows as tensors, kept from trial to trial."""
        if self._resident is None or self._resident[0] is not data:
            self._resident = (data, _ResidentRows(data.train), _ResidentRows(data.validation))
        return self._resident[1:]


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
    """One network, its optimizer and its two compiled programs."""

    def __init__(
        self,
        model: "keras.Model",
        optimizer: "keras.optimizers.Optimizer",
        recipe: Recipe,
        rows: tuple[_ResidentRows, _ResidentRows],
        classes: int,
    ) -> None:
        import keras
        import tensorflow as tf

        self._model = model
        self._optimizer = optimizer
        self._optimizer.build(model.trainable_variables)
        self._loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
        self._augment = _augmentation(recipe)
        self._batch_size = tf.constant(recipe.batch_size)
        self._train, self._validation = rows
        self._classes = classes
        signature = (tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32))
        self._epoch_program = tf.function(self._epoch, input_signature=signature)
        self._probabilities_program = tf.function(self._probabilities)

    @property
    def parameters(self) -> int:
        """How many weights the network has, trainable or not."""
        return int(self._model.count_params())

    def train_epoch(self, order: NDArray[np.int32]) -> TrainedEpoch:
        """Trains on the rows that `order` lists, in one call of the compiled program."""
        import tensorflow as tf

        loss, confusion = self._epoch_program(tf.constant(order), self._batch_size)
        shape = (self._classes, self._classes)
        return TrainedEpoch(float(loss), confusion.numpy().astype(np.int64).reshape(shape))

    def probabilities(self) -> NDArray[np.float32]:
        """Class probabilities for every validation row, shape (N, classes)."""
        result: NDArray[np.float32] = self._probabilities_program().numpy()
        return result

    def weights(self) -> list[NDArray[np.generic]]:
        """A copy of every weight."""
        return [variable.numpy().copy() for variable in self._model.weights]

    def save(self, weights: list[NDArray[np.generic]], path: Path) -> None:
        """Writes the network with `weights` as a `.keras` file, atomically."""
        self._model.set_weights(weights)
        partial = path.with_name(f"partial-{path.name}")
        self._model.save(partial)
        partial.replace(path)

    def _epoch(self, order: "tf.Tensor", batch_size: "tf.Tensor") -> Any:
        import tensorflow as tf

        rows = tf.size(order)
        loss_sum = tf.constant(0.0)
        confusion = tf.zeros([self._classes**2], tf.int32)
        for step in tf.range((rows + batch_size - 1) // batch_size):
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

    def _probabilities(self) -> Any:
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


def _optimizer(recipe: Recipe, steps: int) -> "keras.optimizers.Optimizer":
    from keras import optimizers

    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate = optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    kind = type(optimizers.get(recipe.optimizer))
    optimizer = kind(learning_rate=rate, weight_decay=recipe.weight_decay)
    # With 0 Keras would subtract nothing from every weight; AdamW's constructor refuses None.
    optimizer.weight_decay = recipe.weight_decay or None
    return optimizer


def _augmentation(recipe: Recipe) -> "list[keras.Layer]":
    from keras import layers

    augmentation = []
    if recipe.shift:
        augmentation.append(
            layers.RandomTranslation(recipe.shift, recipe.shift, fill_mode="nearest")
        )
    if recipe.rotate:
        augmentation.append(layers.RandomRotation(recipe.rotate / 360, fill_mode="nearest"))
    return augmentation
