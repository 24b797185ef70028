"""The recipe: every hyperparameter that training itself understands, with its default.

A search space names these and the model function's own parameters. The defaults are the
paper's recipe; everything the paper does not mention is off.
"""

from typing import Literal

from pydantic import Field

from tuner.spec.search_space import Frozen


class Recipe(Frozen):
    """How one network is trained.

    `optimizer` is the name of a Keras optimizer; `shift` is a fraction of height and width;
    `rotate` is in degrees to either side; `patience` is in epochs without a better
    objective, None for no early stopping.
    """

    learning_rate: float = Field(default=0.001, gt=0, allow_inf_nan=False)
    batch_size: int = Field(default=128, ge=1)
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "lion"] = "adam"
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["constant", "cosine"] = "constant"
    patience: int | None = Field(default=None, ge=1)
    shift: float = Field(default=0.0, ge=0, lt=1)
    rotate: float = Field(default=0.0, ge=0, le=180)
