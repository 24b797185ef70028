"""The search space: the possible values of each parameter. Must not import Optuna."""

import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from tuner.spec.section import (
    Flag,
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
"""The type of a parameter's value. Study files, JSON and MLflow can all store it."""


def plain_value(value: object) -> object:
    """Returns `value` if it is a finite scalar.

    Raises:
        ValidationError: it is not.
    """
    if not isinstance(value, Scalar):
        raise broken(Problem((), f"must be a number, text or true/false, got {shown(value)}"))
    if isinstance(value, float) and not math.isfinite(value):
        raise broken(Problem((), f"must be finite, got {value}"))
    return value


Value = Annotated[Scalar, BeforeValidator(plain_value, json_schema_input_type=Scalar)]
"""A finite scalar."""


_MOST_EXACT = 2**53
"""Optuna stores a searched number as a double, which is exact for whole numbers up to this."""


class FloatDomain(Section):
    """Real numbers from `low` to `high`, both included."""

    type: Literal["float"]
    low: Real
    """The smallest value."""
    high: Real
    """The largest value."""
    log: Flag = False
    """Sample uniformly on a logarithmic scale; `low` must then be above 0."""
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
        """Returns how many values there are, or None without a `step`."""
        if self.step is None:
            return None
        return (_exact(self.high) - _exact(self.low)) // _exact(self.step) + 1

    def grid(self) -> tuple[Scalar, ...] | None:
        """Returns every value in order, or None without a `step`."""
        count = self.count()
        if self.step is None or count is None:
            return None
        low, step = _exact(self.low), _exact(self.step)
        return tuple(float(low + index * step) for index in range(count))

    @property
    def last(self) -> float:
        """The largest value: `high`, or the last step below it."""
        count = self.count()
        if self.step is None or count is None:
            return self.high
        return float(_exact(self.low) + (count - 1) * _exact(self.step))

    def exact(self, value: float) -> float:
        """Returns the exact decimal of a value with a step: 0.45, not 0.4499...96."""
        return value if self.step is None else nearest_step(value, self.low, self.step)

    def describe(self) -> str:
        """Describes the domain, as text after "must be"."""
        by = "" if self.step is None else f" in steps of {self.step}"
        return f"a number from {self.low} to {self.high}{by}"

    def _is_counted(self, value: float, step: float) -> bool:
        return math.isclose(
            value, nearest_step(value, self.low, step), rel_tol=1e-9, abs_tol=1e-8 * step
        )


class IntDomain(Section):
    """Whole numbers from `low` to `high`, both included."""

    type: Literal["int"]
    low: Whole
    """The smallest value."""
    high: Whole
    """The largest value."""
    log: Flag = False
    """Sample uniformly on a logarithmic scale; `low` must then be above 0."""
    step: Whole = 1
    """Only `low`, `low + step`, `low + 2 step` and so on."""

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        _check_range(self.low, self.high, self.log, None if self.step == 1 else self.step)
        inexact = [key for key in ("low", "high") if abs(getattr(self, key)) > _MOST_EXACT]
        if inexact and not is_stored(info):
            rule = f"must be from -{_MOST_EXACT} to {_MOST_EXACT}; larger numbers are rounded"
            raise broken(*(Problem((key,), f"{rule}, got {getattr(self, key)}") for key in inexact))
        return self

    def __contains__(self, value: Scalar) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and value in range(self.low, self.high + 1, self.step)

    def count(self) -> int:
        """Returns how many values there are."""
        return (self.high - self.low) // self.step + 1

    @property
    def last(self) -> int:
        """The largest value: `high`, or the last step below it."""
        return self.low + (self.count() - 1) * self.step

    def grid(self) -> tuple[Scalar, ...] | None:
        """Returns every value in order."""
        return tuple(range(self.low, self.high + 1, self.step))

    def describe(self) -> str:
        """Describes the domain, as text after "must be"."""
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
            # Python's equality, because samplers use it to find a choice.
            if choice in self.choices[:index]:
                twin = self.choices[self.choices.index(choice)]
                raise broken(Problem(("choices",), f"must differ, got {_pair(twin, choice)}"))
        return self

    def __contains__(self, value: Scalar) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def count(self) -> int:
        """Returns how many values there are."""
        return len(self.choices)

    def grid(self) -> tuple[Scalar, ...] | None:
        """Returns the choices in the order of the file."""
        return self.choices

    def describe(self) -> str:
        """Describes the domain, as text after "must be"."""
        return f"one of {', '.join(map(shown, self.choices))}"


Domain = Annotated[FloatDomain | IntDomain | ChoiceDomain, Field(discriminator="type")]


def nearest_step(value: float, low: float, step: float) -> float:
    """Returns the nearest to `value` of `low`, `low + step`, ..., in exact decimal arithmetic."""
    index = round((Fraction(value) - _exact(low)) / _exact(step))
    return float(_exact(low) + index * _exact(step))


def grid_size(domains: Iterable[Domain]) -> int | None:
    """Returns how many points the grid over `domains` has, or None if a domain is continuous."""
    counts = [domain.count() for domain in domains]
    return None if None in counts else math.prod(count for count in counts if count)


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
"""An entry of the search space: a domain, or a fixed value."""


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
    """The decimal as written, so that 0.1 is exactly one tenth."""
    return Fraction(repr(float(number)))


def _pair(first: Scalar, second: Scalar) -> str:
    same = type(first) is type(second)
    return f"{shown(first)} twice" if same else f"{shown(first)} and {shown(second)}"
