"""The search space: what a parameter may be. Knows no sampler and no Optuna."""

import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from tuner.spec.section import (
    Flag,
    Frozen,
    Problem,
    Real,
    Section,
    Whole,
    broken,
    by_type,
    is_stored,
    shown,
)

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


_MOST_EXACT = 2**53
"""Optuna keeps a searched number as a double; every whole number up to here is one."""


class FloatDomain(Section):
    """Real numbers from `low` to `high`, both included."""

    type: Literal["float"]
    low: Real
    """The smallest value."""
    high: Real
    """The largest value."""
    log: Flag = False
    """Draw evenly on a logarithmic scale; `low` must then be above 0."""
    step: Real | None = None
    """Only `low`, `low + step`, `low + 2 step` and so on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, self.log, self.step)
        return self

    def __contains__(self, value: Scalar) -> bool:
        if isinstance(value, bool | str) or not self.low <= value <= self.high:
            return False
        return self.step is None or self._is_counted(value, self.step)

    def count(self) -> int | None:
        """How many values there are, or None when there is no `step` to count by."""
        if self.step is None:
            return None
        return (_exact(self.high) - _exact(self.low)) // _exact(self.step) + 1

    def grid(self) -> tuple[Scalar, ...] | None:
        """Every value in order, or None when there is no `step` to count by."""
        count = self.count()
        if self.step is None or count is None:
            return None
        low, step = _exact(self.low), _exact(self.step)
        return tuple(float(low + index * step) for index in range(count))

    @property
    def last(self) -> float:
        """The largest value: `high`, unless the steps do not meet it."""
        count = self.count()
        if self.step is None or count is None:
            return self.high
        return float(_exact(self.low) + (count - 1) * _exact(self.step))

    def exact(self, value: float) -> float:
        """A value of the domain as the decimal that the steps lead to: 0.45, not 0.4499...96."""
        return value if self.step is None else counted(value, self.low, self.step)

    def describe(self) -> str:
        """The domain in words, to follow "must be"."""
        by = "" if self.step is None else f" in steps of {self.step}"
        return f"a number from {self.low} to {self.high}{by}"

    def _is_counted(self, value: float, step: float) -> bool:
        return math.isclose(
            value, counted(value, self.low, step), rel_tol=1e-9, abs_tol=1e-8 * step
        )


class IntDomain(Section):
    """Whole numbers from `low` to `high`, both included."""

    type: Literal["int"]
    low: Whole
    """The smallest value."""
    high: Whole
    """The largest value."""
    log: Flag = False
    """Draw evenly on a logarithmic scale; `low` must then be above 0."""
    step: Whole = 1
    """Only `low`, `low + step`, `low + 2 step` and so on."""

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        _check_range(self.low, self.high, self.log, None if self.step == 1 else self.step)
        inexact = [key for key in ("low", "high") if abs(getattr(self, key)) > _MOST_EXACT]
        if inexact and not is_stored(info):
            rule = f"must be from -{_MOST_EXACT} to {_MOST_EXACT}, beyond which a search rounds"
            raise broken(*(Problem((key,), f"{rule}, got {getattr(self, key)}") for key in inexact))
        return self

    def __contains__(self, value: Scalar) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and value in range(self.low, self.high + 1, self.step)

    def count(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    @property
    def last(self) -> int:
        """The largest value: `high`, unless the steps do not meet it."""
        return self.low + (self.count() - 1) * self.step

    def grid(self) -> tuple[Scalar, ...] | None:
        """Every value in order."""
        return tuple(range(self.low, self.high + 1, self.step))

    def describe(self) -> str:
        """The domain in words, to follow "must be"."""
        by = "" if self.step == 1 else f" in steps of {self.step}"
        return f"a whole number from {self.low} to {self.high}{by}"


class ChoiceDomain(Section):
    """One of a few values."""

    type: Literal["choice"]
    choices: tuple[Value, ...] = Field(min_length=1)
    """The values, all different; `1`, `1.0` and `true` count as equal."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for index, choice in enumerate(self.choices):
            # Python's own equality, because samplers look a choice up by it.
            if choice in self.choices[:index]:
                twin = self.choices[self.choices.index(choice)]
                raise broken(Problem(("choices",), f"must differ, got {_pair(twin, choice)}"))
        return self

    def __contains__(self, value: Scalar) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def count(self) -> int:
        """How many values there are."""
        return len(self.choices)

    def grid(self) -> tuple[Scalar, ...] | None:
        """The choices as written."""
        return self.choices

    def describe(self) -> str:
        """The domain in words, to follow "must be"."""
        return f"one of {', '.join(map(shown, self.choices))}"


def counted(value: float, low: float, step: float) -> float:
    """Of `low`, `low + step` and so on the one nearest to `value`, counted in decimals."""
    index = round((Fraction(value) - _exact(low)) / _exact(step))
    return float(_exact(low) + index * _exact(step))


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if problems := list(_range_problems(low, high, log, step)):
        raise broken(*problems)


def _range_problems(low: float, high: float, log: bool, step: float | None) -> Iterator[Problem]:
    if low > high:
        yield Problem((), f"low <= high must hold, got low={low}, high={high}")
    if log and low <= 0:
        yield Problem(("low",), f"must be > 0 on a log scale, got {low}")
    if step is not None and step <= 0:
        yield Problem(("step",), f"must be > 0, got {step}")
    if step is not None and log:
        yield Problem(("step",), f"must be left out on a log scale, got {step}")


def _exact(number: float) -> Fraction:
    """The decimal that was written, so that 0.1 counts as a tenth."""
    return Fraction(repr(float(number)))


def _pair(first: Scalar, second: Scalar) -> str:
    same = type(first) is type(second)
    return f"{shown(first)} twice" if same else f"{shown(first)} and {shown(second)}"


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
