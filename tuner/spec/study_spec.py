"""The study file as data: what a study is, checked as far as one file can be.

Whether a data set, a model or a parameter name exists is checked where those are known;
this module knows only what a file may say.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tuner.errors import unknown
from tuner.spec.names import FunctionName, RegistryName, StudyName, address_problem
from tuner.spec.objective import SELECTION_METRICS, TRAINING_METRICS, Objective, ObjectiveEntry
from tuner.spec.recipe import Backend, Pixels, implied_backend
from tuner.spec.rules import checked_space, study_problems
from tuner.spec.samplers import Grid, NoPruner, Pruner, Sampler, SuccessiveHalving, Tpe
from tuner.spec.search_space import Domain, Entry, Scalar, Value, grid_size
from tuner.spec.section import Problem, Real, Section, Whole, broken, is_stored, shown


class DatasetReference(Section):
    """The data set's name, and what its function is called with."""

    name: FunctionName
    """A known data set, or `package.module:function`."""
    args: Mapping[str, Value] = Field(default_factory=dict)
    """What the data set's function is called with."""


def _from_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


DatasetEntry = Annotated[
    DatasetReference, BeforeValidator(_from_name, json_schema_input_type=str | DatasetReference)
]
"""A data set as a study file writes it: the name alone will do."""


class Gates(Section):
    """What a candidate must reach to be promoted; a gate left out is not checked."""

    test_accuracy: Real | None = Field(default=None, ge=0, le=1)
    """Accuracy on the test set, at least."""
    train_test_gap: Real | None = Field(default=None, ge=0, le=1)
    """Training accuracy without dropout minus test accuracy, at most."""
    latency_p95_ms: Real | None = Field(default=None, gt=0)
    """Milliseconds that 95 of 100 calls with one image take, at most."""
    train_time_s: Real | None = Field(default=None, gt=0)
    """Seconds that the trial's training took, at most."""


class Promotion(Section):
    """The registered model that a champion becomes a version of, and what it takes."""

    model: RegistryName = Field(default_factory=str)
    """Name in the registry; left out, the study's name."""
    gates: Gates = Gates()
    """What a candidate must reach."""


__all__ = [
    "SELECTION_METRICS",
    "TRAINING_METRICS",
    "Backend",
    "DatasetReference",
    "Gates",
    "Objective",
    "Point",
    "Promotion",
    "StudySpec",
]

Point = Mapping[str, Scalar]


def _auto_or_count(value: object) -> object:
    count = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (count and value >= 1):  # type: ignore[operator]
        return value
    raise broken(Problem((), f"must be auto or a whole number >= 1, got {shown(value)}"))


AutoOrCount = Annotated[
    Annotated[Whole, Field(ge=1)] | Literal["auto"], BeforeValidator(_auto_or_count)
]


def _implied_trials(validated: dict[str, Any]) -> int:
    """One where nothing is searched, every point of a grid; else the file has to say."""
    whole_grid = isinstance(validated["sampler"], Grid)
    size = grid_size(_domains(validated["search_space"]).values()) if whole_grid else None
    return size or 1


def _implied_pruner(validated: dict[str, Any]) -> Pruner:
    """None with several seeds: the mean of a point needs all its trainings."""
    return SuccessiveHalving() if validated["seeds"] == 1 else NoPruner()


def _domains(space: Mapping[str, Domain | Scalar]) -> dict[str, Domain]:
    return {name: entry for name, entry in space.items() if not isinstance(entry, Scalar)}


