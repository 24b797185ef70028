"""The network that a compiled program trains: a trial's own, or a twin that trials share.

Networks that differ in nothing but weights, seeds and dropout rates share one program. It trains a
twin, whose dropout rates are variables. Each trial's own network gives the twin its state, and is
what is saved in the end.

A twin is made from the network's configuration, which does not tell everything. So before a
trial trains on a twin, both are shown to compute the same.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from tuner.models.contract import gist

_CODE = ("Lambda", "function", "__lambda__")
"""Keras' own classes whose configuration does not tell everything that they compute."""


class VariableDropout(keras.layers.Dropout):  # type: ignore[misc]  # Keras has no types
    """Keras' dropout, with the same random draws, but a rate that can change from call to call."""

    def build(self, input_shape: Any) -> None:
        """Makes the variable for the rate."""
        super().build(input_shape)
        self.current_rate = keras.Variable(
            self.rate, trainable=False, autocast=False, dtype="float32", name="rate"
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drops inputs at random and scales the others, so that the expected sum is the same."""
        if not training or not self.rate:
            return inputs
        shape = ops.shape(inputs)
        if self.noise_shape is not None:
            shape = [
                size if stated is None else stated
                for size, stated in zip(shape, self.noise_shape, strict=True)
            ]
        draws = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        rate = self.current_rate.value
        # This is how each backend's own dropout compares its draws.
        kept = draws < 1 - rate if keras.backend.backend() == "jax" else draws >= rate
        scale = ops.cast(1 / (1 - rate), inputs.dtype)
        return ops.where(kept, inputs * scale, ops.zeros_like(inputs))


class UnlikeError(Exception):
    """A twin of the network would compute something else; the text says why."""


class Network:
    """The network that a program trains: the trial's own, or a twin that other trials share."""

    def __init__(self, model: keras.Model, *, shared: bool) -> None:
        """Makes a twin if `shared`.

        Raises:
            UnlikeError: Keras cannot copy the network.
        """
        self.shared = shared
        self.model = _twin(model) if shared else model

    def adopt(self, model: keras.Model) -> None:
        """Takes over the weights, seeds and dropout rates of a network with the same variables."""
        if model is self.model:
            return
        rates = _rates(self.model)
        for variable, value in zip(self.variables(), model.variables, strict=True):
            variable.assign(value)
        for rate, layer in zip(rates, _dropouts(model), strict=True):
            rate.assign(layer.rate)

    def variables(self) -> list[keras.Variable]:
        """The variables that training changes, in the order of the trial's own network."""
        return without_rates(self.model, self.model.variables)

    def weights(self) -> list[NDArray[np.generic]]:
        """A copy of every weight, in the order of the trial's own network."""
        return [
            np.array(keras.ops.convert_to_numpy(weight.value))
            for weight in without_rates(self.model, self.model.weights)
        ]


def signature(model: keras.Model) -> str:
    """A text that is equal for networks that may share a program: all but the dropout rates.

    Raises:
        UnlikeError: the network runs code that is not Keras' own.
    """
    if type(model).__module__.split(".")[0] != "keras":
        raise UnlikeError(f"{type(model).__name__} is a model class of its own")
    config = model.get_config()
    own = next(_own_code(config), None) or next(_own_functions(model), None)
    if own is not None:
        raise UnlikeError(f"{own} is code of its own")
    variable = {layer.name for layer in _dropouts(model)}
    for layer in config["layers"]:
        if layer["config"].get("name") in variable:
            layer["config"]["rate"] = None
    return json.dumps(config, sort_keys=True, default=repr)


def check_alike(own: keras.Model, network: Network, difference: Callable[[], str | None]) -> None:
    """Checks that a twin computes the same as a trial's own network.

    Compares what both compute in inference and in training, and how each variable is trained,
    regularized and constrained. Dropout is off meanwhile: in float32 a twin's draws are those of
    Keras, in bfloat16 they are finer.

    Args:
        own: the trial's network.
        network: the twin; it adopts the trial's network.
        difference: names what the two compute differently, if anything.

    Raises:
        UnlikeError: they differ; the text names the difference.
    """
    if len(own.variables) != len(network.variables()):
        raise UnlikeError("it has variables that its configuration does not tell of")
    for mine, twins in zip(own.variables, network.variables(), strict=True):
        if _properties(mine) != _properties(twins):
            raise UnlikeError(f"{mine.path} was changed after it was made")
    network.adopt(own)
    with _without_dropout(own, network.model):
        try:
            found = difference()
        except Exception as error:  # if the network is at fault, it fails again in training
            raise UnlikeError(f"it cannot be compared: {_gist(error)}") from error
    if found is not None:
        raise UnlikeError(f"its configuration does not tell all of it, such as its {found}")


def without_rates(model: keras.Model, variables: Iterable[keras.Variable]) -> list[keras.Variable]:
    """The given variables of a network without its dropout rates, which only a twin has."""
    rates = {id(rate) for rate in _rates(model)}
    return [variable for variable in variables if id(variable) not in rates]


def _properties(variable: keras.Variable) -> tuple[Any, ...]:
    """How a variable is trained, with regularizer and constraint in Keras' serialized form."""
    serialized = keras.saving.serialize_keras_object
    rules = (serialized(rule) for rule in (variable.regularizer, variable.constraint))
    return tuple(variable.shape), variable.dtype, variable.trainable, *rules


@contextmanager
def _without_dropout(*models: keras.Model) -> Iterator[None]:
    layers = [layer for model in models for layer in _dropouts(model)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate


def _twin(model: keras.Model) -> keras.Model:
    dropouts = {id(layer) for layer in _dropouts(model)}

    def twin_of(layer: keras.Layer) -> keras.Layer:
        kind = VariableDropout if id(layer) in dropouts else type(layer)
        return kind.from_config(layer.get_config())

    try:
        return keras.models.clone_model(model, clone_function=twin_of)
    except Exception as error:
        raise UnlikeError(f"Keras cannot copy it: {_gist(error)}") from error


def _gist(error: Exception) -> str:
    return f"{type(error).__name__}: {gist(error)}"


def _dropouts(model: keras.Model) -> list[keras.layers.Dropout]:
    """The dropout layers with a rate above 0: one with rate 0 draws nothing, so is no input."""
    kinds = (keras.layers.Dropout, VariableDropout)
    return [layer for layer in model.layers if type(layer) in kinds and layer.rate]


def _rates(model: keras.Model) -> list[keras.Variable]:
    return [layer.current_rate for layer in model.layers if isinstance(layer, VariableDropout)]


def _own_code(config: Any) -> Iterator[str]:
    """The names of all objects in a configuration that are not Keras' own."""
    if isinstance(config, dict):
        module, name = str(config.get("module", "keras")), config.get("class_name")
        if name is not None and (name in _CODE or module.split(".")[0] != "keras"):
            yield str(name)
        config = list(config.values())
    if isinstance(config, list | tuple):
        for each in config:
            yield from _own_code(each)


def _own_functions(model: keras.Model) -> Iterator[str]:
    """The names of functions that layers call, of which a configuration has the name alone."""
    for layer in model._flatten_layers():
        for name, value in vars(layer).items():
            for function in _functions(value):
                if function.__module__.split(".")[0] != "keras":
                    yield f"{layer.name}.{name}"


def _functions(value: Any) -> Iterator[Any]:
    if isinstance(value, partial):
        value = value.func
    if isinstance(value, FunctionType | MethodType):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _functions(each)
