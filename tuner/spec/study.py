"""The study file as data: what a study is, checked as far as one file can be.

Whether a data set, a model or a parameter name exists is checked where those are known;
this module knows only what a file may say.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tuner.errors import unknown
from tuner.spec.samplers import Grid, MedianPruner, Pruner, Sampler, Tpe
from tuner.spec.search_space import ChoiceDomain, Domain, FloatDomain, Frozen, IntDomain, Scalar

SELECTION_METRICS = ("val_loss", "val_accuracy", "val_macro_f1")
"""What may choose the best epoch of a trial when a validation split is held out."""

TRAINING_METRICS = ("loss", "accuracy", "macro_f1")
"""What a study without a validation split may report; its last epoch counts, unselected."""


def _file_name(name: str) -> str:
    if not name or len(name.encode()) > 250:
        raise ValueError(f"must have 1 to 250 bytes, got {len(name.encode())}")
    if "/" in name or "\\" in name or name.startswith(".") or not name.isprintable():
        raise ValueError(
            f"must hold printable characters, no slash and no leading dot, got {name!r}"
        )
    return name


def _registry_name(name: str) -> str:
    if not name.strip() or any(mark in name for mark in "/:"):
        raise ValueError(f"must be non-empty without '/' and ':', got {name!r}")
    return name


Name = Annotated[str, AfterValidator(_file_name)]
Point = Mapping[str, Scalar]


class Objective(Frozen):
    """The metric whose value at a trial's best epoch is the trial's value."""

    metric: Literal["val_accuracy", "val_macro_f1", "val_loss", "accuracy", "macro_f1", "loss"] = (
        "val_accuracy"
    )
    direction: Literal["maximize", "minimize"] = "maximize"

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        stated = {"metric": value} if isinstance(value, str) else value
        if not isinstance(stated, Mapping) or "direction" in stated:
            return stated
        return {**stated, "direction": _direction(str(stated.get("metric", "val_accuracy")))}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.direction != _direction(self.metric):
            raise ValueError(
                f"direction of {self.metric} must be {_direction(self.metric)}, "
                f"got {self.direction}"
            )
        return self

    def better(self, value: float, than: float) -> bool:
        """Whether `value` is strictly better, so that the earliest epoch wins a tie."""
        return value > than if self.direction == "maximize" else value < than


def _direction(metric: str) -> str:
    return "minimize" if metric.endswith("loss") else "maximize"


class DatasetReference(Frozen):
    """The data set's name, and what its function is called with."""

    name: str = Field(min_length=1)
    args: Mapping[str, Scalar] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Gates(Frozen):
    """What a candidate must reach to be promoted; a gate left out is not checked.

    `test_accuracy` is a lower limit, the others are upper ones.
    """

    test_accuracy: float | None = Field(default=None, ge=0, le=1)
    train_test_gap: float | None = Field(default=None, ge=0, le=1)
    latency_p95_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    train_time_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Promotion(Frozen):
    """The registered model that a champion becomes a version of, and what it takes."""

    model: Annotated[str, AfterValidator(_registry_name)]
    gates: Gates = Gates()


class StudySpec(Frozen):
    """A study: a claim turned into trials.

    A name in `search_space` is a parameter of the model function or of the recipe; a scalar
    there is a fixed value. `trials` counts points; each is trained with `seeds` seeds, so
    the study has `trials * seeds` slots. `validation` images are split off, stratified;
    with 0 every trial trains on all images for all epochs and its last epoch counts.
    """

    name: Name
    dataset: DatasetReference
    model: str = Field(min_length=1)
    search_space: Mapping[str, Domain | Scalar] = Field(default_factory=dict)
    baseline: tuple[Point, ...] = ()
    objective: Objective = Objective()
    sampler: Sampler = Tpe()
    pruner: Pruner = MedianPruner()
    trials: int = Field(default=1, ge=1, strict=True)
    seeds: int = Field(default=1, ge=1, strict=True)
    epochs: int = Field(ge=1, strict=True)
    validation: int = Field(ge=0, strict=True)
    seed: int = Field(default=0, ge=0, lt=2**32, strict=True)
    precision: Literal["float32", "bfloat16"] = "float32"
    workers: Annotated[int, Field(ge=1, strict=True)] | Literal["auto"] = "auto"
    max_retries: int = Field(default=2, ge=0, strict=True)
    keep_models: int = Field(default=3, ge=1, strict=True)
    promotion: Promotion

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """The registered model is named after the study unless the file says otherwise."""
        if not isinstance(value, Mapping):
            return value
        promotion = value.get("promotion") or {}
        if isinstance(promotion, Mapping) and "model" not in promotion and value.get("name"):
            promotion = {**promotion, "model": value["name"]}
        return {**value, "promotion": promotion}

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            *self._objective_problems(),
            *self._baseline_problems(),
            *self._budget_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def domains(self) -> dict[str, Domain]:
        """What is searched."""
        return {
            name: value
            for name, value in self.search_space.items()
            if isinstance(value, FloatDomain | IntDomain | ChoiceDomain)
        }

    @property
    def fixed(self) -> dict[str, Scalar]:
        """What every trial shares."""
        return {
            name: value
            for name, value in self.search_space.items()
            if not isinstance(value, FloatDomain | IntDomain | ChoiceDomain)
        }

    @property
    def slots(self) -> int:
        """How many logical trials the study has in all."""
        return self.trials * self.seeds

    def point_problems(self, point: Point) -> list[str]:
        """What keeps `point` from being a point of the search space; it may be partial."""
        problems = []
        for name, value in point.items():
            if name not in self.search_space:
                problems.append(unknown("parameter", name, self.search_space))
            elif name in self.fixed and value != self.fixed[name]:
                problems.append(f"{name}: is fixed at {self.fixed[name]!r}, got {value!r}")
            elif name in self.domains and value not in self.domains[name]:
                problems.append(f"{name}: must lie in the search space, got {value!r}")
        return problems

    def grid_size(self) -> int | None:
        """How many points the grid has, or None if a domain has no finite one."""
        sizes = [domain.grid() for domain in self.domains.values()]
        return math.prod(len(size) for size in sizes if size) if all(sizes) else None

    def _objective_problems(self) -> list[str]:
        known = SELECTION_METRICS if self.validation else TRAINING_METRICS
        if self.objective.metric in known:
            return []
        return [
            f"objective.metric: with validation: {self.validation} must be one of "
            f"{', '.join(known)}, got {self.objective.metric!r}"
        ]

    def _baseline_problems(self) -> list[str]:
        problems = [
            f"baseline[{index}]: {problem}"
            for index, point in enumerate(self.baseline)
            for problem in self.point_problems(point)
        ]
        if len(self.baseline) > self.trials:
            problems.append(
                f"trials: must cover the {len(self.baseline)} baseline points, got {self.trials}"
            )
        return problems

    def _budget_problems(self) -> list[str]:
        if not isinstance(self.sampler, Grid):
            return []
        endless = [name for name, domain in self.domains.items() if domain.grid() is None]
        if endless:
            return [
                f"search_space.{name}: a grid needs a step or choices, got neither"
                for name in endless
            ]
        size = self.grid_size()
        if size is not None and self.trials > size:
            return [f"trials: the grid has {size} points, got {self.trials}"]
        return []