class StudySpec(Section):
    """A study: a claim turned into trials.

    `trials` counts points; each is trained with `seeds` seeds, so the study has
    `trials * seeds` slots.
    """

    name: StudyName
    """What the study is called everywhere: on the command line, in MLflow, on disk."""
    dataset: DatasetEntry
    """The images: `mnist`, `fashion-mnist`, `digits`, or `package.module:function`."""
    model: FunctionName
    """The network: `paper-cnn`, or `package.module:function`."""
    search_space: Annotated[Mapping[str, Entry], AfterValidator(checked_space)] = Field(
        default_factory=dict
    )
    """Parameters of the model and of the recipe; a domain is searched, a scalar is fixed."""
    baseline: tuple[Mapping[str, Value], ...] = ()
    """Points tried first; each may leave parameters to the sampler."""
    objective: ObjectiveEntry = Objective()
    """The metric that says which trial is better."""
    sampler: Sampler = Tpe()
    """How points are chosen."""
    trials: Whole = Field(default_factory=_implied_trials, ge=1)
    """How many points; may be left out where nothing is searched and with a grid."""
    seeds: Whole = Field(default=1, ge=1)
    """How often each point is trained, each time with another seed."""
    pruner: Pruner = Field(default_factory=_implied_pruner)
    """How hopeless trials are stopped early; left out, `none` where `seeds` is above 1."""
    epochs: Whole = Field(ge=1)
    """Passes over the training images, at most."""
    validation: Whole = Field(ge=0)
    """Images split off the training set, stratified; with 0 the last epoch counts."""
    seed: Whole = Field(default=0, ge=0, lt=2**32)
    """What every random draw of the study follows from."""
    backend: Backend = Field(default_factory=implied_backend)
    """What Keras computes with: `tensorflow`, or `jax`; left out, what `KERAS_BACKEND` names."""
    pixels: Pixels = "unit"
    """What the network is given: `unit`, floats in [0, 1], or `bytes`, floats in [0, 255]."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The arithmetic of training; `auto` is the one that turns out faster when it begins."""
    workers: AutoOrCount = "auto"
    """Trials trained at a time on this machine."""
    epoch_limit_s: AutoOrCount = "auto"
    """Seconds after which an epoch that has not ended hangs; its trainer is killed."""
    lease_s: Whole = Field(default=60, ge=2)
    """Seconds of silence after which a driver of another machine counts as dead."""
    max_retries: Whole = Field(default=2, ge=0)
    """How often a trial whose trainer died is tried again."""
    keep_models: Whole = Field(default=3, ge=1)
    """How many of the best trials keep their model in MLflow."""
    promotion: Promotion = Field(default=Promotion(), validate_default=True)
    """What becomes of the best trial."""

    @field_validator("promotion")
    @classmethod
    def _name_model(cls, promotion: Promotion, info: ValidationInfo) -> Promotion:
        """The registered model is named after the study unless the file says otherwise."""
        if promotion.model or "name" not in info.data:
            return promotion
        problem = address_problem(info.data["name"])
        if problem and not is_stored(info):
            hint = "left out, it is the study's name; write another one here"
            raise broken(Problem(("model",), f"{problem}; {hint}"))
        return promotion.model_copy(update={"model": info.data["name"]})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := list(study_problems(self)):
            raise broken(*problems)
        return self

    @property
    def domains(self) -> dict[str, Domain]:
        """What is searched."""
        return _domains(self.search_space)

    @property
    def fixed(self) -> dict[str, Scalar]:
        """What every trial shares."""
        return {k: entry for k, entry in self.search_space.items() if isinstance(entry, Scalar)}

    @property
    def slots(self) -> int:
        """How many logical trials the study has in all."""
        return self.trials * self.seeds

    def value_problem(self, name: str, value: Scalar) -> str | None:
        """The rule that keeps `name` from having `value`, or None."""
        if name not in self.search_space:
            return unknown("parameter", name, self.search_space)
        entry = self.search_space[name]
        if not isinstance(entry, Scalar):
            return None if value in entry else f"must be {entry.describe()}, got {shown(value)}"
        if value == entry and isinstance(value, bool) == isinstance(entry, bool):
            return None
        return f"is fixed at {shown(entry)}, got {shown(value)}"

    def point_problems(self, point: Point) -> list[str]:
        """What keeps `point` from being a point of the search space; it may be partial."""
        rules = {name: self.value_problem(name, value) for name, value in point.items()}
        return [f"{name}: {rule}" for name, rule in rules.items() if rule]

    def grid_size(self) -> int | None:
        """How many points the grid has, or None if a domain has no finite one."""
        return grid_size(self.domains.values())
