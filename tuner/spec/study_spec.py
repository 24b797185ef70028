"""The schema of the study file.

Validates what a file alone can tell. Other modules check whether its data set, model function
and parameter names exist.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tuner.errors import SpecError, unknown
from tuner.spec.names import FunctionName, RegistryName, StudyName, address_problem
from tuner.spec.objective import ClaimMetric, Objective, ObjectiveEntry
from tuner.spec.recipe import Backend, Pixels, implied_backend
from tuner.spec.rules import checked_space, study_problems
from tuner.spec.samplers import Grid, NoPruner, Pruner, Sampler, SuccessiveHalving, Tpe
from tuner.spec.search_space import Domain, Entry, Scalar, Value, grid_size
from tuner.spec.section import (
    Flag,
    Problem,
    Real,
    Section,
    Whole,
    broken,
    is_stored,
    problems_in,
    shown,
)


class DatasetReference(Section):
    """The data set's name and the arguments of its function."""

    name: FunctionName
    """A known data set, or `package.module:function`."""
    args: Mapping[str, Value] = Field(default_factory=dict)
    """Keyword arguments of the data set's function."""


def _from_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


DatasetEntry = Annotated[
    DatasetReference, BeforeValidator(_from_name, json_schema_input_type=str | DatasetReference)
]
"""A data set in a study file: its name, or a mapping."""


class Gates(Section):
    """The requirements for promotion. A gate without a value is not checked."""

    test_accuracy: Real | None = Field(default=None, ge=0, le=1)
    """The lowest accuracy on the test set."""
    macro_recall: Real | None = Field(default=None, ge=0, le=1)
    """The lowest mean of the classes' recalls on the test set."""
    worst_recall: Real | None = Field(default=None, ge=0, le=1)
    """The lowest recall of any class that the test set has."""
    train_test_gap: Real | None = Field(default=None, ge=0, le=1)
    """The largest difference of training accuracy (without dropout) and test accuracy."""
    latency_p95_ms: Real | None = Field(default=None, gt=0)
    """The longest latency of one image, in milliseconds (95th percentile)."""
    train_time_s: Real | None = Field(default=None, gt=0)
    """The longest training time of the trial, in seconds."""
    model_mb: Real | None = Field(default=None, gt=0)
    """The largest size of the registered model's file, in megabytes (1,000,000 bytes)."""
    parameters: Whole | None = Field(default=None, ge=1)
    """The largest number of the network's parameters, with those that are not trained."""
    champion_margin: Real = Field(default=0.002, gt=0, le=1)
    """The largest loss of test accuracy against the champion that may be left possible, at 95%."""
    better_than_champion: Flag = False
    """Whether the test images must show that the model is better than the champion, at 95%."""


class Promotion(Section):
    """The registered model for the promoted trial, and the requirements."""

    model: RegistryName = Field(default_factory=str)
    """Name of the registered model; by default the study's name."""
    refit: Flag = True
    """Whether the promoted model is the best point trained again on all rows, validation too."""
    gates: Gates = Gates()
    """The requirements for promotion."""


FEWEST_SEEDS = 5
"""The fewest trainings with which a point is compared with the baseline; fewer rarely decide."""


class Confirmation(Section):
    """The rules of a race of a study's best points against its baseline."""

    finalists: Whole = Field(default=3, ge=1)
    """How many of the best points race against the baseline."""
    max_seeds: Whole = Field(default=10, ge=FEWEST_SEEDS)
    """The most trainings of each of them, each with another seed and other validation images."""
    margin: Real = Field(default=0.001, gt=0)
    """The difference of the objective that does not matter."""
    level: Real = Field(default=0.05, gt=0, lt=1)
    """The chance that points which are equal to the baseline are called better or worse."""


def _unless_off(value: object) -> object:
    if value is None:
        raise broken(Problem((), "must be a mapping or off, got null"))
    return None if value is False or value == "off" else value  # YAML 1.1 reads off as false


ConfirmationEntry = Annotated[
    Confirmation | None,
    BeforeValidator(_unless_off, json_schema_input_type=Confirmation | Literal["off"]),
]
"""A confirmation in a study file: its rules, or `off`, which is None."""


