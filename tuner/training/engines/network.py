"""What a compiled program fixes of a network, and what it takes as an input.

Compiling takes longer than some epochs, so networks that differ in nothing but their weights,
seeds and dropout rates share one program. It runs on a twin, whose dropout rates are
variables; each trial's own network gives it its state and is what is saved in the end.
"""

import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

_CODE = ("Lambda", "function", "__lambda__")
"""Classes of Keras' own whose configuration does not say all that they compute."""


class VariableDropout(keras.layers.Dropout):  # type: ignore[misc]  # Keras has no types
    """Keras' dropout with a rate that can change from call to call, for the same random draws."""

    def build(self, input_shape: Any) -> None:
        """Makes the variable."""
        super().build(input_shape)
        self.current_rate = keras.Variable(
            self.rate, trainable=False, autocast=False, dtype="float32", name="rate"
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Scales what is kept, so that the expected sum stays the same."""
        if not training:
            return inputs
        shape = ops.shape(inputs)
        if self.noise_shape is not None:
            shape = [
                size if stated is None else stated
                for size, stated in zip(shape, self.noise_shape, strict=True)
            ]
        draws = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        rate = self.current_rate.value
        scale = ops.cast(1 / (1 - rate), inputs.dtype)
        return ops.where(draws >= rate, inputs * scale, ops.zeros_like(inputs))


class Network:
    """A network as its program sees it: the trial's own, or a twin that other trials share."""

    def __init__(self, model: keras.Model, *, shared: bool) -> None:
        self.model = _twin(model) if shared else model

    def adopt(self, model: keras.Model) -> None:
        """Takes over the weights, seeds and dropout rates of a network of the same signature."""
        if model is self.model:
            return
        rates = _rates(self.model)
        for variable, value in zip(self.variables(), model.variables, strict=True):
            variable.assign(value)
        for rate, layer in zip(rates, _dropouts(model), strict=True):
            rate.assign(layer.rate)

    def variables(self) -> list[keras.Variable]:
        """What training changes: weights and seeds, in the order of the trial's own network."""
        rates = {id(rate) for rate in _rates(self.model)}
        return [variable for variable in self.model.variables if id(variable) not in rates]

    def weights(self) -> list[NDArray[np.generic]]:
        """A copy of every weight, in the order of the trial's own network."""
        rates = {id(rate) for rate in _rates(self.model)}
        return [
            np.array(keras.ops.convert_to_numpy(weight.value))
            for weight in self.model.weights
            if id(weight) not in rates
        ]


def signature(model: keras.Model) -> str:
    """A text that is the same for networks that one program can run.

    Raises:
        ValueError: the network's configuration does not say all that it computes, in words.
    """
    if type(model).__module__.split(".")[0] != "keras":
        raise ValueError(f"{type(model).__name__} is a model class of its own")
    config = model.get_config()
    own = next(_own_code(config), None)
    if own is not None:
        raise ValueError(f"{own} is code of its own")
    variable = {layer.name for layer in _dropouts(model)}
    for layer in config["layers"]:
        if layer["config"].get("name") in variable:
            layer["config"]["rate"] = None
    return json.dumps(config, sort_keys=True, default=repr)


def _twin(model: keras.Model) -> keras.Model:
    dropouts = {id(layer) for layer in _dropouts(model)}

    def twin_of(layer: keras.Layer) -> keras.Layer:
        kind = VariableDropout if id(layer) in dropouts else type(layer)
        return kind.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=twin_of)


def _dropouts(model: keras.Model) -> list[keras.layers.Dropout]:
    """The layers whose rate is an input. One of 0 draws nothing, and is another network."""
    return [layer for layer in model.layers if type(layer) is keras.layers.Dropout and layer.rate]


def _rates(model: keras.Model) -> list[keras.Variable]:
    return [layer.current_rate for layer in model.layers if isinstance(layer, VariableDropout)]


def _own_code(config: Any) -> Iterator[str]:
    """The names of whatever in a configuration is not a layer or object of Keras."""
    if isinstance(config, dict):
        module, name = str(config.get("module", "keras")), config.get("class_name")
        if name is not None and (name in _CODE or module.split(".")[0] != "keras"):
            yield str(name)
        config = list(config.values())
    if isinstance(config, list | tuple):
        for each in config:
            yield from _own_code(each)
