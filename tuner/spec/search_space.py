"""The search space: what a parameter may be. Knows no sampler and no Optuna."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Scalar = bool | int | float | str
"""What a parameter's value may be; a study file, JSON and MLflow all carry these."""


class Frozen(BaseModel):
    """Data that is checked once, refuses unknown keys and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FloatDomain(Frozen):
    """Real numbers from `low` to `high`, both included."""

    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    step: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, self.log, self.step)
        return self

    def __contains__(self, value: Scalar) -> bool:
        return _is_number(value) and _in_range(float(value), self.low, self.high, self.step)

    def grid(self) -> tuple[Scalar, ...] | None:
        """Every value in order, or None when there is no `step` to count by."""
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(self.low + index * self.step for index in range(count))


class IntDomain(Frozen):
    """Whole numbers from `low` to `high`, both included."""

    type: Literal["int"]
    low: int = Field(strict=True)
    high: int = Field(strict=True)
    log: bool = False
    step: int = Field(default=1, strict=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_range(self.low, self.high, self.log, None if self.step == 1 else self.step)
        return self

    def __contains__(self, value: Scalar) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and _in_range(float(value), self.low, self.high, self.step)

    def grid(self) -> tuple[Scalar, ...] | None:
        """Every value in order."""
        return tuple(range(self.low, self.high + 1, self.step))


class ChoiceDomain(Frozen):
    """One of a few values."""

    type: Literal["choice"]
    choices: tuple[Scalar, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen = [(type(choice), choice) for choice in self.choices]
        repeated = [value for index, (_, value) in enumerate(seen) if seen[index] in seen[:index]]
        if repeated:
            raise ValueError(f"choices must differ, got {repeated[0]!r} twice")
        for choice in self.choices:
            if isinstance(choice, float) and not math.isfinite(choice):
                raise ValueError(f"choices must be finite, got {choice}")
        return self

    def __contains__(self, value: Scalar) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def grid(self) -> tuple[Scalar, ...] | None:
        """The choices as written."""
        return self.choices


Domain = Annotated[FloatDomain | IntDomain | ChoiceDomain, Field(discriminator="type")]


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low > high:
        raise ValueError(f"low <= high must hold, got low={low}, high={high}")
    if log and low <= 0:
        raise ValueError(f"low must be > 0 on a log scale, got {low}")
    if step is not None and step <= 0:
        raise ValueError(f"step must be > 0, got {step}")
    if step is not None and log:
        raise ValueError(f"step and log exclude each other, got step={step} with log: true")


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_range(value: float, low: float, high: float, step: float | None) -> bool:
    if not low <= value <= high:
        return False
    return step is None or math.isclose((value - low) / step, round((value - low) / step))
