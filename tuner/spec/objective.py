"""The objective: the metric that is a trial's value, and its direction."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tuner.spec.section import Problem, Section, broken

Metric = Literal["val_accuracy", "val_macro_f1", "val_loss", "accuracy", "macro_f1", "loss"]
Direction = Literal["maximize", "minimize"]

ClaimMetric = Literal["val_accuracy", "val_macro_f1", "val_loss", "train_time_s"]
"""What a claim may be about: a validation metric after the last epoch, or the training time."""

SELECTION_METRICS = ("val_loss", "val_accuracy", "val_macro_f1")
"""The metrics of a study with a validation split. They choose a trial's best epoch."""

TRAINING_METRICS = ("loss", "accuracy", "macro_f1")
"""The metrics of a study without a validation split. A trial's last epoch counts."""


def direction_of(metric: str) -> Direction:
    """Returns which values of a metric are better: a smaller loss or time, or else larger ones."""
    return "minimize" if metric.endswith(("loss", "time_s")) else "maximize"


def _metric_direction(validated: dict[str, Any]) -> Direction:
    return direction_of(validated["metric"])


class Objective(Section):
    """The metric whose value at a trial's best epoch is the trial's value."""

    metric: Metric = "val_accuracy"
    """Measured after every epoch; on the validation split if it begins with `val_`."""
    direction: Direction = Field(default_factory=_metric_direction)
    """Follows from the metric; optional."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        expected = direction_of(self.metric)
        if self.direction != expected:
            rule = f"must be {expected} for {self.metric}, got {self.direction!r}"
            raise broken(Problem(("direction",), rule))
        return self

    def better(self, value: float, than: float) -> bool:
        """Whether `value` is strictly better. So the earliest of equal epochs is the best."""
        return value > than if self.direction == "maximize" else value < than


def _from_metric(value: object) -> object:
    return {"metric": value} if isinstance(value, str) else value


ObjectiveEntry = Annotated[
    Objective, BeforeValidator(_from_metric, json_schema_input_type=Metric | Objective)
]
"""An objective in a study file: the metric's name, or a mapping."""
