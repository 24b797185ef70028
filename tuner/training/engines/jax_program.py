"""The JAX program: one epoch, and the probabilities of many rows, compiled.

An epoch is one program: `lax.scan` over the full batches, then the smaller last one. XLA fixes
every shape, so a new batch size or a new number of rows is compiled anew. `programs.CompiledPart`
says what else a program fixes. The state holds weights, the optimizer's state, seeds and dropout
rates; learning rates, weight decay and label smoothing are further inputs.

Convolutions on a processor are the exception: XLA runs them several times slower in a loop
than outside of one (https://github.com/jax-ml/jax/issues/12868). There each step is a call of its
own. A network that cannot be traced runs without being compiled.
"""

import sys
from collections.abc import Sequence
from enum import Enum, auto
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax
from numpy.typing import NDArray

from tuner.models.contract import mode
from tuner.spec.recipe import Pixels, scale
from tuner.training.data import Rows, TrainingData
from tuner.training.engines.network import Network, without_rates

_EVALUATION_BATCH = 500

Arrays = list[jax.Array]


class JaxRows(NamedTuple):
    """Rows on the device: images as they were read, (N, H, W, C), mostly uint8; labels, int32."""

    images: jax.Array
    labels: jax.Array

    @classmethod
    def of(cls, rows: Rows) -> "JaxRows":
        """Brings the rows to the device."""
        return cls(jnp.asarray(rows.images), jnp.asarray(rows.labels.astype(np.int32)))


class ResidentData(NamedTuple):
    """The rows of a study on the device."""

    train: JaxRows
    watched: JaxRows
    """The rows for which the network gives probabilities after every epoch."""
    sample: JaxRows
    """The rows on which a network is tested before its first epoch."""
    classes: int

    @classmethod
    def of(cls, data: TrainingData) -> "ResidentData":
        """Brings the rows to the device."""
        train, watched, sample = map(JaxRows.of, (data.train, data.watched, data.sample))
        return cls(train, watched, sample, data.classes)


class State(NamedTuple):
    """Everything that a step changes, in the order of the Keras objects."""

    trainable: Arrays
    fixed: Arrays
    """The network's other variables: moving statistics, seeds, dropout rates."""
    optimizer: Arrays
    augmentation: list[Arrays]
    """The seeds of each layer that shifts or turns images."""


class Schedule(NamedTuple):
    """The values of the recipe that are inputs of an epoch."""

    rates: jax.Array
    """The learning rate of each step, shape (steps,)."""
    weight_decay: jax.Array
    label_smoothing: jax.Array


class Sums(NamedTuple):
    """The sums of an epoch: loss of its rows, counts by label and prediction (classes, classes)."""

    loss: jax.Array
    confusion: jax.Array


class _Way(Enum):
    """The part that is compiled: a whole epoch, a step, or nothing."""

    EPOCH = auto()
    STEP = auto()
    UNCOMPILED = auto()


