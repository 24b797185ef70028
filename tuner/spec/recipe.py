"""The recipe: the hyperparameters of training, with their defaults.

A search space may name these and the model function's own parameters. The defaults are the
paper's recipe; whatever the paper does not mention is off.
"""

import os
from typing import Literal, get_args

from pydantic import Field, ValidationError

from tuner.spec.search_space import Scalar
from tuner.spec.section import Problem, Real, Section, Whole, broken, problems_in, shown

Pixels = Literal["unit", "bytes"]
"""`unit`: floats in [0, 1]; `bytes`: floats in [0, 255], for networks that scale their input."""

HIGHEST: dict[Pixels, float] = {"unit": 1.0, "bytes": 255.0}
"""The network's input for a white pixel."""


def scale(pixels: Pixels, stored: str) -> float:
    """Returns the factor from stored pixels to the network's input.

    Args:
        pixels: the range of the network's input.
        stored: the dtype of the stored pixels: `uint8` means [0, 255], any other [0, 1].
    """
    return HIGHEST[pixels] / (255 if stored == "uint8" else 1)


Backend = Literal["tensorflow", "jax"]

VARIABLE = "KERAS_BACKEND"
"""The environment variable of Keras."""


def implied_backend() -> Backend:
    """Returns the backend in `KERAS_BACKEND`; TensorFlow if it is not set or empty.

    Raises:
        ValidationError: tuner does not support that backend.
    """
    stated = os.environ.get(VARIABLE) or "tensorflow"
    for backend in get_args(Backend):
        if stated == backend:
            return backend  # type: ignore[no-any-return]  # `get_args` loses the type
    rule = f"must be tensorflow or jax, but {VARIABLE} is {shown(stated)}; name one in the file"
    raise broken(Problem(("backend",), rule))


class Recipe(Section):
    """The hyperparameters with which one network is trained."""

    learning_rate: Real = Field(default=0.001, gt=0)
    """Step size of the optimizer, at the start of the schedule."""
    batch_size: Whole = Field(default=128, ge=1)
    """Images per training step; the last, smaller batch is used too."""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "lion"] = "adam"
    """Name of the Keras optimizer."""
    weight_decay: Real = Field(default=0.0, ge=0)
    """Decoupled weight decay of the optimizer; 0 means none."""
    label_smoothing: Real = Field(default=0.0, ge=0, lt=1)
    """Share of each label that is spread evenly over all classes; 0 means none."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate's schedule: constant, or falling to 0 along a cosine."""
    patience: Whole | None = Field(default=None, ge=1)
    """Stop after this many epochs without a better objective; never by default."""
    shift: Real = Field(default=0.0, ge=0, lt=1)
    """Random shifts by up to this fraction of height and width; 0 means none."""
    rotate: Real = Field(default=0.0, ge=0, le=180)
    """Random rotations by up to this many degrees in each direction; 0 means none."""


def recipe_problem(name: str, value: Scalar) -> str | None:
    """Returns the rule that `value` breaks as the recipe's `name`, or None.

    A name that is not in the recipe breaks no rule.
    """
    if name not in Recipe.model_fields:
        return None
    try:
        Recipe.model_validate({name: value})
    except ValidationError as error:
        return problems_in(error, Recipe.model_fields)[0].rule
    return None
