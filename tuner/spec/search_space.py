"""The search space: what a parameter may be. Knows no sampler and no Optuna."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo

from tuner.spec.domains import ChoiceDomain, FloatDomain, IntDomain
from tuner.spec.problems import Problem, broken
from tuner.spec.section import Frozen, Section, by_type
from tuner.spec.values import Scalar, Value, plain_value

__all__ = [
    "ChoiceDomain",
    "Domain",
    "Entry",
    "FloatDomain",
    "Frozen",
    "IntDomain",
    "Scalar",
    "Value",
    "grid_size",
]

Domain = Annotated[FloatDomain | IntDomain | ChoiceDomain, Field(discriminator="type")]

_CONDITIONAL_KEYS = frozenset({"when", "if", "parent", "condition", "conditions", "depends_on"})
_DOMAINS = (FloatDomain, IntDomain, ChoiceDomain)


def _entry(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Mapping) and _is_conditional(value):
        rule = "conditional search spaces are not supported; list every parameter at the top level"
        raise broken(Problem((), rule))
    if isinstance(value, Mapping | Section):
        return by_type("type", _DOMAINS, value, info.context)
    return plain_value(value)


def _is_conditional(value: Mapping[object, object]) -> bool:
    choices = value.get("choices")
    nested = [*value.values(), *(choices if isinstance(choices, list | tuple) else ())]
    return not _CONDITIONAL_KEYS.isdisjoint(value) or any(
        isinstance(part, Mapping) for part in nested
    )


Entry = Annotated[Domain | Value, BeforeValidator(_entry, json_schema_input_type=Domain | Scalar)]
"""What stands behind a name in the search space: a domain, or a fixed value."""


def grid_size(domains: Iterable[Domain]) -> int | None:
    """How many points the grid over `domains` has, or None if one has no finite count."""
    counts = [domain.count() for domain in domains]
    return None if None in counts else math.prod(count for count in counts if count)
