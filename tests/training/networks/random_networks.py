"""Networks put together at random from Keras' layers and from what users add to them.

A network is a list of parts, each a name and a number that chooses its details. `PARTS` keep an
image an image, `FLAT_PARTS` come after it was flattened, and `CHANGES` are made to the built
network, where its configuration does not tell of them.
"""

import json
from collections.abc import Callable
from types import MethodType
from typing import Any

import keras
import numpy as np
from keras import layers, regularizers

Tensor = Any  # Keras has no types
Part = Callable[[Tensor, int], Tensor]


@keras.saving.register_keras_serializable("tests")
class Shifted(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A user's layer: a weight, a penalty, and a number that its configuration tells."""

    def __init__(self, by: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        self.by = by

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.shift = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="shift")

    def call(self, values: Tensor) -> Tensor:
        self.add_loss(0.01 * keras.ops.sum(keras.ops.square(self.shift)))
        return values + self.shift * self.by

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}


def relu(values: Tensor) -> Tensor:
    """Named as Keras' own, and another one."""
    return keras.ops.maximum(values, 0.3 * values)


ACTIVATIONS: list[Any] = ["relu", "tanh", "gelu", None, relu]


def _conv(x: Tensor, n: int) -> Tensor:
    penalty = regularizers.L2(0.01) if n % 3 == 0 else None
    return layers.Conv2D(
        2 + n % 3, 3, padding="same", activation=ACTIVATIONS[n % 5], kernel_regularizer=penalty
    )(x)


def _residual(x: Tensor, n: int) -> Tensor:
    channels = x.shape[-1]
    inner = layers.Conv2D(channels, 1 + 2 * (n % 2), padding="same", activation="relu")(x)
    return layers.Add()([x, layers.Dropout(0.1 * (n % 4))(inner)])


def _shared(x: Tensor, n: int) -> Tensor:
    """One layer, used twice."""
    layer = layers.Conv2D(x.shape[-1], 1 + n % 3, padding="same", activation="tanh")
    return layer(layer(x))


def _nested(x: Tensor, n: int) -> Tensor:
    inside: list[keras.Layer] = [layers.Input(x.shape[1:]), layers.Conv2D(3, 3, padding="same")]
    inside.append([layers.BatchNormalization(), layers.Dropout(0.3), layers.ReLU()][n % 3])
    return keras.Sequential(inside)(x)


def _adapted(x: Tensor, n: int) -> Tensor:
    layer = layers.Normalization(axis=-1)
    layer.adapt(np.random.default_rng(n).random((8, *x.shape[1:]), dtype=np.float32) * (1 + n % 4))
    return layer(x)


def _drawing(x: Tensor, n: int) -> Tensor:
    kinds = [
        *(layers.SpatialDropout2D(0.2), layers.GaussianNoise(0.1), layers.GaussianDropout(0.1)),
        *(layers.Dropout(0.25, noise_shape=(None, 1, 1, x.shape[-1])), layers.Dropout(0.4)),
    ]
    return kinds[n % len(kinds)](x)


def _pooled(x: Tensor, n: int) -> Tensor:
    kind = [layers.MaxPooling2D, layers.AveragePooling2D][n % 2]
    return kind(2, padding="same")(x)


def _normalised(x: Tensor, n: int) -> Tensor:
    kinds = [
        *(layers.BatchNormalization(), layers.BatchNormalization(momentum=0.5)),
        *(layers.LayerNormalization(), layers.GroupNormalization(1)),
    ]
    return kinds[n % len(kinds)](x)


def _separable(x: Tensor, n: int) -> Tensor:
    kinds = [
        layers.DepthwiseConv2D(3, padding="same"),
        layers.SeparableConv2D(3, 3, padding="same"),
        layers.Conv2DTranspose(2, 3, padding="same"),
    ]
    return kinds[n % len(kinds)](x)


def _wrapped(x: Tensor, n: int) -> Tensor:
    if n % 2:
        return layers.SpectralNormalization(layers.Conv2D(3, 3, padding="same"))(x)
    return layers.TimeDistributed(layers.Dense(3, activation="relu"))(x)


def _own_layer(x: Tensor, n: int) -> Tensor:
    return Shifted(0.1 + n / 10)(x)


def _own_function(x: Tensor, n: int) -> Tensor:
    return layers.Lambda(lambda values: values * (1 + n / 10))(x)


