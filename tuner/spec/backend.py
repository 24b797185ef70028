"""The backend that Keras trains on, and the one that is meant where a study names none."""

import os
from typing import Literal, get_args

from tuner.spec.problems import Problem, broken, shown

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
