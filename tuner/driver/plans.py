"""Turns a slot and its parameters into the plan that a trainer needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuner.datasets.store import DatasetInfo
from tuner.home import Home
from tuner.recovery.retention import latest_checkpoint
from tuner.search import points
from tuner.spec.search_space import ChoiceDomain, Scalar
from tuner.spec.study_spec import StudySpec
from tuner.training.plan import ModelPlan, Precision, TrialPlan
from tuner.training.timing import EpochTimes
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
    measured: EpochTimes | None = None
    """By what it was chosen, where the study leaves it open."""

    def plan(self, slot: int, attempt: int, params: dict[str, Scalar]) -> TrialPlan:
        """The plan that trains `params` in `slot`."""
        spec = self.spec
        return TrialPlan(
            study=spec.name,
            slot=slot,
            attempt=attempt,
            params=params,
            model=ModelPlan(
                name=spec.model,
                code_path=self.code_path,
                code=self.described.model_code,
            ),
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

    def typical(self) -> Iterator[TrialPlan]:
        """Plans to measure an epoch on, the first that can be built: one a distinct network.

        The points come in the order of their slots, as far as the study file states them; what
        it leaves open is at its lowest or first. At last all of it is at its highest or last.
        """
        lowest, highest = (self._corner(end) for end in (0, -1))
        stated = points.stated_points(self.spec)
        seen: list[dict[str, Scalar | None]] = []
        for point in (*({**lowest, **each} for each in stated), lowest, highest):
            params = {**point, **self.spec.fixed}
            network = {name: params.get(name) for name in self.described.hyperparameters}
            if network not in seen:
                seen.append(network)
                yield self.plan(0, 0, params)

    def _corner(self, end: Literal[0, -1]) -> dict[str, Scalar]:
        """The point at one end of every range and list of choices."""
        return {
            name: (
                domain.choices[end]
                if isinstance(domain, ChoiceDomain)
                else (domain.low, domain.last)[end]
            )
            for name, domain in self.spec.domains.items()
        }
