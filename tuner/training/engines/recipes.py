"""Turns a recipe into Keras objects and arrays: optimizer, augmentation, learning rates.

Also says which precisions a processor or GPU has instructions for.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.spec.recipe import Recipe
from tuner.training.plan import Precision

if TYPE_CHECKING:
    import keras


POLICIES: dict[Precision, str] = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
"""The names of Keras' dtype policies: mixed keeps weights, softmax and loss in float32."""

_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Linux' names of bfloat16 units: Intel's and AMD's vector units, Intel's tiles, Arm's."""
_AMPERE = (8, 0)
"""The first compute capability of NVIDIA's GPUs with bfloat16 in the tensor cores."""


def processor_precisions() -> tuple[Precision, ...]:
    """The precisions that this processor has instructions for, float32 first."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux: nothing is known
        flags = set()
    return ("float32", "bfloat16") if flags & _FLAGS else ("float32",)


def gpu_precisions(compute_capability: tuple[int, int]) -> tuple[Precision, ...]:
    """The precisions that an NVIDIA GPU has instructions for, float32 first."""
    return ("float32", "bfloat16") if compute_capability >= _AMPERE else ("float32",)


def rates(recipe: Recipe, epoch: int, rows: int, epochs: int) -> NDArray[np.float32]:
    """The learning rate of each step of one epoch, which counts from 0; shape (steps,).

    The cosine falls to 0 at the end of the last epoch, without restarts (I. Loshchilov and
    F. Hutter, ICLR 2017).
    """
    steps = -(-rows // recipe.batch_size)
    if recipe.schedule == "constant":
        return np.full(steps, recipe.learning_rate, np.float32)
    progress = np.arange(epoch * steps, (epoch + 1) * steps) / (steps * epochs)
    return (recipe.learning_rate * (1 + np.cos(np.pi * progress)) / 2).astype(np.float32)


def optimizer(recipe: Recipe) -> "keras.optimizers.Optimizer":
    """The recipe's optimizer; a program sets its learning rate before each step."""
    from keras import optimizers

    kind = type(optimizers.get(recipe.optimizer))
    made = kind(learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay)
    # With 0 Keras would subtract nothing from every weight; AdamW's constructor refuses None.
    made.weight_decay = recipe.weight_decay or None
    return made


def augmentation(recipe: Recipe) -> "list[keras.Layer]":
    """The layers that shift and turn images in training, seeded by Keras' global seed."""
    from keras import layers

    made: list[keras.Layer] = []
    if recipe.shift:
        made.append(layers.RandomTranslation(recipe.shift, recipe.shift, fill_mode="nearest"))
    if recipe.rotate:
        made.append(layers.RandomRotation(recipe.rotate / 360, fill_mode="nearest"))
    return made
