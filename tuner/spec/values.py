"""Scalars: what a parameter's value may be."""

import math
from typing import Annotated

from pydantic import BeforeValidator

from tuner.spec.problems import Problem, broken, shown

Scalar = bool | int | float | str
"""What a parameter's value may be; a study file, JSON and MLflow all carry these."""


def plain_value(value: object) -> object:
    """`value` itself if it is a finite scalar, else a `ValidationError`."""
    if not isinstance(value, Scalar):
        raise broken(Problem((), f"must be a number, text or true/false, got {shown(value)}"))
    if isinstance(value, float) and not math.isfinite(value):
        raise broken(Problem((), f"must be finite, got {value}"))
    return value


Value = Annotated[Scalar, BeforeValidator(plain_value, json_schema_input_type=Scalar)]
"""A finite scalar."""