def _penalised(x: Tensor, n: int) -> Tensor:
    return layers.ActivityRegularization(l2=0.001 * (1 + n % 3))(x)


PARTS: dict[str, Part] = {
    "conv": _conv,
    "residual": _residual,
    "shared": _shared,
    "nested": _nested,
    "adapted": _adapted,
    "drawing": _drawing,
    "pooled": _pooled,
    "normalised": _normalised,
    "separable": _separable,
    "wrapped": _wrapped,
    "own layer": _own_layer,
    "own function": _own_function,
    "penalised": _penalised,
}


def _dense(x: Tensor, n: int) -> Tensor:
    limit = keras.constraints.MaxNorm(0.5) if n % 4 == 0 else None
    return layers.Dense(4 + n % 4, activation=ACTIVATIONS[n % 5], kernel_constraint=limit)(x)


def _sequence(x: Tensor, n: int) -> Tensor:
    steps = layers.Reshape((-1, 1))(layers.Dense(6)(x))
    if n % 2:
        return layers.Flatten()(layers.MultiHeadAttention(2, 3)(steps, steps))
    return layers.Bidirectional(layers.SimpleRNN(3))(steps)


def _flat_drawing(x: Tensor, n: int) -> Tensor:
    kinds = [layers.Dropout(0.1 + n % 5 / 10), layers.AlphaDropout(0.1), layers.GaussianNoise(0.1)]
    return kinds[n % len(kinds)](x)


def _embedded(x: Tensor, n: int) -> Tensor:
    """Each number becomes that of a row, whose gradient is sparse."""
    return layers.Flatten()(layers.Embedding(2, 1 + n % 2)(layers.Activation("sigmoid")(x)))


FLAT_PARTS: dict[str, Part] = {
    "dense": _dense,
    "sequence": _sequence,
    "drawing": _flat_drawing,
    "normalised": lambda x, _n: layers.BatchNormalization()(x),
    "own layer": _own_layer,
    "embedded": _embedded,
}


def _weighted(model: keras.Model, n: int) -> keras.Layer:
    """One of the layers with a kernel; the last always has one."""
    found = [layer for layer in model.layers if hasattr(layer, "kernel")]
    return found[n % len(found)]


def _freeze_layer(model: keras.Model, n: int) -> None:
    _weighted(model, n).trainable = False


def _freeze_variable(model: keras.Model, n: int) -> None:
    _weighted(model, n).kernel.trainable = False


def _regularize(model: keras.Model, n: int) -> None:
    _weighted(model, n).kernel.regularizer = regularizers.L2(0.05)


def _constrain(model: keras.Model, n: int) -> None:
    _weighted(model, n).kernel.constraint = keras.constraints.MaxNorm(0.3)


def _scale(model: keras.Model, n: int) -> None:
    layer = _weighted(model, n)

    def call(self: keras.Layer, *arguments: Any, **options: Any) -> Tensor:
        return type(self).call(self, *arguments, **options) * 0.5

    if layer is not model.layers[-1]:  # else nothing sums to 1
        layer.call = MethodType(call, layer)


def _redraw(model: keras.Model, n: int) -> None:
    """Changes a rate after its layer was made."""
    for layer in model.layers:
        if type(layer) is layers.Dropout and layer.rate:  # one of 0 cannot draw
            layer.rate = 0.05 + n % 5 / 10


CHANGES: dict[str, Callable[[keras.Model, int], None]] = {
    "freeze layer": _freeze_layer,
    "freeze variable": _freeze_variable,
    "regularize": _regularize,
    "constrain": _constrain,
    "scale": _scale,
    "redraw": _redraw,
}


def built(*, input_shape: tuple[int, int, int], classes: int, recipe: str) -> keras.Model:
    """The network that a recipe describes, JSON of three lists of names and numbers."""
    parts, flat_parts, changes = json.loads(recipe)
    start = x = layers.Input(input_shape)
    for name, number in parts:
        x = PARTS[name](x, number)
    x = layers.Flatten()(x)
    for name, number in flat_parts:
        x = FLAT_PARTS[name](x, number)
    model = keras.Model(start, layers.Dense(classes, activation="softmax")(x))
    for name, number in changes:
        CHANGES[name](model, number)
    return model