class Claim(Section):
    """A claim: one point is better than another by a metric. A confirmation decides it."""

    name: Annotated[str, Field(strict=True, min_length=1, max_length=250)]
    """The claim in words."""
    better: Mapping[str, Value]
    """The point that is said to be better; what it leaves out is as in the first baseline point."""
    than: Mapping[str, Value]
    """The other point, stated likewise."""
    metric: ClaimMetric | None = None
    """What they are compared by, after the last epoch; by default the objective."""
    margin: Real | None = Field(default=None, gt=0)
    """The difference that does not matter; by default the confirmation's, for the objective."""


class Race(Section):
    """What makes a study of fixed points a race; `tuner confirm` writes it."""

    study: StudyName
    """The study whose points race."""
    against: Annotated[Whole, Field(ge=0)] | None = None
    """The number of the point that is the baseline, if there is one."""
    claimed: Annotated[Whole, Field(ge=0)] = 0
    """How many of the points, the last ones, are trained for the study's claims alone."""
    points: tuple[Annotated[Whole, Field(ge=0)], ...] = ()
    """The numbers that the other points have in that study; none from earlier versions."""
    rules: Confirmation = Confirmation()
    """When points are dropped, and when the race is over."""


class Refit(Section):
    """What makes a study of one point a refit; `tuner promote` writes it."""

    study: StudyName
    """The study whose point is trained again, on all rows of the training folder."""
    point: Annotated[Whole, Field(ge=0)]
    """The point's number there."""


Point = Mapping[str, Scalar]


def _auto_or_count(value: object) -> object:
    count = isinstance(value, int) and not isinstance(value, bool)
    if value == "auto" or (count and value >= 1):  # type: ignore[operator]
        return value
    raise broken(Problem((), f"must be auto or a whole number >= 1, got {shown(value)}"))


AutoOrCount = Annotated[
    Annotated[Whole, Field(ge=1)] | Literal["auto"], BeforeValidator(_auto_or_count)
]
_WORKERS: TypeAdapter[AutoOrCount] = TypeAdapter(AutoOrCount)


def checked_workers(value: object) -> AutoOrCount:
    """Returns a number of trainers that is stated outside a study file.

    Raises:
        SpecError: it breaks the rule for `workers` in a study file.
    """
    try:
        return _WORKERS.validate_python(value)
    except ValidationError as error:
        raise SpecError("workers", map(str, problems_in(error, ()))) from error


def _implied_trials(validated: dict[str, Any]) -> int:
    """All points of a grid, or 1 if nothing is searched. Otherwise the file must state it."""
    whole_grid = isinstance(validated["sampler"], Grid)
    size = grid_size(_domains(validated["search_space"]).values()) if whole_grid else None
    return size or 1


def _implied_pruner(validated: dict[str, Any]) -> Pruner:
    """No pruner with several seeds: the mean of a point needs all its trainings."""
    return SuccessiveHalving() if validated["seeds"] == 1 else NoPruner()


def _domains(space: Mapping[str, Domain | Scalar]) -> dict[str, Domain]:
    return {name: entry for name, entry in space.items() if not isinstance(entry, Scalar)}