class JaxProgram:
    """The compiled functions of one network; each takes a trial's state and returns the next."""

    def __init__(
        self,
        network: Network,
        optimizer: keras.optimizers.Optimizer,
        augmentation: list[keras.Layer],
        classes: int,
        pixels: Pixels,
    ) -> None:
        """Prepares the program; XLA compiles a function at its first call with new shapes."""
        optimizer.build(network.model.trainable_variables)
        self.network = network
        self._model = network.model
        self._optimizer = optimizer
        self._fresh_optimizer = _values(optimizer.variables)
        self._augmentation = augmentation
        self._classes = classes
        self._pixels = pixels
        self._loss = keras.losses.CategoricalCrossentropy()
        self._compiled_step = jax.jit(self._step, donate_argnames=("state", "sums"))
        self._compiled_epoch = jax.jit(
            self._epoch, static_argnames="batch_size", donate_argnames=("state", "sums")
        )
        self._compiled_probabilities = jax.jit(self._probabilities)
        self._way: _Way | None = None
        self.remarks: tuple[str, ...] = ()
        """Why an epoch is not one program, if it is not."""

    def start(self, model: keras.Model, augmentation: list[keras.Layer]) -> State:
        """The state in which a trial's training begins."""
        self.network.adopt(model)
        return State(
            trainable=_values(self._model.trainable_variables),
            fixed=_values(self._model.non_trainable_variables),
            optimizer=[value.copy() for value in self._fresh_optimizer],
            augmentation=[_values(layer.non_trainable_variables) for layer in augmentation],
        )

    def arrays(self, state: State) -> list[NDArray[np.generic]]:
        """A copy of all arrays of the state.

        JAX copies first: NumPy's view of an array would block for ever the epoch that takes the
        array.
        """
        return [np.array(leaf.copy()) for leaf in jax.tree.leaves(state)]

    def restored(self, like: State, arrays: Sequence[NDArray[np.generic]]) -> State:
        """The state whose copy `arrays` is, with the structure of `like`.

        Raises:
            ValueError: the arrays are those of another network or optimizer.
        """
        leaves, structure = jax.tree.flatten(like)
        found = [jnp.asarray(array) for array in arrays]
        if [(leaf.shape, leaf.dtype) for leaf in found] != [
            (leaf.shape, leaf.dtype) for leaf in leaves
        ]:
            raise ValueError("the arrays have other shapes or types")
        state: State = jax.tree.unflatten(structure, found)
        return state

    def weights(self, state: State) -> list[NDArray[np.generic]]:
        """A copy of every weight, in the order of the trial's own network."""
        for variables, values in (
            (self._model.trainable_variables, state.trainable),
            (self._model.non_trainable_variables, state.fixed),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value.copy())  # what it holds may be saved, long after
        return self.network.weights()

    def difference(self, model: keras.Model, rows: JaxRows) -> str | None:
        """Names what differs between this network and the program's, if anything.

        Nothing is computed: one step of each is traced, and the traces are compared with the
        constants in them.
        """
        wanted, found = self._trace(model, rows), self._trace(self._model, rows)
        with np.printoptions(threshold=sys.maxsize):
            if str(wanted.jaxpr) != str(found.jaxpr):
                return "computation"
        same = len(wanted.consts) == len(found.consts) and all(
            map(np.array_equal, wanted.consts, found.consts)
        )
        return None if same else "constants"

    def _trace(self, model: keras.Model, rows: JaxRows) -> Any:
        """The trace of one step: answers, loss, output in training, gradients, statistics."""
        fixed = without_rates(model, model.non_trainable_variables)

        def step(trainable: Arrays, values: Arrays, images: jax.Array, labels: jax.Array) -> Any:
            given = {id(variable): value for variable, value in zip(fixed, values, strict=True)}
            state = [
                given.get(id(variable), variable.value)
                for variable in model.non_trainable_variables
            ]
            pixels, targets = self._given(images), jax.nn.one_hot(labels, self._classes)
            keywords = mode(model, training=False)
            answers, _ = model.stateless_call(trainable, state, pixels, **keywords)
            differentiated = jax.value_and_grad(partial(self._loss_of, model), has_aux=True)
            (loss, (output, after)), gradients = differentiated(trainable, state, pixels, targets)
            moved = zip(model.non_trainable_variables, after, strict=True)
            kept = [value for variable, value in moved if id(variable) in given]
            return answers, loss, output, gradients, kept

        trainable = [variable.value for variable in model.trainable_variables]
        values = [variable.value for variable in fixed]
        return jax.make_jaxpr(step)(trainable, values, rows.images, rows.labels)

    def first_answers(self, state: State, rows: JaxRows) -> NDArray[np.float32]:
        """The probabilities of a few rows, float32 of shape (N, classes)."""
        with jax.disable_jit(not self.network.shared):  # a user's code may not be traceable
            answers = self._compiled_probabilities(state.trainable, state.fixed, rows.images)
        return np.array(answers)

    def train_epoch(
        self,
        state: State,
        rows: JaxRows,
        order: NDArray[np.int32],
        schedule: Schedule,
        batch_size: int,
    ) -> tuple[State, Sums]:
        """Trains on the rows of `order`, int32 of shape (rows,); the given state is used up."""
        sums = Sums(jnp.float32(0), jnp.zeros((self._classes, self._classes), jnp.int32))
        batches = np.split(order, range(batch_size, len(order), batch_size))
        steps = [schedule._replace(rates=rate) for rate in schedule.rates]
        if self._way is None:
            self._way, self.remarks = self._best_way(state, sums, rows, batches[0], steps[0])
        if self._way is _Way.EPOCH:
            epoch: tuple[State, Sums] = self._compiled_epoch(
                state, sums, rows, order, schedule, batch_size=batch_size
            )
            return epoch
        with jax.disable_jit(self._way is _Way.UNCOMPILED):
            for index, step in zip(batches, steps, strict=True):
                state, sums = self._compiled_step(state, sums, rows, index, step)
        return state, sums

    def probabilities(self, state: State, images: jax.Array) -> jax.Array:
        """The class probabilities of all images, float32 of shape (N, classes), without dropout."""
        with jax.disable_jit(self._way is _Way.UNCOMPILED):
            answer: jax.Array = self._compiled_probabilities(state.trainable, state.fixed, images)
            return answer

    def _best_way(self, *step: Any) -> tuple[_Way, tuple[str, ...]]:
        try:
            traced = str(self._compiled_step.trace(*step).jaxpr)
        except Exception as error:  # noqa: BLE001 - the user's code runs in here
            # A fault of the network itself shows again, uncompiled.
            reason = str(error).strip().splitlines() or [""]
            slow = f"trains step by step, much slower: {type(error).__name__}: {reason[0]}"
            return _Way.UNCOMPILED, (slow,)
        if jax.default_backend() == "cpu" and "conv_general_dilated" in traced:
            slow = "each step is a call of its own: XLA slows convolutions down in a loop here"
            return _Way.STEP, (slow,)
        return _Way.EPOCH, ()

    def _epoch(
        self,
        state: State,
        sums: Sums,
        rows: JaxRows,
        order: jax.Array,
        schedule: Schedule,
        *,
        batch_size: int,
    ) -> tuple[State, Sums]:
        def step(carried: tuple[State, Sums], batch: tuple[jax.Array, jax.Array]) -> Any:
            return self._step(*carried, rows, batch[0], schedule._replace(rates=batch[1])), None

        full = len(order) // batch_size
        batches, rest = order[: full * batch_size], order[full * batch_size :]
        carried: tuple[State, Sums] = (state, sums)
        if full:
            inputs = (batches.reshape(full, batch_size), schedule.rates[:full])
            carried, _ = lax.scan(step, carried, inputs)
        if len(rest):
            carried, _ = step(carried, (rest, schedule.rates[full]))
        return carried

    def _step(
        self, state: State, sums: Sums, rows: JaxRows, index: jax.Array, schedule: Schedule
    ) -> tuple[State, Sums]:
        """One batch; `schedule.rates` is the rate of this step alone."""
        labels = rows.labels[index]
        pixels, seeds = self._augmented(self._given(rows.images[index]), state.augmentation)
        targets = jax.nn.one_hot(labels, self._classes) * (1 - schedule.label_smoothing)
        targets += schedule.label_smoothing / self._classes
        differentiated = jax.value_and_grad(partial(self._loss_of, self._model), has_aux=True)
        (loss, (output, fixed)), gradients = differentiated(
            state.trainable, state.fixed, pixels, targets
        )
        trainable, optimizer = self._update(state, gradients, schedule)
        confusion = sums.confusion.at[labels, output.argmax(axis=1)].add(1)
        sums = Sums(sums.loss + loss * len(index), confusion)
        return State(trainable, fixed, optimizer, seeds), sums

    def _given(self, images: jax.Array) -> jax.Array:
        """The images as the network's input: float32, in its range."""
        return images.astype(jnp.float32) * scale(self._pixels, images.dtype.name)

    def _augmented(self, pixels: jax.Array, seeds: list[Arrays]) -> tuple[jax.Array, list[Arrays]]:
        moved = []
        for layer, seed in zip(self._augmentation, seeds, strict=True):
            pixels, seed = layer.stateless_call([], seed, pixels, training=True)
            moved.append(seed)
        return pixels, moved

    def _loss_of(
        self,
        model: keras.Model,
        trainable: Arrays,
        fixed: Arrays,
        pixels: jax.Array,
        targets: jax.Array,
    ) -> Any:
        """The mean loss of a batch, with the network's output and its new state."""
        output, fixed, penalties = model.stateless_call(
            trainable, fixed, pixels, return_losses=True, **mode(model, training=True)
        )
        output = output.astype(jnp.float32)
        loss = self._loss(targets, output)
        for penalty in penalties:
            loss += jnp.sum(penalty.astype(jnp.float32))
        return loss, (output, fixed)

    def _update(self, state: State, gradients: Arrays, schedule: Schedule) -> tuple[Arrays, Arrays]:
        rate = schedule.rates
        slots = [
            rate if variable is self._optimizer.learning_rate else value
            for variable, value in zip(self._optimizer.variables, state.optimizer, strict=True)
        ]
        # Keras would make the decay a constant of the program.
        kept = 1 - rate * schedule.weight_decay
        decayed = [value * kept.astype(value.dtype) for value in state.trainable]
        updated: tuple[Arrays, Arrays] = self._optimizer.stateless_apply(slots, gradients, decayed)
        return updated

    def _probabilities(self, trainable: Arrays, fixed: Arrays, images: jax.Array) -> jax.Array:
        def answered(batch: jax.Array) -> jax.Array:
            pixels = self._given(batch)
            keywords = mode(self._model, training=False)
            output, _ = self._model.stateless_call(trainable, fixed, pixels, **keywords)
            answer: jax.Array = output.astype(jnp.float32)
            return answer

        full = len(images) // _EVALUATION_BATCH
        batches, rest = jnp.split(images, [full * _EVALUATION_BATCH])
        parts = [answered(rest)] if len(rest) else []
        if full:
            blocks = batches.reshape(full, _EVALUATION_BATCH, *images.shape[1:])
            parts.insert(0, lax.map(answered, blocks).reshape(-1, self._classes))
        return jnp.concatenate(parts)


def _values(variables: list[keras.Variable]) -> Arrays:
    """Copies of the values, since an epoch uses up the arrays that it is given."""
    return [jnp.array(variable.value, copy=True) for variable in variables]
