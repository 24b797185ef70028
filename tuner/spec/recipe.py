"""The recipe: every hyperparameter that training itself understands, with its default.

A search space names these and the model function's own parameters. The defaults are the
paper's recipe; everything the paper does not mention is off.
"""

import os
from typing import Literal, get_args

from pydantic import Field, ValidationError

from tuner.spec.search_space import Scalar
from tuner.spec.section import Problem, Real, Section, Whole, broken, problems_in, shown

Pixels = Literal["unit", "bytes"]
"""`unit`: floats in [0, 1]; `bytes`: floats in [0, 255], for networks that scale them."""

HIGHEST: dict[Pixels, float] = {"unit": 1.0, "bytes": 255.0}
"""What a white pixel is to the network."""


def scale(pixels: Pixels, stored: str) -> float:
    """What stored pixels are multiplied by: `uint8` ones lie in [0, 255], others in [0, 1]."""
    return HIGHEST[pixels] / (255 if stored == "uint8" else 1)


Backend = Literal["tensorflow", "jax"]

VARIABLE = "KERAS_BACKEND"
"""Keras' own environment variable."""


def implied_backend() -> Backend:
    """What `KERAS_BACKEND` names, TensorFlow where it is not set or empty.

    Raises:
        ValidationError: it names none that tuner trains on.
    """
    stated = os.environ.get(VARIABLE) or "tensorflow"
    for backend in get_args(Backend):
        if stated == backend:
            return backend  # type: ignore[no-any-return]  # `get_args` forgets the type
    rule = f"must be tensorflow or jax, but {VARIABLE} is {shown(stated)}; name one in the file"
    raise broken(Problem(("backend",), rule))


class Recipe(Section):
    """How one network is trained."""

    learning_rate: Real = Field(default=0.001, gt=0)
    """Step size of the optimizer, at the start of the schedule."""
    batch_size: Whole = Field(default=128, ge=1)
    """Images per training step; the last, smaller batch is trained too."""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "lion"] = "adam"
    """Name of the Keras optimizer."""
    weight_decay: Real = Field(default=0.0, ge=0)
    """Decoupled weight decay of the optimizer, 0 for none."""
    label_smoothing: Real = Field(default=0.0, ge=0, lt=1)
    """Share of each label spread evenly over all classes, 0 for none."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the learning rate stays, or falls to 0 along a cosine."""
    patience: Whole | None = Field(default=None, ge=1)
    """Stop after so many epochs without a better objective; left out, never."""
    shift: Real = Field(default=0.0, ge=0, lt=1)
    """Random shifts by up to this fraction of height and width, 0 for none."""
    rotate: Real = Field(default=0.0, ge=0, le=180)
    """Random turns by up to so many degrees to either side, 0 for none."""


def recipe_problem(name: str, value: Scalar) -> str | None:
    """The rule that `value` breaks as the recipe's `name`; None too for any other name."""
    if name not in Recipe.model_fields:
        return None
    try:
        Recipe.model_validate({name: value})
    except ValidationError as error:
        return problems_in(error, Recipe.model_fields)[0].rule
    return None
