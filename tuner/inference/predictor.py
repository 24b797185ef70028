"""Predicts class probabilities with a model, for many images or quickly for one."""

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
    """A model compiled for prediction without dropout: a graph for batches, one for single images.

    Images are uint8 pixels in [0, 255], or floats in [0, 1]; the model gets them in the range that
    `pixels` names. The constructor traces both graphs, so that no call does; JAX compiles the
    first batch of each size. Not safe to share between threads.
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

    @property
    def parameters(self) -> int:
        """The number of the model's parameters, with those that are not trained."""
        return int(self._model.count_params())

    def probabilities(self, images: Images) -> Probabilities:
        """The class probabilities, float32 of shape (N, classes), of images (N, H, W, C).

        Raises:
            DataError: there are no images, or they have another shape or type, or a pixel that is
                not finite.
        """
        self._check_shape(images.shape[1:])
        if len(images) == 0:
            raise DataError("must be at least one image, got none")
        starts = range(0, len(images), self._batch_size)
        batches = (images[start : start + self._batch_size] for start in starts)
        return np.concatenate([self._many(given(batch, self._pixels)) for batch in batches])

    def predict_one(self, image: Images) -> Probabilities:
        """The class probabilities, float32 of shape (classes,), of one image (H, W, C).

        Raises:
            DataError: the image has another shape or type, or a pixel that is not finite.
        """
        self._check_shape(image.shape)
        probabilities: Probabilities = self._one(given(image[np.newaxis], self._pixels))[0]
        return probabilities

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self.image_shape:
            raise DataError(f"an image must have the shape {self.image_shape}, got {shape}")


def given(images: Images, pixels: Pixels) -> NDArray[np.float32]:
    """The images as a network's input, as in training: float32 of the same shape, in its range.

    Raises:
        DataError: the array has another type than uint8 or float, or a pixel that is not finite.
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
    """Compiles at once for a stated batch size, else at the first call with each size."""
    import jax

    def call(trainable: Any, fixed: Any, batch_pixels: Any) -> Any:
        keywords = mode(model, training=False)
        return model.stateless_call(trainable, fixed, batch_pixels, **keywords)[0]

    answer = jax.jit(call)
    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]
    if batch is not None:
        answer(trainable, fixed, np.zeros((batch, *image_shape(model)), np.float32))
    return lambda batch_pixels: np.asarray(answer(trainable, fixed, batch_pixels), dtype=np.float32)
