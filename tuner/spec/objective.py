"""The objective: which metric is a trial's value, and which way is better."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tuner.spec.section import Problem, Section, broken

Metric = Literal["val_accuracy", "val_macro_f1", "val_loss", "accuracy", "macro_f1", "loss"]
Direction = Literal["maximize", "minimize"]

SELECTION_METRICS = ("val_loss", "val_accuracy", "val_macro_f1")
"""What may choose the best epoch of a trial when a validation split is held out."""

TRAINING_METRICS = ("loss", "accuracy", "macro_f1")
"""What a study without a validation split may report; its last epoch counts, unselected."""


def _direction(metric: str) -> Direction:
    return "minimize" if metric.endswith("loss") else "maximize"


def _metric_direction(validated: dict[str, Any]) -> Direction:
    return _direction(validated["metric"])


class Objective(Section):
    """The metric whose value at a trial's best epoch is the trial's value."""

    metric: Metric = "val_accuracy"
    """Measured after every epoch; `val_` ones on the validation split."""
    direction: Direction = Field(default_factory=_metric_direction)
    """Follows from the metric and may be left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        wanted = _direction(self.metric)
        if self.direction != wanted:
            rule = f"must be {wanted} for {self.metric}, got {self.direction!r}"
            raise broken(Problem(("direction",), rule))
        return self

    def better(self, value: float, than: float) -> bool:
        """Whether `value` is strictly better, so that the earliest epoch wins a tie."""
        return value > than if self.direction == "maximize" else value < than


def _from_metric(value: object) -> object:
    return {"metric": value} if isinstance(value, str) else value


ObjectiveEntry = Annotated[
    Objective, BeforeValidator(_from_metric, json_schema_input_type=Metric | Objective)
]
"""An objective as a study file writes it: the metric's name alone will do."""
