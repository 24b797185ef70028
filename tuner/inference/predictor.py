"""Asking a model: pixels in, class probabilities out, many at once or one with little delay."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.models.contract import image_shape, mode
from tuner.spec.recipe import HIGHEST, Pixels, scale

if TYPE_CHECKING:
    import keras

Images = NDArray[Any]
Probabilities = NDArray[np.float32]
_Call = Callable[[NDArray[np.float32]], Probabilities]


class Predictor:
    """A model compiled for prediction: dropout off, one graph for batches, one for single images.

    Images are uint8 pixels in [0, 255], or floats in [0, 1]; the model is given them in the range
    that `pixels` names. Both graphs are traced once, in
    the constructor, so that no call pays for it; JAX compiles the first batch of each size. Not
    safe to share between threads.
    """

    def __init__(
        self, model: "keras.Model", pixels: Pixels = "unit", batch_size: int = 512
    ) -> None:
        self._pixels = pixels
        self._model = model  # a traced graph does not keep its variables alive
        self._batch_size = batch_size
        self.image_shape = image_shape(model)
        self._many = _compiled(model, None)
        self._one = _compiled(model, 1)

    def probabilities(self, images: Images) -> Probabilities:
        """Class probabilities, float32 of shape (N, classes), for images (N, H, W, C).

        Raises:
            DataError: no images, another shape, no numbers, or not finite.
        """
        self._check_shape(images.shape[1:])
        if len(images) == 0:
            raise DataError("must be at least one image, got none")
        starts = range(0, len(images), self._batch_size)
        batches = (images[start : start + self._batch_size] for start in starts)
        return np.concatenate([self._many(given(batch, self._pixels)) for batch in batches])

    def predict_one(self, image: Images) -> Probabilities:
        """Class probabilities, float32 of shape (classes,), for one image (H, W, C).

        Raises:
            DataError: another shape, no numbers, or not finite.
        """
        self._check_shape(image.shape)
        probabilities: Probabilities = self._one(given(image[np.newaxis], self._pixels))[0]
        return probabilities

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self.image_shape:
            raise DataError(f"an image must have the shape {self.image_shape}, got {shape}")


def given(images: Images, pixels: Pixels) -> NDArray[np.float32]:
    """The images as a network is given them, as in training: float32, in its range.

    Raises:
        DataError: the array holds no numbers, or some that are not finite.
    """
    if images.dtype == np.uint8:
        return images.astype(np.float32) * np.float32(scale(pixels, "uint8"))
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"images must be uint8 or float, got {images.dtype}")
    floats = images.astype(np.float32)
    if not np.isfinite(floats).all():
        raise DataError("pixels must be finite, got NaN or infinity")
    return floats * np.float32(HIGHEST[pixels])


def _compiled(model: "keras.Model", batch: int | None) -> _Call:
    import keras

    match keras.backend.backend():
        case "tensorflow":
            return _compiled_by_tensorflow(model, batch)
        case "jax":
            return _compiled_by_jax(model, batch)
        case _:
            return lambda batch_pixels: np.asarray(
                model.predict_on_batch(batch_pixels), dtype=np.float32
            )


def _compiled_by_tensorflow(model: "keras.Model", batch: int | None) -> _Call:
    import tensorflow as tf

    signature = tf.TensorSpec((batch, *image_shape(model)), tf.float32)
    graph = tf.function(
        lambda tensor: model(tensor, training=False), input_signature=[signature]
    ).get_concrete_function()
    return lambda batch_pixels: np.asarray(
        graph(tf.constant(batch_pixels)).numpy(), dtype=np.float32
    )


def _compiled_by_jax(model: "keras.Model", batch: int | None) -> _Call:
    """Compiles for a stated batch size at once, else for each size at its first call."""
    import jax

    def call(trainable: Any, fixed: Any, batch_pixels: Any) -> Any:
        told = mode(model, training=False)
        return model.stateless_call(trainable, fixed, batch_pixels, **told)[0]

    answer = jax.jit(call)
    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]
    if batch is not None:
        answer(trainable, fixed, np.zeros((batch, *image_shape(model)), np.float32))
    return lambda batch_pixels: np.asarray(answer(trainable, fixed, batch_pixels), dtype=np.float32)
