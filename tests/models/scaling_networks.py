"""Networks that scale pixels themselves, and others. A module of its own, since it loads Keras."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

SHAPE = (32, 32, 3)


def network(*first: Any) -> keras.Model:
    rest = (layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax"))
    return keras.Sequential([layers.Input(SHAPE), *first, *rest])


def divided() -> keras.Model:
    pixels = keras.Input(SHAPE)
    return keras.Model(pixels, network()(pixels / 255.0))


def nested() -> keras.Model:
    pixels = keras.Input(SHAPE)
    turned = layers.RandomFlip()(layers.ZeroPadding2D(0)(pixels))
    return keras.Model(pixels, network(layers.Rescaling(1 / 127.5, offset=-1))(turned))


class Subclassed(keras.Model):  # type: ignore[misc]  # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.head, self.scaling = layers.Dense(10), layers.Rescaling(1 / 255)

    def call(self, pixels: Any) -> Any:
        return self.head(layers.Flatten()(self.scaling(pixels)))


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, *SHAPE), np.float32))
    return model


def adapted(highest: float) -> keras.Model:
    normalization = layers.Normalization()
    drawn = np.random.default_rng(0).random((20, *SHAPE), np.float32)
    normalization.adapt(drawn * highest)
    return network(normalization)


def application(function: Callable[..., keras.Model]) -> keras.Model:
    return function(include_top=False, weights=None, input_shape=SHAPE, pooling="avg")


def recurrent(*first: Any) -> keras.Model:
    sequence = [layers.Reshape((32, 96)), layers.Bidirectional(layers.LSTM(4)), layers.Dense(10)]
    return keras.Sequential([layers.Input(SHAPE), *first, *sequence])


MADE_FOR_BYTES: dict[str, Callable[[], keras.Model]] = {
    "rescaling": lambda: network(layers.Rescaling(1 / 255)),
    "rescaling-to-both-signs": lambda: network(layers.Rescaling(1 / 127.5, offset=-1)),
    "rescaling-then-batch-normalization": lambda: network(
        layers.Rescaling(1 / 255), layers.BatchNormalization()
    ),
    "division": divided,
    "lambda": lambda: network(layers.Lambda(lambda pixels: pixels / 255)),
    "nested": nested,
    "subclassed": subclassed,
    "adapted-to-bytes": lambda: adapted(255),
    "recurrent": lambda: recurrent(layers.Rescaling(1 / 255)),
    "efficientnet": lambda: application(keras.applications.EfficientNetB0),
    "mobilenet-v3": lambda: application(keras.applications.MobileNetV3Small),
}
INDIFFERENT: dict[str, Callable[[], keras.Model]] = {
    "batch-normalization": lambda: network(layers.BatchNormalization()),
    "saturated": lambda: network(layers.Rescaling(4, offset=-8), layers.Activation("sigmoid")),
    "unit-normalization": lambda: network(layers.UnitNormalization()),
}
MADE_FOR_UNIT: dict[str, Callable[[], keras.Model]] = {
    "plain": network,
    "rescaling-to-both-signs": lambda: network(layers.Rescaling(2, offset=-1)),
    "adapted-to-shares": lambda: adapted(1),
    "recurrent": recurrent,
}
