"""Checks that a network is made for the range of its input pixels.

Networks from tutorials and `keras.applications` often begin with a layer that scales pixels from
[0, 255] to about [0, 1]. On pixels in [0, 1] they train on nearly constant input, without an error.
So a black, a faint and a white picture pass all layers before the first one with weights. Their
distance there shows which range the network is made for.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from tuner.errors import ModelError
from tuner.spec.recipe import HIGHEST, Pixels

_FAINT = 0.05
"""At a smaller distance, black and white are nearly the same to a layer with new weights."""
_CLEAR = 0.1
"""At a larger distance, a layer tells them apart well."""
_LINEAR = 0.2
"""A layer that scales multiplies both distances alike, within this share."""
_GLARING = 20.0
"""At a larger distance, activations and gradients leave the range in which layers work."""
_NORMALISING = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Embedding,
)
"""Layers with weights for which the range of the input does not matter."""


def check_range(
    name: str, model: keras.Model, image_shape: tuple[int, int, int], pixels: Pixels
) -> tuple[str, ...]:
    """Checks that a network made for pixels in [0, 255] is not given pixels in [0, 1].

    Args:
        name: the name of the model function, for messages.
        model: the network, built.
        image_shape: height, width, channels.
        pixels: the range of the study's pixels.

    Returns:
        A remark, if the pixels are in [0, 255] and no layer scales them.

    Raises:
        ModelError: the network is made for the other range.
    """
    reached = _reached(model, image_shape)
    if reached is None:
        return ()
    unit, whole = reached.contrast
    scaled = math.isclose(whole, unit * HIGHEST["bytes"] / HIGHEST["unit"], rel_tol=_LINEAR)
    if pixels == "unit" and unit < _FAINT and whole > _CLEAR and scaled:
        raise ModelError(
            f"{name}: scales pixels from [0, 255] down itself, so that those in [0, 1] reach its "
            f"layer {reached.layer.name!r} in a range of only {unit:.2g}; write pixels: bytes in "
            f"the study{_culprit(model)}; a study that has begun then needs another --name"
        )
    indifferent = isinstance(reached.layer, _NORMALISING)
    if pixels == "bytes" and whole > _GLARING and unit > _CLEAR and not indifferent:
        return (
            f"pixels in [0, 255] reach its layer {reached.layer.name!r} as they are; begin the "
            "network with Rescaling(1/255), unless its weights were trained without",
        )
    return ()


class _Reached(BaseException):
    """Ends a call of the network at the first layer with weights, past any `except Exception`."""

    def __init__(self, layer: keras.Layer, batch: Any) -> None:
        super().__init__()
        self.layer = layer
        black, faint, white = np.asarray(keras.ops.convert_to_numpy(batch), np.float64)
        self.contrast = _typical(faint - black), _typical(white - black)
        """The distances of a pixel of 1, and of one of 255, from one of 0 at this layer."""


def _typical(differences: Any) -> float:
    """The median of the differences that are not 0, so without padding and the like."""
    moved = np.abs(differences)[differences != 0]
    return float(np.median(moved)) if moved.size else 0.0


def _reached(model: keras.Model, image_shape: tuple[int, int, int]) -> _Reached | None:
    levels = np.array([0.0, HIGHEST["unit"], HIGHEST["bytes"]], np.float32)
    pictures = np.broadcast_to(levels[:, None, None, None], (3, *image_shape))
    try:
        with _watched(model):
            model(keras.ops.convert_to_tensor(pictures), training=False)
    except _Reached as reached:
        return reached
    except Exception:  # noqa: BLE001 - the user's code runs in here
        return None  # a fault of the network itself shows again in training
    return None


@contextmanager
def _watched(model: keras.Model) -> Iterator[None]:
    """Makes every layer that has its own weights end the call with its input."""
    watched = [layer for layer in model._flatten_layers(include_self=False) if _has_weights(layer)]
    former = [layer.__dict__.get("call") for layer in watched]
    try:
        for layer in watched:
            object.__setattr__(layer, "call", _ending(layer))
        yield
    finally:
        for layer, call in zip(watched, former, strict=True):
            if call is None:
                object.__delattr__(layer, "call")
            else:
                object.__setattr__(layer, "call", call)


def _has_weights(layer: keras.Layer) -> bool:
    """Whether the layer learns, and does not only prepare the input."""
    cells = isinstance(layer, keras.layers.RNN)  # its cells are called inside a loop
    leaf = cells or not list(layer._flatten_layers(include_self=False))
    return leaf and bool(layer.weights) and not isinstance(layer, keras.layers.Normalization)


def _ending(layer: keras.Layer) -> Any:
    def call(batch: Any, *_args: Any, **_kwargs: Any) -> Any:
        raise _Reached(layer, keras.tree.flatten(batch)[0])

    return call


def _culprit(model: keras.Model) -> str:
    for kind in (keras.layers.Rescaling, keras.layers.Normalization):
        for layer in model._flatten_layers():
            if isinstance(layer, kind):
                return f", or leave out its layer {layer.name!r}"
    return ""
