"""Turns a slot and its parameters into the plan that a trainer needs."""

from dataclasses import dataclass
from pathlib import Path

from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.spec.recipe import Recipe
from tuner.spec.search_space import ChoiceDomain, Scalar
from tuner.spec.study import StudySpec
from tuner.study import points
from tuner.study.checkpoints import latest_checkpoint
from tuner.training.plan import ModelPlan, Precision, TrialPlan
from tuner.workers.messages import Described


@dataclass(frozen=True)
class Planner:
    """Everything of a study that its plans share."""

    home: Home
    spec: StudySpec
    code_path: tuple[Path, ...]
    dataset: DatasetInfo
    described: Described
    precision: Precision
    """What the study's `precision` came to."""

    def plan(self, slot: int, attempt: int, params: dict[str, Scalar]) -> TrialPlan:
        """The plan that trains `params` in `slot`.

        A parameter goes to the model, to the recipe, or to both if both take it.
        """
        spec = self.spec
        model = {name: params[name] for name in self.described.hyperparameters if name in params}
        recipe = {name: params[name] for name in Recipe.model_fields if name in params}
        return TrialPlan(
            study=spec.name,
            slot=slot,
            attempt=attempt,
            params=params,
            model=ModelPlan(name=spec.model, params=model, code_path=self.code_path),
            recipe=Recipe.model_validate(recipe),
            dataset=self.dataset.train,
            classes=self.dataset.classes,
            validation=spec.validation,
            split_seed=spec.seed,
            seed=points.trial_seed(spec, slot),
            epochs=spec.epochs,
            objective=spec.objective,
            precision=self.precision,
            pixels=spec.pixels,
            folder=self.home.attempt(spec.name, slot, attempt),
            resumes=latest_checkpoint(self.home, spec.name, slot, before=attempt),
        )

    def typical(self) -> TrialPlan:
        """A plan to measure an epoch on: the first point, as far as the study file states it."""
        first = {
            name: domain.choices[0] if isinstance(domain, ChoiceDomain) else domain.low
            for name, domain in self.spec.domains.items()
        }
        return self.plan(0, 0, {**first, **points.stated_point(self.spec, 0), **self.spec.fixed})
