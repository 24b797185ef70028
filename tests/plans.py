"""Plans of small trainings."""

from typing import Any

from tuner.spec.objective import Objective
from tuner.spec.recipe import Recipe
from tuner.training.plan import ModelPlan, TrialPlan


def small_plan(params: dict[str, Any], **changes: Any) -> TrialPlan:
    """A plan of two epochs; keywords are the fields that it lacks, and replace others.

    Those that are the recipe's become parameters, except None.
    """
    recipe = {name: changes.pop(name) for name in Recipe.model_fields if name in changes}
    stated = {name: value for name, value in recipe.items() if value is not None}
    fields: dict[str, Any] = {
        "study": "a-study",
        "slot": 0,
        "attempt": 1,
        "params": {**stated, **params},
        "model": ModelPlan(name="dense"),
        "classes": tuple("0123456789"),
        "split_seed": 0,
        "seed": 1,
        "epochs": 2,
        "objective": Objective(),
        "precision": "float32",
    }
    return TrialPlan(**{**fields, **changes})