class StudySpec(Section):
    """A study.

    `trials` counts points. Each point is trained with `seeds` seeds, so the study has
    `trials * seeds` slots.
    """

    name: StudyName
    """The study's name on the command line, in MLflow and on disk."""
    dataset: DatasetEntry
    """The images: `mnist`, `fashion-mnist`, `digits`, or `package.module:function`."""
    model: FunctionName
    """The network: `paper-cnn`, or `package.module:function`."""
    search_space: Annotated[Mapping[str, Entry], AfterValidator(checked_space)] = Field(
        default_factory=dict
    )
    """Parameters of the model and of the recipe; a domain is searched, a scalar is fixed."""
    baseline: tuple[Mapping[str, Value], ...] = ()
    """Points that are tried first; the sampler chooses the parameters that a point leaves out."""
    objective: ObjectiveEntry = Objective()
    """The metric that is optimized."""
    sampler: Sampler = Tpe()
    """The algorithm that chooses points."""
    trials: Whole = Field(default_factory=_implied_trials, ge=1)
    """The number of points; optional if nothing is searched, and with a grid."""
    seeds: Whole = Field(default=1, ge=1)
    """How often each point is trained, each time with another seed."""
    pruner: Pruner = Field(default_factory=_implied_pruner)
    """The algorithm that stops bad trials early; by default `none` if `seeds` is above 1."""
    epochs: Whole = Field(ge=1)
    """The largest number of passes over the training images."""
    validation: Whole = Field(ge=0)
    """Images split off the training set, stratified; with 0 the last epoch counts."""
    seed: Whole = Field(default=0, ge=0, lt=2**32)
    """The seed from which all random numbers of the study are derived."""
    backend: Backend = Field(default_factory=implied_backend)
    """The Keras backend: `tensorflow` or `jax`; by default the value of `KERAS_BACKEND`."""
    pixels: Pixels = "unit"
    """The network's input: `unit` for floats in [0, 1], or `bytes` for floats in [0, 255]."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The arithmetic of training; `auto` measures and takes the faster one."""
    workers: AutoOrCount = "auto"
    """The number of trials trained at the same time on this machine."""
    epoch_limit_s: AutoOrCount = "auto"
    """The time limit of one epoch, in seconds; then its trainer is killed."""
    lease_s: Whole = Field(default=60, ge=2)
    """Seconds without a heartbeat after which other drivers take over a driver's trials."""
    max_retries: Whole = Field(default=2, ge=0)
    """How often a trial is retried after its trainer died."""
    keep_models: Whole = Field(default=3, ge=1)
    """How many trials keep their model in MLflow, those of the best points first."""
    confirmation: ConfirmationEntry = Confirmation()
    """The rules of `tuner confirm`, which `tuner promote best` runs first; `off` skips it there."""
    claims: tuple[Claim, ...] = ()
    """Pairs of points of which one is said to be better; the confirmation decides them."""
    promotion: Promotion = Field(default=Promotion(), validate_default=True)
    """The settings of promotion."""
    race: Race | None = None
    """Makes the study a race of its baseline points, block by block; `tuner confirm` writes it."""
    refit_of: Refit | None = None
    """Makes the study the refit of a point; `tuner promote` writes it."""

    @field_validator("promotion")
    @classmethod
    def _name_model(cls, promotion: Promotion, info: ValidationInfo) -> Promotion:
        """Names the registered model after the study if the file does not name it."""
        if promotion.model or "name" not in info.data:
            return promotion
        problem = address_problem(info.data["name"])
        if problem and not is_stored(info):
            hint = "its default is the study's name; state another name here"
            raise broken(Problem(("model",), f"{problem}; {hint}"))
        return promotion.model_copy(update={"model": info.data["name"]})

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := list(study_problems(self)):
            raise broken(*problems)
        return self

    @property
    def origin(self) -> str | None:
        """The study whose points this one trains again, if it is a confirmation or a refit."""
        follows = self.race or self.refit_of
        return None if follows is None else follows.study

    @property
    def role(self) -> Literal["study", "confirmation", "refit"]:
        """What the study is to its `origin`; `study` if it has none."""
        if self.race is not None:
            return "confirmation"
        return "study" if self.refit_of is None else "refit"

    @property
    def domains(self) -> dict[str, Domain]:
        """The searched parameters."""
        return _domains(self.search_space)

    @property
    def fixed(self) -> dict[str, Scalar]:
        """The fixed parameters."""
        return {k: entry for k, entry in self.search_space.items() if isinstance(entry, Scalar)}

    @property
    def slots(self) -> int:
        """The number of trials: points times seeds. A race has at most as many."""
        return self.trials * self.replicates

    @property
    def replicates(self) -> int:
        """The largest number of trainings that a point has."""
        return self.seeds if self.race is None else self.race.rules.max_seeds

    def value_problem(self, name: str, value: Scalar) -> str | None:
        """Returns the rule that `value` breaks as the parameter `name`, or None."""
        if name not in self.search_space:
            return unknown("parameter", name, self.search_space)
        entry = self.search_space[name]
        if not isinstance(entry, Scalar):
            return None if value in entry else f"must be {entry.describe()}, got {shown(value)}"
        if value == entry and isinstance(value, bool) == isinstance(entry, bool):
            return None
        return f"is fixed at {shown(entry)}, got {shown(value)}"

    def point_problems(self, point: Point) -> list[str]:
        """Returns the problems of a point, which may be partial; empty if it is valid."""
        rules = {name: self.value_problem(name, value) for name, value in point.items()}
        return [f"{name}: {rule}" for name, rule in rules.items() if rule]

    def grid_size(self) -> int | None:
        """Returns how many points the grid has, or None if a domain is continuous."""
        return grid_size(self.domains.values())
