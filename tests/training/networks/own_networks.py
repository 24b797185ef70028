"""Networks as a user writes them, for what the shipped ones do not have."""

from types import MethodType
from typing import Any

import keras
import numpy as np
from keras import layers


def _classifier(
    input_shape: tuple[int, int, int], classes: int, *middle: keras.Layer
) -> keras.Model:
    start, end = layers.Input(input_shape), layers.Dense(classes, activation="softmax")
    return keras.Sequential([start, layers.Flatten(), *middle, end])


def normalised(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Keeps moving statistics."""
    hidden = layers.Dense(16, use_bias=False)
    return _classifier(input_shape, classes, hidden, layers.BatchNormalization(), layers.ReLU())


class Noise(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Draws without a seed."""

    def call(self, values: Any, training: bool = False) -> Any:
        return values + keras.random.normal(keras.ops.shape(values)) if training else values


def noisy(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Has a layer that keeps no random state of its own."""
    return _classifier(input_shape, classes, Noise())


def regularised(*, input_shape: tuple[int, int, int], classes: int, l2: float) -> keras.Model:
    """Adds to the loss what its weights weigh."""
    hidden = layers.Dense(16, activation="relu", kernel_regularizer=keras.regularizers.L2(l2))
    return _classifier(input_shape, classes, hidden)


def rescaled(
    *, input_shape: tuple[int, int, int], classes: int, dtype: str | None = None
) -> keras.Model:
    """Takes pixels in [0, 255], as tutorials have it."""
    start, end = layers.Input(input_shape, dtype=dtype), layers.Dense(classes, activation="softmax")
    return keras.Sequential([start, layers.Rescaling(1 / 255), layers.Flatten(), end])


def unscaled(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The same for pixels in [0, 1]."""
    return _classifier(input_shape, classes)


class FirstImage(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Remembers the first image of the last batch, in a weight."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.image = self.add_weight(
            shape=input_shape[1:], initializer="zeros", trainable=False, name="first_image"
        )

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        self.image.assign(images[0])
        return images


def remembering(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Its first weight is the first image that the last step trained on."""
    start, end = layers.Input(input_shape), layers.Dense(classes, activation="softmax")
    return keras.Sequential([start, FirstImage(), layers.Flatten(), end])


@keras.saving.register_keras_serializable("tests")
class Passing(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Code of its own, so that no other trial's program does."""

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        return images


def dropping(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Draws at random, on a program of its own."""
    return _classifier(input_shape, classes, Passing(), layers.Dropout(0.5))


TRACED: list[tuple[int | None, ...]] = []


def traced(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Notes each time that its Python code runs."""

    class Noted(layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
            TRACED.append(images.shape)
            return images

    return _classifier(input_shape, classes, Noted())


class Scaling(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Multiplies by a constant that its configuration does not mention."""

    def __init__(self, scale: float = 1.0, **options: object) -> None:
        super().__init__(**options)
        self.scale = scale

    def build(self, _input_shape: tuple[int, ...]) -> None:
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        self.seen.assign(keras.ops.convert_to_tensor(self.scale, "float32"))
        return images * self.scale


def scaling(*, input_shape: tuple[int, int, int], classes: int, scale: float) -> keras.Model:
    """Its first weight is the constant that the program multiplied by."""
    return _classifier(input_shape, classes, Scaling(scale))


class Uncompilable(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Looks at its numbers in Python, which a compiled program has not got."""

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        return images * 2 if float(keras.ops.convert_to_numpy(images).max()) < 1 else images


def uncompilable(
    *, input_shape: tuple[int, int, int], classes: int, hidden: bool = False
) -> keras.Model:
    """Trains step by step or not at all; JAX differentiates nothing that is `hidden` in Python."""
    before = [layers.Dense(4)] if hidden else []
    return _classifier(input_shape, classes, *before, Uncompilable())


def branched(
    *, input_shape: tuple[int, int, int], classes: int, dropout_rate: float = 0.3
) -> keras.Model:
    """A functional network with two ways through it."""
    start = layers.Input(input_shape)
    flat = layers.Flatten()(start)
    left = layers.Dropout(dropout_rate)(layers.Dense(8, activation="relu")(flat))
    right = layers.Dropout(dropout_rate / 2)(layers.Dense(8, activation="tanh")(flat))
    end = layers.Dense(classes, activation="softmax")(layers.Add()([left, right]))
    return keras.Model(start, end)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A model class of its own, of which Keras knows no input and no layers."""

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.classes = classes
        self.drop = layers.Dropout(0.5)  # off: `call` takes no `training`
        self.flat, self.end = layers.Flatten(), layers.Dense(classes, activation="softmax")

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        return self.end(self.drop(self.flat(images)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes}


def subclassed(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Built by its first call."""
    model = Subclassed(classes)
    model(keras.ops.zeros((1, *input_shape)))
    return model


def _pictures(input_shape: tuple[int, int, int]) -> Any:
    """Pixels from nowhere in particular, for what a layer learns before it is trained."""
    return np.random.default_rng(3).random((64, *input_shape), dtype=np.float32) * 3


def adapted(
    *, input_shape: tuple[int, int, int], classes: int, nested: bool = False
) -> keras.Model:
    """Normalises by statistics of its own, which its configuration does not hold."""
    statistics = layers.Normalization(axis=-1)
    statistics.adapt(_pictures(input_shape))
    if nested:
        statistics = keras.Sequential([layers.Input(input_shape), statistics])
    start, end = layers.Input(input_shape), layers.Dense(classes, activation="softmax")
    return keras.Sequential([start, statistics, layers.Flatten(), end])


def changed_variable(
    *, input_shape: tuple[int, int, int], classes: int, change: str
) -> keras.Model:
    """Has a variable that was changed after it was made."""
    hidden = layers.Dense(16, activation="relu")
    model = _classifier(input_shape, classes, hidden)
    match change:
        case "frozen":
            hidden.kernel.trainable = False
        case "regularized":
            hidden.kernel.regularizer = keras.regularizers.L2(0.1)
        case "constrained":
            hidden.kernel.constraint = keras.constraints.MaxNorm(0.1)
        case "added":
            model.extra = keras.Variable(1.0, name="extra")
    return model


def relu(values: keras.KerasTensor) -> keras.KerasTensor:
    """Has the name of Keras' own function, and is another one."""
    return keras.ops.tanh(values) * 2


def _doubled(self: keras.Layer, images: keras.KerasTensor, **_options: Any) -> keras.KerasTensor:
    return type(self).call(self, images) * 2


def hidden_code(*, input_shape: tuple[int, int, int], classes: int, where: str) -> keras.Model:
    """Computes by a function that its configuration does not tell from Keras' own."""
    hidden = layers.Dense(16, activation=relu if where == "activation" else "relu")
    if where == "call":
        hidden.call = MethodType(_doubled, hidden)
    return _classifier(input_shape, classes, hidden)


def headed(
    *, input_shape: tuple[int, int, int], classes: int, activation: str = "softmax"
) -> keras.Model:
    """Ends with any activation."""
    end = layers.Dense(classes, activation=activation)
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), end])


def unsafe(*, input_shape: tuple[int, int, int], classes: int, kind: str) -> keras.Model:
    """Has a layer that a promoted model cannot have."""
    if kind == "lambda":
        return _classifier(input_shape, classes, layers.Lambda(lambda images: images * 2))
    if kind == "unregistered":
        return _classifier(input_shape, classes, Scaling(2.0))

    @keras.saving.register_keras_serializable("tests")
    class Inside(layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
            return images

    return _classifier(input_shape, classes, Inside())


def embedded(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Has a weight whose gradient is sparse."""
    return _classifier(input_shape, classes, layers.Embedding(256, 2), layers.Flatten())


class Unsavable(keras.Model):  # type: ignore[misc]  # Keras has no types
    """Has an argument that no configuration tells, so that Keras cannot save it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.flat, self.end = layers.Flatten(), layers.Dense(classes, activation="softmax")

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        return self.end(self.flat(images))


def unsavable(*, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Trains, and cannot be promoted."""
    model = Unsavable(classes)
    model(keras.ops.zeros((1, *input_shape)))
    return model
