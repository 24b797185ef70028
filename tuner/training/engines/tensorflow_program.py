"""The TensorFlow program: one epoch, and the probabilities of the watched rows, compiled.

The images stay in memory as they were read, mostly as uint8. The program gathers a batch by its
row numbers, casts it and trains on it, so that no step returns to Python. The last, smaller batch
uses the same trace. `programs.CompiledPart` says what a program fixes; here the rows too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.random.seed_generator import global_seed_generator  # Keras exports it not
from numpy.typing import NDArray

from tuner.models.contract import mode
from tuner.spec.recipe import Pixels, Recipe, scale
from tuner.training.data import Rows
from tuner.training.engines.base import TrainedEpoch
from tuner.training.engines.network import Network, without_rates
from tuner.training.engines.recipes import augmentation, optimizer

_EVALUATION_BATCH = 500
_NOISE = {"float32": 1e-4, "bfloat16": 2e-2}
"""The difference allowed between two computations of an array, relative to its largest number."""


class TensorFlowRows:
    """Rows as tensors on the device."""

    def __init__(self, rows: Rows) -> None:
        self.images = tf.constant(rows.images)
        self.labels = tf.constant(rows.labels.astype(np.int32))

    def batch(self, index: tf.Tensor, pixels: Pixels) -> tuple[tf.Tensor, tf.Tensor]:
        """The pixels (float32, in the range `pixels`) and labels of the rows in `index`."""
        images = tf.cast(tf.gather(self.images, index), tf.float32)
        return images * scale(pixels, self.images.dtype.name), tf.gather(self.labels, index)


class TensorFlowProgram:
    """A network and its optimizer, with one epoch and one validation compiled."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        rows: tuple[TensorFlowRows, TensorFlowRows, TensorFlowRows],
        classes: int,
        pixels: Pixels,
    ) -> None:
        """Prepares the program; TensorFlow compiles it at its first call.

        Args:
            network: the network to train.
            recipe: the part of the recipe that the program fixes.
            rows: the training rows, the watched rows, and the rows to test a network on.
            classes: the number of classes.
            pixels: the range of the network's input.
        """
        self.network = network
        self.remarks: tuple[str, ...] = ()
        self._model = network.model
        self._optimizer = optimizer(recipe)
        self._optimizer.build(self._model.trainable_variables)
        self._fresh = [variable.numpy() for variable in self._optimizer.variables]
        self._loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
        self._augment = augmentation(recipe)
        # The user's code draws from this generator where it names no seed.
        self._unseeded = [] if network.shared else [global_seed_generator().state]
        self._train, self._watched, self._sample = rows
        self._classes = classes
        self._pixels = pixels
        signature = (
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([], tf.int32),
        )
        self._compiled_epoch = tf.function(self._epoch, input_signature=signature)
        self._compiled_output = tf.function(self._output, input_signature=())

    def begin(self, model: keras.Model, augment: list[keras.Layer]) -> None:
        """Starts a trial: resets the optimizer, and takes over network and random state."""
        self.network.adopt(model)
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        for layer, new in zip(self._augment, augment, strict=True):
            for variable, value in zip(layer.variables, new.variables, strict=True):
                variable.assign(value)

    def state(self) -> list[NDArray[np.generic]]:
        """A copy of everything that an epoch changes: network, optimizer, seeds."""
        return [np.array(variable.numpy()) for variable in self._variables()]

    def restore(self, state: Sequence[NDArray[np.generic]]) -> None:
        """Takes over a state.

        Raises:
            ValueError: its arrays have other shapes.
        """
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def _variables(self) -> list[keras.Variable]:
        return [
            *self.network.variables(),
            *self._optimizer.variables,
            *(variable for layer in self._augment for variable in layer.variables),
            *self._unseeded,
        ]

    def difference(self, model: keras.Model) -> str | None:
        """Names what differs between one step of this network and of the program's, if anything.

        Both do the step on a few training rows, and keep their variables.
        """
        with _kept(model), _kept(self._model):
            wanted, found = self._step_of(model), self._step_of(self._model)
        parts = (part for part in wanted if not _same(wanted[part], found[part]))
        return next(parts, None)

    def _step_of(self, model: keras.Model) -> dict[str, list[NDArray[np.generic]]]:
        """The results of one step: answers, outputs in training, loss, gradients, statistics."""
        pixels, labels = self._sample.batch(tf.range(tf.size(self._sample.labels)), self._pixels)
        answers = model(pixels, training=False)
        with tf.GradientTape() as tape:
            output, loss = self._loss_of(model, pixels, labels)
        gradients = tape.gradient(loss, model.trainable_variables)
        step = {
            "answers": [answers],
            "outputs in training": [output],
            "loss": [loss],
            "gradients": [() if each is None else each for each in gradients],
            "moving statistics": without_rates(model, model.non_trainable_weights),
        }
        return {
            part: [np.array(tf.cast(tf.convert_to_tensor(value), tf.float32)) for value in values]
            for part, values in step.items()
        }

    def train_epoch(
        self, order: NDArray[np.int32], rates: NDArray[np.float32], batch_size: int
    ) -> TrainedEpoch:
        """Trains on the rows of `order`, shape (rows,), with `rates`, shape (steps,)."""
        epoch = self._traced(self._compiled_epoch)
        loss, confusion = epoch(tf.constant(order), tf.constant(rates), tf.constant(batch_size))
        shape = (self._classes, self._classes)
        return TrainedEpoch(float(loss), confusion.numpy().astype(np.int64).reshape(shape))

    def first_answers(self) -> NDArray[np.float32]:
        """The probabilities of a few training rows, float32 of shape (N, classes)."""
        pixels, _ = self._sample.batch(tf.range(tf.size(self._sample.labels)), self._pixels)
        with _kept(self._model):
            return np.array(tf.cast(self._model(pixels, training=False), tf.float32).numpy())

    def probabilities(self) -> NDArray[np.float32]:
        """The class probabilities of the watched rows, float32 of shape (N, classes)."""
        result: NDArray[np.float32] = self._traced(self._compiled_output)().numpy()
        return result

    def _traced(self, function: Any) -> Any:
        """The compiled function, or the Python function if the network cannot be compiled."""
        if self.remarks:
            return function.python_function
        try:
            function.get_concrete_function()
        except Exception as error:  # noqa: BLE001 - the user's code runs in here
            # Nothing has run yet. A fault of the network itself shows again, step by step.
            reason = str(error).strip().splitlines() or [""]
            self.remarks = (
                f"trains step by step, much slower: {type(error).__name__}: {reason[0]}",
            )
            return function.python_function
        return function

    def _epoch(self, order: tf.Tensor, rates: tf.Tensor, batch_size: tf.Tensor) -> Any:
        rows = tf.size(order)
        loss_sum = tf.constant(0.0)
        confusion = tf.zeros([self._classes**2], tf.int32)
        for step in tf.range(tf.size(rates)):
            self._optimizer.learning_rate.assign(rates[step])
            index = order[step * batch_size : (step + 1) * batch_size]
            pixels, labels = self._train.batch(index, self._pixels)
            loss, predicted = self._step(pixels, labels)
            loss_sum += loss * tf.cast(tf.size(index), tf.float32)
            cells = labels * self._classes + predicted
            confusion += tf.math.bincount(
                cells, minlength=self._classes**2, maxlength=self._classes**2
            )
        return loss_sum / tf.cast(rows, tf.float32), confusion

    def _step(self, pixels: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for layer in self._augment:
            pixels = layer(pixels, training=True)
        with tf.GradientTape() as tape:
            output, loss = self._loss_of(self._model, pixels, labels)
        variables = self._model.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, tf.argmax(output, axis=1, output_type=tf.int32)

    def _loss_of(
        self, model: keras.Model, pixels: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The network's output in training, and the loss that the optimizer minimises."""
        output = tf.cast(model(pixels, **mode(model, training=True)), tf.float32)
        loss = self._loss(tf.one_hot(labels, self._classes), output)
        for extra in model.losses:
            loss += tf.reduce_sum(tf.cast(extra, tf.float32))
        return output, loss

    def _output(self) -> Any:
        rows = tf.size(self._watched.labels)
        batches = (rows + _EVALUATION_BATCH - 1) // _EVALUATION_BATCH
        outputs = tf.TensorArray(tf.float32, size=batches, infer_shape=False)
        for batch in tf.range(batches):
            first = batch * _EVALUATION_BATCH
            index = tf.range(first, tf.minimum(first + _EVALUATION_BATCH, rows))
            pixels, _ = self._watched.batch(index, self._pixels)
            outputs = outputs.write(batch, tf.cast(self._model(pixels, training=False), tf.float32))
        return tf.ensure_shape(outputs.concat(), [None, self._classes])


@contextmanager
def _kept(model: keras.Model) -> Iterator[None]:
    """Restores a network's variables on leaving, also after an error."""
    before = [variable.numpy() for variable in model.variables]
    try:
        yield
    finally:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)


def _same(wanted: Sequence[NDArray[np.generic]], found: Sequence[NDArray[np.generic]]) -> bool:
    """Whether two computations of the same arrays agree within float noise."""
    noise = _NOISE[keras.config.dtype_policy().compute_dtype]
    return len(wanted) == len(found) and all(
        mine.shape == twins.shape
        and np.allclose(
            mine, twins, rtol=0, atol=noise * np.abs(mine).max(initial=0), equal_nan=True
        )
        for mine, twins in zip(wanted, found, strict=True)
    )
